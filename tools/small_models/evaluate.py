"""Word error rate and BLEU of a model folder on a split of the corpus, greedy decoding.

    python -m small_models.evaluate MODEL_FOLDER CORPUS_FOLDER [--translate] [--split held_out] [--errors | --markdown]

Each direction (spoken language>written language) is scored by itself, transcription by voice too.
A translation's word error rate is against the grammar's own translation, as BLEU is.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import jiwer
import sacrebleu
import torch
from tokenizers import Tokenizer

from .corpus import read_split
from .model_folder import read_model
from .tokenizer import language_tag


class Score(NamedTuple):
    utterances: int
    words: int
    errors: int  # words substituted, deleted and inserted
    bleu: float

    def __str__(self):
        return (
            f"{self.utterances:4} utterances  {self.errors:4} of {self.words:5} words wrong  "
            f"{self.errors / self.words:7.2%}  BLEU {self.bleu:5.1f}"
        )


def score(references, hypotheses):
    measured = jiwer.process_words(references, hypotheses)
    errors = measured.substitutions + measured.deletions + measured.insertions
    bleu = sacrebleu.corpus_bleu(hypotheses, [references]).score
    return Score(len(references), sum(len(text.split()) for text in references), errors, bleu)


def written(model, tokenizer, features, language):
    """What the model writes about `features` (frames, 80) in `language`, where it knows tags."""
    tag = tokenizer.token_to_id(language_tag(language))
    tokens = model.greedy(torch.from_numpy(features), () if tag is None else (tag,))
    return tokenizer.decode(tokens)


def voice_family(entry):
    """The group that word error rates are reported for: the accent, or the voice of its own."""
    return f"{entry['synthesizer']} {entry['voice'].split('+')[0]}"


def evaluate(model, tokenizer, examples, targets_of, report=None):
    """{group: Score}; `targets_of` gives {language: text} of a manifest entry."""
    texts = defaultdict(list)
    for example in examples:
        entry = example.entry
        for language, reference in targets_of(entry).items():
            hypothesis = written(model, tokenizer, example.features, language)
            direction = f"{entry['language']}>{language}"
            if hypothesis != reference and report:
                report(f"{entry['name']} {direction} {voice_family(entry)}\n  {reference}\n  {hypothesis}")
            texts[direction].append((reference, hypothesis))
            if language == entry["language"]:
                texts[f"{direction} {voice_family(entry)}"].append((reference, hypothesis))
    return {group: score(*map(list, zip(*lines))) for group, lines in sorted(texts.items())}


def markdown(scores):
    """The scores as two tables for a model card: directions, and voices."""
    lines = []
    for title, chosen in (
        ("direction", {group: value for group, value in scores.items() if " " not in group}),
        ("voices", {group: value for group, value in scores.items() if " " in group}),
    ):
        lines += [f"| {title} | words | errors | word error rate | BLEU |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [
            f"| {group} | {value.words} | {value.errors} | {value.errors / value.words:.2%} | {value.bleu:.1f} |"
            for group, value in chosen.items()
        ]
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--split", default="held_out")
    parser.add_argument("--translate", action="store_true", help="score translation too")
    parser.add_argument("--markdown", action="store_true", help="print the tables of a model card")
    parser.add_argument("--errors", action="store_true", help="print the utterances that came out wrong")
    arguments = parser.parse_args()
    model = read_model(arguments.model_folder)
    tokenizer = Tokenizer.from_file(str(arguments.model_folder / "tokenizer.json"))
    known = [language for language in ("en", "it") if tokenizer.token_to_id(language_tag(language)) is not None]

    def targets_of(entry):
        texts = {entry["language"]: entry["text"]}
        return texts | entry["translations"] if arguments.translate else texts

    examples = read_split(arguments.corpus, arguments.split)
    examples = [example for example in examples if example.entry["language"] in (known or ["en"])]
    scores = evaluate(model, tokenizer, examples, targets_of, print if arguments.errors else None)
    if arguments.markdown:
        print(markdown(scores))
    else:
        for group, value in scores.items():
            print(f"{group:28} {value}")


if __name__ == "__main__":
    main()
