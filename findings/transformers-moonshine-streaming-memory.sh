#!/usr/bin/env bash
# transformers 5.23.0
#
# Expected: what Moonshine Streaming's encoder made of a sound can be used again: the
#   same decoder input gives the same logits, and `generate` writes the same text with
#   and without its cache.
# What happens: the decoder adds its positions to the encoder's output in place. Each
#   call adds them once more, so the second call with the same `encoder_outputs` gives
#   other logits, and the tensor the caller holds has changed. `generate(use_cache=False)`
#   calls the decoder at every step with the output of one encoder run, and so hears the
#   sound under positions that grow from token to token; with the cache it hears it once.
# Why it matters: whoever encodes once and decodes several times (forced decoding,
#   scoring of several texts, saliency, beams of one's own) gets wrong numbers without a
#   word, and `encoder_last_hidden_state` of the model's output is not the encoder's.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.23.0

"$tmp/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import MoonshineStreamingConfig, MoonshineStreamingForConditionalGeneration

print("transformers", transformers.__version__)
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 4}
config = MoonshineStreamingConfig(
    encoder_config={**sizes, "sliding_windows": [[4, 2], [4, 2]]}, vocab_size=50, max_position_embeddings=64,
    decoder_start_token_id=1, **sizes,
)
torch.manual_seed(0)
model = MoonshineStreamingForConditionalGeneration(config).eval()
with torch.no_grad():
    for own in model.parameters():
        own.normal_(0, 0.3)
sound = torch.randn(1, 8000)
mask = torch.ones(1, 8000, dtype=torch.long)
ids = torch.tensor([[1, 5, 7]])
with torch.no_grad():
    heard = model.model.encoder(sound, attention_mask=mask)
    before = heard.last_hidden_state.clone()
    first, second = (model(encoder_outputs=heard, decoder_input_ids=ids, use_cache=False).logits for _ in range(2))
    texts = [
        model.generate(sound, attention_mask=mask, max_new_tokens=12, do_sample=False, use_cache=cached)[0].tolist()
        for cached in (True, False)
    ]
moved = (heard.last_hidden_state - before).abs().max().item()
apart = (first - second).abs().max().item()
print(f"  after two calls the encoder's output has moved by {moved:.2f}; their logits differ by {apart:.2f}")
print(f"  generate with its cache: {texts[0]}\n  and without:             {texts[1]}")
assert moved > 0.1 and apart > 0.1, (moved, apart)
assert texts[0] != texts[1], texts
print("seen: decoding changes what was heard")
PY
