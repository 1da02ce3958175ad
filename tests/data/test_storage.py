"""What the inputs are stored in holds the numbers that came in, or is refused; maps of any kind."""

import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.data.layout import Storage

MAKERS = [
    lambda *given, **options: next(rk.window_dataset(*given, **options).as_numpy_iterator()),
    lambda *given, **options: rk.WindowLoader(*given, **options)[0],
]
SPEC = rk.WindowSpec(2, targets=["x"])


def series(**columns):
    return rk.TimeSeries(np.column_stack(list(columns.values())), names=list(columns))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_whole_numbers_are_not_changed_by_half_precision(make, dtype):
    x = np.random.default_rng(0).normal(size=8)
    large = 2049.0 if dtype == "float16" else 2017.0
    years = series(x=x, year=np.repeat([large - 1, large], 4))
    options = {"batch_size": 9, "dtype": dtype}
    with pytest.raises(
        ValueError,
        match=rf"column 'year' holds whole numbers that {dtype} would change: {large:.0f}",
    ):
        make(years, SPEC, **options)
    scaler = rk.Scaler(names=["x", "year"]).fit(years)
    assert np.abs(make(years, SPEC, scaler=scaler, **options)[0][..., 1]).max() < 2
    inputs, _ = make(series(x=x, hour=np.arange(8.0) * 3), SPEC, **options)
    assert inputs[:, 0, 1].tolist() == list(range(0, 18, 3))
    halves = rk.TimeSeries(np.column_stack([x, np.full(8, 2047.0)]).astype(np.float16))
    if dtype == "bfloat16":
        with pytest.raises(ValueError, match="2047 becomes 2048"):
            make(halves, rk.WindowSpec(2), **options)
    # A measurement is rounded, as half precision does, though some of its values are whole.
    make(series(x=x, level=[2017, 2017.5, 2018, 2017, 2017, 2017, 2017, 2017]), SPEC, **options)


@pytest.mark.parametrize("make", MAKERS)
def test_whole_numbers_beyond_float32_are_refused(make, tmp_path):
    x = np.arange(8.0) / 3
    ids = series(x=x, id=16_777_216.0 + np.arange(8) % 2)
    with pytest.raises(ValueError, match=r"column 'id' .* float32 .* 16777217 becomes 16777216"):
        make(ids, SPEC, batch_size=9)
    np.save(tmp_path / "rows.npy", ids.values)
    mapped = rk.TimeSeries(tmp_path / "rows.npy", names=ids.names)
    with pytest.raises(ValueError, match=r"column 'id' .* float32 .* 16777217 becomes 16777216"):
        make(mapped, SPEC, batch_size=9)
    make(ids, rk.WindowSpec(2, features=["x"], targets=["x"]), batch_size=9)
    static = rk.WindowSpec(2, targets=["x"], static=["id"])
    panel = rk.TimeSeries(
        np.column_stack([x, np.repeat([5.0, 16_777_217.0], 4)]),
        names=["x", "id"],
        group=np.repeat([1, 2], 4),
    )
    with pytest.raises(ValueError, match="column 'id' holds whole numbers"):
        make(panel, static, batch_size=9)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kind", ["memory", "map"])
def test_numbers_beyond_float32_are_refused_wherever_they_lie(make, kind, tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 2))
    rows[30, 1] = 1e300
    np.save(tmp_path / "rows.npy", rows)
    given = rk.TimeSeries(tmp_path / "rows.npy" if kind == "map" else rows, names=["x", "y"])
    with pytest.raises(ValueError, match=r"column 'y' holds 1e\+300, more than float32 can"):
        make(given, SPEC, batch_size=99)
    make(given, rk.WindowSpec(2, features=["x"], targets=["x"]), batch_size=99)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("by_group", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.float16, np.float64])
def test_a_map_gives_what_memory_gives(make, by_group, dtype, tmp_path):
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 250, (40, 3)).astype(dtype)
    if np.dtype(dtype).itemsize == 8:
        rows = rows + np.array([10**9, 0, 0], dtype)  # which the subtraction takes off exactly
    np.save(tmp_path / "rows.npy", rows)
    options = {"names": ["x", "y", "z"], "group": np.repeat(["a", "b"], 20)}
    memory = rk.TimeSeries(rows.astype(np.float64), **options)
    mapped = rk.TimeSeries(tmp_path / "rows.npy", **options)
    assert isinstance(mapped.values, np.memmap)
    scaler = rk.Scaler(names=options["names"], by_group=by_group).fit(mapped)
    assert scaler.mean == pytest.approx(
        rk.Scaler(names=options["names"], by_group=by_group).fit(memory).mean
    )
    spec = rk.WindowSpec(6, step=2, features=["z", "x"], targets=["y"])
    for given in (
        ({}, {"scaler": scaler}) if np.dtype(dtype).itemsize < 8 else ({"scaler": scaler},)
    ):
        for mine, theirs in zip(
            make(mapped, spec, batch_size=99, **given),
            make(memory, spec, batch_size=99, **given),
            strict=True,
        ):
            assert mine.dtype == np.float32
            assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_numbers_are_looked_at_in_every_block():
    store = Storage(np.dtype(np.float32), ["a", "b", "c"])
    store(np.array([[1.0, 2**24 + 1, 2**24 + 1]]))
    store(np.array([[2.0**24 + 1, np.nan, 0.5]]))
    with pytest.raises(ValueError, match=r"column .[ab]. holds whole numbers"):
        store.finish()
    store = Storage(np.dtype(np.float32), ["c"])
    store(np.array([[2.0**24 + 1]]))
    store(np.array([[0.5]]))
    store.finish()
