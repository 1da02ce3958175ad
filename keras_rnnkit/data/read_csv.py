"""read_csv: a text table with a header to a TimeSeries, streamed and with errors by line."""

import csv
import gzip
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_rnnkit.data.series import TimeSeries
from keras_rnnkit.data.times import as_times, is_time

__all__ = ["read_csv"]

CHUNK_ROWS = 8192
DELIMITERS = ",;\t|"
NOT_AVAILABLE = ("", "na", "n/a", "nan", "null", "none", "-", "?", ".")
CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d)?")


def read_csv(
    path: str | PathLike[str],
    *,
    time: str | Sequence[str] | None = None,
    group: str | None = None,
    names: Sequence[str] | None = None,
    time_format: str | None = None,
    missing: Sequence[float] | Mapping[str, Any] = (),
    freq: Any = None,
    sort: bool = False,
    duplicates: str = "error",
    delimiter: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8-sig",
) -> TimeSeries:
    r"""Read a CSV file with a header line into a `TimeSeries`.

    Empty lines are passed over; an empty cell, `NA`, `NaN`, `null`, `-` or `?` is missing.

    Args:
        path: the file; `.gz`, or a `.zip` with one file in it, is read without unpacking.
        time: name of the column of times, or of several whose texts tell it when they are joined
            by a space: `["Date", "Time"]`, or `["year", "month", "day"]` with
            `time_format="%Y %m %d"`. Default: the first column whose first value is a date, and
            where that says no time of day, the first column whose first value does.
        group: name of the column that tells the series of a panel apart.
        names: columns to read. Default: all but `time` and `group`.
        time_format: `strptime` format of the times, `"unix"` for seconds since 1970, or `"count"`
            for whole numbers of steps.
        missing: values that stand for a missing one, or a mapping from column to its values.
        freq: step of time between rows; see `TimeSeries`.
        sort: sort the rows by time (inside each group) instead of refusing unsorted ones.
        duplicates: what to do with rows of one time and group: `"error"`, or keep the `"first"`
            or the `"last"` of them.
        delimiter: between cells. Default: the one of comma, semicolon, tab and bar that the
            header has most often.
        decimal: `"."` or `","`, the decimal mark.
        encoding: of the text.

    Returns:
        A `TimeSeries` of float64.

    Raises:
        ValueError: no rows, an unknown column, text where a number belongs (line and column are
            named), a line with too few or too many cells, times unsorted or twice.
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
    try:
        with _open(path, encoding) as file:
            table = _Table(path, file, delimiter, decimal, time, group, names)
            table.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding} text ({error.reason} at byte {error.start}). "
            "Pass its encoding=, such as 'latin-1', 'gbk' or 'utf-16'."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path}: {error}. Is a quote left open?") from error
    except (gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no archive, or a damaged one: {error}.") from error
    values = np.concatenate(table.values)
    times = None
    if table.time:
        what = f"column{'s' * (len(table.time) > 1)} {', '.join(map(repr, table.time))}"
        times = as_times(table.times, time_format=time_format, what=what)
    if "" in table.labels:
        row = table.labels.index("")
        raise ValueError(f"column {group!r}: row {row} (counted from 0) has no group.")
    labels = None if group is None else np.array(table.labels)
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
                if not name.endswith("/") and not name.startswith(("__MACOSX/", "."))
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


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip().lower() in NOT_AVAILABLE
    return True


class _Table:
    """The columns of one file, read chunk by chunk."""

    def __init__(
        self,
        path: Path,
        file: IO[str],
        delimiter: str | None,
        decimal: str,
        time: str | Sequence[str] | None,
        group: str | None,
        names: Sequence[str] | None,
    ) -> None:
        if isinstance(names, str):
            raise ValueError(f"names= must be a list of column names, received {names!r}.")
        self.path = path
        self.decimal = decimal
        self.line, header = next(
            ((line, text) for line, text in enumerate(file, 1) if text.strip()), (0, "")
        )
        if not header:
            raise ValueError(f"{path} is empty: expected a header line and rows.")
        if delimiter is None:
            delimiter = max(DELIMITERS, key=header.count)
        self.header = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
        if all(_is_number(name) for name in self.header if name):
            raise ValueError(
                f"{path}: the first line must hold the column names, received {header.strip()!r}."
            )
        self.reader = csv.reader(file, delimiter=delimiter)
        self.rows = self._next_rows()
        if not any(self.rows):
            raise ValueError(f"{path} holds a header and no rows.")
        if time is None:
            self.time = self._find_time()
        else:
            self.time = [time] if isinstance(time, str) else list(time)
        self.group = group
        others = [*self.time, *([] if group is None else [group])]
        self.names = [
            name
            for name in (self.header if names is None else names)
            if names is not None or (name and name not in others)
        ]
        unknown = [name for name in (*others, *self.names) if name not in self.header]
        if unknown:
            raise ValueError(
                f"{path} has no column {', '.join(map(repr, unknown))}. "
                f"Its columns are: {', '.join(map(repr, self.header))}."
            )
        doubled = [name for name in (*others, *self.names) if self.header.count(name) > 1]
        if doubled:
            raise ValueError(f"{path} has two columns {doubled[0]!r}: rename one.")
        if not self.names:
            raise ValueError(f"{path} has no column of numbers besides {', '.join(others)}.")
        self.times: list[str] = []
        self.labels: list[str] = []
        self.values: list[np.ndarray] = []

    def _next_rows(self) -> list[list[str]]:
        """The next chunk of rows; one of blanks alone is as empty as one of nothing."""
        rows = islice(self.reader, CHUNK_ROWS)
        return [[] if len(row) == 1 and not row[0].strip() else row for row in rows]

    def _find_time(self) -> list[str]:
        """The column of times; or that of dates, and that of the times of day."""
        first = next(row for row in self.rows if row)
        cells = [(name, cell.strip()) for name, cell in zip(self.header, first, strict=False)]
        for name, cell in cells:
            if name and not _is_number(cell.replace(self.decimal, ".")) and is_time(cell):
                clocks = [other for other, text in cells if other and CLOCK.fullmatch(text)]
                return [name, *(clocks[:1] if is_time(f"{cell} 00:00") else [])]
        return []

    def read(self) -> None:
        """Convert all rows, a chunk at a time."""
        width = len(self.header)
        numbers = [self.header.index(name) for name in self.names]
        while self.rows:
            for offset, row in enumerate(self.rows, 1):
                if len(row) not in (0, width):
                    raise ValueError(
                        f"{self.path}, line {self.line + offset}: expected {width} cells as in the "
                        f"header, received {len(row)}. Correct the line, or pass delimiter=."
                    )
            columns = list(zip(*filter(None, self.rows), strict=True))
            if columns:
                block = np.empty((len(columns[0]), len(numbers)))
                for position, index in enumerate(numbers):
                    block[:, position] = self._numbers(columns[index], index)
                self.values.append(block)
                if self.time:
                    parts = [columns[self.header.index(name)] for name in self.time]
                    rows = zip(*parts, strict=True)
                    self.times.extend(" ".join(map(str.strip, row)) for row in rows)
                if self.group is not None:
                    self.labels.extend(map(str.strip, columns[self.header.index(self.group)]))
            self.line += len(self.rows)
            self.rows = self._next_rows()

    def _numbers(self, cells: tuple[str, ...], index: int) -> list[float]:
        if self.decimal == ".":
            try:
                return list(map(float, cells))
            except ValueError:
                pass
        numbers = []
        for cell in cells:
            plain = cell.strip().lower()
            if self.decimal == ",":
                plain = plain.replace(".", "").replace(",", ".")
            try:
                numbers.append(np.nan if plain in NOT_AVAILABLE else float(plain))
            except ValueError:
                offset = next(i for i, row in enumerate(self.rows, 1) if row and row[index] == cell)
                raise ValueError(
                    f"{self.path}, line {self.line + offset}, column {self.header[index]!r}: "
                    f"expected a number, received {cell!r}. Correct it, leave the column out with "
                    "names=, or pass decimal= if the decimal mark is another."
                ) from None
        return numbers


def _in_order(
    values: np.ndarray, times: np.ndarray, labels: np.ndarray | None, sort: bool, duplicates: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The rows sorted by time, and one row of each time and group, as asked."""
    codes = np.zeros(len(times), dtype=np.int64)
    if labels is not None:
        # Groups keep the order in which the file brings them.
        _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
        codes = first[codes]
    order = np.lexsort((times, codes))
    keep = np.ones(len(times), dtype=bool)
    if duplicates != "error":
        same = (np.diff(times[order]) == np.zeros((), np.diff(times[:1]).dtype)) & (
            np.diff(codes[order]) == 0
        )
        keep[order[1:][same] if duplicates == "first" else order[:-1][same]] = False
    order = order[keep[order]] if sort else np.flatnonzero(keep)
    return values[order], times[order], None if labels is None else labels[order]
