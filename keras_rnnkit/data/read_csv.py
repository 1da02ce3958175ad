"""read_csv: a text table to a TimeSeries; pandas reads the cells, and errors name their line."""

import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any

from keras_rnnkit.archives import unpacking
from keras_rnnkit.arguments import refuse_unknown
from keras_rnnkit.data.series import TimeSeries
from keras_rnnkit.data.store import kept
from keras_rnnkit.data.tables import Wanted, build_series, table_file
from keras_rnnkit.data.text_file import open_text
from keras_rnnkit.data.text_table import TextTable

__all__ = ["read_csv"]

PANDAS = (
    "sep", "nrows", "quotechar", "quoting", "doublequote", "escapechar", "true_values",
    "false_values",
)  # fmt: skip
OURS = {
    "dtype": "values are float64",
    "converters": "change the file, or the values of the series",
    "parse_dates": "pass time=",
    "date_format": "pass time_format=",
    "date_parser": "pass time_format=",
    "dayfirst": "pass time_format=",
    "index_col": "pass time=",
    "usecols": "pass names= or drop=",
    "chunksize": "pass store=",
    "iterator": "pass store=",
    "delim_whitespace": r"pass delimiter=r'\s+'",
    "engine": "it is that of C",
    "skip_blank_lines": "empty lines are passed over",
    "skipinitialspace": "blanks around cells are passed over",
    "keep_default_na": "NA, null, - and the like are always missing values, since none is a number",
    "na_filter": "empty cells are always missing values",
    "on_bad_lines": "correct the line, or leave it out with skiprows=",
    "encoding_errors": "pass the encoding= of the file",
    "missing": "pass na_values=",
}


def read_csv(
    path: str | PathLike[str],
    *,
    time: str | Sequence[str] | None = None,
    group: str | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    time_format: str | None = None,
    freq: Any = None,
    sort: bool = False,
    duplicates: str = "error",
    zone: str | tzinfo | None = None,
    store: str | PathLike[str] | None = None,
    delimiter: str | None = None,
    header: int | Sequence[int] | str | None = "infer",
    skiprows: int | Sequence[int] | Callable[[int], bool] | None = None,
    skipfooter: int = 0,
    comment: str | None = None,
    na_values: float | str | Sequence[float | str] | Mapping[str, Any] | None = None,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str | None = None,
    compression: str | None = "infer",
    **options: Any,
) -> TimeSeries:
    r"""Read a text table into a `TimeSeries`, as `pandas.read_csv` reads it.

    From `delimiter` on the arguments are those of pandas. Empty lines are skipped, and in a file
    with times also lines of empty cells. An empty cell, `NA`, `#N/A`, `NaN`, `null`, `-`, `?` or
    `.` is a missing value. Columns without a name are left out, except one of dates, as pandas
    writes an index. A header with one name too few is that of a first column of row names, which
    has no name, if these all differ, are not numbers or count the rows, and no two columns beside
    each other may be one number with a comma in it; otherwise it is an error.

    Args:
        path: the file; packed as `.gz`, `.bz2`, `.xz` or a `.zip` with one file in it, it is read
            without unpacking.
        time: name of the column of times, or of several that are joined by a space:
            `["Date", "Time"]`, or `["year", "month", "day"]` with `time_format="%Y %m %d"`.
            Default: of those that are not dropped, the first column whose first value is a date
            (or fits `time_format`; else the first one of dates such as 20170130); if it has no
            time of day, then also the first column whose first value is one, if that column is
            called `time` or a date comes again (in its group) in the first rows: beside daily
            dates the times of day are other ones, such as those of sunrise.
        group: name of the column that says to which series of a panel a row belongs, or of several
            (`["store", "item"]`), which are joined by a space. Labels that are integers in all
            rows become integers.
        names: columns to read, in this order; with `header=`, the names of all columns of the
            file, as in pandas. Default: all but `time` and `group`.
        drop: columns to leave out.
        time_format: `strptime` format of the times; or, with `time=`, `"unix"`, `"unix_ms"`,
            `"unix_us"`, `"unix_ns"` for seconds, milli-, micro- or nanoseconds since 1970,
            `"excel"` for dates as numbers of a spreadsheet, `"count"` for a counter.
        freq: step of time between rows; see `TimeSeries`.
        sort: sort the rows by time (in each group), which they must have; otherwise unsorted rows
            are an error.
        duplicates: what to do with several rows of the same time and group: `"error"`, or keep the
            `"first"` or the `"last"`.
        zone: name of the time zone of the times; see `TimeSeries`. An hour that comes twice as the
            clocks are set back is read if its rows are in order, each of its times twice, without
            `sort` and `duplicates`.
        store: path of a `.npy` file to write the rows to, for a table larger than memory; the
            series is a memory map of it, which `TimeSeries.open` opens again. If the file was made
            from the same table with the same arguments, it is opened at once.
        delimiter: between cells, or `r"\s+"`. Default: the one of comma, semicolon, tab and bar
            that occurs in every line.
        header: line of the names, counted from 0 after `skiprows`; several, whose names are joined
            by a space; or None for a file without names. Default: the first line, which must then
            hold names.
        skiprows: number of lines to skip at the beginning, or their numbers from 0.
        skipfooter: number of lines to leave out at the end.
        comment: the character that begins a comment.
        na_values: numbers and further texts that stand for a missing value, such as
            `[-9999, "none"]`, or a mapping from column to them.
        decimal: the decimal mark.
        thousands: the mark between groups of three digits, such as `","` in `1,234.5`; a blank
            stands for no-break ones too.
        encoding: of the text. Default: UTF-8, with a byte-order mark or without.
        compression: `"gzip"`, `"bz2"`, `"xz"`, `"zip"` or None. Default: by the ending of the name.
        **options: of `pandas.read_csv`: `sep`, `nrows`, `quotechar`, `quoting`, `doublequote`,
            `escapechar`, `true_values`, `false_values`. All others are refused.

    Returns:
        A `TimeSeries` of float64.

    Raises:
        ValueError: no rows, an unknown column, text in place of a number (the error names line and
            column), a number beyond float64, a line with too few or too many cells, times
            unsorted or twice, a column of numbers that is a time by its look or name (`timestamp`,
            2024013123) and has no role.
        FileNotFoundError: no such file.

    Example:
        >>> import pathlib, tempfile
        >>> import keras_rnnkit as rk
        >>> path = pathlib.Path(tempfile.mkdtemp(), "weather.csv")
        >>> rows = "date,T,p", "2024-01-01,1.5,990", "2024-01-02,,991", "2024-01-03,2,993"
        >>> _ = path.write_text("\n".join(rows))
        >>> rk.read_csv(path)
        TimeSeries: 3 rows x 2 columns
          time     2024-01-01 00:00:00 to 2024-01-03 00:00:00, a row every 1 D, 0 gaps
          missing  T 1
          columns  T, p
    """
    path = table_file(path)
    chosen, given = (names, None) if header == "infer" else (None, names)
    texts, numbers = _by_kind(na_values)
    wanted = Wanted(
        time, group, chosen, drop, time_format, numbers, freq, sort, duplicates, zone, store
    )
    for name in [each for each in options if each in OURS]:
        raise ValueError(f"{name}= is no argument of read_csv here: {OURS[name]}.")
    refuse_unknown(options, [*list(signature(read_csv).parameters)[:-1], *PANDAS], "argument here")
    if decimal not in (".", ","):
        raise ValueError(f"decimal= must be '.' or ',', received {decimal!r}.")
    if thousands is not None and (len(thousands) != 1 or thousands == decimal):
        raise ValueError(
            f"thousands= must be one character, and not that of decimal=, received {thousands!r}."
        )
    delimiter = options.pop("sep", None) if delimiter is None else delimiter
    if delimiter is not None and len(delimiter) != 1 and delimiter != r"\s+":
        raise ValueError(rf"delimiter= must be one character or r'\s+', received {delimiter!r}.")
    pandas = {"header": header, "skiprows": skiprows, "comment": comment, "decimal": decimal}
    pandas |= {"delimiter": delimiter, "thousands": thousands, "na_values": texts, **options}
    if encoding is None or encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    told = wanted.told(path, given, pandas, encoding, compression, skipfooter)
    if store is not None and (series := kept(Path(store), told)) is not None:
        return series

    opened = partial(open_text, path, compression, encoding, skipfooter)
    try:
        with unpacking(str(path)):
            table = TextTable(path, opened, wanted, given, pandas)
            return build_series(path, table.chunks(), table.names, wanted, told)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding} text ({error.reason} at byte {error.start}). "
            "Pass its encoding=, such as 'latin-1', 'gbk' or 'utf-16'."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path}: {error}. Is a quote left open?") from error


def _by_kind(na_values: Any) -> list[Any]:
    """The texts that stand for a missing value, and the numbers, each by column if given so."""
    if isinstance(na_values, Mapping):
        both = {name: _by_kind(each) for name, each in na_values.items()}
        return [{name: each[kind] for name, each in both.items()} for kind in range(2)]
    if na_values is None:
        return [[], []]
    listed = [na_values] if isinstance(na_values, (str, int, float)) else list(na_values)
    texts = [each for each in listed if isinstance(each, str)]
    return [texts, [each for each in listed if not isinstance(each, str)]]
