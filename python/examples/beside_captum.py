#!/usr/bin/env python3
"""Are sonograd's gradients Captum's?

    pip install sonograd torch==2.11.0 transformers==5.23.0 captum==0.9.0
    python beside_captum.py

Makes a small random Whisper with a window of one second, as transformers saves
it, and a sound. transformers' own feature extractor makes the features; both
are given these. For every token that sonograd hears, Captum differentiates the
token's log-probability in the same model, in 64 bits. Exits with 1 if maps
differ by more than 1e-4 (relative L2 error).
"""

import json
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

import sonograd

SOUND = Path(__file__).resolve().parents[2] / "samples" / "train_to_barcelona.wav"
RATE = 16_000
STEPS = 16
BOUND = 1e-4

WORDS = 48
END, START, NO_TIMES = WORDS, WORDS + 1, WORDS + 2
FIRST_TIME = WORDS + 3
SIZE = FIRST_TIME + 51


def make_model(folder):
    """A random Whisper with all that a folder of one holds."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50, max_target_positions=24, vocab_size=SIZE,
        bos_token_id=END, eos_token_id=END, pad_token_id=END, decoder_start_token_id=START,
        suppress_tokens=None, begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3 if weight.dim() > 1 else 0.1)
    model.generation_config = GenerationConfig(
        bos_token_id=END, eos_token_id=END, pad_token_id=END, decoder_start_token_id=START,
        forced_decoder_ids=None, is_multilingual=False, no_timestamps_token_id=NO_TIMES, max_length=16,
        begin_suppress_tokens=[END], suppress_tokens=[START],
    )
    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(chunk_length=1)
    extractor.save_pretrained(folder)

    def name(token):
        marks = {END: "<|endoftext|>", START: "<|startoftranscript|>", NO_TIMES: "<|notimestamps|>"}
        if token >= FIRST_TIME:
            return f"<|{(token - FIRST_TIME) * 0.02:.2f}|>"
        return marks.get(token, f"\u0120w{token}")

    special = [
        {"id": token, "content": name(token), "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for token in range(WORDS, SIZE)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "WordLevel", "vocab": {name(token): token for token in range(SIZE)},
                  "unk_token": name(0)},
    }))
    return model.double(), extractor


def read(path, seconds):
    with wave.open(str(path)) as file:
        numbers = np.frombuffer(file.readframes(int(seconds * RATE)), dtype="<i2")
    return (numbers / 32_768).astype(np.float32)


def main():
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, extractor = make_model(folder)
        samples = read(SOUND, 0.9)
        inputs = extractor(samples, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")

        listener = sonograd.Listener(folder, device="cpu")
        heard = listener.transcribe(inputs)
        methods = ["gradient", "input-x-gradient", "integrated-gradients"]
        maps = listener.explain(heard, methods=methods, at="input", steps=STEPS)

    tokens = [token.id for token in maps.tokens]
    prompt = [START, NO_TIMES]
    written = torch.tensor([prompt + tokens[:-1]])
    features = inputs["input_features"].double().requires_grad_()
    # The way begins with silence for a sound; what fills the window stays as it is.
    baseline = features.detach().clone()
    baseline[..., : int(inputs["attention_mask"].sum())] = 0.0

    def log_probability(values, row):
        rows = written.expand(len(values), -1)
        logits = model(input_features=values, decoder_input_ids=rows).logits
        place = len(prompt) - 1 + row
        return logits[:, place].log_softmax(-1)[:, tokens[row]]

    saliency = Saliency(log_probability)
    product = InputXGradient(log_probability)
    path = IntegratedGradients(log_probability)
    captum = {
        "gradient": lambda row: saliency.attribute(features, additional_forward_args=row, abs=False),
        "input-x-gradient": lambda row: product.attribute(features, additional_forward_args=row),
        "integrated-gradients": lambda row: path.attribute(
            features, baseline, additional_forward_args=row, n_steps=STEPS, method="gausslegendre"),
    }
    print(f"{len(tokens)} tokens of a random Whisper, {features.shape[-1]} frames")
    worst = 0.0
    for method, attribute in captum.items():
        theirs = torch.cat([attribute(row) for row in range(len(tokens))]).transpose(1, 2).detach().numpy()
        ours = maps[method, "input"].data
        # sonograd's maps end with the sound, transformers' features with the window.
        theirs = theirs[:, : ours.shape[1]]
        error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        worst = max(worst, error)
        print(f"{method:22} relative L2 error {error:.1e}")
    with torch.no_grad():
        theirs = [log_probability(features, row).item() for row in range(len(tokens))]
    apart = max(abs(own.log_probability - other) for own, other in zip(maps.tokens, theirs))
    print(f"log-probabilities apart by at most {apart:.1e}")
    return 0 if worst <= BOUND and apart <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
