#!/usr/bin/env python3
"""The study on real Whisper and human speech, and word times beside faster-whisper's, with one command.

    pip install faster-whisper==1.2.1 pocketsphinx==5.1.1
    python real_whisper.py PROGRAM --out FOLDER

PROGRAM is a release build of sonograd. Models and recordings are fetched into the user's cache (pip, and Debian's
apt-get download). FOLDER gets the true onsets, the logs, tables and pages of the studies, and `tables.md`. A run that
was stopped goes on where it was. `--only` does a part; what is measured once is not measured again.

What was kept with `--keep` makes the tables again:

    python real_whisper.py PROGRAM --out ../docs/real-whisper --only tables --page ../docs/real-whisper.md
"""

import argparse
import json
import sys
from pathlib import Path

from real_whisper import heads, material, pages, records, sets, studies, truth, words

PARTS = ("words", "gradient", "heads", "spes", "faithfulness", "tables")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="a release build of sonograd")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="put logs and measurements there too, compressed")
    parser.add_argument("--page", type=Path, metavar="FILE", help="replace what stands behind its heading Tables")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given several times")
    return parser.parse_args()


def prepare(place, found):
    """True onsets, and the utterances of each set that have them; of Italian nobody tells onsets."""
    folder = place / "truth"
    folder.mkdir(parents=True, exist_ok=True)
    utterances, left_out = {}, {}
    for name, all_of_it in {"librivox": sets.librivox(found), "prompts": sets.prompts(found, "english")}.items():
        kept = folder / f"{name}.left-out.json"
        if not kept.is_file():
            _, bad = truth.onsets(folder / f"{name}.jsonl", all_of_it)
            kept.write_text(json.dumps(bad, indent=1) + "\n")
        left_out[name] = json.loads(kept.read_text())
        utterances[name] = [one for one in all_of_it if one.name not in left_out[name]]
    italian = sets.prompts(found, "italian")
    return utterances | {"italian": italian, "italian-english": sets.translated(found, italian)}


def main():
    arguments = parse()
    place, program = arguments.out.resolve(), arguments.program.resolve()
    parts = arguments.only or PARTS
    found = material.have()
    if parts != ["tables"]:
        utterances = prepare(place, found)
    for part in parts:
        if part in studies.STUDIES:
            for model in studies.STUDIES[part]:
                studies.run(place, program, found, utterances, part, model)
        elif part == "words":
            words.run(place, program, found, utterances)
        elif part == "heads":
            heads.run(place, program, found, utterances)
        else:
            pages.write(place, program, found, arguments.page)
    if arguments.keep:
        records.keep(place, arguments.keep.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
