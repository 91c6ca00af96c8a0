"""Greedy and beam search as tests/fixtures/generation/README.md describes them, written down plainly.

No `generate` of transformers, no tensors of beams, no cache: every step runs the whole decoder. Shapes are
those of references/recogniser.py; a sequence is a list of ids, prompt included.
"""

import torch

from references.recogniser import Whisper

MINUS_INFINITY = -torch.inf


class Rules:
    """What may come next; all of it acts on the scores of one hypothesis."""

    def __init__(self, model, setting, prompt_length):
        generation = model.generation
        self.whisper = isinstance(model, Whisper)
        self.begin = prompt_length
        self.end = generation["eos_token_id"]
        self.ngram = setting["no_repeat_ngram_size"]
        self.least = setting.get("min_new_tokens") or 0
        self.forced = setting.get("forced_bos_token_id")
        self.suppressed = generation.get("suppress_tokens") or []
        self.suppressed_at_begin = generation.get("begin_suppress_tokens") or []
        self.timestamps = setting.get("timestamps", False)
        if self.timestamps:
            self.no_timestamps = generation["no_timestamps_token_id"]
            self.first = self.no_timestamps + 1
            self.most_initial = generation.get("max_initial_timestamp_index")

    def apply(self, scores, sequence):
        """scores: (V,), changed in place; sequence: all ids so far, prompt included."""
        for token in repeated(sequence, self.ngram):
            scores[token] = MINUS_INFINITY
        if len(sequence) - self.begin < self.least:
            scores[self.end] = MINUS_INFINITY
        if self.forced is not None and len(sequence) == 1:
            scores[:] = MINUS_INFINITY
            scores[self.forced] = 0.0
        if len(sequence) == self.begin:
            scores[self.suppressed_at_begin] = MINUS_INFINITY
        scores[self.suppressed] = MINUS_INFINITY
        if self.timestamps:
            self.apply_timestamps(scores, sequence[self.begin:])
        return scores

    def apply_timestamps(self, scores, text):
        scores[self.no_timestamps] = MINUS_INFINITY
        last = bool(text) and text[-1] >= self.first
        before = len(text) < 2 or text[-2] >= self.first
        if last and before:
            scores[self.first:] = MINUS_INFINITY
        elif last:
            scores[:self.end] = MINUS_INFINITY
        seen = [token for token in text if token >= self.first]
        if seen:
            least = seen[-1] if last and not before else seen[-1] + 1
            scores[self.first:least] = MINUS_INFINITY
        if not text:
            scores[:self.first] = MINUS_INFINITY
            if self.most_initial is not None:
                scores[self.first + self.most_initial + 1:] = MINUS_INFINITY
        if scores[self.first:].logsumexp(0) > scores[:self.first].max():
            scores[:self.first] = MINUS_INFINITY


def repeated(sequence, size):
    """Ids that would complete an n-gram which the sequence has already."""
    if size == 0 or len(sequence) < size:
        return []
    tail = sequence[len(sequence) - size + 1:]
    return [sequence[i + size - 1] for i in range(len(sequence) - size + 1)
            if sequence[i:i + size - 1] == tail]


def logits_of(model, memory, sequences):
    tokens = torch.tensor(sequences)
    with torch.no_grad():
        logits, _ = model.logits_and_attention(tokens, memory.expand(len(sequences), -1, -1))
    return logits[:, -1].float()


def greedy(model, memory, prompt, most, rules):
    sequence = list(prompt)
    while len(sequence) < most:
        scores = rules.apply(logits_of(model, memory, [sequence])[0], sequence)
        sequence.append(scores.argmax().item())
        if sequence[-1] == rules.end:
            break
    return sequence[len(prompt):]


def beam_search(model, memory, prompt, most, rules, beams, penalty, early):
    running, finished = [(0.0, list(prompt))], []
    while True:
        log_p = logits_of(model, memory, [sequence for _, sequence in running]).log_softmax(-1)
        candidates = []
        for (score, sequence), row in zip(running, log_p):
            values, ids = rules.apply(row, sequence).topk(min(2 * beams, len(row)))
            candidates += [(score + value, sequence + [token])
                           for value, token in zip(values.tolist(), ids.tolist()) if value > MINUS_INFINITY]
        candidates = sorted(candidates, key=lambda one: -one[0])[:2 * beams]
        full = len(candidates[0][1]) == most
        length = (len(candidates[0][1]) - len(prompt)) ** penalty
        for score, sequence in candidates[:beams]:
            if full or sequence[-1] == rules.end:
                finished.append((score / length, sequence))
        finished = sorted(finished, key=lambda one: -one[0])[:beams]
        running = [one for one in candidates if one[1][-1] != rules.end][:beams]
        done = len(finished) == beams and (early or running[0][0] / length <= finished[-1][0])
        if full or done:
            return finished[0][1][len(prompt):]


def search(model, memory, prompt, setting):
    """The ids after the prompt, without the end token."""
    rules = Rules(model, setting, len(prompt))
    positions = model.config["max_target_positions"]
    if setting["max_new_tokens"] is not None:
        most = len(prompt) + setting["max_new_tokens"]
    else:
        most = min(model.generation["max_length"] + len(prompt), positions)
    if setting["beams"] == 1:
        ids = greedy(model, memory, prompt, most, rules)
    else:
        ids = beam_search(model, memory, prompt, most, rules, setting["beams"], setting["length_penalty"],
                          setting.get("early_stopping", False))
    return ids[:-1] if ids[-1] == rules.end else ids


def encode(model, features):
    with torch.no_grad():
        return model.encode(features)


def whisper_prompt(model, features, setting):
    """The ids before the text, and the name of the language found."""
    generation = model.generation
    prompt, found = [generation["decoder_start_token_id"]], None
    languages = generation.get("lang_to_id")
    if languages:
        row = logits_of(model, encode(model, features[:, :model.frames]), [prompt])[0]
        found = max(languages, key=lambda name: row[languages[name]])
        language, task = setting["language"], setting["task"]
        prompt.append(languages[f"<|{language}|>" if language else found])
        # A detected language alone brings no task token.
        if task or language:
            prompt.append(generation["task_to_id"][task or "transcribe"])
    if not setting["timestamps"]:
        prompt.append(generation["no_timestamps_token_id"])
    return prompt, found


def whisper(model, features, setting):
    """Window after window; the ids, the windows and the language."""
    prompt, language = whisper_prompt(model, features, setting)
    first = model.generation["no_timestamps_token_id"] + 1
    ids, windows, seek = [], [], 0
    while seek < features.shape[1]:
        window = features[:, seek:seek + model.frames]
        frames = window.shape[1]
        window = torch.nn.functional.pad(window, (0, 0, 0, model.frames - frames))
        text = search(model, encode(model, window), prompt, setting)
        windows.append([seek, text])
        is_time = [token >= first for token in text]
        pairs = [i for i in range(1, len(text)) if is_time[i - 1] and is_time[i]]
        if not pairs or is_time[-2:] == [False, True]:
            ids += text
            seek += frames
        else:
            # Nothing after the last pair counts: it is heard again, from that time on.
            ids += text[:pairs[-1] + 1]
            seek += 2 * (text[pairs[-1] - 1] - first)
    return ids, windows, language


def outputs_of(model, case, features, settings):
    """What the case should be, computed anew; features: (1, T, F)."""
    features = features.to(model.dtype)
    made = dict(case, outputs={})
    if isinstance(model, Whisper):
        made["windows"] = {}
        for name, setting in settings.items():
            made["outputs"][name], windows, made["language"] = whisper(model, features, setting)
            if setting["timestamps"]:
                made["windows"][name] = windows
    else:
        memory = encode(model, features)
        start = [model.generation["decoder_start_token_id"]]
        for name, setting in settings.items():
            made["outputs"][name] = search(model, memory, start, setting)
    return made


def shake(model, size, seed):
    """Adds uniform noise of at most `size` to all logits from now on: rounding, made larger."""
    generator = torch.Generator().manual_seed(seed)
    exact = type(model).logits_and_attention

    def shaken(tokens, memory):
        logits, attention = exact(model, tokens, memory)
        noise = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
        return logits + size * (2 * noise - 1), attention

    model.logits_and_attention = shaken
