#!/usr/bin/env python3
"""Makes small random models of the families with a FastConformer, with references and generated tokens.

    python fastconformer_fixtures.py [NAME ...]

They go to ../tests/fixtures/NAME; without a name all are made:

- cohere: an encoder wider than the decoder, heads of the decoder that are together wider than both
- cohere_odd: encoder and decoder of one width and of two layers each, subsampling by 4 with kernels of 5, a
  scaled input, no biases of attention or in the encoder, an output projection that is the embedding, SiLU
- canary: as published but for sizes

Sizes are as small as they can be: the files are part of the repository.

Each is what `save_pretrained` of the model writes, in bfloat16, with reference.safetensors (see
../docs/reference-format.md). Those that are not odd also have what `save_pretrained` of the processor
writes, and cases.json: prompts by request, and for random features what transformers' generate makes of
them. Everything is computed in float64; an input whose tokens differ in float32 under any setting is
dropped. front_end/normalised.safetensors has frames of ../tests/fixtures/front_end's utterance by the two
feature extractors.
"""

import argparse
import copy
import json
import wave
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    CanaryConfig,
    CanaryForConditionalGeneration,
    CanaryProcessor,
    CohereAsrConfig,
    CohereAsrFeatureExtractor,
    CohereAsrForConditionalGeneration,
    CohereAsrProcessor,
    ParakeetFeatureExtractor,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutput

from export_reference import make
from random_weights import randomise
from references.hearing import read_wave
from references.recogniser import exact_attention, open_recogniser
from references.reference_file import write
from size_fixtures import FIXTURES, describe

LANGUAGES = ("de", "en", "fr", "ja")
# Ids 2, 3, 4 and 7 are what the configurations take them for.
MARKS = [
    "<unk>", "<|nospeech|>", "<pad>", "<|endoftext|>", "<|startoftranscript|>", "<|pnc|>", "<|nopnc|>",
    "<|startofcontext|>", "<|emo:undefined|>", "<|itn|>", "<|noitn|>", "<|timestamp|>", "<|notimestamp|>",
    "<|diarize|>", "<|nodiarize|>", *(f"<|{code}|>" for code in LANGUAGES),
]
PIECES = ["▁", *"aeinorstdlu", "▁a", "▁the", "▁in", "er", "on", "en", "▁s", "st", "re"]
# In front of the list, since the start token is the one in the middle of it.
TEMPLATE = """\
{%- for message in messages -%}
{%- for item in message['content'] if item['type'] == 'text' -%}
{{- '<|startofcontext|><|startoftranscript|><|emo:undefined|>' -}}
{{- '<|' + item['source_language'] + '|><|' + item['target_language'] + '|>' -}}
{{- '<|pnc|>' if item.get('punctuation', True) else '<|nopnc|>' -}}
<|noitn|><|notimestamp|><|nodiarize|>
{%- endfor -%}
{%- endfor -%}
"""

# Frames of the front end's file.
EVERY = 83
INPUTS = 6
FRAMES = (19, 57)
SETTINGS = {
    "greedy": {"num_beams": 1, "max_new_tokens": 12},
    "greedy_no_repeat": {"num_beams": 1, "max_new_tokens": 12, "no_repeat_ngram_size": 2},
    "beam3": {"num_beams": 3, "max_new_tokens": 10},
    "beam4_long": {"num_beams": 4, "max_new_tokens": 12, "length_penalty": 1.6},
}


def tokenizer(vocabulary):
    """A unigram tokenizer of `vocabulary` tokens whose marks are special."""
    pieces = PIECES + [f"x{i}" for i in range(vocabulary - len(MARKS) - len(PIECES))]
    scored = [(mark, 0.0) for mark in MARKS] + [(piece, -1.0 - i / 8) for i, piece in enumerate(pieces)]
    own = Tokenizer(models.Unigram(scored, unk_id=0))
    own.normalizer = normalizers.NFKC()
    own.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    own.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=own, unk_token="<unk>", pad_token="<pad>", eos_token="<|endoftext|>",
        bos_token="<|startoftranscript|>",
    )
    wrapped.add_special_tokens({"additional_special_tokens": [mark for mark in MARKS if mark.startswith("<|")]})
    return wrapped


def encoder(**values):
    return {
        "model_type": "parakeet_encoder", "num_hidden_layers": 1, "intermediate_size": 10,
        "conv_kernel_size": 5, "subsampling_conv_channels": 3, "num_mel_bins": 16,
        "max_position_embeddings": 300, **values,
    }


def cohere():
    model = CohereAsrForConditionalGeneration(CohereAsrConfig(
        encoder_config=encoder(hidden_size=8, num_attention_heads=2), vocab_size=40, hidden_size=6,
        num_hidden_layers=1, num_attention_heads=3, head_dim=3, intermediate_size=9,
        max_position_embeddings=24, tie_word_embeddings=False,
    ))
    return model, CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=16), tokenizer(40))


def cohere_odd():
    model = CohereAsrForConditionalGeneration(CohereAsrConfig(
        encoder_config=encoder(
            hidden_size=6, num_hidden_layers=2, num_attention_heads=3, subsampling_factor=4,
            subsampling_conv_kernel_size=5, subsampling_conv_channels=5, num_mel_bins=8,
            convolution_bias=False, attention_bias=False, conv_kernel_size=9, scale_input=True,
        ),
        vocab_size=19, hidden_size=6, num_hidden_layers=2, num_attention_heads=2, intermediate_size=11,
        attention_bias=False, hidden_act="silu", max_position_embeddings=7, tie_word_embeddings=True,
    ))
    return model, None


def canary():
    model = CanaryForConditionalGeneration(CanaryConfig(
        encoder_config=encoder(hidden_size=10, num_attention_heads=2, scale_input=False),
        decoder_config={
            "vocab_size": 40, "hidden_size": 10, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 5, "intermediate_size": 13, "max_position_embeddings": 24,
        },
        vocab_size=40,
    ))
    extractor = ParakeetFeatureExtractor(feature_size=16)
    return model, CanaryProcessor(extractor, tokenizer(40), chat_template=TEMPLATE)


# What each is computed for: a piece of the utterance, or random features.
MAKERS = {
    cohere: {"audio": (9000, 10450)},
    cohere_odd: {"frames": 18},
    canary: {"frames": 11},
}
# What a reference's tokens begin with: the start token and one mark, no whole list.
PROMPT = [7, 4]
# The first is what texts are generated for.
REQUESTS = {
    cohere: [{"language": "en"}, {"language": "ja"}],
    canary: [
        {"language": "de"}, {}, {"language": "French"}, {"language": "de", "task": "translate"},
        {"language": "English", "task": "translate:fr"},
    ],
}


@torch.no_grad()
def liven(model, end):
    """Makes the output depend on the sound, and the end come now and then."""
    for layer in model.model.decoder.layers:
        layer.encoder_attn.o_proj.weight *= 3
    model.proj_out.bias[end] += 2.2
    # Padding, which nobody writes.
    model.proj_out.bias[2] -= 9


def features_of(seed, frames, bins):
    """(1, T, F) pseudo-random numbers in [-2, 2): SplitMix64 of seed * 2^32 + n, 24 bits of it."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) * np.uint64(2**32) + np.arange(frames * bins, dtype=np.uint64)
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    values = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy(values.reshape(1, frames, bins) * 2)


def generated(model, features, prompt):
    """By setting: the ids behind the prompt, without the end."""
    with torch.no_grad():
        memory = model.model.encoder(features.to(model.dtype)).last_hidden_state
    outputs = {}
    for name, setting in SETTINGS.items():
        heard = BaseModelOutput(last_hidden_state=memory)
        heard["attention_mask"] = None
        heard.attention_mask = None
        ids = model.generate(encoder_outputs=heard, decoder_input_ids=torch.tensor([prompt]), **setting)
        ids = ids[0].tolist()
        assert ids[:len(prompt)] == prompt
        ids = ids[len(prompt):]
        end = model.generation_config.eos_token_id
        outputs[name] = ids[:ids.index(end)] if end in ids else ids
    return outputs


def cases(model, recogniser, requests):
    prompts = [
        {**asked, "prompt": recogniser.prompt(asked.get("language"), asked.get("task", "transcribe"))}
        for asked in requests
    ]
    prompt = prompts[0]["prompt"]
    both = [copy.deepcopy(model).to(dtype).eval() for dtype in (torch.float64, torch.float32)]
    for own in both:
        own.set_attn_implementation(exact_attention())
    inputs = []
    for seed in range(INPUTS):
        frames = FRAMES[0] + seed * 37 % (FRAMES[1] - FRAMES[0])
        features = features_of(seed, frames, recogniser.mel_bins)
        exact, single = (generated(own, features, prompt) for own in both)
        if exact == single:
            inputs.append({"seed": seed, "frames": frames, "outputs": exact})
    return {"prompts": prompts, "settings": SETTINGS, "inputs": inputs}


def write_cases(path, values):
    """JSON with one line for each input and setting."""
    rows = [json.dumps(row, separators=(",", ":")) for row in values.pop("inputs")]
    settings = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in values.pop("settings").items()]
    head = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()]
    head.append(' "settings": {\n' + ",\n".join(settings) + "\n }")
    head.append(' "inputs": [\n  ' + ",\n  ".join(rows) + "\n ]")
    path.write_text("{\n" + ",\n".join(head) + "\n}\n")


def cut(folder, begin, end):
    """A WAV file with some samples of the utterance."""
    whole = read_wave(FIXTURES / "front_end" / "utterance.wav")
    path = folder / "cut.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes((whole[begin:end] * 32768).astype("<i2").tobytes())
    return path


def front_end():
    """Some frames of the utterance by both extractors with their published settings."""
    waveform = read_wave(FIXTURES / "front_end" / "utterance.wav")
    made = {}
    for name, extractor in (("parakeet", ParakeetFeatureExtractor(feature_size=128)),
                            ("cohere", CohereAsrFeatureExtractor())):
        heard = extractor(waveform, sampling_rate=16000, return_tensors="pt")
        frames = int(heard["attention_mask"][0].sum())
        made[f"{name}_frames"] = torch.tensor([frames])
        made[name] = heard["input_features"][0, :frames:EVERY].contiguous()
    path = FIXTURES / "front_end" / "normalised.safetensors"
    save_file(made, path)
    path.chmod(0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not names or "front_end" in names:
        front_end()
    for seed, (maker, source) in enumerate(MAKERS.items()):
        if names and maker.__name__ not in names:
            continue
        folder = FIXTURES / maker.__name__
        folder.mkdir(parents=True, exist_ok=True)
        model, processor = maker()
        randomise(model, seed=70 + seed, sharpness=2.5, position_scale=0.5)
        liven(model, 3)
        model = model.to(torch.bfloat16).eval()
        model.save_pretrained(folder)
        if processor:
            processor.save_pretrained(folder)
            path = folder / "tokenizer.json"
            path.write_text(json.dumps(json.loads(path.read_text()), separators=(",", ":"), ensure_ascii=False))
        recogniser = open_recogniser(folder)
        request = {"prompt": PROMPT, "seed": 70 + seed, "masks": 5}
        audio = source.get("audio")
        if audio:
            path = cut(folder, *audio)
            tensors = make(recogniser, folder, audio=path, most_tokens=1, **request)
            path.unlink()
        else:
            tensors = make(recogniser, folder, random_tokens=1, **source, **request)
        write(folder / "reference.safetensors", tensors, "float64")
        print(f"{maker.__name__}:")
        describe(recogniser, tensors)
        if processor:
            made = cases(model, recogniser, REQUESTS[maker])
            lengths = {len(ids) for row in made["inputs"] for ids in row["outputs"].values()}
            print(f"  {len(made['inputs'])} of {INPUTS} inputs, lengths {sorted(lengths)}")
            write_cases(folder / "cases.json", made)
        for file in sorted(folder.iterdir()):
            file.chmod(0o644)
            print(f"  {file.name} {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
