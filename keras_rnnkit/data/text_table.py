"""The cells of a text table: pandas reads them, and errors name line and column."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from packaging.version import Version

from keras_rnnkit.data.columns import check_whole
from keras_rnnkit.data.labels import join_labels
from keras_rnnkit.data.tables import CHUNK_ROWS, Chunk, Wanted
from keras_rnnkit.data.time_formats import (
    NUMBER,
    compact_format,
    is_compact_date,
    is_time,
    likely_format,
)
from keras_rnnkit.progress import Progress

__all__ = ["TextTable"]

DELIMITERS = ",;\t|"
NOT_AVAILABLE = ("", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>", "-", "?", ".")
INFINITE = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
MISSING = [form(word) for word in NOT_AVAILABLE for form in (str, str.upper, str.title)] + ["NaN"]
CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d)?( ?[AP]M)?", re.ASCII | re.IGNORECASE)
MONTH = r"(\d{1,4}|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*)"
TIME_NAME = re.compile(r"time|date|date[-_ ]?time|time[-_ ]?stamp", re.IGNORECASE)
TORN = re.compile(r"[+-]?\d+,\d+(\.\d*)?", re.ASCII)
BLANKS = " \u00a0\u202f"  # the plain one, and two that do not break
MARKS = "()%‰$€£¥°-+\u2212" + BLANKS  # around what a reader takes for a number
LIKE_A_DATE = re.compile(rf"{MONTH}[-/., ]+{MONTH}[-/., ]+\d{{2,4}}\b.*", re.ASCII | re.IGNORECASE)


def _is_number(cell: str) -> bool:
    text = cell.strip().lower()
    return bool(NUMBER.fullmatch(text)) or text in NOT_AVAILABLE or text in INFINITE


def _texts(column: Any) -> list[str]:
    """The texts of a column; a part that pandas read as numbers holds no dates."""
    return (column.astype(str) if column.dtype.kind in "iufb" else column).tolist()


class TextTable:
    """The columns of a text table, and its rows a chunk at a time.

    Args:
        path: of the file.
        open_text: opens its text, and the file itself.
        wanted: the arguments; `time` is found here if it is not given.
        given: the names of all columns of the file, if `header=` was passed with them.
        pandas: arguments of pandas.

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
        self._labels: dict[str, tuple[Any, ...]] = {}  # of groups, and what they are joined from
        self._marks = BLANKS if thousands and thousands in BLANKS else thousands or ""
        grouped = rf"[+-]?[1-9]\d{{0,2}}([{re.escape(self._marks or ' ')}]\d{{3}})+"
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
            self._refuse_blanks([text for _, text in lines[self._heads :]])
        numbered = [(at, [*map(str.strip, row)]) for at, row in self._cells(iter(lines))]
        rows = [row for _, row in numbered]
        if len(rows) <= self._heads:
            raise ValueError(f"{path} holds a header and no rows.")
        # A quote behind a blank is one only where pandas skips it, for which it takes its time.
        self._spaced = any(re.search(r"(^|[^\w\s])[ ]+\"", line) for _, line in lines)
        heads, body = [rows[place] for place in places], numbered[self._heads :]
        body = [(at, row) for at, row in body if any(row)] or body
        rows = [row for _, row in body]
        if given is not None:
            header = [str(name) for name in given]
        elif heads:
            header = [
                " ".join(filter(None, dict.fromkeys(parts))) for parts in zip(*heads, strict=False)
            ]
        else:
            header = [str(place) for place in range(len(rows[0]))]
        self._header = self._fit(header, body, given)
        self._find_time(rows)
        # Dates pandas leaves as texts by itself, which takes it less time than to be told.
        self._dates = [p for p, cell in enumerate(rows[0]) if not self._is_number(cell)]
        self.names, self._values = wanted.choose(path, self._header)
        self._refuse_lost_dates(rows[0])
        self._refuse_units(body)

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

        delimiter = self._pandas["delimiter"]
        if delimiter == r"\s+":
            yield from ((at, text.split()) for text in texts())
            return
        marks = ("quotechar", "quoting", "doublequote", "escapechar")
        same = {name: self._pandas[name] for name in marks if name in self._pandas}
        for row in csv.reader(texts(), delimiter=delimiter, skipinitialspace=True, **same):
            yield at, row

    def _common_delimiter(self, lines: list[str]) -> str:
        """The delimiter that occurs in every line; else the commonest one in the header."""
        plain = [re.sub('"[^"]*"', "", line) for line in lines[max(0, self._heads - 1) :]]
        marks = [mark for mark in DELIMITERS if mark != self._decimal]
        return max(
            marks, key=lambda mark: (min(line.count(mark) for line in plain), plain[0].count(mark))
        )

    def _refuse_blanks(self, lines: list[str]) -> None:
        """Refuse as many words in each line, a number at their end, and no delimiter."""
        rows = [re.split(r"\s+", line.strip(), flags=re.ASCII) for line in lines]
        marks = set(DELIMITERS) - {self._decimal}
        if self._thousands or any(marks & set(line) for line in lines):
            return
        width = max(map(len, rows), default=1)
        if width > 1 and all(len(row) == width and self._is_number(row[-1]) for row in rows):
            raise ValueError(
                f"{self._path} has none of the delimiters , ; | and tab, and {width} words in each "
                r"line. If blanks separate its cells, pass delimiter=r'\s+'; if they group digits, "
                "thousands=' '."
            )

    def _fit(
        self, header: list[str], numbered: list[tuple[int, list[str]]], given: Sequence[str] | None
    ) -> list[str]:
        """A name for each column; R and UCI leave out that of the row names."""
        rows = [row for _, row in numbered]
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
        if more < 1:
            return header
        if all(not any(row[len(header) :]) for row in rows):
            return header + [""] * more
        if (more > 1 and given is None) or any(len(row) != len(rows[0]) for row in rows):
            self._refuse_widths(len(header))
        if given is None and self._has_row_names(header[0], rows):
            return ["", *header]
        raise ValueError(
            f"{self._path}, line {numbered[0][0]}: received {len(rows[0])} cells, and names for "
            f"{len(header)} columns: {', '.join(map(repr, header))}. If a mark within numbers was "
            "taken for the delimiter, pass decimal=',' or thousands=',' with delimiter= (numbers "
            "between commas that hold a comma themselves need quotes). Else pass header="
            f"{0 if self._named else self._pandas['header']} and names= with names for all "
            f"{len(rows[0])} columns."
        )

    def _has_row_names(self, first: str, rows: list[list[str]]) -> bool:
        """Whether the first column holds row names, and `first` is the name of the second one.

        They are all different, and numbers only if they count the rows. No two neighbouring
        columns may be one number that the delimiter has torn.
        """
        wanted, delimiter, cells = self._wanted, self._pandas["delimiter"], [row[0] for row in rows]
        if len({*cells}) < len(cells) or first in wanted.group or delimiter == self._thousands:
            return False
        if any(map(self._is_number, cells)):
            if not all(map(str.isdecimal, cells)):
                return False
            if any(int(cell) != int(cells[0]) + at for at, cell in enumerate(cells)):
                return False
        if delimiter == "," and any(
            all(TORN.fullmatch(f"{row[at]},{row[at + 1]}") for row in rows)
            for at in range(len(rows[0]) - 1)
        ):
            return False
        return is_time(rows[0][1]) or not (
            first in (wanted.time or ()) or TIME_NAME.fullmatch(first)
        )

    def _find_time(self, rows: list[list[str]]) -> None:
        """Find the column of times; or that of dates and that of times of day."""
        wanted, header, time_format = self._wanted, self._header, self._wanted.time_format
        asked = [*(wanted.time or ()), *wanted.group, *wanted.drop, *(wanted.names or ())]
        found: list[int] = []
        if wanted.time is None:
            cells = [
                (place, cell)
                for place, cell in enumerate(rows[0][: len(header)])
                if header[place] not in wanted.drop
            ]
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
                    clocks = [place for place, cell in cells if CLOCK.fullmatch(cell)]
                    found += [p for p in clocks if self._is_clock(p, found[0], rows)][:1]
            if not found:
                left = {
                    place: [cell for cell in column if cell.lower() not in NOT_AVAILABLE]
                    for place, column in enumerate(zip(*rows, strict=False))
                    if (header[place] or place == 0)
                    and (header[place] or f"Unnamed: {place}") not in asked
                }
                found = [
                    p for p, column in left.items() if column and all(map(is_compact_date, column))
                ]
                found = found[:1]
                if not found:
                    self._refuse_numbers_of_time(left)
            asked += [f"Unnamed: {place}" for place in found]
        for place, name in enumerate(header):
            if not name and f"Unnamed: {place}" in asked:  # as pandas calls it
                header[place] = f"Unnamed: {place}"
        if wanted.time is None:
            wanted.time = [header[place] for place in found]

    def _is_clock(self, place: int, dates: int, rows: list[list[str]]) -> bool:
        """Whether times of day belong to dates: by their name, or since a date comes again."""
        keys = [dates, *(self._header.index(g) for g in self._wanted.group if g in self._header)]
        days = {tuple(row[key] for key in keys if key < len(row)) for row in rows}
        return bool(TIME_NAME.fullmatch(self._header[place])) or len(days) < len(rows)

    def _refuse_numbers_of_time(self, columns: dict[int, list[str]]) -> None:
        """Refuse numbers that are times by their look, in the first column, or by their name."""
        first = min((place for place in columns if self._header[place]), default=0)
        for place, cells in columns.items():
            if not cells or not all(map(NUMBER.fullmatch, cells)):
                continue
            name = self._header[place] or f"Unnamed: {place}"
            numbers = [float(cell) for cell in cells]
            compact = compact_format(cells)
            if (place <= first and compact) or (
                TIME_NAME.fullmatch(name) and numbers == sorted(numbers)
            ):
                time_format = compact or likely_format(cells[0])
                raise ValueError(
                    f"{self._path}: column {name!r} begins with {cells[0]!r}, and may be the time. "
                    f"If it is, pass time={name!r} and time_format= with {time_format!r} or what "
                    f"else it holds; if the rows have no time, pass drop={name!r}, or names= with "
                    "it to keep its numbers."
                )

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
        """Refuse lines of words above the numbers, such as units or a second header line."""
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
        more = asked if isinstance(asked, Mapping) else dict.fromkeys(self.names, asked)
        times = {self._header.index(name) for name in self._wanted.time}.intersection(self._dates)
        texts = set(range(width)) - (set() if self._thousands else times.union(self._values))
        if Version(pd.__version__) < Version("3.1"):
            options["float_precision"] = "round_trip"
        options |= {
            "header": self._heads - 1 if self._heads else None,
            "names": list(range(width)),
            "dtype": dict.fromkeys(texts, str),
            "na_values": {
                place: MISSING + more.get(name, [])
                for name, place in zip(self.names, self._values, strict=True)
            },
            "keep_default_na": False,
            "skipinitialspace": self._spaced,
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
                            empty = last.isna() if last.dtype.kind in "iufb" else last == ""
                            doubtful |= bool((empty | last.isna()).any())
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
            lost = np.array([not text for text in times])
            told = frame[lost].map(lambda cell: cell == cell and str(cell).strip() != "")
            lost[lost] = ~told.any(axis=1).to_numpy()
            keep = np.flatnonzero(~lost)
            values = values[keep]
            times, labels = (each and [each[at] for at in keep] for each in (times, labels))
        return Chunk(values, times, labels)

    def _joined(self, frame: Any, names: list[str]) -> list[str] | None:
        """The texts of these columns, joined by a space."""
        columns = [_texts(frame[self._header.index(name)]) for name in names]
        if len(columns) < 2:
            return list(map(str.strip, columns[0])) if columns else None
        columns = [list(map(str.strip, texts)) for texts in columns]
        if names is self._wanted.group:
            return join_labels(columns, self._labels)
        return [" ".join(texts).strip() for texts in zip(*columns, strict=True)]

    def _numbers(self, cells: Any, row: int, place: int) -> np.ndarray:
        """Numbers as pandas read them, or cell by cell if it left them as text."""
        if cells.dtype.kind in "iufb":
            check_whole(cells.to_numpy(), [self._header[place]])
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
            text = text.translate(dict.fromkeys(map(ord, self._marks)))
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
        """Distinguish infinity in words, which is missing, from a number that is too large."""
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
        if (
            re.fullmatch(r"[+-]?\d{1,3}([,.'\u2019\s]\d{3})+([.,]\d*)?", cell)
            and not self._thousands
        ):
            return "Pass thousands= with the mark between groups of digits, or decimal=','."
        if re.fullmatch(r"[+-]?\d+,\d*", cell):
            return "Pass decimal=','."
        if NUMBER.fullmatch(cell) and not (self._decimal == "," and "." in cell):
            return "A float64 holds no more than 1.8e308. Correct it, or leave the column out."
        bare = cell.strip(MARKS)
        if bare != cell.lstrip("+-") and re.fullmatch(r"\d+([.,'\s]\d+)*", bare):
            return (
                "It reads like a number, with marks that are none of it. Write it in the file with "
                "the digits 0 to 9, '-' and the decimal mark alone; or correct the column with "
                "pandas, and make a TimeSeries of the frame."
            )
        if self._wanted.time and CLOCK.fullmatch(cell):
            return (
                f"If it is the time of day of the rows, pass time={[*self._wanted.time, name]!r}; "
                f"else leave the column out with drop={name!r}."
            )
        if not self._wanted.time and any(map(str.isdigit, cell)):
            return (
                f"If it is a time, pass time={name!r} and time_format= with its strptime format; "
                f"else correct it, or leave the column out with drop={name!r}."
            )
        return (
            f"If it stands for a missing value, pass na_values={[cell]!r}; else correct it, or "
            f"leave the column out with drop={name!r}."
        )
