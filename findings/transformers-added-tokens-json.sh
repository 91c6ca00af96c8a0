#!/usr/bin/env bash
# transformers 5.23.0 with tokenizers 0.23.3
#
# Expected: a tokenizer's folder may hold added_tokens.json (text -> id) and
#   special_tokens_map.json (which token is for what). They are read when the
#   folder is opened, and a folder with more files knows at least as much.
# What happens: both are read only as long as tokenizer_config.json has no key
#   `added_tokens_decoder`. Once that key is there, even if it names nothing but
#   one other token, both files are ignored without a word: "<|noise|>" is no
#   token any more but nine characters, and there is no padding token.
# Why it matters: people add event marks such as <|noise|> to Whisper's
#   tokenizer, and the model's embedding has rows for them. In a folder put
#   together from two places (these files from the fine-tuning, the config from
#   the base model) they are lost: targets are spelt letter by letter, and ids
#   that the model gives vanish from the text. A reader that joins all the files
#   gives other ids.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3

export TMP_FOLDER="$tmp" HF_HUB_OFFLINE=1
"$tmp/venv/bin/python" - <<'PY'
import json
import os
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
END, NOISE, PAD = "<|endoftext|>", "<|noise|>", "<|pad|>"
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
vocab = {c: i for i, c in enumerate([*letters, END])}
base = Tokenizer(models.BPE(vocab=vocab, merges=[]))
base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
base.decoder = decoders.ByteLevel()


def opened(name, more):
    folder = Path(os.environ["TMP_FOLDER"], name)
    folder.mkdir()
    base.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, **more}
    files = {
        "tokenizer_config.json": config,
        "added_tokens.json": {NOISE: 257, PAD: 258},
        "special_tokens_map.json": {"pad_token": PAD},
    }
    for file, value in files.items():
        (folder / file).write_text(json.dumps(value))
    tok = AutoTokenizer.from_pretrained(folder)
    ids = tok("a" + NOISE).input_ids
    text = tok.decode([vocab["a"], 257, vocab["b"]])
    print(f"  {name:8} {len(tok)} tokens, {NOISE} -> {ids[1:]}, padding {tok.pad_token}, id 257 decodes in {text!r}")
    return len(tok), ids[1:], tok.pad_token, text


flags = {"special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
without = opened("without", {})
with_key = opened("with", {"added_tokens_decoder": {"256": {"content": END, **flags}}})
assert without == (259, [257], PAD, f"a{NOISE}b"), without
assert with_key[0] == 257 and len(with_key[1]) == len(NOISE) and with_key[2:] == (None, "ab"), with_key
print("seen: the key added_tokens_decoder switches both files off")
PY
