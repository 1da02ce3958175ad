"""TimeSeries: what it reads, how it orders rows, where it finds gaps, and what it refuses."""

import datetime as dt
import pickle
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_rnnkit as rk
from tests.data.brute_force import panels, segment_numbers

HOURS = np.datetime64("2024-01-01T00", "h") + np.arange(3)


def runs(numbers):
    """`[start, stop)` of each run of equal segment numbers; rows without a number are in none."""
    found = []
    for row, number in enumerate(numbers):
        if number is None:
            continue
        if found and row and numbers[row - 1] == number:
            found[-1][1] = row + 1
        else:
            found.append([row, row + 1])
    return found


def test_arrays_and_lists():
    series = rk.TimeSeries([[1, 2.5], [3, 4]])
    assert series.values.tolist() == [[1, 2.5], [3, 4]]
    assert series.names == ("0", "1")
    assert len(series) == 2
    assert series.groups == (None,)
    assert series.bounds.tolist() == [0, 2]
    assert series.time is series.freq is None
    assert series["1"].tolist() == [2.5, 4]
    one = rk.TimeSeries((1, 2, 3), names=["T"])
    assert one.values.shape == (3, 1)
    # Whole numbers up to 16 bits fit float32 exactly, larger ones need float64.
    for whole, floating in ((np.int8, np.float32), (np.uint16, np.float32), (np.int64, np.float64)):
        assert rk.TimeSeries(np.arange(3, dtype=whole)).values.dtype == floating
    assert rk.TimeSeries(np.array([True, False])).values.ravel().tolist() == [1, 0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floating_arrays_are_not_copied(dtype):
    for values in (np.ones((4, 2), dtype), np.ones(4, dtype), np.ones((8, 4), dtype)[::2, 1:]):
        series = rk.TimeSeries(values, time=np.arange(4), group=[0, 0, 1, 1])
        assert np.shares_memory(series.values, values)
        assert series.values.dtype == values.dtype


def test_memory_maps_are_not_copied(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for values in (mapped, mapped[2:], mapped[:, 0]):
        series = rk.TimeSeries(values)
        assert isinstance(series.values, np.memmap)
        assert np.shares_memory(series.values, mapped)
    with (tmp_path / "rows.npy").open("r+b") as file:
        file.truncate(130)
    with pytest.raises(ValueError, match=r"rows.npy has been cut to 130 bytes .* expected 176"):
        rk.TimeSeries(mapped)
    with pytest.raises(ValueError, match="cut to 130 bytes"):
        rk.TimeSeries(mapped[2:, 0])


def frames(columns):
    return {
        "pandas": pd.DataFrame(columns),
        "polars": pl.DataFrame(columns),
        "pyarrow": pa.table(columns),
    }


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_data_frame(library):
    frame = frames(
        {
            "when": HOURS.astype("datetime64[us]").tolist(),
            "site": ["a", "b", "a"],
            "T": [1.5, 2.5, 3.5],
            "n": [1, 2, 3],
            "on": [True, False, True],
        }
    )[library]
    series = rk.TimeSeries(frame, group="site")
    assert series.names == ("T", "n", "on")
    assert series.groups == ("a", "b")
    assert series.values.tolist() == [[1.5, 1, 1], [3.5, 3, 1], [2.5, 2, 0]]
    assert (series.time == HOURS[[0, 2, 1]]).all()
    chosen = rk.TimeSeries(frame, names=["n", "T"], time="when")
    assert chosen.names == ("n", "T")
    assert chosen.values.tolist() == [[1, 1.5], [2, 2.5], [3, 3.5]]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_dates_and_text_as_a_column_of_times(library):
    days = [dt.date(2024, 1, day) for day in (1, 2, 3)]
    text = [str(day) for day in days]
    expected = np.array(text, "datetime64[D]")
    series = rk.TimeSeries(frames({"day": text, "T": [1.0, 2.0, 3.0]})[library], time="day")
    assert (series.time == expected).all()
    if library != "pandas":  # which has no type for a date
        series = rk.TimeSeries(frames({"day": days, "T": [1.0, 2.0, 3.0]})[library])
        assert (series.time == expected).all()


def test_pandas_index_and_zones():
    index = pd.date_range("2024-01-01", periods=3, freq="h")
    series = rk.TimeSeries(pd.DataFrame({"T": [1.0, 2.0, 3.0]}, index=index))
    assert (series.time == HOURS).all()
    assert rk.TimeSeries(pd.DataFrame({"T": [1.0, 2.0]}, index=[7, 9])).time is None
    berlin = index.tz_localize("Europe/Berlin")
    utc = HOURS - np.timedelta64(1, "h")
    in_column = {"when": berlin, "T": [1.0, 2.0, 3.0]}
    for frame in (
        pd.DataFrame({"T": [1.0, 2.0, 3.0]}, index=berlin),
        pd.DataFrame(in_column),
        pl.DataFrame(in_column),
        pa.table(in_column),
    ):
        assert (rk.TimeSeries(frame).time == utc).all()
    for time in (berlin, pd.Series(berlin), list(berlin.to_pydatetime())):
        assert (rk.TimeSeries([1, 2, 3], time=time).time == utc).all()


def test_a_single_column():
    index = pd.date_range("2024-01-01", periods=3, freq="h")
    series = rk.TimeSeries(pd.Series([1.0, 2.0, 3.0], name="T", index=index))
    assert series.names == ("T",)
    assert (series.time == HOURS).all()
    assert rk.TimeSeries(pd.Series([1.0])).names == ("value",)
    assert rk.TimeSeries(pl.Series("q", [1, 2])).names == ("q",)


def test_columns_that_pandas_numbers():
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2))
    assert rk.TimeSeries(frame).names == ("0", "1")
    assert rk.TimeSeries(frame).values.tolist() == frame.to_numpy().tolist()
    assert rk.TimeSeries(frame, names=[1]).values.ravel().tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None, 0], dtype="Int64"),
        pd.array([1, None, 0], dtype="Float32"),
        pd.array([True, None, False], dtype="boolean"),
        pd.array([1, None, 0], dtype="int64[pyarrow]"),
        pl.Series([1, None, 0]),
        pl.Series([1.0, None, 0.0]),
        pl.Series([True, None, False]),
        pa.array([1, None, 0]),
        pa.array([True, None, False]),
    ],
    ids=lambda column: f"{type(column).__module__.split('.')[0]}-{getattr(column, 'dtype', '')}",
)
def test_nulls_become_missing(column):
    library = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    frame = library[type(column).__module__.split(".")[0]]
    series = rk.TimeSeries(frame({"x": column, "y": [1.0, 2.0, 3.0]}))
    assert np.array_equal(series["x"], [1, np.nan, 0], equal_nan=True)
    assert series.missing_rows().tolist() == [1]
    assert series.missing_rows(["y"]).tolist() == []


@given(labels=st.lists(st.sampled_from("cab"), min_size=1, max_size=30))
def test_groups_are_gathered_in_order_of_appearance(labels):
    # The rank of a row in its group is its time, so that any interleaving is in order.
    time = [labels[:row].count(label) for row, label in enumerate(labels)]
    series = rk.TimeSeries(np.arange(len(labels)), time=time, group=labels, freq=1)
    order = list(dict.fromkeys(labels))
    expected = [row for label in order for row, other in enumerate(labels) if other == label]
    assert series.groups == tuple(order)
    assert series.values.ravel().tolist() == expected
    assert np.diff(series.bounds).tolist() == [labels.count(label) for label in order]
    assert series.time.tolist() == [time[row] for row in expected]
    assert [series.groups[at] for at in series.group_of(np.arange(len(labels)))] == [
        labels[row] for row in expected
    ]
    assert len(series.segments()) == len(order)


@given(panel=panels())
def test_segments_equal_the_brute_force_list(panel):
    groups, times, whole = panel
    values = np.arange(len(groups) * 2, dtype=np.float64).reshape(-1, 2)
    values[~np.array(whole), 1] = np.nan
    if not any(whole):
        return
    series = rk.TimeSeries(values, time=times, group=groups, freq=1)
    everywhere = [True] * len(groups)
    assert series.segments().tolist() == runs(segment_numbers(groups, times, 1, everywhere))
    assert series.segments(["0"]).tolist() == series.segments().tolist()
    expected = runs(segment_numbers(groups, times, 1, whole))
    assert series.segments(None).tolist() == expected
    assert series.segments(["1"]).tolist() == expected


@pytest.mark.parametrize(
    ("steps", "freq", "expected"),
    [
        ([0, 1, 2, 5, 6], None, [[0, 3], [3, 5]]),
        ([0, 10, 20, 25, 35], None, [[0, 3], [3, 5]]),
        ([0, 2, 4, 6, 7, 8], 1, [[0, 1], [1, 2], [2, 3], [3, 6]]),
        ([0, 2, 4, 6, 7, 8], "rows", [[0, 6]]),
        ([3], None, [[0, 1]]),
    ],
)
@pytest.mark.parametrize("unit", [None, "s", "m"])
def test_gaps(steps, freq, expected, unit):
    time = np.array(steps)
    if unit is not None:
        time = np.datetime64("2024-01-01", unit) + time
        freq = np.timedelta64(freq, unit) if isinstance(freq, int) else freq
    series = rk.TimeSeries(np.zeros(len(steps)), time=time, freq=freq)
    assert series.segments().tolist() == expected


@pytest.mark.parametrize(
    "freq",
    ["1h", "60min", np.timedelta64(60, "m"), dt.timedelta(hours=1), pd.Timedelta("1h")],
)
def test_a_stated_step(freq):
    time = HOURS[0] + np.array([0, 2, 3, 5])
    assert rk.TimeSeries(np.zeros(4), time=time, freq=freq).segments().tolist() == [
        [0, 1],
        [1, 3],
        [3, 4],
    ]


@pytest.mark.parametrize(
    ("time", "step", "gaps"),
    [
        (["2023-11-01", "2023-12-01", "2024-01-01", "2024-02-01", "2024-03-01"], "1 month", 0),
        (["2023-11-30", "2023-12-31", "2024-01-31", "2024-02-29", "2024-03-31"], "1 month", 0),
        (["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01", "2024-06-01"], "1 month", 1),
        ([f"2024-{month:02}-01" for month in range(1, 13)], "1 month", 0),
        ([f"{year}-03-01" for year in range(2018, 2026)], "1 year", 0),
        ([f"{year}-03-01" for year in (2018, 2019, 2020, 2021, 2023)], "1 year", 1),
        (["2024-01-01", "2024-01-31", "2024-03-01", "2024-03-31", "2024-04-30"], "30 D", 0),
        (["2024-01-01", "2024-01-08", "2024-01-15", "2024-01-29"], "7 D", 1),
    ],
)
def test_months_and_years_are_counted_on_the_calendar(time, step, gaps):
    series = rk.TimeSeries(np.zeros(len(time)), time=time)
    assert f"a row every {step}, {gaps} gap" in repr(series)
    assert len(series.segments()) == gaps + 1


def test_a_step_in_months_can_be_stated():
    time = ["2024-01-01", "2024-02-01", "2024-04-01", "2024-07-01"]
    assert rk.TimeSeries(np.zeros(4), time=time, freq="month").segments().tolist() == [
        [0, 2],
        [2, 3],
        [3, 4],
    ]


def test_sentinels():
    values = np.array([[1.0, -9999.0], [-9999.0, 2.0], [-1.0, 3.0]])
    names = ["a", "b"]
    nan = np.nan
    for missing, expected in (
        ((-9999,), [[1, nan], [nan, 2], [-1, 3]]),
        ((-9999, -1), [[1, nan], [nan, 2], [nan, 3]]),
        ({"a": -9999}, [[1, -9999], [nan, 2], [-1, 3]]),
        ({"a": (-9999, -1), "b": 3}, [[1, -9999], [nan, 2], [nan, nan]]),
    ):
        series = rk.TimeSeries(values, names=names, na_values=missing)
        assert np.array_equal(series.values, expected, equal_nan=True)
        assert not np.shares_memory(series.values, values)
    assert np.isfinite(values).all()


def test_infinity_is_missing():
    series = rk.TimeSeries([[1.0, np.inf], [-np.inf, 2.0], [3.0, 4.0]])
    assert series.missing_rows().tolist() == [0, 1]
    assert series.segments(["1"]).tolist() == [[1, 3]]
    # Each value is finite, and their sum is not.
    assert rk.TimeSeries(np.full((4, 2), 1e308)).missing_rows().size == 0


def test_missing_rows_are_found_in_every_chunk(monkeypatch):
    monkeypatch.setattr("keras_rnnkit.data.series.CHUNK_BYTES", 48)
    values = np.arange(40.0).reshape(20, 2)
    values[[0, 2, 3, 11, 19], [0, 1, 0, 1, 1]] = np.nan
    series = rk.TimeSeries(values)
    assert series.missing_rows().tolist() == [0, 2, 3, 11, 19]
    assert series.missing_rows(["1"]).tolist() == [2, 11, 19]
    assert series.segments(["0"]).tolist() == [[1, 3], [4, 20]]


def test_views_share_the_rows():
    series = rk.TimeSeries(np.arange(6.0), time=np.arange(6), group=list("aaabbb"))
    part = series.with_target_rows([[1, 3], [4, 6]])
    assert part.target_rows.tolist() == [[1, 3], [4, 6]]
    assert series.target_rows.tolist() == [[0, 6]]
    assert np.shares_memory(part.values, series.values)
    other = part.with_values(np.zeros((6, 1)))
    assert other.target_rows.tolist() == [[1, 3], [4, 6]]
    assert series.values[5, 0] == 5


def test_repr_of_a_panel():
    time = np.tile(np.datetime64("2024-01-01T00:10") + np.arange(0, 40, 10), 7)
    time[3] += np.timedelta64(60, "m")
    values = np.ones((28, 2))
    values[5:7, 1] = np.nan
    series = rk.TimeSeries(values, names=["T", "p"], time=time, group=np.repeat(np.arange(7), 4))
    assert repr(series.with_target_rows([[0, 5]])).splitlines() == [
        "TimeSeries: 28 rows x 2 columns",
        "  groups   7 (0, 1, 2, 3, 4, ...), 4 to 4 rows each",
        "  time     2024-01-01 00:10:00 to 2024-01-01 01:40:00, a row every 10 min, 1 gap",
        "  missing  p 2",
        "  columns  T, p",
        "  targets  5 of the rows",
    ]


def test_repr_without_steps():
    assert repr(rk.TimeSeries([1.0])).splitlines() == [
        "TimeSeries: 1 row x 1 column",
        "  time     none: rows follow each other without a gap",
        "  missing  none",
        "  columns  0",
    ]
    assert "  time     5 to 5, one row" in repr(rk.TimeSeries([1.0], time=[5]))
    assert "  time     1 to 9, steps ignored" in repr(
        rk.TimeSeries([1, 2, 3], time=[1, 3, 9], freq="rows")
    )
    assert "a row every 2, 1 gap" in repr(rk.TimeSeries([1, 2, 3, 4], time=[1, 3, 5, 9]))


FRAME = pd.DataFrame({"T": [1.0, 2.0], "city": ["a", "b"]})
DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "values= holds no rows"),
        ({"values": FRAME[:0], "names": ["T"]}, "values= holds no rows"),
        (
            {"values": np.zeros((2, 2, 2, 2))},
            r"or \(series, time steps, columns\), received \(2, 2, 2, 2\)",
        ),
        ({"values": np.zeros((3, 0))}, r"received \(3, 0\)"),
        ({"values": [["a"], ["b"]]}, "values= must hold numbers, received dtype <U1"),
        ({"values": np.ones(3, complex)}, "received dtype complex128"),
        ({"values": [np.nan, np.inf]}, "'0': every value of the column is missing. Leave"),
        (
            {"values": [[1, np.nan, np.nan]] * 3, "names": ["a", "b", "c"]},
            "'b', 'c': every value of the column is missing",
        ),
        ({"values": [-1, -1], "na_values": (-1,)}, "every value of the column is missing"),
        ({"values": [1, 2, 3], "names": "abc"}, "must be a list of column names, .* text 'abc'"),
        ({"values": [1, 2], "names": ["a", "b"]}, "names= has 2 names for 1 columns of values"),
        ({"values": [[1, 2]], "names": ["a", "a"]}, "names= must differ, received 'a' twice"),
        ({"values": [[1, 2]], "names": [1, "1"]}, "names= must differ, received '1' twice"),
        ({"values": [1, 2], "time": "when"}, "time='when' names a column, and only a DataFrame"),
        ({"values": [1, 2], "group": "site"}, "group='site' names a column, and only a DataFrame"),
        ({"values": [1, 2, 3], "time": [1, 2]}, "time= has 2 entries for 3 rows of values"),
        ({"values": [1, 2], "group": [1, 2, 3]}, "group= has 3 entries for 2 rows of values"),
        ({"values": [1, 2], "group": [[1], [2]]}, r"group= must have one axis .* shape \(2, 1\)"),
        ({"values": [1, 2], "group": [1, np.nan]}, "group=: row 1 has no group"),
        ({"values": [1, 2], "group": np.array([None, "a"])}, "group=: row 0 has no group"),
        (
            {"values": FRAME.assign(city=pd.array([1, None], "Int64")), "group": "city"},
            "group=: row 1 has no group",
        ),
        (
            {"values": pl.DataFrame({"T": [1.0, 2.0], "city": ["a", None]}), "group": "city"},
            "group=: row 1 has no group",
        ),
        (
            {"values": [1, 2, 3], "time": [1, 3, 2]},
            r"time= must increase: row 2 \(2\) lies before the row above it \(3\), as 1 row does. "
            r"Where the rows are of several series, name the group=",
        ),
        (
            {"values": [1, 2, 3], "time": [DAYS[0], DAYS[0], DAYS[0]]},
            r"row 1 \(2024-01-01 00:00:00\) has the time of the row above it .* 2 rows do. Where",
        ),
        (
            {"values": [1, 2, 3, 4], "time": [5, 6, 1, 1], "group": list("aabb")},
            r"row 3 \(1\) has the time",
        ),
        ({"values": [1, 2], "time": ["2024-01-01", "soon"]}, "received 'soon' in row 1"),
        (
            {"values": [1, 2], "time": np.array(["2024-01-01", "NaT"], "M8[ns]")},
            r"time: row 1 \(counted from 0\) has no time. Drop or fill it",
        ),
        ({"values": [1, 2], "freq": "1h"}, "freq= needs time="),
        ({"values": [1, 2], "time": [1, 2], "freq": "1h"}, "freq= must be a whole number, as the"),
        ({"values": [1, 2], "time": DAYS[:2], "freq": 1}, "freq= must be a duration, received 1"),
        ({"values": [1, 2], "time": DAYS[:2], "freq": "soon"}, "a positive number and a unit"),
        (
            {"values": [1, 2], "na_values": {"z": 1}},
            r"na_values= names 'z'; the columns are \['0'\]",
        ),
        (
            {"values": FRAME},
            "column 'city' holds String, not numbers. Convert it, name it as time=",
        ),
        ({"values": FRAME, "names": ["T", "p"]}, "no column 'p'. Its columns are: 'T', 'city'"),
        ({"values": FRAME, "time": "when"}, "the DataFrame has no column 'when'"),
        ({"values": FRAME[["city"]], "group": "city"}, "values= has no column of numbers"),
    ],
)
def test_wrong_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rk.TimeSeries(**arguments)


@pytest.mark.parametrize("values", [5, {"T": [1, 2]}, pl.DataFrame({"T": [1.0]}).lazy()])
def test_what_is_no_table_is_refused(values):
    with pytest.raises(TypeError, match="an array of numbers or a DataFrame that narwhals reads"):
        rk.TimeSeries(values)


def test_unknown_and_doubled_columns_are_refused():
    series = rk.TimeSeries([[1, 2]], names=["a", "b"])
    assert series.columns("b").tolist() == [1]
    assert series.columns(["b", "a"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"names= names 'c', 'd', which .* columns are: 'a', 'b'"):
        series.columns(["c", "a", "d"])
    with pytest.raises(ValueError, match="targets= names a column twice"):
        series.columns(["a", "a"], what="targets")
    with pytest.raises(ValueError, match="names 'c'"):
        series["c"]


BEYOND = 2**53 + 1  # the first whole number that float64 does not hold


@pytest.mark.parametrize(
    "make",
    [
        lambda whole: rk.TimeSeries(np.array([[1, whole]]), names=["x", "id"]),
        lambda whole: rk.TimeSeries(
            np.array([[[1, whole]], [[2, 3]]], np.uint64), names=["x", "id"]
        ),
        lambda whole: rk.TimeSeries(np.ma.array([[1, -whole]]), names=["x", "id"]),
        lambda whole: rk.TimeSeries(pd.DataFrame({"x": [0.5, 1], "id": [1, whole]})),
        lambda whole: rk.TimeSeries(
            pd.DataFrame({"x": [0.5, 1], "id": pd.array([whole, None], "Int64")})
        ),
        lambda whole: rk.TimeSeries(
            pd.DataFrame({"x": [0.5, 1], "id": pd.array([whole, None], "int64[pyarrow]")})
        ),
        lambda whole: rk.TimeSeries(pl.DataFrame({"x": [0.5, 1], "id": [None, whole]})),
        lambda whole: rk.TimeSeries(pa.table({"x": [0.5, 1], "id": [None, whole]})),
        lambda whole: rk.TimeSeries([1.0], names=["x"]).with_columns({"id": [whole]}),
        lambda whole: rk.TimeSeries([[1.0, 2]], names=["x", "id"]).with_values([[1, whole]]),
    ],
)
def test_whole_numbers_that_would_be_rounded_are_refused(make):
    assert np.nanmax(abs(make(BEYOND - 1)["id"])) == 2**53
    with pytest.raises(ValueError, match=rf"column 'id' holds -?{BEYOND}, .* 2\*\*53. Leave"):
        make(BEYOND)


def test_columns_of_one_name_are_named():
    twice = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["x", "y", "x"])
    spec = rk.WindowSpec(1, horizon=1, features=["x"], targets=["x"], known=["y"])
    panel = rk.TimeSeries([[1.0, 2.0]], names=["x", "y"], group=["a"])
    for made in (
        lambda: rk.TimeSeries(twice),
        lambda: rk.TimeSeries(pa.Table.from_arrays([pa.array([1.0])] * 2, names=["x", "x"])),
        lambda: rk.TimeSeries.from_wide(twice, series="rows"),
        lambda: rk.forecast_windows(panel, spec, known=twice),
    ):
        with pytest.raises(ValueError, match="the DataFrame has several columns 'x': rename them"):
            made()


def test_a_npy_file_is_mapped_by_its_path(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(12, dtype=np.float32).reshape(6, 2))
    for place in (path, str(path)):
        series = rk.TimeSeries(place, names=["a", "b"])
        assert isinstance(series.values, np.memmap)
        assert series["b"].tolist() == [1, 3, 5, 7, 9, 11]
    with pytest.raises(FileNotFoundError, match="values= names no file"):
        rk.TimeSeries(tmp_path / "other.npy")
    path.write_bytes(path.read_bytes()[:140])
    with pytest.raises(ValueError, match=r"is not a complete \.npy file"):
        rk.TimeSeries(path)


def test_masked_entries_are_missing():
    masked = np.ma.masked_equal(np.array([1.0, 2, -9999, 4]), -9999)
    assert rk.TimeSeries(masked).segments(None).tolist() == [[0, 2], [3, 4]]
    whole = np.ma.masked_equal(np.arange(6), 3)
    assert rk.TimeSeries(whole).missing_rows().tolist() == [3]
    assert rk.TimeSeries(np.ma.array([1.0, 2.0])).values.tolist() == [[1], [2]]
    for name in ("time", "group"):
        with pytest.raises(ValueError, match=rf"{name}= has masked entries"):
            rk.TimeSeries(np.arange(6.0), **{name: whole})


def test_an_index_is_not_lost_without_a_word():
    days = pd.date_range("2024-01-01", periods=3)
    for index in (
        pd.MultiIndex.from_product([["a"], days]),
        pd.Index(["2024-01-01", "2024-01-02", "2024-01-05"]),
    ):
        frame = pd.DataFrame({"y": [1.0, 2, 3]}, index=index)
        with pytest.raises(ValueError, match=r"index \(.*would be lost: call reset_index"):
            rk.TimeSeries(frame)
        assert len(rk.TimeSeries(frame, time=[1, 2, 3], group=list("aab"))) == 3
    for index in (days, pd.Index(["2024-01-01", "2024-01-02", "2024-01-05"])):
        frame = pd.DataFrame({"y": [1.0, 2, 3]}, index=index)
        assert len(rk.TimeSeries(frame, time=frame.index)) == 3
    filtered = pd.DataFrame({"y": [1.0, 2, 3]}).iloc[1:]
    assert len(rk.TimeSeries(filtered)) == 2


@pytest.mark.parametrize("frames", [pd.DataFrame, pl.DataFrame])
def test_a_group_may_be_told_by_several_columns(frames):
    frame = frames({"store": [1, 1, 2, 2], "item": list("abab"), "y": [1.0, 2, 3, 4]})
    series = rk.TimeSeries(frame, group=["store", "item"])
    assert series.groups == ("1 a", "1 b", "2 a", "2 b")
    assert series.names == ("y",)
    holed = frames({"store": [1, 1, 2], "item": ["a", None, "b"], "y": [1.0, 2, 3]})
    with pytest.raises(ValueError, match="group=: row 1 has no 'item'"):
        rk.TimeSeries(holed, group=["store", "item"])


@pytest.mark.parametrize("frames", [pd.DataFrame, pl.DataFrame])
def test_numbers_for_each_row_of_reordered_rows_must_say_their_order(frames):
    frame = frames({"g": list("ababab"), "x": np.arange(6.0), "promo": [0, 1] * 3})
    series = rk.TimeSeries(frame, group="g")
    assert series["promo"].tolist() == [0, 0, 0, 1, 1, 1]
    for promo in (frame["promo"], frame["promo"].to_numpy(), [0, 1] * 3):
        with pytest.raises(ValueError, match=r"column 'again': the series has .* in_order=True"):
            series.with_columns({"again": promo})
    with pytest.raises(ValueError, match="values=: the series has brought the rows of each group"):
        series.with_values(frame[["x", "promo"]].to_numpy())
    own = series.with_columns({"log": np.log1p(series["x"])}, in_order=True)
    np.testing.assert_allclose(own["log"], np.log1p([0, 2, 4, 1, 3, 5]))
    assert series.with_values(series.values * 2, in_order=True)["x"].tolist() == [0, 4, 8, 2, 6, 10]
    # A rule tells its order itself, and rows that stay in place are in that of the table.
    assert series.with_columns({"id": {"a": 7, "b": 9}, "before": ("x", 1)})["id"][
        2:4
    ].tolist() == [7, 9]
    placed = rk.TimeSeries(frames({"x": [1.0, 2.0]}), group=["a", "b"])
    assert placed.with_columns({"y": frames({"y": [3, 4]})["y"]})["y"].tolist() == [3, 4]
    assert placed.with_values(frames({"x": [5, 6]})).values.tolist() == [[5], [6]]
    with pytest.raises(ValueError, match="values= must hold numbers"):
        placed.with_values(np.array([["a"], ["b"]]))


@pytest.mark.parametrize("source", [pd.DataFrame, pl.DataFrame, "wide", "csv", "parquet"])
def test_different_groups_whose_joined_labels_are_the_same_are_refused(source, tmp_path):
    # The second label stands behind the first chunk of a file.
    cities = [("New", "York A")] * 70_000 + [("New York", "A")]
    table = {"region": [r for r, _ in cities], "city": [c for _, c in cities]}
    frame = pd.DataFrame({**table, "x": np.arange(len(cities))})
    read = {
        "wide": lambda group: rk.TimeSeries.from_wide(frame, series="rows", group=group),
        "csv": lambda group: rk.read_csv(tmp_path / "rows.csv", group=group),
        "parquet": lambda group: rk.read_parquet(tmp_path / "rows.parquet", group=group),
    }.get(source, lambda group: rk.TimeSeries(source(frame.to_dict("list")), group=group))
    if source == "csv":
        frame.to_csv(tmp_path / "rows.csv", index=False)
    if source == "parquet":
        frame.to_parquet(tmp_path / "rows.parquet")
    told = r"\('New', 'York A'\) and \('New York', 'A'\) .* both read 'New York A' .* another mark"
    with pytest.raises(ValueError, match=told):
        read(["region", "city"])


@pytest.mark.parametrize("sentinels", [0, [0], {0.0}, np.array([0, -1])])
def test_what_stands_for_missing_comes_in_any_form(sentinels):
    values = [1.0, 0, 2, 0]
    for missing in (sentinels, {"0": sentinels}):
        assert rk.TimeSeries(values, na_values=missing).missing_rows().tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"na_values= must be numbers .* received \['NA'\]"):
        rk.TimeSeries(values, na_values=["NA"])


def test_labels_are_text_or_numbers():
    days = np.array(["2024-01-01", "2024-01-02"], "M8[D]")
    assert rk.TimeSeries([1.0, 2], group=days).groups == ("2024-01-01", "2024-01-02")
    assert rk.TimeSeries([1.0, 2], group=np.array([b"a", b"b"])).groups == ("a", "b")
    with pytest.raises(ValueError, match="group=: row 1 has no group"):
        rk.TimeSeries([1.0, 2], group=np.array(["2024-01-01", "NaT"], "M8[D]"))
    with pytest.raises(ValueError, match="different labels that read alike: '1'"):
        rk.TimeSeries([1.0, 2], group=np.array([1, "1"], dtype=object))
    frame = pd.DataFrame({"day": days.astype("M8[ns]"), "y": [1.0, 2]})
    assert rk.TimeSeries(frame, group="day").time is None


def test_quarters_and_half_years_follow_each_other():
    for freq, step in (
        ("QS", "3 months"),
        ("2QS", "6 months"),
        ("YS", "1 year"),
        ("MS", "1 month"),
    ):
        time = pd.date_range("2000", periods=30, freq=freq)
        series = rk.TimeSeries(np.arange(30.0), time=time)
        assert len(series.segments()) == 1
        assert f"a row every {step}, 0 gaps" in repr(series)
    with pytest.raises(ValueError, match=r"freq= must be .* received 'MS'"):
        rk.TimeSeries(np.arange(30.0), time=time, freq="MS")


def test_what_turns_into_an_array_is_taken():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.arange(6.0).reshape(3, 2)

    assert rk.TimeSeries(Tensor()).values.shape == (3, 2)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int16, np.int32, np.int64])
def test_a_file_of_whole_numbers_stays_mapped(tmp_path, dtype):
    numbers = np.arange(12).reshape(6, 2)
    numbers = (numbers % 3 == 0).astype(int) if dtype is bool else numbers
    np.save(tmp_path / "rows.npy", numbers.astype(dtype))
    series = rk.TimeSeries(tmp_path / "rows.npy")
    assert isinstance(series.values, np.memmap)
    assert series.values.tolist() == numbers.tolist()
    assert series.missing_rows().tolist() == []
    assert series.missing_counts() == {}
    # What is put right in memory is floating, as whole numbers elsewhere are.
    reordered = rk.TimeSeries(tmp_path / "rows.npy", group=[0, 1, 0, 1, 0, 1])
    assert reordered.values.dtype.kind == "f"
    assert reordered.values.tolist() == numbers[[0, 2, 4, 1, 3, 5]].tolist()
    lacking = rk.TimeSeries(tmp_path / "rows.npy", na_values=1)
    assert lacking.missing_counts() == {
        str(column): int(n) for column, n in enumerate((numbers == 1).sum(axis=0)) if n
    }


def test_a_series_is_indexed_by_columns():
    series = rk.TimeSeries(np.arange(6.0))
    with pytest.raises(TypeError, match=r"indexed by the name of a column, received slice"):
        series[:5]
    with pytest.raises(ValueError, match=r"must have the shape \(6, 1\), received \(6,\)"):
        series.with_values(np.arange(6.0))


def daily_and_weekly(**options):
    time = np.concatenate([np.arange(30), np.arange(0, 70, 7)]) + np.datetime64("2024-01-01")
    return rk.TimeSeries(
        np.arange(40.0), time=time, group=np.repeat(["daily", "weekly"], [30, 10]), **options
    )


def test_a_group_of_another_step_is_named():
    with pytest.raises(
        ValueError, match=r"group 'weekly' has a row every 7 D, and most groups every 1 D: .*freq="
    ):
        daily_and_weekly()
    assert len(daily_and_weekly(freq="rows").segments()) == 2
    assert len(daily_and_weekly(freq="7D").segments()) == 31
    assert len(daily_and_weekly(freq="1D").segments()) == 11
    hours = np.concatenate([np.arange(20), np.arange(0, 6, 2)])
    with pytest.raises(ValueError, match="group 5 has a row every 2, and most groups every 1"):
        rk.TimeSeries(np.arange(23.0), time=hours, group=np.repeat([2, 5], [20, 3]))


def test_gaps_alone_are_no_other_step():
    time = [0, 1, 2, 3, 0, 5, 0, 5, 9, 0, 1, 9, 14]
    group = np.repeat(["whole", "two rows", "apart", "mostly apart"], [4, 2, 3, 4])
    series = rk.TimeSeries(np.arange(13.0), time=time, group=group)
    assert series.freq == 1
    assert len(series.segments()) == 1 + 2 + 3 + 3


@given(
    labels=st.lists(st.sampled_from([5, 3, 9]), min_size=1, max_size=30),
    kind=st.sampled_from([np.int8, np.float32, str, object]),
)
def test_groups_of_every_kind_are_gathered(labels, kind):
    given_labels = np.array([str(x) for x in labels] if kind is object else labels, dtype=kind)
    series = rk.TimeSeries(np.arange(len(labels)), group=given_labels)
    order = list(dict.fromkeys(labels))
    rows = [row for label in order for row, other in enumerate(labels) if other == label]
    assert series.values.ravel().tolist() == rows
    assert [float(label) for label in series.groups] == order
    assert np.diff(series.bounds).tolist() == [labels.count(label) for label in order]
    assert series.reordered == (rows != list(range(len(labels))))


def peak(make):
    tracemalloc.start()
    try:
        made = make()
        return made, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_sorted_labels_take_little_memory():
    labels = np.repeat(np.arange(100), 20_000)
    values = np.ones((2_000_000, 1), np.float32)
    series, needed = peak(lambda: rk.TimeSeries(values, group=labels))
    assert len(series.groups) == 100
    # 2.5 bytes a row; sorting all labels takes 40.
    assert needed < 5 * len(values)


@pytest.mark.parametrize("package", ["h5py", "zarr", "dask"])
def test_what_would_be_read_whole_is_refused(package):
    class OnDisk:
        def __array__(self, dtype=None, copy=None):
            pytest.fail("read")

    OnDisk.__module__ = f"{package}.dataset"
    with pytest.raises(ValueError, match=rf"{package} object, .* Pass values\[:\] to read it; or,"):
        rk.TimeSeries(OnDisk())


def test_an_h5py_dataset_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["rows"] = np.arange(6.0)
        with pytest.raises(ValueError, match="h5py object, which would be read whole"):
            rk.TimeSeries(file["rows"])
        assert len(rk.TimeSeries(file["rows"][:])) == 6


@pytest.fixture
def large(tmp_path):
    """2 million rows of 4 columns in a file, of holes where the disk has them."""
    path = tmp_path / "rows.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (2_000_000, 4))
    rows[::1000] = np.random.default_rng(0).normal(size=(2000, 4))
    del rows
    return path


def test_the_pickle_of_a_mapped_series_holds_its_place(large):
    mapped = np.load(large, mmap_mode="r")
    time = np.datetime64("2020-01-01", "s") + np.arange(len(mapped)) * np.timedelta64(600, "s")
    time[1_000_000:] += np.timedelta64(7, "D")
    for values in (mapped, mapped[1000:], mapped[::2], mapped[:, 1:3], mapped[::-1, 2]):
        series = rk.TimeSeries(values, time=time[: len(values)])
        packed = pickle.dumps(series)
        assert len(packed) < 5000
        again = pickle.loads(packed)
        assert isinstance(again.values, np.memmap)
        assert again.values.strides == series.values.strides
        assert np.array_equal(again.values[:3000], series.values[:3000])
        assert np.array_equal(again.values[-3000:], series.values[-3000:])
        assert np.array_equal(again.time, series.time)
        assert again.time.dtype == series.time.dtype
        assert again.segments().tolist() == series.segments().tolist()
        assert len(pickle.dumps(again)) < 5000
    assert np.shares_memory(series.with_target_rows([[0, 5]]).values, mapped)
    changed = np.load(large, mmap_mode="c")
    changed[0] = 5
    assert pickle.loads(pickle.dumps(rk.TimeSeries(changed))).values[0, 0] == 5


def test_a_pickle_whose_file_was_cut_or_is_gone_is_refused(large):
    packed = pickle.dumps(rk.TimeSeries(large))
    with large.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"rows.npy holds 1,000 bytes, expected 32,000,128"):
        pickle.loads(packed)
    large.unlink()
    with pytest.raises(FileNotFoundError, match=r"rows\.npy"):
        pickle.loads(packed)


def test_the_pickle_of_a_mapped_loader_is_small(large):
    series = rk.TimeSeries(large)
    options = {"batch_size": 32, "shuffle": True, "seed": 1}
    scaler = rk.Scaler().fit(series)
    for extra in ({}, {"scaler": scaler}):
        loader = rk.WindowLoader(series, rk.WindowSpec(24, step=6), **options, **extra)
        packed = pickle.dumps(loader)
        assert len(packed) < 20_000
        again = pickle.loads(packed)
        for mine, theirs in zip(loader[3], again[3], strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("time", [[0, 1, 2, 7, 8], [0, 3, 5, 9, 100], None])
@pytest.mark.parametrize("freq", [None, "rows", 1])
def test_pickles_of_series_in_memory(time, freq):
    if time is None and freq is not None:
        return
    series = rk.TimeSeries(np.arange(5.0), time=time, freq=freq, group=list("aaabb"))
    again = pickle.loads(pickle.dumps(series.with_target_rows([[1, 3]])))
    assert again.values.tolist() == series.values.tolist()
    assert np.array_equal(again.time, series.time)
    assert again.groups == series.groups
    assert again.target_rows.tolist() == [[1, 3]]
    assert again.segments().tolist() == series.segments().tolist()
    monthly = rk.TimeSeries([1.0, 2, 3], time=["2024-01-31", "2024-02-29", "2024-03-31"])
    assert (pickle.loads(pickle.dumps(monthly)).time == monthly.time).all()


def test_a_mapped_file_is_described_in_little_memory(large):
    series = rk.TimeSeries(large)
    spec = rk.WindowSpec(720, step=6, delay=144)
    rk.window_report(np.zeros((1000, 4)), spec)  # what is imported with it
    report, needed = peak(lambda: rk.window_report(series, spec))
    part = report.parts["all"]
    assert part.windows == len(series) - 858
    assert part.input_rows == len(series) - 144
    # A number for each row or window would take 16 MB.
    assert needed < 40e6
