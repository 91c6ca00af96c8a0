#!/usr/bin/env bash
# transformers 5.23.0
#
# Expected: CohereAsrFeatureExtractor(max_audio_clip_s=4.0) cuts nine seconds into a few
#   pieces of at most four seconds.
# What happens: where a piece ends is looked for in its last `overlap_chunk_second`, five
#   by default, so in all of it; where a recording begins with a pause, the quietest place
#   is the beginning, and the piece is the one sample that a piece has at least. That goes
#   on sample by sample till another place is quieter: thousands of pieces, whose
#   normalisation divides by no frames, so that their features are NaN.
# Why it matters: shorter clips are what one asks for where memory is short; nothing is
#   raised and nothing is logged, and the batch has thousands of rows of NaN.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.23.0

"$tmp/venv/bin/python" - <<'PY'
import numpy
import torch
import transformers
from transformers import CohereAsrFeatureExtractor

print("transformers", transformers.__version__)
sound = (0.1 * numpy.random.default_rng(0).standard_normal(9 * 16000)).astype(numpy.float32)
sound[:3200] = 0  # 0.2 s of pause


def rows(**settings):
    heard = CohereAsrFeatureExtractor(**settings)(sound, sampling_rate=16000, return_tensors="pt")["input_features"]
    return len(heard), torch.isnan(heard).any(dim=(1, 2)).sum().item()


short, careful = rows(max_audio_clip_s=4.0), rows(max_audio_clip_s=4.0, overlap_chunk_second=1.0)
print(f"  clips of 4 s, search as by default: {short[0]} pieces, {short[1]} of them NaN")
print(f"  clips of 4 s, search of 1 s:        {careful[0]} pieces, {careful[1]} of them NaN")
assert careful == (3, 0), careful
assert short[0] > 1000 and short[1] > 1000, short
print("seen: a clip shorter than the search falls into single samples")
PY
