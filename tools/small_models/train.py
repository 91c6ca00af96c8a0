"""Trains a small model on a corpus made by `synthesise.py`.

    python -m small_models.train CORPUS_FOLDER RUN_FOLDER [--steps 4500] [--minutes 70]

RUN_FOLDER holds the tokeniser and `checkpoint.pt`, from which an interrupted run goes on; now and
then the model so far is written to RUN_FOLDER/model as a model folder.
"""

import argparse
import itertools
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from .conformer import Config, Conformer
from .corpus import epoch_batches, read_split
from .evaluate import evaluate
from .model_folder import write_model
from .tokenizer import train_tokenizer

BATCH_SIZE = 24
DROPOUT = 0.1
PEAK_LEARNING_RATE = 2e-3
WARM_UP_STEPS = 400
WEIGHT_DECAY = 0.01
LABEL_SMOOTHING = 0.1
CTC_WEIGHT = 0.5
GRADIENT_CLIP = 5.0
MASKS_PER_AXIS = 2
WIDEST_FREQUENCY_MASK = 16
WIDEST_TIME_MASK = 16

CHECKPOINT_EVERY = 100
VALIDATE_EVERY = 200
VALIDATION_UTTERANCES = 100


class Trainee(nn.Module):
    """The model and the CTC head that only training uses; its blank is the padding token."""

    def __init__(self, config):
        super().__init__()
        self.model = Conformer(config, DROPOUT)
        self.ctc_head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, features, targets):
        """Both losses, in float32; the layers compute in bfloat16, which halves the time."""
        config = self.model.config
        labels, inputs = padded_targets(targets, config)
        with torch.autocast("cpu", torch.bfloat16):
            memory = self.model.encoder(features)
            logits, _ = self.model.decoder(inputs, memory)
            emissions = self.ctc_head(memory)
        cross_entropy = F.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=config.pad_token_id,
            label_smoothing=LABEL_SMOOTHING,
        )
        ctc = F.ctc_loss(
            F.log_softmax(emissions.float(), dim=-1).transpose(0, 1),
            torch.tensor([token for target in targets for token in target]),
            torch.full((len(targets),), memory.shape[1]),
            torch.tensor([len(target) for target in targets]),
            blank=config.pad_token_id,
            zero_infinity=True,
        )
        return cross_entropy, ctc


def padded_targets(targets, config):
    """Labels that end with the end token, and the same one step later as the decoder's input."""
    longest = max(map(len, targets)) + 1
    labels = torch.full((len(targets), longest), config.pad_token_id)
    inputs = labels.clone()
    inputs[:, 0] = config.decoder_start_token_id
    for row, target in enumerate(targets):
        labels[row, : len(target)] = torch.tensor(target)
        labels[row, len(target)] = config.eos_token_id
        inputs[row, 1 : len(target) + 1] = torch.tensor(target)
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


def learning_rate(step, progress):
    return PEAK_LEARNING_RATE * min(1.0, step / WARM_UP_STEPS) * 0.5 * (1.0 + math.cos(math.pi * progress))


def batches_from(examples, first_step, seed):
    """The batches of step first_step + 1 and on, the same whether a run was interrupted or not."""
    endless = (
        batch
        for epoch in itertools.count()
        for batch in epoch_batches(examples, BATCH_SIZE, f"{seed}/{epoch}")
    )
    return itertools.islice(endless, first_step, None)


def prepare_tokenizer(run, examples, config):
    file = run / "tokenizer.json"
    if not file.exists():
        train_tokenizer((example.entry["text"] for example in examples), config.vocab_size).save(str(file))
    return Tokenizer.from_file(str(file))


def train(arguments):
    run = arguments.run
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    examples = read_split(arguments.corpus, "train")
    validation = read_split(arguments.corpus, "validation")[:VALIDATION_UTTERANCES]
    config = Config()
    tokenizer = prepare_tokenizer(run, examples, config)
    targets = {
        example.entry["name"]: tokenizer.encode(example.entry["text"], add_special_tokens=False).ids
        for example in examples
    }

    trainee = Trainee(config)
    optimizer = torch.optim.AdamW(
        trainee.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    step, elapsed = 0, 0.0
    checkpoint_file = run / "checkpoint.pt"
    if checkpoint_file.exists():
        checkpoint = torch.load(checkpoint_file)
        trainee.load_state_dict(checkpoint["trainee"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        step, elapsed = checkpoint["step"], checkpoint["elapsed"]
    print(f"{sum(p.numel() for p in trainee.model.parameters()):,} parameters, {len(examples)} utterances", flush=True)

    started = time.monotonic() - elapsed
    progress, losses = 0.0, []
    for batch in batches_from(examples, step, arguments.seed):
        step += 1
        elapsed = time.monotonic() - started
        progress = step / arguments.steps
        if arguments.minutes:
            progress = max(progress, elapsed / 60 / arguments.minutes)
        progress = min(progress, 1.0)
        torch.manual_seed(arguments.seed * 1_000_000 + step)
        trainee.train()
        features = mask_spectrum(torch.from_numpy(np.stack([example.features for example in batch])))
        cross_entropy, ctc = trainee(features, [targets[example.entry["name"]] for example in batch])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, progress)
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
        if step % CHECKPOINT_EVERY == 0 or finished:
            checkpoint = {"trainee": trainee.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(checkpoint | {"step": step, "elapsed": elapsed}, checkpoint_file)
        if step % VALIDATE_EVERY == 0 or finished:
            trainee.eval()
            errors, words = evaluate(trainee.model, tokenizer, validation)
            print(f"step {step}: validation word error rate {errors['all'] / words['all']:.2%}", flush=True)
            write_model(run / "model", trainee.model, tokenizer)
        if finished:
            break


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--minutes", type=float, help="end the schedule after so long, if the steps last longer")
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
