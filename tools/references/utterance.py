"""What a reference is computed for: features, forced tokens and masks."""

import torch

from .recogniser import FastConformer, Moonshine, Whisper

# Side lengths of the rectangles that input masks hide, frames and mel bins. Single features would
# cancel each other out; rectangles act as the superpixels of a real map do.
RECTANGLE = (4, 8)
# The same of a waveform, samples: 10 ms.
STRETCH = (160, 1)
# Spans of encoder frames that a mask keeps or hides as one, at most this many: hiding every second
# of a thousand frames changes hardly anything.
ENCODER_SPANS = 32
KEEP = 0.5


def random_features(model, frames, generator, half=False):
    """(T, F) standard normal numbers, float16 if `half`; Whisper's window is always whole."""
    frames = model.frames or frames
    features = torch.randn(frames, model.mel_bins, generator=generator)
    return features.half() if half else features


def prompt_of(model, memory, language=None, task="transcribe"):
    """Token ids that stand before the text: the start token, and what the model wants after it."""
    if isinstance(model, FastConformer):
        return model.prompt(language, task)
    start = model.special("decoder_start_token_id")
    if not isinstance(model, Whisper):
        forced = model.special("forced_bos_token_id")
        return [start] + ([] if forced is None else [forced])
    prompt = [start]
    languages = model.generation.get("lang_to_id")
    if languages:
        prompt.append(language_id(model, memory, languages, language))
        prompt.append(model.generation["task_to_id"][task])
    if model.generation.get("no_timestamps_token_id") is not None:
        prompt.append(model.generation["no_timestamps_token_id"])
    return prompt


def language_id(model, memory, languages, language):
    """The id of a language's token: the one named, else the one the model finds likeliest."""
    if language is not None:
        token = language if language in languages else f"<|{language}|>"
        if token not in languages:
            raise ValueError(f"no language {language!r}; the model has {', '.join(sorted(languages))}")
        return languages[token]
    ids = torch.tensor(sorted(languages.values()))
    with torch.no_grad():
        logits, _ = model.decode(torch.tensor([model.special("decoder_start_token_id")]), memory)
    return ids[logits[0, -1, ids].argmax()].item()


def greedy(model, memory, prompt, most):
    """At most `most` token ids that follow the prompt, without the end token."""
    end = model.special("eos_token_id")
    suppressed = list(model.generation.get("suppress_tokens") or [])
    at_first = list(model.generation.get("begin_suppress_tokens") or [])
    # No padding token is ever right, and Speech2Text gives it no position.
    if model.special("pad_token_id") not in (None, end):
        suppressed.append(model.special("pad_token_id"))
    text = []
    while len(text) < most:
        with torch.no_grad():
            logits, _ = model.decode(torch.tensor(prompt + text), memory)
        row = logits[0, -1]
        row[suppressed + (at_first if not text else [])] = -torch.inf
        best = row.argmax().item()
        if best == end:
            break
        text.append(best)
    return text


def text_ids(folder, text):
    """Token ids of a text by the folder's `tokenizer.json`."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"{path} is not there; give the ids with --tokens")
    return Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids


def random_ids(model, count, generator):
    """`count` ids that are no special tokens."""
    special = {model.special(f"{name}_token_id") for name in ("bos", "pad", "eos", "decoder_start")}
    special |= {model.special("forced_bos_token_id")}
    usable = torch.tensor([i for i in range(model.vocabulary) if i not in special])
    return usable[torch.randint(len(usable), (count,), generator=generator)].tolist()


def forced(model, prompt, text):
    """decoder_input_ids and labels, (I,) each: every position explains the token that follows it."""
    ids = torch.tensor(prompt + text)
    labels = torch.tensor(prompt[1:] + text + [model.special("eos_token_id")])
    return ids, labels


def random_masks(frames, sound, bins, encoder_frames, encoder_sound, positions, count, generator):
    """The three sets of `count` masks, U8, 1 keeps; the last of each keeps everything.

    frames, encoder_frames: T and T'; sound, encoder_sound: how many of them masks may hide.
    """

    def draw(*shape):
        return (torch.rand(count, *shape, generator=generator) < KEEP).to(torch.uint8)

    rows, columns = STRETCH if bins == 1 else RECTANGLE
    blocks = draw(-(-sound // rows), -(-bins // columns))
    at_input = torch.ones(count, frames, bins, dtype=torch.uint8)
    at_input[:, :sound] = (
        blocks.repeat_interleave(rows, 1).repeat_interleave(columns, 2)[:, :sound, :bins]
    )
    at_encoder = torch.ones(count, encoder_frames, dtype=torch.uint8)
    span = -(-encoder_sound // ENCODER_SPANS)
    spans = draw(-(-encoder_sound // span))
    at_encoder[:, :encoder_sound] = spans.repeat_interleave(span, 1)[:, :encoder_sound]
    masks = {"input_masks": at_input, "encoder_output_masks": at_encoder, "token_masks": draw(positions)}
    for mask in masks.values():
        mask[-1] = 1
    return masks
