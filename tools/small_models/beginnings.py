"""Weights that training begins with, taken from a model that is trained already."""

import torch
from tokenizers import Tokenizer

from .model_folder import read_model

EMBEDDING = "decoder.embed_tokens.weight"
# The last linear map of every residual branch. Where it is zero, the branch adds nothing.
BRANCH_ENDS = (
    "feed_forward.second_linear", "attention.attention.out_proj", "conv_module.second_pointwise_conv1d",
    "self_attn.out_proj", "encoder_attn.out_proj", "fc2",
)


def layer_name(prefix, layer, rest):
    return f"{prefix}.{layer}.{rest}"


def doubled(state):
    """The weights of a model with twice the layers that computes exactly the same.

    Layer l becomes layers 2l and 2l + 1. The second has the weights of the first, except that its
    residual branches end in zeros, so it passes on what it gets until training changes that. A
    conformer layer closes with a layer norm: there the first only normalises, and the second
    scales and shifts, since normalising twice changes nothing.
    """
    result = {}
    for name, tensor in state.items():
        prefix = next((p for p in ("encoder.conformer_layers", "decoder.layers") if name.startswith(p)), None)
        if prefix is None:
            result[name] = tensor
            continue
        layer, rest = name.removeprefix(prefix + ".").split(".", 1)
        first, second = tensor.clone(), tensor.clone()
        if rest.startswith("layernorm."):
            first = torch.ones_like(tensor) if rest.endswith("weight") else torch.zeros_like(tensor)
        if any(end in rest for end in BRANCH_ENDS):
            second = torch.zeros_like(tensor)
        result[layer_name(prefix, 2 * int(layer), rest)] = first
        result[layer_name(prefix, 2 * int(layer) + 1, rest)] = second
    return result


def narrowed(state, hidden):
    """The weights with feed-forward modules of `hidden` units: those whose weights are largest.

    A unit counts by the norm of its input weights times that of its output weights.
    """
    result = dict(state)
    pairs = (("first_linear", "second_linear"), ("fc1", "fc2"))
    for name in state:
        first, second = next(((a, b) for a, b in pairs if name.endswith(f".{a}.weight")), (None, None))
        if first is None:
            continue
        stem = name.removesuffix(f"{first}.weight")
        wide, back = state[name], state[f"{stem}{second}.weight"]
        kept = (wide.norm(dim=1) * back.norm(dim=0)).argsort(descending=True)[:hidden].sort().values
        result[name] = wide[kept]
        result[f"{stem}{first}.bias"] = state[f"{stem}{first}.bias"][kept]
        result[f"{stem}{second}.weight"] = back[:, kept]
    return result


def begin_with(model, tokenizer, folder):
    """Loads the weights of the model folder; of its embedding, the rows of tokens that both know.

    Its layers are doubled if the model has twice as many, and feed-forward modules that are wider
    than the model's are narrowed.
    """
    beginning = read_model(folder)
    state = beginning.state_dict()
    if model.config.encoder_layers == 2 * beginning.config.encoder_layers:
        state = doubled(state)
    state = narrowed(state, model.config.decoder_ffn_dim)
    old_ids, old_rows = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(), state[EMBEDDING]
    rows = model.state_dict()[EMBEDDING].clone()
    shared = [(row, old_ids[token]) for token, row in tokenizer.get_vocab().items() if token in old_ids]
    for row, old_row in shared:
        rows[row] = old_rows[old_row]
    model.load_state_dict(state | {EMBEDDING: rows})
    return len(shared)
