#!/usr/bin/env python3
"""Are the heads that `sonograd heads --write` chooses those that transformers takes its word times from?

    python heads_in_transformers.py SONOGRAD

Makes a folder with a small random Whisper whose window is one second, cuts sounds out of ../samples, lets
SONOGRAD choose heads and write them into the folder's generation_config.json, and opens the folder with
transformers. Then, for every sound:

- all other entries of the file are as they were, and transformers reads the heads that SONOGRAD named;
- `generate(return_token_timestamps=True)` with these heads gives other times than with the worst ones;
- `sonograd align`, which reads the same file, has every token within a frame of where transformers has it.

transformers leaves out the first row of attention that speaks for a token, and so gives every token the start
of the next one (token_times_fixture.py says more). For the last comparison it is told to begin one row
earlier: then its extraction looks at the same rows as sonograd, and all else is its own. How many times
agree without that is printed too. Exits with 1 if something does not hold.
"""

import json
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import torch
import transformers
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from generation_fixtures import WhisperFixture
from references.hearing import SAMPLE_RATE, read_wave
from small_models.model_folder import write_json

SAMPLES = Path(__file__).parent.parent / "samples"
STEP = 0.02
TOP = 2
# Samples of a pair of frames, which is one of the encoder's.
FRAME = 320
LANGUAGE = {"language": "en", "task": "transcribe"}


def word(token):
    """The text of a token: two letters."""
    return chr(ord("a") + token // 26 % 26) + chr(ord("a") + token % 26)


def token_of(text):
    return (ord(text[0]) - ord("a")) * 26 + ord(text[1]) - ord("a")


def make_folder(folder):
    """A Whisper with everything that a user's folder has."""
    torch.manual_seed(0)
    fixture = WhisperFixture(english=False)
    folder.mkdir()
    fixture.save(folder)
    generation, size = fixture.generation, fixture.model.config.vocab_size
    write_json(folder / "preprocessor_config.json", {
        "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "chunk_length": 1, "n_fft": 400,
        "hop_length": 160, "sampling_rate": SAMPLE_RATE})
    languages = {token: name for name, token in generation["lang_to_id"].items()}
    first = generation["no_timestamps_token_id"] + 1

    def name(token):
        if token >= first:
            return f"<|{(token - first) * STEP:.2f}|>"
        if token >= fixture.end:
            return languages.get(token, f"<|mark {token}|>")
        return f"\u0120{word(token)}"

    special = [{"id": token, "content": name(token), "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for token in range(fixture.end, size)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    write_json(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "WordLevel", "vocab": {name(token): token for token in range(size)}, "unk_token": "\u0120aa"}})


def make_sounds(folder):
    """Pieces of up to a second out of the samples, and a manifest of them."""
    rows = ["id\taudio\ttgt_text\tsrc_lang\ttgt_lang"]
    paths = []
    for n, path in enumerate(sorted(SAMPLES.glob("*.wav"))):
        samples = read_wave(path)
        for part, begin in enumerate((0.3, 1.1)):
            length = FRAME * (50 - 7 * ((2 * n + part) % 4))
            start = round(begin * SAMPLE_RATE)
            piece = samples[start : start + length]
            name = f"{path.stem}-{part}"
            paths.append(folder / f"{name}.wav")
            with wave.open(str(paths[-1]), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(SAMPLE_RATE)
                file.writeframes((piece * 32767).round().astype("<i2").tobytes())
            rows.append(f"{name}\t{name}.wav\tx\ten\ten")
    (folder / "list.tsv").write_text("\n".join(rows) + "\n")
    return paths


def sonograd(program, *arguments):
    command = [program, *map(str, arguments), "--device", "cpu"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


class Listener:
    """transformers, as it reads the folder."""

    def __init__(self, folder):
        self.model = WhisperForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval().double()
        self.extractor = WhisperFeatureExtractor.from_pretrained(folder)
        self.extract = self.model._extract_token_timestamps

    def generate(self, path, heads, earlier):
        """Ids behind the prompt, and the frame of each; `earlier`: of rows from the first token's on."""

        def extract(*arguments, num_input_ids, **more):
            if not earlier:
                return self.extract(*arguments, num_input_ids=num_input_ids, **more)
            times = self.extract(*arguments, num_input_ids=num_input_ids - 1, **more)
            return torch.cat([torch.zeros(1, 1), times[:, :-1]], -1)

        heard = self.extractor(read_wave(path), sampling_rate=SAMPLE_RATE, return_attention_mask=True,
                               return_tensors="pt")
        self.model.generation_config.alignment_heads = heads
        self.model._extract_token_timestamps = extract
        made = self.model.generate(heard["input_features"].double(), attention_mask=heard["attention_mask"],
                                   return_token_timestamps=True, force_unique_generate_call=True, **LANGUAGE)
        ids, times = made["sequences"][0].tolist(), made["token_timestamps"][0].tolist()
        begin = 4
        end = self.model.config.eos_token_id
        # What transformers makes of special tokens within a text is its own.
        if end not in ids[begin:] or max(ids[begin : ids.index(end, begin)]) > end:
            return None
        last = ids.index(end, begin)
        return ids[begin:last], [round(time / STEP) for time in times[begin:last]]


@torch.no_grad()
def main():
    transformers.logging.set_verbosity_error()
    program = sys.argv[1]
    failures = []

    def expect(holds, what):
        print(f"{'yes' if holds else 'NO '}  {what}")
        if not holds:
            failures.append(what)

    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        folder = place / "whisper"
        make_folder(folder)
        paths = make_sounds(place)
        file = folder / "generation_config.json"
        before = json.loads(file.read_text())
        found = json.loads(sonograd(program, "heads", place / "list.tsv", "--model", folder, "--by", "gradient",
                                    "--top", TOP, "--write", file, "--json"))
        chosen = found["alignment_heads"]
        worst = [[row["layer"], row["head"]] for row in found["heads"][-TOP:]]
        print(f"transformers {transformers.__version__}; {len(found['utterances'])} sounds, {len(found['heads'])} heads, "
              f"chosen {chosen}, worst {worst}")

        listener = Listener(folder)
        after = json.loads(file.read_text())
        expect(list(after) == [*before, "alignment_heads"] and after | before == after,
               "all other entries are as they were")
        expect(listener.model.generation_config.alignment_heads == chosen, "transformers reads the heads written")

        sounds = other = tokens = near = equal = plain = plain_tokens = 0
        for path in paths:
            generated = listener.generate(path, chosen, earlier=False)
            if generated is None:
                continue
            ids, frames = generated
            same_rows = listener.generate(path, chosen, earlier=True)[1]
            aligned = json.loads(sonograd(program, "align", path, "--model", folder, "--crop", "after", "--language",
                                          "en", "--format", "json"))
            heads = aligned["made"]["heads"]
            if aligned["made"]["from"] != "heads" or heads != chosen:
                failures.append(f"{path.name}: align takes its times from {heads}")
            words = aligned["words"]
            if [token_of(own["text"]) for own in words] != ids:
                failures.append(f"{path.name}: other tokens")
                continue
            own = [round(one["start_seconds"] / STEP) for one in words]
            apart = [abs(a - b) for a, b in zip(own, same_rows)]
            tokens += len(ids)
            near += sum(d <= 1 for d in apart)
            equal += sum(d == 0 for d in apart)
            # The n-th time is the next token's.
            apart = [abs(a - b) for a, b in zip(own[1:], frames)]
            plain_tokens += len(apart)
            plain += sum(d <= 1 for d in apart)
            sounds += 1
            other += frames != listener.generate(path, worst, earlier=False)[1]
        expect(sounds >= 6, f"{sounds} of {len(paths)} sounds are compared: an end, no special token in the text")
        expect(other == sounds, f"with the worst heads the times of {other} of {sounds} sounds differ")
        expect(near == tokens > 30, f"{near} of {tokens} tokens are within a frame of align's ({equal} at the same frame)")
        print(f"     without the first token's row: {plain} of {plain_tokens} within a frame")
    for failure in failures:
        print(f"failed: {failure}")
    print("FAILED" if failures else "transformers takes its times from the heads that sonograd chose")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
