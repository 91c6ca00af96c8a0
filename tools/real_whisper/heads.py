"""Which heads are best, by true onsets, by SPES and by the gradient; and where the published ones stand."""

import subprocess
import sys
from pathlib import Path

# At the encoder's output masks are cheap: the encoder runs once.
RANKINGS = {
    "onsets": (["--by", "onsets"], 40),
    "gradient": (["--by", "gradient"], 10),
    "spes": (["--by", "spes", "--masks", "1920"], 5),
}
MODELS = ("tiny-en", "base")


def run(place, program, material, utterances, manifest):
    folder = place / "heads"
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        for name, (options, prompts) in RANKINGS.items():
            file = folder / f"{model}.{name}.json"
            if file.is_file():
                continue
            manifests, onsets = [], []
            for part, count in (("librivox", None), ("prompts", prompts)):
                manifests.append(folder / f"{name}.{part}.tsv")
                manifest(manifests[-1], utterances[part][:count], "en", "en")
                onsets.append(place / "truth" / f"{part}.jsonl")
            command = [program, "heads", *manifests, "--model", material.models[model], "--onsets", *onsets,
                       "--device", "cpu", "--json", *options]
            print(" ".join(map(str, command)), file=sys.stderr, flush=True)
            done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"sonograd heads: exit code {done.returncode}")
            Path(f"{file}.new").write_text(done.stdout)
            Path(f"{file}.new").rename(file)
