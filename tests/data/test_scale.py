"""Scaler against NumPy: statistics, the way back, the file, and the layer inside a model."""

import hashlib
import json
import threading
from contextlib import suppress

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_rnnkit as rk


def reference(values):
    """Mean and standard deviation of each column's finite values, one at a time."""
    columns = [column[np.isfinite(column)].astype(np.float64) for column in values.T]
    return np.array([column.mean() for column in columns]), np.array(
        [np.sqrt(((column - column.mean()) ** 2).mean()) for column in columns]
    )


def panel(rows=60, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.normal([5, -300, 0.01], [1, 50, 1e-3], size=(rows, 3))
    values[generator.random(values.shape) < 0.1] = np.nan
    group = np.repeat(["a", "b", "c"], [rows // 2, rows // 3, rows - rows // 2 - rows // 3])
    return rk.TimeSeries(values, names=["x", "y", "z"], group=group)


def test_fit_transform_is_fit_then_transform():
    series = panel()
    scaler = rk.Scaler(by_group=True)
    expected = rk.Scaler(by_group=True).fit(series).transform(series).values
    np.testing.assert_array_equal(scaler.fit_transform(series).values, expected)


@given(
    seed=st.integers(0, 1000),
    rows=st.integers(3, 40),
    chunk=st.sampled_from([1, 48, 100, 1 << 24]),
    dtype=st.sampled_from([np.float32, np.float64]),
    cuts=st.lists(st.integers(0, 40), min_size=2, max_size=4, unique=True),
)
def test_statistics_of_training_rows_equal_numpy(seed, rows, chunk, dtype, cuts):
    generator = np.random.default_rng(seed)
    values = generator.normal([3, -1e4], [1, 300], size=(rows, 2)).astype(dtype)
    values[generator.random(values.shape) < 0.2] = np.nan
    cuts = sorted(min(cut, rows) for cut in cuts)
    parts = [pair for pair in zip(cuts[::2], cuts[1::2], strict=False) if pair[0] < pair[1]]
    training = np.concatenate([values[:0], *(values[a:b] for a, b in parts)])
    if not np.isfinite(values).any(axis=0).all():
        return
    series = rk.TimeSeries(values).with_target_rows(np.array(parts).reshape(-1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_rnnkit.data.series.CHUNK_BYTES", chunk)
        if not np.isfinite(training).any(axis=0).all():
            with pytest.raises(ValueError, match="has no value in the training rows: leave it out"):
                rk.Scaler().fit(series)
            return
        scaler = rk.Scaler().fit(series)
        mean, deviation = reference(training)
        few = np.isfinite(training).sum(axis=0) == 1
        assert scaler.mean[0] == pytest.approx(mean, rel=1e-12)
        assert scaler.scale[0] == pytest.approx(np.where(few, 1, deviation), rel=1e-9)
        assert scaler.constant == tuple(name for name, one in zip("01", few, strict=True) if one)
        assert scaler.fitted_rows.tolist() == [list(part) for part in parts]
        scaled = scaler.transform(series)
    assert scaled.values.dtype == np.float32
    assert scaled.target_rows.tolist() == series.target_rows.tolist()
    expected = (values.astype(np.float64) - mean) / np.where(few, 1, deviation)
    assert scaled.values == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("chunk", [64, 1000, 1 << 24])
def test_a_large_offset_loses_no_digits(monkeypatch, chunk):
    monkeypatch.setattr("keras_rnnkit.data.series.CHUNK_BYTES", chunk)
    # Steps of 2**-10 are exact at this offset, so that the deviation is known exactly.
    small = np.random.default_rng(0).integers(-2000, 2000, 5000) / 1024
    scaler = rk.Scaler().fit(1e9 + small)
    assert scaler.scale[0, 0] == pytest.approx(small.std(), rel=1e-6)
    assert scaler.mean[0, 0] - 1e9 == pytest.approx(small.mean(), abs=1e-6)
    scaled = scaler.transform(1e9 + small).values[:, 0]
    assert scaled == pytest.approx((small - small.mean()) / small.std(), abs=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e9, 1e-20])
def test_constant_columns_are_only_centred(dtype, constant):
    values = np.column_stack([np.arange(1000.0), np.full(1000, constant)]).astype(dtype)
    values[5, 1] = np.nan
    scaler = rk.Scaler(names=["x", "flat"]).fit(rk.TimeSeries(values, names=["x", "flat"]))
    assert scaler.scale[0, 1] == 1
    assert scaler.constant == ("flat",)
    assert repr(scaler) == "Scaler(scaled: x, flat; constant: flat)"
    scaled = scaler.transform(rk.TimeSeries(values, names=["x", "flat"])).values
    assert np.nanmax(np.abs(scaled[:, 1])) <= abs(constant) * 4 * np.finfo(dtype).eps
    assert scaled[:, 0].std() == pytest.approx(1, rel=1e-5)


def test_the_rest_of_the_series_cannot_reach_the_statistics():
    values = np.concatenate([np.arange(70.0), np.full(30, 1e12)])
    train, val, _ = rk.split(values, train=0.7, val=0.3)
    scaler = rk.Scaler().fit(train)
    assert scaler.mean.tolist() == [[34.5]]
    assert scaler.scale[0, 0] == pytest.approx(np.arange(70).std())
    assert scaler.transform(val).values[-1, 0] > 1e9


def test_statistics_by_group():
    series = panel()
    scaler = rk.Scaler(by_group=True).fit(series)
    assert scaler.groups == ("a", "b", "c")
    expected = series.values.copy()
    for at, (start, stop) in enumerate(zip(series.bounds[:-1], series.bounds[1:], strict=True)):
        mean, deviation = reference(series.values[start:stop])
        assert scaler.mean[at] == pytest.approx(mean)
        assert scaler.scale[at] == pytest.approx(deviation)
        expected[start:stop] = (expected[start:stop] - mean) / deviation
    scaled = scaler.transform(series).values
    assert scaled == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    assert repr(scaler) == "Scaler(scaled: x, y, z; 3 groups)"
    # Groups go by their label, not by their place.
    turned = rk.TimeSeries(
        series.values[::-1], names=series.names, group=list("c" * 10 + "b" * 20 + "a" * 30)
    )
    assert np.array_equal(scaler.transform(turned).values, scaled[::-1], equal_nan=True)


def test_a_group_without_training_rows_cannot_be_scaled():
    series = panel()
    train = series.with_target_rows([[0, 45]])
    scaler = rk.Scaler(by_group=True).fit(train)
    assert scaler.mean[1] == pytest.approx(reference(series.values[30:45])[0])
    with pytest.raises(ValueError, match=r"group 'c' had no training row, .* \(1 such\)"):
        scaler.transform(series)
    with pytest.raises(ValueError, match="group 'c' had no training row"):
        scaler.inverse_transform([1.0], "x", groups=["c"])
    stranger = rk.TimeSeries(np.ones((2, 3)), names=["x", "y", "z"], group=["a", "q"])
    with pytest.raises(ValueError, match="group 'q' had no training row"):
        scaler.transform(stranger)
    values = series.values.copy()
    values[30:50, 1] = np.nan
    with pytest.raises(ValueError, match="'y' has no value in the training rows of group 'b'"):
        rk.Scaler(by_group=True).fit(series.with_values(values))


def test_columns_that_are_not_named_stay():
    series = panel()
    scaler = rk.Scaler(names=["z", "x"]).fit(series)
    assert scaler.columns == ("z", "x")
    scaled = scaler.transform(series).values
    mean, deviation = reference(series.values)
    expected = series.values.copy()
    for column in (0, 2):
        expected[:, column] = (expected[:, column] - mean[column]) / deviation[column]
    assert scaled == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    values = np.ones((4, 3))
    assert scaler.inverse_transform(values, ["x", "y", "z"])[0] == pytest.approx(
        [mean[0] + deviation[0], 1, mean[2] + deviation[2]]
    )
    assert rk.Scaler(names="y").fit(series).columns == ("y",)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((), "y"),
        ((5,), "y"),
        ((5, 4), "y"),
        ((5, 4, 1), ["y"]),
        ((2,), ["y", "x"]),
        ((5, 2), ["y", "x"]),
        ((5, 4, 2), ["y", "x"]),
        ((5, 4, 3), ["z", "y", "x"]),
    ],
)
def test_the_way_back(shape, names):
    series = panel()
    scaler = rk.Scaler().fit(series)
    at = [series.names.index(name) for name in ([names] if isinstance(names, str) else names)]
    real = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    scaled = (real - scaler.mean[0, at]) / scaler.scale[0, at]
    scaled = scaled.reshape(shape)
    found = scaler.inverse_transform(scaled, names)
    assert found.shape == shape
    assert found == pytest.approx(real, rel=1e-6)
    if shape and shape[0] == 5:
        by_group = rk.Scaler(by_group=True).fit(series)
        labels = ["c", "a", "a", "b", "c"]
        found = by_group.inverse_transform(real, names, groups=labels)
        for window, label in enumerate(labels):
            group = "abc".index(label)
            expected = real[window] * by_group.scale[group, at] + by_group.mean[group, at]
            assert found[window] == pytest.approx(expected.reshape(shape[1:]), rel=1e-6)


@pytest.mark.parametrize("by_group", [False, True])
def test_a_saved_scaler_is_exactly_the_same(tmp_path, by_group):
    series = panel().with_target_rows([[0, 40]])
    scaler = rk.Scaler(names=["z", "x"], by_group=by_group).fit(series)
    path = tmp_path / "scaler.json"
    scaler.save(path)
    again = rk.Scaler.load(str(path))
    for name in ("mean", "scale", "fitted_rows"):
        assert np.array_equal(getattr(again, name), getattr(scaler, name), equal_nan=True)
        assert getattr(again, name).dtype == getattr(scaler, name).dtype
    for name in ("names", "by_group", "columns", "groups", "constant"):
        assert getattr(again, name) == getattr(scaler, name)
    assert [file.name for file in tmp_path.iterdir()] == ["scaler.json"]
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    json.loads(path.read_text(), parse_constant=pytest.fail)


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "scaler.json"
    scaler = rk.Scaler().fit(np.arange(10.0))
    scaler.save(path)
    before = path.read_bytes()

    def full(content, file, **options):
        file.write('{"names": ')
        raise OSError("No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        scaler.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["scaler.json"]


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "scaler.json"
    rk.Scaler().fit(panel()).save(path)
    content = json.loads(path.read_text())
    for damaged in (
        path.read_text()[:-20],
        "",
        "[]",
        "{}",
        json.dumps({**content, "mean": [["a", "b", "c"]]}),
        json.dumps({**content, "mean": [[1.0, 2.0]]}),
        json.dumps({**content, "scale": [[1.0] * 3] * 2}),
        json.dumps({**content, "columns": ["x"]}),
        json.dumps({name: part for name, part in content.items() if name != "scale"}),
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"scaler.json holds no scaler that Scaler.save wrote"):
            rk.Scaler.load(path)
    with pytest.raises(FileNotFoundError):
        rk.Scaler.load(tmp_path / "none.json")


@pytest.mark.backends
def test_the_scaling_rides_inside_a_saved_model(tmp_path):
    series = panel()
    scaler = rk.Scaler().fit(series)
    names = ["z", "x", "y"]
    inputs = keras.Input((4, 3))
    hidden = scaler.as_layer(names)(inputs)
    outputs = scaler.as_layer("y", invert=True)(keras.layers.Dense(1, name="head")(hidden))
    keras.Model(inputs, [hidden, outputs]).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    real = np.random.default_rng(3).normal([0.01, 5, -300], [1e-3, 1, 50], size=(6, 4, 3))
    scaled, back = model.predict(real.astype(np.float32), verbose=0)
    at = [series.names.index(name) for name in names]
    expected = (real - scaler.mean[0, at]) / scaler.scale[0, at]
    assert scaled == pytest.approx(expected, rel=1e-4, abs=1e-4)
    kernel, bias = (np.asarray(w) for w in model.get_layer("head").get_weights())
    assert back == pytest.approx(
        scaler.inverse_transform(expected @ kernel + bias, "y"), rel=1e-4, abs=1e-2
    )


@pytest.mark.backends
def test_the_layer_trains_in_a_model_that_builds_itself():
    series = panel()
    scaler = rk.Scaler().fit(series)
    model = keras.Sequential(
        [
            scaler.as_layer(series.names),
            keras.layers.GRU(2),
            keras.layers.Dense(1, kernel_initializer="zeros"),
            scaler.as_layer("y", invert=True),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    windows = np.tile(scaler.mean.astype(np.float32), (8, 4, 1))
    model.fit(windows, np.zeros((8, 1)), epochs=2, verbose=0)
    predicted = model.predict(windows, verbose=0)
    assert predicted == pytest.approx(np.full((8, 1), scaler.mean[0, 1]), rel=1e-6)


def test_what_cannot_be_a_layer_is_refused():
    series = panel()
    with pytest.raises(ValueError, match="by_group=True cannot be a layer"):
        rk.Scaler(by_group=True).fit(series).as_layer(["x"])
    scaler = rk.Scaler().fit(series)
    with pytest.raises(
        ValueError, match=r"names= holds \['q'\]; the scaler was fitted on .*\['x', 'y'"
    ):
        scaler.as_layer(["x", "q"])
    tiny = rk.Scaler().fit(series.with_values(series.values * 1e-8))
    with pytest.raises(ValueError, match=r"'x', 'z': the standard deviation is below 1e-07"):
        tiny.as_layer(["x", "y", "z"])


def test_wrong_use_is_refused(tmp_path):
    series = panel()
    fresh = rk.Scaler()
    assert repr(fresh) == "Scaler(not fitted)"
    for use in (
        lambda: fresh.transform(series),
        lambda: fresh.inverse_transform([1.0], "x"),
        lambda: fresh.as_layer(["x"]),
        lambda: fresh.save(tmp_path / "scaler.json"),
    ):
        with pytest.raises(ValueError, match="the scaler is not fitted: call fit with the"):
            use()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="names= names 'q', which the series does not have"):
        rk.Scaler(names=["q"]).fit(series)
    scaler = rk.Scaler().fit(series)
    with pytest.raises(ValueError, match="Scaler names= names 'x', 'y', 'z', which"):
        scaler.transform(np.ones(3))
    with pytest.raises(ValueError, match=r"a last axis of 2 for names=\['x', 'y'\], .* \(4, 3\)"):
        scaler.inverse_transform(np.ones((4, 3)), ["x", "y"])
    by_group = rk.Scaler(by_group=True).fit(series)
    for groups in (None, ["a"]):
        with pytest.raises(
            ValueError, match=r"groups= must hold the group of each entry .*\(4, 2\)"
        ):
            by_group.inverse_transform(np.ones((4, 2)), "x", groups=groups)


def test_a_name_that_the_series_does_not_have_is_refused(tmp_path):
    series = rk.TimeSeries(np.random.default_rng(0).random((50, 2)), names=["T (degC)", "p"])
    scaler = rk.Scaler(names=["T (degC)"]).fit(series)
    scaler.save(tmp_path / "scaler.json")
    for each in (scaler, rk.Scaler.load(tmp_path / "scaler.json")):
        assert each.inverse_transform(np.zeros(3), "p").tolist() == [0, 0, 0]
        with pytest.raises(ValueError, match=r"names= holds \['T'\]; the scaler was fitted on"):
            each.inverse_transform(np.zeros(3), "T")
    by_group = rk.Scaler(by_group=True).fit(series)
    with pytest.raises(ValueError, match=r"values have shape \(2,\), names"):
        by_group.inverse_transform(np.zeros(2), ["T (degC)", "p"], groups=[None, None])


def test_groups_that_are_dates_are_saved(tmp_path):
    days = np.repeat(np.array(["2024-01-01", "2024-01-02"], "M8[D]"), 5)
    scaler = rk.Scaler(by_group=True).fit(rk.TimeSeries(np.arange(10.0), group=days))
    scaler.save(tmp_path / "scaler.json")
    assert rk.Scaler.load(tmp_path / "scaler.json").groups == ("2024-01-01", "2024-01-02")


def shop_panel():
    """Ten stores, twenty rows each: a measurement, a label, classes, an hour, an id, an area."""
    generator = np.random.default_rng(2)
    store = np.repeat(np.arange(10), 20)
    columns = {
        "sales": generator.normal(100 + 30 * store, 5),
        "label": (generator.random(200) < 0.1).astype(float),
        "class": generator.integers(0, 6, 200),
        "hour": np.tile(np.arange(20), 10),
        "store": 1000.0 + store,
        "area": 312.5 * (store + 1),
        "visitors": generator.integers(0, 500, 200),
    }
    values = np.column_stack(list(columns.values()))
    return rk.TimeSeries(values, names=list(columns), group=[f"s{number}" for number in store])


@pytest.mark.parametrize("by_group", [False, True])
def test_labels_and_ids_stay_as_they_are(by_group):
    series = shop_panel()
    scaler = rk.Scaler(by_group=by_group).fit(series)
    assert scaler.columns == ("sales", "visitors")
    assert scaler.unscaled == ("label", "class", "hour", "store", "area")
    told = "scaled: sales, visitors; as they are: label, class, hour, store, area"
    assert repr(scaler) == f"Scaler({told}{'; 10 groups' * by_group})"
    scaled = scaler.transform(series)
    for name in scaler.unscaled:
        assert (scaled[name] == series[name]).all()
    spec = rk.WindowSpec(4, features=["sales", "hour"], targets=["label"], static=["store"])
    inputs, targets = rk.WindowLoader(series, spec, batch_size=999, scaler=scaler)[0]
    assert set(targets.ravel()) == {0, 1}
    assert set(inputs["static"].ravel()) == set(range(1000, 1010))
    assert scaler.inverse_transform(targets, "label").tolist() == targets.tolist()
    report = rk.window_report(series, spec, scaler=scaler)
    assert report.scaled == ("sales",)
    assert report.unscaled == ("hour", "label", "store")
    assert "scaled: sales; as they are: hour, label, store" in str(report)
    assert "scaled" not in str(rk.window_report(series, spec))


def test_what_is_named_is_scaled():
    series = shop_panel()
    names = ["label", "class", "store", "area"]
    scaler = rk.Scaler(names=names).fit(series)
    assert scaler.columns == tuple(names)
    for position, name in enumerate(names):
        assert scaler.mean[0, position] == pytest.approx(series[name].mean())
        assert scaler.scale[0, position] == pytest.approx(series[name].std())


def test_static_columns_are_never_scaled_by_group():
    series = shop_panel()
    scaler = rk.Scaler(names=["sales", "area"], by_group=True).fit(series)
    for group, (start, stop) in enumerate(zip(series.bounds[:-1], series.bounds[1:], strict=True)):
        sales = series["sales"][start:stop]
        assert scaler.mean[group] == pytest.approx([sales.mean(), series["area"].mean()])
        assert scaler.scale[group] == pytest.approx([sales.std(), series["area"].std()])
    assert scaler.constant == ()
    scaled = scaler.transform(series)["area"]
    assert len(set(scaled.tolist())) == 10
    assert scaled.std() == pytest.approx(1, rel=1e-5)
    # A store that does not tell its area is scaled all the same.
    values = series.values.copy()
    values[:20, series.names.index("area")] = np.nan
    rk.Scaler(names=["sales", "area"], by_group=True).fit(series.with_values(values))


def test_small_whole_numbers_that_do_not_come_again_are_measured():
    assert rk.Scaler().fit(np.arange(20.0)).columns == ("0",)
    assert rk.Scaler().fit(np.arange(20.0) % 7).columns == ()
    assert rk.Scaler().fit(np.arange(99.0) % 33).columns == ("0",)
    assert rk.Scaler().fit(np.arange(20.0) % 7 - 1).columns == ("0",)
    assert rk.Scaler().fit(np.arange(20.0) % 7 + 0.5).columns == ("0",)


def test_a_scaler_of_labels_alone_changes_nothing(tmp_path):
    labels = np.arange(20.0) % 2
    scaler = rk.Scaler().fit(labels)
    assert repr(scaler) == "Scaler(scaled: no column; as they are: 0)"
    scaler.save(tmp_path / "scaler.json")
    for each in (scaler, rk.Scaler.load(tmp_path / "scaler.json")):
        assert each.transform(labels).values.ravel().tolist() == labels.tolist()
        assert each.inverse_transform([0.25], "0").tolist() == [0.25]


def test_whole_numbers_to_predict_are_labels_or_counts_and_the_user_says_which():
    series = shop_panel()
    spec = rk.WindowSpec(4, features=["sales"], targets=["visitors"])
    with pytest.raises(ValueError, match=r"targets= names 'visitors', of whole numbers: are they"):
        rk.WindowLoader(series, spec, batch_size=8, scaler=rk.Scaler().fit(series))
    for names in (["sales", "visitors"], ["sales"]):
        scaler = rk.Scaler(names=names).fit(series)
        targets = rk.WindowLoader(series, spec, batch_size=999, scaler=scaler)[0][1]
        assert (np.abs(targets).max() < 5) == ("visitors" in names)
    # As an input too it is a count: a forecast of it from its own past.
    own = rk.WindowSpec(4, features=["sales", "visitors"], targets=["visitors"])
    rk.WindowLoader(series, own, batch_size=8, scaler=rk.Scaler().fit(series))


def test_groups_go_by_label_everywhere():
    # Labels that are numbers, none of them at its own place.
    label = np.repeat([7, 0, 3], 8)
    values = np.arange(24.0) ** 2 + 1000 * label
    series = rk.TimeSeries(values, names=["x"], group=label)
    scaler = rk.Scaler(by_group=True).fit(series)
    assert series.groups == (7, 0, 3)
    spec = rk.WindowSpec(2)
    for made in (
        rk.WindowLoader(series, spec, batch_size=99, scaler=scaler, return_index=True)[0],
        next(
            rk.window_dataset(
                series, spec, batch_size=99, scaler=scaler, return_index=True
            ).as_numpy_iterator()
        ),
    ):
        _, targets, index = made
        assert index["group"].tolist() == label[index["input_row"]].tolist()
        back = scaler.inverse_transform(targets, "x", groups=index["group"])
        assert back[:, 0, 0] == pytest.approx(values[index["target_rows"][:, 0]])
    frame = rk.to_frame(targets, series, spec, scaler=scaler, backend="pandas")
    assert frame["group"].tolist() == index["group"].tolist()
    assert frame["prediction"].to_numpy() == pytest.approx(frame["truth"].to_numpy())
    with pytest.raises(ValueError, match=r"group 1 had no training row, .* \(2 such\)"):
        scaler.inverse_transform([1.0, 2.0, 3.0], "x", groups=[7, 1, 2])
    with pytest.raises(ValueError, match=r"group 1 had no training row, .* \(1 such\)"):
        scaler.inverse_transform([1.0, 2.0], "x", groups=np.array([1, 1]))
    told = r"groups are text \('7'\), and those that the scaler was fitted to are numbers \(\d\)"
    with pytest.raises(ValueError, match=told):
        scaler.inverse_transform([1.0], "x", groups=["7"])
    with pytest.raises(ValueError, match=r"groups are text .* labels of one type"):
        scaler.transform(rk.TimeSeries([1.0, 2.0], names=["x"], group=["7", "7"]))


def test_labels_of_text_come_from_the_dataset_as_text():
    series = panel()
    scaler = rk.Scaler(by_group=True).fit(series)
    filled = series.with_values(np.nan_to_num(series.values))
    spec = rk.WindowSpec(2, targets=["x"])
    options = {"batch_size": 99, "scaler": scaler, "return_index": True}
    loaded = rk.WindowLoader(filled, spec, **options)[0]
    streamed = next(rk.window_dataset(filled, spec, **options).as_numpy_iterator())
    assert loaded[2]["group"].tolist() == [text.decode() for text in streamed[2]["group"]]
    backs = [scaler.inverse_transform(m[1], "x", groups=m[2]["group"]) for m in (loaded, streamed)]
    assert backs[0] == pytest.approx(filled["x"][loaded[2]["target_rows"]][:, :, None], abs=1e-5)
    assert np.array_equal(*backs)
    alone = rk.WindowLoader(np.arange(9.0), rk.WindowSpec(2), batch_size=9, return_index=True)
    assert set(alone[0][2]) == {"input_row", "target_rows"}


@pytest.mark.parametrize("by_group", [False, True])
@given(data=st.data())
def test_any_groups_parts_and_chunks_equal_numpy(by_group, data):
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    rows = sum(sizes)
    generator = np.random.default_rng(data.draw(st.integers(0, 999)))
    values = generator.normal([1e6, -3], [0.5, 40], size=(rows, 2))
    values[generator.random(values.shape) < 0.15] = np.nan
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=6, unique=True)))
    parts = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    group = np.repeat(np.arange(len(sizes)), sizes)
    training = np.zeros(rows, dtype=bool)
    for start, stop in parts:
        training[start:stop] = True
    if not np.isfinite(values).any(axis=0).all():
        return
    series = rk.TimeSeries(values, names=["x", "y"], group=group).with_target_rows(parts)
    chosen = [training & (group == g) for g in range(len(sizes))] if by_group else [training]
    expected = [[column[rows & np.isfinite(column)] for column in values.T] for rows in chosen]
    some = [any(map(len, columns)) for columns in expected]
    whole = all(
        all(map(len, columns)) for columns, here in zip(expected, some, strict=True) if here
    )
    with pytest.MonkeyPatch.context() as patch:
        chunk = data.draw(st.sampled_from([1, 48, 100, 1 << 22]))
        patch.setattr("keras_rnnkit.data.series.CHUNK_BYTES", chunk)
        if not whole or not any(some):
            with pytest.raises(ValueError, match="has no value in the training rows"):
                rk.Scaler(names=["x", "y"], by_group=by_group).fit(series)
            return
        scaler = rk.Scaler(names=["x", "y"], by_group=by_group).fit(series)
    static = [
        all(len(set(columns[c])) < 2 for columns in expected)
        and len({x for columns in expected for x in columns[c]}) > 1
        and any(len(columns[c]) > 1 for columns in expected)
        for c in range(2)
    ]
    for at, columns in enumerate(expected):
        if not some[at]:
            assert np.isnan(scaler.mean[at]).all()
            continue
        for c, numbers in enumerate(columns):
            if by_group and static[c]:
                continue
            assert scaler.mean[at, c] == pytest.approx(numbers.mean(), rel=1e-12)
            deviation = numbers.std() if len(set(numbers)) > 1 else 1
            assert scaler.scale[at, c] == pytest.approx(deviation, rel=1e-6)


def test_a_forgotten_sentinel_is_refused():
    for sentinel in (1.7e308, -1.7e308, 1e200):
        values = np.random.default_rng(0).normal(size=(50, 2))
        values[[3, 9], 1] = sentinel
        series = rk.TimeSeries(values, names=["T", "p"])
        with pytest.raises(
            ValueError, match=r"column 'p' holds numbers whose squares .*na_values="
        ):
            rk.Scaler().fit(series)
        rk.Scaler().fit(rk.TimeSeries(values, names=["T", "p"], na_values=sentinel))


def test_a_file_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "scaler.json"
    scaler = rk.Scaler(by_group=True).fit(panel())
    scaler.save(path)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    same = 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(generator.integers(1, 4)):
            at = generator.integers(len(damaged))
            kind = generator.integers(3)
            if kind == 0:
                damaged[at] = generator.choice(list(b'0123456789.-e,"[]{} nulatrfs'))
            elif kind == 1:
                del damaged[at : at + int(generator.integers(1, 9))]
            else:
                damaged[at:at] = bytes(generator.choice(list(b"0123456789 ."), 1))
        path.write_bytes(damaged)
        with suppress(ValueError):
            again = rk.Scaler.load(path)
            same += 1  # white space, or nothing that counts
            for name in ("mean", "scale", "fitted_rows", "columns", "groups", "names"):
                assert np.array_equal(getattr(again, name), getattr(scaler, name))
    assert same < 300


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), None, "1"])
def test_a_scale_that_is_none_is_refused(tmp_path, scale):
    path = tmp_path / "scaler.json"
    rk.Scaler(names=["x"]).fit(panel()).save(path)
    content = json.loads(path.read_text())
    for name in ("scale", "mean"):
        made = {**content, name: [[scale]]}
        del made["sha256"]
        text = json.dumps(made, sort_keys=True)
        made["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(json.dumps(made))
        if name == "mean" and scale in (0, -1.0):
            rk.Scaler.load(path)
            continue
        with pytest.raises(ValueError, match=r"scaler\.json holds no scaler"):
            rk.Scaler.load(path)


def test_threads_save_and_load_whole_scalers(tmp_path):
    path = tmp_path / "scaler.json"
    scaler = rk.Scaler(by_group=True).fit(panel())
    scaler.save(path)
    errors = []

    def work():
        try:
            for _ in range(20):
                scaler.save(path)
                assert np.array_equal(rk.Scaler.load(path).mean, scaler.mean)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [file.name for file in tmp_path.iterdir()] == ["scaler.json"]


def test_whole_numbers_that_float32_lacks_are_not_changed_without_a_word():
    ids = 16_777_216.0 + np.arange(4) % 3
    series = rk.TimeSeries(np.column_stack([np.random.default_rng(0).random(4), ids]))
    with pytest.raises(ValueError, match=r"column '1' holds whole numbers .* 16777217 becomes"):
        rk.Scaler(names=["0"]).fit(series).transform(series)
    rk.Scaler(names=["0", "1"]).fit(series).transform(series)


def test_a_layer_leaves_as_it_is_what_the_scaler_does():
    series = shop_panel()
    scaler = rk.Scaler().fit(series)
    layer = scaler.as_layer(["label", "sales", "hour"])
    given = series.values[:, [1, 0, 3]].astype(np.float32)
    scaled = scaler.transform(series).values[:, [1, 0, 3]]
    assert np.asarray(layer(given)) == pytest.approx(scaled, rel=1e-4, abs=1e-4)
    with pytest.raises(ValueError, match=r"names= holds \['q'\]; the scaler was fitted on"):
        scaler.as_layer(["sales", "q"])
