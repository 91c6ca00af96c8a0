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
    # Times the layers of a small model.
    layers: int = 1
    # Hidden units of a feed-forward module for each column; the decoder's have as many.
    feed_forward_factor: int = 4
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
        return Config(
            vocab_size=self.vocabulary,
            encoder_layers=self.layers * small.encoder_layers,
            decoder_layers=self.layers * small.decoder_layers,
            feed_forward_expansion_factor=self.feed_forward_factor,
            decoder_ffn_dim=self.feed_forward_factor * small.d_model,
        )

    @property
    def directions(self):
        """Spoken and written languages, such as en-it."""
        return [
            f"{spoken}-{written}" for spoken in self.languages for written in self.languages
            if self.translate or spoken == written
        ]

    def targets(self, entry):
        """{target language: text} of a manifest line."""
        texts = {entry["language"]: entry["text"]}
        return texts | entry["translations"] if self.translate else texts


BOTH = ("en", "it")
RECIPES = {
    "base-en": Recipe(),
    "multi-task-small": Recipe(BOTH, translate=True, vocabulary=388, begin_with="base-en", steps=3200),
    "multilingual-small": Recipe(
        BOTH, vocabulary=388, begin_with="multi-task-small", steps=800, peak_learning_rate=1e-3, warm_up_steps=100
    ),
    "multi-task-large-wide": Recipe(
        BOTH, translate=True, vocabulary=388, begin_with="multi-task-small", layers=2,
        steps=1200, peak_learning_rate=1e-3, warm_up_steps=100,
    ),
    # Half of the feed-forward units of the wide one go, so that it takes two thirds of the room.
    "multi-task-large": Recipe(
        BOTH, translate=True, vocabulary=388, begin_with="multi-task-large-wide", layers=2,
        feed_forward_factor=2, steps=500, peak_learning_rate=5e-4, warm_up_steps=50,
    ),
}
