"""Cross-attention times its gradient by PyTorch's autograd, for the tests.

    python attention_x_gradient_fixture.py [--output ../tests/fixtures/attention_x_gradient.safetensors]

For the model in each folder of ../tests/fixtures named below, with the features, tokens and labels of its
reference: A[l, h, i, j] = P[l, h, i, j] * d log p(label i at position i) / d P[l, h, i, j], where P are the
cross-attention probabilities. Computed and stored in float64, a tensor (L, H, I, T') for each folder by its name.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from references.recogniser import open_recogniser

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"
FOLDERS = ["conformer", "conformer_fama", "speech_to_text", "speech_to_text_odd", "whisper", "whisper_odd"]


def attention_x_gradient(model, features, tokens, labels):
    """(L, H, I, T') of features (T, F), tokens (I,) and labels (I,)."""
    with torch.no_grad():
        memory = model.encode(features[None])
    # Something has to want a gradient, or there is no graph.
    memory.requires_grad_()
    logits, attention = model.logits_and_attention(tokens[None], memory)
    log_p = logits[0].log_softmax(-1)
    rows = []
    for i, label in enumerate(labels):
        gradients = torch.autograd.grad(log_p[i, label], attention, retain_graph=True)
        pairs = zip(attention, gradients)
        rows.append(torch.stack([(p * gradient)[0, :, i] for p, gradient in pairs]))
    return torch.stack(rows, dim=2).detach()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FIXTURES / "attention_x_gradient.safetensors")
    output = parser.parse_args().output
    made = {}
    for name in FOLDERS:
        model = open_recogniser(FIXTURES / name)
        reference = load_file(FIXTURES / name / "reference.safetensors")
        features = reference["features"].to(model.dtype)
        made[name] = attention_x_gradient(
            model, features, reference["decoder_input_ids"], reference["labels"]
        ).contiguous()
        print(name, tuple(made[name].shape), f"largest {made[name].abs().max():.3g}")
    save_file(made, output, {"dtype": "float64", "torch": torch.__version__})


if __name__ == "__main__":
    main()
