"""The works in PyTorch, each in every way that might be its fastest.

Shapes: B variants, T input frames, F mel bins, I tokens, V vocabulary, S segments. A work begins with
features in the processor's memory and ends with its results there. Weights take no gradients, and the
tables of positions are made once.
"""

import functools

import torch

from references.recogniser import read_conformer
from small_models import conformer

# Numbers of superpixels that SPES asks for at 500 frames.
SEGMENTS = (2000, 2500, 3000)
HIDDEN = 0.5
# How many batches of masks are scored in one run.
BATCHES = 4


def keep_table(name):
    """Lets the conformer make a table of positions once, not in every layer of every pass."""
    make, made = getattr(conformer, name), {}

    def table(length, width, like):
        key = (length, width, like.dtype, like.device)
        if key not in made:
            # A table from inference mode could not be used where gradients are taken.
            with torch.inference_mode(False), torch.no_grad():
                made[key] = make(length, width, like)
        return made[key]

    setattr(conformer, name, table)


keep_table("interleaved_sinusoids")
keep_table("decoder_sinusoids")


class Works:
    """One model and one subject on a device."""

    def __init__(self, folder, features, inputs, labels, device):
        self.device = torch.device(device)
        self.model = read_conformer(folder, torch.float32).eval().requires_grad_(False).to(self.device)
        self.features, self.labels = features, labels.to(self.device)
        self.inputs = inputs[None].to(self.device)
        self.autocast = None
        self.compiled = torch.compile(self._log_probabilities, dynamic=False)

    def set_precision(self, precision):
        """`f32`, `tf32` or `bf16`, the last by autocast with weights in f32."""
        torch.set_float32_matmul_precision("highest" if precision == "f32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "f32"
        self.autocast = torch.bfloat16 if precision == "bf16" else None

    def _log_probabilities(self, features, inputs):
        logits, _ = self.model.decoder(inputs.expand(len(features), -1), self.model.encoder(features))
        return logits.float().log_softmax(-1)

    def log_probabilities(self, features, compiled):
        """(B, I, V) of features (B, T, F)."""
        run = self.compiled if compiled else self._log_probabilities
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return run(features, self.inputs)

    def forward(self, compiled=False):
        """Every token's log-probability, (I,)."""
        with torch.inference_mode():
            log_p = self.log_probabilities(self.features.to(self.device)[None], compiled)[0]
            return log_p.gather(1, self.labels[:, None])[:, 0].cpu()

    def gradient_loop(self, compiled=False):
        """Every token's gradient at the features, (I, T, F), by one reverse pass for each."""
        x = self.features.to(self.device)[None].requires_grad_()
        chosen = self.log_probabilities(x, compiled)[0].gather(1, self.labels[:, None])[:, 0]
        rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in chosen]
        return torch.cat(rows).cpu()

    def gradient_batched(self, compiled=False):
        """The same by one reverse pass over all tokens (`is_grads_batched`)."""
        x = self.features.to(self.device)[None].requires_grad_()
        chosen = self.log_probabilities(x, compiled)[0].gather(1, self.labels[:, None])[:, 0]
        cotangents = torch.eye(len(chosen), device=self.device)
        (rows,) = torch.autograd.grad(chosen, x, cotangents, is_grads_batched=True)
        return rows[:, 0].cpu()

    def gradient_copies(self, batch, compiled=False):
        """The same with a copy of the features for each token, `batch` of them at a time."""
        features, rows = self.features.to(self.device), []
        for positions in torch.arange(len(self.labels), device=self.device).split(batch):
            x = features.expand(len(positions), -1, -1).contiguous().requires_grad_()
            log_p = self.log_probabilities(x, compiled and len(positions) == batch)
            chosen = log_p[torch.arange(len(positions)), positions, self.labels[positions]]
            rows.append(torch.autograd.grad(chosen.sum(), x)[0])
        return torch.cat(rows).cpu()

    @functools.cached_property
    def segmentations(self):
        """(G, T * F), and S: blocks, about as many as there are superpixels."""
        frames, bins = self.features.shape
        made = []
        for nominal in SEGMENTS:
            wanted = nominal * min(frames, 750) / 500
            columns = max(1, round((frames * bins / wanted) ** 0.5))
            rows = max(1, round(frames * bins / wanted / columns))
            across = -(-bins // columns)
            t, f = torch.meshgrid(torch.arange(frames), torch.arange(bins), indexing="ij")
            made.append((t // rows * across + f // columns).flatten())
        labels = torch.stack(made).to(self.device)
        return labels, int(labels.max()) + 1

    def scores(self, reference, masked, compiled):
        """KL divergence (B, I) from log-probabilities (1, I, V) that masked features (B, T, F) cause."""
        changed = self.log_probabilities(masked, compiled)
        return (reference.exp() * (reference - changed)).sum(-1)

    def spes(self, count, batch, compiled=False):
        """The map (I, T, F) from `count` masks, `batch` at a time: hidden features are 0, and an
        element's saliency is the mean score of the masks that hide it."""
        with torch.inference_mode():
            features = self.features.to(self.device)
            segments, most = self.segmentations
            reference = self.log_probabilities(features[None], False)
            sums = torch.zeros(len(segments), len(self.labels), most, device=self.device)
            counts = torch.zeros(len(segments), most, device=self.device)
            for number, first in enumerate(range(0, count, batch)):
                own, size = number % len(segments), min(batch, count - first)
                hidden = (torch.rand(size, most, device=self.device) < HIDDEN).float()
                masked = features * (1 - hidden)[:, segments[own]].view(size, *features.shape)
                scores = self.scores(reference, masked, compiled and size == batch)
                sums[own].addmm_(scores.T, hidden)
                counts[own] += hidden.sum(0)
            total = sum(own[:, labels] for own, labels in zip(sums, segments))
            times = sum(own[labels] for own, labels in zip(counts, segments))
            return (total / times.clamp(min=1)).view(-1, *features.shape).cpu()

    def scores_of(self, masks, batch, compiled=False):
        """Scores (M, I) of masks (M, T, F) that somebody else drew, in a batch filled up with copies."""
        with torch.inference_mode():
            features, scores = self.features.to(self.device), []
            reference = self.log_probabilities(features[None], False)
            for part in masks.split(batch):
                filled = part[torch.arange(batch) % len(part)].to(features)
                scores.append(self.scores(reference, features * filled, compiled)[:len(part)])
            return torch.cat(scores).cpu()

    def run(self, candidate):
        """Does what a candidate says: its work, in its way."""
        compiled = candidate["compiled"]
        match candidate["way"]:
            case "forward":
                return self.forward(compiled)
            case "loop":
                return self.gradient_loop(compiled)
            case "batched":
                return self.gradient_batched(compiled)
            case "copies":
                return self.gradient_copies(candidate["batch"], compiled)
            case "masks":
                return self.spes(BATCHES * candidate["batch"], candidate["batch"], compiled)
        raise ValueError(f"unknown way {candidate['way']!r}")
