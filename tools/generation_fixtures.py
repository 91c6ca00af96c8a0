#!/usr/bin/env python3
"""Makes small random models and what transformers generates with them, for tests of greedy and beam search.

    python generation_fixtures.py [whisper] [whisper_english] [speech_to_text] [conformer]

They go to ../tests/fixtures/generation/NAME: a model folder and cases.json.gz, whose README.md there
describes both. Generation runs in float64; an input whose tokens differ in float32 under any setting is
dropped, since no other implementation could be expected to agree. So is one whose tokens change when noise
is added to the logits, and one with a padding token, or with a timestamp where none was asked for, which
transformers treats in ways of its own.
"""

import argparse
import copy
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    Speech2TextConfig,
    Speech2TextForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput

from plain_search import outputs_of, shake
from random_weights import randomise
from references.recogniser import open_recogniser
from small_models.conformer import Config, Conformer
from small_models.model_folder import ARCHITECTURE, write_json

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures" / "generation"
MEL_BINS = 80
# A power of two keeps the features exact in float32.
SCALE = 2.0
INPUTS = 72
LONG_INPUTS = 14
# Noise on the logits that must not change an output. Single precision is ten times better.
NOISE = 1e-5
# How often it is drawn; the first time it is zero.
SHAKES = 4


def features_of(seed, frames):
    """(1, T, F) pseudo-random numbers in [-SCALE, SCALE): SplitMix64 of seed * 2^32 + n, 24 bits of it."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) * np.uint64(2**32) + np.arange(frames * MEL_BINS, dtype=np.uint64)
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    values = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy(values.reshape(1, frames, MEL_BINS) * SCALE)


def text_of(ids, prompt_length, end, padding):
    """The ids between the prompt and the end token."""
    ids = ids[prompt_length:]
    while ids and ids[-1] == padding and padding != end:
        ids = ids[:-1]
    return ids[:-1] if ids and ids[-1] == end else ids


class WhisperFixture:
    """Whisper with a window of 100 frames, one second, and 51 timestamps."""

    def __init__(self, english):
        self.english = english
        text = 48
        names = ["<|endoftext|>", "<|startoftranscript|>"]
        if not english:
            names += [f"<|{code}|>" for code in ("en", "de", "es", "it", "zh")]
        names += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>",
                  "<|notimestamps|>"]
        ids = {name: text + i for i, name in enumerate(names)}
        self.first_timestamp = text + len(names)
        self.end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
        config = WhisperConfig(
            d_model=32, num_mel_bins=MEL_BINS, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50,
            max_target_positions=64, vocab_size=self.first_timestamp + 51, bos_token_id=self.end,
            eos_token_id=self.end, pad_token_id=self.end, decoder_start_token_id=start,
            begin_suppress_tokens=None,
        )
        self.model = WhisperForConditionalGeneration(config)
        randomise(self.model, seed=11 if english else 10, sharpness=2.5, position_scale=0.5)
        with torch.no_grad():
            for layer in self.model.model.decoder.layers:
                layer.encoder_attn.out_proj.weight *= 3
            rows = self.model.model.decoder.embed_tokens.weight
            rows[self.end] *= 1.6 if english else 2.0
            # 51 timestamps together outweigh any word unless each is unlikely.
            rows[self.first_timestamp:] *= 0.3
        # Without timestamps in the prompt transformers still cuts at them, should they come.
        self.odd = set(range(self.first_timestamp, self.first_timestamp + 51))
        suppressed = [3, 7] + [i for name, i in ids.items() if name not in ("<|endoftext|>", "<|notimestamps|>")]
        generation = {
            "bos_token_id": self.end, "pad_token_id": self.end, "eos_token_id": self.end,
            "decoder_start_token_id": start, "suppress_tokens": suppressed,
            "begin_suppress_tokens": [5, self.end], "is_multilingual": not english,
            "no_timestamps_token_id": ids["<|notimestamps|>"], "prev_sot_token_id": ids["<|startofprev|>"],
            "max_initial_timestamp_index": 12, "max_length": 64, "return_timestamps": False,
        }
        if not english:
            generation |= {
                "lang_to_id": {name: i for name, i in ids.items() if len(name) == 6},
                "task_to_id": {name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
            }
        self.model.generation_config = transformers.GenerationConfig(**generation)
        self.generation = generation
        self.settings = self.make_settings()

    def make_settings(self):
        usual = {"beams": 1, "max_new_tokens": 24, "no_repeat_ngram_size": 0, "length_penalty": 1.0,
                 "language": None if self.english else "en", "task": None if self.english else "transcribe",
                 "timestamps": False}
        settings = {
            "greedy": {},
            "beam5": {"beams": 5},
            "greedy_no_repeat": {"no_repeat_ngram_size": 3},
            "beam5_no_repeat": {"beams": 5, "no_repeat_ngram_size": 2},
            "beam5_length_penalty": {"beams": 5, "length_penalty": 1.5},
            "beam2_length_penalty": {"beams": 2, "length_penalty": 0.3},
            # The limit is then max_length of the generation configuration.
            "greedy_no_limit": {"max_new_tokens": None},
            "timestamps": {"timestamps": True},
            "timestamps_beam5": {"timestamps": True, "beams": 5},
        }
        if not self.english:
            settings |= {
                "translate": {"language": "de", "task": "translate"},
                "translate_beam5": {"language": "it", "task": "translate", "beams": 5},
                "detect": {"language": None, "task": None},
                "detect_transcribe": {"language": None, "task": "transcribe"},
                "detect_translate_beam5": {"language": None, "task": "translate", "beams": 5},
                "detect_timestamps": {"language": None, "task": None, "timestamps": True},
            }
        return {name: usual | values for name, values in settings.items()}

    def frames(self, seed):
        return 100

    def generate(self, model, features, setting):
        """The ids, and what every window gave: [seek in frames, ids] each, without the end token."""
        options = {"num_beams": setting["beams"], "length_penalty": setting["length_penalty"],
                   "no_repeat_ngram_size": setting["no_repeat_ngram_size"]}
        if setting["max_new_tokens"] is not None:
            options["max_new_tokens"] = setting["max_new_tokens"]
        for name in ("language", "task"):
            if setting[name] is not None:
                options[name] = setting[name]
        windows = []
        retrieve = model._retrieve_segment

        def record(**arguments):
            seek = round(arguments["time_offset"][0].item() / 0.01)
            windows.append([seek, arguments["seek_sequence"].tolist()])
            return retrieve(**arguments)

        model._retrieve_segment = record
        try:
            ids = model.generate(
                features.transpose(1, 2).to(model.dtype), return_timestamps=setting["timestamps"],
                condition_on_prev_tokens=False, **options,
            )
        finally:
            del model._retrieve_segment
        return text_of(ids[0].tolist(), 0, self.end, self.end), windows if setting["timestamps"] else None

    def language(self, model, features):
        if self.english:
            return None
        window = features[:, :100].transpose(1, 2).to(model.dtype)
        token = model.detect_language(input_features=window, generation_config=model.generation_config).item()
        return next(name for name, i in self.generation["lang_to_id"].items() if i == token)

    def save(self, folder):
        self.model.save_pretrained(folder)
        write_json(folder / "generation_config.json", self.generation)


class SpeechToTextFixture:
    end, padding = 2, 1
    # Transformers gives padding no position of its own, with and without a cache in different ways.
    odd = {padding}
    usual = {"beams": 5, "max_new_tokens": 30, "min_new_tokens": 0, "no_repeat_ngram_size": 3,
             "length_penalty": 1.0, "forced_bos_token_id": 4, "early_stopping": False}
    settings = {
        "greedy": {"beams": 1},
        "greedy_repeats": {"beams": 1, "no_repeat_ngram_size": 0},
        "beam5": {},
        "beam5_repeats": {"no_repeat_ngram_size": 0},
        "beam5_bigrams": {"no_repeat_ngram_size": 2},
        "beam5_length_penalty": {"length_penalty": 1.6},
        "beam5_short": {"length_penalty": 0.2},
        "beam3_early_stopping": {"beams": 3, "early_stopping": True},
        "greedy_not_forced": {"beams": 1, "forced_bos_token_id": None},
        "beam5_not_forced": {"forced_bos_token_id": None},
        "beam5_other_language": {"forced_bos_token_id": 5},
        "greedy_at_least": {"beams": 1, "min_new_tokens": 12},
        "beam5_at_least": {"min_new_tokens": 12},
        "beam5_tight": {"max_new_tokens": 6},
    }

    def __init__(self):
        self.settings = {name: self.usual | values for name, values in self.settings.items()}
        self.generation = {
            "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
            "forced_bos_token_id": 4, "num_beams": 5, "no_repeat_ngram_size": 3, "max_length": 60,
        }
        self.make()
        self.model.generation_config = transformers.GenerationConfig(**self.generation)

    def config(self):
        return Speech2TextConfig(
            d_model=32, input_feat_per_channel=MEL_BINS, conv_channels=32, encoder_layers=1, decoder_layers=2,
            encoder_attention_heads=4, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
            max_source_positions=200, max_target_positions=64, vocab_size=110, tie_word_embeddings=False,
        )

    def make(self):
        self.model = Speech2TextForConditionalGeneration(self.config())
        randomise(self.model, seed=20, sharpness=2.5)
        liven(self.model.model.decoder.layers, self.model.lm_head.weight, end=1.7)

    def frames(self, seed):
        return 20 + seed * 37 % 101

    def encoder_output(self, model, features):
        return model.model.encoder(features.to(model.dtype)).last_hidden_state

    def generate(self, model, features, setting):
        with torch.no_grad():
            memory = self.encoder_output(model, features)
        ids = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory), num_beams=setting["beams"],
            **{name: value for name, value in setting.items() if name != "beams"},
        )[0].tolist()
        return text_of(ids, 1, self.end, self.padding), None

    def language(self, model, features):
        return None

    def save(self, folder):
        self.model.save_pretrained(folder)
        write_json(folder / "generation_config.json", self.generation)


class ConformerFixture(SpeechToTextFixture):
    """The conformer's encoder in front of transformers' own decoder and search."""

    usual = SpeechToTextFixture.usual | {"no_repeat_ngram_size": 5}

    def __init__(self):
        super().__init__()
        self.generation |= {"no_repeat_ngram_size": 5}
        self.model.generation_config = transformers.GenerationConfig(**self.generation)

    def make(self):
        settings = self.config()
        self.conformer_config = Config(
            d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=2, decoder_ffn_dim=64, feed_forward_expansion_factor=2,
            conformer_conv_kernel_size=7, conv_channels=32, max_source_positions=200, max_target_positions=64,
            vocab_size=settings.vocab_size, tie_word_embeddings=False,
        )
        self.conformer = Conformer(self.conformer_config).eval()
        randomise(self.conformer, seed=30, sharpness=2.5)
        liven(self.conformer.decoder.layers, self.conformer.decoder.output_projection.weight, end=2.0)
        self.model = Speech2TextForConditionalGeneration(settings)
        state = {
            "lm_head.weight" if name == "decoder.output_projection.weight" else f"model.{name}": tensor
            for name, tensor in self.conformer.state_dict().items() if name.startswith("decoder.")
        }
        missing, extra = self.model.load_state_dict(state, strict=False)
        assert not extra and all(name.startswith("model.encoder.") for name in missing)
        self.encoders = {}

    def encoder_output(self, model, features):
        encoder = self.encoders.setdefault(model.dtype, copy.deepcopy(self.conformer.encoder).to(model.dtype))
        return encoder(features.to(model.dtype))

    def save(self, folder):
        tensors = {name: tensor for name, tensor in self.conformer.state_dict().items()
                   if not name.endswith("num_batches_tracked")}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        config = {name: value for name, value in vars(self.conformer_config).items()}
        write_json(folder / "config.json", {"architectures": [ARCHITECTURE], **config})
        write_json(folder / "generation_config.json", self.generation)


@torch.no_grad()
def liven(layers, rows, end):
    """Makes the output depend on the sound, and the end come now and then."""
    for layer in layers:
        layer.encoder_attn.out_proj.weight *= 3
    rows[1] = 0  # the padding token, as in trained models
    rows[2] *= end


FAMILIES = {
    "whisper": lambda: WhisperFixture(english=False),
    "whisper_english": lambda: WhisperFixture(english=True),
    "speech_to_text": SpeechToTextFixture,
    "conformer": ConformerFixture,
}


def run(fixture, models, plain, seed, frames, settings):
    """The case of one input, and why it is of no use, if it is not.

    models: transformers' in float64 and float32; plain: the same weights for the plain search.
    """
    features = features_of(seed, frames)
    cases = []
    for model in models:
        made = {name: fixture.generate(model, features, setting) for name, setting in settings.items()}
        case = {"seed": seed, "frames": frames, "language": fixture.language(model, features),
                "outputs": {name: ids for name, (ids, _) in made.items()}}
        windows = {name: rows for name, (_, rows) in made.items() if rows is not None}
        cases.append(case | ({"windows": windows} if windows else {}))
    reason = "float32_differs" if cases[0] != cases[1] else None
    for attempt in range(SHAKES):
        shake(plain, NOISE if attempt else 0.0, attempt)
        if not reason and outputs_of(plain, cases[0], features, settings) != cases[0]:
            reason = "close_call"
    for name, setting in settings.items():
        if not setting.get("timestamps") and set(cases[0]["outputs"][name]) & fixture.odd:
            reason = "odd_token"
    return cases[0], reason


def describe(cases, settings):
    for name, setting in settings.items():
        outputs = [case["outputs"][name] for case in cases]
        lengths = [len(ids) for ids in outputs]
        limit = setting["max_new_tokens"]
        print(f"  {name:24} {len(set(map(tuple, outputs)))} different of {len(outputs)}, lengths "
              f"{min(lengths)} to {max(lengths)}, {sum(n != limit for n in lengths)} below the limit")
    if cases[0]["language"]:
        print("  languages", Counter(case["language"] for case in cases))
    for first, second in (("greedy", "beam5"), ("greedy_repeats", "greedy"), ("beam5_repeats", "beam5"),
                          ("greedy", "greedy_no_repeat"), ("beam5", "beam5_length_penalty")):
        if first in settings and second in settings:
            print(f"  {first} and {second} differ in "
                  f"{sum(case['outputs'][first] != case['outputs'][second] for case in cases)}")


def collect(fixture, models, plain, seeds, frames, settings):
    made = [run(fixture, models, plain, seed, frames(seed), settings) for seed in seeds]
    return [case for case, reason in made if not reason], Counter(reason for _, reason in made if reason)


def write_cases(path, values):
    """Compressed JSON with one line for each input."""
    lines = []
    for name, value in values.items():
        if isinstance(value, list):
            rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f" {json.dumps(name)}: [\n{rows}\n ]")
        elif name == "settings":
            rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in value.items())
            lines.append(f" {json.dumps(name)}: {{\n{rows}\n }}")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_cases(folder):
    return json.loads(gzip.decompress((folder / "cases.json.gz").read_bytes()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or list(FAMILIES)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in names:
        folder = FIXTURES / name
        folder.mkdir(parents=True, exist_ok=True)
        fixture = FAMILIES[name]()
        fixture.model.eval()
        fixture.save(folder)
        models = [copy.deepcopy(fixture.model).to(dtype) for dtype in (torch.float64, torch.float32)]
        plain = open_recogniser(folder)
        inputs, dropped = collect(fixture, models, plain, range(INPUTS), fixture.frames, fixture.settings)
        values = {
            "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
            "scale": SCALE, "settings": fixture.settings, "dropped": dict(dropped), "inputs": inputs,
        }
        print(f"{name}: {len(inputs)} inputs, {dict(dropped)} dropped")
        describe(inputs, fixture.settings)
        if isinstance(fixture, WhisperFixture):
            long_settings = {"long": fixture.settings["timestamps"]}
            values["long_inputs"], dropped = collect(
                fixture, models, plain, range(1000, 1000 + LONG_INPUTS), lambda _: 250, long_settings
            )
            values["long_dropped"] = dict(dropped)
            print(f"  long: {len(values['long_inputs'])} inputs, {dict(dropped)} dropped")
            describe(values["long_inputs"], long_settings)
        write_cases(folder / "cases.json.gz", values)
        for file in folder.iterdir():
            file.chmod(0o644)
            print(f"  {file.name} {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
