"""Transcripts and word times, from sounds in every form."""

import numpy as np
import pytest

import sonograd

TEXT = "the train from boston to barcelona leaves at five twenty"


def test_what_is_heard_has_text_tokens_and_words(listener, path):
    heard = listener.transcribe(path)
    assert heard.text == TEXT
    assert " ".join(word.text for word in heard.words) == TEXT
    assert "".join(token.text for token in heard.tokens).strip() == TEXT
    for word in heard.words:
        texts = [heard.tokens[place].text for place in word.tokens]
        assert "".join(texts).strip() == word.text
    assert heard.score < 0 and heard.warnings == []
    assert (heard.sound.name, heard.sound.sampling_rate) == (path.name, 16_000)
    assert TEXT in repr(heard)


class OfArrays:
    """Has `__array__` alone, as arrays of other libraries have it."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class OfDlpack:
    """Has DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **how):
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: x[None, :],
        lambda x: x[:, None],
        lambda x: np.repeat(x, 2)[::2],
        lambda x: x.tolist(),
        lambda x: OfArrays(x),
        lambda x: OfDlpack(x.copy()),
    ],
)
def test_samples_of_every_form_are_the_files(path, samples, form):
    expected = sonograd.Sound(path)
    given = sonograd.Sound(form(samples), 16_000)
    assert np.array_equal(given.samples, expected.samples)
    assert np.array_equal(given.samples, samples)


def test_bytes_paths_and_dictionaries_are_sounds(listener, path, samples):
    bytes_ = path.read_bytes()
    for x in [str(path), bytes_, bytearray(bytes_), memoryview(bytes_)]:
        assert np.array_equal(sonograd.Sound(x).samples, samples)
    entry = {"path": None, "array": samples, "sampling_rate": 16_000}
    assert listener.transcribe(entry).text == TEXT
    assert sonograd.Sound(entry, name="entry").name == "entry"


def test_tensors_of_torch_are_samples(samples):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(samples.copy())
    for x in [tensor, tensor.double(), tensor[None], tensor.clone().requires_grad_()]:
        assert np.array_equal(sonograd.Sound(x, 16_000).samples, samples)
    with pytest.raises(sonograd.InputError, match="bfloat16|BFloat16"):
        sonograd.Sound(tensor.bfloat16(), 16_000)


def test_other_rates_are_resampled(samples):
    assert len(sonograd.Sound(samples, 8_000).samples) == 2 * len(samples)
    assert len(sonograd.Sound(samples, 32_000.0).samples) == -(-len(samples) // 2)


def test_samples_are_lent_and_outlive_their_sound(path):
    sound = sonograd.Sound(path)
    lent = sound.samples
    assert np.shares_memory(lent, sound.samples) and not lent.flags.writeable
    with pytest.raises(ValueError):
        lent[0] = 1
    kept = lent.copy()
    del sound
    assert np.array_equal(lent, kept)


def test_features_are_taken_as_they_are(listener, maps, path):
    features = maps.features
    heard = listener.transcribe({"input_features": features[None]})
    assert heard.text == TEXT and heard.sound.samples is None
    mask = np.ones((1, len(features)), dtype=np.int64)
    whole = listener.explain({"input_features": features, "attention_mask": mask})
    # One front end, one map, whoever runs it.
    expected = listener.explain(path)
    assert np.array_equal(whole["gradient", "input"].data, expected["gradient", "input"].data)
    assert whole.samples is None and expected.samples is not None


def test_a_given_text_is_explained_and_aligned(listener, path):
    text = "the train to florence"
    heard = listener.transcribe(path, text=text)
    assert heard.text == text and heard.score is None
    maps = listener.explain(path, text=text, methods="gradient", at="encoder")
    assert maps.text == text == listener.explain(heard, methods="attention").text
    assert listener.align(path, text=text).text == text


def test_words_have_times_in_order(listener, path):
    alignment = listener.align(path)
    assert alignment.text == TEXT and len(alignment.words) == 10
    seconds = sonograd.Sound(path).seconds
    before = 0.0
    for word in alignment.words:
        assert before <= word.start <= word.end <= seconds
        assert 0.0 <= word.confidence <= 1.0
        before = word.end
    assert alignment.words[-1].start > seconds / 2
    other = listener.align(path, by="attention")
    assert [word.start for word in other.words] != [word.start for word in alignment.words]
    assert "xmin" in alignment.to_string("textgrid")
    with_words, lines = (alignment.to_string(name) for name in ("vtt", "vtt-lines"))
    assert with_words.startswith("WEBVTT") and lines.startswith("WEBVTT") and with_words != lines
    with pytest.raises(sonograd.InputError, match="there are json, ctm, srt, vtt, vtt-lines, textgrid"):
        alignment.to_string("docx")


def test_options_of_the_search_are_heeded():
    greedy = sonograd.Listener(device="cpu", beams=1)
    noise = np.random.default_rng(3).normal(size=2 * 16_000) / 10
    assert greedy.transcribe(noise, 16_000).score < greedy.transcribe(noise, 16_000, beams=5).score
    assert greedy.precision == "f32" and greedy.device


def test_f64_is_another_precision(listener, path):
    exact = sonograd.Listener(device="cpu", precision="f64")
    assert exact.precision == "f64"
    one = listener.explain(path, methods="gradient", at="encoder")["gradient", "encoder"].data
    other = exact.explain(path, methods="gradient", at="encoder")["gradient", "encoder"].data
    assert not np.array_equal(one, other)
    assert np.linalg.norm(one - other) < 1e-3 * np.linalg.norm(other)
