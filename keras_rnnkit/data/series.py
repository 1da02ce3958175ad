"""TimeSeries: rows of numbers in time order, one series or a panel of many."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.data.columns import check_order, check_whole, make_column
from keras_rnnkit.data.labels import join_labels
from keras_rnnkit.data.maps import check_file, pack_map, unpack_map
from keras_rnnkit.data.steps import format_duration, infer_step, parse_step, steps_between
from keras_rnnkit.data.time_formats import compact_dates
from keras_rnnkit.data.times import Times, as_times, is_date, is_period, moment
from keras_rnnkit.data.zones import comes_twice, to_local, zone_name

__all__ = [
    "Runs",
    "TimeSeries",
    "as_series",
    "as_table",
    "holds_dates",
    "row_chunks",
    "without_sentinels",
]

CHUNK_BYTES = 1 << 22
# Objects of these packages read their whole file when they are made an array.
ON_DISK = ("h5py", "zarr", "dask")


class Runs:
    """Groups whose rows are contiguous, as `group=` of a `TimeSeries`.

    Args:
        bounds: `(groups + 1,)` first row of each, and the number of rows.
        labels: of the groups.
        reordered: whether their rows were brought together.
    """

    def __init__(self, bounds: np.ndarray, labels: tuple[Any, ...], *, reordered: bool) -> None:
        self.bounds, self.labels, self.reordered = bounds.astype(np.int64), labels, reordered

    def __len__(self) -> int:
        return int(self.bounds[-1])


def row_chunks(values: np.ndarray) -> Iterator[slice]:
    """Slices of rows of about 4 MB, so that a pass over the data stays small in memory."""
    rows = max(1, CHUNK_BYTES // max(1, values.shape[1] * values.itemsize))
    for start in range(0, len(values), rows):
        yield slice(start, min(start + rows, len(values)))


class TimeSeries:
    """Rows of numbers in time order: one series, or a panel of many, distinguished by `group`.

    Each row is a time step. Between two rows of a group that are further apart than the sampling
    rate `freq` lies a *gap*. A run of rows of one group without a gap is a *segment*, and a window
    never leaves its segment.

    Args:
        values: numbers, shape `(rows, columns)` or `(rows,)`, or `(series, time steps, columns)` of
            series of equal length, with a `group` label for each series (by default its number)
            and a `time` for each step; or a DataFrame that narwhals reads
            (pandas, polars, PyArrow, ...); or the path of a `.npy` file, which is mapped, not
            read. Floating-point arrays and memory maps are not copied; other arrays of integers
            are converted to floating point. NaN and infinity are missing values.
        names: column names. From a DataFrame: the columns to read. Default: all of them, or
            `"0"`, `"1"`, ... for an array.
        time: `(rows,)` times (`datetime64`, `datetime`, text) or integers, increasing in each
            group; from a DataFrame, the name of its column (by default its only column of
            dates, or its pandas `DatetimeIndex`). None: rows follow each other without a gap.
        group: `(rows,)` labels, or a DataFrame's column, or several columns. Rows of one group need
            not be contiguous; they are brought together in order, groups in order of first
            appearance. Labels of several columns are joined by a space.
        na_values: number or numbers that stand for a missing value, such as `[-9999]`, or a mapping
            from column name to them. They become NaN (in a copy), as do masked entries of a NumPy
            masked array.
        freq: sampling rate, the step of time between rows: `"10min"`, `"1h"`, a timedelta, an
            integer for integer times; or `"rows"`: every row follows the one before, whatever
            their times. Days, weeks, months and years are counted on the calendar of the zone.
            Default: the commonest step, which must be that of every group.
        time_format: `strptime` format of text in `time`, `"unix"` or `"count"`; see `read_csv`.
        zone: name of the time zone, such as `"Europe/Berlin"`. Times with an offset from UTC, and
            seconds since 1970, are converted to it; others are taken for local times there.
            Default: the zone of the times, if they have one.

    Attributes:
        values: `(rows, columns)` floating point, or integers in a memory map.
        names: column names.
        time: `(rows,)` `datetime64` or `int64`, or None; in UTC if the series has a zone.
        zone: the time zone, a `tzinfo`, or None.
        freq: `timedelta64`, int, `"rows"` or None.
        groups: labels of the groups, in order; `(None,)` without `group`.
        bounds: `(len(groups) + 1,)` first row of each group, and the number of rows.
        target_rows: `(parts, 2)` `[start, stop)` rows that may be targets: all of them, until
            `split` narrows them.
        reordered: whether the rows are in another order than in the input: those of each group
            brought together, or new ones appended.
        made: rules of columns added by `with_columns`, by name: those that are computed again for
            future rows.

    Raises:
        ValueError: no rows, a column without any number, whole numbers beyond 2**53 (which
            floating point rounds), times unsorted or twice, a group with another sampling rate,
            different groups whose joined labels are the same, names that do not fit.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> hours = np.datetime64("2024-01-01T00", "h") + np.array([0, 1, 2, 5, 6])
        >>> series = rk.TimeSeries([[1.0], [2.0], [3.0], [4.0], [5.0]], names=["T"], time=hours)
        >>> series.segments().tolist()
        [[0, 3], [3, 5]]
        >>> series
        TimeSeries: 5 rows x 1 column
          time     2024-01-01 00:00:00 to 2024-01-01 06:00:00, a row every 1 h, 1 gap
          missing  none
          columns  T
    """

    def __init__(
        self,
        values: Any,
        *,
        names: Sequence[str] | None = None,
        time: Any = None,
        group: Any = None,
        na_values: float | Sequence[float] | Mapping[str, Any] | None = None,
        freq: Any = None,
        time_format: str | None = None,
        zone: str | tzinfo | None = None,
    ) -> None:
        """Read, check and order the rows; see the class."""
        values, names, time, group = _columns(values, names, time, group)
        check_file(values)
        rows = len(values)
        if not rows:
            raise ValueError("values= holds no rows: expected at least one.")
        if time is not None:
            time, zone = as_times(time, time_format=time_format, zone=zone)
        elif zone is not None:
            raise ValueError("zone= needs time=: it is the zone of the times.")
        for what, column in (("time", time), ("group", group)):
            if column is not None and len(column) != rows:
                raise ValueError(f"{what}= has {len(column)} entries for {rows} rows of values.")
        groups, bounds, order = _gather_groups(group, rows)
        if order is not None:
            values = values[order]
            time = None if time is None else time[order]
            values = _floating(np.asarray(values))  # in memory now
        values = without_sentinels(values, names, na_values)
        if freq is not None and freq != "rows":
            freq = parse_step(freq)
            if time is None:
                raise ValueError("freq= needs time=: without times rows follow each other.")
            counted = time.dtype.kind == "i"
            if counted == isinstance(freq, np.timedelta64):
                wanted = "a whole number, as the times are" if counted else "a duration"
                raise ValueError(f"freq= must be {wanted}, received {freq!r}.")
        breaks = bounds[1:-1]
        if time is not None:
            inside = np.ones(rows - 1, dtype=bool)
            inside[breaks - 1] = False
            _check_sorted(time, inside, zone)
            inferred = freq is None
            if inferred:
                freq = infer_step(time, inside, zone)
            if freq is not None and freq != "rows":
                follows = steps_between(time, freq, zone)
                if inferred and len(groups) > 1:
                    _check_one_step(time, zone, freq, follows & inside, groups, bounds)
                breaks = np.union1d(breaks, np.flatnonzero(~follows) + 1)
        self.values: np.ndarray = values
        self.names: tuple[str, ...] = names
        self.time: np.ndarray | None = time
        self.zone: tzinfo | None = zone
        self.freq: np.timedelta64 | int | str | None = freq
        self.groups: tuple[Any, ...] = groups
        self.bounds: np.ndarray = bounds
        self.target_rows = np.array([[0, rows]], dtype=np.int64)
        self.reordered = order is not None or getattr(group, "reordered", False)
        self.made: dict[str, Any] = {}
        self._breaks = breaks
        self._refuse_empty_columns()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def local_time(self) -> np.ndarray | None:
        """`(rows,)` local time of each row; without a zone the same as `time`."""
        if self.time is None or self.zone is None:
            return self.time
        return to_local(self.time, self.zone)

    def columns(self, names: Sequence[str] | None = None, *, what: str = "names") -> np.ndarray:
        """Positions of columns by name, `(names,)` int64; all of them by default.

        Raises:
            ValueError: a name that no column has, or one given twice.
        """
        if names is None:
            return np.arange(len(self.names))
        if isinstance(names, str):
            names = (names,)
        position = {name: index for index, name in enumerate(self.names)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise ValueError(
                f"{what}= names {', '.join(map(repr, unknown))}, which the series does not have. "
                f"Its columns are: {', '.join(map(repr, self.names))}."
            )
        if len(set(names)) < len(names):
            raise ValueError(f"{what}= names a column twice: {list(names)}.")
        return np.array([position[name] for name in names], dtype=np.int64)

    @classmethod
    def from_wide(
        cls,
        table: Any,
        *,
        series: str = "columns",
        time: Any = None,
        group: str | Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        value: str = "value",
        freq: Any = None,
        time_format: str | None = None,
        zone: str | tzinfo | None = None,
    ) -> "TimeSeries":
        """A panel from a wide table, which has a column or a row for each series.

        Each series goes from its first value to its last, so that their lengths may differ. Missing
        values in between stay missing.

        Args:
            table: a DataFrame; or, with a column for each series, a `TimeSeries`, as `read_csv`
                gives it.
            series: `"columns"`: a column is a series, a row is a time (electricity, exchange
                rates); `"rows"`: a row is a series, a column is a time step (M4, M5).
            time: with `"columns"` the column of times, as in `TimeSeries`; with `"rows"` the time
                of each column of steps. Default there: the names of the columns if these are dates,
                else 0, 1, ...
            group: with `"rows"`, the column that names the series, or several. Default: the row
                number.
            names: the columns to read. Default: all columns of numbers.
            value: name of the one column of the panel.
            freq: step of time between rows; see `TimeSeries`.
            time_format: of times in text; see `TimeSeries`.
            zone: of the times; see `TimeSeries`.

        Raises:
            ValueError: a series without a value, two of one label, an unknown column.

        Example:
            >>> import pandas as pd
            >>> import keras_rnnkit as rk
            >>> m4 = pd.DataFrame({"V1": ["Y1", "Y2"], "V2": [5, 2], "V3": [6, 3], "V4": [7, None]})
            >>> panel = rk.TimeSeries.from_wide(m4, series="rows", group="V1")
            >>> panel.groups, panel["value"].tolist()
            (('Y1', 'Y2'), [5.0, 6.0, 7.0, 2.0, 3.0])
        """
        from keras_rnnkit.data.wide import from_wide

        return from_wide(table, series, time, group, names, value, freq, time_format, zone)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> "TimeSeries":
        r"""Open a file that `read_csv` or `read_parquet` wrote with `store=`, as a memory map.

        Args:
            path: of the `.npy` file, which also holds times and groups.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is not complete, or the table that it was made from has changed since.

        Example:
            >>> import pathlib, tempfile
            >>> import keras_rnnkit as rk
            >>> folder = pathlib.Path(tempfile.mkdtemp())
            >>> _ = (folder / "table.csv").write_text("day,x\n2024-01-01,1\n2024-01-02,2\n")
            >>> _ = rk.read_csv(folder / "table.csv", store=folder / "rows.npy")
            >>> rk.TimeSeries.open(folder / "rows.npy")
            TimeSeries: 2 rows x 1 column
              time     2024-01-01 00:00:00 to 2024-01-02 00:00:00, a row every 1 D, 0 gaps
              missing  none
              columns  x
        """
        from keras_rnnkit.data.store import open_store

        return open_store(Path(path))

    def __getitem__(self, name: str) -> np.ndarray:
        """One column by name, `(rows,)`."""
        if not isinstance(name, str):
            raise TypeError(
                f"a series is indexed by the name of a column, received {name!r}. For rows, index "
                "its values and time, or narrow its targets with split or with_target_rows."
            )
        return self.values[:, self.columns([name])[0]]

    def group_of(self, rows: np.ndarray) -> np.ndarray:
        """Position in `groups` of the group that each row belongs to, same shape as `rows`."""
        return np.searchsorted(self.bounds, rows, side="right") - 1

    def of_rows(self, table: np.ndarray, rows: slice) -> np.ndarray:
        """The entries of a table of groups, for some rows.

        Args:
            table: `(groups, ...)`, or `(1, ...)` if it is the same for all groups.
            rows: `[start, stop)`.

        Returns:
            `(rows, ...)`, or `(1, ...)` if it is the same for all of these rows.
        """
        if len(table) == 1:
            return table
        first, last = self.group_of(np.array([rows.start, rows.stop - 1]))
        if first == last:
            return table[first : first + 1]
        edges = np.clip(self.bounds[first : last + 2], rows.start, rows.stop)
        return np.repeat(table[first : last + 1], np.diff(edges), axis=0)

    def missing_rows(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Rows in which one of these columns (default: any) is missing, sorted, int64."""
        found = [np.empty(0, dtype=np.int64)]
        for start, present in self._present(self.columns(names)):
            found.append(np.flatnonzero(~present.all(axis=1)) + start)
        return np.concatenate(found)

    def missing_counts(self) -> dict[str, int]:
        """The number of missing values by column name, for columns that have any."""
        counts = np.zeros(len(self.names), dtype=np.int64)
        for _, present in self._present(self.columns()):
            counts += len(present) - np.count_nonzero(present, axis=0)
        return {name: int(n) for name, n in zip(self.names, counts, strict=True) if n}

    def _present(self, columns: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """First row and `(rows, columns)` presence of the chunks in which a value is missing."""
        if self.values.dtype.kind != "f":
            return
        whole = len(columns) == len(self.names)
        for chunk in row_chunks(self.values):
            block = self.values[chunk] if whole else self.values[chunk][:, columns]
            # A finite sum proves the whole chunk finite, twenty times faster than asking each.
            with np.errstate(invalid="ignore", over="ignore"):
                if not np.isfinite(block.sum(dtype=np.float64)):
                    yield chunk.start, np.isfinite(block)

    def _refuse_empty_columns(self) -> None:
        empty = np.ones(len(self.names), dtype=bool)
        for chunk in row_chunks(self.values):
            empty &= ~np.isfinite(self.values[chunk]).any(axis=0)
            if not empty.any():
                return
        names = [name for name, column in zip(self.names, empty, strict=True) if column]
        raise ValueError(
            f"{', '.join(map(repr, names))}: every value of the column is missing. "
            "Leave the column out with names=."
        )

    def segments(self, names: Sequence[str] | None = ()) -> np.ndarray:
        """Runs of rows of one group, without a gap in time or a missing value.

        Args:
            names: the columns that must not be missing: none by default, all with None.

        Returns:
            `(segments, 2)` int64, each `[start, stop)`.
        """
        starts = np.concatenate(([0], self._breaks))
        stops = np.concatenate((self._breaks, [len(self)]))
        bad = self.missing_rows(names) if names is None or len(names) else np.empty(0, np.int64)
        if bad.size:
            starts = np.union1d(starts, bad + 1)
            stops = np.union1d(stops, bad)
            # Every start but those just behind a bad row pairs with the next stop.
            starts = starts[starts < len(self)]
            starts = np.setdiff1d(starts, bad)
            stops = stops[np.searchsorted(stops, starts, side="right")]
        return np.stack([starts, stops], axis=1).astype(np.int64)

    def with_target_rows(self, target_rows: np.ndarray) -> "TimeSeries":
        """The same rows, where only these, `(parts, 2)` `[start, stop)`, may be targets."""
        view = copy.copy(self)
        view.target_rows = np.asarray(target_rows, dtype=np.int64).reshape(-1, 2)
        return view

    def with_values(self, values: Any, *, in_order: bool = False) -> "TimeSeries":
        """A copy with other values and the same names, times and targets.

        Columns of `with_columns` are not computed again.

        Args:
            values: `(rows, columns)` numbers, in the order of `self.values`.
            in_order: that they are, where the series has `reordered` its rows.

        Raises:
            ValueError: another shape, text, or a series with `reordered` rows without `in_order`.
        """
        check_order(self, "values=", in_order)
        values = np.asanyarray(values)
        check_whole(values, self.names)
        if values.shape != self.values.shape:
            raise ValueError(
                f"values= must have the shape {self.values.shape}, received {values.shape}."
            )
        view = copy.copy(self)
        view.values = _floating(values)
        view.made = {}
        return view

    def with_columns(self, columns: Mapping[str, Any], *, in_order: bool = False) -> "TimeSeries":
        """A copy with more columns: covariates, lags, the calendar.

        Args:
            columns: by name, a number for each row, in the order of `self.values`; or a rule,
                which is also applied to the rows that `append` and `forecast_windows` add: a
                function of times (local times), such as those of `calendar`; a lag
                `(column, rows)`, the value some rows before in the same segment, missing at its
                beginning; or a mapping from the label of each group to its number.
            in_order: that the numbers for each row are in the order of `self.values`, as those
                computed from columns of the series are. Needed where the series has `reordered`
                its rows, since those of the table that it was made from are in another order.

        Raises:
            ValueError: a name that exists already, a function without times, a column that does not
                fit the rows or holds text, a group without a number, or numbers for each row of a
                series with `reordered` rows without `in_order`.

        Example:
            >>> import numpy as np
            >>> import keras_rnnkit as rk
            >>> series = rk.TimeSeries([1.0, 2.0, 5.0], names=["x"], group=["a", "a", "b"])
            >>> series = series.with_columns({"before": ("x", 1), "shop": {"a": 7, "b": 9}})
            >>> series.values.tolist()
            [[1.0, nan, 7.0], [2.0, 1.0, 7.0], [5.0, nan, 9.0]]
        """
        view = copy.copy(self)
        view.made = {**self.made}
        for name, recipe in columns.items():
            if name in view.names:
                raise ValueError(f"columns= names {name!r}, which the series has already.")
            column = make_column(view, name, recipe, in_order)
            dtype = np.result_type(view.values.dtype, np.float32)
            view.values = np.column_stack([view.values, column]).astype(dtype)
            view.names = (*view.names, str(name))
            if callable(recipe) or isinstance(recipe, (Mapping, tuple)):
                view.made[name] = recipe
        return view

    def append(self, rows: Any) -> "TimeSeries":
        """The series with new rows, which alone may be targets.

        So its windows are those with new targets; `with_target_rows` changes that. Columns of
        `with_columns` are computed for the new rows too.

        Args:
            rows: a `TimeSeries` with the columns of this one (by name) and, as this one, with times
                and groups; without groups also an array or DataFrame. A group may be new.

        Raises:
            ValueError: a column is missing, a row does not follow the last one of its group, or
                only one of the two has times, a zone or groups.

        Example:
            >>> import numpy as np
            >>> import keras_rnnkit as rk
            >>> series = rk.TimeSeries(np.arange(5.0)).append([[5.0], [6.0]])
            >>> len(series), series.target_rows.tolist()
            (7, [[5, 7]])
            >>> inputs, targets = rk.WindowLoader(series, rk.WindowSpec(3))[0]
            >>> targets.ravel().tolist()
            [5.0, 6.0]
        """
        names = [name for name in self.names if name not in self.made]
        given = isinstance(rows, TimeSeries)
        if self.groups != (None,) and not given and np.ndim(rows) != 3:
            raise ValueError(
                "rows= must say the group of each row, as the series does: pass "
                "TimeSeries(rows, group=..., time=...)."
            )
        if not given and np.ndim(rows) == 2 and not hasattr(rows, "columns"):
            rows = TimeSeries(rows, names=names)
        rows = as_series(rows)
        for what, mine, other in (
            ("times", self.time is not None, rows.time is not None),
            ("groups", self.groups != (None,), rows.groups != (None,)),
        ):
            if mine != other:
                raise ValueError(
                    f"rows= {'has no' if mine else 'has'} {what}, and the series "
                    f"{'has' if mine else 'has none'}: make them alike."
                )
        zones = [None if zone is None else zone_name(zone) for zone in (self.zone, rows.zone)]
        if zones[0] != zones[1]:
            raise ValueError(f"rows= is of the zone {zones[1]}, and the series of {zones[0]}.")
        values = rows.values[:, rows.columns(names, what="series")]
        return self.extended(values, rows.time, rows.groups, np.diff(rows.bounds))

    def extended(
        self,
        values: np.ndarray,
        time: np.ndarray | None,
        groups: Sequence[Any],
        counts: np.ndarray,
        freq: Any = None,
    ) -> "TimeSeries":
        """The series with rows after the last of their groups; see `append`.

        Args:
            values: `(rows, columns)` of the columns without a rule.
            time: `(rows,)`, or None.
            groups: labels of the groups that the rows are of, in their order.
            counts: rows of each of them.
            freq: step of time, if the series has none.
        """
        names = [name for name in self.names if name not in self.made]
        labels = None
        if self.groups != (None,):
            several = [np.array(self.groups), np.array(groups)]
            lengths = [np.diff(self.bounds), counts]
            labels = np.concatenate(
                [np.repeat(*pair) for pair in zip(several, lengths, strict=True)]
            )
        times = None
        if time is not None:
            self._refuse_earlier(time, groups, counts)
            times = Times(np.concatenate([self.time, time]), self.zone)
        joined = TimeSeries(
            np.concatenate([self.values[:, self.columns(names)], values]),
            names=names,
            time=times,
            group=labels,
            freq=self.freq if freq is None else freq,
        ).with_columns(self.made)
        order = joined.columns(self.names)
        joined.values, joined.names = joined.values[:, order], self.names
        before = np.zeros(len(joined.groups), np.int64)
        before[: len(self.groups)] = np.diff(self.bounds)
        new = np.stack([joined.bounds[:-1] + before, joined.bounds[1:]], axis=1)
        return joined.with_target_rows(new[new[:, 0] < new[:, 1]])

    def _refuse_earlier(self, time: np.ndarray, groups: Sequence[Any], counts: np.ndarray) -> None:
        last = dict(zip(self.groups, self.time[self.bounds[1:] - 1], strict=True))  # type: ignore[index]
        first = np.cumsum(counts) - counts
        for label, row, count in zip(groups, first, counts, strict=True):
            if count and label in last and time[row] <= last[label]:
                whose = "" if label is None else f" of group {label!r}"
                raise ValueError(
                    f"rows= must lie after the last row{whose} "
                    f"({moment(last[label], self.zone)}), received {moment(time[row], self.zone)}."
                )

    def __copy__(self) -> "TimeSeries":
        view = object.__new__(TimeSeries)
        view.__dict__.update(self.__dict__)
        return view

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: of rows in a file the path, of evenly spaced times the runs."""
        state = {**self.__dict__, "values": pack_map(self.values)}
        if self.time is not None:
            state["time"] = pack_map(self.time)
            firsts = self.time[self.segments()[:, 0]]
            if np.array_equal(self._evenly(firsts), self.time):
                state["time"] = (firsts,)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.values, self.time = unpack_map(self.values), unpack_map(self.time)
        if isinstance(self.time, tuple):
            self.time = self._evenly(*self.time)

    def _evenly(self, firsts: np.ndarray) -> np.ndarray:
        """Times at regular intervals after the first of each segment; empty without a step."""
        step = self.freq
        calendar = isinstance(step, np.timedelta64) and np.datetime_data(step.dtype)[0] in "MY"
        if step is None or step == "rows" or calendar:
            return firsts[:0]
        starts, stops = self.segments().T
        counts = np.arange(len(self)) - np.repeat(starts, stops - starts)
        return (np.repeat(firsts, stops - starts) + counts * step).astype(firsts.dtype)

    def __repr__(self) -> str:
        def count(number: int, noun: str) -> str:
            return f"{number:,} {noun}{'s' * (number != 1)}"

        columns = len(self.names)
        lines = [f"TimeSeries: {count(len(self), 'row')} x {count(columns, 'column')}"]
        if self.groups != (None,):
            lengths = np.diff(self.bounds)
            shown = ", ".join(str(label) for label in self.groups[:5])
            more = ", ..." * (len(self.groups) > 5)
            spread = f"{lengths.min():,} to {lengths.max():,} rows each"
            lines.append(f"  groups   {len(self.groups):,} ({shown}{more}), {spread}")
        if self.time is None:
            lines.append("  time     none: rows follow each other without a gap")
        else:
            gaps = len(self._breaks) - (len(self.groups) - 1)
            first, last = (moment(t, self.zone) for t in (self.time.min(), self.time.max()))
            span = f"{first} to {last}"
            if self.zone is not None:
                span += f" {zone_name(self.zone)}"
            step = "steps ignored"
            if self.freq is None:
                step = "one row"
            elif self.freq != "rows":
                step = f"a row every {format_duration(self.freq)}, {count(gaps, 'gap')}"
            lines.append(f"  time     {span}, {step}")
        shown = ", ".join(f"{name} {number:,}" for name, number in self.missing_counts().items())
        lines.append(f"  missing  {shown or 'none'}")
        lines.append(f"  columns  {', '.join(self.names)}")
        usable = int(np.diff(self.target_rows, axis=1).sum())
        if usable != len(self):
            lines.append(f"  targets  {usable:,} of the rows")
        return "\n".join(lines)


def as_series(series: Any) -> TimeSeries:
    """The series itself, or one made from an array or DataFrame."""
    if isinstance(series, tuple) and hasattr(series, "train"):  # `split` lies above this module
        raise TypeError(
            "expected one series, received the Split of one. Pass a part of it: its .train, "
            ".val or .test."
        )
    series = series if isinstance(series, TimeSeries) else TimeSeries(series)
    check_file(series.values)
    return series


def _columns(
    values: Any, names: Sequence[str] | None, time: Any, group: Any
) -> tuple[np.ndarray, tuple[str, ...], Any, Any]:
    """Values as a floating-point matrix with its names, and time and group as columns."""
    if isinstance(names, str):
        raise ValueError(f"names= must be a list of column names, received the text {names!r}.")
    if isinstance(values, (str, PathLike)):
        values = _mapped(Path(values))
    if not isinstance(values, (np.ndarray, Sequence)) and not hasattr(
        values, "__array_interface__"
    ):
        import narwhals.stable.v2 as nw

        table = as_table(values)
        if isinstance(table, (nw.DataFrame, nw.Series)) or not hasattr(values, "__array__"):
            return _frame_columns(values, names, time, group)
        if type(values).__module__.split(".")[0] in ON_DISK:
            raise ValueError(
                f"values= is a {type(values).__module__.split('.')[0]} object, which would be read "
                "whole into memory. Pass values[:] to read it; or, where it is too large, copy it "
                "into a .npy file part by part, and pass the path of that."
            )
        values = np.asarray(values)  # a tensor
    for what, column in (("time", time), ("group", group)):
        if np.ma.is_masked(column):
            raise ValueError(f"{what}= has masked entries: drop their rows, or fill them.")
    if isinstance(values, np.ma.MaskedArray):
        check_whole(values.filled(0), names)
        values = np.where(np.ma.getmaskarray(values), np.nan, _floating(values.data))
    elif not isinstance(values, np.memmap):
        values = np.asarray(values)
    for what, column in (("time", time), ("group", group)):
        if isinstance(column, str):
            raise ValueError(
                f"{what}={column!r} names a column, and only a DataFrame has named columns: "
                f"pass the {what} of each row."
            )
    check_whole(values, names)
    values = _floating(values)
    if values.ndim == 1:
        values = values[:, np.newaxis]
    if values.ndim == 3:
        count, length, columns = values.shape
        values = values.reshape(count * length, columns)
        labels = np.arange(count) if group is None else np.asarray(group)
        group = np.repeat(labels, length) if len(labels) == count else group
        if time is not None and len(time) == length:
            time = np.tile(np.asarray(time), count)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(
            "values= must have shape (rows, columns) or (series, time steps, columns), "
            f"received {values.shape}."
        )
    if names is None:
        names = [str(index) for index in range(values.shape[1])]
    if len(names) != values.shape[1]:
        raise ValueError(f"names= has {len(names)} names for {values.shape[1]} columns of values.")
    return values, _distinct(names), time, group


def as_table(values: Any) -> Any:
    """A DataFrame or Series as narwhals shows it; anything else as it is.

    Raises:
        ValueError: two columns of one name.
    """
    import narwhals.stable.v2 as nw
    from narwhals.exceptions import DuplicateError

    try:
        return nw.from_native(values, eager_only=True, allow_series=True, pass_through=True)
    except DuplicateError:
        arrow = hasattr(type(values), "column_names")
        names = list(map(str, values.column_names if arrow else values.columns))
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"the DataFrame has several columns {', '.join(map(repr, twice))}: rename them or keep "
            "one of each, such as frame.loc[:, ~frame.columns.duplicated()]."
        ) from None


def _mapped(path: Path) -> np.ndarray:
    """The rows of a `.npy` file, mapped."""
    try:
        values = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise FileNotFoundError(f"values= names no file: {path}") from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"values={str(path)!r} is not a complete .npy file ({error}). "
            "Write one with numpy.save, or read a CSV file with read_csv."
        ) from error
    return np.asanyarray(values)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    texts = [str(name) for name in names]
    twice = sorted({name for name in texts if texts.count(name) > 1})
    if twice:
        raise ValueError(f"names= must differ, received {', '.join(map(repr, twice))} twice.")
    return tuple(texts)


def _floating(values: np.ndarray) -> np.ndarray:
    """Floating-point values; integers in a map stay, and are converted batch by batch."""
    if values.dtype.kind == "f":
        return values
    if values.dtype.kind not in "biu":
        raise ValueError(
            f"values= must hold numbers, received dtype {values.dtype}. "
            "Convert text to numbers first, or read the file with read_csv."
        )
    if isinstance(values, np.memmap):
        return values.view(np.uint8) if values.dtype.kind == "b" else values
    return values.astype(np.result_type(values.dtype, np.float32))


def _frame_columns(
    frame: Any, names: Sequence[str] | None, time: Any, group: Any
) -> tuple[np.ndarray, tuple[str, ...], Any, Any]:
    import narwhals.stable.v2 as nw

    try:
        table = nw.from_native(frame, eager_only=True, allow_series=True)
    except TypeError as error:
        raise TypeError(
            "values= must be an array of numbers or a DataFrame that narwhals reads "
            f"(pandas, polars, PyArrow), received {type(frame).__name__}."
        ) from error
    if isinstance(table, nw.Series):
        table = table.rename(str(table.name or "value")).to_frame()
    named = isinstance(group, (list, tuple)) and set(map(str, group)) <= set(table.columns)
    if named and len(group) not in (0, len(table)):
        for name in group:
            lost = table.get_column(name).is_null().to_list()
            if any(lost):
                raise ValueError(f"group=: row {lost.index(True)} has no {name!r}.")
        several = [table.get_column(name).to_list() for name in group]
        table = table.drop(list(group))
        group = np.array(join_labels(several, {}))
    index = nw.maybe_get_index(table)
    dated = getattr(getattr(index, "dtype", None), "kind", "") == "M" or is_period(index)
    if index is not None and time is None and dated:
        time = index
    elif index is not None and (time is None or (group is None and index.nlevels > 1)):
        _refuse_lost_index(index)
    if time is None:
        dates = [
            name
            for name in table.columns
            if is_date(table.get_column(name)) and not (isinstance(group, str) and name == group)
        ]
        if not dates:
            # Whole numbers such as 20170130, as read_csv takes them for dates.
            taken = {*(names or ()), *([group] if isinstance(group, str) else ())}
            others = [name for name in table.columns if name not in taken]
            dates = [name for name in others if holds_dates(table.get_column(name))][:1]
        time = dates[0] if len(dates) == 1 else None
    taken = {column for column in (time, group) if isinstance(column, str)}
    unknown = sorted((taken | set(names or ())) - set(table.columns))
    if unknown:
        raise ValueError(
            f"the DataFrame has no column {', '.join(map(repr, unknown))}. "
            f"Its columns are: {', '.join(map(repr, table.columns))}."
        )
    if names is None:
        names = [name for name in table.columns if name not in taken]
    for name in names:
        if not (table.schema[name].is_numeric() or isinstance(table.schema[name], nw.Boolean)):
            raise ValueError(
                f"column {name!r} holds {table.schema[name]}, not numbers. Convert it, name it as "
                "time= or group=, or leave it out with names=."
            )
        if table.schema[name].is_integer():  # with nulls, NumPy has floating point alone
            check_whole(table.get_column(name).drop_nulls().to_numpy(), [name])
    if not names:
        raise ValueError("values= has no column of numbers.")
    columns = [_floating(_no_nulls(table.get_column(name))) for name in names]
    values = np.empty((len(table), len(columns)), dtype=np.result_type(*columns))
    for position, column in enumerate(columns):
        values[:, position] = column
    time, group = (
        table.get_column(column) if isinstance(column, str) else column for column in (time, group)
    )
    group = group.to_numpy() if isinstance(group, nw.Series) else group
    return values, _distinct(names), time, group


def holds_dates(column: Any) -> bool:
    """Whether a column holds dates, or whole numbers such as 20170130."""
    if is_date(column):
        return True
    whole = column.dtype.is_integer() and not column.null_count()
    return whole and compact_dates(column.to_numpy()) is not None


def _refuse_lost_index(index: Any) -> None:
    """Refuse a pandas index that identifies rows and would be dropped silently."""
    if getattr(index, "nlevels", 1) > 1 or index.dtype.kind not in "iub":
        raise ValueError(
            f"the DataFrame's index ({type(index).__name__} {list(index.names)}) is no column and "
            "would be lost: call reset_index(), and name time= and group= where it holds them "
            "(or reset_index(drop=True))."
        )


def _no_nulls(column: Any) -> np.ndarray:
    values: np.ndarray = column.to_numpy()
    if values.dtype.kind == "O":
        lost = column.is_null().to_list()
        values = np.array(
            [np.nan if null else value for value, null in zip(column, lost, strict=True)],
            dtype=np.float64,
        )
    return values


def _gather_groups(group: Any, rows: int) -> tuple[tuple[Any, ...], np.ndarray, np.ndarray | None]:
    """Labels, bounds, and the order that brings the rows of each group together (None: as is)."""
    if group is None:
        return (None,), np.array([0, rows], dtype=np.int64), None
    if isinstance(group, Runs):
        return group.labels, group.bounds, None
    labels = np.asarray(group)
    if labels.ndim != 1:
        raise ValueError(f"group= must have one axis (rows,), received shape {labels.shape}.")
    # Rows of one label come in runs as a rule, and there are far fewer of them than rows.
    changes = np.ones(len(labels), dtype=bool)
    for start in range(1, len(labels), CHUNK_BYTES):
        part = labels[start - 1 : start + CHUNK_BYTES]
        changes[start : start + CHUNK_BYTES] = part[1:] != part[:-1]
    starts = np.flatnonzero(changes)
    del changes
    labels = _as_labels(labels[starts], starts)
    distinct, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    appearance = np.argsort(first)
    bounds = np.append(starts, rows)
    groups = tuple(distinct[appearance].tolist())
    if len(distinct) == len(starts):
        return groups, bounds, None
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[appearance] = np.arange(len(distinct))
    codes = rank[codes]
    runs = np.argsort(codes, kind="stable")
    lengths = np.diff(bounds)
    sizes = np.bincount(codes, weights=lengths).astype(np.int64)
    # Row by row, the first of its run and its place in the run.
    moved = lengths[runs]
    order = np.repeat(starts[runs] - (np.cumsum(moved) - moved), moved)
    order += np.arange(rows)
    reordered = None if (np.diff(runs) > 0).all() else order
    return groups, np.concatenate(([0], np.cumsum(sizes))), reordered


def _as_labels(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Labels as numbers or text, which can be written to a file."""
    if labels.dtype.kind in "fOmM":
        # What differs from itself is NaN or NaT; pandas's NA answers neither way.
        lost = [
            label is None or str(label) in ("<NA>", "NaT") or label != label
            for label in (labels.tolist() if labels.dtype.kind in "fO" else labels)
        ]
        if any(lost):
            raise ValueError(f"group=: row {rows[lost.index(True)]} has no group.")
        # A whole number is the same label in whichever type a table holds it.
        if labels.dtype.kind in "fO" and all(
            type(label) in (int, float) and label == label // 1 for label in labels.tolist()
        ):
            return np.array([int(label) for label in labels.tolist()])
    if labels.dtype.kind == "S":
        return np.char.decode(labels)
    if labels.dtype.kind in "OmM":
        texts = {label: str(label) for label in labels.tolist()}
        if len(set(texts.values())) < len(texts):
            twice = sorted(text for text in texts.values() if [*texts.values()].count(text) > 1)
            raise ValueError(f"group= has different labels that read alike: {twice[0]!r}.")
        return np.array([texts[label] for label in labels.tolist()])
    return labels


def without_sentinels(values: np.ndarray, names: tuple[str, ...], na_values: Any) -> np.ndarray:
    """The values, with NaN (in a copy) for those that stand for a missing value."""
    if not isinstance(na_values, Mapping):
        na_values = dict.fromkeys(names, na_values)
    unknown = [name for name in na_values if name not in names]
    if unknown:
        raise ValueError(
            f"na_values= names {', '.join(map(repr, unknown))}; the columns are {list(names)}."
        )
    numbers = {name: _numbers(sentinels) for name, sentinels in na_values.items()}
    if not any(sentinels.size for sentinels in numbers.values()):
        return values
    values = _floating(np.array(values))
    for name, sentinels in numbers.items():
        column = values[:, names.index(name)]
        column[np.isin(column, sentinels.astype(values.dtype))] = np.nan
    return values


def _numbers(sentinels: Any) -> np.ndarray:
    if isinstance(sentinels, (set, frozenset)):
        sentinels = list(sentinels)
    numbers = np.atleast_1d(np.asarray(() if sentinels is None else sentinels))
    if numbers.size and numbers.dtype.kind not in "iuf":
        raise ValueError(
            f"na_values= must be numbers that stand for a missing value, received {sentinels!r}. "
            "(read_csv takes texts too, and NA, NaN, null, - and ? for missing as they are.)"
        )
    return numbers


def _check_sorted(time: np.ndarray, inside: np.ndarray, zone: tzinfo | None) -> None:
    for compare, what in (
        (np.less, "lies before the row above it"),
        (np.equal, "has the time of the row above it"),
    ):
        rows = np.flatnonzero(compare(time[1:], time[:-1]) & inside) + 1
        if rows.size:
            row = rows[0]
            advice = (
                "Where the rows are of several series, name the group= that tells them apart. Else "
                "sort them by time, and keep one of each time (read_csv does both with sort=True, "
                "duplicates='first')."
            )
            if (
                zone is not None
                and comes_twice(to_local(time[row - 1 : row + 1], zone), zone).any()
            ):
                advice = (
                    "The clocks are set back there, so that the hour comes twice. Give the times "
                    "with their offsets from UTC."
                )
            raise ValueError(
                f"time= must increase: row {row} ({moment(time[row], zone)}) {what} "
                f"({moment(time[row - 1], zone)}), as {len(rows)} row{'s do' * (len(rows) > 1)}"
                f"{' does' * (len(rows) == 1)}. {advice}"
            )


def _check_one_step(
    time: np.ndarray,
    zone: tzinfo | None,
    freq: np.timedelta64 | int,
    follows: np.ndarray,
    groups: tuple[Any, ...],
    bounds: np.ndarray,
) -> None:
    """Refuse a group whose commonest step is not that of the panel."""
    lengths = np.diff(bounds)
    taken = np.add.reduceat(np.append(follows, False), bounds[:-1], dtype=np.int64)
    doubtful = (taken * 2 < lengths - 1) & (lengths > 2)
    if not doubtful.any():
        return
    here = np.repeat(doubtful, lengths)[:-1]
    here[bounds[1:-1] - 1] = False
    group = np.repeat(np.arange(len(lengths)), lengths)[:-1][here]
    steps = np.diff(time if zone is None else to_local(time, zone))[here]
    order = np.lexsort((steps, group))
    group, steps = group[order], steps[order]
    runs = np.flatnonzero(np.append(True, (group[1:] != group[:-1]) | (steps[1:] != steps[:-1])))
    alike = np.diff(runs, append=len(group))
    for run in runs[alike * 2 > lengths[group[runs]] - 1][:1]:
        start, stop = bounds[group[run]], bounds[group[run] + 1]
        own = infer_step(time[start:stop], np.ones(stop - start - 1, dtype=bool), zone)
        raise ValueError(
            f"group {groups[group[run]]!r} has a row every {format_duration(own)}, and most "
            f"groups every {format_duration(freq)}: their windows would span other times. Make a "
            "series of each kind; or pass freq='rows' to count rows whatever their times, or "
            "freq= with the one step to keep, which takes all others for gaps."
        )
