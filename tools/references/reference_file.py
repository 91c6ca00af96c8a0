"""Writing a reference, and computing one again to compare."""

import torch
from safetensors.torch import load_file, save_file

from .hearing import hear
from .saliency import GRADIENTS, gradients, occlusion, outputs

METADATA = {"format": "saliency-reference", "version": "1"}
# What is stored as it is; other numbers become F32.
KEPT = (torch.int64, torch.uint8, torch.float16)


def compute(model, features, tokens, labels, masks, wanted_gradients=GRADIENTS):
    """Every output by its name. features: (T, F); tokens, labels: (I,); masks: by their names."""
    features = features.to(model.dtype)
    known = outputs(model, features, tokens)
    made = dict(known)
    if wanted_gradients:
        made |= gradients(model, features, tokens, labels, wanted_gradients)
    made |= occlusion(model, features, tokens, known, masks)
    return made


def write(path, tensors, precision):
    """Stores the tensors; real numbers become F32, but for features that are float16."""
    stored = {
        name: (tensor if tensor.dtype in KEPT else tensor.float()).contiguous()
        for name, tensor in tensors.items()
    }
    for name, tensor in stored.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has values that are not finite")
    save_file(stored, path, METADATA | {"dtype": f"{precision} computed, float32 stored"})


def relative_error(output, reference):
    """||output - reference|| / ||reference||, in 64 bits; 0 if they are equal."""
    difference = (output.double() - reference.double()).norm()
    return 0.0 if difference == 0 else (difference / reference.double().norm()).item()


def errors(model, folder, path):
    """The relative error of every output in a reference, computed again from its inputs."""
    stored = load_file(path)
    masks = {name: tensor for name, tensor in stored.items() if name.endswith("_masks")}
    labels = stored.get("labels")
    made = compute(
        model, stored["features"], stored["decoder_input_ids"], labels, masks,
        wanted_gradients=[name for name in GRADIENTS if name in stored],
    )
    if "waveform" in stored:
        made["features"] = hear(model, folder, stored["waveform"].numpy())[0]
    inputs = {"decoder_input_ids", "labels", "waveform", *masks}
    inputs |= set() if "waveform" in stored else {"features"}
    unknown = stored.keys() - made.keys() - inputs
    if unknown:
        raise ValueError(f"{path}: unknown tensors {sorted(unknown)}")
    return {name: relative_error(made[name], stored[name]) for name in sorted(stored.keys() - inputs)}

