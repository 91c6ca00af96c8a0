"""What each of the shipped models is and how it is trained: one recipe by name."""

from dataclasses import dataclass

from .conformer import Config


@dataclass(frozen=True)
class Recipe:
    languages: tuple = ("en",)
    # Whether the model also translates; each utterance then trains all target languages at once.
    translate: bool = False
    vocabulary: int = 256
    # The folder in weights/ that training begins with, or nothing.
    begin_with: str = ""
    # Twice the layers of the model that training begins with.
    double_layers: bool = False
    steps: int = 4500
    peak_learning_rate: float = 2e-3
    warm_up_steps: int = 400

    @property
    def tagged(self):
        """Whether the target begins with a language tag."""
        return len(self.languages) > 1

    @property
    def config(self):
        small = Config(vocab_size=self.vocabulary)
        if not self.double_layers:
            return small
        return Config(
            vocab_size=self.vocabulary,
            encoder_layers=2 * small.encoder_layers,
            decoder_layers=2 * small.decoder_layers,
        )

    def targets(self, entry):
        """{target language: text} of a manifest line."""
        texts = {entry["language"]: entry["text"]}
        return texts | entry["translations"] if self.translate else texts


BOTH = ("en", "it")
RECIPES = {
    "base-en": Recipe(),
    "multi-task-small": Recipe(BOTH, translate=True, vocabulary=388, begin_with="base-en", steps=4000),
    "multilingual-small": Recipe(
        BOTH, vocabulary=388, begin_with="multi-task-small", steps=1500, peak_learning_rate=1e-3, warm_up_steps=200
    ),
    "multi-task-large": Recipe(
        BOTH, translate=True, vocabulary=388, begin_with="multi-task-small", double_layers=True,
        steps=3000, peak_learning_rate=1e-3, warm_up_steps=200,
    ),
    "multilingual-large": Recipe(
        BOTH, vocabulary=388, begin_with="multilingual-small", double_layers=True,
        steps=1500, peak_learning_rate=1e-3, warm_up_steps=200,
    ),
}
