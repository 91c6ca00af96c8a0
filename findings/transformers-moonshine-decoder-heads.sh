#!/usr/bin/env bash
# transformers 5.23.0
#
# Expected: a Moonshine whose config says 2 heads for the encoder and 4 for the
#   decoder has a decoder with 4 heads.
# What happens: every attention of the decoder has 2. While the encoder is built,
#   each of its attentions sets `num_attention_heads` in the config that both
#   share, and that name is the decoder's own count (`attribute_map`). The caller's
#   config object is changed, and `save_pretrained` writes the changed number. The
#   weights have the same shapes either way, so nothing else tells.
# Why it matters: a checkpoint from elsewhere with different counts is run wrongly
#   without a word, and its config is repaired to the wrong number when it is saved.
#   Whoever reads such a folder by the book gets other results than transformers.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.23.0

"$tmp/venv/bin/python" - "$tmp/model" <<'PY'
import json
import sys

import torch
import transformers
from transformers import MoonshineConfig, MoonshineForConditionalGeneration

transformers.utils.logging.disable_progress_bar()
print("transformers", transformers.__version__)
config = MoonshineConfig(
    vocab_size=40, hidden_size=24, intermediate_size=32, pad_token_id=0,
    encoder_num_hidden_layers=1, decoder_num_hidden_layers=1,
    encoder_num_attention_heads=2, decoder_num_attention_heads=4,
)
asked = config.decoder_num_attention_heads
model = MoonshineForConditionalGeneration(config).eval()
model.set_attn_implementation("eager")
with torch.no_grad():
    out = model(torch.zeros(1, 16000), decoder_input_ids=torch.tensor([[1, 2, 3]]), output_attentions=True)
heads = {name: maps[0].shape[1] for name, maps in [
    ("encoder", out.encoder_attentions), ("decoder", out.decoder_attentions), ("cross", out.cross_attentions),
]}
model.save_pretrained(sys.argv[1])
written = json.load(open(f"{sys.argv[1]}/config.json"))["decoder_num_attention_heads"]
print(f"  asked for {asked} in the decoder; has {heads}; the caller's config now says "
      f"{config.decoder_num_attention_heads}, the saved one {written}")
assert asked == 4 and heads == {"encoder": 2, "decoder": 2, "cross": 2}, heads
assert config.decoder_num_attention_heads == written == 2
print("seen: the decoder has the encoder's heads, in the saved config too")
PY
