#!/usr/bin/env bash
# transformers 5.23.0
#
# Expected: a model made `double()` computes in float64.
# What happens: that depends on the family. Attention written out rounds its
#   probabilities to float32 in Moonshine and families that share its attention, Cohere
#   Transcribe and Canary among them (the softmax is asked for float32 and its result is
#   put back into float64), and does not in Whisper. Nothing says so: outputs are float64
#   tensors in both.
# Why it matters: whoever takes a float64 run as the truth for another program's f32, or
#   checks gradients by differences, compares with something that has f32's errors in
#   every layer. With `sdpa` both keep float64.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.23.0

"$tmp/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import (
    MoonshineConfig, MoonshineForConditionalGeneration, WhisperConfig, WhisperForConditionalGeneration,
)

print("transformers", transformers.__version__)
torch.manual_seed(0)
tokens = torch.tensor([[1, 2, 3, 4]])
moonshine = MoonshineForConditionalGeneration(MoonshineConfig(
    vocab_size=40, hidden_size=24, intermediate_size=32, encoder_num_hidden_layers=1, decoder_num_hidden_layers=1,
    encoder_num_attention_heads=2, decoder_num_attention_heads=2, pad_token_id=0))
whisper = WhisperForConditionalGeneration(WhisperConfig(
    vocab_size=40, d_model=24, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=50, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, decoder_start_token_id=3))
inputs = {"Moonshine": (moonshine, torch.randn(1, 8000)), "Whisper": (whisper, torch.randn(1, 8, 100))}
rounded, apart = {}, {}
for name, (model, sound) in inputs.items():
    logits = {}
    for attention in ("eager", "sdpa"):
        model.eval().double().set_attn_implementation(attention)
        with torch.no_grad():
            out = model(sound.double(), decoder_input_ids=tokens, output_attentions=attention == "eager")
        logits[attention] = out.logits
        if attention == "eager":
            maps = out.cross_attentions[0]
            rounded[name] = torch.equal(maps, maps.float().double())
    apart[name] = (logits["eager"] - logits["sdpa"]).abs().max().item()
    assert out.logits.dtype == maps.dtype == torch.float64
    print(f"  {name}: probabilities of {maps.dtype} are all float32 numbers: {rounded[name]}; "
          f"logits by eager and sdpa differ by {apart[name]:.0e}")
assert rounded == {"Moonshine": True, "Whisper": False}, rounded
assert apart["Moonshine"] > 1e-11 > 1e-13 > apart["Whisper"], apart
print("seen: Moonshine's attention in float64 has float32's probabilities")
PY
