#!/usr/bin/env python3
"""Makes tests/fixtures/infidelity.json: infidelity of the conformer fixture's gradients by Captum.

    python infidelity_fixture.py

Features, tokens, gradients and masks are those of the fixture's reference.safetensors: a perturbation
removes what a mask hides, and the attribution of a feature is the gradient, which Captum multiplies by
the perturbation. One value for each token, as it is and normalised.
"""

import json
from pathlib import Path

import captum
import torch
from captum.metrics import infidelity
from references.recogniser import open_recogniser
from safetensors.torch import load_file

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"


def main():
    folder = FIXTURES / "conformer"
    model = open_recogniser(folder, torch.float64)
    reference = load_file(folder / "reference.safetensors")
    features = reference["features"].double()
    tokens, labels = reference["decoder_input_ids"], reference["labels"]
    removed = (1 - reference["input_masks"].double()) * features

    def log_probs(variants):
        with torch.no_grad():
            log_p = model.decode(tokens, model.encode(variants))[0].log_softmax(-1)
        return log_p[:, torch.arange(len(labels)), labels]

    def perturb(inputs):
        # Captum repeats the one input as often as there are perturbations.
        return removed, inputs - removed

    values = {}
    for name, normalise in (("as it is", False), ("normalised", True)):
        values[name] = [
            infidelity(
                lambda variants: log_probs(variants)[:, token],
                perturb,
                features[None],
                reference["input_gradient"][token : token + 1].double(),
                n_perturb_samples=len(removed),
                normalize=normalise,
            ).item()
            for token in range(len(labels))
        ]
    made = {"captum": captum.__version__, "torch": torch.__version__, "infidelity": values}
    (FIXTURES / "infidelity.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
