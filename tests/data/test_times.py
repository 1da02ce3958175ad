"""Times from text against datetime.strptime, and steps of time."""

import datetime as dt
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_rnnkit.data import steps as steps_module
from keras_rnnkit.data import times as times_module
from keras_rnnkit.data.steps import format_duration, infer_step, parse_step, steps_between
from keras_rnnkit.data.time_formats import is_time

MOMENTS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2199, 12, 31))


def as_times(time, **options):
    """The times alone, without their zone."""
    return times_module.as_times(time, **options)[0]


def microseconds(moments):
    return np.array([moment.replace(tzinfo=None) for moment in moments], "datetime64[us]")


@given(
    moments=st.lists(MOMENTS, min_size=1, max_size=6),
    time_format=st.sampled_from(
        [
            "%Y-%m-%dT%H:%M:%S.%f",
            "%d.%m.%Y %H:%M:%S",
            "%Y%m%d%H%M%S",
            "%H:%M, %d/%m/%Y",
            "(%m) %d+%Y",
            "%d %b %Y %I:%M %p",
            "%y-%j %H",
            "%Y",
        ]
    ),
)
def test_formats_equal_strptime(moments, time_format):
    text = [moment.strftime(time_format) for moment in moments]
    expected = [dt.datetime.strptime(value, time_format) for value in text]
    assert (as_times(text, time_format=time_format) == microseconds(expected)).all()


@pytest.mark.parametrize("fraction", ["5", "05", "123", "000001", "999999"])
def test_short_fractions_of_a_second_equal_strptime(fraction):
    time_format = "%d.%m.%Y %H:%M:%S,%f"
    text = f"1.2.2024 3:04:05,{fraction}"
    expected = dt.datetime.strptime(text, time_format)
    assert (as_times([text], time_format=time_format) == microseconds([expected])).all()


@given(moments=st.lists(MOMENTS, min_size=1, max_size=6), mark=st.sampled_from("T "))
def test_iso_text_is_recognised(moments, mark):
    for unit in ("minutes", "seconds", "milliseconds", "microseconds"):
        text = [moment.isoformat(mark, unit) for moment in moments]
        expected = [dt.datetime.fromisoformat(value) for value in text]
        assert (as_times(text) == microseconds(expected)).all()
        assert is_time(text[0])
    text = [moment.date().isoformat() for moment in moments]
    assert (as_times(text) == np.array(text, "datetime64[D]")).all()


@given(
    moments=st.lists(MOMENTS, min_size=1, max_size=6),
    zone=st.sampled_from(["Z", "+01:00", "-0530", "+11"]),
)
def test_times_with_a_zone_become_utc(moments, zone):
    text = [moment.isoformat() + zone for moment in moments]
    offset = {"Z": 0, "+01:00": 60, "-0530": -330, "+11": 660}[zone]
    expected = microseconds(moments) - np.timedelta64(offset, "m")
    assert (as_times(text) == expected).all()
    assert is_time(text[0])
    explicit = [f"{moment:%Y-%m-%d %H:%M} +0130" for moment in moments]
    utc = [moment.replace(second=0, microsecond=0) for moment in moments]
    assert (
        as_times(explicit, time_format="%Y-%m-%d %H:%M %z")
        == microseconds(utc) - np.timedelta64(90, "m")
    ).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (["01.02.2009 00:10:00", "13.02.2009 01:00:00"], ["2009-02-01T00:10", "2009-02-13T01:00"]),
        (["1.2.2009", "2.2.2009"], ["2009-02-01", "2009-02-02"]),
        (["2009/02/01 7:05", "2009/02/13 17:05"], ["2009-02-01T07:05", "2009-02-13T17:05"]),
        (["01/02/2009", "13/02/2009"], ["2009-02-01", "2009-02-13"]),
        (["02/01/2009", "02/13/2009"], ["2009-02-01", "2009-02-13"]),
        (["01/01/2009", "02/02/2009"], ["2009-01-01", "2009-02-02"]),
        (["2009-02", "2009-03"], ["2009-02-01", "2009-03-01"]),
        (["2009-02-01 00:00:00.5"], ["2009-02-01T00:00:00.500"]),
    ],
)
def test_common_formats_are_recognised(text, expected):
    assert (as_times(text) == np.array(expected, "datetime64[ms]")).all()
    assert is_time(text[0])


def test_day_and_month_that_could_be_either_are_refused():
    with pytest.raises(
        ValueError, match=r"'01/02/2009', fit '%d/%m/%Y' and '%m/%d/%Y': pass time_format="
    ):
        as_times(["01/02/2009", "03/04/2009"])
    times = as_times(["01/02/2009", "03/04/2009"], time_format="%m/%d/%Y")
    assert (times == np.array(["2009-01-02", "2009-03-04"], "datetime64[D]")).all()


def test_seconds_since_1970():
    seconds = [0, 1.5, 1_700_000_000.25, -3600]
    expected = [dt.datetime(1970, 1, 1) + dt.timedelta(seconds=s) for s in seconds]
    assert (as_times(seconds, time_format="unix") == microseconds(expected)).all()
    assert (as_times(list(map(str, seconds)), time_format="unix") == microseconds(expected)).all()
    whole = np.array([0, 1_700_000_000])
    assert (as_times(whole, time_format="unix") == whole.astype("datetime64[s]")).all()


def test_what_is_a_time_already():
    assert as_times(range(3)).dtype == np.int64
    assert as_times(np.uint8([1, 2])).tolist() == [1, 2]
    for unit in ("s", "ms", "us", "ns"):
        times = np.array(["2024-01-01", "2024-01-02"], f"datetime64[{unit}]")
        assert as_times(times) is times
    for unit in ("m", "h", "D", "M", "Y"):
        times = as_times(np.array(["2024", "2025"], f"datetime64[{unit}]"))
        assert times.dtype == "datetime64[s]"
        assert times[1] == np.datetime64("2025-01-01")
    moments = [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 5)]
    assert (as_times(moments) == microseconds(moments)).all()
    assert (as_times(pd.Series(moments)) == microseconds(moments)).all()
    assert (as_times([20240102], time_format="%Y%m%d") == np.datetime64("2024-01-02")).all()
    assert (as_times(np.array([b"2024-01-02"])) == np.datetime64("2024-01-02")).all()
    assert as_times([]).shape == (0,)


@pytest.mark.parametrize(
    ("time", "time_format", "message"),
    [
        (
            ["2024-01-01", "2024-02-30", "x"],
            None,
            "a date and time in every row, .* '2024-02-30' in row 1",
        ),
        (["2024-01-01 24:30"], None, "received '2024-01-01 24:30' in row 0"),
        (["01.02.2024", "02.02.2024", "soon"], None, "received 'soon' in row 2"),
        (["30.02.2024"], None, "received '30.02.2024' in row 0"),
        (["hello"], None, "received 'hello' in row 0 .counted from 0.. Correct the row, or pass"),
        ([""], None, "received '' in row 0"),
        ([1.5, 2.5], None, "received '1.5' in row 0"),
        (["2024-01-01T00:00Z", "2024-01-01T01:00"], None, "received '2024-01-01T01:00' in row 1"),
        (["2024-01-01T00:00", "2024-01-01T01:00Z"], None, "received '2024-01-01T01:00Z' in row 1"),
        (["2024-01-01T00:00Z", "2024-13-01T00:00Z"], None, "received '2024-13-01T00:00Z' in row 1"),
        (["01.02.2024", "1.2.24"], "%d.%m.%Y", "expected format '%d.%m.%Y' .* '1.2.24' in row 1"),
        (["31.02.2024"], "%d.%m.%Y", "'31.02.2024' in row 0"),
        (["1 Feb 2024", "x"], "%d %b %Y", "expected format '%d %b %Y' .* 'x' in row 1"),
        (["1e3", "x"], "unix", "expected seconds since 1970 .* received 'x' in row 1"),
        (["1", "nan"], "unix", "received 'nan' in row 1"),
        (["1", "1e30"], "unix", "received '1e30' in row 1"),
        (["1580000000000"], "unix", "of milliseconds: time_format='unix_ms'"),
        ([True, False], None, "must hold dates, integers or text, received dtype bool"),
        ([["2024-01-01"]], None, r"must have one axis \(rows,\), received shape \(1, 1\)"),
        (np.array(["2024-01-01", "NaT"], "M8[s]"), None, "row 1 .counted from 0. has no time"),
    ],
)
def test_the_first_bad_row_is_named(time, time_format, message):
    with pytest.raises(ValueError, match=f"column 'when'.*{message}"):
        as_times(time, time_format=time_format, what="column 'when'")


def test_text_that_is_no_time():
    for text in ("", "1.5", "12", "2024", "20240101", "a", "1/2", "-", "12:30"):
        assert not is_time(text), text


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("10min", np.timedelta64(10, "m")),
        (" 1 h ", np.timedelta64(1, "h")),
        ("H", np.timedelta64(1, "h")),
        ("7D", np.timedelta64(7, "D")),
        ("2w", np.timedelta64(14, "D")),
        ("500ms", np.timedelta64(500, "ms")),
        ("3month", np.timedelta64(3, "M")),
        ("year", np.timedelta64(1, "Y")),
        (dt.timedelta(minutes=5), np.timedelta64(5, "m")),
        (pd.Timedelta("90s"), np.timedelta64(90, "s")),
        (np.timedelta64(2, "h"), np.timedelta64(2, "h")),
        (np.int32(4), 4),
        (4, 4),
    ],
)
def test_parse_step(step, expected):
    parsed = parse_step(step)
    assert parsed == expected
    assert isinstance(parsed, np.timedelta64) == isinstance(expected, np.timedelta64)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        *(
            (
                step,
                f"a positive number and a unit .* received {re.escape(repr(step))}",
            )
            for step in ("1M", "0h", "00h", "-1h", "1.5h", "", "10", "10 parsec")
        ),
        *((step, "must be text such as '10min', a timedelta") for step in (True, 1.5, None, [1])),
        *((step, "freq= must be positive") for step in (0, -5, np.timedelta64(0, "h"))),
        (dt.timedelta(-1), "freq= must be positive"),
        (np.timedelta64("NaT", "s"), "freq= must be positive"),
    ],
)
def test_wrong_steps_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        parse_step(step)


@given(
    steps=st.lists(st.integers(1, 4), min_size=1, max_size=20),
    inside=st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_the_commonest_step_is_inferred(steps, inside):
    times = np.concatenate(([0], np.cumsum(steps)))
    inside = np.array(inside[: len(steps)])
    kept = [step for step, here in zip(steps, inside, strict=True) if here]
    # Of several that are as common, the shortest.
    expected = min(kept, key=lambda step: (-kept.count(step), step)) if kept else None
    assert infer_step(times, inside) == expected
    dated = infer_step(np.datetime64("2024-01-01", "s") + times, inside)
    assert dated == (None if expected is None else np.timedelta64(expected, "s"))


@given(
    months=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    days=st.lists(st.integers(1, 31), min_size=13, max_size=13),
)
def test_months_between(months, days):
    numbers = np.concatenate(([0], np.cumsum(months)))
    moments = []
    for number, day in zip(numbers, days, strict=False):
        first = dt.datetime(2023 + number // 12, number % 12 + 1, 1)
        following = (first + dt.timedelta(days=31)).replace(day=1)
        moments.append(min(first + dt.timedelta(days=day - 1), following - dt.timedelta(1)))
    for count in (1, 2):
        found = steps_between(microseconds(moments), np.timedelta64(count, "M"))
        assert found.tolist() == [step == count for step in months]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (np.timedelta64(600, "s"), "10 min"),
        (np.timedelta64(60, "m"), "1 h"),
        (np.timedelta64(90, "m"), "1.5 h"),
        (np.timedelta64(7, "D"), "7 D"),
        (np.timedelta64(100, "m"), "100 min"),
        (np.timedelta64(250, "ms"), "0.25 s"),
        (np.timedelta64(61, "s"), "61 s"),
        (np.timedelta64(1, "M"), "1 month"),
        (np.timedelta64(3, "M"), "3 months"),
        (np.timedelta64(2, "Y"), "2 years"),
        (5, "5"),
    ],
)
def test_format_duration(step, text):
    assert format_duration(step) == text


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (np.array([1, 2**63], np.uint64), "row 1 .* holds 9223372036854775808, more than 64 bits"),
        (np.array([0, 10**15], "M8[Y]"), "row 1 .* more than 64 bits can count"),
        ([-(2**63), 2**63 - 1], "spans more than 64 bits can count"),
        (np.array([-(2**62), 2**62 + 1], "M8[s]"), "spans more than 64 bits can count"),
    ],
)
def test_what_64_bits_cannot_count_does_not_wrap(time, message):
    with pytest.raises(ValueError, match=message):
        as_times(time)
    assert as_times(np.array([1, 2**63 - 1], np.uint64)).tolist() == [1, 2**63 - 1]


@pytest.mark.parametrize(
    ("text", "time_format"),
    [
        ("1_0", "unix"),
        ("\uff11\uff12", "unix"),
        ("1e400", "unix"),
        ("inf", "unix"),
        ("\uff11\uff12", "count"),
        ("1_0", "count"),
        ("\uff12\uff10\uff12\uff14-01-01", None),
        ("\uff11.2.2024", None),
        ("1.2.\uff12\uff10\uff12\uff14", "%d.%m.%Y"),
        ("\uff11 Feb 2024", "%d %b %Y"),
    ],
)
def test_digits_are_plain_ones(text, time_format):
    assert not is_time(text, time_format if time_format and "%" in time_format else None)
    with pytest.raises(ValueError, match="in row 0"):
        as_times([text], time_format=time_format)


def test_steps_are_counted_in_every_chunk(monkeypatch):
    generator = np.random.default_rng(0)
    steps = generator.choice([1, 1, 1, 2, 5], 200)
    times = np.concatenate(([0], np.cumsum(steps)))
    inside = generator.random(200) < 0.8
    for rows in (1, 7, 64, 1000):
        monkeypatch.setattr(steps_module, "CHUNK_ROWS", rows)
        assert infer_step(times, inside) == 1
        assert steps_between(times, 2).tolist() == (steps == 2).tolist()
