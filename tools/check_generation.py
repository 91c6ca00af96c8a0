#!/usr/bin/env python3
"""Checks that the search described in tests/fixtures/generation/README.md gives the outputs stored there.

    python check_generation.py [FOLDER ...]

plain_search.py is that search. If it gives all the outputs, the description is complete.
"""

import argparse
import sys
from pathlib import Path

from generation_fixtures import FIXTURES, features_of, read_cases
from plain_search import outputs_of
from references.recogniser import open_recogniser


def check(folder):
    model = open_recogniser(folder)
    values = read_cases(folder)
    wrong = {}
    jobs = [(case, values["settings"]) for case in values["inputs"]]
    jobs += [(case, {"long": values["settings"]["timestamps"]}) for case in values.get("long_inputs", [])]
    for case, settings in jobs:
        features = features_of(case["seed"], case["frames"])
        made = outputs_of(model, case, features, settings)
        for name in settings:
            if made["outputs"][name] != case["outputs"][name]:
                wrong.setdefault(name, []).append(case["seed"])
        if made["language"] != case["language"] or made.get("windows") != case.get("windows"):
            wrong.setdefault("language or windows", []).append(case["seed"])
    print(f"{folder.name}: {len(jobs)} inputs, wrong: {wrong}")
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    folders = parser.parse_args().folders or sorted(path for path in FIXTURES.iterdir() if path.is_dir())
    return 0 if all([check(folder) for folder in folders]) else 1


if __name__ == "__main__":
    sys.exit(main())
