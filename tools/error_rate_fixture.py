#!/usr/bin/env python3
"""Makes tests/fixtures/error_rate.json: word error rates by jiwer and BLEU by sacreBLEU.

    python error_rate_fixture.py

The corpora are made of sentences of this file and of random words, with words put in, left out and
replaced, so that every kind of error, empty lines and punctuation occur.
"""

import json
import random
from pathlib import Path

import jiwer
import sacrebleu

OUTPUT = Path(__file__).parent.parent / "tests" / "fixtures" / "error_rate.json"

SENTENCES = [
    "the train from boston to barcelona leaves at five twenty",
    "Clara saw the golden dog behind the hotel, tonight.",
    "3,5 per cent of 1.000 umbrellas (and 42 turtles) cost $12.50!",
    "il treno per Firenze parte alle 7:45 - forse; chi lo sa?",
    "the the the the the",
    "\"well\" she said & left <at> noon's end, in 2020-21.",
    "a",
]


def disturbed(words, share, draw):
    """The words with a share of them left out, replaced, or followed by another."""
    result = []
    for word in words:
        kind = draw.random()
        if kind < share / 3:
            continue
        result.append("other" if kind < 2 * share / 3 else word)
        if 2 * share / 3 <= kind < share:
            result.append(draw.choice(["the", "more", word]))
    return result


def case(references, hypotheses):
    # jiwer takes no empty reference.
    pairs = [(r, h) for r, h in zip(references, hypotheses) if r.split()]
    words = jiwer.process_words([r for r, _ in pairs], [h for _, h in pairs])
    bleu = sacrebleu.corpus_bleu(hypotheses, [references])
    return {
        "references": references,
        "hypotheses": hypotheses,
        "errors": words.substitutions + words.deletions + words.insertions,
        "word_error_rate": 100 * words.wer,
        "bleu": bleu.score,
    }


def main():
    draw = random.Random(11)
    cases = []
    for share in (0.0, 0.1, 0.3, 0.6, 0.9):
        for count in (1, 3, len(SENTENCES)):
            references = draw.sample(SENTENCES, count)
            cases.append(case(references, [" ".join(disturbed(r.split(), share, draw)) for r in references]))
    vocabulary = [f"w{n}" for n in range(12)]
    for length in (1, 2, 4, 15):
        references = [" ".join(draw.choices(vocabulary, k=length)) for _ in range(8)]
        cases.append(case(references, [" ".join(disturbed(r.split(), 0.3, draw)) for r in references]))
    cases.append(case(["one two three"], [""]))
    cases.append(case(["one two three four five"], ["six"]))
    made_with = {"jiwer": jiwer.__version__ if hasattr(jiwer, "__version__") else "4",
                 "sacrebleu": sacrebleu.__version__}
    OUTPUT.write_text(json.dumps({"made_with": made_with, "cases": cases}, indent=1) + "\n")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
