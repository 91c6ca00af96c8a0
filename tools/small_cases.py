"""What the fixtures of small random models have in common: tokenizers, features that are made again
in the tests, texts that transformers' generate writes, and a piece of the test utterance.
"""

import copy
import json
import wave

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from export_reference import make
from references.hearing import read_wave
from references.recogniser import exact_attention, open_recogniser
from references.reference_file import write
from size_fixtures import FIXTURES, describe

PIECES = ["▁", *"aeinorstdlu", "▁a", "▁the", "▁in", "er", "on", "en", "▁s", "st", "re"]
INPUTS = 6
SETTINGS = {
    "greedy": {"num_beams": 1, "max_new_tokens": 12},
    "greedy_no_repeat": {"num_beams": 1, "max_new_tokens": 12, "no_repeat_ngram_size": 2},
    "beam3": {"num_beams": 3, "max_new_tokens": 10},
    "beam4_long": {"num_beams": 4, "max_new_tokens": 12, "length_penalty": 1.6},
}


def tokenizer(vocabulary, marks, **special):
    """A unigram tokenizer of `vocabulary` tokens, the first of which are `marks`; those written as
    `<|...|>` are special, and `special` names some, such as `eos_token`."""
    pieces = PIECES + [f"x{i}" for i in range(vocabulary - len(marks) - len(PIECES))]
    scored = [(mark, 0.0) for mark in marks] + [(piece, -1.0 - i / 8) for i, piece in enumerate(pieces)]
    own = Tokenizer(models.Unigram(scored, unk_id=0))
    own.normalizer = normalizers.NFKC()
    own.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    own.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=own, unk_token="<unk>", **special)
    wrapped.add_special_tokens({"additional_special_tokens": [mark for mark in marks if mark.startswith("<|")]})
    return wrapped


def compact(folder):
    """Writes a folder's tokenizer.json in one line."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), separators=(",", ":"), ensure_ascii=False))


def features_of(seed, frames, bins):
    """(1, T, F) pseudo-random numbers in [-2, 2): SplitMix64 of seed * 2^32 + n, 24 bits of it."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) * np.uint64(2**32) + np.arange(frames * bins, dtype=np.uint64)
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    values = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy(values.reshape(1, frames, bins) * 2)


def generated(recogniser, model, features, prompt):
    """By setting: the ids behind the prompt, without the end."""
    recogniser = copy.copy(recogniser)
    recogniser.module = model
    with torch.no_grad():
        memory = recogniser.encode(features.to(model.dtype))
    outputs = {}
    for name, setting in SETTINGS.items():
        # A decoder may change what it is given.
        heard = BaseModelOutput(last_hidden_state=memory.clone())
        heard["attention_mask"] = None
        heard.attention_mask = None
        ids = model.generate(encoder_outputs=heard, decoder_input_ids=torch.tensor([prompt]), **setting)
        ids = ids[0].tolist()
        assert ids[:len(prompt)] == prompt
        ids = ids[len(prompt):]
        end = model.generation_config.eos_token_id
        outputs[name] = ids[:ids.index(end)] if end in ids else ids
    return outputs


def inputs(model, recogniser, prompt, frames):
    """Random features by seed and number of frames, from the range `frames`, with what is generated; an input
    whose tokens differ in float32 under any setting is left out."""
    both = [copy.deepcopy(model).to(dtype).eval() for dtype in (torch.float64, torch.float32)]
    for own in both:
        own.set_attn_implementation(exact_attention())
    made = []
    for seed in range(INPUTS):
        count = frames[0] + seed * 37 % (frames[1] - frames[0])
        features = features_of(seed, count, recogniser.mel_bins)
        exact, single = (generated(recogniser, own, features, prompt) for own in both)
        if exact == single:
            made.append({"seed": seed, "frames": count, "outputs": exact})
    lengths = {len(ids) for row in made for ids in row["outputs"].values()}
    print(f"  {len(made)} of {INPUTS} inputs, lengths {sorted(lengths)}")
    return made


def write_cases(path, values):
    """JSON with one line for each input and setting."""
    rows = [json.dumps(row, separators=(",", ":")) for row in values.pop("inputs")]
    settings = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in SETTINGS.items()]
    head = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()]
    head.append(' "settings": {\n' + ",\n".join(settings) + "\n }")
    head.append(' "inputs": [\n  ' + ",\n  ".join(rows) + "\n ]")
    path.write_text("{\n" + ",\n".join(head) + "\n}\n")


def cut(folder, begin, end):
    """A WAV file with some samples of the utterance."""
    whole = read_wave(FIXTURES / "front_end" / "utterance.wav")
    path = folder / "cut.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes((whole[begin:end] * 32768).astype("<i2").tobytes())
    return path


def write_fixture(name, model, processor, source, asked, frames, prompts):
    """A model's folder in bfloat16 with its reference and, where there is a processor, what that writes and cases.

    source: where the reference's features come from, `audio` (first and last sample of the utterance) or a number
    of random `frames`; asked: what else `make` is told; frames: the range of the cases' features; prompts: what
    gives the cases' prompts of a recogniser, the first of which texts are generated for.
    """
    folder = FIXTURES / name
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to(torch.bfloat16).eval()
    model.save_pretrained(folder)
    if processor:
        processor.save_pretrained(folder)
        compact(folder)
    recogniser = open_recogniser(folder)
    audio = source.get("audio")
    if audio:
        path = cut(folder, *audio)
        tensors = make(recogniser, folder, audio=path, most_tokens=1, **asked)
        path.unlink()
    else:
        tensors = make(recogniser, folder, random_tokens=1, **source, **asked)
    write(folder / "reference.safetensors", tensors, "float64")
    print(f"{name}:")
    describe(recogniser, tensors)
    if processor:
        all_prompts = prompts(recogniser)
        made = inputs(model, recogniser, all_prompts[0]["prompt"], frames)
        write_cases(folder / "cases.json", {"prompts": all_prompts, "inputs": made})
    for file in sorted(folder.iterdir()):
        file.chmod(0o644)
        print(f"  {file.name} {file.stat().st_size} bytes")
