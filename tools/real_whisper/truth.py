"""When words were said, by a hidden Markov model that owes nothing to attention: pocketsphinx aligns the text.

Its English acoustic model hears 16 kHz, in steps of 10 ms. Sounds at other rates are resampled by FFmpeg's
swresample (through PyAV, as faster-whisper reads sounds). Each utterance has a decoder of its own, so that
none depends on those before it.
"""

import json

import numpy
from faster_whisper.audio import decode_audio
from pocketsphinx import Decoder

STEPS = 100  # a second


def onsets(path, utterances):
    """Writes the words of all utterances that can be aligned; returns these, and why others cannot be."""
    good, bad = [], {}
    with path.open("w") as file:
        for one in utterances:
            words, problem = aligned(one)
            if problem:
                bad[one.name] = problem
                continue
            file.write(json.dumps({"id": one.name, "text": " ".join(one.words()), "words": words}) + "\n")
            good.append(one)
    return good, bad


def aligned(utterance):
    """Words with their times, or a reason."""
    decoder = Decoder(loglevel="FATAL", lm=None)
    unknown = [word for word in utterance.words() if decoder.lookup_word(word) is None]
    if unknown:
        return None, f"not in the dictionary: {unknown[0]}"
    sound = decode_audio(str(utterance.sound), sampling_rate=16000)
    decoder.set_align_text(" ".join(utterance.words()))
    decoder.start_utt()
    decoder.process_raw((sound * 32767).astype(numpy.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    found = [segment for segment in decoder.seg() or () if not segment.word.startswith(("<", "["))]
    # A dictionary's second pronunciation is named word(2).
    if [segment.word.split("(")[0] for segment in found] != utterance.words():
        return None, "not aligned"
    return [{"word": word, "onset_seconds": segment.start_frame / STEPS,
             "end_seconds": (segment.end_frame + 1) / STEPS}
            for word, segment in zip(utterance.words(), found)], None
