"""Outputs, gradients and occlusion maps of one utterance under forced decoding.

Shapes are those of docs/reference-format.md: T, F features; T', D encoder output; I positions; M masks.
"""

import torch

GRADIENTS = ("input_gradient", "encoder_output_gradient")
# What the attention weights of one batch of masked passes may take, bytes.
BATCH_BYTES = 2**30


def outputs(model, features, tokens):
    """encoder_output (T', D), cross_attention (L, H, I, T') and logits (I, V)."""
    with torch.no_grad():
        memory = model.encode(features[None])
        logits, attention = model.decode(tokens, memory)
    return {"encoder_output": memory[0], "cross_attention": attention[0], "logits": logits[0]}


def gradients(model, features, tokens, labels, wanted):
    """Those `wanted` of input_gradient (I, T, F) and encoder_output_gradient (I, T', D), token by token."""
    features = features[None].detach().requires_grad_("input_gradient" in wanted)
    made = {name: [] for name in wanted}
    with model.recomputed_encoder():
        memory = model.encode(features)
        # The decoder starts from a copy, so that its graph ends there and stays small.
        source = memory.detach().requires_grad_()
        log_p = model.decode(tokens, source)[0][0].log_softmax(-1)
        for i, label in enumerate(labels):
            (cotangent,) = torch.autograd.grad(log_p[i, label], source, retain_graph=True)
            if "encoder_output_gradient" in made:
                made["encoder_output_gradient"].append(cotangent[0])
            if "input_gradient" in made:
                (gradient,) = torch.autograd.grad(memory, features, cotangent, retain_graph=True)
                made["input_gradient"].append(gradient[0])
    return {name: torch.stack(rows) for name, rows in made.items()}


def batch_size(model, encoder_frames):
    """Masked passes at a time: eager attention holds a few (H, T', T') matrices for each."""
    bytes_each = 4 * model.encoder_heads * encoder_frames**2 * torch.finfo(model.dtype).bits // 8
    return max(1, min(32, BATCH_BYTES // bytes_each))


def divergences(log_p, masked):
    """KL(p || masked), (M, I), of log-probabilities (I, V) and (M, I, V), nats."""
    return (log_p.exp() * (log_p - masked)).sum(-1)


def saliency(scores, masks):
    """Mean score of the masks that hide an element, (I, ...), of scores (M, I) and masks (M, ...)."""
    hidden = (1 - masks.to(scores)).flatten(1)
    count = hidden.sum(0)
    mean = scores.T @ hidden / count.clamp(min=1)
    return mean.reshape(scores.shape[1], *masks.shape[1:])


def occlusion(model, features, tokens, known, masks):
    """Scores and maps of the mask sets that `masks` has, by the names of their tensors."""
    memory = known["encoder_output"][None]
    log_p = known["logits"].log_softmax(-1)
    passes = {
        "input": lambda m: model.decode(tokens, model.encode(features * m)),
        "encoder_output": lambda m: model.decode(tokens, memory * m[..., None]),
        "token": lambda m: model.decode(tokens, memory, keep=m),
    }
    size = batch_size(model, memory.shape[1])
    made = {}
    for name, masked_pass in passes.items():
        chosen = masks.get(f"{name}_masks")
        if chosen is None:
            continue
        with torch.no_grad():
            scores = torch.cat([
                divergences(log_p, masked_pass(batch.to(features))[0].log_softmax(-1))
                for batch in chosen.split(size)
            ])
        made[f"{name}_scores"] = scores
        made[f"{name}_saliency"] = saliency(scores, chosen)
    if "token_saliency" in made:
        # A later token changes nothing but for rounding.
        made["token_saliency"] = made["token_saliency"].tril()
    return made
