"""read_csv: tables that look right and would be read wrong are refused, with what to pass."""

import csv
import inspect

import numpy as np
import pandas as pd
import pytest

import keras_rnnkit as rk


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "rows.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "options", "cells"),
    [
        ("time,T\n2024-01-01,20,5\n2024-01-02,21,7\n", {}, 3),
        ("Datum,T\n2024-01-01,20,5\n2024-01-02,21,7\n", {}, 3),
        ("Datum;T\n2024-01-01;20;5\n2024-01-02;21;7\n", {"time": "Datum"}, 3),
        ("T\n20,5\n21,7\n", {}, 2),
        ("T\n1,5\n2,7\n", {}, 2),
        ("T\n1,500\n2,700\n", {"thousands": ","}, 2),
        ('T\n"a",500\n"b",700\n', {"thousands": ","}, 2),
        ("store,x\na,20,5\nb,21,7\n", {"group": "store"}, 3),
        ("store;x\na;20.5;7\nb;21.5;7\n", {"group": "store"}, 3),
        ("step,x\n0,1,5\n1,1,7\n", {}, 3),
        ("a;b\n7.5;1;2\n8.5;3;4\n", {}, 3),
        ("a;b\n1;1;2\n1;3;4\n", {}, 3),
        ("a;b\n4;1;2\n9;3;4\n", {}, 3),
        ("time;x\n1;7;2\n2;8;4\n", {}, 3),
        ("a,b\n2024-01-01,20,5\n", {"header": 0, "names": ["time", "T"]}, 3),
        ("2024-01-01,20,5\n", {"header": None, "names": ["time", "T"]}, 3),
        ('"r1";1;2;3\n', {"header": None, "names": ["a", "b"]}, 4),
    ],
)
def test_columns_are_never_shifted_by_a_number_in_two_cells(text, options, cells, write):
    line = 1 if options.get("header", 0) is None else 2
    message = rf"line {line}: received {cells} cells, and names for .* names for all {cells} col"
    with pytest.raises(ValueError, match=message):
        rk.read_csv(write(text), **options)


@pytest.mark.parametrize(
    ("text", "names", "values", "timed"),
    [
        ("Open,High\n2024-01-02,1.5,2\n2024-01-03,1.25,3\n", "Open High", [[1.5, 2], [1.25, 3]], 1),
        ('"x";"y"\n"1";41;7\n"2";NA;8\n', "x y", [[41, 7], [np.nan, 8]], 0),
        ('"x"\t"y"\n"Mazda RX4"\t21\t6\n"Datsun 710"\t22\t4\n', "x y", [[21, 6], [22, 4]], 0),
        ("date,T\n140,2015-02-02 14:19:00,23\n141,2015-02-02 14:20:00,24\n", "T", [[23], [24]], 1),
        ("x,y\na,1.5,7\nb,2.5,8\n", "x y", [[1.5, 7], [2.5, 8]], 0),
        ("a;b\n1;2;\n3;4;\n", "a b", [[1, 2], [3, 4]], 0),
    ],
)
def test_row_names_without_a_name_are_left_out(text, names, values, timed, write):
    series = rk.read_csv(write(text))
    assert series.names == tuple(names.split())
    np.testing.assert_array_equal(series.values, values)
    assert (series.time is not None) == timed


def test_what_the_message_on_cells_advises_reads_the_file(write):
    assert rk.read_csv(write("T\n20,5\n21,7\n"), decimal=",")["T"].tolist() == [20.5, 21.7]
    thousands = {"thousands": ",", "delimiter": ";"}
    assert rk.read_csv(write("T\n1,500\n2,700\n"), **thousands)["T"].tolist() == [1500, 2700]
    path = write("a;b\n4;1;2\n9;3;4\n")
    series = rk.read_csv(path, header=0, names=["id", "a", "b"])
    assert series.values.tolist() == [[4, 1, 2], [9, 3, 4]]


@pytest.mark.parametrize(
    ("column", "time_format"),
    [
        ("t 2024010100 2024010101", "%Y%m%d%H"),
        ("t 202401010000 202401010010", "%Y%m%d%H%M"),
        ("t 20240101000000 20240101000010", "%Y%m%d%H%M%S"),
        ("t 202401 202402", "%Y%m"),
        ("timestamp 1580000000 1580000060", "unix"),
        ("TimeStamp 1580000000000 1580000060000", "unix_ms"),
        ("Date 45292 45293", "excel"),
        ("time 7 9", "count"),
        ("datetime 0.5 1.5", None),
    ],
)
def test_numbers_that_are_times_are_no_feature(column, time_format, write):
    name, *cells = column.split()
    path = write(f"{name},x\n" + "".join(f"{cell},{row}\n" for row, cell in enumerate(cells)))
    message = f"'{name}' begins with '{cells[0]}', .* pass time='{name}' and time_format= with "
    with pytest.raises(ValueError, match=message + f"'{time_format or 'count'}'"):
        rk.read_csv(path)
    assert rk.read_csv(path, drop=name).names == ("x",)
    assert rk.read_csv(path, names=[name, "x"]).values[1].tolist() == [float(cells[1]), 1]
    if time_format:
        assert len(rk.read_csv(path, time=name, time_format=time_format).time) == 2


@pytest.mark.parametrize("header", [";T", "T", ";t;T"])
def test_times_in_a_column_without_a_name_are_no_row_numbers(header, write):
    name = "t" if "t" in header else "Unnamed: 0"
    rows = [f"{hour};" * ("t" in header) + f"202401010{hour};5" for hour in range(2)]
    path = write("\n".join([header, *rows]) + "\n")
    with pytest.raises(ValueError, match=f"time='{name}' and time_format= with '%Y%m%d%H'"):
        rk.read_csv(path, delimiter=";")
    series = rk.read_csv(path, delimiter=";", time=name, time_format="%Y%m%d%H")
    assert series.freq == np.timedelta64(1, "h")
    assert rk.read_csv(path, delimiter=";", drop=name).time is None


def test_numbers_that_are_no_times_stay_a_feature(write):
    for text in ("a,b\n3,202401\n4,202402\n", "a,b\n202413,1\n", "time,b\n3,1\n1,2\n"):
        assert rk.read_csv(write(text)).time is None


@pytest.mark.parametrize("cell", ["", "NA"])
@pytest.mark.parametrize("row", [0, 1])
def test_an_empty_cell_does_not_hide_the_times(cell, row, write):
    cells = ["20240101", "20240102", "20240103"]
    cells[row] = cell
    path = write("t,x\n" + "".join(f"{each},1\n" for each in cells))
    with pytest.raises(ValueError, match=f"column 't': .* received '{cell}' in row {row}"):
        rk.read_csv(path)


@pytest.mark.parametrize("options", [{"sort": True}, {"duplicates": "first"}, {"zone": "UTC"}])
def test_what_needs_times_says_so(options, write, tmp_path):
    path = write("a,b\n2,1\n1,2\n")
    message = rf"{next(iter(options))}=.* needs times, .* pass time="
    with pytest.raises(ValueError, match=message):
        rk.read_csv(path, **options)
    pytest.importorskip("pyarrow")
    pd.read_csv(path).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=message):
        rk.read_parquet(tmp_path / "rows.parquet", **options)


def test_a_column_that_is_dropped_is_no_time(write):
    path = write("printed,when,clock,x\n2024-05-01,2024-01-01,,1\n2024-05-01,2024-01-02,,2\n")
    series = rk.read_csv(path, drop=["printed", "clock"])
    assert series.time[1] == np.datetime64("2024-01-02")
    path = write("seen,when,x\n10:00,2024-01-01,1\n11:00,2024-01-02,2\n")
    assert rk.read_csv(path, drop="seen").time[1] == np.datetime64("2024-01-02")
    path = write("end,start,x\n20240105,20240101,1\n20240105,20240102,2\n")
    for options in ({}, {"time_format": "%Y%m%d"}):
        series = rk.read_csv(path, drop="end", **options)
        assert series.time[1] == np.datetime64("2024-01-02")


OF_PANDAS = {
    "sep": (";", "a;b\n1;2\n3;4\n"),
    "nrows": (2, "a,b\n1,2\n3,4\n5,6\n"),
    "quotechar": ("'", "a,'b'\n1,'2'\n'3',4\n"),
    "quoting": (csv.QUOTE_NONE, '"a",b\n1,2\n3,4\n'),
    "doublequote": (False, '"a",b\n1,2\n"3",4\n'),
    "escapechar": ("\\", '"a\\"",b\n1,2\n3,4\n'),
    "true_values": (["yes"], "a,b\n1,2\n3,4\n"),
    "false_values": (["no"], "a,b\n1,2\n3,4\n"),
}
OURS = inspect.signature(rk.read_csv).parameters


@pytest.mark.parametrize(
    "name", [*inspect.signature(pd.read_csv).parameters, "squeeze", "missing", "tme"]
)
def test_every_argument_of_pandas_works_or_is_refused(name, write):
    if name in OF_PANDAS:
        value, text = OF_PANDAS[name]
        series = rk.read_csv(write(text), **{name: value})
        assert series.values.tolist() == [[1, 2], [3, 4]]
        expected = pd.read_csv(write(text), **{name: value})
        assert series.names == tuple(expected.columns)
    elif name not in OURS:
        told = "Did you mean time=" if name == "tme" else f"{name}= is no argument"
        with pytest.raises((TypeError, ValueError), match=told):
            rk.read_csv(write("a,b\n1,2\n3,4\n"), **{name: None})


def test_words_for_true_and_false(write):
    path = write("a,b\nyes,2\nno,4\n")
    series = rk.read_csv(path, true_values=["yes"], false_values=["no"])
    assert series["a"].tolist() == [1, 0]


@pytest.mark.parametrize("group", [None, "store"])
def test_a_clock_beside_daily_dates_is_not_the_time(group, write):
    days = [("2024-01-01", "07:10"), ("2024-01-02", "07:11"), ("2024-01-03", "07:11")]
    lines = [f"{day},{rise},{store},5" for day, rise in days for store in "ab"[: 1 + bool(group)]]
    path = write("\n".join(["day,sunrise,store,x", *lines]) + "\n")
    with pytest.raises(ValueError, match=r"'07:10'. If .* pass time=\['day', 'sunrise'\]; else"):
        rk.read_csv(path, group=group, drop=None if group else "store")
    series = rk.read_csv(path, group=group, drop=["sunrise"] if group else ["sunrise", "store"])
    assert series.freq == np.timedelta64(1, "D")


@pytest.mark.parametrize(("clock", "second"), [("Time", "2024-01-02"), ("noted", "2024-01-01")])
def test_a_clock_is_the_time_by_its_name_or_as_dates_come_again(clock, second, write):
    path = write(f"day,{clock},x\n2024-01-01,07:10,1\n{second},07:11,2\n")
    assert rk.read_csv(path).time[1] == np.datetime64(f"{second}T07:11")


def test_a_row_of_empty_cells_below_the_header_hides_nothing(write):
    series = rk.read_csv(write("day,T\n,\n2024-01-01,5\n2024-01-02,6\n"))
    assert series.names == ("T",)
    assert series["T"].tolist() == [5, 6]
    assert len(rk.read_csv(write("a,b\n,\n1,2\n"))) == 2


@pytest.mark.parametrize(
    ("text", "options", "first"),
    [
        ("day T\n2024-01-01 5\n2024-01-02 6\n", {}, 5),
        ("  T    p\n 5  9.5\n 6 10.5\n", {}, 5),
        ("T p\n5,5 9,5\n6,5 8,5\n", {"decimal": ","}, 5.5),
    ],
)
def test_cells_between_blanks_are_told(text, options, first, write):
    with pytest.raises(ValueError, match=r"pass delimiter=r'\\s\+'"):
        rk.read_csv(write(text), **options)
    assert rk.read_csv(write(text), delimiter=r"\s+", **options)["T"][0] == first


@pytest.mark.parametrize("cell", ["5%", "5 %", "\u22125", "(5)", "$5.5", "-€5", "5 €", "5\u00a0%"])
@pytest.mark.parametrize("time", ["", "2024-01-01;"])
def test_what_reads_like_a_number_is_not_called_missing(cell, time, write):
    path = write(f"{time and 't;'}x;y\n{time}{cell};1\n")
    with pytest.raises(ValueError, match=r"line 2, column 'x': .*It reads like a number, ") as told:
        rk.read_csv(path)
    assert "na_values" not in str(told.value)


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u202f", "\u2019"])
def test_blanks_between_groups_of_digits(blank, write):
    path = write(f"x;y\n1{blank}234,5;-2{blank}000\n")
    with pytest.raises(ValueError, match=r"'1.+234,5'. Pass thousands="):
        rk.read_csv(path, decimal=",")
    for thousands in (blank, "\u2019" if blank == "\u2019" else " "):
        series = rk.read_csv(path, decimal=",", thousands=thousands)
        assert series.values.tolist() == [[1234.5, -2000]]
