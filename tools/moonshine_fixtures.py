#!/usr/bin/env python3
"""Makes small random models of both Moonshines, with references and generated tokens.

    python moonshine_fixtures.py [NAME ...]

They go to ../tests/fixtures/NAME; without a name all are made:

- moonshine: a piece of the utterance, brought to mean 0 and variance 1; a third of each head's columns
  stays as it is
- moonshine_odd: heads of five columns, of which two are turned by another base; more layers and heads;
  biases of attention, ReLU in the encoder, an output projection of its own, heads that transformers pads
- moonshine_streaming: as published but for sizes; an encoder wider than the decoder
- moonshine_streaming_odd: samples behind the last whole frame; two layers that see differently far, one of
  them nothing ahead; encoder and decoder of one width and an output projection that is the embedding

Sizes are as small as they can be: the files are part of the repository.

Each is what `save_pretrained` of the model writes, in bfloat16, with reference.safetensors (see
../docs/reference-format.md). Those that are not odd also have what `save_pretrained` of the processor
writes, and cases.json: for random waveforms what transformers' generate makes of them. Everything is computed in
float64; an input whose tokens differ in float32 under any setting is dropped.
"""

import argparse

import torch
import transformers
from transformers import (
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    MoonshineStreamingConfig,
    MoonshineStreamingForConditionalGeneration,
    MoonshineStreamingProcessor,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from random_weights import randomise
from small_cases import tokenizer, write_fixture

MARKS = ["<unk>", "<s>", "</s>"]
# Of random waveforms that texts are generated for.
SAMPLES = (1300, 2717)


def moonshine():
    model = MoonshineForConditionalGeneration(MoonshineConfig(
        vocab_size=28, hidden_size=12, intermediate_size=14, encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1, encoder_num_attention_heads=2, decoder_num_attention_heads=2,
        max_position_embeddings=24,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.7},
    ))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    words = tokenizer(28, MARKS, eos_token="</s>", bos_token="<s>")
    return model, Wav2Vec2Processor(extractor, words)


def moonshine_odd():
    model = MoonshineForConditionalGeneration(MoonshineConfig(
        vocab_size=17, hidden_size=10, intermediate_size=7, encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2, encoder_num_attention_heads=2, decoder_num_attention_heads=2,
        encoder_hidden_act="relu", max_position_embeddings=9, attention_bias=True, tie_word_embeddings=False,
        pad_head_dim_to_multiple_of=4,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5},
    ))
    return model, None


def moonshine_streaming():
    model = MoonshineStreamingForConditionalGeneration(MoonshineStreamingConfig(
        encoder_config={
            "hidden_size": 10, "intermediate_size": 13, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "sliding_windows": [[3, 2]],
        },
        vocab_size=28, hidden_size=8, intermediate_size=9, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=24, decoder_start_token_id=1,
    ))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    words = tokenizer(28, MARKS, eos_token="</s>", bos_token="<s>")
    return model, MoonshineStreamingProcessor(extractor, words)


def moonshine_streaming_odd():
    model = MoonshineStreamingForConditionalGeneration(MoonshineStreamingConfig(
        encoder_config={
            "hidden_size": 9, "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 3,
            "num_key_value_heads": 3, "sliding_windows": [[2, 0], [1, 3]], "attention_bias": True,
            "hidden_act": "silu",
        },
        vocab_size=17, hidden_size=9, intermediate_size=7, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, head_dim=4, max_position_embeddings=11, attention_bias=True,
        tie_word_embeddings=True, decoder_start_token_id=None,
    ))
    return model, None


# What each is computed for: a piece of the utterance, or random samples.
MAKERS = {
    moonshine: {"audio": (9000, 10300)},
    moonshine_odd: {"frames": 1411},
    moonshine_streaming: {"audio": (9000, 10440)},
    moonshine_streaming_odd: {"frames": 1243},
}


@torch.no_grad()
def liven(model):
    """Makes the output depend on the sound, and the end come now and then."""
    for layer in model.model.decoder.layers:
        layer.encoder_attn.o_proj.weight *= 3
    # The embedding is the output projection: a longer row is written more often.
    model.model.decoder.embed_tokens.weight[2] *= 1.35


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for seed, (maker, source) in enumerate(MAKERS.items()):
        if names and maker.__name__ not in names:
            continue
        model, processor = maker()
        randomise(model, seed=80 + seed, sharpness=2.5)
        liven(model)
        write_fixture(maker.__name__, model, processor, source, {"seed": 80 + seed, "masks": 4}, SAMPLES,
                      lambda recogniser: [{"prompt": [recogniser.special("decoder_start_token_id")]}])


if __name__ == "__main__":
    main()
