"""What transformers computes with real models on real speech: values for `tests/models/real.rs`.

    python real_references.py --models FOLDER --sounds FOLDER --out ../tests/fixtures/real

`--models` has `tiny-en` and `base`, CTranslate2 folders of Whisper tiny.en and base; `--sounds` has
`librivox` and `italian`: what `./check` fetches (see `tests/real_files`) has these names. Values are
computed in float64 from the weights as they are and stored as float32, on rows that are listed with them; beside
each stands the error that PyTorch's own float32 has. Weights and recordings are not stored. Files of
values that are there already stay.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from references.ctranslate2 import load
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import WhisperFeatureExtractor

RATE = 16_000
FRAMES = 3_000
LIBRIVOX = ["0870", "0880", "0890", "0920", "0930"]
ITALIAN = [
    "all-circuits-busy-now",
    "auth-incorrect",
    "cannot-complete-as-dialed",
    "conf-adminmenu",
    "conf-invalid",
    "confbridge-lock-no-join",
    "demo-thanks",
    "tt-allbusy",
    "vm-goodbye",
    "vm-nobodyavail",
]


# Half of the taps of the filter between two samples.
REACH = 16


def doubled(samples):
    """Twice as many samples a second: between two, a sinc of 32 taps under a cosine's square. Texts of telephone
    speech hang on the resampler (three of them, three translations), so the tests hear what this makes."""
    taps = np.arange(1 - REACH, REACH + 1) - 0.5
    weights = np.sinc(taps) * np.cos(np.pi * taps / (2 * REACH + 1)) ** 2
    padded = np.pad(samples, (REACH - 1, REACH))
    between = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH) @ weights
    return np.column_stack([samples, between]).ravel()


def hear(path):
    """Samples at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float64")
    if rate == RATE // 2:
        return doubled(samples)
    if rate != RATE:
        raise ValueError(f"{path} has {rate} Hz")
    return samples


def librivox(sounds, name):
    return sounds / "librivox" / f"sense_and_sensibility_01_austen_64kb-{name}.wav"


def relative(own, exact):
    return float(np.linalg.norm(own - exact) / np.linalg.norm(exact))


def passes(model, features, prompt, labels, explained):
    """Forced decoding: encoder output, cross-attention, log-probabilities, two gradients."""
    dtype = model.dtype
    sound = torch.tensor(features, dtype=dtype).T[None].requires_grad_()
    encoded = model.model.encoder(sound).last_hidden_state
    encoded.retain_grad()
    ids = torch.tensor([prompt + labels[:-1]])
    out = model.model.decoder(input_ids=ids, encoder_hidden_states=encoded, output_attentions=True)
    scores = torch.log_softmax(model.proj_out(out.last_hidden_state), -1)[0]
    first = len(prompt) - 1
    log_probs = torch.stack([scores[first + i, label] for i, label in enumerate(labels)])
    gradients = []
    for token in explained:
        sound.grad = encoded.grad = None
        log_probs[token].backward(retain_graph=True)
        gradients.append((sound.grad[0].T.numpy().copy(), encoded.grad[0].numpy().copy()))
    attention = torch.stack(out.cross_attentions)[:, 0, :, first:]
    numbers = lambda tensor: tensor.detach().numpy().astype(np.float64)
    return {
        "encoder_output": numbers(encoded[0]),
        "cross_attention": numbers(attention),
        "log_probs": numbers(log_probs),
        "input_gradient": np.stack([g for g, _ in gradients]).astype(np.float64),
        "encoder_output_gradient": np.stack([g for _, g in gradients]).astype(np.float64),
    }


def values(folder, sound, prompt_names, out):
    """Writes the values of one sound. They are on some rows: every so many frames of where the sound is."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    exact, single = load(folder, torch.float64), load(folder, torch.float32)
    samples = hear(sound)
    extractor = WhisperFeatureExtractor(feature_size=exact.config.num_mel_bins)
    features = extractor(samples, sampling_rate=RATE, return_tensors="np").input_features[0].T
    stored = len(samples) // 160 + 3
    if np.ptp(features[stored:]) != 0:
        raise ValueError(f"{sound}: the padding's features are not all equal")
    prompt = [tokenizer.token_to_id(name) for name in prompt_names]
    written = single.generate(torch.tensor(features.T[None]), **options(single, prompt_names))[0].tolist()
    labels = [token for token in written if token not in prompt]
    explained = [1, len(labels) // 2]
    want = passes(exact, features, prompt, labels, explained)
    own = passes(single, features, prompt, labels, explained)
    heard = len(samples) // 320
    frames = {
        "encoder_output": np.unique(np.r_[0 : heard : max(heard // 8, 1), 500, 1499]),
        "cross_attention": np.unique(np.r_[0 : heard : max(heard // 8, 1), 1000]),
        "input_gradient": np.unique(np.r_[0 : 2 * heard : max(2 * heard // 30, 1), 2000]),
        "encoder_output_gradient": np.unique(np.r_[0 : heard : max(heard // 5, 1), 1000]),
    }
    tensors = {
        "features": features[:stored].astype(np.float32),
        "prompt": np.array(prompt, np.int64),
        "labels": np.array(labels, np.int64),
        "explained": np.array(explained, np.int64),
        "log_probs": want["log_probs"].astype(np.float32),
    }
    errors = {"log_probs": float(np.abs(own["log_probs"] - want["log_probs"]).max())}
    for name, rows in frames.items():
        axis = {"cross_attention": 3, "encoder_output": 0}.get(name, 1)
        tensors[name] = want[name].take(rows, axis).astype(np.float32)
        tensors[f"{name}_frames"] = rows.astype(np.int64)
        errors[name] = relative(own[name].take(rows, axis), want[name].take(rows, axis))
    print(out.name, tokenizer.decode(labels), errors)
    metadata = {"sound": sound.stem, "padding": repr(float(features[-1, 0])), "float32_errors": json.dumps(errors)}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, out, metadata)


def options(model, prompt_names):
    if not model.generation_config.is_multilingual:
        return {}
    return {"language": prompt_names[1].strip("<|>"), "task": prompt_names[2].strip("<|>")}


def texts(models, sounds, name):
    """What a model writes of each sound, by language, task and beams; of a long one with times."""
    model = load(models / name, torch.float32)
    tokenizer = Tokenizer.from_file(str(models / name / "tokenizer.json"))
    extractor = WhisperFeatureExtractor()
    listed = []

    def note(sound, samples, long=False, **asked):
        # What is longer than a window is not cut to one.
        kept = {"truncation": False, "padding": "longest", "return_attention_mask": True} if long else {}
        heard = extractor(samples, sampling_rate=RATE, return_tensors="pt", **kept)
        extra = {"attention_mask": heard.attention_mask, "return_timestamps": True} if long else {}
        tokens = model.generate(heard.input_features, **extra, **asked)
        tokens = (tokens if torch.is_tensor(tokens) else tokens["sequences"])[0].tolist()
        tokens = [token for token in tokens if token < model.config.eos_token_id]
        entry = {"sound": sound, **asked, "tokens": tokens, "text": tokenizer.decode(tokens)}
        if long:
            entry["long"] = True
        print(entry["text"], flush=True)
        listed.append(entry)

    multilingual = model.generation_config.is_multilingual
    asked = {"language": "en", "task": "transcribe"} if multilingual else {}
    for sound in LIBRIVOX:
        samples = hear(librivox(sounds, sound))
        for beams in (1, 5):
            note(f"librivox/{sound}", samples, num_beams=beams, **asked)
    whole = np.concatenate([hear(librivox(sounds, sound)) for sound in LIBRIVOX * 2])
    note("librivox/all twice", whole, long=True, num_beams=1, **asked)
    for sound in ITALIAN if multilingual else []:
        samples = hear(sounds / "italian" / f"{sound}.wav")
        features = extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features
        language = tokenizer.id_to_token(int(model.detect_language(features)[0])).strip("<|>")
        for task, beams in (("transcribe", 1), ("transcribe", 5), ("translate", 1)):
            if beams == 1 or sound in ITALIAN[:3]:
                note(f"italian/{sound}", samples, num_beams=beams, language="it", task=task)
        listed[-1]["detected"] = language
    return listed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("models", "sounds", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--texts", nargs="*", default=["tiny-en", "base"], help="models whose texts are wanted")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    english = ["<|startoftranscript|>", "<|notimestamps|>"]
    italian = ["<|startoftranscript|>", "<|it|>", "<|transcribe|>", "<|notimestamps|>"]
    for name, sound, prompt in (
        ("tiny-en", librivox(args.sounds, "0880"), english),
        ("base", args.sounds / "italian" / "all-circuits-busy-now.wav", italian),
    ):
        out = args.out / f"{name}.safetensors"
        if not out.exists():
            values(args.models / name, sound, prompt, out)
    for name in args.texts:
        listed = texts(args.models, args.sounds, name)
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in listed)
        (args.out / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
