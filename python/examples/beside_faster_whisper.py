#!/usr/bin/env python3
"""sonograd's word times beside faster-whisper's.

    pip install sonograd faster-whisper==1.2.1
    python beside_faster_whisper.py MODEL SOUND...

MODEL is a folder of Whisper in CTranslate2's form, which both read (the tests'
script `tests/real_files` prints a folder with `models/tiny-en` and
`sounds/librivox`). Prints every word's start and end by both, and how far
starts of words that both hear are apart.
"""

import sys
from difflib import SequenceMatcher
from statistics import mean, median

from faster_whisper import WhisperModel

import sonograd


def plain(text):
    return "".join(c for c in text.lower() if c.isalnum() or c == "'")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, *paths = sys.argv[1:]
    listener = sonograd.Listener(folder, device="cpu")
    other = WhisperModel(folder, device="cpu", compute_type="float32")
    apart, words = [], 0
    for path in paths:
        ours = listener.align(path).words
        segments, _ = other.transcribe(
            path, beam_size=1, word_timestamps=True, condition_on_previous_text=False)
        theirs = [word for segment in segments for word in segment.words]
        words += len(ours)
        matched = SequenceMatcher(
            None, [plain(word.text) for word in ours], [plain(word.word) for word in theirs], autojunk=False)
        print(path)
        print(f"  {'sonograd':>15}  {'faster-whisper':>15}")
        for block in matched.get_matching_blocks():
            for k in range(block.size):
                one, two = ours[block.a + k], theirs[block.b + k]
                apart.append(abs(one.start - two.start))
                unsure = "" if one.reliable else "  ?"
                print(f"  {one.start:6.2f} - {one.end:6.2f}  {two.start:6.2f} - {two.end:6.2f}  {one.text}{unsure}")
    if not apart:
        sys.exit("no word was heard by both")
    near = sum(seconds <= 0.2 for seconds in apart)
    print(f"{len(apart)} of {words} words were heard by both; starts are {median(apart):.2f} s apart in the median, "
          f"{mean(apart):.2f} s in the mean, {100 * near / len(apart):.0f}% within 0.2 s")


if __name__ == "__main__":
    main()
