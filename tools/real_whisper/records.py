"""What was measured, a line for each measurement, in a file that grows; put away with gzip it is read as well."""

import gzip
import json


def read(place, name):
    plain, packed = place / f"{name}.jsonl", place / f"{name}.jsonl.gz"
    if plain.is_file():
        lines = plain.read_bytes().splitlines()
    else:
        lines = gzip.decompress(packed.read_bytes()).splitlines() if packed.is_file() else []
    return [json.loads(line) for line in lines]


def add(place, name, record):
    with (place / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(record, separators=(",", ":")) + "\n")


def keep(place, folder):
    """Puts all records and logs away, compressed; the same bytes for the same records."""
    for path in sorted(place.rglob("*.jsonl")):
        if path.parent.name == "truth":
            continue
        target = folder / path.relative_to(place).with_suffix(".jsonl.gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
