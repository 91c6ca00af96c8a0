"""Model folders with random weights, and what is computed on them."""

import json
from dataclasses import asdict

import torch
from safetensors.torch import save_file

from random_weights import randomise
from references.hearing import SAMPLE_RATE, hear
from references.recogniser import open_recogniser
from small_models.conformer import Config, Conformer
from small_models.model_folder import ARCHITECTURE, TRAINING_ONLY

from .subject import Subject

# Sizes of the model, frames T, tokens I. The projection is a weight of its own: with random weights a tied
# one would predict the token that was read, whatever was heard.
CONFORMERS = {
    "small": (Config(tie_word_embeddings=False), 326, 24),
    "large": (
        Config(d_model=512, encoder_layers=4, decoder_layers=2, encoder_attention_heads=8,
               decoder_attention_heads=8, decoder_ffn_dim=2048, conv_channels=1024,
               conformer_conv_kernel_size=31, vocab_size=8000, tie_word_embeddings=False),
        500, 30,
    ),
}
# D, layers of each side, heads: those of `sonograd bench --preset`, as published.
WHISPERS = {"whisper-tiny": (384, 4, 6), "whisper-base": (512, 6, 8), "whisper-small": (768, 12, 12)}
# D and layers of each side, as published.
MOONSHINES = {"moonshine-tiny": (288, 6), "moonshine-base": (416, 8)}
CASES = (*CONFORMERS, *WHISPERS, *MOONSHINES, "s2t-small", "canary-eighth")
# Of the cases of transformers.
SECONDS, TOKENS = 10, 24


def write_case(name, folder, seed=0):
    """Writes the case's model folder; returns its subject."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    if name in CONFORMERS:
        config, frames, tokens = CONFORMERS[name]
        save_conformer(config, folder, seed)
        features, waveform = torch.randn(frames, config.input_feat_per_channel, generator=generator), None
    else:
        model = made(name, folder)
        randomise(model, seed)
        model.save_pretrained(folder)
        config, tokens = model.config, TOKENS
        waveform = 0.1 * torch.randn(SECONDS * SAMPLE_RATE, generator=generator)
        heard = open_recogniser(folder, torch.float32)
        features = hear(heard, folder, waveform.numpy())[0]
    # Behind the words come Whisper's special tokens, before them those of the others.
    words = (0, config.eos_token_id) if name in WHISPERS else (3, config.vocab_size)
    labels = torch.randint(*words, (tokens,), generator=generator)
    start = config.decoder_start_token_id
    start = config.bos_token_id if start is None else start
    inputs = torch.cat([torch.tensor([start]), labels[:-1]])
    return Subject(features, inputs, labels, waveform)


def made(name, folder):
    """The model of transformers, and its feature extractor in the folder where that is none by default."""
    if name in WHISPERS:
        return whisper(*WHISPERS[name])
    if name in MOONSHINES:
        return moonshine(*MOONSHINES[name], folder)
    return speech_to_text() if name == "s2t-small" else canary(folder)


def save_conformer(config, folder, seed):
    model = Conformer(config)
    randomise(model, seed)
    state = {key: value.contiguous() for key, value in model.state_dict().items()
             if not key.endswith(TRAINING_ONLY)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architectures": [ARCHITECTURE], **asdict(config)}, indent=1))


def whisper(width, layers, heads):
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    return WhisperForConditionalGeneration(WhisperConfig(
        d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, vocab_size=51865,
        bos_token_id=50257, pad_token_id=50257, eos_token_id=50257, decoder_start_token_id=50258,
    ))


def moonshine(width, layers, folder):
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration, Wav2Vec2FeatureExtractor

    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return MoonshineForConditionalGeneration(MoonshineConfig(
        hidden_size=width, intermediate_size=4 * width, encoder_num_hidden_layers=layers,
        decoder_num_hidden_layers=layers, max_position_embeddings=194, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 32.5 / (width // 8)},
    ))


def canary(folder):
    """Canary's published sizes in an eighth of its depth."""
    from transformers import CanaryConfig, CanaryForConditionalGeneration, ParakeetFeatureExtractor

    ParakeetFeatureExtractor(feature_size=128).save_pretrained(folder)
    config = CanaryConfig()
    config.encoder_config.num_hidden_layers //= 8
    config.decoder_config.num_hidden_layers //= 8
    return CanaryForConditionalGeneration(config)


def speech_to_text():
    from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

    # The published small one's sizes are the defaults.
    return Speech2TextForConditionalGeneration(Speech2TextConfig())
