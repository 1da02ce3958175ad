"""read_csv: a text table with a header to a TimeSeries, streamed and with errors by line."""

import csv
import gzip
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_rnnkit.archives import unpacking
from keras_rnnkit.data.series import TimeSeries
from keras_rnnkit.data.times import NUMBER, Times, as_times, is_time

__all__ = ["read_csv"]

CHUNK_ROWS = 8192
LONGEST_LINE = 1 << 24
DELIMITERS = ",;\t|"
NUMBERS = ("unix", "unix_ms", "count")
NOT_AVAILABLE = ("", "na", "n/a", "#n/a", "nan", "null", "none", "-", "?", ".")
# What the cells of a chunk hold together where float reads no more into them than stands there.
PLAIN = re.compile(r"[0-9.eE+\-\s]*")
INFINITE = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d)?", re.ASCII)


def read_csv(
    path: str | PathLike[str],
    *,
    time: str | Sequence[str] | None = None,
    group: str | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    time_format: str | None = None,
    missing: Sequence[float] | Mapping[str, Any] = (),
    freq: Any = None,
    sort: bool = False,
    duplicates: str = "error",
    delimiter: str | None = None,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str = "utf-8-sig",
    zone: str | tzinfo | None = None,
) -> TimeSeries:
    r"""Read a CSV file with a header line into a `TimeSeries`.

    Empty lines are passed over, and in a file with times lines of empty cells too; an empty cell,
    `NA`, `#N/A`, `NaN`, `null`, `-` or `?` is missing.

    Args:
        path: the file; `.gz`, or a `.zip` with one file in it, is read without unpacking.
        time: name of the column of times, or of several whose texts tell it when they are joined
            by a space: `["Date", "Time"]`, or `["year", "month", "day"]` with
            `time_format="%Y %m %d"`. Default: the first column whose first value is a date (or
            fits `time_format`), and where that says no time of day, the first column whose first
            value does.
        group: name of the column that tells the series of a panel apart, or of several
            (`["store", "item"]`), whose texts are joined by a space.
        names: columns to read. Default: all but `time` and `group`.
        time_format: `strptime` format of the times; or, with `time=`, `"unix"` or `"unix_ms"` for
            seconds or milliseconds since 1970, `"count"` for whole numbers of steps.
        missing: values that stand for a missing one, or a mapping from column to its values.
        freq: step of time between rows; see `TimeSeries`.
        sort: sort the rows by time (inside each group) instead of refusing unsorted ones.
        duplicates: what to do with rows of one time and group: `"error"`, or keep the `"first"`
            or the `"last"` of them.
        delimiter: between cells. Default: the one of comma, semicolon, tab and bar that the
            header has most often.
        decimal: `"."` or `","`, the decimal mark.
        thousands: the mark between groups of three digits, such as `","` in `1,234.5`. Default:
            `"."` where the decimal mark is a comma, else none.
        encoding: of the text.
        zone: name of the time zone of the times; see `TimeSeries`.

    Returns:
        A `TimeSeries` of float64.

    Raises:
        ValueError: no rows, an unknown column, text where a number belongs (line and column are
            named), a number beyond what float64 holds, a line with too few or too many cells,
            times unsorted or twice.
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
    path = Path(path)
    if duplicates not in ("error", "first", "last"):
        raise ValueError(
            f"duplicates= must be 'error', 'first' or 'last', received {duplicates!r}."
        )
    if decimal not in (".", ","):
        raise ValueError(f"decimal= must be '.' or ',', received {decimal!r}.")
    if thousands is None and decimal == ",":
        thousands = "."
    if thousands is not None and (len(thousands) != 1 or thousands == decimal):
        raise ValueError(
            f"thousands= must be one character, and not that of decimal=, received {thousands!r}."
        )
    if time is None and time_format in NUMBERS:
        raise ValueError(f"time_format={time_format!r} needs time=, the column that holds it.")
    try:
        with unpacking(str(path)), _open(path, encoding) as file:
            lines = _lines(file, path)
            table = _Table(path, lines, delimiter, (decimal, thousands), time, time_format, group)
            table.choose(names)
            table.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding} text ({error.reason} at byte {error.start}). "
            "Pass its encoding=, such as 'latin-1', 'gbk' or 'utf-16'."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path}: {error}. Is a quote left open?") from error
    values = np.concatenate(table.values)
    times = None
    if table.time:
        times = as_times(table.times, time_format=time_format, zone=zone, what=_called(table.time))
    elif zone is not None:
        raise ValueError(f"zone= needs times, and {path} has no column of them: pass time=.")
    if "" in table.labels:
        row = table.labels.index("")
        raise ValueError(f"{_called(table.group)}: row {row} (counted from 0) has no group.")
    labels = np.array(table.labels) if table.group else None
    if times is not None and (sort or duplicates != "error"):
        values, times, labels = _in_order(values, times, labels, sort, duplicates)
    return TimeSeries(
        values, names=table.names, time=times, group=labels, missing=missing, freq=freq
    )


@contextmanager
def _open(path: Path, encoding: str) -> Iterator[IO[str]]:
    if path.is_dir():
        raise ValueError(f"path= must be a file, received the directory {path}.")
    if not path.exists():
        raise FileNotFoundError(f"path= names no file: {path}")
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            # A Mac adds hidden files of its own.
            members = [
                name
                for name in archive.namelist()
                if not (name.endswith("/") or name.startswith("__MACOSX/"))
                and not Path(name).name.startswith(".")
            ]
            if len(members) != 1:
                raise ValueError(
                    f"{path} holds {len(members)} files, expected one: {', '.join(members[:8])}. "
                    "Unpack the one to read."
                )
            with archive.open(members[0]) as binary:
                yield io.TextIOWrapper(binary, encoding=encoding, newline="")
    elif path.suffix.lower() == ".gz":
        with gzip.open(path, "rt", encoding=encoding, newline="") as file:
            yield file
    else:
        with path.open(encoding=encoding, newline="") as file:
            yield file


def _lines(file: IO[str], path: Path) -> Iterator[str]:
    """The lines of a text; a small archive can hold one that no memory has room for."""
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise ValueError(
                f"{path} has a line longer than {LONGEST_LINE:,} characters; is it a CSV file?"
            )
        yield line


def _is_number(cell: str) -> bool:
    text = cell.strip().lower()
    return bool(NUMBER.fullmatch(text)) or text in NOT_AVAILABLE or text in INFINITE


def _called(names: Sequence[str]) -> str:
    return f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)


class _Table:
    """The columns of one file, read chunk by chunk."""

    def __init__(
        self,
        path: Path,
        file: Iterator[str],
        delimiter: str | None,
        marks: tuple[str, str | None],
        time: str | Sequence[str] | None,
        time_format: str | None,
        group: str | Sequence[str] | None,
    ) -> None:
        self.path = path
        self.decimal, self.thousands = marks
        grouped = rf"[+-]?[1-9]\d{{0,2}}({re.escape(self.thousands or '')}\d{{3}})+"
        self.grouped = re.compile(rf"{grouped}({re.escape(self.decimal)}\d*)?", re.ASCII)
        self.line, header = next(
            ((line, text) for line, text in enumerate(file, 1) if text.strip()), (0, "")
        )
        if not header:
            raise ValueError(f"{path} is empty: expected a header line and rows.")
        if delimiter is None:
            delimiter = max(DELIMITERS, key=re.sub('"[^"]*"', "", header).count)
        self.header = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
        if all(_is_number(name) for name in self.header if name):
            raise ValueError(
                f"{path}: the first line must hold the column names, received {header.strip()!r}."
            )
        self.reader = csv.reader(file, delimiter=delimiter)
        self.rows = self._next_rows()
        if not any(self.rows):
            raise ValueError(f"{path} holds a header and no rows.")
        self.time = self._find_time(time_format) if time is None else _listed(time)
        self.group = _listed(group)
        self.names: list[str] = []
        self.times: list[str] = []
        self.labels: list[str] = []
        self.values: list[np.ndarray] = []

    def choose(self, names: Sequence[str] | None) -> None:
        """Take these columns as values: by default all that are neither time nor group."""
        if isinstance(names, str):
            raise ValueError(f"names= must be a list of column names, received {names!r}.")
        others = [*self.time, *self.group]
        self.names = [
            name
            for name in (self.header if names is None else names)
            if names is not None or (name and name not in others)
        ]
        unknown = [name for name in (*others, *self.names) if name not in self.header]
        if unknown:
            raise ValueError(
                f"{self.path} has no column {', '.join(map(repr, unknown))}. "
                f"Its columns are: {', '.join(map(repr, self.header))}."
            )
        doubled = [name for name in (*others, *self.names) if self.header.count(name) > 1]
        if doubled:
            raise ValueError(f"{self.path} has two columns {doubled[0]!r}: rename one.")
        if not self.names:
            raise ValueError(f"{self.path} has no column of numbers besides {', '.join(others)}.")

    def _next_rows(self) -> list[list[str]]:
        """The next chunk of rows; one of blanks alone is as empty as one of nothing."""
        rows = islice(self.reader, CHUNK_ROWS)
        return [[] if len(row) == 1 and not row[0].strip() else row for row in rows]

    def _find_time(self, time_format: str | None) -> list[str]:
        """The column of times; or that of dates, and that of the times of day."""
        first = next(row for row in self.rows if row)
        cells = [(name, cell.strip()) for name, cell in zip(self.header, first, strict=False)]
        if time_format is not None:
            for name, cell in cells:
                if name and is_time(cell, time_format):
                    return [name]
            raise ValueError(
                f"{self.path}: no column begins with a time of time_format={time_format!r}. Name "
                f"the column with time=, or several. The first row is {first}."
            )
        for name, cell in cells:
            if name and not _is_number(cell.replace(self.decimal, ".")) and is_time(cell):
                clocks = [other for other, text in cells if other and CLOCK.fullmatch(text)]
                return [name, *(clocks[:1] if is_time(f"{cell} 00:00") else [])]
        return []

    def read(self) -> None:
        """Convert all rows, a chunk at a time."""
        width = len(self.header)
        numbers, times, groups = (
            [self.header.index(name) for name in names]
            for names in (self.names, self.time, self.group)
        )
        while self.rows:
            for offset, row in enumerate(self.rows, 1):
                if len(row) not in (0, width):
                    raise ValueError(
                        f"{self.path}, line {self.line + offset}: expected {width} cells as in the "
                        f"header, received {len(row)}. Correct the line, or pass delimiter=."
                    )
            if times:
                # Spreadsheets end a table with lines of empty cells; a row has at least its time.
                at = times[0]
                self.rows = [
                    row if row and (row[at].strip() or any(map(str.strip, row))) else []
                    for row in self.rows
                ]
            columns = list(zip(*filter(None, self.rows), strict=True))
            if columns:
                block = np.empty((len(columns[0]), len(numbers)))
                for position, index in enumerate(numbers):
                    block[:, position] = self._numbers(columns[index], index)
                self.values.append(block)
                for found, texts in ((times, self.times), (groups, self.labels)):
                    if found:
                        parts = zip(*(columns[index] for index in found), strict=True)
                        texts.extend(" ".join(map(str.strip, row)).strip() for row in parts)
            self.line += len(self.rows)
            self.rows = self._next_rows()

    def _numbers(self, cells: tuple[str, ...], index: int) -> np.ndarray:
        if self.decimal == "." and PLAIN.fullmatch("".join(cells)):
            try:
                numbers = np.array(list(map(float, cells)))
            except ValueError:
                pass
            else:
                if np.isfinite(numbers).all():
                    return numbers
        numbers = np.empty(len(cells))
        for position, cell in enumerate(cells):
            try:
                numbers[position] = self._number(cell.strip().lower())
            except ValueError:
                offset = next(i for i, row in enumerate(self.rows, 1) if row and row[index] == cell)
                raise ValueError(
                    f"{self.path}, line {self.line + offset}, column {self.header[index]!r}: "
                    f"expected a number, received {cell!r}. {self._advice(cell, index)}"
                ) from None
        return numbers

    def _number(self, text: str) -> float:
        if text in NOT_AVAILABLE or text in INFINITE:
            return np.nan
        if self.thousands and self.grouped.fullmatch(text):
            text = text.replace(self.thousands, "")
        if self.decimal == ",":
            if "." in text:
                raise ValueError
            text = text.replace(",", ".")
        number = float(text)
        # float would read 1_000 and the digits of other scripts too, and 1e400 as infinity.
        if not NUMBER.fullmatch(text) or not np.isfinite(number):
            raise ValueError
        return number

    def _advice(self, cell: str, index: int) -> str:
        if re.fullmatch(r"[+-]?\d{1,3}([,' ]\d{3})+(\.\d*)?", cell.strip()):
            return "Pass thousands= with the mark between groups of digits, or decimal=','."
        if re.fullmatch(r"[+-]?\d+,\d*", cell.strip()):
            return "Pass decimal=','."
        if NUMBER.fullmatch(cell.strip()):
            return "A float64 holds no more than 1.8e308. Correct it, or leave the column out."
        name = self.header[index]
        if not self.time and any(map(str.isdigit, cell)):
            return (
                f"If it is a time, pass time={name!r} and time_format= with its strptime format; "
                "else correct it, or leave the column out with names=."
            )
        return "Correct it, or leave the column out with names=."


def _in_order(
    values: np.ndarray, times: Times, labels: np.ndarray | None, sort: bool, duplicates: str
) -> tuple[np.ndarray, Times, np.ndarray | None]:
    """The rows sorted by time, and one row of each time and group, as asked."""
    codes = np.zeros(len(values), dtype=np.int64)
    if labels is not None:
        # Groups keep the order in which the file brings them.
        _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
        codes = first[codes]
    order = np.lexsort((times.values, codes))
    keep = np.ones(len(values), dtype=bool)
    if duplicates != "error":
        moments = times.values[order]
        same = (moments[1:] == moments[:-1]) & (np.diff(codes[order]) == 0)
        keep[order[1:][same] if duplicates == "first" else order[:-1][same]] = False
    order = order[keep[order]] if sort else np.flatnonzero(keep)
    moved = Times(times.values[order], times.zone)
    return values[order], moved, None if labels is None else labels[order]
