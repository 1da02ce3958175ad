"""Columns made of times, lags and groups."""

import pickle
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import keras_rnnkit as rk

START = datetime(2023, 12, 30, 22, 40)
MINUTES = [START + timedelta(minutes=20 * row) for row in range(30_000)]  # over a leap day


def fractions(time):
    """How far the hour, day, week, month and year have gone, by Python's own calendar."""
    midnight = datetime(time.year, time.month, time.day)
    month = datetime(time.year, time.month, 1)
    after = datetime(time.year + time.month // 12, time.month % 12 + 1, 1)
    year, next_year = datetime(time.year, 1, 1), datetime(time.year + 1, 1, 1)
    day = (time - midnight) / timedelta(days=1)
    return {
        "minute": time.minute / 60,
        "hour": day,
        "weekday": (time.weekday() + day) / 7,
        "day": (time - month) / (after - month),
        "day_of_year": (time - year) / (next_year - year),
        "month": (time - year) / (next_year - year),
    }


def test_parts_of_the_calendar_are_those_of_pythons():
    series = rk.TimeSeries(np.arange(30_000.0), names=["x"], time=np.array(MINUTES, "M8[s]"))
    parts = list(fractions(START))
    turned = series.with_columns(rk.data.calendar(*parts))
    whole = series.with_columns(rk.data.calendar(*parts, cyclic=False))
    expected = [fractions(time) for time in MINUTES]
    for part in parts:
        turn = 2 * np.pi * np.array([fraction[part] for fraction in expected])
        assert turned[f"{part} sin"] == pytest.approx(np.sin(turn), abs=1e-6)
        assert turned[f"{part} cos"] == pytest.approx(np.cos(turn), abs=1e-6)
        read = [
            time.timetuple().tm_yday
            if part == "day_of_year"
            else time.weekday()
            if part == "weekday"
            else getattr(time, part)
            for time in MINUTES
        ]
        assert whole[part].tolist() == read


def test_the_clock_is_that_of_the_series_zone():
    instants = np.datetime64("2024-03-30T22", "h") + np.arange(6)
    series = rk.TimeSeries(
        np.arange(6.0), time=[f"{instant}:00Z" for instant in instants], zone="Europe/Berlin"
    ).with_columns(rk.data.calendar("hour", cyclic=False))
    zone = ZoneInfo("Europe/Berlin")
    clock = [
        instant.astype("M8[s]").item().replace(tzinfo=ZoneInfo("UTC")).astimezone(zone).hour
        for instant in instants
    ]
    assert series["hour"].tolist() == clock == [23, 0, 1, 3, 4, 5]


def test_a_function_of_the_users_marks_holidays():
    days = np.datetime64("2024-12-23") + np.arange(4)
    series = rk.TimeSeries(np.arange(4.0), time=days)
    holiday = series.with_columns({"holiday": lambda time: time == np.datetime64("2024-12-25")})
    assert holiday["holiday"].tolist() == [0, 0, 1, 0]


def test_lags_end_with_their_segment():
    time = [0, 1, 2, 5, 6, 7, 8, 0, 1]
    series = rk.TimeSeries(
        np.arange(9.0), names=["x"], time=time, group=["a"] * 7 + ["b"] * 2, freq=1
    ).with_columns({"two ago": ("x", 2), "four ago": ("two ago", 2)})
    nan = np.nan
    assert np.array_equal(
        series["two ago"], [nan, nan, 0, nan, nan, 3, 4, nan, nan], equal_nan=True
    )
    assert np.isnan(series["four ago"]).all()


def test_made_columns_survive_a_pickle():
    days = np.datetime64("2024-12-23") + np.arange(4)
    series = rk.TimeSeries(np.arange(4.0), names=["x"], time=days)
    series = series.with_columns({**rk.data.calendar("weekday"), "before": ("x", 1)})
    again = pickle.loads(pickle.dumps(series))
    ahead, _ = rk.forecast_windows(again, rk.WindowSpec(2, known=["weekday sin"]))
    assert len(ahead) == 5


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (rk.data.calendar("hour"), "'hour sin' is a function of times, and the series has none"),
        ({"x": np.zeros(3)}, "names 'x', which the series has already"),
        ({"y": np.zeros(2)}, r"number for each of 3 rows, received shape \(2,\)"),
        ({"y": ["a", "b", "c"]}, "must hold numbers, received <U1. Code text with Categories"),
        ({"y": {"z": 1}}, "no value for group 'a'"),
        ({"y": ("x", 0)}, "a lag is a column and a number of rows of at least 1"),
        ({"y": ("z", 2)}, "is a lag of 'z', which the series does not have"),
    ],
)
def test_columns_that_cannot_be_made_are_refused(columns, message):
    series = rk.TimeSeries(np.zeros(3), names=["x"], group=["a", "a", "a"])
    with pytest.raises(ValueError, match=message):
        series.with_columns(columns)


def test_a_calendar_of_counted_times_and_unknown_parts_are_refused():
    series = rk.TimeSeries(np.zeros(3), names=["x"], time=[1, 2, 3])
    with pytest.raises(ValueError, match="calendar's hour needs dates"):
        series.with_columns(rk.data.calendar("hour"))
    with pytest.raises(ValueError, match="received 'houre'"):
        rk.data.calendar("houre")
