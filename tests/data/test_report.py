"""window_report: each count against windows counted one by one, and the table it prints."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_rnnkit as rk
from tests.data.brute_force import panels, segment_numbers, specs, window_rows, window_starts


def brute_force_counts(panel, spec, parts):
    """The counts of a report, from lists of starts alone."""
    groups, times, whole = panel
    rows = len(groups)
    every = dataclasses.replace(spec, stride=1)
    all_rows, everywhere = [True] * rows, [(0, rows)]
    unbroken_times = list(range(rows))
    possible = window_starts(
        segment_numbers(groups, unbroken_times, 1, all_rows), everywhere, every
    )
    numbers = segment_numbers(groups, times, 1, all_rows)
    unbroken = window_starts(numbers, everywhere, every)
    here = window_starts(numbers, parts, every)
    on_stride = window_starts(numbers, parts, spec)
    kept = window_starts(numbers, parts, spec, whole)
    inputs = {row for start in kept for row in window_rows(start, spec)[0]}
    targets = {row for start in kept for row in window_rows(start, spec)[1]}
    return {
        "rows": rows,
        "possible": len(possible),
        "across_gap": len(set(possible) - set(unbroken)),
        "other_part": len(set(unbroken) - set(here)),
        "between_strides": len(set(here) - set(on_stride)),
        "missing": len(set(on_stride) - set(kept)),
        "windows": len(kept),
        "input_rows": len(inputs),
        "target_rows": len(targets),
        "groups": len(set(groups)),
        "groups_without_window": len(set(groups) - {groups[start] for start in kept}),
    }


@settings(max_examples=100)
@given(panel=panels(), spec=specs(), batch_size=st.integers(1, 9), data=st.data())
def test_counts_equal_the_brute_force_list(panel, spec, batch_size, data):
    groups, times, whole = panel
    rows = len(groups)
    if not any(whole):
        return
    values = np.arange(2.0 * rows).reshape(-1, 2)
    values[~np.array(whole), 1] = np.nan
    series = rk.TimeSeries(values, time=times, group=groups, freq=1)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), min_size=2, max_size=4)))
    parts = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if a < b]
    for view, allowed in (
        (series, [(0, rows)]),
        (series.with_target_rows(np.array(parts).reshape(-1, 2)), parts),
    ):
        report = rk.window_report(view, spec, batch_size=batch_size).parts["all"]
        expected = brute_force_counts(panel, spec, allowed)
        assert {name: getattr(report, name) for name in expected} == expected
        assert report.batches == -(-expected["windows"] // batch_size)
        lost = rows - sum(whole)
        assert report.missing_by_column == ({"1": lost} if lost else {})
        dropped = ("across_gap", "missing", "other_part", "between_strides")
        assert report.possible == report.windows + sum(getattr(report, n) for n in dropped)


def test_memory_and_batches_are_those_of_the_dataset(tmp_path):
    values = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    spec = rk.WindowSpec(24, step=6, targets=["0"])
    options = {"batch_size": 64, "drop_remainder": True, "shuffle": True, "seed": 1}
    part = rk.window_report(values, spec, **options).parts["all"]
    assert part.batches == len(rk.WindowLoader(values, spec, **options))
    # At least the features, once; at most all columns of the features and of the targets.
    assert values.nbytes <= part.bytes_held <= 1.3 * values.nbytes + 1000
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert rk.window_report(mapped, spec, **options).parts["all"].bytes_held == 0


def test_masking_counts_missing_targets_alone():
    values = np.arange(40.0).reshape(20, 2)
    values[3, 0] = values[15, 1] = np.nan
    series = rk.TimeSeries(values, names=["x", "y"])
    spec = rk.WindowSpec(4, targets=["y"])
    part = rk.window_report(series, spec, missing="mask").parts["all"]
    assert (part.missing, part.windows) == (1, 15)
    assert rk.window_report(series, spec).parts["all"].missing == 4 + 5
    with pytest.raises(ValueError, match=r"9 windows read a missing value \('x' lacks 1 rows"):
        rk.window_report(series, spec, missing="error")


def test_windows_without_targets():
    part = rk.window_report(np.arange(10.0), rk.WindowSpec(4, targets=())).parts["all"]
    assert (part.windows, part.input_rows, part.target_rows) == (7, 10, 0)


def test_the_table_of_a_split():
    time = np.datetime64("2024-01-01", "h") + np.arange(2000)
    time[1500:] += np.timedelta64(24, "h")
    values = np.ones((2000, 2))
    values[100, 1] = values[101] = np.nan
    group = np.repeat(["a", "b"], [1990, 10])
    series = rk.TimeSeries(values, names=["T", "p"], time=time, group=group)
    parts = rk.split(series, train=0.6, val=0.4)
    spec = rk.WindowSpec(24, stride=3)
    scaler = rk.Scaler(names=["T"]).fit(parts.train)
    report = rk.window_report(parts, spec, batch_size=100, scaler=scaler)
    assert str(report).splitlines() == [
        "                                         train                  val",
        "rows                                     2,000                2,000",
        "targets from               2024-01-01 00:00:00  2024-02-20 00:00:00",
        "targets to                 2024-02-19 23:00:00  2024-03-25 07:00:00",
        "possible starts                          1,966                1,966",
        "- across a gap in time                      24                   24",
        "- targets in another part                  766                1,176",
        "- between strides                          784                  510",
        "- over a missing value                       8                    0",
        "windows                                    384                  256",
        "rows used as inputs                      1,194                  810",
        "rows used as targets                       384                  256",
        "batches an epoch                             4                    3",
        "memory held (MB)                           0.0                  0.0",
        "groups                                       2                    2",
        "groups without a window                      1                    1",
        "missing: T 1, p 2",
        "scaled: T; as they are: p",
        "split: no row is a target of two parts, the scaler was fitted on the training part alone",
    ]
    assert repr(report) == str(report)


def test_a_split_that_leaks_is_refused():
    series = rk.TimeSeries(np.arange(100.0))
    leak = rk.data.Split(
        series.with_target_rows([[0, 60]]), series.with_target_rows([[50, 100]]), None
    )
    with pytest.raises(ValueError, match="train and val share 10 target rows"):
        rk.window_report(leak, rk.WindowSpec(4))
    parts = rk.split(series, train=0.5, val=0.5)
    with pytest.raises(ValueError, match="the scaler was fitted on val"):
        rk.window_report(parts, rk.WindowSpec(4), scaler=rk.Scaler().fit(series))


def test_a_series_without_a_window_is_described_all_the_same():
    report = rk.window_report(np.arange(5.0), rk.WindowSpec(10))
    part = report.parts["all"]
    assert (part.possible, part.windows, part.batches, part.bytes_held) == (0, 0, 0, 0)
    assert "windows                 0" in str(report)
    with pytest.raises(ValueError, match="targets= names 'x'"):
        rk.window_report(np.arange(5.0), rk.WindowSpec(2, targets=["x"]))


def test_a_target_that_the_inputs_show_is_named():
    series = rk.TimeSeries(np.zeros((20, 2)), names=["T", "p"])
    report = rk.window_report(series, rk.WindowSpec(4, delay=0, targets=["T"]))
    assert report.leaked_targets == ("T",)
    assert str(report).endswith("leak: targets among the inputs: T")
    for harmless in (
        rk.WindowSpec(4, delay=1, targets=["T"]),
        rk.WindowSpec(4, delay=0, features=["p"], targets=["T"]),
    ):
        assert rk.window_report(series, harmless).leaked_targets == ()


@pytest.mark.parametrize("block", [1, 5, 64])
@given(panel=panels(), spec=specs())
def test_rows_are_counted_once_whatever_the_blocks(block, panel, spec):
    groups, times, whole = panel
    if not any(whole):
        return
    values = np.where(whole, np.arange(float(len(groups))), np.nan)
    series = rk.TimeSeries(values, time=times, group=groups, freq=1)
    numbers = segment_numbers(groups, times, 1, [True] * len(whole))
    starts = [
        start
        for start in window_starts(numbers, [(0, len(groups))], spec)
        if all(whole[row] for rows in window_rows(start, spec) for row in rows)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_rnnkit.data.report.BLOCK_ROWS", block)
        part = rk.window_report(series, spec).parts["all"]
    assert part.input_rows == len({row for s in starts for row in window_rows(s, spec)[0]})
    assert part.target_rows == len({row for s in starts for row in window_rows(s, spec)[1]})


def test_times_of_the_targets_are_told():
    time = np.datetime64("2024-01-01", "D") + np.arange(10)
    series = rk.TimeSeries(np.arange(20.0), time=np.tile(time, 2), group=np.repeat([1, 2], 10))
    parts = rk.window_report(rk.split(series, train=0.6, val=0.2), rk.WindowSpec(2)).parts
    assert parts["train"].first_target == "2024-01-01 00:00:00"
    assert parts["train"].last_target == "2024-01-06 00:00:00"
    assert parts["test"].first_target == "2024-01-09 00:00:00"
    assert parts["test"].last_target == "2024-01-10 00:00:00"
    # Two groups in one run of rows, of which the second begins earlier.
    later = np.concatenate([time + np.timedelta64(100, "D"), time])
    series = rk.TimeSeries(np.arange(20.0), time=later, group=np.repeat([1, 2], 10))
    part = rk.window_report(series.with_target_rows([[2, 20]]), rk.WindowSpec(2)).parts["all"]
    assert (part.first_target, part.last_target) == ("2024-01-01 00:00:00", "2024-04-19 00:00:00")
    counted = rk.TimeSeries(np.arange(9.0), time=np.arange(9))
    assert rk.window_report(counted, rk.WindowSpec(2)).parts["all"].last_target == "8"
    assert rk.window_report(np.arange(9.0), rk.WindowSpec(2)).parts["all"].last_target is None
