"""read_csv: a text table to a TimeSeries; pandas reads the cells, and errors tell their line."""

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import tzinfo
from itertools import islice, takewhile
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from packaging.version import Version

from keras_rnnkit.archives import unpacking
from keras_rnnkit.data.series import TimeSeries
from keras_rnnkit.data.store import kept
from keras_rnnkit.data.tables import CHUNK_ROWS, Chunk, Wanted, build_series
from keras_rnnkit.data.time_formats import NUMBER, is_compact_date, is_time
from keras_rnnkit.progress import Progress

__all__ = ["read_csv"]

LONGEST_LINE = 1 << 24
DELIMITERS = ",;\t|"
PACKED: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zip": "zip"}
NOT_AVAILABLE = ("", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>", "-", "?", ".")
INFINITE = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
MISSING = [form(word) for word in NOT_AVAILABLE for form in (str, str.upper, str.title)] + ["NaN"]
CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d)?( ?[AP]M)?", re.ASCII | re.IGNORECASE)
MONTH = r"(\d{1,4}|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*)"
LIKE_A_DATE = re.compile(rf"{MONTH}[-/., ]+{MONTH}[-/., ]+\d{{2,4}}\b.*", re.ASCII | re.IGNORECASE)
OURS = {
    "dtype": "values are float64",
    "parse_dates": "pass time=",
    "date_format": "pass time_format=",
    "index_col": "pass time=",
    "usecols": "pass names= or drop=",
    "chunksize": "pass store=",
    "iterator": "pass store=",
    "engine": "it is that of C",
    "skip_blank_lines": "empty lines are passed over",
}


def read_csv(
    path: str | PathLike[str],
    *,
    time: str | Sequence[str] | None = None,
    group: str | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    time_format: str | None = None,
    missing: float | Sequence[float] | Mapping[str, Any] = (),
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
    na_values: Any = None,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str | None = None,
    compression: str | None = "infer",
    **options: Any,
) -> TimeSeries:
    r"""Read a text table into a `TimeSeries`, as `pandas.read_csv` reads it.

    From `delimiter` on the arguments are those of pandas. Empty lines are passed over, and in a
    file with times lines of empty cells too; an empty cell, `NA`, `#N/A`, `NaN`, `null`, `-`, `?`
    or `.` is missing. Columns without a name are left out, but for one of dates, as pandas writes
    an index.

    Args:
        path: the file; packed as `.gz`, `.bz2`, `.xz` or a `.zip` with one file in it, it is read
            without unpacking.
        time: name of the column of times, or of several whose texts tell it when they are joined
            by a space: `["Date", "Time"]`, or `["year", "month", "day"]` with
            `time_format="%Y %m %d"`. Default: the first column whose first value is a date (or
            fits `time_format`; else the first one of dates such as 20170130), and where that says
            no time of day, the first column whose first value does.
        group: name of the column that tells the series of a panel apart, or of several
            (`["store", "item"]`), whose texts are joined by a space. Labels that are whole numbers
            in all rows become such.
        names: columns to take, in this order; with `header=`, the names of all columns of the
            file, as in pandas. Default: all but `time` and `group`.
        drop: columns to leave out.
        time_format: `strptime` format of the times; or, with `time=`, `"unix"`, `"unix_ms"`,
            `"unix_us"`, `"unix_ns"` for seconds, milli-, micro- or nanoseconds since 1970,
            `"excel"` for day numbers of a spreadsheet, `"count"` for whole numbers of steps.
        missing: numbers that stand for a missing value, or a mapping from column to its numbers.
        freq: step of time between rows; see `TimeSeries`.
        sort: sort the rows by time (inside each group) instead of refusing unsorted ones.
        duplicates: what to do with rows of one time and group: `"error"`, or keep the `"first"`
            or the `"last"` of them.
        zone: name of the time zone of the times; see `TimeSeries`.
        store: path of a `.npy` file that the rows are written to, for a table that is larger than
            memory; the series is a map of it, which `TimeSeries.open` opens again. Where the file
            was made of the same table with the same arguments, it is opened at once.
        delimiter: between cells, or `r"\s+"`. Default: the one of comma, semicolon, tab and bar
            that stands in every line.
        header: line of the names, counted from 0 after `skiprows`; several, whose names are joined
            by a space; or None for a file without names. Default: the first line, which must then
            hold names.
        skiprows: number of lines to pass over at the beginning, or their numbers from 0.
        skipfooter: number of lines to leave out at the end.
        comment: the character with which comments begin.
        na_values: further texts of missing cells, or a mapping from column to them.
        decimal: the decimal mark.
        thousands: the mark between groups of three digits, such as `","` in `1,234.5`.
        encoding: of the text. Default: UTF-8, with a byte-order mark or without.
        compression: `"gzip"`, `"bz2"`, `"xz"`, `"zip"` or None. Default: as the name ends.
        **options: others of `pandas.read_csv`, such as `quotechar=` or `nrows=`.

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
    given = None if header == "infer" else names
    wanted = Wanted(
        time,
        group,
        None if given is not None else names,
        drop,
        time_format,
        missing,
        freq,
        sort,
        duplicates,
        zone,
        store,
    )
    for name, instead in OURS.items():
        if name in options:
            raise ValueError(f"{name}= is no argument of read_csv here: {instead}.")
    if decimal not in (".", ","):
        raise ValueError(f"decimal= must be '.' or ',', received {decimal!r}.")
    if thousands is not None and (len(thousands) != 1 or thousands == decimal):
        raise ValueError(
            f"thousands= must be one character, and not that of decimal=, received {thousands!r}."
        )
    if path.is_dir():
        raise ValueError(f"path= must be a file, received the directory {path}.")
    if not path.exists():
        raise FileNotFoundError(f"path= names no file: {path}")
    delimiter = options.pop("sep", None) if delimiter is None else delimiter
    if delimiter is not None and len(delimiter) != 1 and delimiter != r"\s+":
        raise ValueError(rf"delimiter= must be one character or r'\s+', received {delimiter!r}.")
    pandas = {"header": header, "skiprows": skiprows, "comment": comment, "decimal": decimal}
    pandas |= {"delimiter": delimiter, "thousands": thousands, "na_values": na_values, **options}
    if encoding is None or encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    told = wanted.told(path, given, pandas, encoding, compression, skipfooter)
    if store is not None and (series := kept(Path(store), told)) is not None:
        return series

    @contextmanager
    def open_text() -> Iterator[tuple["_Text", IO[bytes]]]:
        with _open(path, compression, encoding) as (text, raw):
            yield _Text(text, path, skipfooter), raw

    try:
        with unpacking(str(path)):
            table = _Table(path, open_text, wanted, given, pandas)
            return build_series(path, table.chunks(), table.names, wanted, told)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not {encoding} text ({error.reason} at byte {error.start}). "
            "Pass its encoding=, such as 'latin-1', 'gbk' or 'utf-16'."
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path}: {error}. Is a quote left open?") from error


@contextmanager
def _open(path: Path, compression: str | None, encoding: str) -> Iterator[tuple[Any, IO[bytes]]]:
    """The text of a file, and the file itself."""
    kind = SUFFIXES.get(path.suffix.lower()) if compression == "infer" else compression
    if kind not in (None, "zip", *PACKED):
        raise ValueError(f"compression= must be one of zip, {', '.join(PACKED)}: {kind!r}.")
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        binary: Any = raw
        if kind == "zip":
            archive = stack.enter_context(zipfile.ZipFile(raw))
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
            binary = stack.enter_context(archive.open(members[0]))
        elif kind is not None:
            binary = stack.enter_context(PACKED[kind](raw))
        yield stack.enter_context(io.TextIOWrapper(binary, encoding=encoding, newline="")), raw


class _Text(io.TextIOBase):
    """A text without its footer; a small archive can hold a line that no memory has room for."""

    def __init__(self, text: IO[str], path: Path, footer: int) -> None:
        self._text, self._path, self._footer, self._length = text, path, footer, 0
        self._cut = self.lines()

    def lines(self) -> Iterator[str]:
        held: deque[str] = deque()
        while line := self._text.readline(LONGEST_LINE):
            self._refuse(len(line))
            held.append(line)
            if len(held) > self._footer:
                yield held.popleft()

    def read(self, size: int = -1) -> str:  # type: ignore[override]
        if self._footer:
            return "".join(islice(self._cut, 4096))
        block = self._text.read(size)
        end = max(block.rfind("\n"), block.rfind("\r"))
        self._length = self._length + len(block) if end < 0 else len(block) - end
        self._refuse(self._length)
        return block

    def _refuse(self, length: int) -> None:
        if length >= LONGEST_LINE:
            raise ValueError(
                f"{self._path} has a line longer than {LONGEST_LINE:,} characters; is it a CSV "
                "file?"
            )


def _is_number(cell: str) -> bool:
    text = cell.strip().lower()
    return bool(NUMBER.fullmatch(text)) or text in NOT_AVAILABLE or text in INFINITE


class _Table:
    """The columns of a text table, and its rows a chunk at a time.

    Attributes:
        names: of the columns of values.
    """

    def __init__(
        self,
        path: Path,
        open_text: Callable[[], Any],
        wanted: Wanted,
        given: Sequence[str] | None,
        pandas: dict[str, Any],
    ) -> None:
        self._path, self._open, self._wanted, self._pandas = path, open_text, wanted, pandas
        decimal, thousands = pandas["decimal"], pandas.pop("thousands")
        self._decimal, self._thousands = decimal, thousands
        grouped = rf"[+-]?[1-9]\d{{0,2}}({re.escape(thousands or '')}\d{{3}})+"
        self._grouped = re.compile(rf"{grouped}({re.escape(decimal)}\d*)?", re.ASCII)
        places = pandas["header"]
        self._named = places == "infer"
        places = [0] if self._named else [] if places is None else np.atleast_1d(places).tolist()
        self._heads = max(places, default=-1) + 1
        with self._open() as (text, _):
            lines = list(islice(self._lines(text), self._heads + 12))
        if not lines:
            raise ValueError(f"{path} is empty: expected a header line and rows.")
        if pandas["delimiter"] is None:
            pandas["delimiter"] = self._common_delimiter([text for _, text in lines])
        numbered = [(at, [*map(str.strip, row)]) for at, row in self._cells(iter(lines))]
        rows = [row for _, row in numbered]
        if len(rows) <= self._heads:
            raise ValueError(f"{path} holds a header and no rows.")
        rows, heads = rows[self._heads :], [rows[place] for place in places]
        if given is not None:
            header = [str(name) for name in given]
        elif heads:
            header = [
                " ".join(filter(None, dict.fromkeys(parts))) for parts in zip(*heads, strict=False)
            ]
        else:
            header = [str(place) for place in range(len(rows[0]))]
        self._header = self._fit(header, rows)
        self._find_time(rows)
        self.names, self._values = wanted.choose(path, self._header)
        self._refuse_lost_dates(rows[0])
        self._refuse_units(numbered[self._heads :])

    def _lines(self, text: Any) -> Iterator[tuple[int, str]]:
        """The lines that pandas reads, with their numbers."""
        skip, comment = self._pandas["skiprows"], self._pandas["comment"]
        if skip is None or isinstance(skip, int):
            skipped: Any = range(skip or 0).__contains__
        else:
            skipped = skip if callable(skip) else set(skip).__contains__
        for number, line in enumerate(text.lines()):
            line = line.partition(comment)[0] + "\n" if comment and comment in line else line
            if line.strip() and not skipped(number):
                yield number + 1, line

    def _cells(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        """The cells of each row, with the number of its last line."""
        at = 0

        def texts() -> Iterator[str]:
            nonlocal at
            for at, text in lines:  # noqa: B007  read by the loop below
                yield text

        delimiter, quote = self._pandas["delimiter"], self._pandas.get("quotechar", '"')
        if delimiter == r"\s+":
            yield from ((at, text.split()) for text in texts())
        for row in csv.reader(texts(), delimiter=delimiter, quotechar=quote, skipinitialspace=True):
            yield at, row

    def _common_delimiter(self, lines: list[str]) -> str:
        """The one that stands in every line; else the one that the header has most often."""
        plain = [re.sub('"[^"]*"', "", line) for line in lines[max(0, self._heads - 1) :]]
        marks = [mark for mark in DELIMITERS if mark != self._decimal]
        return max(
            marks, key=lambda mark: (min(line.count(mark) for line in plain), plain[0].count(mark))
        )

    def _fit(self, header: list[str], rows: list[list[str]]) -> list[str]:
        """A name for each column: the header of R and UCI leaves that of the row names out."""
        more = len(rows[0]) - len(header)
        if self._named and (
            all(map(_is_number, filter(None, header)))
            or any(
                is_time(name) and is_time(cell) for name, cell in zip(header, rows[0], strict=False)
            )
        ):
            raise ValueError(
                f"{self._path}: the first line must hold the column names, received "
                f"{self._pandas['delimiter'].join(header)!r}. Where it does, pass header=0; for a "
                "file without names header=None, and names= with those of all columns."
            )
        if more > 0 and all(not any(row[len(header) :]) for row in rows):
            return header + [""] * more
        if more == 1 and all(len(row) == len(rows[0]) for row in rows):
            return ["", *header]
        if more > 0:
            self._refuse_widths(len(header))
        return header

    def _find_time(self, rows: list[list[str]]) -> None:
        """Find the column of times; or that of dates, and that of the times of day."""
        wanted, header, time_format = self._wanted, self._header, self._wanted.time_format
        asked = [*(wanted.time or ()), *wanted.group, *wanted.drop, *(wanted.names or ())]
        found: list[int] = []
        if wanted.time is None:
            cells = list(enumerate(rows[0][: len(header)]))
            if time_format is not None:
                found = [place for place, cell in cells if is_time(cell, time_format)][:1]
                if not found:
                    raise ValueError(
                        f"{self._path}: no column begins with a time of time_format="
                        f"{time_format!r}. Name the column with time=, or several. The first row "
                        f"is {rows[0]}."
                    )
            else:
                found = [p for p, cell in cells if not self._is_number(cell) and is_time(cell)][:1]
                if found and is_time(f"{rows[0][found[0]]} 00:00"):
                    found += [p for p, cell in cells if CLOCK.fullmatch(cell)][:1]
            compact = [
                place
                for place, _ in cells
                if header[place]
                and header[place] not in asked
                and all(place < len(row) and is_compact_date(row[place]) for row in rows)
            ]
            found = found or compact[:1]
            asked += [f"Unnamed: {place}" for place in found]
        for place, name in enumerate(header):
            if not name and f"Unnamed: {place}" in asked:  # as pandas calls it
                header[place] = f"Unnamed: {place}"
        if wanted.time is None:
            wanted.time = [header[place] for place in found]

    def _is_number(self, cell: str) -> bool:
        return _is_number(cell.replace(self._decimal, "."))

    def _refuse_lost_dates(self, cells: list[str]) -> None:
        wanted = self._wanted
        for name, cell in zip(self._header, cells, strict=False):
            known = name in (*wanted.time, *wanted.group, *wanted.drop, *self.names)
            if not (known or wanted.time) and name and LIKE_A_DATE.fullmatch(cell):
                raise ValueError(
                    f"{self._path}: column {name!r} begins with {cell!r}, which looks like a date "
                    f"of no format that is recognised. Pass time={name!r} and time_format= with "
                    f"its strptime format; or drop={name!r}, and the rows have no time."
                )

    def _refuse_units(self, rows: list[tuple[int, list[str]]]) -> None:
        """Refuse lines of words above the numbers: of units, or more of the header."""
        for place in self._values:
            cells = [(line, cell) for line, row in rows for cell in row[place : place + 1]]
            words = list(takewhile(lambda each: not re.search(r"\d", each[1]), cells))
            wrong = [each for each in words if not self._is_number(each[1])]
            if wrong and len(words) < len(cells):
                lines = [line - 1 for line, _ in rows[: len(words)]]
                raise ValueError(
                    f"{self._path}, line {wrong[0][0]}, column {self._header[place]!r}: expected a "
                    f"number as below, received {wrong[0][1]!r}. Where such lines hold units or "
                    f"more of the header, pass skiprows={lines} (or header= with several); else "
                    "na_values= with what stands for a missing value."
                )

    def chunks(self) -> Iterator[Chunk]:
        """The rows, some at a time."""
        import pandas as pd

        options = dict(self._pandas)
        asked, width = options.pop("na_values"), len(self._header)
        if asked is None or isinstance(asked, (str, int, float)):
            asked = [] if asked is None else [asked]
        more = asked if isinstance(asked, Mapping) else dict.fromkeys(self.names, asked)
        texts = [place for place in range(width) if self._thousands or place not in self._values]
        if Version(pd.__version__) < Version("3.1"):
            options["float_precision"] = "round_trip"
        options |= {
            "header": self._heads - 1 if self._heads else None,
            "names": list(range(width)),
            "dtype": dict.fromkeys(texts, str),
            "na_values": {
                place: MISSING + list(np.atleast_1d(more.get(name, [])))
                for name, place in zip(self.names, self._values, strict=True)
            },
            "keep_default_na": False,
            "skipinitialspace": True,
            "low_memory": False,
            "chunksize": CHUNK_ROWS,
        }
        size = max(1, self._path.stat().st_size)
        shown = self._wanted.store is not None
        row, doubtful = 0, False
        with self._open() as (text, raw):
            share = lambda: raw.tell() / size  # noqa: E731
            with Progress(f"reading {self._path.name}", share, shown=shown) as progress:
                try:
                    with pd.read_csv(text, **options) as frames:
                        for frame in frames:
                            last = frame[width - 1]
                            doubtful |= bool((last.isna() | (last == "")).any())
                            yield self._chunk(frame, row)
                            row += len(frame)
                            progress.update()
                except pd.errors.ParserError as error:
                    self._refuse_widths(width)
                    raise ValueError(f"{self._path}: {error}. Is a quote left open?") from error
        if doubtful:  # pandas fills a line that is too short
            self._refuse_widths(width)

    def _rows(self, text: Any) -> Iterator[tuple[int, list[str]]]:
        return islice(self._cells(self._lines(text)), self._heads, None)

    def _refuse_widths(self, width: int) -> None:
        with self._open() as (text, _):
            for line, cells in self._rows(text):
                if len(cells) != width:
                    raise ValueError(
                        f"{self._path}, line {line}: expected {width} cells as in the header, "
                        f"received {len(cells)}. Correct the line, or pass delimiter=."
                    )

    def _chunk(self, frame: Any, row: int) -> Chunk:
        values = np.empty((len(frame), len(self._values)))
        for column, place in enumerate(self._values):
            values[:, column] = self._numbers(frame[place], row, place)
        self._look_at_infinite(values, row)
        times, labels = (
            self._joined(frame, names) for names in (self._wanted.time, self._wanted.group)
        )
        if times is not None and "" in times:
            # Spreadsheets end a table with lines of empty cells; a row has at least its time.
            texts = frame.astype(object).fillna("").astype(str)
            keep = np.flatnonzero(texts.apply(lambda each: each.str.strip() != "").any(axis=1))
            values = values[keep]
            times, labels = (each and [each[at] for at in keep] for each in (times, labels))
        return Chunk(values, times, labels)

    def _joined(self, frame: Any, names: list[str]) -> list[str] | None:
        """The texts of these columns, joined by a space."""
        columns = [frame[self._header.index(name)].fillna("").tolist() for name in names]
        if len(columns) < 2:
            return [text.strip() for text in columns[0]] if columns else None
        return [" ".join(map(str.strip, texts)).strip() for texts in zip(*columns, strict=True)]

    def _numbers(self, cells: Any, row: int, place: int) -> np.ndarray:
        """Cells as pandas read them, or one by one where it left their texts."""
        if cells.dtype.kind in "iufb":
            numbers: np.ndarray = cells.to_numpy(np.float64)
            return numbers
        texts = cells.astype(object).where(cells.notna(), "")
        return np.array([self._number(str(cell), row + at, place) for at, cell in enumerate(texts)])

    def _number(self, cell: str, row: int, place: int) -> float:
        text = cell.strip().lower()
        if text in NOT_AVAILABLE or text in INFINITE:
            return np.nan
        if text in ("true", "false"):
            return float(text == "true")
        if self._thousands and self._grouped.fullmatch(text):
            text = text.replace(self._thousands, "")
        if self._decimal == ",":
            text = "" if "." in text else text.replace(",", ".")
        # float would read 1_000 and the digits of other scripts too, and 1e400 as infinity.
        number = float(text) if NUMBER.fullmatch(text) else np.inf
        if np.isfinite(number):
            return number
        line, _ = self._line(row)
        raise ValueError(
            f"{self._path}, line {line}, column {self._header[place]!r}: expected a number, "
            f"received {cell!r}. {self._advice(cell.strip(), place)}"
        )

    def _look_at_infinite(self, values: np.ndarray, row: int) -> None:
        """Tell infinity in words, which is missing, from a number that is too large."""
        cells = np.argwhere(np.isinf(values))
        if not len(cells):
            return
        with self._open() as (text, _):
            rows = islice(self._rows(text), row, row + len(values))
            lines = [line for _, line in rows]
        for at, column in cells:
            place = self._values[column]
            values[at, column] = self._number(lines[at][place], row + at, place)

    def _line(self, row: int) -> tuple[int, list[str]]:
        with self._open() as (text, _):
            return next(islice(self._rows(text), row, None))

    def _advice(self, cell: str, place: int) -> str:
        name = self._header[place]
        if re.fullmatch(r"[+-]?\d{1,3}([,.' ]\d{3})+([.,]\d*)?", cell) and not self._thousands:
            return "Pass thousands= with the mark between groups of digits, or decimal=','."
        if re.fullmatch(r"[+-]?\d+,\d*", cell):
            return "Pass decimal=','."
        if NUMBER.fullmatch(cell) and not (self._decimal == "," and "." in cell):
            return "A float64 holds no more than 1.8e308. Correct it, or leave the column out."
        if not self._wanted.time and any(map(str.isdigit, cell)):
            return (
                f"If it is a time, pass time={name!r} and time_format= with its strptime format; "
                f"else correct it, or leave the column out with drop={name!r}."
            )
        return (
            f"If it stands for a missing value, pass na_values={[cell]!r}; else correct it, or "
            f"leave the column out with drop={name!r}."
        )
