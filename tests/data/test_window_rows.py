"""Which windows exist, and which rows they hold: index arithmetic against a brute-force list."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_rnnkit as rk
from keras_rnnkit.data.batches import find_windows, resolve
from keras_rnnkit.data.spec import intersect
from tests.data.brute_force import panels, segment_numbers, specs, window_rows, window_starts


def make_series(panel, columns=2):
    groups, times, whole = panel
    values = np.arange(len(groups) * columns, dtype=np.float64).reshape(-1, columns)
    values[~np.array(whole), columns - 1] = np.nan
    if not any(whole):
        return None
    return rk.TimeSeries(values, time=times, group=groups, freq=1)


def segments(panel):
    """The number of each row's segment; missing values end none."""
    return segment_numbers(panel[0], panel[1], 1, [True] * len(panel[0]))


def starts_of(series, spec, missing="drop"):
    return find_windows(series, resolve(series, spec), missing).starts().tolist()


@settings(max_examples=600)
@given(panel=panels(), spec=specs(padded=True))
def test_windows_equal_the_brute_force_list(panel, spec):
    series = make_series(panel)
    if series is None:
        return
    expected = window_starts(segments(panel), [(0, len(series))], spec, panel[2])
    starts = starts_of(series, spec)
    assert starts == expected
    inputs, targets = spec.input_rows(starts), spec.target_rows(starts)
    for position, start in enumerate(starts):
        expected_inputs, expected_targets = window_rows(start, spec)
        assert inputs[position].tolist() == expected_inputs
        assert targets[position].tolist() == expected_targets


@settings(max_examples=300)
@given(panel=panels(), spec=specs(padded=True), data=st.data())
def test_windows_of_parts_equal_the_brute_force_list(panel, spec, data):
    series = make_series(panel)
    if series is None:
        return
    cuts = sorted(data.draw(st.lists(st.integers(0, len(series)), min_size=2, max_size=4)))
    parts = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if a < b]
    view = series.with_target_rows(np.array(parts).reshape(-1, 2))
    assert starts_of(view, spec) == window_starts(segments(panel), parts, spec, panel[2])


@settings(max_examples=200)
@given(panel=panels(), spec=specs())
def test_masking_keeps_every_window_whose_targets_are_there(panel, spec):
    series = make_series(panel)
    if series is None:
        return
    spec = dataclasses.replace(spec, targets=["1"])
    expected = [
        start
        for start in window_starts(segments(panel), [(0, len(series))], spec)
        if all(panel[2][row] for row in window_rows(start, spec)[1])
    ]
    assert starts_of(series, spec, "mask") == expected


def test_future_windows_need_known_columns_alone():
    values = np.column_stack([np.arange(8.0), np.arange(8.0)])
    values[6:, 0] = np.nan
    series = rk.TimeSeries(values, names=["T", "plan"])
    spec = rk.WindowSpec(3, horizon=2, features=["T"], targets=(), known=["plan"])
    assert starts_of(series, spec) == [0, 1, 2, 3]
    values[7, 1] = np.nan
    assert starts_of(rk.TimeSeries(values, names=["T", "plan"]), spec) == [0, 1, 2]


@given(
    a=st.lists(st.integers(0, 30), max_size=8, unique=True),
    b=st.lists(st.integers(0, 30), max_size=8, unique=True),
)
def test_intersect_equals_sets(a, b):
    def intervals(edges):
        edges = sorted(edges)
        return np.array(list(zip(edges[::2], edges[1::2], strict=False))).reshape(-1, 2)

    def rows(intervals):
        return {row for start, stop in intervals for row in range(start, stop)}

    both = intersect(intervals(a), intervals(b))
    assert rows(both) == rows(intervals(a)) & rows(intervals(b))
    assert (both[:, 0] < both[:, 1]).all()


def test_the_books_generator():
    """`delay_book` counts from one past the lookback: `delay = delay_book + step`."""
    data = np.arange(60.0)
    for lookback, step, delay_book in ((12, 3, 4), (10, 1, 0), (8, 2, 5)):
        rows = np.arange(lookback, len(data) - delay_book)
        samples = np.stack([data[np.arange(row - lookback, row, step)] for row in rows])
        targets = np.array([data[row + delay_book] for row in rows])
        spec = rk.WindowSpec(lookback, step=step, delay=delay_book + step)
        starts = starts_of(rk.TimeSeries(data), spec)
        # The last row of the book's window is `step` before its end, so ours go `step` further.
        assert np.array_equal(data[spec.input_rows(starts)][: len(samples)], samples)
        assert np.array_equal(data[spec.target_rows(starts)][: len(samples), 0], targets)
        assert len(starts) == len(samples)


def test_the_notebooks_generator():
    """Its target is counted from the last sampled row: `delay` as it stands."""
    data = np.arange(60.0)
    for lookback, step, delay in ((12, 3, 4), (10, 1, 1), (9, 2, 5)):
        expected_inputs, expected_targets = [], []
        for start in range(len(data)):
            sampled = list(range(start, start + lookback, step))
            if sampled[-1] + delay < len(data):
                expected_inputs.append(data[sampled])
                expected_targets.append(data[sampled[-1] + delay])
        spec = rk.WindowSpec(lookback, step=step, delay=delay)
        starts = starts_of(rk.TimeSeries(data), spec)
        assert np.array_equal(data[spec.input_rows(starts)], expected_inputs)
        assert np.array_equal(data[spec.target_rows(starts)][:, 0], expected_targets)


def test_keras_docstring_example_gives_every_window():
    """Keras's own example 2 (100 rows, 10 steps, next 10 rows ahead) promises 90 windows."""
    assert len(starts_of(rk.TimeSeries(np.arange(100.0)), rk.WindowSpec(10))) == 90


def test_two_to_the_31_rows_without_the_data():
    rows = 2**31 + 10
    spec = rk.WindowSpec(1440, step=6, delay=144, stride=1)
    windows = spec.windows(np.array([[0, rows]]), np.array([[0, rows]]))
    assert len(windows) == rows - spec.reach + 1
    last = windows.starts(np.array([len(windows) - 1]))
    assert spec.target_rows(last)[0, -1] == rows - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lookback": 0}, "lookback= must be at least 1, received 0"),
        ({"lookback": 2.0}, "lookback= must be a whole number of rows, received 2.0"),
        ({"lookback": True}, "lookback= must be a whole number"),
        ({"lookback": 5, "stride": 0}, "stride= must be at least 1, received 0"),
        ({"lookback": 5, "stride": -3}, "stride= must be at least 1, received -3"),
        ({"lookback": 5, "delay": 1.0}, "delay= must be a whole number of rows, received 1.0"),
        ({"lookback": 5, "delay": "1"}, "delay= must be a whole number of rows, received '1'"),
        ({"lookback": 5, "delay": [6, 1]}, r"delay= as a list must increase, received \[6, 1\]"),
        ({"lookback": 5, "delay": []}, r"delay= as a list must increase, received \[\]"),
        ({"lookback": 5, "delay": [1, 6], "horizon": 3}, "leave out horizon= and horizon_step="),
        ({"lookback": 5, "horizon": [1, 6]}, r"received \[1, 6\]. .* pass delay=\[1, 6, 24\]"),
        ({"lookback": 5, "features": []}, "features= is empty"),
        ({"lookback": 5, "targets": ["a"], "known": ["a"]}, "known= names a, which has another"),
        ({"lookback": 5, "features": ["a"], "static": ["a"]}, "static= names a, which has another"),
        ({"lookback": 2**62, "horizon": 2}, "more than a row index can count"),
        ({"lookback": 5, "horizon": 2**40, "horizon_step": 2**40}, "more than a row index"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rk.WindowSpec(**arguments)
