#!/usr/bin/env python3
"""Makes tests/fixtures/sentencepiece: two small SentencePiece models and what
the Python library makes of some texts with them.

    pip install sentencepiece==0.2.3 protobuf
    python tools/sentencepiece_fixture.py

`unigram.model` has NFKC normalisation, language tags as user-defined symbols
and no bytes; `bpe.model` has no normalisation, keeps white space and falls
back to bytes. `vocab.json` numbers the pieces of `unigram.model` as fairseq
does: four special tokens first, then the pieces, then more.
`cases.json`: for each model `encode`, a list of [text, ids, decoded], and
`decode`, a list of [ids, text]; then with the pieces `unused` marked as
such, `encode_without`, a list of [text, ids].
"""

import io
import json
import random
from pathlib import Path

import sentencepiece as spm
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from small_models.grammar import distinct_sentences

FIXTURE = Path(__file__).parent.parent / "tests" / "fixtures" / "sentencepiece"

SENTENCES = [
    "The quick brown fox jumps over the lazy dog near the old station.",
    "She was running and singing while the trains were waiting outside.",
    "Nobody had expected the weather to change so quickly this morning.",
    "Quanto costa un biglietto per il treno delle undici e mezza?",
    "Perché non è già arrivata? Così è la città, più o meno.",
    "Der Zug nach München fährt um zwölf Uhr, über die große Brücke.",
    "Où est la gare? L'été, on mange des crêpes à côté du théâtre.",
    "El niño pequeño soñó con una montaña muy alta, ¿verdad?",
    "今日は天気がいいから、駅まで歩きましょう。",
    "The meeting is at 10:45 on the 23rd, in room 7-B (second floor).",
]

TEXTS = [
    "the trains were running",
    "The quick brown fox",
    "perché non è già arrivata",
    "Der Zug fährt über die Brücke.",
    "  two  spaces   inside and around  ",
    " leading",
    "trailing ",
    "\ttabs\nand lines\r\n",
    "今日は天気がいい",
    "unknown: \u0416\u0434\u0443 and \U0001f600\U0001f601 end",
    "\U0001f469\u200d\U0001f680",
    "ﬁne ｆｕｌｌ ｗｉｄｔｈ ① ½ Å e\u0301 ㌔",
    "zero\u200bwidth soft\u00adhyphen no\u00a0break em\u2003space",
    "<lang:en> the station",
    "the<lang:it>station <lang:en>",
    "<lang:xx> <s> </s> <unk> <0x41>",
    "a ▁ b▁c",
    "▁",
    "x",
    " ",
    "",
    "10:45 (7-B)",
    "QQQQ zzzz xxxx qqqq kkkk",
    "e\u0301\u0301 \u0e19\u0e49\u0e33 \ud55c\uad6d\uc5b4",
    "\ufffd broken",
]


def train(name, **options):
    spoken = [text for pair in distinct_sentences(300, seed=7) for text in pair]
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 5 + spoken),
        model_writer=model,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    (FIXTURE / name).write_bytes(model.getvalue())
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def cases(processor):
    source = random.Random(8)
    size = processor.get_piece_size()
    lists = [[i] for i in range(min(size, 300))]
    lists += [source.choices(range(size), k=source.randint(2, 9)) for _ in range(100)]
    lists += [[], [1, 2], [0, 0]]
    encode = []
    texts = TEXTS + SENTENCES
    letters = "the run is é今 \U0001f600<>:ß"
    texts += ["".join(source.choices(letters, k=source.randint(1, 20))) for _ in range(60)]
    for text in texts:
        ids = processor.encode(text)
        encode.append([text, ids, processor.decode(ids)])
    decode = [[ids, processor.decode(ids)] for ids in lists]
    changed = ModelProto.FromString(processor.serialized_model_proto())
    unused = [
        i
        for i, piece in enumerate(changed.pieces)
        if i % 2 == 0 and piece.type == piece.NORMAL and len(piece.piece) > 1
    ]
    for i in unused:
        changed.pieces[i].type = changed.pieces[i].UNUSED
    other = spm.SentencePieceProcessor(model_proto=changed.SerializeToString())
    without = [[text, other.encode(text)] for text in texts]
    return {"encode": encode, "decode": decode, "unused": unused, "encode_without": without}


def main():
    FIXTURE.mkdir(parents=True, exist_ok=True)
    unigram = train(
        "unigram.model",
        model_type="unigram",
        vocab_size=400,
        character_coverage=0.995,
        normalization_rule_name="nmt_nfkc",
        user_defined_symbols=["<lang:en>", "<lang:it>"],
    )
    bpe = train(
        "bpe.model",
        model_type="bpe",
        vocab_size=600,
        character_coverage=0.99,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        user_defined_symbols=["[noise]", "gh"],
    )
    pieces = [unigram.id_to_piece(i) for i in range(unigram.get_piece_size())]
    tokens = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens += [piece for piece in reversed(pieces) if piece not in tokens] + ["<lang:fr>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (FIXTURE / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    result = {"unigram": cases(unigram), "bpe": cases(bpe)}
    (FIXTURE / "cases.json").write_text(json.dumps(result, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
