"""From a sound file to features, by the front ends of transformers."""

import wave

import numpy as np
import torch

from .recogniser import FastConformer, Moonshine, Whisper, read_json

SAMPLE_RATE = 16000
# Samples from one frame to the next, in both front ends.
FRAME_SHIFT = 160


def read_wave(path):
    """The waveform (S,), float32, full scale -1 to 1, of a WAV file of integers at 16 kHz."""
    with wave.open(str(path)) as file:
        rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
        data = file.readframes(file.getnframes())
    if rate != SAMPLE_RATE or width not in (2, 4):
        raise ValueError(
            f"{path}: {rate} Hz, {8 * width} bits; convert it with `ffmpeg -i IN -ac 1 -ar 16000 OUT.wav`"
        )
    samples = np.frombuffer(data, dtype=f"<i{width}").reshape(-1, channels)
    return (samples.mean(axis=1) / 2 ** (8 * width - 1)).astype(np.float32)


def extractor_for(model, folder):
    """The feature extractor that the folder describes, or the family's usual one."""
    from transformers import AutoFeatureExtractor, Speech2TextFeatureExtractor, WhisperFeatureExtractor

    if isinstance(model, FastConformer | Moonshine):
        return AutoFeatureExtractor.from_pretrained(folder)
    values = read_json(folder / "preprocessor_config.json")
    if isinstance(model, Whisper):
        # 100 frames make a second; small models have short windows.
        usual = {"feature_size": model.mel_bins, "chunk_length": model.frames / 100}
        extractor = WhisperFeatureExtractor(**usual | values)
        extractor.n_samples = model.frames * extractor.hop_length
        return extractor
    usual = {"feature_size": model.mel_bins, "num_mel_bins": model.mel_bins}
    return Speech2TextFeatureExtractor(**usual | values)


def hear(model, folder, waveform):
    """Features (T, F), float32, and the number of frames that are sound; (S, 1) of Moonshine.

    The rest of Whisper's window, if any, is padding.
    """
    extractor = extractor_for(model, folder)
    if isinstance(model, Moonshine):
        made = extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="np")
        return torch.from_numpy(np.array(made["input_values"][0], np.float32))[:, None], len(waveform)
    made = extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="np")
    features = torch.from_numpy(np.array(made["input_features"][0], np.float32))
    if isinstance(model, FastConformer):
        # One frame is masked, and the model makes nothing of it.
        features = features[:int(made["attention_mask"][0].sum())]
    if isinstance(model, Whisper):
        features = features.T.contiguous()
        return features, min(model.frames, -(-len(waveform) // FRAME_SHIFT))
    if not features.isfinite().all():
        raise ValueError("the features are not finite: a mel bin never changes in this sound")
    return features, len(features)
