"""Maps: what they hold, that they are lent, and what they turn into."""

import gc
import json
import subprocess
import weakref

import numpy as np
import pytest

import sonograd


def test_maps_are_looked_up_by_method_and_site(maps):
    assert list(maps) == [
        "attention",
        "gradient.input",
        "gradient.encoder",
        "spes.input",
        "spes.encoder",
        "spes.tokens",
    ]
    assert len(maps) == 6 and "spes.input" in maps and ("spes", "input") in maps
    assert ("smoothgrad", "input") not in maps and maps.get("lime") is None
    own = maps["spes", "input"]
    assert (own.name, own.method, own.site) == ("spes.input", "spes", "input")
    assert np.shares_memory(own.data, maps["spes.input"].data)
    assert maps["attention", "decoder"].name == "attention"
    with pytest.raises(sonograd.MissingMapError, match="there is no map lime.input") as raised:
        maps["lime", "input"]
    assert "spes.tokens" in str(raised.value) and isinstance(raised.value, KeyError)


def test_shapes_are_those_of_the_axes(maps):
    model, tokens = maps.explanation["model"], len(maps.tokens)
    sizes = {
        "attention": (model["decoder_layers"], model["decoder_heads"], tokens, model["encoder_frames"]),
        "gradient.input": (tokens, model["frames"], model["mel_bins"]),
        "spes.encoder": (tokens, model["encoder_frames"]),
    }
    for name, shape in sizes.items():
        own = maps[name]
        assert own.shape == shape == tuple(axis.length for axis in own.axes)
        assert own.data.dtype == np.float32 and np.isfinite(own.data).all()
    time = maps["gradient.input"].axes[1]
    assert time == ("time", "s", model["frames"], model["frame_seconds"])
    assert maps["attention"].row(2).shape == (*shape_of_heads(maps), model["encoder_frames"])
    # Rows of cross-attention are shares.
    assert np.allclose(maps["attention"].data.sum(axis=-1), 1.0, atol=1e-5)
    assert maps["spes.input"].options["masks"] == 48
    with pytest.raises(sonograd.InputError, match="count from 0"):
        maps["attention"].row(tokens)


def shape_of_heads(maps):
    model = maps.explanation["model"]
    return model["decoder_layers"], model["decoder_heads"]


def test_values_are_lent_and_outlive_their_maps(listener, path):
    maps = listener.explain(path, methods="gradient", at="encoder")
    owner = weakref.ref(maps)
    lent = maps["gradient", "encoder"].data
    assert not lent.flags.writeable and not lent.flags.owndata
    assert np.shares_memory(lent, maps["gradient", "encoder"].data)
    assert np.shares_memory(lent, np.asarray(maps["gradient", "encoder"]))
    with pytest.raises(ValueError):
        lent.flags.writeable = True
    kept = lent.copy()
    del maps
    gc.collect()
    assert owner() is None
    # Somebody else's values now, if anybody's.
    [listener.explain(path, methods="gradient", at="encoder") for _ in range(2)]
    assert np.array_equal(lent, kept)


def test_tokens_and_words_belong_together(maps):
    assert [token.row for token in maps.tokens] == list(range(len(maps.tokens)))
    assert maps.tokens[-1].special and not maps.tokens[0].special
    assert all(token.log_probability <= 0 for token in maps.tokens)
    for word in maps.words:
        assert "".join(maps.tokens[k].text for k in word.tokens).strip() == word.text
        assert word.start <= word.end


def test_a_folder_is_the_programs_to_the_bit(listener, path, program, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    how = dict(methods=["attention", "gradient", "spes"], at=["input"], masks=96, seed=7)
    maps = listener.explain(path, **how)
    maps.save(ours)
    line = ["explain", path, "--method", "attention,gradient,spes", "--at", "input", "--masks"]
    line += ["96", "--seed", "7", "--device", "cpu", "--out", theirs]
    subprocess.run([*program, *map(str, line)], check=True, capture_output=True)
    opened = sonograd.open(theirs)
    for name in maps:
        assert np.array_equal(opened[name].data, maps[name].data), name
    assert opened.explanation == maps.explanation
    assert opened == maps == sonograd.open(ours)
    for name in ["explanation.json", "maps.safetensors", "report.html"]:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


def test_a_folder_may_go_without_its_sound(maps, tmp_path):
    maps.save(tmp_path / "with")
    maps.save(tmp_path / "without", sound=False)
    assert np.array_equal(sonograd.open(tmp_path / "with").samples, maps.samples)
    opened = sonograd.open(tmp_path / "without")
    assert opened.samples is None and opened != maps
    assert maps != "maps" and not (maps == 3)


def test_folders_that_are_none_are_refused(maps, tmp_path):
    with pytest.raises(sonograd.InputError, match="explanation.json") as raised:
        sonograd.open(tmp_path)
    assert raised.value.kind == "file" and raised.value.path == tmp_path / "explanation.json"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(sonograd.InputError, match="not written by explain"):
        maps.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    with pytest.raises(sonograd.InputError):
        maps.save(tmp_path / "absent" / "folder")
    maps.save(tmp_path / "broken")
    text = json.loads((tmp_path / "broken" / "explanation.json").read_text())
    text["maps"][0]["shape"][0] += 1
    (tmp_path / "broken" / "explanation.json").write_text(json.dumps(text))
    with pytest.raises(sonograd.InputError):
        sonograd.open(tmp_path / "broken")


def test_arrays_of_xarray_have_times_and_units(maps):
    xarray = pytest.importorskip("xarray")
    array = maps["spes", "input"].to_xarray()
    assert isinstance(array, xarray.DataArray)
    assert array.dims == ("token", "time", "mel_bin") and array.time.attrs["units"] == "s"
    assert float(array.time[100]) == pytest.approx(1.0)
    assert list(array.token_text.values) == [token.text for token in maps.tokens]
    data = maps.to_xarray()
    assert set(data.data_vars) == {"features", *maps}
    assert np.array_equal(data["attention"].values, maps["attention"].data)
    assert data["attention"].dims == ("layer", "head", "token", "encoder_time")
    late = data["gradient.input"].sel(time=slice(1.0, 1.5))
    assert late.sizes["time"] == 51


def test_tables_of_pandas_have_rows_and_times(maps, listener, path):
    pandas = pytest.importorskip("pandas")
    frame = maps["spes", "encoder"].to_pandas()
    assert frame.index.names == ["token", "time"]
    step = maps["spes", "encoder"].axes[1].step
    values = maps["spes", "encoder"].data
    assert frame.loc[(2, 3 * step), "spes.encoder"] == values[2, 3]
    assert list(maps.to_pandas().text) == [token.text for token in maps.tokens]
    words = listener.align(path).to_pandas()
    assert isinstance(words, pandas.DataFrame) and words.start.is_monotonic_increasing
    assert list(listener.transcribe(path).to_pandas().columns) == ["id", "text"]


def test_packages_that_are_not_there_are_named(maps, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(sonograd.MissingPackageError, match="pip install xarray"):
        maps.to_xarray()
    with pytest.raises(ImportError, match="pip install pandas"):
        maps.to_pandas()
