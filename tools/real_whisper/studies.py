"""The studies: which model hears how many recordings of each set, with how many masks.

`sonograd study` goes on where it was stopped, so each may be begun again at any time, also with more
utterances.
"""

import subprocess
import sys

from . import sets

# By study and model: utterances of each set, and the options. Masks at the input are passes of the whole model,
# on a laptop 1 to 3 a second; with --faithfulness an utterance takes some 660 passes more.
STUDIES = {
    "spes": {
        "tiny-en": ({"librivox": 5}, ["--method", "spes,gradient", "--masks", "480"]),
        "base": ({"italian": 2, "italian-english": 2, "librivox": 2}, ["--method", "spes,gradient", "--masks", "480"]),
    },
    "faithfulness": {
        "tiny-en": ({"librivox": 2}, ["--method", "spes,gradient", "--masks", "480", "--faithfulness"]),
    },
    # No masks: many more utterances, and every clock but SPES.
    "gradient": {
        "tiny-en": ({"librivox": 5, "prompts": 15}, ["--method", "gradient,attention-norm"]),
        "base": ({"italian": 5, "italian-english": 5, "librivox": 5},
                 ["--method", "gradient,attention-norm"]),
    },
}
DIRECTIONS = {"librivox": ("en", "en"), "prompts": ("en", "en"), "italian": ("it", "it"),
              "italian-english": ("it", "en")}


def run(place, program, material, utterances, study, model):
    """One study, from where it was; its logs are in `place / study`."""
    amounts, options = STUDIES[study][model]
    folder = place / "manifests" / f"{study}-{model}"
    folder.mkdir(parents=True, exist_ok=True)
    manifests = []
    for name, count in amounts.items():
        manifests.append(folder / f"{name}.tsv")
        sets.manifest(manifests[-1], utterances[name][:count], *DIRECTIONS[name])
    # All of them, always: a log knows its onsets, and may get more utterances.
    onsets = sorted((place / "truth").glob("*.jsonl"))
    command = [program, "study", *manifests, "--model", material.models[model], "--onsets", *onsets, "--device", "cpu",
               "--out", place / study, *options]
    print(" ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL)
    # 1: some utterance failed, which the log has.
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)

