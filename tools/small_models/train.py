"""Trains a small model by one of the recipes of `recipe.py` on a corpus made by `synthesise.py`.

    python -m small_models.train RECIPE CORPUS_FOLDER RUN_FOLDER [--begin-with MODEL_FOLDER]

RUN_FOLDER holds the tokeniser and `checkpoint.pt`, from which the same command goes on; now and
then the model so far is written to RUN_FOLDER/model as a model folder.
"""

import argparse
import itertools
import math
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from .beginnings import begin_with
from .conformer import Conformer
from .corpus import epoch_batches, read_split
from .evaluate import evaluate
from .model_folder import write_model
from .recipe import RECIPES
from .tokenizer import language_tag, train_tokenizer

BATCH_SIZE = 24
DROPOUT = 0.1
WEIGHT_DECAY = 0.01
LABEL_SMOOTHING = 0.1
CTC_WEIGHT = 0.5
GRADIENT_CLIP = 5.0
MASKS_PER_AXIS = 2
WIDEST_FREQUENCY_MASK = 16
WIDEST_TIME_MASK = 16

CHECKPOINT_SECONDS = 90.0
VALIDATE_EVERY = 1000
VALIDATION_UTTERANCES = 60

# Where a recipe's `begin_with` lies.
WEIGHTS = Path(__file__).parents[2] / "weights"

# Labels that no loss is computed for.
IGNORED = -100


class Trainee(nn.Module):
    """The model and the CTC head that only training uses; its blank is the padding token."""

    def __init__(self, config):
        super().__init__()
        self.model = Conformer(config, DROPOUT)
        self.ctc_head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, features, transcripts, targets):
        """Both losses, in float32; the layers compute in bfloat16, which halves the time.

        features (batch, frames, 80); transcripts: of each utterance the token ids of what is said;
        targets: of each utterance the same number of `Target`s, for which it is encoded once.
        """
        config = self.model.config
        targets_each = len(targets[0])
        labels, inputs = padded_targets([target for several in targets for target in several], config)
        with torch.autocast("cpu", torch.bfloat16):
            memory = self.model.encoder(features)
            logits, _ = self.model.decoder(inputs, memory.repeat_interleave(targets_each, dim=0))
            emissions = self.ctc_head(memory)
        cross_entropy = F.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=LABEL_SMOOTHING,
        )
        ctc = F.ctc_loss(
            F.log_softmax(emissions.float(), dim=-1).transpose(0, 1),
            torch.tensor([token for transcript in transcripts for token in transcript]),
            torch.full((len(transcripts),), memory.shape[1]),
            torch.tensor([len(transcript) for transcript in transcripts]),
            blank=config.pad_token_id,
            zero_infinity=True,
        )
        return cross_entropy, ctc


class Target(NamedTuple):
    tag: list  # the language tag, or nothing: given, not to be predicted
    tokens: list


def padded_targets(targets, config):
    """Labels that end with the end token, and the same one step later as the decoder's input."""
    longest = max(len(target.tag) + len(target.tokens) for target in targets) + 1
    labels = torch.full((len(targets), longest), IGNORED)
    inputs = torch.full((len(targets), longest), config.pad_token_id)
    inputs[:, 0] = config.decoder_start_token_id
    for row, (tag, tokens) in enumerate(targets):
        end = len(tag) + len(tokens)
        labels[row, len(tag) : end + 1] = torch.tensor([*tokens, config.eos_token_id])
        inputs[row, 1 : end + 1] = torch.tensor([*tag, *tokens])
    return labels, inputs


def mask_spectrum(features):
    """SpecAugment: bands of frequency and of time set to the mean, which is 0."""
    _, frames, bins = features.shape
    for utterance in features:
        for _ in range(MASKS_PER_AXIS):
            width = torch.randint(WIDEST_FREQUENCY_MASK + 1, ()).item()
            start = torch.randint(bins - width + 1, ()).item()
            utterance[:, start : start + width] = 0.0
            width = torch.randint(WIDEST_TIME_MASK + 1, ()).item()
            start = torch.randint(frames - width + 1, ()).item()
            utterance[start : start + width] = 0.0
    return features


def learning_rate(recipe, step, progress):
    warm = min(1.0, step / recipe.warm_up_steps)
    return recipe.peak_learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * progress))


def batches_from(examples, first_step, seed):
    """The batches of step first_step + 1 and on, the same whether a run was interrupted or not."""
    endless = (
        batch
        for epoch in itertools.count()
        for batch in epoch_batches(examples, BATCH_SIZE, f"{seed}/{epoch}")
    )
    return itertools.islice(endless, first_step, None)


def prepare_tokenizer(run, examples, recipe, beginning):
    """The run's tokeniser; at first that of the model to begin with if it fits, else a trained one."""
    file = run / "tokenizer.json"
    if file.exists():
        return Tokenizer.from_file(str(file))
    if beginning:
        tokenizer = Tokenizer.from_file(str(beginning / "tokenizer.json"))
        if tokenizer.get_vocab_size() == recipe.vocabulary:
            shutil.copyfile(beginning / "tokenizer.json", file)
            return tokenizer
    tagged = recipe.languages if recipe.tagged else ()
    tokenizer = train_tokenizer((example.entry["text"] for example in examples), recipe.vocabulary, tagged)
    tokenizer.save(str(file))
    return tokenizer


def tokenise(examples, tokenizer, recipe):
    """Of each utterance by name: the transcript's token ids, and a list of `Target`s."""

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    transcripts, targets = {}, {}
    for entry in (example.entry for example in examples):
        transcripts[entry["name"]] = ids(entry["text"])
        targets[entry["name"]] = [
            Target([tokenizer.token_to_id(language_tag(language))] if recipe.tagged else [], ids(text))
            for language, text in sorted(recipe.targets(entry).items())
        ]
    return transcripts, targets


def save(file, state):
    """Whole or not at all: a run may be ended at any moment."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, file)


def train(arguments):
    run, recipe = arguments.run, RECIPES[arguments.recipe]
    steps = arguments.steps or recipe.steps
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    examples = read_split(arguments.corpus, "train")
    validation = read_split(arguments.corpus, "validation")[:VALIDATION_UTTERANCES]
    beginning = arguments.begin_with or (recipe.begin_with and WEIGHTS / recipe.begin_with)
    tokenizer = prepare_tokenizer(run, examples, recipe, beginning)
    transcripts, targets = tokenise(examples, tokenizer, recipe)

    trainee = Trainee(recipe.config)
    optimizer = torch.optim.AdamW(
        trainee.parameters(), lr=recipe.peak_learning_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    step, elapsed = 0, 0.0
    checkpoint_file = run / "checkpoint.pt"
    if checkpoint_file.exists():
        checkpoint = torch.load(checkpoint_file)
        trainee.load_state_dict(checkpoint["trainee"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        step, elapsed = checkpoint["step"], checkpoint["elapsed"]
    elif beginning:
        shared = begin_with(trainee.model, tokenizer, beginning)
        print(f"begins with {beginning.name}, {shared} tokens of which are used")
    print(f"{sum(p.numel() for p in trainee.model.parameters()):,} parameters, {len(examples)} utterances", flush=True)

    if step >= steps:
        return

    started = time.monotonic() - elapsed
    saved_at = time.monotonic()
    progress, losses = 0.0, []
    for batch in batches_from(examples, step, arguments.seed):
        step += 1
        elapsed = time.monotonic() - started
        progress = step / steps
        if arguments.minutes:
            progress = max(progress, elapsed / 60 / arguments.minutes)
        progress = min(progress, 1.0)
        torch.manual_seed(arguments.seed * 1_000_000 + step)
        trainee.train()
        features = mask_spectrum(torch.from_numpy(np.stack([example.features for example in batch])))
        names = [example.entry["name"] for example in batch]
        cross_entropy, ctc = trainee(
            features, [transcripts[name] for name in names], [targets[name] for name in names]
        )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, progress)
        optimizer.zero_grad()
        (cross_entropy + CTC_WEIGHT * ctc).backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), GRADIENT_CLIP)
        optimizer.step()
        losses.append((cross_entropy.item(), ctc.item()))

        finished = progress >= 1.0
        if step % 20 == 0:
            decoder_loss, ctc_loss = np.mean(losses, axis=0)
            losses.clear()
            print(
                f"step {step} at {elapsed / 60:.1f} min, progress {progress:.3f}: "
                f"cross-entropy {decoder_loss:.3f}, CTC {ctc_loss:.3f}", flush=True
            )
        if finished or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            checkpoint = {"trainee": trainee.state_dict(), "optimizer": optimizer.state_dict()}
            save(checkpoint_file, checkpoint | {"recipe": arguments.recipe, "step": step, "elapsed": elapsed})
            saved_at = time.monotonic()
        if step % VALIDATE_EVERY == 0 or finished:
            trainee.eval()
            for group, score in evaluate(trainee.model, tokenizer, validation, recipe.targets).items():
                if " " not in group:
                    print(f"step {step}: validation {group} {score}", flush=True)
            write_model(run / "model", trainee.model, tokenizer, recipe.directions)
        if finished:
            break


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--begin-with", type=Path, help="a model folder in place of the recipe's")
    parser.add_argument("--steps", type=int, help="in place of the recipe's")
    parser.add_argument("--minutes", type=float, help="end the schedule after so long, if the steps last longer")
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
