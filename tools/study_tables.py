#!/usr/bin/env python3
"""Prints the tables of docs/study-results.md from a study's tables.csv.

Onset tables have a row for each model; on that page they are turned.

    sonograd study --tables ../docs/study && python study_tables.py ../docs/study/tables.csv
"""

import csv
import sys

MAPS = ("spes.input", "spes.input, pooled", "attention", "attention-norm", "attention-x-gradient",
        "gradient.encoder", "gradient.input", "spes.encoder", "random")
CLOCKS = ("spes.input", "gradient.input", "even", "spes.encoder", "gradient.encoder", "attention-norm",
          "attention-x-gradient")
HEADS = ("all", "best head by onset error", "best head by spes.encoder", "best head by spes.input",
         "best head by gradient.encoder")


class Tables:
    def __init__(self, path):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        self.rows = {
            (r["model"], r["direction"], r["map"], r["statistic"], r["attention"]): r for r in rows
        }
        self.groups = list(dict.fromkeys((r["model"], r["direction"]) for r in rows))

    def value(self, group, key, digits=3):
        row = self.rows.get((*group, *key))
        if row is None:
            return "-"
        mean, low, high = (f"{float(row[name]):.{digits}f}" for name in ("mean", "low", "high"))
        if digits == 3:
            mean, low, high = (x.replace("0.", ".", 1) if x.lstrip("-").startswith("0.") else x
                               for x in (mean, low, high))
        return f"{mean} [{low}, {high}]"

    def mean(self, group, key, digits=3):
        row = self.rows.get((*group, *key))
        return "-" if row is None else f"{float(row['mean']):.{digits}f}"

    def attentions(self, group, kind):
        """Parts of the attention of one kind, such as `layer 2`, in order."""
        found = [k[4] for k in self.rows if k[:4] == (*group, "spes.encoder", "pearson")]
        return [name for name in found if kind(name.split())]


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def best(tables, group, names, site):
    """The part of the attention that agrees best, with its value."""
    known = [(float(tables.rows[(*group, site, "pearson", n)]["mean"]), n) for n in names]
    value, name = max(known)
    return f"{value:.3f} ({name})"


def main():
    tables = Tables(sys.argv[1])
    groups = tables.groups

    def name(group):
        return f"{group[0]} {group[1]}"

    print("### Agreement\n")
    table(
        ["model", "utterances", "word error rate", "rho(CA, SM^X)", "rho(CA, SM^H)", "gap", "coverage"],
        [[
            name(g), tables.rows[(*g, "spes.encoder", "pearson", "all")]["utterances"],
            tables.value(g, ("", "word error rate", ""), 1),
            tables.value(g, ("spes.input", "pearson", "all")),
            tables.value(g, ("spes.encoder", "pearson", "all")),
            tables.value(g, ("spes.encoder - spes.input", "gap", "all")),
            tables.value(g, ("spes.encoder", "coverage", "all"), 1),
        ] for g in groups],
    )
    table(
        ["model", "corrected, SM^X", "corrected, SM^H", "Spearman, SM^H", "Kendall, SM^H",
         "norm-weighted, SM^H", "times gradient, SM^H", "gradient at H", "reliability SM^X", "SM^H"],
        [[
            name(g),
            *(tables.mean(g, (site, "pearson, corrected", "all")) for site in ("spes.input", "spes.encoder")),
            *(tables.mean(g, ("spes.encoder", kind, "all")) for kind in ("spearman", "kendall")),
            *(tables.mean(g, ("spes.encoder", "pearson", f"{kind} all"))
              for kind in ("norm-weighted", "gradient-weighted")),
            tables.mean(g, ("gradient.encoder", "pearson", "all")),
            *(tables.mean(g, (site, "reliability", "")) for site in ("spes.input", "spes.encoder")),
        ] for g in groups],
    )
    print("### Heads and layers, with SM^H\n")
    layers = [tables.attentions(g, lambda w: w[0] == "layer" and len(w) == 2) for g in groups]
    heads = [tables.attentions(g, lambda w: w[0] == "layer" and len(w) == 4) for g in groups]
    table(
        ["model", "layers, first to last", "best layer", "best head", "mean of single heads", "all"],
        [[
            name(g), " ".join(tables.mean(g, ("spes.encoder", "pearson", n), 2) for n in own),
            best(tables, g, own, "spes.encoder"), best(tables, g, single, "spes.encoder"),
            f"{sum(float(tables.rows[(*g, 'spes.encoder', 'pearson', n)]['mean']) for n in single) / len(single):.3f}",
            tables.mean(g, ("spes.encoder", "pearson", "all")),
        ] for g, own, single in zip(groups, layers, heads)],
    )
    for statistic, digits in (
        ("deletion area, word error rate", 1), ("insertion area, word error rate", 1), ("size area", 3),
        ("infidelity, share", 3), ("sensitivity-n, mean", 3),
    ):
        print(f"### {statistic}\n")
        table(["model", *MAPS],
              [[name(g), *(tables.mean(g, (m, statistic, ""), digits) for m in MAPS)] for g in groups])
    timed = [g for g in groups if (*g, "even", "onset error, mean", "") in tables.rows]
    for statistic, digits in (
        ("onset error, mean", 3), ("onset error, median", 3), ("onset within 100 ms", 0), ("pointing game", 0),
    ):
        print(f"### {statistic}\n")
        table(
            ["model", *(h if h != "all" else "attention, all" for h in HEADS), *CLOCKS],
            [[
                name(g), *(tables.value(g, ("attention", statistic, h), digits) for h in HEADS),
                *(tables.value(g, (m, statistic, ""), digits) if m in ("spes.input", "gradient.input", "even")
                  else tables.mean(g, (m, statistic, ""), digits) for m in CLOCKS),
            ] for g in timed],
        )
    print("### Checks\n")
    checked = ("spes.input", "spes.encoder")
    table(
        ["model", *(f"seeds, {m}" for m in checked), *(f"seeds, {m}, full" for m in checked),
         *(f"shuffled {level}, {m}" for level in ("decoder", "all weights")
           for m in ("attention", "spes.encoder", "spes.input", "gradient.encoder", "gradient.input"))],
        [[
            name(g), *(tables.mean(g, (m, "seed agreement", "")) for m in checked),
            *(tables.mean(g, (m, "seed agreement, full resolution", "")) for m in checked),
            *(tables.mean(g, (m, f"randomised {level}", "")) for level in ("decoder", "all weights")
              for m in ("attention", "spes.encoder", "spes.input", "gradient.encoder", "gradient.input")),
        ] for g in groups],
    )


if __name__ == "__main__":
    main()
