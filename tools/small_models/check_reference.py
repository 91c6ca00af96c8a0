"""Compares the front end and the model of these tools with reference outputs.

    python -m small_models.check_reference MODEL_FOLDER FRONT_END_FILE
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file

from .front_end import filter_bank, normalise
from .model_folder import read_model


def relative_error(output, reference):
    output, reference = np.asarray(output, np.float64), np.asarray(reference, np.float64)
    return np.linalg.norm(output - reference) / np.linalg.norm(reference)


def check_model(folder):
    model = read_model(folder, torch.float64)
    reference = load_file(folder / "reference.safetensors")
    with torch.no_grad():
        memory = model.encoder(reference["features"].double()[None])
        logits, cross_attention = model.decoder(reference["decoder_input_ids"][None], memory)
    return {
        "encoder_output": relative_error(memory[0], reference["encoder_output"]),
        "cross_attention": relative_error(torch.cat(cross_attention), reference["cross_attention"]),
        "logits": relative_error(logits[0], reference["logits"]),
    }


def check_front_end(file):
    reference = load_numpy(file)
    fbank = filter_bank(reference["waveform"])
    return {
        "fbank": relative_error(fbank, reference["fbank"]),
        "fbank_cmvn": relative_error(normalise(fbank), reference["fbank_cmvn"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("front_end_file", type=Path)
    arguments = parser.parse_args()
    errors = check_model(arguments.model_folder) | check_front_end(arguments.front_end_file)
    for name, error in errors.items():
        print(f"{name:16} {error:.1e}")
