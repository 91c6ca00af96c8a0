"""Who speaks: random voice settings for each language, and which of them training never uses."""

from .synthesisers import FESTIVAL_VOICES, FLITE_PITCH, Setting

# The share of the utterances that the language's second synthesiser speaks, the one that is
# nearer to a human recording; espeak-ng, which has many voices, speaks the others.
SECOND_SHARE = 0.45

ACCENTS = {"en": ["en-us", "en-gb", "en-gb-scotland"], "it": ["it"]}
VARIANTS = ["f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7"]
# Of the espeak-ng voices, these are never trained on.
HELD_OUT_VOICES = [
    "en-us+f3", "en-us+m2", "en-us+m5",
    "en-gb+f2", "en-gb+m4", "en-gb+m7",
    "en-gb-scotland+f5", "en-gb-scotland+m1", "en-gb-scotland+m3",
    "it+f3", "it+m2", "it+m5",
]
LANGUAGES = list(ACCENTS)


def espeak_voices(language, held_out):
    voices = [f"{accent}+{variant}" for accent in ACCENTS[language] for variant in VARIANTS]
    return [voice for voice in voices if (voice in HELD_OUT_VOICES) == held_out]


def second_setting(language, draw, speeds, pitches):
    speed, pitch = draw.choice(speeds), draw.choice(pitches)
    if language == "en":
        return Setting("flite", draw.choice(list(FLITE_PITCH)), speed, pitch)
    # At their own speed Festival's Italian voices drawl.
    return Setting("festival", draw.choice(FESTIVAL_VOICES), round(1.35 * speed, 3), pitch)


def training_setting(language, draw):
    if draw.random() < SECOND_SHARE:
        return second_setting(language, draw, [0.85, 0.95, 1.05, 1.15], [0.9, 1.0, 1.1])
    voice = draw.choice(espeak_voices(language, held_out=False))
    return Setting("espeak-ng", voice, draw.randrange(140, 211, 10), draw.randrange(25, 76, 5))


def unseen_setting(language, draw):
    """A setting off the training grid: in speed and pitch, and for espeak-ng in voice."""
    if draw.random() < SECOND_SHARE:
        return second_setting(language, draw, [0.9, 1.0, 1.1], [0.95, 1.05])
    voice = draw.choice(espeak_voices(language, held_out=True))
    return Setting("espeak-ng", voice, draw.randrange(145, 210, 10), draw.randrange(28, 75, 5))
