#!/usr/bin/env python3
"""Makes tests/fixtures/statistics.json.gz: correlations by SciPy of lists with and without ties.

    python statistics_fixture.py

Values are rounded to few digits, so that they are exact in both programs and ties are many.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

OUTPUT = Path(__file__).parent.parent / "tests" / "fixtures" / "statistics.json.gz"


def lists(random):
    """Pairs of lists: independent and related, smooth and tied, short and long, skewed."""
    for size in (2, 3, 5, 17, 100, 1000):
        for digits in (0, 1, 6):
            for relation in (0.0, 0.3, -0.9):
                x = random.normal(size=size)
                y = relation * x + (1 - abs(relation)) * random.normal(size=size)
                # Skewed as saliency is: most values small, few large.
                yield np.round(np.exp(2 * x), digits), np.round(y, digits)


def main():
    random = np.random.default_rng(7)
    cases = []
    for x, y in lists(random):
        if len(set(x)) == 1 or len(set(y)) == 1:
            continue
        cases.append({
            "x": x.tolist(),
            "y": y.tolist(),
            "pearson": float(stats.pearsonr(x, y).statistic),
            "spearman": float(stats.spearmanr(x, y).statistic),
            "kendall": float(stats.kendalltau(x, y).statistic),
        })
    made_with = {"scipy": scipy.__version__, "numpy": np.__version__}
    text = json.dumps({"made_with": made_with, "cases": cases}) + "\n"
    OUTPUT.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(cases)} cases, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
