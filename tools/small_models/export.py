"""Writes the last checkpoint of a training run as a model folder.

    python -m small_models.export RUN_FOLDER MODEL_FOLDER [--float32]
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from .conformer import Conformer
from .model_folder import write_model
from .recipe import RECIPES


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("--float32", action="store_true", help="do not halve the precision of the weights")
    arguments = parser.parse_args()
    checkpoint = torch.load(arguments.run / "checkpoint.pt")
    recipe = RECIPES[checkpoint["recipe"]]
    model = Conformer(recipe.config)
    # The CTC head stays behind.
    prefix = "model."
    model.load_state_dict({
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint["trainee"].items() if name.startswith(prefix)
    })
    tokenizer = Tokenizer.from_file(str(arguments.run / "tokenizer.json"))
    dtype = torch.float32 if arguments.float32 else torch.float16
    write_model(arguments.model_folder, model, tokenizer, recipe.directions, dtype)


if __name__ == "__main__":
    main()
