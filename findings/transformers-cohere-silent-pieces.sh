#!/usr/bin/env bash
# transformers 5.23.0
#
# Expected: CohereAsrProcessor.decode gives "" for a long recording in which nothing was
#   said, as it does for a short one.
# What happens: texts of pieces (`audio_chunk_index`) are joined from the first that is not
#   empty; where all are, IndexError ("list index out of range").
# Why it matters: a minute of silence, or of sound without speech, is usual in long
#   recordings; and the other recordings of the same batch are lost with it.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet torch==2.11.0 transformers==5.23.0

"$tmp/venv/bin/python" - <<'PY'
import numpy
import transformers
from tokenizers import Tokenizer, models
from transformers import CohereAsrFeatureExtractor, CohereAsrProcessor, PreTrainedTokenizerFast

print("transformers", transformers.__version__)
own = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "word": 2}, unk_token="<unk>"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, unk_token="<unk>", eos_token="<eos>")
processor = CohereAsrProcessor(CohereAsrFeatureExtractor(), tokenizer)


def decoded(seconds, ids):
    sound = numpy.zeros(seconds * 16000, dtype=numpy.float32)
    index = processor.feature_extractor(sound, sampling_rate=16000)["audio_chunk_index"]
    written = [ids] * len(index)
    try:
        return processor.decode(written, skip_special_tokens=True, audio_chunk_index=index, language="en")
    except IndexError as problem:
        return f"IndexError: {problem}"


said = {
    "60 s, a word in each piece": (decoded(60, [2, 1]), ["word word"]),
    "20 s, nothing written": (decoded(20, [1]), [""]),
    "60 s, nothing written": (decoded(60, [1]), "IndexError: list index out of range"),
}
for what, (got, want) in said.items():
    print(f"  {what}: {got}")
    assert got == want, (what, got)
print("seen: a long recording without a word cannot be decoded")
PY
