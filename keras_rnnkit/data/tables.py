"""A table, read in chunks of rows, to a TimeSeries in memory or in a memory-mapped file."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.data.labels import join_labels
from keras_rnnkit.data.series import Runs, TimeSeries, without_sentinels
from keras_rnnkit.data.store import Spool, identity, write_store
from keras_rnnkit.data.time_formats import UNIX, TimeReader, in_words
from keras_rnnkit.data.times import Times, as_times, finish, moment
from keras_rnnkit.data.zones import as_zone, comes_twice, second_of_two, to_local, zone_name

__all__ = ["CHUNK_ROWS", "Chunk", "Wanted", "build_series", "labels_of", "table_file"]

CHUNK_ROWS = 1 << 16
NUMBERS = (*UNIX, "count", "excel")
OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
HOUR = re.compile(r"hrs?|hh?|.*(hour|clock|stunde|heure|hora).*", re.IGNORECASE)
WHOLE = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)


def table_file(path: str | PathLike[str], *, parquet: bool = False) -> Path:
    """The path of a table, which must be a file, and none of another kind."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"path= must be a file, received the directory {path}.")
    if not path.exists():
        raise FileNotFoundError(f"path= names no file: {path}")
    with path.open("rb") as file:
        begin = file.read(len(OLD_EXCEL))
        if begin == OLD_EXCEL or (begin[:4] == b"PK\3\4" and _is_workbook(file)):
            raise ValueError(
                f"{path} is a spreadsheet. Read it with pandas and make a series of the frame: "
                f"keras_rnnkit.TimeSeries(pandas.read_excel({str(path)!r}))."
            )
    if begin[:4] == b"PAR1" and not parquet:
        raise ValueError(f"{path} is a Parquet file, no text. Read it with read_parquet.")
    return path


def _is_workbook(file: Any) -> bool:
    """Whether a zip archive is a spreadsheet of Excel's or of LibreOffice's."""
    try:
        names = zipfile.ZipFile(file).namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # the reader of archives says what is wrong
    return any(name in ("xl/workbook.xml", "xl/workbook.bin", "content.xml") for name in names)


@dataclass
class Wanted:
    """The arguments of `read_csv` and `read_parquet` that do not depend on the kind of file.

    `time`, `group` and `drop` become lists; `time` stays None if the column is to be found.
    """

    time: Any
    group: Any
    names: Sequence[str] | None
    drop: Any
    time_format: str | None
    na_values: Any
    freq: Any
    sort: bool
    duplicates: str
    zone: str | tzinfo | None
    store: str | PathLike[str] | None

    def __post_init__(self) -> None:
        """Refuse arguments that no file can satisfy."""
        if self.duplicates not in ("error", "first", "last"):
            raise ValueError(
                f"duplicates= must be 'error', 'first' or 'last', received {self.duplicates!r}."
            )
        if isinstance(self.names, str):
            raise ValueError(f"names= must be a list of column names, received {self.names!r}.")
        if self.store is not None and not Path(self.store).parent.is_dir():
            raise FileNotFoundError(
                f"store= lies in a folder that does not exist: {Path(self.store).parent}"
            )
        if self.time is None and self.time_format in NUMBERS:
            raise ValueError(
                f"time_format={self.time_format!r} needs time=, the column that holds it."
            )
        self.time = None if self.time is None else _listed(self.time)
        self.group, self.drop = _listed(self.group), _listed(self.drop)

    def told(self, path: Path, *others: Any) -> dict[str, Any]:
        """How a mapped file is made, for its manifest, with other arguments."""
        if self.store is not None and Path(self.store).resolve() == path.resolve():
            raise ValueError(f"store= names the table itself: {path}")
        return {"source": identity(path), "arguments": repr((self, others))}

    def choose(self, path: Path, header: list[str]) -> tuple[list[str], list[int]]:
        """Names and positions of the columns of values: by default all without another role.

        Args:
            path: of the table.
            header: the names of its columns, empty where one has none.
        """
        others = [*(self.time or ()), *self.group]
        names = self.names
        if names is None:
            names = [name for name in header if name and name not in (*others, *self.drop)]
        asked = [*others, *self.drop, *names]
        unknown = [name for name in asked if name not in header]
        if unknown:
            raise ValueError(
                f"{path} has no column {', '.join(map(repr, unknown))}. "
                f"Its columns are: {', '.join(map(repr, header))}."
            )
        doubled = [name for name in (*others, *names) if header.count(name) > 1]
        if doubled:
            raise ValueError(f"{path} has two columns {doubled[0]!r}: rename one.")
        if not names:
            raise ValueError(f"{path} has no column of numbers besides {', '.join(others)}.")
        return list(names), [header.index(name) for name in names]


@dataclass
class Chunk:
    """Some rows of a table.

    Attributes:
        values: `(rows, columns)` float64.
        times: `(rows,)` texts, or anything that `as_times` reads; None without times.
        labels: `(rows,)` labels of the groups; None without groups.
    """

    values: np.ndarray
    times: Any
    labels: Any


class _Grown:
    """Rows in memory, in an array that grows."""

    def __init__(self) -> None:
        self._rows: np.ndarray | None = None

    def append(self, rows: np.ndarray) -> None:
        if self._rows is None or not len(self._rows):
            self._rows = np.array(rows)
            return
        if not len(rows):
            return
        before = len(self._rows)
        dtype = np.promote_types(self._rows.dtype, rows.dtype)
        self._rows = self._rows.astype(dtype, copy=False)
        self._rows.resize((before + len(rows), *rows.shape[1:]), refcheck=False)
        self._rows[before:] = rows

    def all(self) -> np.ndarray:
        return np.empty(0) if self._rows is None else self._rows


def build_series(
    path: Path, chunks: Iterator[Chunk], names: list[str], wanted: Wanted, told: dict[str, Any]
) -> TimeSeries:
    """A series from the rows of a table, in memory or, with `wanted.store`, in a mapped file.

    Args:
        path: of the table.
        chunks: its rows.
        names: of the columns of values.
        wanted: the arguments.
        told: how the file is made, for the manifest of a mapped file.
    """
    given = {
        "zone=": wanted.zone is not None,
        "sort=True": wanted.sort,
        f"duplicates={wanted.duplicates!r}": wanted.duplicates != "error",
    }
    for argument in [each for each in given if given[each] and not wanted.time]:
        raise ValueError(f"{argument} needs times, and {path} has no column of them: pass time=.")
    if wanted.store is not None:
        folder = Path(wanted.store).parent
        with Spool(folder) as values, Spool(folder) as times, Spool(folder) as codes:
            return _gathered(path, chunks, names, wanted, told, (values, times, codes))
    return _gathered(path, chunks, names, wanted, told, (_Grown(), _Grown(), _Grown()))


def _gathered(
    path: Path,
    chunks: Iterator[Chunk],
    names: list[str],
    wanted: Wanted,
    told: dict[str, Any],
    sinks: tuple[Any, ...],
) -> TimeSeries:
    into_values, into_times, into_codes = sinks
    what = called(wanted.time or ())
    reader, read = TimeReader(wanted.time_format), None
    codes_of: dict[Any, int] = {}
    row = 0
    for chunk in chunks:
        into_values.append(without_sentinels(chunk.values, tuple(names), wanted.na_values))
        if wanted.time and isinstance(chunk.times, list):
            try:
                reader.add(chunk.times)
            except ValueError as error:
                raise in_words(error, wanted.time_format, what) from error
            into_times.append(reader.take())
        elif wanted.time:
            read = as_times(
                chunk.times, time_format=wanted.time_format, zone=wanted.zone, what=what
            )
            into_times.append(read.values)
        if wanted.group:
            into_codes.append(_codes(chunk.labels, codes_of, wanted.group, row))
        row += len(chunk.values)
    if not row:
        raise ValueError(f"{path} holds a header and no rows.")
    codes = into_codes.all() if wanted.group else None
    times = None
    if wanted.time:
        if read is None:
            try:
                into_times.append(reader.take(last=True))
            except ValueError as error:
                raise in_words(error, wanted.time_format, what) from error
            read_as, later = into_times.all(), None
            local = wanted.zone is not None and not (reader.zones or wanted.time_format in UNIX)
            local = local and read_as.dtype.kind == "M" and wanted.duplicates == "error"
            if local and not wanted.sort:
                later = second_of_two(read_as, as_zone(wanted.zone), codes)
            times = finish(read_as, reader.zones, wanted.time_format, wanted.zone, what, later)
            if local:
                _refuse_changes(path, read_as, times, codes, wanted)
        else:
            times = Times(into_times.all(), read.zone)
    values = into_values.all()
    if times is not None:
        _refuse_hours(path, values, names, times, codes, wanted)
    order = _order(times, codes, wanted)
    if order is not None:
        times = None if times is None else Times(times.values[order], times.zone)
        codes = None if codes is None else codes[order]
    group = None
    if codes is not None:
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        found = list(codes_of)
        labels = whole_numbers([found[code] for code in codes[starts]])
        group = Runs(np.append(starts, len(codes)), labels, reordered=order is not None)

    def series(rows: np.ndarray) -> TimeSeries:
        return TimeSeries(rows, names=names, time=times, group=group, freq=wanted.freq)

    if wanted.store is not None:
        return write_store(Path(wanted.store), values, order, series, told)
    return series(values if order is None else values[order])


def labels_of(columns: list[list[Any]], joined: dict[str, tuple[Any, ...]]) -> list[Any] | None:
    """Labels of groups from columns of any type; of several as `join_labels` joins them."""
    read = [[_label(each) for each in column] for column in columns]
    if len(read) < 2:
        return read[0] if read else None
    rows = zip(join_labels(read, joined), *read, strict=True)
    return [label if "" not in row else "" for label, *row in rows]


def _label(label: Any) -> Any:
    """A label as a number or text; empty if it is missing."""
    if isinstance(label, str) or (isinstance(label, int) and not isinstance(label, bool)):
        return label
    if label is None or label != label or str(label) in ("<NA>", "NaT"):
        return ""
    return int(label) if isinstance(label, float) and label.is_integer() else str(label)


def whole_numbers(labels: list[Any]) -> tuple[Any, ...]:
    """Labels as integers if all of them are written as integers."""
    if all(isinstance(each, str) and WHOLE.fullmatch(each) for each in labels):
        return tuple(map(int, labels))
    return tuple(labels)


def _codes(labels: Any, codes_of: dict[Any, int], group: list[str], row: int) -> np.ndarray:
    """A number for each label, in order of first appearance."""
    codes = np.array([codes_of.setdefault(label, len(codes_of)) for label in labels], np.int32)
    lost = codes_of.get("")
    if lost is not None:
        at = row + int((codes == lost).argmax())
        raise ValueError(f"{called(group)}: row {at} (counted from 0) has no group.")
    return codes


def _order(times: Times | None, codes: np.ndarray | None, wanted: Wanted) -> np.ndarray | None:
    """The rows to keep, group by group: sorted, without duplicates, as asked; None for all.

    Args:
        times: of the rows.
        codes: of their groups, in the order of the file.
        wanted: the arguments.
    """
    sort, once = wanted.sort, wanted.duplicates != "error"
    if not (sort or once):
        if codes is None or (codes[1:] >= codes[:-1]).all():
            return None
        return np.argsort(codes, kind="stable")
    keys = (times.values,) if codes is None else (times.values, codes)  # type: ignore[union-attr]
    order = np.lexsort(keys)
    keep = np.ones(len(order), dtype=bool)
    if once:
        same = np.logical_and.reduce([key[order[1:]] == key[order[:-1]] for key in keys])
        keep[order[1:][same] if wanted.duplicates == "first" else order[:-1][same]] = False
    order = order[keep[order]] if sort else np.flatnonzero(keep)
    if not sort and codes is not None:
        order = order[np.argsort(codes[order], kind="stable")]
    return None if np.array_equal(order, np.arange(len(keep))) else order


def _refuse_changes(
    path: Path, local: np.ndarray, times: Times, codes: np.ndarray | None, wanted: Wanted
) -> None:
    """Refuse times out of order because the clocks are set back or forward there.

    Args:
        path: of the table.
        local: the times as they were read.
        times: what they are in their zone.
        codes: of the groups.
        wanted: the arguments.
    """
    zone: Any = times.zone
    order = np.arange(len(local))
    if wanted.sort:
        order = np.argsort(times.values, kind="stable")
    if codes is not None:
        order = order[np.argsort(codes[order], kind="stable")]
    pairs = np.stack([order[:-1], order[1:]])
    wrong = times.values[pairs[1]] <= times.values[pairs[0]]
    if codes is not None:
        wrong &= codes[pairs[1]] == codes[pairs[0]]
    pairs = pairs[:, wrong]
    if not pairs.size:
        return
    for rows, what in (
        (comes_twice(local, zone), "comes twice there, as the clocks are set back"),
        (to_local(times.values, zone) != local, "is left out there, as the clocks are set forward"),
    ):
        found = np.where(rows[pairs], pairs, -1).max(axis=0)
        if found.max() >= 0:
            row = found[found >= 0][0]
            raise ValueError(
                f"{path}: {called(wanted.time)} does not increase in {zone_name(zone)}: row {row} "
                f"(counted from 0) holds {moment(local[row])}, in an hour that {what}. If the "
                "times are those of another clock, such as UTC or winter time throughout, pass "
                "zone= with it (zone='UTC', '+01:00'); else leave out zone=, or write the times "
                "with their offsets. (An hour that comes twice is read where its rows are in "
                "order, each time twice, and sort=False; duplicates= would lose it.)"
            )


def _refuse_hours(
    path: Path,
    values: np.ndarray,
    names: list[str],
    times: Times,
    codes: np.ndarray | None,
    wanted: Wanted,
) -> None:
    """Refuse repeated dates if another column holds the hour of the day."""
    if times.values.dtype.kind != "M" or wanted.duplicates != "error":
        return
    again = times.values[1:] == times.values[:-1]
    if codes is not None:
        again &= codes[1:] == codes[:-1]
    if not again.any() or (times.values.astype("datetime64[D]") != times.values).any():
        return
    for name, column in zip(names, values.T, strict=True):
        if not HOUR.fullmatch(name):
            continue
        hours = (column >= 0) & (column < 24) & (column % 1 == 0)
        if hours.all() and (np.diff(column)[again] > 0).all():
            raise ValueError(
                f"{path}: {called(wanted.time)} holds days alone, and {again.sum():,} of them come "
                f"again, while {name!r} counts the hours of each. "
                f"Pass time={[*wanted.time, name]!r}."
            )


def called(names: Sequence[str]) -> str:
    """Columns, as named in an error."""
    return f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)
