"""Many groups: results as with few, and no line of Python that runs once for each of them."""

import sys

import numpy as np
import pytest

import keras_rnnkit as rk

ROWS = 20
SPEC = rk.WindowSpec(4, targets=["x"], static=["size"])


def panel(groups):
    generator = np.random.default_rng(0)
    rows = groups * ROWS
    values = np.column_stack([generator.normal(size=(rows, 2)), np.repeat(np.arange(groups), ROWS)])
    values[generator.random(rows) < 0.01, 0] = np.nan
    return {
        "values": values.astype(np.float32),
        "names": ["x", "y", "size"],
        "time": np.tile(np.datetime64("2024-01-01", "s") + np.arange(ROWS) * 86400, groups),
        "group": np.repeat(np.arange(groups) * 3 % (groups * 3 + 1), ROWS),
    }


def use(made, by_group, **options):
    series = rk.TimeSeries(**made)
    parts = rk.split(series, train=0.7, val=0.15)
    rk.split(series, train="2024-01-10", val="2024-01-15")
    scaler = rk.Scaler(names=["x", "y"], by_group=by_group).fit(parts.train)
    scaler.transform(series)
    loader = rk.WindowLoader(parts.train, SPEC, batch_size=32, scaler=scaler, **options)
    loader[0]
    rk.window_report(parts, SPEC, scaler=scaler)
    rk.check_split(parts, scaler=scaler)
    repr(series)
    scaler.inverse_transform(np.zeros(len(series.groups)), "x", groups=series.groups)


@pytest.mark.parametrize("by_group", [False, True])
@pytest.mark.parametrize("options", [{}, {"balance": True, "shuffle": True, "seed": 1}])
def test_no_line_runs_once_for_each_group(by_group, options):
    def lines(groups):
        number = 0

        def count(frame, event, argument):
            nonlocal number
            number += event == "line"
            return count

        made = panel(groups)
        use(made, by_group, **options)  # with all imports done
        before = sys.gettrace()
        sys.settrace(count)
        try:
            use(made, by_group, **options)
        finally:
            sys.settrace(before)
        return number

    few, many = lines(20), lines(1500)
    assert many - few < 1000


def test_irregular_groups_are_not_looped_over_either():
    generator = np.random.default_rng(0)
    time = np.concatenate([np.cumsum(generator.integers(1, 100, ROWS)) for _ in range(500)])
    group = np.repeat(np.arange(500), ROWS)
    number = 0

    def count(frame, event, argument):
        nonlocal number
        number += event == "line"
        return count

    sys.settrace(count)
    try:
        rk.TimeSeries(np.ones(len(time)), time=time, group=group)
    finally:
        sys.settrace(None)
    assert number < 1000
