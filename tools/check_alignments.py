#!/usr/bin/env python3
"""Holds what `sonograd align` writes against parsers that others wrote: webvtt-py, srt, praatio, meeteval (CTM).

    pip install webvtt-py==0.6.0 srt==3.5.3 praatio==6.2.2 meeteval==0.4.3
    python check_alignments.py SONOGRAD AUDIO... [-- OPTION...]

Runs SONOGRAD align on the recordings in every format, with the options behind `--`, reads each file with its
parser and compares words and times with the JSON. Exits with 1 if something differs. With Praat on the PATH
the TextGrids are read by Praat itself too.
"""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import srt
import webvtt
from meeteval.io import CTM
from praatio import textgrid

# Half a millisecond: all formats are written in milliseconds.
NEAR = 0.0005001
TIME = re.compile(r"<(\d+):(\d\d):(\d\d\.\d{3})>")

PRAAT = """form Intervals
    sentence File
endform
Read from file: file$
count = Get number of intervals: 1
for i to count
    start = Get start time of interval: 1, i
    end = Get end time of interval: 1, i
    text$ = Get label of interval: 1, i
    appendFileLine: file$ + ".txt", fixed$ (start, 6), tab$, fixed$ (end, 6), tab$, text$
endfor
"""


def align(program, files, options, *more):
    command = [program, "align", *map(str, files), *options, *map(str, more)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def near(a, b):
    return abs(a - b) <= NEAR


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def check_cues(cues, words):
    """cues: (start, end, text without marks). Their words are all words; reliable ones are within their cue."""
    shown = [(word, cue) for cue in cues for word in cue[2].split()]
    expect([word for word, _ in shown] == [part for word in words for part in word["text"].split()], "words")
    expect(all(a[1] <= b[0] + NEAR for a, b in zip(cues, cues[1:])), "cues overlap")
    expect(all(start < end for start, end, _ in cues), "cues without a length")
    flat = [word for word in words for _ in word["text"].split()]
    for word, (_, (start, end, _)) in zip(flat, shown):
        if word["reliable"]:
            expect(start - NEAR <= word["start_seconds"] and word["end_seconds"] <= end + NEAR, f"{word} {start} {end}")


def check_srt(path, words):
    cues = list(srt.parse(path.read_text(), ignore_errors=False))
    check_cues([(c.start.total_seconds(), c.end.total_seconds(), c.content) for c in cues], words)
    return len(cues)


def check_vtt(path, words):
    cues = webvtt.read(str(path)).captions
    plain = [html.unescape(TIME.sub("", cue.raw_text)) for cue in cues]
    check_cues([(c.start_in_seconds + c.start_time.milliseconds / 1000,
                 c.end_in_seconds + c.end_time.milliseconds / 1000, text) for c, text in zip(cues, plain)], words)
    starts = [word["start_seconds"] for word in words if word["reliable"]]
    for cue in cues:
        times = [int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in TIME.findall(cue.raw_text)]
        begin = cue.start_in_seconds + cue.start_time.milliseconds / 1000
        end = cue.end_in_seconds + cue.end_time.milliseconds / 1000
        expect(all(a < b for a, b in zip([begin, *times], [*times, end])), f"timestamps {times} in {begin} to {end}")
        expect(all(any(near(time, start) for start in starts) for time in times), "a timestamp of no word")
    return len(cues)


def check_textgrid(path, words, seconds):
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True)
    expect(grid.tierNames == ("words",), grid.tierNames)
    tier = grid.getTier("words")
    check_intervals([tuple(entry) for entry in tier.entries], words, seconds)
    if shutil.which("praat"):
        script = path.with_suffix(".praat")
        script.write_text(PRAAT)
        subprocess.run(["praat", "--run", script, path.resolve()], check=True, stdout=subprocess.DEVNULL)
        written = Path(f"{path}.txt").read_bytes()
        # Praat's own choice of encoding.
        written = written.decode("utf-16" if written[:1] in (b"\xfe", b"\xff") else "utf-8")
        rows = [line.split("\t") for line in written.splitlines()]
        check_intervals([(float(start), float(end), text) for start, end, text in rows], words, seconds)
    return len(tier.entries)


def check_intervals(entries, words, seconds):
    expect(near(entries[0][0], 0) and near(entries[-1][1], seconds), "the tier's ends")
    expect(all(near(a[1], b[0]) for a, b in zip(entries, entries[1:])), "gaps")
    said = [word for _, _, text in entries for word in text.split()]
    expect(said == [part for word in words for part in word["text"].split()], "words")
    for word in words:
        start, end = word["start_seconds"], word["end_seconds"]
        found = any(near(a, start) and near(b, end) and word["text"] in text for a, b, text in entries)
        expect(found or start == end, f"{word}")


def check_ctm(text, recordings):
    lines = CTM.parse(text, parse_float=float).lines
    expect(len(lines) == sum(len(recording["words"]) for recording in recordings), "lines")
    lines = iter(lines)
    for recording in recordings:
        for word in recording["words"]:
            line = next(lines)
            expect(line.filename == re.sub(r"\s", "_", Path(recording["audio"]).stem), line.filename)
            expect(line.word == re.sub(r"\s", "_", word["text"]), line.word)
            expect(near(line.begin_time, word["start_seconds"]), line)
            expect(near(line.begin_time + line.duration, word["end_seconds"]), line)
            expect(float(line.confidence) == word["confidence"], line)


def main():
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = arguments[split + 1:]
    if split < 2:
        sys.exit(__doc__)
    program, *files = arguments[:split]
    recordings = [json.loads(line) for line in align(program, files, options).splitlines()]
    expect(len(recordings) == len(files), "a line for each recording")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        check_ctm(align(program, files, options, "--format", "ctm"), recordings)
        for file, recording in zip(files, recordings):
            words, counts = recording["words"], []
            for kind, check in (("srt", check_srt), ("vtt", check_vtt)):
                path = folder / f"one.{kind}"
                align(program, [file], options, "--format", kind, "--out", path)
                counts.append(f"{check(path, words)} {kind} cues")
            path = folder / "one.TextGrid"
            align(program, [file], options, "--format", "textgrid", "--out", path)
            counts.append(f"{check_textgrid(path, words, recording['seconds'])} intervals")
            unreliable = sum(not word["reliable"] for word in words)
            print(f"{file}: {len(words)} words, {unreliable} without a reliable time, {', '.join(counts)}: all agree")
            for left in folder.iterdir():
                left.unlink()


if __name__ == "__main__":
    main()
