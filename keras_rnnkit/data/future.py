"""forecast_windows: the windows that end with the last row, to forecast the future."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from keras_rnnkit.data.batches import resolve
from keras_rnnkit.data.columns import lag_of
from keras_rnnkit.data.frame import steps_later
from keras_rnnkit.data.series import TimeSeries, as_series, as_table, holds_dates
from keras_rnnkit.data.spec import WindowSpec, holding
from keras_rnnkit.data.steps import parse_step
from keras_rnnkit.data.times import moment
from keras_rnnkit.data.zones import from_local

__all__ = ["FutureWindows", "forecast_windows"]


class FutureWindows(NamedTuple):
    """The result of `forecast_windows`, for `window_dataset` and `to_frame`.

    Attributes:
        series: the series with the rows of the horizon after the last row of each group.
        spec: the same windows without targets, for prediction.
    """

    series: TimeSeries
    spec: WindowSpec


def forecast_windows(
    series: Any,
    spec: WindowSpec,
    *,
    known: Any = None,
    freq: str | int | Callable[[Any, int], Any] | None = None,
) -> FutureWindows:
    """One window for each group, which ends with its last row, to forecast the rows after it.

    Args:
        series: a `TimeSeries`, array or DataFrame; each group needs `lookback` rows, or fewer
            with `pad`.
        spec: the windows that the model was trained on.
        known: a `TimeSeries`, array or DataFrame with the `known` columns of the rows that follow,
            up to the end of the horizon: for each group in a `TimeSeries` with groups, or without
            groups for all of them. With times, it may have other rows too. Columns that
            `with_columns` computes from times, groups or a long enough lag are not needed in it.
        freq: the step of future times, if the series was made with `freq="rows"` or has a single
            row: `"1D"`, `"month"`, `"B"` for business days, or a function of the last time and a
            number that returns that number of times, such as the next days of an exchange.

    Returns:
        `FutureWindows(series, spec)`, for `window_dataset` (or `WindowLoader`) and `to_frame`. A
        group without an input value has no window, depending on `missing=` of the dataset;
        `missing="error"` raises.

    Raises:
        ValueError: a group has too few rows, or ends with a row without values; a known column does
            not reach to the end of the horizon (the error names the group and the number of rows);
            or the step of future times is unknown.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> days = np.datetime64("2024-02-26") + np.arange(4)
        >>> series = rk.TimeSeries(np.arange(4.0), names=["x"], time=days)
        >>> ahead, newest = rk.forecast_windows(series, rk.WindowSpec(3, horizon=2))
        >>> rk.WindowLoader(ahead, newest)[0].ravel().tolist()
        [1.0, 2.0, 3.0]
        >>> frame = rk.to_frame([[4.0, 5.0]], ahead, newest, targets=["x"], backend="pandas")
        >>> frame["time"].astype(str).tolist()
        ['2024-03-01', '2024-03-02']
    """
    series = as_series(series)
    spec = resolve(series, spec)
    newest = replace(spec, targets=(), stride=1, pad_targets=0)
    rows = max(int(spec.ahead[-1]), 0)
    groups = len(series.groups)
    _refuse_plans(series, newest)
    _refuse_short(series, newest)
    lasts = series.bounds[1:] - 1
    times = None
    if series.time is not None and rows:
        times, freq = _times(series, lasts, rows, freq)
    base = [name for name in series.names if name not in series.made]
    values = np.full((groups, rows, len(base)), np.nan, np.result_type(series.values, np.float32))
    if rows:
        given = _given(series, spec, known, times, rows)
        for name, column in given.items():
            values[:, :, base.index(name)] = column
    flat = None if times is None else times.reshape(-1)
    ahead = series.extended(
        values.reshape(-1, len(base)), flat, series.groups, np.full(groups, rows), freq
    )
    ends = ahead.bounds[1:] - rows
    # What makes a window the newest one: its target rows, or its last input row.
    first, last = (spec.ahead[0], max(spec.ahead[-1], 0)) if spec.known else (0, 0)
    ahead = ahead.with_target_rows(np.stack([ends - 1 + first, ends + last], axis=1))
    _refuse_unknown(ahead, spec, ends)
    return FutureWindows(ahead, newest)


def _refuse_plans(series: TimeSeries, spec: WindowSpec) -> None:
    """Refuse groups whose last row has no values: it is a row to be forecast."""
    names = [name for name in spec.numbers(spec.features) if name not in spec.known]
    lasts = series.bounds[1:] - 1
    empty = ~np.isfinite(series.values[lasts][:, series.columns(names)]).any(axis=1)
    if names and empty.any():
        label = series.groups[empty.argmax()]
        whose = "" if label is None else f" of group {label!r}"
        raise ValueError(
            f"the last row{whose} has no value of {', '.join(map(repr, names))}. Where the rows to "
            "come are in the series already, leave them out of it, and pass them as known=."
        )


def _refuse_short(series: TimeSeries, spec: WindowSpec) -> None:
    """Refuse groups whose last segment is shorter than a window's inputs."""
    needed = spec.last_input + 1 - spec.pad * spec.step
    lasts = series.bounds[1:] - 1
    found = lasts + 1 - holding(series.segments(), lasts)[:, 0]
    short = np.flatnonzero(found < needed)
    if short.size:
        label = series.groups[short[0]]
        whose = "the series ends with" if label is None else f"group {label!r} ends with"
        others = f" (and {len(short) - 1} other groups have too few)" * (len(short) > 1)
        raise ValueError(
            f"{whose} {found[short[0]]:,} rows without a gap, and a window reads {needed:,}"
            f"{others}. Train with WindowSpec(pad=...), whose windows may begin before a series "
            "does, or leave the group out."
        )


def _times(series: TimeSeries, lasts: np.ndarray, rows: int, freq: Any) -> tuple[np.ndarray, Any]:
    """Times of the rows after the last of each group, `(groups, rows)`, and their step."""
    stated = series.freq is not None and series.freq != "rows"
    if stated:
        if freq is not None:
            raise ValueError(
                f"freq= is for a series that does not state its step; this one has {series.freq}."
            )
        steps: Any = np.arange(1, rows + 1) * series.freq  # type: ignore[operator]
        return steps_later(series, lasts, steps), None
    if freq is None:
        raise ValueError(
            "freq= must say how times go on after the last row, such as '1D', 'month', 'B' for "
            "business days, or a function: the series does not state its step."
        )
    kept = "rows" if series.freq == "rows" else None
    if freq != "B" and not callable(freq):
        step = parse_step(freq)
        later = steps_later(series, lasts, np.arange(1, rows + 1) * step)
        return later, kept or step
    local = series.local_time[lasts]  # type: ignore[index]
    if callable(freq):
        later = np.stack([_called(freq, last, rows) for last in local])
    else:
        days = local.astype("datetime64[D]")
        ahead = np.busday_offset(days[:, None], np.arange(1, rows + 1), roll="backward")
        later = ahead + (local - days)[:, None]
    later = later.astype(local.dtype)
    if series.zone is not None:
        later = from_local(later, series.zone)
    return later, "rows"


def _called(freq: Callable[[Any, int], Any], last: Any, rows: int) -> np.ndarray:
    """The times that a function gives after one, checked."""
    times = np.asarray(freq(last, rows), dtype=last.dtype)
    if times.shape != (rows,) or not (np.diff(np.append(last, times)).astype(np.int64) > 0).all():
        raise ValueError(
            f"freq= must give {rows} increasing times after {last}, received {times.tolist()}."
        )
    return times


def _given(
    series: TimeSeries, spec: WindowSpec, known: Any, times: np.ndarray | None, rows: int
) -> dict[str, np.ndarray]:
    """The known columns of the rows after the last of each group, `(groups, rows)` by name."""
    wanted = [name for name in spec.known if name not in series.made]
    if known is not None and not isinstance(known, TimeSeries):
        plain = isinstance(known, (np.ndarray, list))
        if series.groups != (None,):
            _refuse_groups(series, known)
        known = TimeSeries(known, names=wanted) if plain else as_series(known)
    lacking = [name for name in wanted if known is None or name not in known.names]
    if lacking:
        raise ValueError(
            f"known= must hold {', '.join(map(repr, lacking))} for the {rows:,} rows after the "
            "last, which the windows read there. (Calendar columns that with_columns made are "
            "computed.)"
        )
    if not wanted:
        return {}
    if (times is None) != (known.time is None) or (known.zone is None) != (series.zone is None):
        raise ValueError("known= must have times as the series has, and of a zone where it is.")
    position = {label: at for at, label in enumerate(known.groups)}
    shared = known.groups == (None,)
    columns = known.columns(wanted)
    found = np.full((len(series.groups), rows, len(wanted)), np.nan)
    needed = spec.ahead[spec.ahead > 0] - 1
    for at, label in enumerate(series.groups):
        whose = "" if label is None else f" for group {label!r}"
        if label not in position and not shared:
            raise ValueError(f"known= has no row{whose}.")
        of = 0 if shared else position[label]
        start, stop = known.bounds[of : of + 2]
        if times is None:
            there = np.arange(rows) < stop - start
            row = np.minimum(start + np.arange(rows), stop - 1)
        else:
            row = start + np.searchsorted(known.time[start:stop], times[at])
            row = np.minimum(row, stop - 1)
            there = known.time[row] == times[at]
        found[at, there] = known.values[row[there]][:, columns]
        lost = needed[~there[needed]]
        if lost.size:
            when = "" if times is None else f" ({moment(times[at, lost[0]], series.zone)})"
            behind = np.flatnonzero(there).max(initial=-1) + 1
            short = int(rows - behind)
            ends = (
                f"ends {short:,} row{'s' * (short > 1)} too early"
                if lost[0] >= behind
                else "has a gap"
            )
            raise ValueError(
                f"known= {ends}{whose}: the horizon reaches {rows:,} rows after the last, and row "
                f"{lost[0] + 1} of them{when} is not there."
            )
    return {name: found[:, :, at] for at, name in enumerate(wanted)}


def _refuse_groups(series: TimeSeries, known: Any) -> None:
    """Refuse a DataFrame with a column that may be the group, which it does not say."""
    import narwhals.stable.v2 as nw

    table = as_table(known)
    if not isinstance(table, nw.DataFrame):
        return
    others = [
        name
        for name in table.columns
        if name not in series.names
        and (series.time is None or not holds_dates(table.get_column(name)))
    ]
    if others:
        raise ValueError(
            f"known= is a DataFrame with {', '.join(map(repr, others))}, which the series does not "
            "have, and does not say which column is the group. Pass TimeSeries(known, group=..., "
            "time=...), or leave them out if the rows are those of every group."
        )


def _refuse_unknown(ahead: TimeSeries, spec: WindowSpec, ends: np.ndarray) -> None:
    """Refuse known columns without a value at a target row."""
    targets = ends[:, None] - 1 + spec.ahead
    for name in spec.known:
        lost = ~np.isfinite(ahead[name][targets])
        if lost.any():
            group, at = np.argwhere(lost)[0]
            label, row = ahead.groups[group], targets[group, at]
            when = "" if ahead.time is None else f" ({moment(ahead.time[row], ahead.zone)})"
            whose = "" if label is None else f" of group {label!r}"
            back = lag_of(ahead.made.get(name))
            why = "fill it in known="
            if back is not None and back < spec.ahead[-1]:
                why = f"a lag of {back} rows is not known {spec.ahead[-1]} rows ahead"
            raise ValueError(
                f"known column {name!r} has no value in row {spec.ahead[at]} after the last"
                f"{whose}{when}: {why}."
            )
