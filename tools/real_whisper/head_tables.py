"""Heads as clocks, and where the published alignment heads stand among them.

Layers and heads count from 0 here, as in `alignment_heads`; in a study's rows they count from 1.
"""

import json

from . import records
from .markdown import parts, table, with_onsets


# As many as `sonograd heads` chooses where nothing else is said.
SET = 6


def published(material, model):
    known = json.loads((material.models[model] / "config.json").read_text())["alignment_heads"]
    return {tuple(head) for head in known}


def errors(tables, material):
    """The onset error of every head, layer by layer; those of published heads are bold."""
    for g in with_onsets(tables):
        cells, known = {}, published(material, g[0])
        for part in parts(tables, g, "attention", "onset error, mean", 4):
            mean, signed = (float(tables.rows[(*g, "attention", statistic, part)]["mean"])
                            for statistic in ("onset error, mean", "onset error, signed mean"))
            head = tuple(int(number) - 1 for number in part.split()[1::2])
            bold = "**" if head in known else ""
            cells[head] = f"{bold}{mean:.2f} ({signed:+.2f}){bold}"
        layers, numbers = (sorted({head[axis] for head in cells}) for axis in (0, 1))
        yield f"Onset error of every head, mean and signed mean, layers and heads from 0: {' '.join(g)}", table(
            ["layer", *(f"head {number}" for number in numbers)],
            [[layer, *(cells[layer, number] for number in numbers)] for layer in layers])


def rankings(place, material):
    """Ranks of the published heads among all, by each way of ranking; and sets of heads as one clock."""
    ranks, clocks = [], []
    for found in records.read(place, "heads"):
        model, way = found["model"], found["way"]
        listed = [(one["layer"], one["head"]) for one in found["heads"]]
        places = sorted(listed.index(head) + 1 for head in published(material, model))
        ranks.append([
            model, way, found["utterances"], ", ".join(f"{layer}.{head}" for layer, head in listed[:6]),
            ", ".join(map(str, places)), f"{sum(places) / len(places):.1f} of {len(listed)}",
        ])
        for one in found["sets"]:
            own = one["statistics"]["onset error, mean"]
            name = {"all": "all heads", "even": "evenly spaced, no map"}.get(one["by"], f"best {SET} by {one['by']}")
            clocks.append([model, way, name, f"{own['mean']:.3f} [{own['low']:.3f}, {own['high']:.3f}]"])
    yield "Heads ranked, layers and heads from 0", table(
        ["model", "by", "utterances", "the six best", "ranks of the published heads", "their mean"], ranks)
    yield "Sets of heads as one clock, mean onset error", table(["model", "ranked by", "set", "error"], clocks)
