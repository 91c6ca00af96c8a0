"""Random weights that make a model do something: attention that picks, outputs that differ.

The usual initial weights of transformers (standard deviation 0.02) give uniform attention and gradients
near zero, which would let a wrong kernel pass.
"""

import re

import torch

# Queries and keys are drawn larger, so that a softmax over their products has peaks.
SHARP = re.compile(r"(q_proj|k_proj|query_proj|key_proj|pos_proj)\.weight$")
NORMS = re.compile(r"(layer_norm|layernorm|batchnorm|groupnorm|norm_\w+|\bnorm)\.(weight|bias)$")


def draw(name, shape, generator, sharpness, logit_scale, position_scale):
    """A tensor for the parameter or buffer `name`."""

    def normal(scale):
        return scale * torch.randn(shape, generator=generator)

    if NORMS.search(name):
        return normal(0.2) + (1.0 if name.endswith("weight") else 0.0)
    if name.endswith("running_mean"):
        return normal(0.2)
    if name.endswith("running_var"):
        return 0.5 + torch.rand(shape, generator=generator)
    if name.endswith(("u_bias", "v_bias", "bias_u", "bias_v")):
        return normal(0.5)
    if name.endswith(".bias"):
        return normal(0.1)
    if name.endswith(("embed_positions.weight", "pos_emb.weight")):
        return normal(position_scale)
    if name.endswith(("embed_tokens.weight", "proj_out.weight", "lm_head.weight", "output_projection.weight")):
        # Their product with a normalised vector of width D has the deviation `logit_scale`.
        return normal(logit_scale * shape[-1] ** -0.5)
    inputs = torch.Size(shape[1:]).numel()
    return normal((sharpness if SHARP.search(name) else 1.0) * inputs**-0.5)


@torch.no_grad()
def randomise(model, seed, sharpness=2.0, logit_scale=2.0, position_scale=0.3):
    """Fills all parameters and statistics of a module in the order of their names."""
    generator = torch.Generator().manual_seed(seed)
    done = set()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        # Tied tensors stand under two names.
        if not tensor.is_floating_point() or tensor.data_ptr() in done:
            continue
        done.add(tensor.data_ptr())
        tensor.copy_(draw(name, tensor.shape, generator, sharpness, logit_scale, position_scale))
