"""The sets on which word times are compared, each with its model, sounds and truth."""

import json
from pathlib import Path

from . import clocks

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = 40


def run(place, program, material, utterances):
    # Gradients at the input take ten times as long as attention; the study has their errors, of more sounds.
    fewer = ("sonograd align --from gradient", "sonograd align --from heads")
    for name, without in (("librivox", ()), ("prompts", fewer)):
        truth = known(place / "truth" / f"{name}.jsonl")
        sounds = {one.name: one.sound for one in utterances[name][:PROMPTS]}
        clocks.measure(place, program, name, material.models["tiny-en"], sounds, truth, without)
    # The model that is part of the program, on a synthesiser's sentences.
    samples = {path.stem: json.loads(path.read_text())["words"] for path in sorted((ROOT / "samples").glob("*.json"))}
    sounds = {name: ROOT / "samples" / f"{name}.wav" for name in samples}
    clocks.measure(place, program, "samples", None, sounds, samples)
    truth = known(ROOT / "test-sets/en/words.jsonl")
    sounds = {name: ROOT / "test-sets/en" / f"{name}.flac" for name in truth}
    clocks.measure(place, program, "test-sets", None, sounds, truth)


def known(path):
    return {line["id"]: line["words"] for line in map(json.loads, path.read_text().splitlines())}
