"""resample against plain loops over steps, and the rules of its fills."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_rnnkit as rk

BEGIN = np.datetime64("2024-01-01T00:00:00")


def events(minutes, values=None, **options):
    values = np.arange(len(minutes), dtype=float) if values is None else values
    time = BEGIN + np.array(minutes).astype("timedelta64[m]")
    return rk.TimeSeries(values, names=["x"], time=time, freq="rows", **options)


@settings(max_examples=50, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 200), min_size=1, max_size=12, unique=True).map(sorted),
    how=st.sampled_from(["mean", "sum", "min", "max", "first", "last", "count"]),
    cut=st.integers(0, 12),
)
def test_each_step_holds_its_own_rows_of_its_own_group(minutes, how, cut):
    group = (np.arange(len(minutes)) >= cut).astype(int)
    series = rk.resample(events(minutes, group=group), "15min", how=how)
    one = {
        "mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max,
        "first": lambda v: v[0], "last": lambda v: v[-1], "count": len,
    }[how]  # fmt: skip
    steps = {}
    for row, minute in enumerate(minutes):
        steps.setdefault((group[row], minute // 15), []).append(float(row))
    expected = [(g, step * 15, float(one(rows))) for (g, step), rows in sorted(steps.items())]
    found = zip(
        np.array(series.groups)[series.group_of(np.arange(len(series)))],
        (series.time - BEGIN) / np.timedelta64(1, "m"),
        series["x"],
        strict=True,
    )
    assert [(g, minute, pytest.approx(x)) for g, minute, x in found] == expected
    assert series.freq == np.timedelta64(15, "m")


def test_nothing_is_filled_over_a_longer_gap():
    series = events([0, 20, 90, 100], [1.0, 3.0, 9.0, 10.0])
    filled = rk.resample(series, "10min", fill="linear", gap="20min")
    minutes = (filled.time - BEGIN) / np.timedelta64(1, "m")
    assert minutes.tolist() == [0, 10, 20, 90, 100]
    assert filled.values.tolist() == [[1, 0], [2, 1], [3, 0], [9, 0], [10, 0]]
    assert len(filled.segments()) == 2
    longer = rk.resample(series, "10min", fill="ffill", gap="70min", mark="made up")
    assert longer["x"].tolist() == [1, 1, 3, 3, 3, 3, 3, 3, 3, 9, 10]
    assert longer["made up"].tolist() == [0, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert len(rk.resample(series, "10min")) == 4


def test_a_column_is_filled_by_its_own_values():
    series = rk.TimeSeries(
        np.array([[1, 1], [np.nan, 2], [3, 3], [np.nan, 4]]),
        names=["x", "y"],
        time=BEGIN + np.arange(4) * np.timedelta64(1, "h"),
    )
    filled = rk.resample(series, "1h", fill="linear", gap="2h")
    expected = [[1, 1, 0], [2, 2, 1], [3, 3, 0], [np.nan, 4, 0]]
    np.testing.assert_array_equal(filled.values, expected)
    sums = rk.resample(series, "2h", how={"x": "sum", "y": "count"})
    np.testing.assert_array_equal(sums.values, [[1, 2], [3, 2]])
    # No value at all is missing, where pandas would sum it up to 0.
    assert np.isnan(rk.resample(series, "1h", how="sum").values[1, 0])


def test_days_are_those_of_the_zone():
    index = pd.date_range("2024-03-30", "2024-04-02", freq="h", tz="Europe/Berlin")[:-1]
    daily = rk.resample(pd.DataFrame({"x": 1.0}, index=index), "1D", how="sum")
    assert daily["x"].tolist() == [24, 23, 24]
    assert daily.local_time[2] == np.datetime64("2024-04-01")
    assert len(daily.segments()) == 1
    monthly = rk.resample(pd.DataFrame({"x": 1.0}, index=index), "1month", how="count")
    assert monthly["x"].tolist() == [47, 24]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "middle"}, "how= names nothing that pandas knows"),
        ({"how": {"y": "sum"}}, "how= names 'y', which the series does not have"),
        ({"fill": "ffill"}, "fill= needs gap="),
        ({"gap": "1h"}, "fill= needs gap="),
        ({"fill": "zero", "gap": "1h"}, "fill= must be one of"),
        ({"fill": "ffill", "gap": "1month"}, "gap= must be a fixed time"),
        ({"fill": "ffill", "gap": "1h", "mark": "x"}, "mark= must differ"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rk.resample(events([0, 7]), "10min", **options)
    with pytest.raises(ValueError, match="needs a series with dates"):
        rk.resample(rk.TimeSeries([1.0, 2.0], time=[1, 2]), "1h")
    with pytest.raises(ValueError, match="is a part of a split"):
        rk.resample(events([0, 7]).with_target_rows([[0, 1]]), "1h")
