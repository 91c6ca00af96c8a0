"""Agreement, onset errors and faithfulness, from the rows of a study."""

from study_tables import best

from .markdown import marked, parts, table, with_onsets

MAPS = ("spes.input", "spes.input, pooled", "spes.encoder", "attention", "gradient.input", "gradient.encoder",
        "random")
# Statistics of onsets, with their digits.
ONSETS = (("onset error, mean", 3), ("onset error, signed mean", 3), ("onset within 200 ms", 0))
# What tells when words begin: a name, the map, and the part of the attention.
CLOCKS = (
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


def by_spes(tables):
    """Coverage is 100 times rho with SM^H, so that of heads and layers is in their table too."""
    rows = []
    for g in tables.groups:
        rows.append([
            " ".join(g), tables.rows[(*g, "spes.encoder", "pearson", "all")]["utterances"],
            tables.mean(g, ("", "word error rate", ""), 1),
            *(value for site in ("spes.input", "spes.encoder") for value in (
                marked(tables, g, (site, "pearson", "all")),
                marked(tables, g, (site, "pearson, corrected", "all")),
                tables.mean(g, (site, "reliability", "")))),
            marked(tables, g, ("spes.encoder - spes.input", "gap", "all")),
            marked(tables, g, ("spes.encoder", "coverage", "all"), 1),
        ])
    yield "Agreement of attention with SPES", table(
        ["model", "utterances", "word error rate", "rho(CA, SM^X)", "corrected", "reliability of SM^X",
         "rho(CA, SM^H)", "corrected", "reliability of SM^H", "gap", "coverage"], rows)
    yield heads_and_layers(tables, {"spes.input": "SM^X", "spes.encoder": "SM^H"})


def by_gradient(tables):
    """Gradients need no masks: their maps are exact, and of more utterances."""
    yield "Agreement of attention with gradients", table(
        ["model", "utterances", "word error rate", "rho with gradient at X", "with gradient at H",
         "norm-weighted, at X", "norm-weighted, at H"],
        [[
            " ".join(g), tables.rows[(*g, "gradient.encoder", "pearson", "all")]["utterances"],
            tables.mean(g, ("", "word error rate", ""), 1),
            *(marked(tables, g, (site, "pearson", part)) for part in ("all", "norm-weighted all")
              for site in ("gradient.input", "gradient.encoder")),
        ] for g in tables.groups])
    yield heads_and_layers(tables, {"gradient.input": "gradient at X", "gradient.encoder": "gradient at H"})


def heads_and_layers(tables, sites):
    rows = []
    for site, symbol in sites.items():
        for g in tables.groups:
            layers, heads = (parts(tables, g, site, "pearson", words) for words in (2, 4))
            values = [float(tables.rows[(*g, site, "pearson", head)]["mean"]) for head in heads]
            rows.append([
                " ".join(g), symbol, " ".join(tables.mean(g, (site, "pearson", layer), 2) for layer in layers),
                best(tables, g, layers, site), best(tables, g, heads, site), f"{sum(values) / len(values):.3f}",
                tables.mean(g, (site, "pearson", "all")),
            ])
    return "Heads and layers", table(
        ["model", "with", "layers, first to last", "best layer", "best head", "mean of single heads", "all"], rows)


def mean_onset_error(tables):
    return onsets(tables, [("onset error, mean", 3)])


def onsets(tables, statistics=ONSETS):
    timed = with_onsets(tables)
    layers = sorted({layer for g in timed for layer in parts(tables, g, "attention", "onset error, mean", 2)})
    clocks = [("attention, all heads", "attention", "all"),
              *((f"attention, {layer}", "attention", layer) for layer in layers), *CLOCKS]
    known = {(source, part) for (*_, source, _, part) in tables.rows}
    clocks = [clock for clock in clocks if clock[1:] in known]
    for statistic, digits in statistics:
        yield f"{statistic[0].upper()}{statistic[1:]}", table(
            ["", *(" ".join(g) for g in timed)],
            [[name, *(marked(tables, g, (source, statistic, part), digits) for g in timed)]
             for name, source, part in clocks])


def faithfulness(tables):
    for statistic, digits in (("deletion area, word error rate", 1), ("insertion area, word error rate", 1),
                              ("size area", 3), ("sensitivity-n, mean", 3)):
        yield f"{statistic[0].upper()}{statistic[1:]}", table(
            ["model", "utterances", *MAPS],
            [[" ".join(g), tables.rows[(*g, "attention", statistic, "")]["utterances"],
              *(tables.mean(g, (name, statistic, ""), digits) for name in MAPS)] for g in tables.groups])
