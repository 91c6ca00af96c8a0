"""Word error rate of a model folder on a split of the corpus, greedy decoding.

    python -m small_models.evaluate MODEL_FOLDER CORPUS_FOLDER [--split held_out] [--errors]
"""

import argparse
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Tokenizer

from .corpus import read_split
from .model_folder import read_model


def word_errors(reference, hypothesis):
    """The least number of words substituted, deleted and inserted."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def transcribe(model, tokenizer, features):
    return tokenizer.decode(model.greedy(torch.from_numpy(features)))


def family(entry):
    """The group that error rates are reported for: the accent, or the flite voice."""
    return f"{entry['synthesizer']} {entry['voice'].split('+')[0]}"


def evaluate(model, tokenizer, examples, report=None):
    """Errors and words by voice family, and in all under "all"."""
    errors, words = Counter(), Counter()
    for example in examples:
        reference = example.entry["text"]
        hypothesis = transcribe(model, tokenizer, example.features)
        wrong = word_errors(reference.split(), hypothesis.split())
        if wrong and report:
            report(f"{example.entry['name']} {family(example.entry)}\n  {reference}\n  {hypothesis}")
        for group in ("all", family(example.entry)):
            errors[group] += wrong
            words[group] += len(reference.split())
    return errors, words


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--split", default="held_out")
    parser.add_argument("--errors", action="store_true", help="print the utterances that came out wrong")
    arguments = parser.parse_args()
    model = read_model(arguments.model_folder)
    tokenizer = Tokenizer.from_file(str(arguments.model_folder / "tokenizer.json"))
    examples = read_split(arguments.corpus, arguments.split)
    errors, words = evaluate(model, tokenizer, examples, print if arguments.errors else None)
    print(f"{len(examples)} utterances")
    for group in sorted(words):
        print(f"{group:26} {errors[group]:4} of {words[group]:5} words  {errors[group] / words[group]:.2%}")


if __name__ == "__main__":
    main()
