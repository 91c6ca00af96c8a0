#!/usr/bin/env python3
"""Notes what transformers' Whisper finds of the tokens that it generates, before it would draw them again.

    python fallback_fixture.py

For the models of generation_fixtures.py, in float64 and at temperature 0 alone: by window the compression
ratio, the mean log-probability, the probability of silence, and whether the window is skipped for silence.
They go to ../tests/fixtures/generation/NAME/fallback.json.
"""

import json

import torch
import transformers
from transformers import WhisperForConditionalGeneration
from transformers.generation.logits_process import WhisperNoSpeechDetection

from generation_fixtures import FIXTURES, features_of, read_cases, text_of

NAMES = ["whisper", "whisper_english"]
SETTINGS = ["greedy", "beam5", "timestamps", "timestamps_beam5"]
INPUTS = 10
LONG_INPUTS = 5
THRESHOLDS = {"compression_ratio_threshold": 1.35, "logprob_threshold": -1.0}


def generate(model, features, setting, silence):
    """The ids, and of every window [ratio, log-probability, silence, whether it is skipped]."""
    windows = []
    judge = model._need_fallback

    def record(sequence, outputs, index, processors, generation, vocabulary, temperature):
        again, skip = judge(sequence, outputs, index, processors, generation, vocabulary, temperature)
        # `_need_fallback` would take `sequences_scores`, were the outputs no dictionaries.
        mean = model._retrieve_avg_logprobs(outputs[index]["scores"], sequence, temperature)
        quiet = next(p for p in processors if isinstance(p, WhisperNoSpeechDetection)).no_speech_prob[index]
        ratio = model._retrieve_compression_ratio(sequence, vocabulary)
        windows.append([ratio, float(mean), float(quiet), skip])
        return again, skip

    options = {name: setting[name] for name in ("language", "task") if setting[name] is not None}
    model._need_fallback = record
    try:
        ids = model.generate(
            features.transpose(1, 2).double(), return_timestamps=setting["timestamps"],
            condition_on_prev_tokens=False, num_beams=setting["beams"],
            max_new_tokens=setting["max_new_tokens"], temperature=(0.0,), no_speech_threshold=silence,
            **THRESHOLDS, **options,
        )
    finally:
        del model._need_fallback
    end = model.generation_config.eos_token_id
    return text_of(ids[0].tolist(), 0, end, end), windows


def main():
    transformers.logging.set_verbosity_error()
    for name in NAMES:
        folder = FIXTURES / name
        model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
        cases = read_cases(folder)
        plan = [(case, SETTINGS) for case in cases["inputs"][:INPUTS]]
        plan += [(case, ["timestamps"]) for case in cases["long_inputs"][:LONG_INPUTS]]
        inputs = [(case["seed"], features_of(case["seed"], case["frames"]), case["frames"], settings)
                  for case, settings in plan]
        # Random weights know nothing of silence: half of the sounds pass for it.
        quiet = [generate(model, features, cases["settings"]["greedy"], 1.0)[1][0][2]
                 for _, features, frames, _ in inputs if frames == 100]
        silence = round(sorted(quiet)[len(quiet) // 2], 5)
        rows = []
        for seed, features, frames, settings in inputs:
            for setting in settings:
                ids, windows = generate(model, features, cases["settings"][setting], silence)
                rows.append({"seed": seed, "frames": frames, "setting": setting, "output": ids,
                             "windows": windows})
        found = [window for row in rows for window in row["windows"]]
        print(f"{name}: {len(rows)} outputs, {len(found)} windows, {sum(w[3] for w in found)} skipped, "
              f"log-probabilities {min(w[1] for w in found):.2f} to {max(w[1] for w in found):.2f}, "
              f"ratios {min(w[0] for w in found):.2f} to {max(w[0] for w in found):.2f}")
        lines = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in rows)
        head = json.dumps({"made_with": cases["made_with"], "no_speech": silence})[1:-1]
        (folder / "fallback.json").write_text(f"{{{head}, \"outputs\": [\n{lines}\n]}}\n")


if __name__ == "__main__":
    main()
