"""Targets among the inputs, several delays, and what a split keeps of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_rnnkit as rk
from keras_rnnkit.data.batches import find_windows, resolve
from tests.data.brute_force import panels, segment_numbers, specs, window_starts


def batch_of(series, spec, **options):
    return rk.WindowLoader(series, spec, batch_size=1000, return_index=True, **options)[0]


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize(("lookback", "step"), [(6, 1), (7, 3), (1, 1)])
def test_every_step_has_a_target_shift_rows_on(lookback, step, shift):
    series = rk.TimeSeries(np.arange(80.0).reshape(40, 2), names=["x", "y"])
    spec = rk.WindowSpec.every_step(lookback, step=step, shift=shift, targets=["y"])
    inputs, targets, index = batch_of(series, spec)
    rows = (inputs[:, :, 0] / 2).astype(int)
    assert np.array_equal(rows[:, -1], index["input_row"])
    assert np.array_equal(index["target_rows"], rows + shift)
    assert np.array_equal(targets[:, :, 0], 2 * (rows + shift) + 1)
    assert len(inputs) == 40 - rows[0, -1] - shift
    with pytest.raises(ValueError, match="shift= must be at least 0"):
        rk.WindowSpec.every_step(4, shift=-1)


@pytest.mark.parametrize("shift", [0, 1])
def test_labels_of_a_part_stay_in_the_part(shift):
    parts = rk.split(np.arange(1440.0), train=0.7, val=0.3)
    spec = rk.WindowSpec.every_step(24, shift=shift)
    seen = {}
    for name in ("train", "val"):
        part = getattr(parts, name)
        _, targets, index = batch_of(part, spec)
        low, high = part.target_rows[0]
        assert index["target_rows"].min() == (low if low or not shift else shift)
        assert index["target_rows"].max() == high - 1
        seen[name] = set(targets.ravel().tolist())
    assert not seen["train"] & seen["val"]


def test_inputs_never_come_from_behind_their_part():
    """A negative delay would else let a training window read validation rows."""
    train = rk.split(np.arange(100.0), train=0.6, val=0.4).train
    inputs, _, index = batch_of(train, rk.WindowSpec(10, delay=-5))
    assert inputs.max() == 59
    assert index["target_rows"].max() == 54
    inputs, _, index = batch_of(np.arange(50.0), rk.WindowSpec(4, delay=-6))
    assert (inputs[0, 0, 0], index["target_rows"][0, 0]) == (3, 0)


def test_labels_cut_out_of_the_inputs_are_seen():
    parts = rk.split(np.arange(1000.0), train=0.6, val=0.2)
    bare = rk.WindowSpec(25, targets=())
    message = "windows of val read 24 target rows of train as inputs"
    with pytest.raises(ValueError, match=message):
        rk.check_split(parts, spec=bare)
    report = rk.window_report(parts, bare)
    assert report.read_across == {("val", "train"): 24, ("test", "val"): 24}
    assert "leak if inputs serve as targets: windows of val read 24 target rows" in str(report)
    for harmless in (rk.WindowSpec.every_step(25), rk.WindowSpec(25), rk.WindowSpec(1, targets=())):
        rk.check_split(parts, spec=harmless)
        assert rk.window_report(parts, harmless).read_across == {}
    # Every third row is read: the last eight of the part before.
    apart = rk.window_report(parts, rk.WindowSpec(25, step=3, stride=3, targets=()))
    assert apart.read_across["val", "train"] == 8


def test_targets_that_the_inputs_show_are_counted():
    series = rk.TimeSeries(np.zeros((60, 2)), names=["T", "p"])
    report = rk.window_report(series, rk.WindowSpec.every_step(10, targets=["T"]))
    assert (report.leaked_targets, report.leaked_steps) == (("T",), (9, 10))
    assert "in 9 of 10 target rows; only a model that reads no later" in str(report)
    report = rk.window_report(series, rk.WindowSpec.every_step(10, shift=0))
    assert report.leaked_targets == ("T", "p")
    assert str(report).endswith("leak: targets among the inputs: T, p")
    for harmless in (
        rk.WindowSpec.every_step(10, features=["p"], targets=["T"]),
        rk.WindowSpec(10, step=3, delay=-1, targets=["T"]),  # a row that is passed over
        rk.WindowSpec(10, delay=-12, targets=["T"]),
    ):
        assert rk.window_report(series, harmless).leaked_targets == ()


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("features", [["x"], ["x", "y"]])
def test_a_list_of_delays_gives_each_target_row(tmp_path, step, features):
    rows = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    rows[77, 1] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    spec = rk.WindowSpec(8, step=step, delay=[1, 6, 24], features=features, targets=["y"])
    assert (spec.horizon, dataclasses.replace(spec, stride=2).horizon) == (3, 3)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for values in (rows, mapped):
        series = rk.TimeSeries(values, names=["x", "y"])
        _, targets, weights, index = batch_of(series, spec, weights=np.arange(120.0))
        ahead = index["input_row"][:, None] + [1, 6, 24]
        assert np.array_equal(index["target_rows"], ahead)
        assert np.array_equal(targets[:, :, 0], rows[ahead, 1])
        assert weights[:, 0] == pytest.approx(ahead.mean(axis=1))
        assert 76 not in index["input_row"]
    frame = rk.to_frame(targets, series, spec, backend="pandas")
    assert np.array_equal((frame["time"] - frame["origin"])[:6], [1, 6, 24] * 2)
    assert np.array_equal(frame["prediction"], frame["truth"])
    report = rk.window_report(series, spec).parts["all"]
    assert report.target_rows == len(np.unique(ahead))


@settings(max_examples=150)
@given(panel=panels(), spec=specs(), data=st.data())
def test_chunks_of_starts_join(panel, spec, data):
    """Rows are gone through a million at a time; here a few."""
    groups, times, whole = panel
    if not any(whole):
        return
    values = np.arange(2.0 * len(groups)).reshape(-1, 2)
    values[~np.array(whole), 1] = np.nan
    series = rk.TimeSeries(values, time=times, group=groups, freq=1)
    numbers = segment_numbers(groups, times, 1, [True] * len(groups))
    expected = window_starts(numbers, [(0, len(groups))], spec, whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_rnnkit.data.spec.CHUNK_ROWS", data.draw(st.integers(1, 7)))
        windows = find_windows(series, resolve(series, spec), "drop")
    assert windows.starts().tolist() == expected
    # Neighbours of one segment are one run, wherever a chunk ends.
    assert len(windows.first) == sum(
        position == 0
        or start - expected[position - 1] != spec.stride
        or numbers[start] != numbers[expected[position - 1]]
        for position, start in enumerate(expected)
    )


def test_a_missing_value_costs_the_windows_that_read_it():
    values = np.zeros((5000, 2), np.float32)
    values[3000, 0] = np.nan
    series = rk.TimeSeries(values, names=["x", "y"])
    spec = rk.WindowSpec(720, step=6, delay=144, targets=["y"])
    assert rk.window_report(series, spec).parts["all"].missing == 120
    assert (
        rk.window_report(series, dataclasses.replace(spec, features=["y"])).parts["all"].missing
        == 0
    )
    spec = dataclasses.replace(spec, features=["y"], targets=["x"])
    assert rk.window_report(series, spec).parts["all"].missing == 1


def test_labels_once_a_week_give_their_windows():
    values = np.column_stack([np.arange(700.0), np.where(np.arange(700) % 7 == 6, 1, np.nan)])
    series = rk.TimeSeries(values, names=["sales", "stock"])
    spec = rk.WindowSpec(7, delay=0, features=["sales"], targets=["stock"])
    assert len(batch_of(series, spec)[0]) == 100
    with pytest.raises(
        ValueError, match=r"594 windows read a missing value \('stock' lacks 600 ro"
    ):
        batch_of(series, spec, missing="error")
    assert len(batch_of(series, dataclasses.replace(spec, stride=7), missing="error")[0]) == 100


def test_a_static_value_is_missing_where_its_group_has_none():
    size = np.array([np.nan, 5, 5, np.nan, 5, 5, 7, 7, 7, 7, 7, 7])
    group = np.repeat(["a", "b"], 6)
    series = rk.TimeSeries(
        np.column_stack([np.arange(12.0), size]), names=["x", "size"], group=group
    )
    spec = rk.WindowSpec(2, targets=["x"], static=["size"])
    inputs, *_ = batch_of(series, spec)
    assert inputs["static"].ravel().tolist() == [5] * 4 + [7] * 4
    size[:6] = np.nan
    series = rk.TimeSeries(
        np.column_stack([np.arange(12.0), size]), names=["x", "size"], group=group
    )
    inputs, *_ = batch_of(series, spec)
    assert inputs["static"].ravel().tolist() == [7] * 4


def test_series_of_equal_length_may_be_stacked():
    values = np.random.default_rng(0).normal(size=(3, 20, 2))
    series = rk.TimeSeries(values, names=["x", "y"])
    assert series.groups == (0, 1, 2)
    assert series.bounds.tolist() == [0, 20, 40, 60]
    assert np.array_equal(series.values.reshape(values.shape), values)
    timed = rk.TimeSeries(values, time=np.arange(20) * 2, group=["a", "b", "c"])
    assert timed.groups == ("a", "b", "c")
    assert timed.segments().tolist() == [[0, 20], [20, 40], [40, 60]]
    inputs, _, index = batch_of(values, rk.WindowSpec(19))
    assert np.array_equal(inputs, values[:, :19].astype(np.float32))
    assert index["group"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="group= has 2 entries for 60 rows"):
        rk.TimeSeries(values, group=["a", "b"])
    with pytest.raises(ValueError, match="time= has 5 entries for 60 rows"):
        rk.TimeSeries(values, time=np.arange(5))
