"""When words begin by `sonograd align` in several ways, and by faster-whisper, beside the truth.

What is written is matched with the words that were said by difflib: both lower case, without punctuation
around words; the matching blocks of its SequenceMatcher (no junk). Only matched words count.
"""

import difflib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

import faster_whisper

from . import records

NEAR = 0.2
SETS = ("librivox", "prompts", "samples", "test-sets")
# By name, the options of `sonograd align`. The model in the program has no published heads, and takes the gradient
# by default.
SOURCES = {
    "sonograd align": [],
    "sonograd align --rule whisper": ["--rule", "whisper"],
    "sonograd align --from heads --rule whisper": ["--from", "heads", "--rule", "whisper"],
    "sonograd align --from heads": ["--from", "heads"],
    "sonograd align --from gradient": ["--from", "gradient"],
    "sonograd align --from gradient --at encoder": ["--from", "gradient", "--at", "encoder"],
}
OTHER = f"faster-whisper {faster_whisper.__version__}"


def measure(place, program, name, model, sounds, truth, without=()):
    """Errors of all sources on one set; what was measured before is not measured again."""
    sources = {source: lambda options=options: align(program, model, sounds, options)
               for source, options in SOURCES.items() if model or "--from" not in options}
    if model:
        sources[OTHER] = lambda: peer(model, sounds)
    for source in without:
        del sources[source]
    known = {(record["set"], record["source"]) for record in records.read(place, "words")}
    for source, times in sources.items():
        if (name, source) in known:
            continue
        print(f"{name}: {source}", file=sys.stderr, flush=True)
        begin, used = time.perf_counter(), processor()
        found = times()
        seconds, used = time.perf_counter() - begin, processor() - used
        utterances = {one: compare(truth[one], words) for one, words in found.items()}
        said = sum(len(truth[one]) for one in found)
        records.add(place, "words", {
            "set": name, "source": source, "said": said, "seconds": round(seconds, 1),
            "processor_seconds": round(used, 1), "machine": machine(), "utterances": utterances,
        })


def processor():
    """Seconds of processor time that this program and those that it ran have taken."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def machine():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {platform.machine()}"


def align(program, model, sounds, options):
    """Words by utterance: (text, start, whether reliable)."""
    command = [program, "align", *(["--model", model] if model else []), "--device", "cpu", *options, *sounds.values()]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"sonograd align: {done.stderr.strip()}")
    lines = map(json.loads, done.stdout.splitlines())
    return {name: [(word["text"], word["start_seconds"], word["reliable"]) for word in line["words"]]
            for name, line in zip(sounds, lines, strict=True)}


def peer(model, sounds):
    """The same by faster-whisper as it comes: five beams, its own times of words."""
    listener = faster_whisper.WhisperModel(str(model), device="cpu", compute_type="float32",
                                           cpu_threads=len(os.sched_getaffinity(0)))
    found = {}
    for name, sound in sounds.items():
        segments, _ = listener.transcribe(str(sound), language="en", word_timestamps=True)
        found[name] = [(word.word, float(word.start), None) for segment in segments for word in segment.words]
    return found


def plain(word):
    return word.lower().replace("’", "'").strip().strip(".,;:!?\"-…")


def compare(truth, words):
    """Of each matched word: place among the true words, error in milliseconds, whether called reliable."""
    own, true = [plain(text) for text, _, _ in words], [plain(word["word"]) for word in truth]
    blocks = difflib.SequenceMatcher(None, true, own, autojunk=False).get_matching_blocks()
    pairs = ((block.a + i, block.b + i) for block in blocks for i in range(block.size))
    return [[a, round(1000 * (words[b][1] - truth[a]["onset_seconds"])), words[b][2]] for a, b in pairs]


def scores(record):
    """What the table has of one set and source, in seconds and shares."""
    rows = [row for rows in record["utterances"].values() for row in rows]
    errors = [row[1] / 1000 for row in rows]
    first = [abs(row[1]) / 1000 for row in rows if row[0] == 0]
    near = lambda errors: sum(abs(error) <= NEAR for error in errors) / len(errors)
    found = {
        "words": len(rows), "said": record["said"], "mean": statistics.mean(map(abs, errors)),
        "median": statistics.median(errors), "near": near(errors), "first": statistics.mean(first),
        "latest": max(first), "seconds": record["seconds"], "processor": record["processor_seconds"],
    }
    trusted = [row[1] / 1000 for row in rows if row[2]]
    if rows[0][2] is not None:
        found |= {"reliable": len(trusted) / len(rows), "near of reliable": near(trusted) if trusted else None}
    return found
