#!/usr/bin/env python3
"""Makes tests/fixtures/alignment.json: paths by transformers' dynamic time warping, and maps made
ready for it as transformers makes Whisper's attention ready.

    python alignment_fixture.py

Values are rounded to few digits, so that they are exact in both programs and equals are many.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter

OUTPUT = Path(__file__).parent.parent / "tests" / "fixtures" / "alignment.json"

SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 4), (7, 3), (12, 12), (6, 31), (23, 17), (14, 60)]


def paths(random):
    for size in SIZES:
        for digits in (0, 1, 3):
            matrix = np.round(2 * random.normal(size=size), digits)
            tokens, frames = _dynamic_time_warping(-matrix)
            yield {
                "tokens": size[0],
                "frames": size[1],
                "matrix": matrix.ravel().tolist(),
                "path": [[int(i), int(j)] for i, j in zip(tokens, frames)],
            }


def filtered(random):
    for tokens, frames, heads, width in [(2, 5, 1, 3), (6, 4, 3, 9), (5, 24, 3, 7), (9, 31, 2, 11), (4, 3, 2, 7)]:
        # Skewed as attention is.
        weights = np.round(np.exp(2 * random.normal(size=(heads, tokens, frames))), 2)
        matrix = torch.tensor(weights)
        std = torch.std(matrix, dim=-2, keepdim=True, unbiased=False)
        matrix = (matrix - torch.mean(matrix, dim=-2, keepdim=True)) / std
        matrix = _median_filter(matrix, width).mean(dim=0)
        tokens_at, frames_at = _dynamic_time_warping(-matrix.numpy())
        jumps = np.pad(np.diff(tokens_at), (1, 0), constant_values=1).astype(bool)
        yield {
            "tokens": tokens,
            "frames": frames,
            "median": width,
            "heads": weights.ravel().tolist(),
            "ready": matrix.numpy().ravel().tolist(),
            "starts": frames_at[jumps].tolist(),
        }


def main():
    random = np.random.default_rng(11)
    made_with = {"transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__}
    contents = {"made_with": made_with, "paths": list(paths(random)), "filtered": list(filtered(random))}
    OUTPUT.write_text(json.dumps(contents) + "\n")
    print(f"{len(contents['paths'])} paths, {len(contents['filtered'])} maps, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
