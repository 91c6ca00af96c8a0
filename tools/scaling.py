#!/usr/bin/env python3
"""How the cost of sonograd's works grows: tables of time and memory in Markdown, with fitted exponents.

    python scaling.py PROGRAM                     # on the processor
    python scaling.py PROGRAM --device gpu --repeats 5
    python scaling.py PROGRAM --estimate          # operations and memory alone, in seconds

PROGRAM is a release build of sonograd. One size is varied at a time about a small conformer with random
weights: D 144, 2+2 layers, T 400, 16 tokens. Every row is one work of `sonograd bench`, in which the
passes take what memory they are given, unless the table says otherwise:

- T, frames of sound: forward and gradient;
- K, tokens, all explained: gradient;
- masks: spes, whose memory must not grow;
- batch: gradient of 64 tokens and spes with little memory allowed, so that few tokens or masks are done at
  once;
- D, model dimension: forward and gradient.

An exponent is the slope of a least-squares line through the logarithms: 1 where cost grows in proportion.
There are two for each column: of all sizes, and of the larger half, where fixed costs weigh less. What is
linear but for a fixed part has an exponent below 1; how far the best straight line is off, at most, is in
the last row, where that says something. Memory is the largest sum of all tensors, without the weights.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from random_weights import randomise
from small_models.conformer import Config, Conformer
from small_models.model_folder import ARCHITECTURE, TRAINING_ONLY

BASE = Config(encoder_layers=2, decoder_layers=2, tie_word_embeddings=False)
FRAMES, TOKENS, MASKS = 400, 16, 240
# Where memory is varied, so that they do not all go back at once.
MANY_TOKENS = 64
SEVERAL = {
    "frames": [100, 200, 400, 800, 1600],
    "tokens": [4, 8, 16, 32, 64],
    "masks": [120, 240, 480, 960],
    # MiB for a pass beside the weights.
    "memory": [4, 8, 16, 32],
    "width": [72, 144, 288, 576],
}
# More than any pass here takes.
ENOUGH = 4096


def write_model(folder, config):
    """A model folder with random weights."""
    folder.mkdir()
    model = Conformer(config)
    randomise(model, seed=0)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()
             if not name.endswith(TRAINING_ONLY)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architectures": [ARCHITECTURE], **asdict(config)}))


def widened(width):
    """The small conformer with another D, in heads of 36 columns."""
    return replace(BASE, d_model=width, decoder_ffn_dim=4 * width, conv_channels=2 * width,
                   encoder_attention_heads=width // 36, decoder_attention_heads=width // 36)


class Bench:
    def __init__(self, arguments, place):
        self.arguments, self.place = arguments, place
        self.device = None

    def folder(self, width):
        """The model folder for a D, made when it is first asked for."""
        folder = self.place / f"width-{width}"
        if not folder.exists():
            write_model(folder, widened(width))
        return folder

    def measure(self, work, width=BASE.d_model, frames=FRAMES, tokens=TOKENS, masks=MASKS, memory=ENOUGH):
        """The row of one work at one size."""
        command = [self.arguments.program, "bench", "--model", self.folder(width), "--work", work,
                   "--seconds", frames / 100, "--tokens", tokens, "--masks", masks, "--memory", memory,
                   "--repeats", self.arguments.repeats, "--device", self.arguments.device, "--json"]
        if self.arguments.estimate:
            command.append("--estimate")
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
        row = json.loads(done.stdout)
        self.device = f"sonograd {row['sonograd']}, {row['executor']} {row['precision']}: {row['device']}"
        return row


def slope(sizes, values):
    """Least-squares slope of log(values) over log(sizes)."""
    if any(value is None or value <= 0 for value in values):
        return None
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    return (sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y))
            / sum((a - middle_x) ** 2 for a in x))


def off_line(sizes, values):
    """The largest relative distance from the least-squares straight line a + b * size."""
    if any(value is None or value <= 0 for value in values):
        return None
    middle_x, middle_y = sum(sizes) / len(sizes), sum(values) / len(values)
    rise = (sum((x - middle_x) * (y - middle_y) for x, y in zip(sizes, values))
            / sum((x - middle_x) ** 2 for x in sizes))
    return max(abs(middle_y + rise * (x - middle_x) - y) / y for x, y in zip(sizes, values))


def columns_of(row):
    """Seconds, operations and the memory of a pass."""
    return [row["seconds_median"], row["flops"], row["peak_memory_bytes"] - row["weight_bytes"]]


def cells_of(row):
    seconds, flops, memory = columns_of(row)
    time = "" if seconds is None else f"{1e3 * seconds:.1f}"
    return [time, f"{flops / 1e9:.2f}", f"{memory / 1e6:.2f}"]


def table(title, name, works, rows, linear):
    """rows: by size, the rows of the works; linear: whether cost should grow along a straight line."""
    heads = [f"{work}: {unit}" for work in works for unit in ("ms", "GFLOP", "MB")]
    lines = [f"### {title}", "", f"| {name} | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for size, measured in rows.items():
        lines.append(f"| {size} | {' | '.join(cell for row in measured for cell in cells_of(row))} |")
    sizes = list(rows)
    values = list(zip(*([value for row in measured for value in columns_of(row)] for measured in rows.values())))
    half = len(sizes) // 2
    for label, first in (("exponent", 0), (f"from {sizes[half]} on", half)):
        slopes = [slope(sizes[first:], column[first:]) for column in values]
        lines.append(f"| {label} | {' | '.join('' if one is None else f'{one:.2f}' for one in slopes)} |")
    if linear:
        distances = [off_line(sizes, column) for column in values]
        lines.append(f"| off a line by | {' | '.join('' if one is None else f'{one:.0%}' for one in distances)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="a release build of sonograd")
    parser.add_argument("--device", default="cpu", help="as for sonograd bench")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each work")
    parser.add_argument("--estimate", action="store_true", help="count, but run nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(arguments, Path(place))
        plans = [
            ("frames", "Frames of sound", "T", ["forward", "gradient"]),
            ("tokens", "Explained tokens", "K", ["gradient"]),
            ("masks", "Masks", "masks", ["spes"]),
            ("memory", f"Batch: memory allowed for a pass, {MANY_TOKENS} tokens", "MiB", ["gradient", "spes"]),
            ("width", "Model dimension", "D", ["forward", "gradient"]),
        ]
        tables = []
        for size, title, name, works in plans:
            rows = {}
            for value in SEVERAL[size]:
                print(f"{name} {value}", file=sys.stderr)
                sizes = {size: value} | ({"tokens": MANY_TOKENS} if size == "memory" else {})
                rows[value] = [bench.measure(work, **sizes) for work in works]
            tables.append(table(title, name, works, rows, size in ("frames", "tokens", "masks")))
    print(f"{bench.device}; D {BASE.d_model}, {BASE.encoder_layers}+{BASE.decoder_layers} layers, T {FRAMES}, "
          f"{TOKENS} tokens, {MASKS} masks where they are not varied; medians of {arguments.repeats} runs.")
    for text in tables:
        print(f"\n{text}")


if __name__ == "__main__":
    main()
