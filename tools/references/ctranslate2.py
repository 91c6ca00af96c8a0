"""Whisper models in CTranslate2's form (as faster-whisper has them) as models of transformers."""

import json
import struct
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
HEAD = 64


def variables(path):
    """All variables of a `model.bin` of version 6, by name."""
    data = Path(path).read_bytes()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def text():
        nonlocal at
        length = take("H")
        value = data[at : at + length - 1].decode()
        at += length
        return value

    version, spec = take("I"), text()
    if version != 6 or spec != "WhisperSpec":
        raise ValueError(f"{path} is {spec} of version {version}")
    take("I")
    found = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = take("B"), take("I")
        found[name] = np.frombuffer(data[at : at + size], TYPES[kind]).reshape(shape)
        at += size
    for _ in range(take("I")):
        alias, name = text(), text()
        found[alias] = found[name]
    return found


def _names(layers):
    """Pairs of what a variable is called here and there, products that are stacked aside."""
    norm = [("gamma", "weight"), ("beta", "bias")]
    for side, count in layers.items():
        yield f"{side}/layer_norm", f"model.{side}.layer_norm", norm
        for layer in range(count):
            here, there = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            yield f"{here}/self_attention/layer_norm", f"{there}.self_attn_layer_norm", norm
            yield f"{here}/ffn/layer_norm", f"{there}.final_layer_norm", norm
            if side == "decoder":
                yield f"{here}/attention/layer_norm", f"{there}.encoder_attn_layer_norm", norm
            both = [("weight", "weight"), ("bias", "bias")]
            yield f"{here}/ffn/linear_0", f"{there}.fc1", both
            yield f"{here}/ffn/linear_1", f"{there}.fc2", both


def _attention(found, here, there, width, stacked):
    """Projections of one attention; `stacked`: what each of its products holds."""
    for product, parts in enumerate(stacked):
        weight = found[f"{here}/linear_{product}/weight"]
        bias = found[f"{here}/linear_{product}/bias"]
        for place, part in enumerate(parts):
            rows = slice(place * width, (place + 1) * width)
            yield f"{there}.{part}.weight", weight[rows]
            # Whisper's keys have no bias: theirs is zero here.
            if part != "k_proj":
                yield f"{there}.{part}.bias", bias[rows]


def load(folder, dtype):
    """The model of a folder, in evaluation mode, with eager attention."""
    folder = Path(folder)
    found = variables(folder / "model.bin")
    own = json.loads((folder / "config.json").read_text())
    vocabulary, width = found["decoder/embeddings/weight"].shape
    count = lambda side: len({n for n in found if n.startswith(f"{side}/layer_") and n.endswith("ffn/linear_0/weight")})
    layers = {side: count(side) for side in ("encoder", "decoder")}
    tokens = json.loads((folder / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in tokens["added_tokens"]} | tokens["model"]["vocab"]
    multilingual = vocabulary >= 51865
    end = ids["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=found["encoder/conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=layers["encoder"],
        decoder_layers=layers["decoder"],
        encoder_attention_heads=width // HEAD,
        decoder_attention_heads=width // HEAD,
        encoder_ffn_dim=found["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        decoder_ffn_dim=found["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        attn_implementation="eager",
    )
    state = {
        "model.encoder.conv1.weight": found["encoder/conv1/weight"],
        "model.encoder.conv1.bias": found["encoder/conv1/bias"],
        "model.encoder.conv2.weight": found["encoder/conv2/weight"],
        "model.encoder.conv2.bias": found["encoder/conv2/bias"],
        "model.encoder.embed_positions.weight": found["encoder/position_encodings/encodings"],
        "model.decoder.embed_positions.weight": found["decoder/position_encodings/encodings"],
        "model.decoder.embed_tokens.weight": found["decoder/embeddings/weight"],
        "proj_out.weight": found["decoder/embeddings/weight"],
    }
    for here, there, parts in _names(layers):
        for mine, theirs in parts:
            state[f"{there}.{theirs}"] = found[f"{here}/{mine}"]
    whole, out = ["q_proj", "k_proj", "v_proj"], ["out_proj"]
    for side, number in layers.items():
        for layer in range(number):
            here, there = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            state |= dict(_attention(found, f"{here}/self_attention", f"{there}.self_attn", width, [whole, out]))
            if side == "decoder":
                stacked = [["q_proj"], ["k_proj", "v_proj"], out]
                state |= dict(_attention(found, f"{here}/attention", f"{there}.encoder_attn", width, stacked))
    model = WhisperForConditionalGeneration(config).to(dtype).eval()
    model.load_state_dict({name: torch.tensor(value.astype(np.float32)) for name, value in state.items()}, strict=True)
    generation = {
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": end,
        "bos_token_id": end,
        "pad_token_id": end,
        "max_length": 448,
        "suppress_tokens": own["suppress_ids"],
        "begin_suppress_tokens": own["suppress_ids_begin"],
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "max_initial_timestamp_index": 50,
        "alignment_heads": own["alignment_heads"],
        "is_multilingual": multilingual,
        "return_timestamps": False,
    }
    if multilingual:
        generation["lang_to_id"] = {name: token for name, token in ids.items() if token in set(own["lang_ids"])}
        generation["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    model.generation_config = GenerationConfig(**generation)
    return model
