#!/usr/bin/env bash
# transformers 5.23.0
#
# Expected: each layer of Moonshine Streaming's encoder hears what `sliding_windows`
#   says, so that a change at the end of a sound does not reach its first frame.
# What happens: the windows are built from the attention mask alone. Called with
#   `input_values` and no mask, every layer hears the whole sound. The feature extractor
#   gives a mask only if its `return_attention_mask` is true, and that is false by default
#   in the class the processor takes (Wav2Vec2FeatureExtractor).
# Why it matters: one sound of one length needs no mask in any other speech model, and
#   leaving it out is no error here either: the numbers are simply those of another model.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.23.0

"$tmp/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import MoonshineStreamingConfig, MoonshineStreamingForConditionalGeneration, Wav2Vec2FeatureExtractor

print("transformers", transformers.__version__)
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 4}
config = MoonshineStreamingConfig(
    encoder_config={**sizes, "sliding_windows": [[3, 2], [3, 2]]}, vocab_size=50, max_position_embeddings=64, **sizes,
)
torch.manual_seed(0)
encoder = MoonshineStreamingForConditionalGeneration(config).eval().model.encoder
with torch.no_grad():
    for own in encoder.parameters():
        own.normal_(0, 0.3)
sound = torch.randn(1, 8000)
changed = sound.clone()
changed[0, -800:] = 0
mask = torch.ones(1, 8000, dtype=torch.long)


@torch.no_grad()
def first_frame_moves(**more):
    heard = [encoder(own, **more).last_hidden_state[0, 0] for own in (sound, changed)]
    return (heard[0] - heard[1]).abs().max().item()


far, near = first_frame_moves(), first_frame_moves(attention_mask=mask)
given = sorted(Wav2Vec2FeatureExtractor()(sound[0].numpy(), sampling_rate=16000))
print(f"  the last 50 ms of 500 changed: the first frame moves by {far:.1e} without a mask, by {near:.1e} with one")
print(f"  the feature extractor gives {given}")
assert near == 0.0 and far > 1e-3, (near, far)
assert given == ["input_values"], given
print("seen: without a mask there are no windows")
PY
