"""The same work in PyTorch and in sonograd on the same processor, side by side.

    python compare_pytorch.py PROGRAM SAMPLE.wav [--model ../weights/base-en] [--threads 2]

PROGRAM is a release build of sonograd. Work: the gradient of every token's log-probability at the
input (PyTorch: one reverse pass for each token, and all of them batched), and SPES, masked forward
passes under forced decoding with their KL divergence, without segmentation (PyTorch: the best of
several batch sizes). sonograd's time for masks is the difference between two runs of different
numbers of masks, and for gradients the difference between a run with and one without them, so that
start, loading and segmentation do not count. The two take turns and the medians are compared.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import torch

from small_models.front_end import features as compute_features
from small_models.model_folder import read_model

BATCH_SIZES = [4, 8, 16, 32, 64]
MASKS = (256, 1280)
ROUNDS = 5


def read_wave(path):
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return (samples / 32768.0).astype(np.float32)


def explain(program, sample, model, folder, *options):
    """Runs sonograd; returns its explanation."""
    out = str(Path(folder) / "out")
    command = [program, "explain", sample, "--model", model, "--device", "cpu", "--profile", "--json",
               "--out", out, *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seconds_of(explanation):
    return explanation["profile"]["stage_seconds"]["explain"]


def log_probabilities(model, features, inputs):
    memory = model.encoder(features)
    logits, _ = model.decoder(inputs.expand(len(features), -1), memory)
    return logits.log_softmax(-1)


def forward(model, features, inputs):
    with torch.no_grad():
        log_probabilities(model, features, inputs)


def gradient_loop(model, features, inputs, labels):
    x = features.clone().requires_grad_()
    chosen = log_probabilities(model, x, inputs)[0].gather(1, labels[:, None])[:, 0]
    for value in chosen:
        torch.autograd.grad(value, x, retain_graph=True)


def gradient_batched(model, features, inputs, labels):
    x = features.clone().requires_grad_()
    chosen = log_probabilities(model, x, inputs)[0].gather(1, labels[:, None])[:, 0]
    torch.autograd.grad(chosen, x, torch.eye(len(labels)), is_grads_batched=True)


def masked_scores(model, features, inputs, batch, count, segments):
    """Scores of `count` random masks of square-free random segments, `batch` at a time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        reference = log_probabilities(model, features, inputs)
        for _ in range(0, count, batch):
            keep = torch.rand(batch, segments.max() + 1, generator=generator) >= 0.5
            masked = features * keep[:, segments]
            changed = log_probabilities(model, masked, inputs)
            (reference.exp() * (reference - changed)).sum(-1)


def timed(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("sample")
    parser.add_argument("--model", default=str(Path(__file__).parent.parent / "weights" / "base-en"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = read_model(Path(arguments.model))
    features = torch.from_numpy(compute_features(read_wave(arguments.sample)))[None].float()

    with tempfile.TemporaryDirectory() as folder:
        run = lambda *options: explain(arguments.program, arguments.sample, arguments.model, folder, *options)
        first = run("--method", "attention")
        labels = torch.tensor([token["id"] for token in first["tokens"]])
        inputs = torch.cat([torch.tensor([model.config.decoder_start_token_id]), labels[:-1]])[None]
        frames, tokens = features.shape[1], len(labels)
        assert frames == first["model"]["frames"]
        print(f"PyTorch {torch.__version__}, {arguments.threads} threads; T {frames}, {tokens} tokens")

        # About as many segments as the superpixels have: blocks of 4 x 4.
        t, f = torch.meshgrid(torch.arange(frames), torch.arange(features.shape[2]), indexing="ij")
        segments = t // 4 * 20 + f // 4
        rates = {}
        for batch in BATCH_SIZES:
            count = max(batch, 64)
            masked_scores(model, features, inputs, batch, batch, segments)
            rates[batch] = count / timed(lambda: masked_scores(model, features, inputs, batch, count, segments))
        best = max(rates, key=rates.get)
        print("PyTorch masks per second by batch size: "
              + ", ".join(f"{batch}: {rate:.0f}" for batch, rate in rates.items()))

        for work in (gradient_loop, gradient_batched):
            work(model, features, inputs, labels)
        results = {name: [] for name in ("forward", "loop", "batched", "gradient", "masks_torch", "masks")}
        for _ in range(ROUNDS):
            results["forward"].append(timed(lambda: forward(model, features, inputs)))
            results["loop"].append(timed(lambda: gradient_loop(model, features, inputs, labels)))
            results["batched"].append(timed(lambda: gradient_batched(model, features, inputs, labels)))
            bare = seconds_of(run("--method", "attention"))
            results["gradient"].append(seconds_of(run("--method", "gradient", "--at", "input")))
            count = 4 * best
            seconds = timed(lambda: masked_scores(model, features, inputs, best, count, segments))
            results["masks_torch"].append(count / seconds)
            few, many = (
                seconds_of(run("--method", "spes", "--at", "input", "--masks", str(count))) for count in MASKS
            )
            results["masks"].append((MASKS[1] - MASKS[0]) / (many - few))
        median = {name: statistics.median(values) for name, values in results.items()}
        fastest = min(median["loop"], median["batched"])
        print(f"forward: PyTorch {median['forward'] * 1e3:.0f} ms; sonograd's whole pass with attention, "
              f"plan and transfers included, {bare * 1e3:.0f} ms")
        print(f"forward and all-token gradient: PyTorch loop {median['loop'] * 1e3:.0f} ms, batched "
              f"{median['batched'] * 1e3:.0f} ms; sonograd {median['gradient'] * 1e3:.0f} ms: "
              f"{fastest / median['gradient']:.2f}x PyTorch's best")
        print(f"SPES: PyTorch {median['masks_torch']:.0f} masks/s (batch {best}); sonograd "
              f"{median['masks']:.0f}: {median['masks'] / median['masks_torch']:.2f}x")


if __name__ == "__main__":
    main()
