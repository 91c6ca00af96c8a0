"""Model folders as Hugging Face saves them: reading, and writing for release."""

import json
from dataclasses import asdict, fields

import torch
from safetensors.torch import load_file, save_file

from .conformer import Config, Conformer
from .front_end import MEL_BINS, SAMPLE_RATE
from .tokenizer import language_tag

ARCHITECTURE = "ConformerEncoderDecoderForConditionalGeneration"
# A counter that only training uses.
TRAINING_ONLY = "num_batches_tracked"


def read_model(folder, dtype=torch.float32):
    values = json.loads((folder / "config.json").read_text())
    model = Conformer(Config(**{field.name: values[field.name] for field in fields(Config)}))
    state = load_file(folder / "model.safetensors")
    missing, extra = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith(TRAINING_ONLY)]
    if missing or extra:
        raise ValueError(f"{folder}: missing {missing}, unexpected {extra}")
    return model.to(dtype).eval()


def write_json(path, values):
    path.write_text(json.dumps(values, indent=1) + "\n")


def write_model(folder, model, tokenizer, directions, dtype=torch.float16):
    """A model with language tags writes English unless it is told otherwise.

    directions: what it was made for, such as en-it for English to Italian.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    tensors = {
        name: tensor.to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith(TRAINING_ONLY)
    }
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", {"architectures": [ARCHITECTURE], **asdict(config)})
    forced = tokenizer.token_to_id(language_tag("en"))
    write_json(folder / "generation_config.json", {
        "bos_token_id": config.bos_token_id,
        "pad_token_id": config.pad_token_id,
        "eos_token_id": config.eos_token_id,
        "decoder_start_token_id": config.decoder_start_token_id,
        "num_beams": 5,
        "no_repeat_ngram_size": 5,
        "max_length": config.max_target_positions,
        "directions": directions,
    } | ({} if forced is None else {"forced_bos_token_id": forced}))
    write_json(folder / "preprocessor_config.json", {
        "feature_extractor_type": "Speech2TextFeatureExtractor",
        "feature_size": MEL_BINS,
        "num_mel_bins": MEL_BINS,
        "sampling_rate": SAMPLE_RATE,
        "do_ceptral_normalize": True,
        "normalize_means": True,
        "normalize_vars": True,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    })
