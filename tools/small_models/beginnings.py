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


def begin_with(model, tokenizer, folder, double_layers):
    """Loads the weights of the model folder; of its embedding, the rows of tokens that both know."""
    state = read_model(folder).state_dict()
    if double_layers:
        state = doubled(state)
    old_ids, old_rows = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(), state[EMBEDDING]
    rows = model.state_dict()[EMBEDDING].clone()
    shared = [(row, old_ids[token]) for token, row in tokenizer.get_vocab().items() if token in old_ids]
    for row, old_row in shared:
        rows[row] = old_rows[old_row]
    model.load_state_dict(state | {EMBEDDING: rows})
    return len(shared)
