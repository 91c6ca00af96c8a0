"""Which heads are best, by true onsets, by the gradient and by SPES, as `sonograd heads` ranks them."""

import json
import subprocess
import sys

from . import records, sets

# Model, way, options, and how many prompts are heard beside the LibriVox sentences. At the encoder's output masks are
# cheap: the encoder runs once.
RANKINGS = (
    ("tiny-en", "onsets", ["--by", "onsets"], 15),
    ("tiny-en", "gradient", ["--by", "gradient"], 0),
    ("tiny-en", "spes", ["--by", "spes", "--masks", "960"], 0),
    ("base", "onsets", ["--by", "onsets"], 0),
)


def run(place, program, material, utterances):
    known = {(record["model"], record["way"]) for record in records.read(place, "heads")}
    for model, way, options, prompts in RANKINGS:
        if (model, way) not in known:
            rank(place, program, material.models[model], way, options, {
                "librivox": utterances["librivox"], "prompts": utterances["prompts"][:prompts]})


def rank(place, program, model, way, options, utterances):
    folder = place / "manifests" / f"heads-{way}"
    folder.mkdir(parents=True, exist_ok=True)
    manifests = []
    for name, own in utterances.items():
        if own:
            manifests.append(folder / f"{name}.tsv")
            sets.manifest(manifests[-1], own, "en", "en")
    command = [program, "heads", *manifests, "--model", model, "--onsets", *sorted((place / "truth").glob("*.jsonl")),
               "--device", "cpu", "--json", *options]
    print(" ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"sonograd heads: exit code {done.returncode}")
    found = json.loads(done.stdout)
    kept = {name: found[name] for name in ("model", "settings", "heads", "sets", "onsets")}
    records.add(place, "heads", kept | {"way": way, "utterances": len(found["utterances"])})
