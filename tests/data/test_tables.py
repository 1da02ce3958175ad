"""read_csv on tables like public ones, cell by cell against pandas, and what it refuses in them."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import keras_rnnkit as rk
from tests.data import drawn_tables as drawn


@pytest.fixture
def write(tmp_path):
    def write(text, encoding="utf-8", name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize("name", drawn.CASES)
def test_real_layouts_equal_pandas(name, write):
    text, encoding, options, for_pandas, columns, times = drawn.CASES[name]
    path = write(text, encoding)
    frame = pd.read_csv(path, encoding=encoding, **for_pandas)
    series = rk.read_csv(path, **{"encoding": encoding, **options})
    if columns is None:
        columns = ["CO2"]
        frame = frame.iloc[[2, 0, 1]]  # the year 1999 comes first
    np.testing.assert_array_equal(series.values, frame[columns].to_numpy(float))
    if times is None:
        assert series.time is None
    else:
        assert (series.time == times(frame).to_numpy()).all()


def test_names_of_several_lines(write):
    series = rk.read_csv(write(drawn.TWO_STOCKS), header=[0, 1], skiprows=[2])
    assert series.names == ("Close AAPL", "Close MSFT", "Volume AAPL", "Volume MSFT")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (drawn.STOCKS, {}, r"line 2, column 'Price': .* 'Ticker'.* pass skiprows=\[1, 2\]"),
        (drawn.UNITS, {}, r"line 2, column 'T': .* received 'degC'.* skiprows=\[1\]"),
        (drawn.NO_NAMES, {}, r"first line must hold the column names, .* header=None"),
        (drawn.BIKES, {}, r"'dteday' holds days alone, .* Pass time=\['dteday', 'hr'\]"),
        (drawn.MARKS, {}, r"line 3, .* received 'missing'"),
        (drawn.GERMAN, {"decimal": ","}, r"line 2, .*'1\.234,5'\. Pass thousands="),
        ("a;b\n1,5;2\n1.123;2\n", {"decimal": ","}, r"line 3, column 'a': .* '1\.123'\. Pass thou"),
        (
            'Date,T\n"Jan 2, 2020",1\n"Jan 3, 2020",2\n',
            {"names": ["T"]},
            r"column 'Date' begins with 'Jan 2, 2020', .* Pass time='Date' and time_format=",
        ),
        (drawn.SHORT_YEARS.replace("99", "09"), {}, r"fit '%d-%b-%y' and '%y-%b-%d': pass time_fo"),
        (drawn.COMPACT, {"time": "DATE", "time_format": "unix"}, r"of dates: time_format='%Y%m%d'"),
        (drawn.COMPACT, {"time": "DATE", "time_format": "count"}, r"of dates: .*'%Y%m%d'"),
        (drawn.SECONDS, {"time": "t"}, r"received '1580000000.5'.*"),
        (drawn.EXCEL, {"time": "Day"}, "received '45292.0416666667'"),
        ("t,x\n1580000000000000001,1\n", {"time": "t"}, "'unix_ns' for nanoseconds"),
        ("t,x\n45292,1\n", {"time": "t"}, "'excel' for days of a spreadsheet"),
        ("a,b\n1,2\n", {"dtype": float}, "dtype= is no argument of read_csv here"),
        ("a,b\n1,2\n", {"delimiter": ";;"}, r"delimiter= must be one character or r'\\s\+'"),
        ("a,b\n1,2\n", {"drop": "c"}, "no column 'c'"),
        ("a,b\n1,2,3\n1,2\n", {}, "line 2: expected 2 cells as in the header, received 3"),
    ],
)
def test_what_is_not_told_is_refused(text, options, message, write):
    with pytest.raises(ValueError, match=message):
        rk.read_csv(write(text), **options)


def test_panels_keep_their_stores(write):
    path = write(drawn.ROSSMANN)
    series = rk.read_csv(path, group="Store", drop=["StateHoliday"], sort=True)
    assert series.groups == (2, 1)
    assert series["Sales"].tolist() == [5651, 6064, 5020, 5263]
    frame = pd.read_csv(path).sort_values(["Date"], kind="stable").astype({"Date": "M8[us]"})
    same = rk.TimeSeries(frame.drop(columns="StateHoliday"), group="Store", time="Date")
    assert {type(label) for label in (*series.groups, *same.groups)} == {int}
    zeros = rk.read_csv(write("g,x\n007,1\n012,2\n"), group="g")
    assert zeros.groups == ("007", "012")


def test_columns_are_left_out(write):
    series = rk.read_csv(write("date,a,note,b\n2024-01-01,1,fine,2\n"), drop="note")
    assert series.names == ("a", "b")


@pytest.mark.parametrize("rows", [3, 70_000])
def test_a_line_that_is_too_short_is_found_wherever_it_is(rows, write):
    lines = ["a,b", *["1,2"] * rows]
    lines[rows] = "3"
    with pytest.raises(ValueError, match=f"line {rows + 1}: expected 2 cells .* received 1"):
        rk.read_csv(write("\n".join(lines)))
    lines[rows] = "3,"
    assert np.isnan(rk.read_csv(write("\n".join(lines)))["b"][-1])


def test_trailing_delimiters_do_not_shift_the_columns(write):
    # pandas takes the first column for an index here, and moves all others.
    assert rk.read_csv(write("a,b\n1,2,\n3,4,\n")).values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("late", [False, True])
def test_a_format_is_found_where_the_file_tells_it(late, write):
    # The only day beyond 12 is in another chunk of rows than the first.
    days = pd.date_range("2024-01-01", periods=12).tolist() * 6000
    if late:
        days.append(pd.Timestamp("2024-01-13"))
    text = "t,g,x\n" + "".join(f"{day:%m/%d/%Y},{row},1\n" for row, day in enumerate(days))
    if late:
        series = rk.read_csv(write(text), group="g")
        assert (series.time == np.array(days, "M8[us]")).all()
    else:
        with pytest.raises(ValueError, match="fit '%d/%m/%Y' and '%m/%d/%Y': pass time_format="):
            rk.read_csv(write(text), group="g")


TABLE = pd.DataFrame(
    {
        "when": pd.date_range("2024-03-30", periods=4, tz="Europe/Berlin"),
        "store": [1, 1, 1, 1],
        "x": [1.5, None, 3, 4],
        "n": pd.array([1, None, 3, 4], dtype="Int64"),
        "on": [True, False, True, True],
    }
)


@pytest.mark.parametrize("other", [1, None])
def test_parquet_refuses_whole_numbers_that_would_be_rounded(tmp_path, other):
    table = pd.DataFrame({"id": pd.array([2**53 + 1, other], "Int64"), "x": [0.5, 1]})
    table.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="column 'id' holds 9007199254740993, and float64 rounds"):
        rk.read_parquet(tmp_path / "rows.parquet")
    assert rk.read_parquet(tmp_path / "rows.parquet", drop=["id"]).names == ("x",)


def test_parquet_is_read_as_a_frame(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    TABLE.to_parquet(path)
    series = rk.read_parquet(path, group="store")
    same = rk.TimeSeries(TABLE, group="store")
    assert series.names == same.names == ("x", "n", "on")
    np.testing.assert_array_equal(series.values, same.values.astype(float))
    assert (series.time == same.time).all()
    assert (str(series.zone), str(series.freq), series.groups) == ("Europe/Berlin", "1 days", (1,))
    TABLE.set_index("when").tz_localize(None).to_parquet(path)
    assert rk.read_parquet(path, drop=["store"]).time[1] == np.datetime64("2024-03-31")
    TABLE.assign(when=TABLE["when"].dt.strftime("%d.%m.%Y")).to_parquet(path)
    series = rk.read_parquet(path, time="when", names=["x"], zone="Europe/Berlin")
    assert (series.time == same.time).all()
    TABLE.assign(when=[1, 2, 3, 5]).to_parquet(path)
    assert rk.read_parquet(path, time="when", names=["x"]).time.tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"x": ["a", "b", "c", "d"]}, {}, r"column 'x' holds .*, not numbers. .*drop='x'"),
        ({}, {"time": "t"}, "no column 't'"),
        ({}, {"time": ["when", "x"]}, "time= must name one column"),
        ({"when": [None, *TABLE["when"][1:]]}, {}, "column 'when': row 0 has no time"),
        ({"store": ["a", None, "a", "a"]}, {"group": "store"}, "row 1 .* has no group"),
        ({"when": TABLE["when"][[0, 1, 1, 2]].to_numpy()}, {}, "has the time of the row above"),
    ],
)
def test_what_parquet_cannot_give_is_refused(change, options, message, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    TABLE.assign(**change).to_parquet(path)
    with pytest.raises(ValueError, match=message):
        rk.read_parquet(path, **options)
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="is not a complete Parquet file"):
        rk.read_parquet(path)
    with pytest.raises(FileNotFoundError, match="path= names no file"):
        rk.read_parquet(tmp_path / "none.parquet")


def test_frames_of_periods_and_whole_dates():
    months = pd.period_range("2024-01", periods=3, freq="M")
    expected = np.array(["2024-01", "2024-02", "2024-03"], "M8[M]")
    x = [1.0, 2.0, 3.0]
    whole = [20240101, 20240201, 20240301]
    for series in (
        rk.TimeSeries(pd.DataFrame({"x": x}, index=months)),
        rk.TimeSeries(pd.DataFrame({"m": months, "x": x})),
        rk.TimeSeries(pd.DataFrame({"m": months, "x": x}), time="m"),
        rk.TimeSeries(pd.DataFrame({"m": whole, "x": x})),
        rk.TimeSeries(x, time=whole),
    ):
        assert (series.time == expected).all()
        assert series.freq == np.timedelta64(1, "M")
    with pytest.raises(ValueError, match="several columns 'x'"):
        rk.TimeSeries(pd.DataFrame([[1.0, 2.0]], columns=["x", "x"]))


@pytest.mark.parametrize(
    "labels",
    [
        [7, 7, 8],
        np.array([7, 7, 8], np.int8),
        [7.0, 7.0, 8.0],
        np.array([7, 7, 8], object),
        pd.array([7, 7, 8], dtype="Int64"),
        pd.Categorical([7, 7, 8]),
    ],
)
def test_a_group_is_one_label_whatever_type_holds_it(labels):
    for series in (
        rk.TimeSeries([1.0, 2.0, 3.0], group=np.asarray(labels)),
        rk.TimeSeries(pd.DataFrame({"g": labels, "x": [1.0, 2.0, 3.0]}), group="g"),
    ):
        assert series.groups == (7, 8)
        assert [type(label) for label in series.groups] == [int, int]


WITHOUT_PANDAS = """
import sys
sys.modules["pandas"] = None  # what a package that is not installed looks like
import datetime, numpy as np, polars as pl, pyarrow as pa
import keras_rnnkit as rk
days = [datetime.datetime(2024, 1, day) for day in range(1, 5)]
frame = pl.DataFrame({"t": days, "g": [1, 1, 2, 2], "x": [1.0, 2.0, 3.0, None]})
for table in (frame, frame.to_arrow()):
    series = rk.TimeSeries(table, group="g")
    assert series.groups == (1, 2) and series.time[3] == np.datetime64("2024-01-04")
    assert rk.TimeSeries.from_wide(table, time="t").groups == ("g", "x")
made = rk.to_frame(np.ones(2), rk.TimeSeries(frame[["t", "g"]]), rk.WindowSpec(2))
assert isinstance(made, pl.DataFrame)
"""


def test_frames_of_other_libraries_need_no_pandas():
    pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_PANDAS], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
