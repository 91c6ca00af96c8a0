"""Model folders with random weights, and what is computed on them: features, tokens, labels.

A work's reference file (docs/reference-format.md) is what both sides read: PyTorch and `sonograd bench
--reference`. The expected values in it, computed in float64, are what both are held to.
"""

import json
from dataclasses import asdict

import torch
from safetensors.torch import load_file, save_file

from random_weights import randomise
from references.recogniser import read_conformer
from references.reference_file import write
from references.saliency import divergences
from references.utterance import random_masks
from small_models.conformer import Config, Conformer
from small_models.model_folder import ARCHITECTURE, TRAINING_ONLY

# The expected scores are those of so many masks.
CHECKED_MASKS = 6

# Sizes of the model, frames T, tokens I. The projection is a weight of its own: with random weights a tied
# one would predict the token that was read, whatever was heard.
CASES = {
    "small": (Config(tie_word_embeddings=False), 326, 24),
    "large": (
        Config(d_model=512, encoder_layers=4, decoder_layers=2, encoder_attention_heads=8,
               decoder_attention_heads=8, decoder_ffn_dim=2048, conv_channels=1024,
               conformer_conv_kernel_size=31, vocab_size=8000, tie_word_embeddings=False),
        500, 30,
    ),
}


def write_case(name, folder, seed=0):
    """Writes the case's model folder; returns features (T, F), decoder input and labels (I,)."""
    config, frames, tokens = CASES[name]
    model = Conformer(config)
    randomise(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in model.state_dict().items()
             if not key.endswith(TRAINING_ONLY)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architectures": [ARCHITECTURE], **asdict(config)}, indent=1))
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(frames, config.input_feat_per_channel, generator=generator)
    labels = torch.randint(3, config.vocab_size, (tokens,), generator=generator)
    inputs = torch.cat([torch.tensor([config.decoder_start_token_id]), labels[:-1]])
    return features, inputs, labels


def read_subject(path):
    """Features, decoder input and labels of a reference file."""
    tensors = load_file(path)
    inputs = tensors["decoder_input_ids"]
    return tensors["features"], inputs, tensors.get("labels", inputs)


def write_expected(folder, path, features, inputs, labels, seed=0):
    """Writes a reference file with what float64 makes of the subject."""
    model = read_conformer(folder, torch.float64).eval().requires_grad_(False)
    frames, bins = features.shape
    generator = torch.Generator().manual_seed(seed)
    masks = random_masks(frames, frames, bins, 1, 1, 1, CHECKED_MASKS, generator)["input_masks"]

    def logits_of(batch):
        return model.decoder(inputs.expand(len(batch), -1), model.encoder(batch))[0]

    x = features.double()[None].requires_grad_()
    logits = logits_of(x)[0]
    log_p = logits.log_softmax(-1)
    chosen = log_p.gather(1, labels[:, None])[:, 0]
    gradients = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in chosen]
    with torch.no_grad():
        scores = divergences(log_p, logits_of(features * masks.double()).log_softmax(-1))
    write(path, {
        "features": features, "decoder_input_ids": inputs, "labels": labels, "logits": logits.detach(),
        "input_gradient": torch.cat(gradients), "input_masks": masks, "input_scores": scores,
    }, "float64")
