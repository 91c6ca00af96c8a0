#!/usr/bin/env python3
"""Makes model folders of awkward sizes with random weights and their references.

    python size_fixtures.py [NAME ...]

They go to ../tests/fixtures/NAME; without a name all are made:

- whisper_odd: widths that no tile divides, other heads in the decoder than in the encoder, an output
  projection of its own
- whisper_128: 128 mel bins and Whisper's real window of 3,000 frames
- speech_to_text_odd: 40 mel bins, kernels 5 and 3, an unscaled embedding, an output projection of its own
- conformer_fama: tensor names as transformers saves them, bfloat16, two shards
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    Speech2TextConfig,
    Speech2TextForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.utils import logging

from export_reference import make
from random_weights import randomise
from references.recogniser import CONFORMER, open_recogniser
from references.reference_file import write
from small_models.conformer import Config, Conformer

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"


def save_with_transformers(model, folder):
    model.save_pretrained(folder)
    # Made up from the configuration; it would only claim to be somebody's choice.
    (folder / "generation_config.json").unlink(missing_ok=True)


def whisper_odd(folder):
    model = WhisperForConditionalGeneration(WhisperConfig(
        d_model=36, num_mel_bins=80, encoder_layers=1, decoder_layers=2, encoder_attention_heads=3,
        decoder_attention_heads=4, encoder_ffn_dim=50, decoder_ffn_dim=46, max_source_positions=37,
        max_target_positions=23, vocab_size=67, bos_token_id=3, eos_token_id=3, pad_token_id=3,
        decoder_start_token_id=4, begin_suppress_tokens=None, tie_word_embeddings=False,
    ))
    randomise(model, seed=1)
    save_with_transformers(model, folder)
    return {"frames": 1, "seed": 1}


def whisper_128(folder):
    model = WhisperForConditionalGeneration(WhisperConfig(
        d_model=24, num_mel_bins=128, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=96, decoder_ffn_dim=96, max_source_positions=1500,
        max_target_positions=16, vocab_size=41, bos_token_id=3, eos_token_id=3, pad_token_id=3,
        decoder_start_token_id=4, begin_suppress_tokens=None,
    ))
    randomise(model, seed=2, sharpness=2.5)
    # The mean over 1,500 random frames is small and varies little; larger, it counts for the output.
    model.model.decoder.layers[0].encoder_attn.out_proj.weight.data *= 4
    save_with_transformers(model, folder)
    # The start token alone. What has the size of the features stays out, and they are float16.
    return {
        "frames": 1, "seed": 2, "random_tokens": 0, "half": True,
        "leave_out": ("input_gradient", "input_masks", "input_scores", "input_saliency"),
    }


def speech_to_text_odd(folder):
    model = Speech2TextForConditionalGeneration(Speech2TextConfig(
        d_model=30, input_feat_per_channel=40, conv_kernel_sizes=(5, 3), conv_channels=42,
        encoder_layers=2, decoder_layers=1, encoder_attention_heads=3, decoder_attention_heads=5,
        encoder_ffn_dim=50, decoder_ffn_dim=46, max_source_positions=200, max_target_positions=31,
        vocab_size=71, scale_embedding=False, tie_word_embeddings=False,
    ))
    randomise(model, seed=3)
    save_with_transformers(model, folder)
    return {"frames": 83, "seed": 3, "random_tokens": 6}


def conformer_fama(folder):
    config = Config(
        d_model=36, encoder_layers=2, decoder_layers=1, encoder_attention_heads=3,
        decoder_attention_heads=3, decoder_ffn_dim=50, conformer_conv_kernel_size=31, conv_channels=46,
        vocab_size=61, tie_word_embeddings=False,
    )
    model = Conformer(config)
    randomise(model, seed=4)
    named = {
        "lm_head.weight" if name == "decoder.output_projection.weight" else f"model.{name}":
            tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    save_shards(folder, named, 2)
    values = {"architectures": [CONFORMER], "torch_dtype": "bfloat16", **asdict(config)}
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n")
    return {"frames": 74, "seed": 4, "random_tokens": 6}


def save_shards(folder, tensors, count):
    """`count` files and their index, as Hugging Face names them."""
    names = sorted(tensors)
    shards = [names[len(names) * i // count:len(names) * (i + 1) // count] for i in range(count)]
    places, total = {}, 0
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        places |= dict.fromkeys(shard, file)
        total += sum(tensors[name].nbytes for name in shard)
        save_file({name: tensors[name] for name in shard}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


MAKERS = [whisper_odd, whisper_128, speech_to_text_odd, conformer_fama]


def describe(model, tensors):
    """How far from degenerate the outputs are."""
    attention = tensors["cross_attention"]
    uniform = 1 / attention.shape[-1]
    spread = tensors["logits"].std(-1).mean().item()
    gradient = tensors["encoder_output_gradient"].norm().item()
    print(f"  largest attention {attention.max() / uniform:.1f} times uniform, logits' deviation "
          f"{spread:.2f}, gradient's norm {gradient:.2g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    logging.disable_progress_bar()
    for maker in MAKERS:
        if names and maker.__name__ not in names:
            continue
        folder = FIXTURES / maker.__name__
        folder.mkdir(parents=True, exist_ok=True)
        options = maker(folder)
        model = open_recogniser(folder)
        tensors = make(model, folder, **options)
        write(folder / "reference.safetensors", tensors, "float64")
        print(f"{maker.__name__}: {sum(file.stat().st_size for file in folder.iterdir())} bytes")
        describe(model, tensors)


if __name__ == "__main__":
    main()
