"""split: training, validation and test part in time order, by the rows of their targets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_rnnkit.data.series import TimeSeries, as_series
from keras_rnnkit.data.spec import WindowSpec, covered, holding, intersect
from keras_rnnkit.data.times import as_times, moment
from keras_rnnkit.data.zones import from_local, zone_name

__all__ = ["Split", "check_split", "rolling_splits", "split"]


class Split(NamedTuple):
    """The parts of a series. Each holds all rows, and which of them may be targets.

    Attributes:
        train: the training part.
        val: the validation part, or None where none was asked for.
        test: the test part, or None if nothing is left for it.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> rk.split(np.arange(10.0), train=0.8, val=0.2).test is None
        True
    """

    train: TimeSeries
    val: TimeSeries | None
    test: TimeSeries | None


def split(series: Any, *, train: Any, val: Any = None, test: Any = None, embargo: int = 0) -> Split:
    """Split a series in time order, by the rows of its targets.

    A row is a target in one part only. Each part keeps all rows as inputs, so that the first
    validation windows may read training rows. A panel is split at the same times in every group, or
    by whole groups.

    Args:
        series: a `TimeSeries`, array or DataFrame.
        train: the training part: a share of the rows such as `0.7`, the time it ends before
            (`"2015-01-01"`, midnight in the zone of the series), or a list of groups by label.
        val: the validation part, likewise. Default: none.
        test: the test part, likewise. Default: what is left.
        embargo: number of rows between two parts that are targets in neither; useful if the values
            of neighbouring rows overlap (moving averages).

    Returns:
        `Split(train, val, test)`.

    Raises:
        ValueError: shares of more than 1, times out of order, unknown groups, an empty part.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> train, val, test = rk.split(np.arange(10.0), train=0.6, val=0.2)
        >>> [part.target_rows.tolist() for part in (train, val, test)]
        [[[0, 6]], [[6, 8]], [[8, 10]]]
        >>> train, _, test = rk.split(np.arange(10.0), train=0.6)
        >>> test.target_rows.tolist()
        [[6, 10]]
    """
    series = as_series(series)
    if isinstance(embargo, bool) or not isinstance(embargo, (int, np.integer)) or embargo < 0:
        raise ValueError(f"embargo= must be a number of rows of at least 0, received {embargo!r}.")
    given = {"train": train, "val": val, "test": test}
    kinds = {
        name: _kind(name, part)
        for name, part in given.items()
        if part is not None or name == "train"
    }
    if len(set(kinds.values())) > 1:
        raise ValueError(
            "train=, val= and test= must be of one kind (shares, times or lists of groups), "
            f"received {', '.join(f'{name}: {kind}' for name, kind in kinds.items())}."
        )
    if kinds["train"] == "groups":
        parts = _by_group(series, train, val, test)
    else:
        cuts = _cuts_by_share if kinds["train"] == "a share" else _cuts_by_time
        parts = _between(cuts(series, train, val, test), embargo)
    for name, rows in zip(given, parts, strict=True):
        if not rows.size and name in kinds:
            raise ValueError(
                f"{name}= leaves no row for the {name} part of {len(series):,} rows"
                f"{f' with embargo={embargo}' * bool(embargo)}."
            )
    result = [series.with_target_rows(intersect(rows, series.target_rows)) for rows in parts]
    made = Split(
        result[0], result[1] if val is not None else None, result[2] if parts[2].size else None
    )
    check_split(made)
    return made


def rolling_splits(
    series: Any, *, folds: int, val: float, train: float | None = None, embargo: int = 0
) -> Iterator[Split]:
    """Splits with a rolling origin, for backtests (time series cross-validation).

    The validation parts follow each other without a gap and end with the last row; each training
    part holds what lies before its validation part.

    Args:
        series: a `TimeSeries`, array or DataFrame.
        folds: number of splits.
        val: share of the rows in each validation part.
        train: share of the rows in each training part (a sliding window). Default: all rows
            before the validation part (an expanding window).
        embargo: rows at the end of each training part that are targets of no part.

    Yields:
        `Split(train, val, None)`, from the earliest to the latest.

    Raises:
        ValueError: the shares leave no row to train on.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> for train, val, _ in rk.rolling_splits(np.arange(10.0), folds=2, val=0.2):
        ...     print(train.target_rows.tolist(), val.target_rows.tolist())
        [[0, 6]] [[6, 8]]
        [[0, 8]] [[8, 10]]
    """
    series = as_series(series)
    if isinstance(folds, bool) or not isinstance(folds, (int, np.integer)) or folds < 1:
        raise ValueError(f"folds= must be a whole number of at least 1, received {folds!r}.")
    for name, share in (("val", val), *([] if train is None else [("train", train)])):
        if isinstance(share, bool) or not isinstance(share, (int, float, np.number)):
            raise ValueError(f"{name}= must be a share such as 0.1, received {share!r}.")
    least = folds * val + (train or 0.0)
    if (
        not 0 < val < 1
        or (train is not None and not 0 < train < 1)
        or least >= 1 + 1e-9 * (train is not None)
    ):
        raise ValueError(
            f"folds * val + train must leave rows to train on: {folds} * {val} + {train or 0} "
            "must be below 1, or at most 1 with train=."
        )
    begins = [1 - (folds - fold) * val for fold in range(folds + 1)]
    edges = _cuts(series, begins)
    firsts = _cuts(series, [0.0 if train is None else begin - train for begin in begins[:-1]])
    for fold in range(folds):
        first, start, stop = firsts[:, fold], edges[:, fold], edges[:, fold + 1]
        # Validation parts follow each other, so the rows of the embargo are the training part's.
        runs = (np.stack(pair, axis=1) for pair in ((first, start - embargo), (start, stop)))
        before, ahead = (
            series.with_target_rows(intersect(rows[rows[:, 0] < rows[:, 1]], series.target_rows))
            for rows in runs
        )
        for name, part in (("train", before), ("val", ahead)):
            if not part.target_rows.size:
                raise ValueError(
                    f"fold {fold} of {folds}: no row is left for {name} of {len(series):,} rows, "
                    f"with val={val}, train={train}, embargo={embargo}."
                )
        made = Split(before, ahead, None)
        check_split(made)
        yield made


def check_split(
    parts: Sequence[TimeSeries | None], *, scaler: Any = None, spec: WindowSpec | None = None
) -> None:
    """Check that no row is a target of two parts; `split` calls it too.

    Args:
        parts: training, validation and test part, as `split` returns them; None is skipped.
        scaler: a `Scaler`, to check that its statistics come from the first part only.
        spec: the windows, to check too that no window without targets (`targets=()`) reads a row
            that is a target of another part. That would be a leak if labels are cut out of the
            inputs afterwards, as for autoencoders and sequence labels.

    Raises:
        ValueError: data leaks; the error names the parts, the rows and their times.
        TypeError: spec is not a `WindowSpec`.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> series = rk.TimeSeries(np.arange(10.0))
        >>> rk.check_split([series.with_target_rows([[0, 6]]), series.with_target_rows([[4, 8]])])
        Traceback (most recent call last):
        ValueError: train and val share 2 target rows: rows 4 to 5. ...
    """
    if spec is not None and not isinstance(spec, WindowSpec):
        raise TypeError(f"spec= must be a WindowSpec, received {type(spec).__name__}.")
    named = [
        (name, part) for name, part in zip(("train", "val", "test"), parts, strict=False) if part
    ]
    for position, (name, part) in enumerate(named):
        for other_name, other in named[position + 1 :]:
            if len(part) != len(other):
                raise ValueError(
                    f"{name} and {other_name} are parts of different series "
                    f"({len(part):,} and {len(other):,} rows): make them with one call of split."
                )
            _refuse_shared(part, f"{name} and {other_name} share", part.target_rows, other)
            _refuse_reversed(part, name, other, other_name)
    if scaler is not None:
        for name, other in named[1:]:
            _refuse_shared(
                other, f"the scaler was fitted on {name}: they share", scaler.fitted_rows, other
            )
    if spec is not None:
        for (name, other_name), rows in read_across(dict(named), spec).items():
            raise ValueError(
                f"windows of {name} read {rows:,} target rows of {other_name} as inputs: fit to "
                "predict from, but as labels cut out of the inputs they leak. Use "
                "WindowSpec.every_step, which keeps targets in their part."
            )


def read_across(parts: Mapping[str, TimeSeries], spec: WindowSpec) -> dict[tuple[str, str], int]:
    """Rows that windows without targets read in a part and that are targets of another part."""
    found = {}
    if spec.targets == ():
        for name, part in parts.items():
            segments = part.segments()
            windows = spec.windows(segments, part.target_rows)
            bounds = holding(segments, windows.starts() + spec.last_input) if spec.pad else None
            read = covered(windows, spec.input_offsets, len(part), bounds)
            for other_name, other in parts.items():
                if other_name != name:
                    rows = sum(int(read[start:stop].sum()) for start, stop in other.target_rows)
                    if rows:
                        found[name, other_name] = rows
    return found


def _refuse_shared(series: TimeSeries, what: str, rows: np.ndarray, other: TimeSeries) -> None:
    both = intersect(rows, other.target_rows)
    if both.size:
        first, last = both[0, 0], both[-1, 1] - 1
        when = ""
        if series.time is not None:
            when = " ({} to {})".format(
                *(moment(series.time[row], series.zone) for row in (first, last))
            )
        number = int(np.diff(both, axis=1).sum())
        raise ValueError(
            f"{what} {number:,} target row{'s' * (number > 1)}: rows {first} to {last}{when}. "
            "A model would be evaluated on what it was trained on: keep each row in one part."
        )


def _refuse_reversed(part: TimeSeries, name: str, other: TimeSeries, other_name: str) -> None:
    if not len(other.target_rows):
        return
    ends = part.target_rows[:, 1] - 1
    before = np.searchsorted(other.target_rows[:, 0], ends) - 1
    group = part.group_of(ends)
    mixed = (before >= 0) & (part.group_of(other.target_rows[before, 0]) == group)
    if mixed.any():
        at = np.flatnonzero(mixed)[-1]  # the last such row says most
        label = part.groups[group[at]]
        raise ValueError(
            f"{name} has target rows (up to row {ends[at]}) after target rows of {other_name}"
            f"{'' if label is None else f' in group {label!r}'}: the windows of {name} would "
            f"read the targets of {other_name} as inputs. Let {name} end before {other_name}."
        )


def _kind(name: str, part: Any) -> str:
    if isinstance(part, Iterable) and not isinstance(part, (str, bytes)):
        return "groups"
    if isinstance(part, (float, np.floating)):
        if not 0 < part < 1:
            raise ValueError(
                f"{name}= must be a share between 0 and 1, received {part}.{_in_hundred(part)}"
            )
        return "a share"
    if isinstance(part, bool) or part is None:
        raise ValueError(
            f"{name}= must be a share such as 0.7, a time, or a list of groups, received {part!r}."
        )
    return "a time"


def _in_hundred(part: Any) -> str:
    """What share a number may stand for, in words."""
    return f" For {part} in a hundred, pass {part / 100:g}." if 1 < part < 100 else ""


def _usable(series: TimeSeries) -> np.ndarray:
    """First and one past the last usable target row of each group, `(groups, 2)`."""
    bounds = np.stack([series.bounds[:-1], series.bounds[1:]], axis=1)
    low = np.searchsorted(series.target_rows[:, 1], bounds[:, 0], side="right")
    high = np.searchsorted(series.target_rows[:, 0], bounds[:, 1], side="left") - 1
    if not len(series.target_rows):
        return np.stack([bounds[:, 0], bounds[:, 0]], axis=1)
    low = np.minimum(low, len(series.target_rows) - 1)
    start = np.maximum(series.target_rows[low, 0], bounds[:, 0])
    stop = np.minimum(series.target_rows[high, 1], bounds[:, 1])
    return np.stack([start, np.maximum(start, stop)], axis=1)


def _cuts(series: TimeSeries, shares: Sequence[float]) -> np.ndarray:
    """The row in each group below which each share of the rows lies, `(groups, shares)`."""
    usable = _usable(series)
    if series.time is None:
        length = usable[:, 1] - usable[:, 0]
        return np.stack(
            [usable[:, 0] + np.rint(share * length).astype(np.int64) for share in shares], axis=1
        )
    if (usable[:, 1] - usable[:, 0]).sum() == len(series):
        times = series.time.copy()
    else:
        edges = np.zeros(len(series) + 1, dtype=np.int8)
        some = usable[usable[:, 0] < usable[:, 1]]
        edges[some[:, 0]] = 1
        edges[some[:, 1]] -= 1
        times = series.time[np.cumsum(edges[:-1], dtype=np.int8).astype(bool)]
    marks = [round(share * len(times)) for share in shares]
    inner = [mark for mark in marks if 0 < mark < len(times)]
    if inner and len(series.groups) > 1:
        times.view(np.int64).partition(inner)
    return np.stack(
        [
            usable[:, int(mark > 0)]
            if not 0 < mark < len(times)
            else _rows_before(series, usable, times[mark])
            for mark in marks
        ],
        axis=1,
    )


def _rows_before(series: TimeSeries, usable: np.ndarray, end: Any) -> np.ndarray:
    """The row of each group at which the time `end` comes, or the rows themselves are counted."""
    if series.time is None:
        return np.clip(series.bounds[:-1] + end, usable[:, 0], usable[:, 1])
    low, high = usable[:, 0].copy(), usable[:, 1].copy()
    while (low < high).any():
        # One step of a bisection in all groups at once.
        middle = np.minimum((low + high) // 2, len(series) - 1)
        below = (series.time[middle] < end) & (low < high)
        low, high = np.where(below, middle + 1, low), np.where(below, high, np.maximum(middle, low))
    return low


def _cuts_by_share(
    series: TimeSeries, train: float, val: float | None, test: float | None
) -> np.ndarray:
    shares = [share for share in (train, val, test) if share is not None]
    if sum(shares) > 1 + 1e-9:
        raise ValueError(
            "train=, val= and test= must add up to at most 1, received "
            f"{' + '.join(map(str, shares))}."
        )
    inner = train if val is None else train + val
    return _cuts(series, [0.0, train, inner, 1.0 if test is None else sum(shares)])


def _cuts_by_time(series: TimeSeries, train: Any, val: Any, test: Any) -> np.ndarray:
    usable = _usable(series)
    counted = series.time is None or series.time.dtype.kind == "i"
    cuts = [usable[:, 0]]
    before = None
    for name, given in (("train", train), ("val", val), ("test", test)):
        if given is None:
            cuts.append(usable[:, 1] if name == "test" else cuts[-1])
            continue
        if counted != isinstance(given, (int, np.integer)):
            wanted = "a whole number, as the times are" if counted else "a date"
            share = isinstance(given, (int, np.integer)) and not counted
            raise ValueError(
                f"{name}= must be a share between 0 and 1, {wanted}, or groups, received "
                f"{given!r}.{_in_hundred(given) if share else ''}"
            )
        end = int(given) if counted else _instant(series, name, given)
        if before is not None and end <= before:
            advice = " Whole numbers are rows here, at which parts end; shares lie between 0 and 1."
            raise ValueError(
                f"{name}= must end after the part before it, received {given!r}.{advice * counted}"
            )
        _refuse_outside(series, name, given, end)
        cuts.append(_rows_before(series, usable, end))
        before = end
    return np.stack(cuts, axis=1)


def _refuse_outside(series: TimeSeries, name: str, given: Any, end: Any) -> None:
    """Refuse an end that is not within the rows; it may lie a step behind the last of them."""
    if series.time is None:
        first, last, step = 0, int(np.diff(series.bounds).max()), 0
        shown = (f"row {first}", f"row {last}")
    else:
        first, last = series.time.min(), series.time.max()
        step = _longest(series)
        shown = (moment(first, series.zone), moment(last, series.zone))
    if not first < end <= last + step:
        raise ValueError(
            f"{name}= must end within the series, which goes from {shown[0]} to {shown[1]}; "
            f"received {given!r}."
        )


def _longest(series: TimeSeries) -> Any:
    """The longest that a step of the series can be."""
    dates = series.time is not None and series.time.dtype.kind == "M"
    step = series.freq
    if step is None or step == "rows":
        return np.timedelta64(1, "D") if dates else 1
    unit = np.datetime_data(step.dtype)[0] if isinstance(step, np.timedelta64) else ""
    if unit in ("M", "Y"):
        return int(step.astype(np.int64)) * np.timedelta64(31 if unit == "M" else 366, "D")  # type: ignore[union-attr]
    # A day on which the clock is put back has 25 hours.
    return step if series.zone is None else step + np.timedelta64(1, "h")  # type: ignore[operator]


def _instant(series: TimeSeries, name: str, given: Any) -> Any:
    """The end of a part as the series counts times; without a zone it is of the series'."""
    end, zone = as_times([given], what=name)
    if zone is not None and series.zone is None:
        raise ValueError(
            f"{name}= is of the zone {zone_name(zone)} ({given!r}), and the times of the series "
            "are of none: leave out the zone, or make the series with zone=."
        )
    if zone is None and series.zone is not None:
        end = from_local(end, series.zone)
    return end[0]


def _between(cuts: np.ndarray, embargo: int) -> list[np.ndarray]:
    """The rows between neighbouring cuts of each group, less the embargo, a list a part."""
    parts = []
    for position in range(3):
        starts = cuts[:, position]
        if position:
            starts = starts + np.where(starts > cuts[:, 0], embargo, 0)
        rows = np.stack([starts, cuts[:, position + 1]], axis=1)
        parts.append(rows[rows[:, 0] < rows[:, 1]])
    return parts


def _by_group(series: TimeSeries, train: Any, val: Any, test: Any) -> list[np.ndarray]:
    position = {label: index for index, label in enumerate(series.groups)}
    if series.groups == (None,):
        raise ValueError("the series has no groups to split by: pass shares or times.")
    named = [list(train), list(val or ()), None if test is None else list(test)]
    for name, labels in zip(("train", "val", "test"), named, strict=True):
        unknown = [label for label in labels or () if label not in position]
        if unknown:
            shown = ", ".join(repr(label) for label in series.groups[:10])
            raise ValueError(
                f"{name}= names {', '.join(map(repr, unknown))}, which is no group of the series: "
                f"{shown}{', ...' * (len(series.groups) > 10)}."
            )
    if named[2] is None:
        taken = {*named[0], *named[1]}  # type: ignore[misc]
        named[2] = [label for label in series.groups if label not in taken]
    parts = []
    for labels in named:
        index = np.array(sorted({position[label] for label in labels}), dtype=np.int64)  # type: ignore[union-attr]
        parts.append(np.stack([series.bounds[index], series.bounds[index + 1]], axis=1))
    return parts
