"""Tables in Markdown, for ../docs/real-whisper.md, from what the other modules have measured."""

import json
import subprocess
import sys

import study_tables
from study_tables import Tables

from . import clocks, studies

MAPS = ("attention", "spes.input", "spes.input, pooled", "spes.encoder", "gradient.input", "gradient.encoder",
        "attention-norm", "attention-x-gradient", "random")
FEW = 5
# What tells when words begin, as the study's rows have it: a name, the map, and the part of the attention.
CLOCKS = (
    ("attention, all heads", "attention", "all"),
    ("best head by onset error", "attention", "best head by onset error"),
    ("best head by SM^H", "attention", "best head by spes.encoder"),
    ("best head by SM^X", "attention", "best head by spes.input"),
    ("best head by gradient at H", "attention", "best head by gradient.encoder"),
    ("norm-weighted attention", "attention-norm", ""),
    ("SM^X", "spes.input", ""),
    ("SM^H", "spes.encoder", ""),
    ("gradient at X", "gradient.input", ""),
    ("gradient at H", "gradient.encoder", ""),
    ("evenly spaced, no map", "even", ""),
)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def words(place):
    """Onset errors by set and source, what is called reliable, and how long it took."""
    records = [json.loads(path.read_text()) for path in sorted((place / "words").glob("*.json"))]
    errors, trusted = [], []
    for record in records:
        own = clocks.scores(record)
        errors.append([
            record["set"], record["source"], f"{own['words']} of {own['said']}", f"{own['mean']:.3f}",
            f"{own['median']:+.3f}", f"{own['near']:.0%}", f"{own['first']:.3f}", f"{own['latest']:.3f}",
            f"{own['seconds']:.0f}", f"{own['processor']:.0f}",
        ])
        if "reliable" in own:
            near = own["near of reliable"]
            trusted.append([record["set"], record["source"], f"{own['reliable']:.0%}",
                            "-" if near is None else f"{near:.0%}"])
    yield "Word times, seconds", table(
        ["set", "by", "words", "mean error", "signed median", "within 0.2 s", "first words", "their largest",
         "took", "processor"], errors)
    yield "Words called reliable", table(["set", "by", "reliable", "of these within 0.2 s"], trusted)


def made(program, folder):
    """The tables of a study's logs; also writes its page."""
    done = subprocess.run([program, "study", "--tables", folder], stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    return Tables(folder / "tables.csv")


def marked(tables, group, key, digits=3):
    """A value; of fewer than five utterances its interval is the range of resampled means and no 95% interval."""
    row = tables.rows.get((*group, *key))
    if row is None:
        return "-"
    few = "*" if int(row["utterances"]) < FEW else ""
    return tables.value(group, key, digits) + few


def agreement(tables):
    name = " ".join
    yield "Agreement of attention with saliency", table(
        ["model", "utterances", "word error rate", "rho(CA, SM^X)", "corrected", "rho(CA, SM^H)", "corrected", "gap",
         "coverage", "reliability SM^X", "SM^H", "gradient at X", "gradient at H"],
        [[
            name(g), tables.rows[(*g, "spes.encoder", "pearson", "all")]["utterances"],
            tables.mean(g, ("", "word error rate", ""), 1),
            marked(tables, g, ("spes.input", "pearson", "all")),
            tables.mean(g, ("spes.input", "pearson, corrected", "all")),
            marked(tables, g, ("spes.encoder", "pearson", "all")),
            tables.mean(g, ("spes.encoder", "pearson, corrected", "all")),
            marked(tables, g, ("spes.encoder - spes.input", "gap", "all")),
            marked(tables, g, ("spes.encoder", "coverage", "all"), 1),
            tables.mean(g, ("spes.input", "reliability", "")), tables.mean(g, ("spes.encoder", "reliability", "")),
            tables.mean(g, ("gradient.input", "pearson", "all")),
            tables.mean(g, ("gradient.encoder", "pearson", "all")),
        ] for g in tables.groups])
    for site, symbol in (("spes.encoder", "SM^H"), ("spes.input", "SM^X")):
        rows = []
        for g in tables.groups:
            layers = tables.attentions(g, lambda w: w[0] == "layer" and len(w) == 2)
            heads = tables.attentions(g, lambda w: w[0] == "layer" and len(w) == 4)
            values = [float(tables.rows[(*g, site, "pearson", head)]["mean"]) for head in heads]
            rows.append([
                name(g), " ".join(tables.mean(g, (site, "pearson", layer), 2) for layer in layers),
                study_tables.best(tables, g, layers, site), study_tables.best(tables, g, heads, site),
                f"{sum(values) / len(values):.3f}", tables.mean(g, (site, "pearson", "all")),
            ])
        yield f"Heads and layers, with {symbol}", table(
            ["model", "layers, first to last", "best layer", "best head", "mean of single heads", "all"], rows)
    rows = []
    for g in tables.groups:
        for part in tables.attentions(g, lambda w: w[0] == "layer" and len(w) == 2):
            rows.append([name(g), part, *(marked(tables, g, ("spes.encoder", "coverage", part), 1) for _ in "1")])
        rows.append([name(g), "all", marked(tables, g, ("spes.encoder", "coverage", "all"), 1)])
    yield "Coverage by layer, percent", table(["model", "attention", "coverage"], rows)


def onsets(tables):
    timed = [g for g in tables.groups if (*g, "even", "onset error, mean", "") in tables.rows]
    for statistic, digits in (("onset error, mean", 3), ("onset error, signed mean", 3), ("onset within 200 ms", 0),
                              ("pointing game", 0)):
        rows = [[label, *(marked(tables, g, (source, statistic, part), digits) for g in timed)]
                for label, source, part in clock_rows(tables, timed)]
        yield f"Onsets: {statistic}", table(["", *(" ".join(g) for g in timed)], rows)


def clock_rows(tables, groups):
    """All heads, then layers, then the rest."""
    layers = []
    for g in groups:
        for layer in tables.attentions(g, lambda w: w[0] == "layer" and len(w) == 2):
            if layer not in layers:
                layers.append(layer)
    return [CLOCKS[0], *((f"attention, {layer}", "attention", layer) for layer in layers), *CLOCKS[1:]]


def faithfulness(tables):
    for statistic, digits in (("deletion area, word error rate", 1), ("insertion area, word error rate", 1),
                              ("size area", 3), ("sensitivity-n, mean", 3)):
        yield f"Faithfulness: {statistic}", table(
            ["model", "utterances", *MAPS],
            [[" ".join(g), tables.rows[(*g, "attention", statistic, "")]["utterances"],
              *(tables.mean(g, (m, statistic, ""), digits) for m in MAPS)] for g in tables.groups])


def write(place, program):
    """All tables that there is something for."""
    sections = list(words(place)) if (place / "words").is_dir() else []
    for study, makers in (("agreement", (agreement, onsets)), ("faithfulness", (faithfulness,))):
        if any((place / study).glob("*.jsonl*")):
            tables = made(program, place / study)
            sections += [section for maker in makers for section in maker(tables)]
    text = "".join(f"### {title}\n\n{body}\n" for title, body in sections)
    (place / "tables.md").write_text(text)
