"""Speech recognisers of seven families behind one interface.

Shapes: B variants of one utterance, T input frames, F mel bins, T' encoder frames, D model dimension,
I decoder positions, V vocabulary, L decoder layers, H heads. Everything stays on the processor.
"""

import contextlib
import functools
import json
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import safe_open
from torch.utils.checkpoint import checkpoint

from small_models.conformer import Config, Conformer

CONFORMER = "ConformerEncoderDecoderForConditionalGeneration"
WHISPER = "WhisperForConditionalGeneration"
SPEECH_TO_TEXT = "Speech2TextForConditionalGeneration"
COHERE = "CohereAsrForConditionalGeneration"
CANARY = "CanaryForConditionalGeneration"
MOONSHINE = "MoonshineForConditionalGeneration"
MOONSHINE_STREAMING = "MoonshineStreamingForConditionalGeneration"

# What a published conformer may hold beside what inference needs.
IGNORED = ("num_batches_tracked", "positional_encoding.pe", "_float_tensor", ".version",
           "embed_positions.weights")
IGNORED_MODULES = ("auxiliary_decoder.", "encoder.ctc_fc.")
# Fields of a conformer's configuration that a folder may leave out, as transformers' own do.
OPTIONAL_FIELDS = {
    "feed_forward_expansion_factor", "conv_expansion_factor", "conformer_half_step_residual",
    "activation_function", "max_source_positions", "max_target_positions", "bos_token_id",
    "pad_token_id", "eos_token_id", "decoder_start_token_id", "scale_embedding", "tie_word_embeddings",
}


def read_json(path):
    """The object in a file, or an empty one where there is no file."""
    return json.loads(path.read_text()) if path.exists() else {}


class Recogniser:
    """What the export needs of a model; subclasses give `encode`, `logits_and_attention` and modules."""

    # Implementations of attention that can be chosen by `use_attention`.
    ATTENTIONS = (None,)

    def __init__(self, folder, module, encoder_layers, embedding):
        self.config = read_json(folder / "config.json")
        self.generation = read_json(folder / "generation_config.json")
        self.module = module.eval().requires_grad_(False)
        self.encoder_layers = encoder_layers
        self.embedding = embedding
        self.dtype = embedding.weight.dtype

    @property
    def vocabulary(self):
        return self.embedding.num_embeddings

    def special(self, name):
        """The id of a special token such as `eos_token_id`; None where the folder names none."""
        value = self.generation.get(name, self.config.get(name))
        # generate() asks config.json only where there is no other file.
        if name == "decoder_start_token_id" and self.generation.get("bos_token_id") is not None:
            value = self.generation.get(name)
            value = self.generation["bos_token_id"] if value is None else value
        return value[0] if isinstance(value, list) else value

    def encode(self, features):
        """The encoder output (B, T', D) of features (B, T, F)."""
        raise NotImplementedError

    def logits_and_attention(self, tokens, memory):
        """Logits (B, I, V) and cross-attention, L tensors (B, H, I, T'), of tokens and memory."""
        raise NotImplementedError

    def logits(self, tokens, memory):
        """The logits alone, which may be had without attention weights."""
        return self.logits_and_attention(tokens, memory)[0]

    def use_attention(self, name):
        """One of ATTENTIONS; only `logits` works with all of them."""

    def decode(self, tokens, memory, keep=None):
        """Logits (B, I, V) and cross-attention (B, L, H, I, T').

        tokens: (I,); memory: (B, T', D); keep: (B, I), 0 where a token's embedding is set to zero.
        Its position is added all the same, since that happens after the embedding.
        """
        variants = len(memory) if keep is None else len(keep)
        tokens, memory = tokens.expand(variants, -1), memory.expand(variants, -1, -1)

        def hide(_module, _inputs, embedded):
            return embedded * keep[..., None].to(embedded)

        hook = self.embedding.register_forward_hook(hide) if keep is not None else None
        try:
            logits, attention = self.logits_and_attention(tokens, memory)
        finally:
            if hook:
                hook.remove()
        return logits, torch.stack(attention, dim=1)

    @contextlib.contextmanager
    def recomputed_encoder(self):
        """Inside, the graph of an encoder pass keeps each layer's input alone and computes the rest
        again in every reverse pass: the attention weights of a large encoder would fill the memory."""
        for layer in self.encoder_layers:
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        try:
            yield
        finally:
            for layer in self.encoder_layers:
                del layer.forward


class InTransformers(Recogniser):
    """A model of transformers; subclasses give `load` and `encode`."""

    ATTENTIONS = ("sdpa", "eager")

    def __init__(self, folder, dtype):
        model = self.load(folder, dtype)
        super().__init__(folder, model, model.model.encoder.layers, model.model.decoder.embed_tokens)
        self.encoder_heads = model.config.encoder_attention_heads

    def use_attention(self, name):
        self.module.set_attn_implementation(name)

    def _decoded(self, tokens, memory, attention):
        return self.module.model.decoder(
            input_ids=tokens, encoder_hidden_states=memory, use_cache=False, output_attentions=attention
        )

    def logits(self, tokens, memory):
        return self.module.get_output_embeddings()(self._decoded(tokens, memory, False).last_hidden_state)

    def logits_and_attention(self, tokens, memory):
        output = self._decoded(tokens, memory, True)
        return self.module.get_output_embeddings()(output.last_hidden_state), output.cross_attentions


class Whisper(InTransformers):
    def __init__(self, folder, dtype):
        super().__init__(folder, dtype)
        self.frames = 2 * self.module.config.max_source_positions
        self.mel_bins = self.module.config.num_mel_bins

    def load(self, folder, dtype):
        # Transformers takes seconds to import; the conformer does without it.
        from transformers import WhisperForConditionalGeneration

        return load_with_transformers(WhisperForConditionalGeneration, folder, dtype)

    def encode(self, features):
        return self.module.model.encoder(features.transpose(1, 2)).last_hidden_state


class WhisperInCTranslate2(Whisper):
    def __init__(self, folder, dtype):
        super().__init__(folder, dtype)
        self.config = self.module.config.to_dict()
        self.generation = self.module.generation_config.to_dict()

    def load(self, folder, dtype):
        from .ctranslate2 import load

        return load(folder, dtype)


class SpeechToText(InTransformers):
    ATTENTIONS = ("eager",)
    frames = None

    def __init__(self, folder, dtype):
        super().__init__(folder, dtype)
        self.mel_bins = self.module.config.input_feat_per_channel * self.module.config.input_channels

    def load(self, folder, dtype):
        from transformers import Speech2TextForConditionalGeneration

        return load_with_transformers(Speech2TextForConditionalGeneration, folder, dtype)

    def encode(self, features):
        return self.module.model.encoder(features).last_hidden_state


class FastConformer(InTransformers):
    """A FastConformer with a decoder; subclasses give `kind` and the prompt."""

    frames = None

    def __init__(self, folder, dtype):
        self.folder = folder
        model = self.load(folder, dtype)
        Recogniser.__init__(self, folder, model, model.model.encoder.layers, model.model.decoder.embed_tokens)
        self.mel_bins = model.config.encoder_config.num_mel_bins
        self.encoder_heads = model.config.encoder_config.num_attention_heads

    def load(self, folder, dtype):
        import transformers

        model = load_with_transformers(getattr(transformers, self.kind), folder, dtype)
        model.set_attn_implementation(exact_attention())
        return model

    def encode(self, features):
        return self.module.model.encoder(features).last_hidden_state

    def prompt(self, language, task):
        """Token ids that stand before the text, as transformers' generate makes them of its processor's."""
        from transformers import AutoProcessor

        ids = self.asked(AutoProcessor.from_pretrained(self.folder), language, task)
        start = self.special("decoder_start_token_id")
        return ids if ids[0] == start else [start, *ids]


class Cohere(FastConformer):
    kind = COHERE

    def asked(self, processor, language, task):
        if language is None:
            raise ValueError("give --language: the model has to be told it")
        return processor.get_decoder_prompt_ids(language)


class Canary(FastConformer):
    kind = CANARY

    def asked(self, processor, language, task):
        language = language or "en"
        target = None if task == "transcribe" else task.removeprefix("translate").removeprefix(":") or "en"
        asked = processor.apply_transcription_request(
            torch.zeros(1600).numpy(), source_language=language, target_language=target
        )
        return asked["decoder_input_ids"][0].tolist()


class Moonshine(InTransformers):
    """A model that hears the waveform: T is S, the number of samples, and F is 1."""

    kind = MOONSHINE
    frames = None
    mel_bins = 1

    def __init__(self, folder, dtype):
        model = self.load(folder, dtype)
        Recogniser.__init__(self, folder, model, model.model.encoder.layers, model.model.decoder.embed_tokens)
        self.encoder_heads = model.model.encoder.config.num_attention_heads

    def load(self, folder, dtype):
        import transformers

        model = load_with_transformers(getattr(transformers, self.kind), folder, dtype)
        model.set_attn_implementation(exact_attention())
        return model

    def encode(self, features):
        return self.module.model.encoder(features[..., 0]).last_hidden_state


class MoonshineStreaming(Moonshine):
    kind = MOONSHINE_STREAMING

    def encode(self, features):
        # As the processor pads. Without a mask the encoder would hear everything, not what is near.
        encoder = self.module.model.encoder
        samples = features.shape[1]
        rest = -samples % encoder.embedder.frame_len
        heard = torch.nn.functional.pad(features[..., 0], (0, rest))
        mask = (torch.arange(samples + rest) < samples).long().expand(len(features), -1)
        return encoder(heard, attention_mask=mask).last_hidden_state

    def _decoded(self, tokens, memory, attention):
        # The decoder adds positions to what it is given, in place.
        return super()._decoded(tokens, memory.clone(), attention)


def exact_attention():
    """The name of an attention whose softmax is computed in the numbers of its operands.

    Transformers' own of these families computes it in float32, also in a model in float64.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def attend(module, query, key, value, attention_mask, scaling, dropout=0.0, **_kwargs):
        scores = query @ key.transpose(2, 3) * scaling
        if attention_mask is not None:
            scores = scores + attention_mask
        weights = scores.softmax(-1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    ALL_ATTENTION_FUNCTIONS.register("exact", attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register("exact", eager_mask)
    return "exact"


class FbkConformer(Recogniser):
    frames = None

    def __init__(self, folder, dtype):
        model = read_conformer(folder, dtype)
        super().__init__(folder, model, model.encoder.conformer_layers, model.decoder.embed_tokens)
        self.mel_bins = self.config["input_feat_per_channel"]
        self.encoder_heads = self.config["encoder_attention_heads"]

    def encode(self, features):
        return self.module.encoder(features)

    def logits_and_attention(self, tokens, memory):
        return self.module.decoder(tokens, memory)


def load_with_transformers(kind, folder, dtype):
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, report = kind.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    # Transformers fills what is missing with random numbers and goes on.
    wrong = {what: sorted(map(str, names)) for what, names in report.items() if names}
    if wrong:
        raise ValueError(f"{folder}: the tensors do not fit the model: {wrong}")
    return model


def read_tensors(folder, dtype):
    """All tensors of a folder by name, from one file or from shards."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    tensors = {}
    for file in files:
        with safe_open(folder / file, "pt") as opened:
            tensors |= {name: opened.get_tensor(name).to(dtype) for name in opened.keys()}
    return tensors


def conformer_config(folder):
    values = read_json(folder / "config.json")
    missing = [f.name for f in fields(Config) if f.name not in values and f.name not in OPTIONAL_FIELDS]
    if missing:
        raise ValueError(f"{folder}/config.json: missing {missing}")
    return Config(**{f.name: values[f.name] for f in fields(Config) if f.name in values})


def read_conformer(folder, dtype):
    """A conformer folder, as written by fairseq's tools or by transformers."""
    config = conformer_config(folder)
    state = {}
    for name, tensor in read_tensors(folder, dtype).items():
        name = name.removeprefix("model.")
        name = "decoder.output_projection.weight" if name == "lm_head.weight" else name
        if not name.endswith(IGNORED) and not name.startswith(IGNORED_MODULES):
            state[name] = tensor
    # A projection that is in the file is used, whatever the configuration says.
    config.tie_word_embeddings = "decoder.output_projection.weight" not in state
    with torch.device("meta"):
        model = Conformer(config)
    missing, extra = model.load_state_dict(state, strict=False, assign=True)
    missing = [name for name in missing if not name.endswith(IGNORED)]
    if missing or extra:
        raise ValueError(f"{folder}: missing {missing}, unexpected {extra}")
    return model


FAMILIES = {
    CANARY: Canary, COHERE: Cohere, CONFORMER: FbkConformer, MOONSHINE: Moonshine,
    MOONSHINE_STREAMING: MoonshineStreaming, SPEECH_TO_TEXT: SpeechToText, WHISPER: Whisper,
}


def family_of(folder):
    """The class for a folder as Hugging Face saves it, or of Whisper as CTranslate2 does."""
    folder = Path(folder)
    architecture = (read_json(folder / "config.json").get("architectures") or [None])[0]
    if architecture is None and (folder / "model.bin").exists():
        return WhisperInCTranslate2
    if architecture not in FAMILIES:
        raise ValueError(f"{folder}: no family for {architecture!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[architecture]


def open_recogniser(folder, dtype=torch.float64):
    """The model in a folder."""
    return family_of(folder)(Path(folder), dtype)
