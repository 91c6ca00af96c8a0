#!/usr/bin/env python3
"""Makes tests/fixtures/token_times.json: when the tokens of small random Whisper models were said, by transformers.

    python token_times_fixture.py

Two kinds of cases. "generated": `generate(return_token_timestamps=True)` of the models in
../tests/fixtures/generation. "given": the library's `_extract_token_timestamps` on the attention of given
tokens, for the models in ../tests/fixtures; there also with attention that never saw what follows the sound,
as OpenAI's whisper cuts it (crop "before": cut, then softmax), which transformers does not do (crop "after",
or "none" where no length is known). Everything is computed in float64.

Times are encoder frames of 0.02 s, for every token behind the prompt but the last, which transformers gives
no time of its own. The first token's row is not among those that transformers looks at: it takes the row
that hears a token, which is the row that predicts the next one. So the n-th number is the frame at which
token n + 1 begins.
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, WhisperForConditionalGeneration

from generation_fixtures import features_of

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"
STEP = 0.02


def open_model(name):
    model = WhisperForConditionalGeneration.from_pretrained(FIXTURES / name, attn_implementation="eager")
    file = FIXTURES / name / "generation_config.json"
    if file.exists():
        model.generation_config = GenerationConfig.from_pretrained(FIXTURES / name)
    return model.eval().double()


def heads_of(model, choice):
    """Some heads of the last layer and the first, or all of them."""
    layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
    if choice == "all":
        return [[layer, head] for layer in range(layers) for head in range(heads)]
    some = [(layers - 1, 0), (0, heads - 1), (layers - 1, heads - 1)]
    return [list(head) for head in dict.fromkeys(some[: 1 + choice])]


def frames_of(times):
    return [round(time / STEP) for time in times]


def generated(name):
    model = open_model(name)
    english = name.endswith("english")
    options = {} if english else {"language": "en", "task": "transcribe"}
    begin = 2 if english else 4
    end = model.config.eos_token_id
    for seed, (beams, sound, choice) in enumerate([(1, 100, "all"), (1, 62, 2), (5, 40, 0), (1, None, 1), (5, 98, "all"),
                                                   (1, 30, 2), (5, None, "all"), (1, 74, 1)]):
        model.generation_config.alignment_heads = heads_of(model, choice)
        heard = {} if sound is None else {"attention_mask": (torch.arange(100) < sound).long()[None]}
        made = model.generate(features_of(seed, 100).transpose(1, 2), return_token_timestamps=True, num_beams=beams,
                              max_new_tokens=24, force_unique_generate_call=True, **options, **heard)
        ids, times = made["sequences"][0].tolist(), made["token_timestamps"][0].tolist()
        last = ids.index(end, begin) if end in ids[begin:] else len(ids) - 1
        yield {"model": name, "seed": seed, "sound": sound or 100, "crop": "none" if sound is None else "after",
               "median": model.config.median_filter_width, "heads": model.generation_config.alignment_heads,
               "prompt": ids[:begin], "tokens": ids[begin:last + 1], "frames": frames_of(times[begin:last])}


class Attention:
    """Every decoder layer's cross-attention before its softmax, by its own projections."""

    def __init__(self, model):
        self.heads = model.config.decoder_attention_heads
        self.scores = []
        self.hooks = [layer.encoder_attn.register_forward_hook(self.take, with_kwargs=True)
                      for layer in model.model.decoder.layers]

    def take(self, module, args, kwargs, output):
        hidden = kwargs.get("hidden_states", args[0] if args else None)
        memory = kwargs["key_value_states"]

        def split(x):
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        scale = (hidden.shape[-1] // self.heads) ** -0.5
        self.scores.append(split(module.q_proj(hidden)) * scale @ split(module.k_proj(memory)).transpose(-1, -2))

    def remove(self):
        for hook in self.hooks:
            hook.remove()


def given(name, length):
    """`length` tokens behind a prompt of 3, from the vocabulary's beginning."""
    model = open_model(name)
    window = 2 * model.config.max_source_positions
    for seed, (share, crop, choice, median) in enumerate(
            [(1.0, "none", "all", 7), (0.6, "after", 1, 7), (0.6, "before", 1, 7), (0.3, "before", "all", 7),
             (0.8, "before", 2, 3), (0.5, "none", 0, 9), (0.2, "after", "all", 3), (0.1, "before", 0, 7)]):
        sound = 2 * round(share * window / 2)
        random = torch.Generator().manual_seed(seed)
        ids = torch.randint(model.config.vocab_size // 2, (1, 3 + length), generator=random)
        bins = model.config.num_mel_bins
        features = features_of(100 + seed, window * bins // 80).reshape(1, window, bins).transpose(1, 2)
        attention = Attention(model)
        out = model(features, decoder_input_ids=ids, output_attentions=True)
        attention.remove()
        weights = out.cross_attentions
        for own, scores in zip(weights, attention.scores):
            assert torch.allclose(own, scores.softmax(-1), atol=1e-12)
        if crop == "before":
            weights = tuple(scores[..., : sound // 2].softmax(-1) for scores in attention.scores)
        heads = heads_of(model, choice)
        model.config.median_filter_width = median
        ended = torch.cat([ids, torch.zeros(1, 1, dtype=ids.dtype)], -1)
        times = model._extract_token_timestamps(
            Made(weights, ended), heads, num_frames=None if crop == "none" else torch.tensor([sound]), num_input_ids=3)[0].tolist()
        yield {"model": name, "seed": 100 + seed, "sound": sound, "crop": crop, "median": median, "heads": heads,
               "prompt": ids[0, :3].tolist(), "tokens": ids[0, 3:].tolist() + [0], "frames": frames_of(times[3:-1])}


class Made(dict):
    """What generation returns, as far as the extraction of times looks at it."""

    def __init__(self, weights, sequences):
        super().__init__(cross_attentions=(weights,), sequences=sequences)
        self.cross_attentions, self.sequences = (weights,), sequences


@torch.no_grad()
def main():
    transformers.logging.set_verbosity_error()
    cases = [case for name in ("generation/whisper", "generation/whisper_english") for case in generated(name)]
    for name, length in (("whisper", 30), ("whisper_odd", 14), ("whisper_128", 9)):
        cases += given(name, length)
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    made_with = {"transformers": transformers.__version__, "torch": torch.__version__}
    file = FIXTURES / "token_times.json"
    file.write_text(f'{{"made_with": {json.dumps(made_with)},\n"cases": [\n{rows}\n]}}\n')
    print(f"{len(cases)} cases, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
