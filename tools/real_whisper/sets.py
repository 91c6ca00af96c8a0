"""Sets of utterances: which recordings, with what text; and their manifests.

Telephone prompts are taken in the order of their names' SHA-256, which nobody chose, so that the first N are
as good a sample as any other N.
"""

import hashlib
import re

ENTRY = re.compile(r"^([\w/-]+): *(.+?) *$")
SENTENCE = re.compile(r"<s> (.*) </s> \((.*)\)")
# Words as a plain dictionary has them: no figures, abbreviations or remarks in brackets. A question mark
# stands where the Italian list has lost an accent.
PLAIN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*[.,;:!]*")
WORDS = range(7, 21)


class Utterance:
    def __init__(self, name, sound, text):
        self.name, self.sound, self.text = name, sound, text

    def words(self):
        return [word.strip(".,;:!").lower().replace("’", "'") for word in self.text.split()]


def librivox(material):
    """Sentences read aloud for LibriVox."""
    folder = material.sounds["librivox"]
    matches = map(SENTENCE.match, material.texts["librivox"].read_text().splitlines())
    found = ((match[2], match[1]) for match in matches if match)
    return [Utterance(name, folder / f"{name}.wav", text) for name, text in found]


def prompts(material, language):
    """Telephone prompts of 7 to 20 plain words of which there is a recording."""
    found = []
    # Both exchanges use the same names; true onsets are known by name.
    mark = "" if language == "english" else f"{language}-"
    for name, text in listed(material.texts[language]).items():
        sound, words = material.sounds[language] / f"{name}.wav", text.split()
        if len(words) in WORDS and all(map(PLAIN.fullmatch, words)) and sound.is_file():
            found.append(Utterance(mark + name.replace("/", "-"), sound, text))
    return sorted(found, key=lambda one: hashlib.sha256(one.name.encode()).digest())


def listed(path):
    """Texts of an exchange's list by the names of their recordings."""
    matches = map(ENTRY.match, path.read_text(encoding="utf-8-sig").splitlines())
    return {match[1]: match[2] for match in matches if match}


def translated(material, utterances):
    """Italian prompts with what the English list has under the same name: what a translation is held against."""
    texts = {f"italian-{name.replace('/', '-')}": text for name, text in listed(material.texts["english"]).items()}
    return [Utterance(one.name, one.sound, texts[one.name]) for one in utterances if one.name in texts]


def manifest(path, utterances, spoken, written):
    rows = [("id", "audio", "n_frames", "tgt_text", "speaker", "src_lang", "tgt_lang")]
    rows += [(one.name, one.sound, "0", one.text, "", spoken, written) for one in utterances]
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
