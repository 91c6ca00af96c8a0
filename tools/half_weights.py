#!/usr/bin/env python3
"""Rounds the weights of a fixture to float16, stored as such, and computes its reference again.

    python half_weights.py MODEL_FOLDER ...

Random weights are as good rounded, and take half the room. `reference.safetensors` keeps its features,
tokens and masks. What other fixtures have of the model is to be made again: `attention_x_gradient_fixture.py`,
and `infidelity_fixture.py` for the conformer.
"""

import argparse
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from references.recogniser import open_recogniser
from references.reference_file import compute, write
from references.saliency import GRADIENTS

INPUTS = ("features", "decoder_input_ids", "labels")


def halve(path):
    """Real weights become float16; the file's metadata stays."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    halves = {name: weight.half() if weight.is_floating_point() else weight for name, weight in weights.items()}
    for name, weight in halves.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise ValueError(f"{name} has numbers that float16 cannot hold")
    save_file(halves, path, metadata)


def again(folder):
    """The reference from its own inputs; (old, new) tensors."""
    path = folder / "reference.safetensors"
    old = load_file(path)
    masks = {name: tensor for name, tensor in old.items() if name.endswith("_masks")}
    wanted = [name for name in GRADIENTS if name in old]
    model = open_recogniser(folder)
    made = compute(model, old["features"], old["decoder_input_ids"], old["labels"], masks, wanted_gradients=wanted)
    kept = {name: old[name] for name in INPUTS} | masks
    new = {name: kept[name] if name in kept else made[name] for name in old}
    write(path, new, "float64")
    return old, new


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="MODEL_FOLDER")
    for folder in parser.parse_args().folders:
        halve(folder / "model.safetensors")
        old, new = again(folder)
        for name in sorted(new):
            moved = (new[name].double() - old[name].double()).norm() / old[name].double().norm()
            print(f"{folder.name} {name}: moved by {moved:.1e}")


if __name__ == "__main__":
    main()
