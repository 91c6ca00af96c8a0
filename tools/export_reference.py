#!/usr/bin/env python3
"""Writes `reference.safetensors`, which `sonograd validate` compares a model with.

    python export_reference.py MODEL_FOLDER --audio SOUND.wav
    python export_reference.py MODEL_FOLDER --frames 120 --seed 1
    python export_reference.py MODEL_FOLDER --check REFERENCE.safetensors

The folder is one as Hugging Face saves it, or Whisper as CTranslate2 has it. The FBK conformer runs in
small_models/conformer.py, the others in transformers, all in float64 on the processor. The forced tokens
are the prompt (start token; for Whisper language, task and no-timestamps tokens; for Cohere Transcribe and
Canary what their processors make), then
--text, --tokens, or else what the model writes greedily about the sound, or random ids for random
features. docs/reference-format.md describes the tensors. --check computes everything in a reference
again from its features, tokens and masks, prints the relative L2 error of each tensor and exits with 1
if one is above 1e-5.
"""

import argparse
import sys
from pathlib import Path

import torch

from references.hearing import FRAME_SHIFT, SAMPLE_RATE, hear, read_wave
from references.recogniser import open_recogniser
from references.reference_file import compute, errors, write
from references.saliency import GRADIENTS
from references.utterance import forced, greedy, prompt_of, random_features, random_ids, random_masks, text_ids

TOLERANCE = 1e-5
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_folder", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--audio", type=Path, metavar="FILE", help="a WAV file, 16 kHz")
    source.add_argument("--frames", type=int, metavar="N", help="random features of N frames (Whisper: of its window)")
    source.add_argument("--check", type=Path, metavar="REFERENCE", help="compute a reference again and compare")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--text", help="the text that is explained, after the prompt")
    text.add_argument("--tokens", metavar="ID,...", help="its token ids, without prompt and end token")
    parser.add_argument("--prompt", metavar="ID,...", help="all tokens before the text, start token included")
    parser.add_argument("--language", help="the spoken language, such as `en`; Whisper detects it by default")
    parser.add_argument("--task", default="transcribe", help="transcribe or translate; for Canary also translate:LANGUAGE")
    parser.add_argument("--most-tokens", type=int, default=64, metavar="N", help="end of the greedy search")
    parser.add_argument("--random-tokens", type=int, default=5, metavar="N", help="random ids for random features")
    parser.add_argument("--masks", type=int, default=12, metavar="M", help="masks in each of the three sets")
    parser.add_argument("--seed", type=int, default=0, help="of masks, random features and random ids")
    parser.add_argument("--leave-out", default="", metavar="NAME,...", help="tensors not to write")
    parser.add_argument("--precision", choices=PRECISIONS, default="float64",
                        help="float32 halves the memory; its rounding errors are those of sonograd itself")
    parser.add_argument("--output", type=Path, help="default: reference.safetensors in the model folder")
    return parser.parse_args()


def numbers(text):
    return [int(number) for number in text.split(",") if number]


def cut(model, waveform):
    """What fits into Whisper's window; other models hear everything."""
    most = model.frames * FRAME_SHIFT if model.frames else len(waveform)
    if len(waveform) > most:
        print(f"the sound is cut to {most / SAMPLE_RATE} seconds, the model's window", file=sys.stderr)
    return waveform[:most].copy()


def make(model, folder, *, audio=None, frames=None, seed=0, text=None, tokens=None, prompt=None,
         language=None, task="transcribe", most_tokens=64, random_tokens=5, masks=12, leave_out=(), half=False):
    """All tensors of a reference. audio: a path, or None for random features of `frames` frames, in float16 if `half`."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    if audio is None:
        features = random_features(model, frames, generator, half)
        sound = len(features)
    else:
        waveform = cut(model, read_wave(audio))
        made["waveform"] = torch.from_numpy(waveform)
        features, sound = hear(model, folder, waveform)
    with torch.no_grad():
        memory = model.encode(features[None].to(model.dtype))
    if prompt is None:
        prompt = prompt_of(model, memory, language, task)
    if text is not None:
        tokens = text_ids(folder, text)
    elif tokens is None:
        tokens = (random_ids(model, random_tokens, generator) if audio is None
                  else greedy(model, memory, prompt, most_tokens))
    ids, labels = forced(model, prompt, tokens)
    outside = [i for i in ids.tolist() + labels.tolist() if not 0 <= i < model.vocabulary]
    if outside:
        raise ValueError(f"token ids {outside} are outside the vocabulary of {model.vocabulary}")
    encoder_frames = memory.shape[1]
    # Sound that ends inside an encoder frame counts as the whole frame.
    encoder_sound = -(-sound * encoder_frames // len(features))
    chosen = random_masks(
        len(features), sound, features.shape[1], encoder_frames, encoder_sound, len(ids), masks, generator
    )
    kept = {name: mask for name, mask in chosen.items() if name not in leave_out}
    wanted_gradients = [name for name in GRADIENTS if name not in leave_out]
    made |= {"features": features, "decoder_input_ids": ids, "labels": labels, **chosen}
    made |= compute(model, features, ids, labels, kept, wanted_gradients)
    return {name: tensor for name, tensor in made.items() if name not in leave_out}


def check(model, folder, path):
    found = errors(model, folder, path)
    for name, error in found.items():
        print(f"{name:26} {error:.1e}")
    # Written so that a NaN fails.
    return all(error <= TOLERANCE for error in found.values())


def main():
    arguments = parse()
    folder = arguments.model_folder
    model = open_recogniser(folder, PRECISIONS[arguments.precision])
    if arguments.check:
        return 0 if check(model, folder, arguments.check) else 1
    tensors = make(
        model, folder, audio=arguments.audio, frames=arguments.frames, seed=arguments.seed,
        text=arguments.text, tokens=arguments.tokens and numbers(arguments.tokens),
        prompt=arguments.prompt and numbers(arguments.prompt), language=arguments.language,
        task=arguments.task, most_tokens=arguments.most_tokens, random_tokens=arguments.random_tokens,
        masks=arguments.masks, leave_out=tuple(arguments.leave_out.split(",")),
    )
    output = arguments.output or folder / "reference.safetensors"
    write(output, tensors, arguments.precision)
    for name, tensor in tensors.items():
        print(f"{name:26} {tuple(tensor.shape)}")
    print(f"{output}, {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as problem:
        print(f"export_reference: {problem}", file=sys.stderr)
        sys.exit(2)
