"""The works in PyTorch, each in every way that might be its fastest.

Shapes: B variants, T input frames, F mel bins, T' encoder frames, D model dimension, I tokens, V
vocabulary, S segments. A work begins with
features in the processor's memory and ends with its results there. Weights take no gradients, and the
tables of positions are made once.
"""

import functools

import torch

from references.recogniser import open_recogniser
from references.utterance import STRETCH
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

    def __init__(self, folder, subject, device):
        self.device = torch.device(device)
        self.model = open_recogniser(folder, torch.float32)
        self.model.module.to(self.device)
        self.features, self.sound = subject.features.float(), subject.sound
        self.labels = subject.labels.to(self.device)
        self.inputs = subject.inputs[None].to(self.device)
        self.autocast = None
        self.compiled = {part: torch.compile(part, dynamic=False)
                         for part in (self._encoder, self._decoder, self._log_probabilities)}

    def set_precision(self, precision):
        """`f32`, `tf32` or `bf16`, the last by autocast with weights in f32."""
        torch.set_float32_matmul_precision("highest" if precision == "f32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "f32"
        self.autocast = torch.bfloat16 if precision == "bf16" else None

    def set_attention(self, attention):
        """One of the model's implementations. What was compiled was so for the one before."""
        torch._dynamo.reset()
        if attention:
            self.model.use_attention(attention)

    def _encoder(self, features):
        return self.model.encode(features)

    def _decoder(self, memory, inputs):
        return self.model.logits(inputs.expand(len(memory), -1), memory).float().log_softmax(-1)

    def _log_probabilities(self, features, inputs):
        return self._decoder(self._encoder(features), inputs)

    def _run(self, part, compiled, *operands):
        run = self.compiled[part] if compiled else part
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return run(*operands)

    def log_probabilities(self, features, compiled):
        """(B, I, V) of features (B, T, F)."""
        return self._run(self._log_probabilities, compiled, features, self.inputs)

    def chosen(self, log_p):
        """The labels' (I,) of log-probabilities (1, I, V)."""
        return log_p[0].gather(1, self.labels[:, None])[:, 0]

    def forward(self, compiled=False):
        """Every token's log-probability, (I,)."""
        with torch.inference_mode():
            return self.chosen(self.log_probabilities(self.features.to(self.device)[None], compiled)).cpu()

    def gradient_loop(self, compiled=False):
        """Every token's gradient at the features, (I, T, F), by one reverse pass for each."""
        x = self.features.to(self.device)[None].requires_grad_()
        chosen = self.chosen(self.log_probabilities(x, compiled))
        rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in chosen]
        return torch.cat(rows).cpu()

    def gradient_batched(self, compiled=False):
        """The same by one reverse pass over all tokens (`is_grads_batched`)."""
        x = self.features.to(self.device)[None].requires_grad_()
        chosen = self.chosen(self.log_probabilities(x, compiled))
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

    def at_encoder_output(self, memory, compiled):
        """Every token's gradient at the encoder's output (1, T', D), (I, 1, T', D), by a loop."""
        source = memory.detach().requires_grad_()
        chosen = self.chosen(self._run(self._decoder, compiled, source, self.inputs))
        return torch.stack([torch.autograd.grad(value, source, retain_graph=True)[0] for value in chosen])

    def gradient_encoder_batched(self, batch, compiled=False):
        """The same by a loop in the decoder, and `batch` tokens at a time in the encoder."""
        x = self.features.to(self.device)[None].requires_grad_()
        memory = self._run(self._encoder, compiled, x)
        rows = [torch.autograd.grad(memory, x, part.to(memory), retain_graph=True, is_grads_batched=True)[0]
                for part in self.at_encoder_output(memory, compiled).split(batch)]
        return torch.cat(rows)[:, 0].cpu()

    def gradient_encoder_copies(self, batch, compiled=False):
        """The same by a loop in the decoder, and copies of the features, `batch` at a time, in the encoder."""
        features, rows = self.features.to(self.device), []
        with torch.no_grad():
            memory = self._run(self._encoder, compiled, features[None])
        for part in self.at_encoder_output(memory, compiled).split(batch):
            x = features.expand(len(part), -1, -1).contiguous().requires_grad_()
            encoded = self._run(self._encoder, compiled and len(part) == batch, x)
            rows.append(torch.autograd.grad(encoded, x, part[:, 0].to(encoded))[0])
        return torch.cat(rows).cpu()

    @functools.cached_property
    def segmentations(self):
        """(G, T * F), and S: blocks, about as many as there are superpixels."""
        frames, bins = self.sound, self.features.shape[1]
        made = []
        if bins == 1:
            # Of a waveform: stretches.
            labels = (torch.arange(frames) // STRETCH[0])[None].to(self.device)
            return labels, int(labels.max()) + 1
        for nominal in SEGMENTS:
            wanted = nominal * min(frames, 750) / 500
            columns = max(1, round((frames * bins / wanted) ** 0.5))
            rows = max(1, round(frames * bins / wanted / columns))
            across = -(-bins // columns)
            t, f = torch.meshgrid(torch.arange(frames), torch.arange(bins), indexing="ij")
            made.append((t // rows * across + f // columns).flatten())
        labels = torch.stack(made).to(self.device)
        return labels, int(labels.max()) + 1

    def scores(self, reference, features, kept, compiled):
        """KL divergence (B, I) from log-probabilities (1, I, V) that features (T, F) cause of which masks
        (B, sound, F) keep a part. What follows the sound stays."""
        filling = features[self.sound:].expand(len(kept), -1, -1)
        masked = torch.cat([features[:self.sound] * kept, filling], 1)
        changed = self.log_probabilities(masked, compiled)
        return (reference.exp() * (reference - changed)).sum(-1)

    def spes(self, count, batch, compiled=False):
        """The sound's map (I, sound, F) from `count` masks, `batch` at a time: hidden features are 0, and
        an element's saliency is the mean score of the masks that hide it."""
        with torch.inference_mode():
            features = self.features.to(self.device)
            segments, most = self.segmentations
            reference = self.log_probabilities(features[None], False)
            sums = torch.zeros(len(segments), len(self.labels), most, device=self.device)
            counts = torch.zeros(len(segments), most, device=self.device)
            for number, first in enumerate(range(0, count, batch)):
                own, size = number % len(segments), min(batch, count - first)
                hidden = (torch.rand(size, most, device=self.device) < HIDDEN).float()
                kept = (1 - hidden)[:, segments[own]].view(size, self.sound, -1)
                scores = self.scores(reference, features, kept, compiled and size == batch)
                sums[own].addmm_(scores.T, hidden)
                counts[own] += hidden.sum(0)
            total = sum(own[:, labels] for own, labels in zip(sums, segments))
            times = sum(own[labels] for own, labels in zip(counts, segments))
            return (total / times.clamp(min=1)).view(-1, self.sound, features.shape[1]).cpu()

    def scores_of(self, masks, batch, compiled=False):
        """Scores (M, I) of masks (M, T, F) that somebody else drew, in a batch filled up with copies."""
        with torch.inference_mode():
            features, scores = self.features.to(self.device), []
            reference = self.log_probabilities(features[None], False)
            for part in masks.split(batch):
                filled = part[torch.arange(batch) % len(part), :self.sound].to(features)
                scores.append(self.scores(reference, features, filled, compiled)[:len(part)])
            return torch.cat(scores).cpu()

    def run(self, candidate):
        """Does what a candidate says: its work, in its way."""
        way, batch, compiled = candidate["way"], candidate["batch"], candidate["compiled"]
        if way == "masks":
            return self.spes(BATCHES * batch, batch, compiled)
        run = {
            "forward": self.forward, "loop": self.gradient_loop, "batched": self.gradient_batched,
            "copies": self.gradient_copies, "encoder batched": self.gradient_encoder_batched,
            "encoder copies": self.gradient_encoder_copies,
        }[way]
        return run(compiled) if batch is None else run(batch, compiled)
