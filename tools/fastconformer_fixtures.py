#!/usr/bin/env python3
"""Makes small random models of the families with a FastConformer, with references and generated tokens.

    python fastconformer_fixtures.py [NAME ...]

They go to ../tests/fixtures/NAME; without a name all are made:

- cohere: an encoder wider than the decoder, heads of the decoder that are together wider than both
- cohere_odd: encoder and decoder of one width and of two layers each, subsampling by 4 with kernels of 5, a
  scaled input, no biases of attention or in the encoder, an output projection that is the embedding, SiLU
- canary: as published but for sizes
- canary_odd: kernels of 3 in two convolutions of the plane, a scaled input, biases nowhere, heads of the
  decoder that are together narrower than it, an output projection of its own, more layers

Sizes are as small as they can be: the files are part of the repository.

Each is what `save_pretrained` of the model writes, in bfloat16, with reference.safetensors (see
../docs/reference-format.md). Those that are not odd also have what `save_pretrained` of the processor
writes, and cases.json: prompts by request, and for random features what transformers' generate makes of
them. Everything is computed in float64; an input whose tokens differ in float32 under any setting is
dropped. front_end/normalised.safetensors has frames of ../tests/fixtures/front_end's utterance by the two
feature extractors. cohere/pieces.json has what the processor and generate make of that utterance where a clip
is so short that it is cut.
"""

import argparse
import json

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    CanaryConfig,
    CanaryForConditionalGeneration,
    CanaryProcessor,
    CohereAsrConfig,
    CohereAsrFeatureExtractor,
    CohereAsrForConditionalGeneration,
    CohereAsrProcessor,
    ParakeetFeatureExtractor,
)

from random_weights import randomise
from references.hearing import read_wave
from size_fixtures import FIXTURES
from small_cases import tokenizer, write_fixture

LANGUAGES = ("de", "en", "fr", "ja")
# Ids 2, 3, 4 and 7 are what the configurations take them for.
MARKS = [
    "<unk>", "<|nospeech|>", "<pad>", "<|endoftext|>", "<|startoftranscript|>", "<|pnc|>", "<|nopnc|>",
    "<|startofcontext|>", "<|emo:undefined|>", "<|itn|>", "<|noitn|>", "<|timestamp|>", "<|notimestamp|>",
    "<|diarize|>", "<|nodiarize|>", *(f"<|{code}|>" for code in LANGUAGES),
]
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
# Clips in which the utterance is cut for pieces.json.
CLIPS = {"max_audio_clip_s": 0.8, "overlap_chunk_second": 0.31, "min_energy_window_samples": 401}
# Words alone, but for the end.
WRITTEN = {"max_new_tokens": 9, "suppress_tokens": [i for i in range(len(MARKS)) if i != 3]}
# Of random features that texts are generated for.
FRAMES = (19, 57)

def words(vocabulary):
    return tokenizer(
        vocabulary, MARKS, pad_token="<pad>", eos_token="<|endoftext|>", bos_token="<|startoftranscript|>"
    )


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
    return model, CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=16), words(40))


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
    return model, CanaryProcessor(extractor, words(40), chat_template=TEMPLATE)


def canary_odd():
    model = CanaryForConditionalGeneration(CanaryConfig(
        encoder_config=encoder(
            hidden_size=6, num_hidden_layers=2, num_attention_heads=3, subsampling_factor=4,
            subsampling_conv_channels=5, num_mel_bins=8, convolution_bias=False, attention_bias=False,
            conv_kernel_size=3, scale_input=True,
        ),
        decoder_config={
            "vocab_size": 19, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 2, "intermediate_size": 11, "max_position_embeddings": 7,
            "attention_bias": False, "hidden_act": "silu",
        },
        vocab_size=19, tie_word_embeddings=False,
    ))
    return model, None


# What each is computed for: a piece of the utterance, or random features.
MAKERS = {
    cohere: {"audio": (9000, 10450)},
    cohere_odd: {"frames": 18},
    canary: {"frames": 11},
    canary_odd: {"frames": 21},
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


def asked(recogniser, requests):
    """The requests with their prompts."""
    return [
        {**own, "prompt": recogniser.prompt(own.get("language"), own.get("task", "transcribe"))}
        for own in requests
    ]


def pieces():
    """What cohere writes of the whole utterance in pieces: their samples, ids of each behind the prompt, and
    the text that the processor makes of them."""
    folder = FIXTURES / "cohere"
    processor = CohereAsrProcessor.from_pretrained(folder)
    extractor = processor.feature_extractor
    for name, value in CLIPS.items():
        setattr(extractor, name, value)
    waveform = read_wave(FIXTURES / "front_end" / "utterance.wav")
    samples = [len(own) for own in extractor._split_audio_chunks_energy(torch.tensor(waveform).float())]
    texts = {}
    for language in ("en", "ja"):
        asked = processor(waveform, language=language, sampling_rate=16000, return_tensors="pt")
        index = asked.pop("audio_chunk_index")
        ids = {}
        for dtype in (torch.float64, torch.float32):
            model = CohereAsrForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
            end, padding = model.generation_config.eos_token_id, model.generation_config.pad_token_id
            own = {**asked, "input_features": asked["input_features"].to(dtype)}
            # It puts the start token in front of the prompt.
            begin = 1 + asked["decoder_input_ids"].shape[1]
            written = model.generate(**own, **WRITTEN)[:, begin:]
            ids[dtype] = [[i for i in row if i not in (end, padding)] for row in written.tolist()]
        assert ids[torch.float64] == ids[torch.float32]
        text, = processor.decode(written, skip_special_tokens=True, audio_chunk_index=index, language=language)
        texts[language] = {"tokens": ids[torch.float64], "text": text}
    made = {"settings": CLIPS, "generation": WRITTEN, "samples": samples, "written": texts}
    (folder / "pieces.json").write_text(json.dumps(made, ensure_ascii=False) + "\n")


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
    if names == ["pieces"]:
        pieces()
    for seed, (maker, source) in enumerate(MAKERS.items()):
        if names and maker.__name__ not in names:
            continue
        model, processor = maker()
        randomise(model, seed=70 + seed, sharpness=2.5, position_scale=0.5)
        liven(model, 3)
        asked_for = {"prompt": PROMPT, "seed": 70 + seed, "masks": 5}
        write_fixture(maker.__name__, model, processor, source, asked_for, FRAMES,
                      lambda recogniser, maker=maker: asked(recogniser, REQUESTS[maker]))
        if maker is cohere:
            pieces()


if __name__ == "__main__":
    main()
