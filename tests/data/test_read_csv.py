"""read_csv: what files it reads, and how it names what is wrong in one."""

import csv
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_rnnkit as rk

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
WEATHER = "date,T,p\n2024-01-01,1.5,990\n2024-01-02,-2,991\n2024-01-03,3e1,993\n"
VALUES = [[1.5, 990], [-2, 991], [30, 993]]


@pytest.fixture
def write(tmp_path):
    def write(text, name="rows.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def test_a_plain_file(write):
    series = rk.read_csv(write(WEATHER))
    assert series.names == ("T", "p")
    assert series.values.tolist() == VALUES
    assert series.values.dtype == np.float64
    assert series.time.astype("datetime64[D]").tolist() == [
        pd.Timestamp(2024, 1, day).date() for day in (1, 2, 3)
    ]
    assert series.freq == np.timedelta64(1, "D")
    assert rk.read_csv(str(write(WEATHER))).values.tolist() == VALUES


@pytest.mark.parametrize(
    "text",
    [
        WEATHER.replace(",", ";"),
        WEATHER.replace(",", "\t"),
        WEATHER.replace(",", "|"),
        WEATHER.replace("\n", "\r\n"),
        WEATHER.removesuffix("\n"),
        WEATHER + "\n\n",
        "\n\n" + WEATHER.replace("\n", "\n\n"),
        WEATHER.replace("\n", "  \n"),
        WEATHER.replace("\n2024-01-02", "\n  \n2024-01-02"),
        WEATHER.replace(",", " , "),
        "".join(f"{line},\n" for line in WEATHER.splitlines()),
        "\n".join(
            ",".join(f'"{cell}"' for cell in line.split(",")) for line in WEATHER.splitlines()
        ),
        b"\xef\xbb\xbf" + WEATHER.encode(),
    ],
    ids=[
        "semicolon",
        "tab",
        "bar",
        "crlf",
        "no end of line",
        "empty last lines",
        "empty lines",
        "trailing blanks",
        "line of blanks",
        "blanks around cells",
        "trailing commas",
        "quotes",
        "byte-order mark",
    ],
)
def test_the_same_file_written_otherwise(write, text):
    series = rk.read_csv(write(text))
    assert series.names == ("T", "p")
    assert series.values.tolist() == VALUES
    assert series.time[2] == np.datetime64("2024-01-03")


def test_packed_files(write, tmp_path):
    packed = gzip.compress(WEATHER.encode())
    for name in ("rows.csv.gz", "ROWS.CSV.GZ"):
        assert rk.read_csv(write(packed, name)).values.tolist() == VALUES
    for name, members in (("one.zip", ["rows.csv"]), ("Folder.ZIP", ["in/", "in/rows.csv"])):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, "" if member.endswith("/") else WEATHER)
        assert rk.read_csv(tmp_path / name).values.tolist() == VALUES
    for members in ([], ["a.csv", "b.csv"]):
        with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
            for member in members:
                archive.writestr(member, WEATHER)
        with pytest.raises(
            ValueError, match=f"holds {len(members)} files, expected one: {', '.join(members)}"
        ):
            rk.read_csv(tmp_path / "two.zip")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "gbk"])
def test_encodings(write, encoding):
    text = "Größe,x\n1,2\n3,4\n" if encoding != "gbk" else "气温,x\n1,2\n3,4\n"
    path = write(text, encoding=encoding)
    if encoding != "utf-8":
        with pytest.raises(ValueError, match=r"is not utf-8-sig text .* Pass its encoding="):
            rk.read_csv(path)
    series = rk.read_csv(path, encoding=encoding)
    assert series.names == (text.split(",")[0], "x")
    assert series.values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "cell", ["", '""', "NA", "n/a", "NaN", " nan ", "null", "None", "-", "?", "."]
)
def test_cells_that_are_missing(write, cell):
    series = rk.read_csv(write(f"T;p\n1;2\n{cell};4\n"))
    assert np.array_equal(series.values, [[1, 2], [np.nan, 4]], equal_nan=True)
    series = rk.read_csv(write(f"T;p\n1;2\n{cell};4\n"), decimal=",")
    assert np.array_equal(series.values, [[1, 2], [np.nan, 4]], equal_nan=True)


def test_whole_numbers_that_would_be_rounded(write):
    path = write(f"T,id\n1,{2**53 + 1}\n2,5\n")
    with pytest.raises(ValueError, match=r"column 'id' holds 9007199254740993, .*beyond 2\*\*53"):
        rk.read_csv(path)
    assert rk.read_csv(path, drop="id").names == ("T",)


def test_decimal_comma(write):
    path = write("Zeit;T;p\n01.02.2024 00:00;-1,5;1.234,5\n01.02.2024 01:00;2;1.013\n")
    series = rk.read_csv(path, decimal=",", thousands=".")
    assert series.values.tolist() == [[-1.5, 1234.5], [2, 1013]]
    assert series.time[1] == np.datetime64("2024-02-01T01:00")
    with pytest.raises(ValueError, match=r"line 2, column 'T': expected a number, received '-1,5'"):
        rk.read_csv(path)


def test_columns_and_times_that_are_asked_for(write):
    path = write("a,day,b,clock\n1,2024-01-01,2,0\n3,2024-01-02,4,3600\n")
    assert rk.read_csv(path).names == ("a", "b", "clock")
    assert rk.read_csv(path, names=["b", "a"]).values.tolist() == [[2, 1], [4, 3]]
    by_clock = rk.read_csv(path, time="clock", time_format="unix", names=["a"])
    assert by_clock.time[1] == np.datetime64("1970-01-01T01:00")
    assert rk.read_csv(path, freq="12h").segments().tolist() == [[0, 1], [1, 2]]
    lost = rk.read_csv(path, na_values={"b": 4}).values
    assert np.array_equal(lost, [[1, 2, 0], [3, np.nan, 3600]], equal_nan=True)
    mixed = write("a,b\nnone,-9999\n-9999.0,2\nx,3\n5,4\n")
    lost = rk.read_csv(mixed, na_values=["none", -9999, "x"]).values
    assert np.array_equal(lost, [[np.nan] * 2, [np.nan, 2], [np.nan, 3], [5, 4]], equal_nan=True)
    by_column = {"a": {"none", "x"}, "b": (2, -9999)}
    lost = rk.read_csv(mixed, na_values=by_column).values
    assert np.array_equal(
        lost, [[np.nan] * 2, [-9999, np.nan], [np.nan, 3], [5, 4]], equal_nan=True
    )
    with pytest.raises(ValueError, match=r"na_values= names 'c'; the columns are \['a', 'b'\]"):
        rk.read_csv(mixed, na_values={"a": ["none", "x"], "c": "x"})
    assert rk.read_csv(write("a,b\n1,2\n3,4\n")).time is None


def test_a_column_of_times_that_is_not_the_only_one_may_be_ambiguous(write):
    path = write("day,T\n01/02/2024,1\n02/02/2024,2\n")
    with pytest.raises(ValueError, match=r"column 'day': .* pass time_format="):
        rk.read_csv(path)
    times = rk.read_csv(path, time_format="%d/%m/%Y").time
    assert times[1] == np.datetime64("2024-02-02")
    with pytest.raises(ValueError, match=r"column 'day': .* received 'soon' in row 1"):
        rk.read_csv(write("day,T\n2024-01-01,1\nsoon,2\n"))


def test_times_in_several_columns(write):
    household = "Date;Time;Power\n16/12/2006;17:24:00;4.2\n16/12/2006;17:25:00;?\n"
    series = rk.read_csv(write(household))
    assert series.names == ("Power",)
    assert series.time[1] == np.datetime64("2006-12-16T17:25")
    assert series.freq == np.timedelta64(1, "m")
    assert np.array_equal(rk.read_csv(write(household), time=["Date", "Time"]).time, series.time)
    air = write("Date;Time;CO\n10/03/2004;18.00.00;2,6\n10/03/2004;19.00.00;-200\n")
    options = {"time_format": "%d/%m/%Y %H.%M.%S", "decimal": ",", "na_values": [-200]}
    series = rk.read_csv(air, time=["Date", "Time"], **options)
    assert series.time[1] == np.datetime64("2004-03-10T19:00")
    assert np.array_equal(series.values, [[2.6], [np.nan]], equal_nan=True)
    beijing = write("No,year,month,day,hour,pm\n1,2010,1,2,9,129\n2,2010,1,2,10,148\n")
    series = rk.read_csv(
        beijing, time=["year", "month", "day", "hour"], time_format="%Y %m %d %H", names=["pm"]
    )
    assert series.time[1] == np.datetime64("2010-01-02T10:00")
    with pytest.raises(ValueError, match=r"columns 'year', 'month': .* received '2010 1' in row 0"):
        rk.read_csv(beijing, time=["year", "month"])
    with pytest.raises(ValueError, match=r"no column 'week'"):
        rk.read_csv(beijing, time=["year", "week"])
    # A date that brings its time of day needs no other.
    both = write("when,clock,x\n2024-01-01 10:00,10:00,1\n")
    with pytest.raises(ValueError, match=r"column 'clock': expected a number, received '10:00'"):
        rk.read_csv(both)


PANEL = "g,t,x\nb,2024-01-02,1\na,2024-01-01,2\nb,2024-01-01,3\na,2024-01-01,4\nb,2024-01-02,5\n"


def test_sorting_and_duplicates(write):
    path = write(PANEL)
    with pytest.raises(ValueError, match=r"time= must increase: row 1 .* lies before"):
        rk.read_csv(path, group="g")
    with pytest.raises(ValueError, match=r"has the time of the row above it"):
        rk.read_csv(path, group="g", sort=True)
    for duplicates, expected in (("first", [3, 1, 2]), ("last", [3, 5, 4])):
        series = rk.read_csv(path, group="g", sort=True, duplicates=duplicates)
        assert series.groups == ("b", "a")
        assert series.values.ravel().tolist() == expected
        assert series.bounds.tolist() == [0, 2, 3]
    with pytest.raises(ValueError, match=r"lies before the row above it"):
        rk.read_csv(path, group="g", duplicates="first")


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ba"), st.integers(1, 9)), min_size=1, max_size=20),
    keep=st.sampled_from(["first", "last"]),
)
def test_sorted_rows_equal_a_dict(rows, keep, tmp_path):
    path = tmp_path / "rows.csv"
    lines = [f"{g},2024-01-{day:02},{value}" for value, (g, day) in enumerate(rows)]
    path.write_text("\n".join(["g,t,x", *lines]))
    kept = {}
    for value, place in enumerate(rows):
        if keep == "last" or place not in kept:
            kept[place] = value
    groups = list(dict.fromkeys(g for g, _ in rows))
    expected = [kept[place] for place in sorted(kept, key=lambda p: (groups.index(p[0]), p[1]))]
    series = rk.read_csv(path, group="g", sort=True, duplicates=keep, freq="1D")
    assert series.values.ravel().tolist() == expected
    assert series.groups == tuple(groups)


@settings(max_examples=40)
@given(
    values=st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
        min_size=1,
        max_size=8,
    ),
    delimiter=st.sampled_from(",;\t|"),
)
def test_every_float_comes_back_exactly(values, delimiter, tmp_path):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["a b", 'c"d'], *([repr(x) for x in row] for row in values)])
    path = tmp_path / "rows.csv"
    path.write_text(text.getvalue())
    series = rk.read_csv(path)
    assert series.names == ("a b", 'c"d')
    assert series.values.tolist() == values


def test_text_among_numbers_is_named_by_line_and_column(write):
    clock = [(row // 3600, row // 60 % 60, row % 60) for row in range(10_800)]
    lines = ["t,a,b", *(f"2024-01-01 {h:02}:{m:02}:{s:02},{s},{m}" for h, m, s in clock)]
    whole = rk.read_csv(write("\n".join(lines)))
    assert len(whole) == 10_800
    assert (whole["b"] == np.arange(10_800) // 60 % 60).all()
    for line, offset in ((3, 0), (9_000, 0), (10_000, 2)):
        broken = lines.copy()
        broken[line - 1] = broken[line - 1].rsplit(",", 1)[0] + ",soon"
        # Empty lines count as lines of the file.
        broken[1:1] = [""] * offset
        with pytest.raises(
            ValueError,
            match=f"rows.csv, line {line + offset}, column 'b': expected a number, received 'soon'",
        ):
            rk.read_csv(write("\n".join(broken)))
    ragged = lines.copy()
    ragged[8_999] += ",7"
    with pytest.raises(
        ValueError, match=r"line 9000: expected 3 cells as in the header, received 4. Correct"
    ):
        rk.read_csv(write("\n".join(ragged)))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "rows.csv is empty: expected a header line and rows"),
        ("\n \n", {}, "is empty"),
        ("T,p\n", {}, "holds a header and no rows"),
        ("T,p\n\n\n", {}, "holds a header and no rows"),
        ("T,p\n   \n", {}, "holds a header and no rows"),
        ("1.5,990\n2,991\n", {}, "the first line must hold the column names, received '1.5,990'"),
        ("T,p\n1,2\n3\n", {}, "line 3: expected 2 cells as in the header, received 1"),
        ("T,p\n1,2\nx,4\n", {}, "line 3, column 'T': expected a number, received 'x'"),
        ("T,p\n1,2\n\n3,0x4\n", {}, "line 4, column 'p': expected a number, received '0x4'"),
        ("\nT,p\n1,2\nx,4\n", {}, "line 4, column 'T'"),
        ('T,p\n1,2\n"3,4\n', {}, "line 3"),
        ('T,p\n1,2\n"' + "3,4\n" * 40_000, {}, r"rows.csv: field larger .* a quote left open"),
        ("T,T\n1,2\n", {}, "has two columns 'T': rename one"),
        ("T,p\n1,2\n", {"names": ["x"]}, "no column 'x'. Its columns are: 'T', 'p'"),
        ("T,p\n1,2\n", {"time": "when"}, "no column 'when'"),
        ("T,p\n1,2\n", {"group": "site"}, "no column 'site'"),
        ("T,p\n1,2\n", {"names": "T"}, "names= must be a list of column names, received 'T'"),
        ("day\n2024-01-01\n", {}, "no column of numbers besides day"),
        ("T,p\n1,\n2,\n", {}, "'p': every value of the column is missing. Leave"),
        ("g,x\na,1\n,2\n", {"group": "g"}, "column 'g': row 1 .counted from 0. has no group"),
        ("T,p\n1,2\n", {"duplicates": "mean"}, "duplicates= must be 'error', 'first' or 'last'"),
        ("T,p\n1,2\n", {"decimal": ";"}, "decimal= must be '.' or ',', received ';'"),
        ("a;b\n1;2\n", {"delimiter": ","}, "column 'a;b': expected a number, received '1;2'"),
    ],
)
def test_wrong_files_are_refused(write, text, options, message):
    with pytest.raises(ValueError, match=message):
        rk.read_csv(write(text), **options)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path= names no file: .*none.csv"):
        rk.read_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="path= must be a file, received the directory"):
        rk.read_csv(tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jena_2009_first4000.csv", {"dayfirst": True}),
        ("ETTh1.csv", {}),
    ],
)
def test_real_files_equal_pandas(name, options):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    frame = pd.read_csv(path, index_col=0, dtype=str).astype(float)
    series = rk.read_csv(path)
    assert series.names == tuple(frame.columns)
    assert np.array_equal(series.values, frame.to_numpy())
    expected = pd.to_datetime(frame.index, **options).to_numpy()
    assert (series.time == expected).all()
    steps = pd.Series(np.diff(expected))
    assert series.freq == steps.mode()[0].to_timedelta64()
    assert len(series.segments()) == (steps != steps.mode()[0]).sum() + 1


def test_whole_numbers_count_steps_where_the_caller_says_so(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("step,x\n10,1\n11,2\n13,3\n")
    series = rk.read_csv(path, time="step", time_format="count")
    assert series.time.tolist() == [10, 11, 13]
    assert series.segments().tolist() == [[0, 2], [2, 3]]
    with pytest.raises(ValueError, match="time_format='count' for whole numbers"):
        rk.read_csv(path, time="step")


def test_hidden_files_of_a_zip_are_passed_over(tmp_path):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.csv", "t,x\n2024-01-01,1\n")
        archive.writestr("__MACOSX/._rows.csv", "junk")
    assert len(rk.read_csv(path)) == 1
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="is not a complete archive"):
        rk.read_csv(path)


def test_a_dot_is_no_thousands_mark_by_chance(write):
    def read(cell):
        path = write(f"a;b\n{cell};1\n")
        if "." in cell:  # one at a time is no mark of thousands unless it was passed
            with pytest.raises(ValueError, match="line 2, column 'a': expected a number"):
                rk.read_csv(path, decimal=",")
        return rk.read_csv(path, decimal=",", thousands=".").values[0, 0]

    for cell, number in (("1.234,5", 1234.5), ("-1.234.567", -1234567), ("0,5", 0.5), ("7", 7)):
        assert read(cell) == number
    for cell in ("0.5", "11.9", "1.5e-3", "1.2.3,5", "1.23,5", "0.893"):
        with pytest.raises(ValueError, match=rf"line 2, column 'a': expected a number.*'{cell}'"):
            read(cell)


def test_thousands(write):
    path = write('t;a\n2024-01-01;"6,996,706"\n2024-01-02;1,234.5\n2024-01-03;7\n')
    with pytest.raises(ValueError, match=r"received '6,996,706'. Pass thousands="):
        rk.read_csv(path)
    assert rk.read_csv(path, thousands=",").values.ravel().tolist() == [6996706, 1234.5, 7]
    with pytest.raises(ValueError, match=r"received '1,5'. Pass decimal=','"):
        rk.read_csv(write("a;b\n1,5;2\n"))
    for mark in (",,", ".", ""):
        with pytest.raises(ValueError, match="thousands= must be one character"):
            rk.read_csv(path, thousands=mark)


def test_lines_of_empty_cells(write):
    timed = write("t;a;\n2024-01-01;1;\n;;\n2024-01-02;2;\n;;\n ; ;\n")
    assert rk.read_csv(timed).values.ravel().tolist() == [1, 2]
    # Where rows have no time, one of empty cells is a row without values.
    assert len(rk.read_csv(write("a;b\n1;1\n;\n2;2\n"))) == 3
    with pytest.raises(ValueError, match=r"column 't': .* received '' in row 1"):
        rk.read_csv(write("t;a\n2024-01-01;1\n;5\n"))


def test_a_time_format_finds_its_column(write):
    path = write("x,DATE\n1,20200101\n2,20200102\n")
    series = rk.read_csv(path, time_format="%Y%m%d")
    assert series.names == ("x",)
    assert series.time[1] == np.datetime64("2020-01-02")
    named = write('Date,y\n"Jan 2, 2020",1\n"Jan 3, 2020",2\n')
    with pytest.raises(ValueError, match=r"If it is a time, pass time='Date' and time_format="):
        rk.read_csv(named)
    assert rk.read_csv(named, time_format="%b %d, %Y").time[1] == np.datetime64("2020-01-03")
    with pytest.raises(ValueError, match=r"no column begins with a time of time_format='%d.%m.%y'"):
        rk.read_csv(path, time_format="%d.%m.%y")
    for numbers in ("unix", "unix_ms", "count"):
        with pytest.raises(ValueError, match=f"time_format='{numbers}' needs time="):
            rk.read_csv(path, time_format=numbers)
    milliseconds = write("t,x\n1580000000000,1\n1580000060000,2\n")
    series = rk.read_csv(milliseconds, time="t", time_format="unix_ms")
    assert series.time[1] == np.datetime64("2020-01-26T00:54:20")


def test_a_group_told_by_several_columns(write):
    path = write("store,item,t,x\n1,a,2024-01-01,1\n1,b,2024-01-01,2\n1,a,2024-01-02,3\n")
    series = rk.read_csv(path, group=["store", "item"])
    assert series.groups == ("1 a", "1 b")
    assert series.names == ("x",)
    with pytest.raises(ValueError, match=r"Where the rows are of several series, name the group="):
        rk.read_csv(path, names=["x"])


def test_archives_and_headers_in_the_wild(tmp_path, write):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d/rows.csv", "t,x\n2024-01-01,1\n")
        archive.writestr("d/.DS_Store", "junk")
    assert len(rk.read_csv(path)) == 1
    whole = gzip.compress(b"t,x\n2024-01-01,1\n" * 1000)
    with pytest.raises(ValueError, match="is not a complete archive"):
        rk.read_csv(write(whole[:-20], "rows.csv.gz"))
    quoted = write('time;"T, 2 m, mean";"p, sea, level"\n2024-01-01;1;2\n')
    assert rk.read_csv(quoted).names == ("T, 2 m, mean", "p, sea, level")


@pytest.mark.parametrize("cell", ["1_0", "\uff11\uff12", "1e400", "-1e999", "0x10", "1e5_0", "٣"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_cells_are_plain_numbers(cell, decimal, write):
    path = write(f"day;x\n2024-01-01;1\n2024-01-02;{cell}\n")
    with pytest.raises(ValueError, match=r"line 3, column 'x': expected a number, received"):
        rk.read_csv(path, decimal=decimal)
    if "e" in cell and "_" not in cell:
        with pytest.raises(ValueError, match=r"A float64 holds no more than 1\.8e308"):
            rk.read_csv(path, decimal=decimal)


def test_infinity_in_words_is_missing(write):
    path = write("day,x\n2024-01-01,1\n2024-01-02,inf\n2024-01-03,-Infinity\n2024-01-04, 2 \n")
    series = rk.read_csv(path)
    assert series.missing_rows().tolist() == [1, 2]
    assert series.values[3, 0] == 2


def test_a_header_is_no_number_that_python_alone_reads(write):
    assert rk.read_csv(write("day,1_0\n2024-01-01,5\n")).names == ("1_0",)


@pytest.mark.parametrize("cell", ["2017013", "7.5", "True", "-"])
def test_a_part_of_the_times_that_holds_numbers_alone_is_named(tmp_path, monkeypatch, cell):
    """Rows come a chunk at a time, and pandas makes of each chunk what it will."""
    monkeypatch.setattr("keras_rnnkit.data.text_table.CHUNK_ROWS", 3)
    rows = [f"2024-01-{day:02d} 00:00,{day}" for day in range(1, 4)]
    path = tmp_path / "parts.csv"
    path.write_text("\n".join(["when,x", *rows, *[f"{cell},9"] * 3]) + "\n")
    with pytest.raises(ValueError, match=rf"received '{cell}' in row 3"):
        rk.read_csv(path)
