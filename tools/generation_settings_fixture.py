"""What transformers generates where a model's folder asks for it: tests/fixtures/generation/settings.json.

Each setting changes entries of a fixture's generation_config.json (null takes one out), or writes entries into its
config.json with no generation_config.json beside it. The tokens are transformers' own, in float32, of inputs for
which float64 gives the same.

    python tools/generation_settings_fixture.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from generation_fixtures import features_of
from transformers import Speech2TextForConditionalGeneration, WhisperForConditionalGeneration

FOLDER = Path(__file__).parent.parent / "tests" / "fixtures" / "generation"
# Inputs of each setting, and how many are tried.
CASES, TRIED = 4, 16

SHORT = {"max_length": 16}
BEAMS = {"num_beams": 3, "max_length": 16}
SETTINGS = {
    "whisper_english": [
        SHORT | {"repetition_penalty": 1.7},
        BEAMS | {"repetition_penalty": 1.4},
        SHORT | {"repetition_penalty": 0.6},
        SHORT | {"sequence_bias": [[[11], 3.5], [[11, 12], 9.5], [[20], -4.0]]},
        BEAMS | {"sequence_bias": [[[11], 2.5], [[9, 12], 5.5]], "renormalize_logits": True},
        SHORT | {"bad_words_ids": [[1], [2], [11], [12, 13], [48]]},
        SHORT | {"exponential_decay_length_penalty": [3, 1.6]},
        BEAMS | {"exponential_decay_length_penalty": [2, 1.3], "length_penalty": 0.4},
        {"max_new_tokens": 9, "forced_eos_token_id": 48},
        {"max_new_tokens": 9, "num_beams": 3, "forced_eos_token_id": 17},
        {"max_new_tokens": 9, "forced_eos_token_id": [17, 48]},
        SHORT | {"min_length": 14},
        BEAMS | {"min_length": 12, "early_stopping": "never"},
        BEAMS | {"early_stopping": "never", "length_penalty": 2.0},
        BEAMS | {"early_stopping": True, "length_penalty": -1.0},
        {"max_new_tokens": 16, "return_timestamps": True},
        {"max_new_tokens": 16, "return_timestamps": True, "repetition_penalty": 1.5},
        {"max_new_tokens": 14, "num_beams": 3, "return_timestamps": True, "repetition_penalty": 1.2},
        SHORT | {"forced_decoder_ids": [[1, 55]]},
        SHORT | {"forced_decoder_ids": [[1, 9], [2, 10]]},
        SHORT | {"forced_decoder_ids": [[2, 55]]},
        SHORT | {"do_sample": True, "temperature": 0.7, "top_k": 3},
        SHORT | {"no_timestamps_token_id": None},
        SHORT | {"_from_model_config": True, "repetition_penalty": 1.3},
        SHORT | {"decoder_start_token_id": 5, "suppress_tokens": [], "begin_suppress_tokens": []},
    ],
    "whisper": [
        SHORT | {"language": "Italian"},
        SHORT | {"language": "<|DE|>", "task": "translate"},
        SHORT | {"language": "castilian", "return_timestamps": True},
        SHORT | {"task": "transcribe"},
        SHORT | {"forced_decoder_ids": [[1, None], [2, 55]]},
        SHORT | {"forced_decoder_ids": [[1, 53], [2, 56], [3, 60]]},
        SHORT | {"forced_decoder_ids": [[1, 53], [2, 56], [3, 60]], "language": "zh"},
        SHORT | {"forced_decoder_ids": [[1, 53], [2, 56], [3, 60]], "return_timestamps": True},
        SHORT | {"lang_to_id": None},
        SHORT | {"forced_decoder_ids": [[1, None], [2, 56]], "lang_to_id": None},
    ],
    "speech_to_text": [
        BEAMS | {"no_repeat_ngram_size": 0, "repetition_penalty": 1.5},
        SHORT | {"num_beams": 1, "no_repeat_ngram_size": 0, "repetition_penalty": 2.0},
        SHORT | {"num_beams": 1, "eos_token_id": [2, 5, 9, 14]},
        BEAMS | {"eos_token_id": [2, 5, 9, 14]},
        BEAMS | {"forced_eos_token_id": 2, "forced_bos_token_id": None},
        BEAMS | {"suppress_tokens": [5, 6], "begin_suppress_tokens": [7, 8], "min_length": 9},
        SHORT | {"num_beams": 1, "bad_words_ids": [[5], [6, 7]], "no_repeat_ngram_size": 0},
    ],
}
# Entries of config.json, with no generation_config.json.
OLD = {
    "whisper_english": [
        SHORT | {"suppress_tokens": [4, 9], "begin_suppress_tokens": [6], "forced_decoder_ids": [[1, 55]]},
        BEAMS | {"forced_decoder_ids": [[1, 55]], "repetition_penalty": 1.3},
    ],
    "whisper": [SHORT | {"forced_decoder_ids": [[1, 52], [2, 55], [3, 60]], "suppress_tokens": [3]}],
    "speech_to_text": [BEAMS | {"forced_bos_token_id": 4, "no_repeat_ngram_size": 2}],
}


def folder_of(place, name, changes, old):
    folder = Path(place) / "model"
    shutil.copytree(FOLDER / name, folder, ignore=shutil.ignore_patterns("cases.json.gz"))
    file = folder / ("config.json" if old else "generation_config.json")
    entries = json.loads(file.read_text()) | changes
    entries = {key: value for key, value in entries.items() if value is not None}
    file.write_text(json.dumps(entries))
    if old:
        (folder / "generation_config.json").unlink()
    return folder


def generate(model, name, seed, dtype):
    frames = 100 if name.startswith("whisper") else 24 + seed
    features = features_of(seed, frames).to(dtype)
    prompts = []
    if not name.startswith("whisper"):
        ids = model.generate(features, attention_mask=torch.ones(features.shape[:2], dtype=torch.long))[0].tolist()
        return frames, ids[:1], ids[1:]
    own = model._retrieve_init_tokens

    def record(*given, **named):
        prompts.append(own(*given, **named))
        return prompts[-1]

    model._retrieve_init_tokens = record
    ids = model.generate(features.transpose(1, 2))[0].tolist()
    model._retrieve_init_tokens = own
    return frames, prompts[0][0].tolist(), ids


def cases(folder, name, ends):
    kind = WhisperForConditionalGeneration if name.startswith("whisper") else Speech2TextForConditionalGeneration
    models = [kind.from_pretrained(folder, dtype=dtype).eval() for dtype in (torch.float32, torch.float64)]
    found = []
    for seed in range(TRIED):
        (frames, prompt, ids), other = (
            generate(model, name, seed, dtype) for model, dtype in zip(models, (torch.float32, torch.float64))
        )
        if other != (frames, prompt, ids) or len(found) == CASES:
            continue
        while ids and ids[-1] in ends:
            ids.pop()
        found.append({"seed": seed, "frames": frames, "prompt": prompt, "tokens": ids})
    return found


def main():
    torch.set_num_threads(1)
    settings = []
    for table, old in ((SETTINGS, False), (OLD, True)):
        for name, own in table.items():
            for changes in own:
                with tempfile.TemporaryDirectory() as place:
                    folder = folder_of(place, name, changes, old)
                    end = json.loads((FOLDER / name / "config.json").read_text())["eos_token_id"]
                    ends = changes.get("eos_token_id") or [end]
                    pad = 1 if name == "speech_to_text" else end
                    found = cases(folder, name, [*ends, pad])
                    print(name, changes, [case["tokens"] for case in found][:1])
                    settings.append({"model": name, "old": old, "changes": changes, "cases": found})
    lines = ",\n".join("  " + json.dumps(setting, separators=(",", ":")) for setting in settings)
    made = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
    (FOLDER / "settings.json").write_text('{\n "made_with": "%s",\n "settings": [\n%s\n ]\n}\n' % (made, lines))


if __name__ == "__main__":
    main()
