"""espeak-ng, flite and Festival: a waveform and the onset of every word.

The first two are C libraries that keep global state; Festival runs as a process of its own. Use
one Python process per stream of utterances.
"""

import ctypes
import functools
import re
import subprocess
import tempfile
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .front_end import SAMPLE_RATE


class Setting(NamedTuple):
    """How an utterance is spoken.

    espeak-ng: `voice` like "en-gb+f2", `speed` in words a minute, `pitch` from 0 to 99.
    flite and festival: `voice` like "slt", `speed` and `pitch` as factors of the voice's own.
    """

    synthesizer: str
    voice: str
    speed: float
    pitch: float


class Utterance(NamedTuple):
    waveform: np.ndarray  # 16 kHz, in [-1, 1]
    onsets: list  # seconds, one per word; None where the synthesiser reports none


def resample(waveform, ratio):
    """Band-limited resampling to `ratio` times as many samples, by cutting the spectrum."""
    length = round(len(waveform) * ratio)
    return np.fft.irfft(np.fft.rfft(waveform)[: length // 2 + 1], length) * (length / len(waveform))


# espeak-ng's constants, from speak_lib.h.
AUDIO_OUTPUT_RETRIEVAL = 1
PARAMETER_RATE, PARAMETER_PITCH = 1, 3
POSITION_CHARACTER = 1
CHARACTERS_UTF8 = 1
EVENT_END_OF_LIST, EVENT_WORD = 0, 1

# Where espeak-ng keeps each language; not every language code is a voice name (British English).
ESPEAK_FILES = {
    "en-us": "gmw/en-US",
    "en-gb": "gmw/en",
    "en-gb-scotland": "gmw/en-GB-scotland",
    "it": "roa/it",
}


class EspeakEvent(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


SynthesisCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(EspeakEvent)
)


class Espeak:
    def __init__(self):
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(AUDIO_OUTPUT_RETRIEVAL, 0, None, 0)
        # The library keeps the pointer only; the attribute keeps the callback alive.
        self.callback = SynthesisCallback(self.receive)
        self.library.espeak_SetSynthCallback(self.callback)
        self.chunks, self.word_events = [], []

    def receive(self, samples, count, events):
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != EVENT_END_OF_LIST:
            if events[index].type == EVENT_WORD:
                self.word_events.append((events[index].text_position - 1, events[index].sample))
            index += 1
        return 0

    def speak(self, text, setting):
        self.chunks, self.word_events = [], []
        library = self.library
        language, variant = setting.voice.split("+")
        if library.espeak_SetVoiceByName(f"{ESPEAK_FILES[language]}+{variant}".encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {setting.voice!r}")
        library.espeak_SetParameter(PARAMETER_RATE, int(setting.speed), 0)
        library.espeak_SetParameter(PARAMETER_PITCH, int(setting.pitch), 0)
        encoded = text.encode()
        library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, POSITION_CHARACTER, 0, CHARACTERS_UTF8, None, None
        )
        library.espeak_Synchronize()
        waveform = np.concatenate(self.chunks) / 2**15
        sample_of = dict(self.word_events)
        onsets = []
        for word in re.finditer(r"\S+", text):
            sample = sample_of.get(word.start())
            onsets.append(None if sample is None else sample / self.rate)
        return Utterance(resample(waveform, SAMPLE_RATE / self.rate), onsets)


class FliteWave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


class FliteVoice(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("features", ctypes.c_void_p)]


# The mean fundamental frequency that each voice has by itself, in hertz.
FLITE_PITCH = {"slt": 170.0, "rms": 100.0, "awb": 125.0, "kal16": 95.0}

# From a word to the end of the segment before its first one, which is where the word begins.
WORD_ONSET_PATH = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"


class Flite:
    def __init__(self):
        self.library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        self.library.flite_init()
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        signatures = {
            "flite_synth_text": (pointer, [text, pointer]),
            "utt_wave": (ctypes.POINTER(FliteWave), [pointer]),
            "utt_relation": (pointer, [pointer, text]),
            "relation_head": (pointer, [pointer]),
            "item_next": (pointer, [pointer]),
            "ffeature_float": (ctypes.c_float, [pointer, text]),
            "feat_set_float": (None, [pointer, text, ctypes.c_float]),
            "delete_utterance": (None, [pointer]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self.voices = {}

    def voice(self, name):
        if name not in self.voices:
            register = getattr(ctypes.CDLL(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
            register.restype, register.argtypes = ctypes.POINTER(FliteVoice), [ctypes.c_char_p]
            self.voices[name] = register(None)
        return self.voices[name]

    def speak(self, text, setting):
        library, voice = self.library, self.voice(setting.voice)
        features = voice.contents.features
        library.feat_set_float(features, b"duration_stretch", 1.0 / setting.speed)
        library.feat_set_float(features, b"int_f0_target_mean", FLITE_PITCH[setting.voice] * setting.pitch)
        utterance = library.flite_synth_text(text.encode(), voice)
        wave = library.utt_wave(utterance).contents
        waveform = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)) / 2**15
        rate, onsets = wave.sample_rate, []
        word = library.relation_head(library.utt_relation(utterance, b"Word"))
        while word:
            onsets.append(library.ffeature_float(word, WORD_ONSET_PATH))
            word = library.item_next(word)
        library.delete_utterance(utterance)
        if rate != SAMPLE_RATE:
            waveform = resample(waveform, SAMPLE_RATE / rate)
        return Utterance(waveform, onsets)


# Prints each word's onset in seconds, found as in flite, and then a line that says it is done.
FESTIVAL_SAY = """
(define (say text file)
  (let ((utterance (utt.synth (eval (list 'Utterance 'Text text)))))
    (utt.save.wave utterance file 'riff)
    (mapcar
      (lambda (word)
        (format t "%f\\n" (item.feat word "R:SylStructure.daughter1.daughter1.R:Segment.p.end")))
      (utt.relation.items utterance 'Word))
    (format t "done\\n")
    (fflush nil)))
"""

# Voices of the Debian packages festvox-italp16k and festvox-itapc16k.
FESTIVAL_VOICES = ["lp", "pc"]


class Festival:
    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "speech.wav"
        # Its Italian voices read Latin 1.
        self.process = subprocess.Popen(
            ["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="latin-1"
        )
        self.command(FESTIVAL_SAY)

    def command(self, expression):
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def speak(self, text, setting):
        # Diphones keep their pitch, so pitch comes from resampling, which moves the formants too:
        # with two voices only, that is welcome. The duration makes up for it.
        self.command(f"(voice_{setting.voice}_diphone)")
        self.command(f"(Parameter.set 'Duration_Stretch {setting.pitch / setting.speed:.4f})")
        self.command(f'(say "{text}" "{self.file}")')
        onsets = []
        while (line := self.process.stdout.readline().strip()) != "done":
            if not line and self.process.poll() is not None:
                raise RuntimeError(f"festival ended at {text!r}")
            onsets.append(float(line) / setting.pitch)
        if len(onsets) != len(text.split()):
            raise ValueError(f"festival said {len(onsets)} words of {text!r}")
        with wave.open(str(self.file)) as file:
            assert file.getframerate() == SAMPLE_RATE
            # These voices reach full scale; resampling overshoots.
            waveform = 0.6 * np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15
        return Utterance(resample(waveform, 1 / setting.pitch), onsets)


@functools.cache
def synthesizer(name):
    return {"espeak-ng": Espeak, "flite": Flite, "festival": Festival}[name]()


def speak(text, setting):
    return synthesizer(setting.synthesizer).speak(text, setting)
