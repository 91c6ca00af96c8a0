"""What is computed: features, the decoder's tokens, and what float64 makes of them.

A reference file (docs/reference-format.md) is what both sides read: PyTorch and `sonograd bench
--reference`. The expected values in it are what both are held to.
"""

from dataclasses import dataclass

import torch
from safetensors.torch import load_file

from export_reference import make
from references.hearing import FRAME_SHIFT
from references.recogniser import open_recogniser
from references.reference_file import compute, write
from references.utterance import random_masks

# The expected scores are those of so many masks.
CHECKED_MASKS = 6
LEFT_OUT = ("encoder_output_gradient", "encoder_output_masks", "token_masks")


@dataclass
class Subject:
    """features: (T, F); decoder input and labels: (I,); waveform: (S,), if the features come from one."""

    features: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor
    waveform: torch.Tensor | None = None

    @property
    def sound(self):
        """How many frames masks may hide; what follows fills Whisper's window."""
        if self.waveform is None:
            return len(self.features)
        shift = 1 if self.features.shape[1] == 1 else FRAME_SHIFT
        return min(len(self.features), -(-len(self.waveform) // shift))


def read_subject(path):
    """The subject of a reference file."""
    tensors = load_file(path)
    inputs = tensors["decoder_input_ids"]
    return Subject(tensors["features"], inputs, tensors.get("labels", inputs), tensors.get("waveform"))


def write_expected(folder, path, subject, seed=0):
    """Writes a reference file with what float64 makes of a subject."""
    features = subject.features
    masks = random_masks(len(features), subject.sound, features.shape[1], 1, 1, 1, CHECKED_MASKS,
                         torch.Generator().manual_seed(seed))
    made = {"features": features, "decoder_input_ids": subject.inputs, "labels": subject.labels,
            "input_masks": masks["input_masks"]}
    if subject.waveform is not None:
        made["waveform"] = subject.waveform
    model = open_recogniser(folder, torch.float64)
    made |= compute(model, features, subject.inputs, subject.labels, {"input_masks": masks["input_masks"]},
                    ["input_gradient"])
    write(path, made, "float64")


def write_heard(folder, path, audio, **asked):
    """The same of a sound, and of what the model writes of it or of what is asked for."""
    model = open_recogniser(folder, torch.float64)
    write(path, make(model, folder, audio=audio, masks=CHECKED_MASKS, leave_out=LEFT_OUT, **asked), "float64")
