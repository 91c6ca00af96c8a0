"""The unigram tokeniser of a small model."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# In the order of their ids, which config.json repeats; language tags follow.
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]


def language_tag(language):
    return f"<lang:{language}>"


def train_tokenizer(sentences, vocabulary_size, tagged_languages=()):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    # With the default of two sub-iterations the pieces that a small lexicon yields die out too soon.
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary_size,
        n_sub_iterations=4,
        special_tokens=SPECIAL_TOKENS + [language_tag(language) for language in tagged_languages],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    if tokenizer.get_vocab_size() != vocabulary_size:
        raise ValueError(f"the text yields {tokenizer.get_vocab_size()} tokens, not {vocabulary_size}")
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", end)]
    )
    return tokenizer
