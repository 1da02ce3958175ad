"""to_frame: predictions with groups, times and real units, as a DataFrame."""

import importlib.util
from collections.abc import Sequence
from datetime import UTC, timezone, tzinfo
from itertools import pairwise
from typing import Any

import numpy as np

from keras_rnnkit.data.batches import find_windows, known_rows, resolve
from keras_rnnkit.data.scale import Scaler
from keras_rnnkit.data.series import TimeSeries, as_series
from keras_rnnkit.data.spec import WindowSpec
from keras_rnnkit.data.zones import from_local, to_local, zone_name

__all__ = ["steps_later", "to_frame"]

FRAMES = ("pandas", "polars", "pyarrow")


def to_frame(
    predictions: Any,
    series: Any,
    spec: WindowSpec,
    *,
    scaler: Scaler | None = None,
    targets: Sequence[str] | None = None,
    quantiles: Sequence[float] | None = None,
    missing: str = "drop",
    backend: str | None = None,
) -> Any:
    """Predictions of every window and the truth as a DataFrame, with group, time and real units.

    Args:
        predictions: predictions for `window_dataset(series, spec, ...)` without `shuffle`:
            shape `(windows, horizon, targets)`, or without the axes of length 1.
        series: the series or part that the windows come from, unscaled.
        spec: the windows.
        scaler: the scaler of the dataset, to turn predictions into real units.
        targets: the predicted columns, if `spec.targets` is `()`.
        quantiles: if the last axis of the predictions holds quantiles, these, such as
            `[0.1, 0.5, 0.9]`.
        missing: the same as for the dataset.
        backend: `"pandas"`, `"polars"` or `"pyarrow"`. Default: the first one installed.

    Returns:
        A DataFrame with a row for each window, horizon step and target, in that order: `group`
        (of a panel), `origin` (time of the last input row), `time` (of the target), `step` (1 to
        `horizon`), `target`, `prediction` (with quantiles `q0.1`, `q0.5`, ... in its place),
        `truth` (NaN where the series has none, where the row belongs to another part of the split,
        and where `pad_targets` gives it a weight of 0). Without times, `origin` and `time` are row
        numbers. Times are in the zone of the series, as in the DataFrame that it was made from.

    Raises:
        ValueError: the number of predictions does not fit the windows, or the quantiles.
        ImportError: no DataFrame library is installed.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> series = rk.TimeSeries(np.arange(6.0), names=["T"])
        >>> rk.to_frame(np.array([[3.5], [4.5]]), series, rk.WindowSpec(4), backend="pandas")
           origin  time  step target  prediction  truth
        0       3     4     1      T         3.5    4.0
        1       4     5     1      T         4.5    5.0
    """
    series = as_series(series)
    spec = resolve(series, spec)
    names = tuple(spec.targets or targets or ())
    if not names:
        raise ValueError("targets= must name the predicted columns, since spec.targets is ().")
    columns = series.columns(names, what="targets")
    starts = find_windows(series, spec, missing).starts()
    shape = (len(starts), spec.horizon, len(names))
    levels = _levels(quantiles)
    values = np.asarray(predictions)
    if levels and values.shape[-1:] != (len(levels),):
        raise ValueError(
            f"predictions= must have a last axis of {len(levels)} for quantiles={list(levels)}, "
            f"received {values.shape}."
        )
    found = values.shape[:-1] if levels else values.shape
    longer = [length for length in shape[1:] if length > 1]
    if found[:1] != shape[:1] or [length for length in found[1:] if length != 1] != longer:
        raise ValueError(
            f"predictions= must have shape {shape} (windows, horizon, targets"
            f"{', then quantiles' * bool(levels)}), received "
            f"{values.shape}. Predict every window once, in order: a dataset of the same series "
            "and spec without shuffle=, shard=, balance= or drop_remainder=."
        )
    origin = starts + spec.last_input
    group = series.group_of(origin)

    def unscaled(values: np.ndarray) -> np.ndarray:
        values = values.reshape(shape)
        if scaler is None:
            return values
        labels = np.array(series.groups)[group] if scaler.by_group else None
        return scaler.inverse_transform(
            values, names if len(names) > 1 else names[0], groups=labels
        )

    columns_of = (
        {"prediction": unscaled(values)}
        if not levels
        else {f"q{level:g}": unscaled(values[..., at]) for at, level in enumerate(levels)}
    )
    ahead = spec.ahead
    rows = origin[:, np.newaxis] + ahead
    # Without targets a window may end at a gap, behind which the rows are not its future.
    segments = series.segments()
    ends = segments[np.searchsorted(segments[:, 0], origin, side="right") - 1, 1]
    inside = rows < ends[:, np.newaxis]
    # No target of this part, or one of weight 0: with `pad_targets` or without targets in the spec.
    certain = inside.copy()
    certain[inside] = known_rows(series, spec, missing)[rows[inside]]
    truth = np.full(shape, np.nan)
    truth[certain] = series.values[rows[certain]][:, columns]

    def long(entries: np.ndarray) -> np.ndarray:
        """One entry for each row of the frame, from one that lacks trailing axes."""
        entries = entries.reshape(entries.shape + (1,) * (3 - entries.ndim))
        return np.broadcast_to(entries, shape).reshape(-1)

    data: dict[str, np.ndarray] = {}
    if series.groups != (None,):
        data["group"] = long(np.array(series.groups)[group])
    data["origin"] = long(origin if series.time is None else series.time[origin])
    data["time"] = long(_times(series, origin, rows, ahead, inside))
    data["step"] = long(np.broadcast_to(np.arange(1, spec.horizon + 1), shape[:2]))
    data["target"] = np.broadcast_to(np.array(names), shape).reshape(-1)
    data |= {name: values.reshape(-1) for name, values in columns_of.items()}
    data["truth"] = truth.reshape(-1)
    return _native(data, backend, series.zone)


def _levels(quantiles: Sequence[float] | None) -> tuple[float, ...]:
    levels = () if quantiles is None else tuple(map(float, quantiles))
    if quantiles is not None and not (levels and all(0 < level < 1 for level in levels)):
        raise ValueError(f"quantiles= must lie between 0 and 1, received {list(levels)}.")
    if any(b <= a for a, b in pairwise(levels)):
        raise ValueError(f"quantiles= must increase, received {list(levels)}.")
    return levels


def _times(
    series: TimeSeries, origin: np.ndarray, rows: np.ndarray, ahead: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """Times of the target rows; after the last row of a segment, counted from the origin."""
    if series.time is None:
        return rows
    times = np.empty(rows.shape, dtype=series.time.dtype)
    times[inside] = series.time[rows[inside]]
    if not inside.all():
        if series.freq is None or isinstance(series.freq, str):
            raise ValueError(
                "the targets lie after the last row, and the series has no freq= by which "
                "to continue its times: make the windows with forecast_windows(series, spec, "
                "freq=...)."
            )
        later = steps_later(series, origin, ahead * series.freq)
        times[~inside] = later[~inside]
    return times


def steps_later(series: TimeSeries, origin: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Times some steps after the origins; days and months follow the calendar of the zone."""
    unit = np.datetime_data(ahead.dtype)[0] if ahead.dtype.kind == "m" else ""
    zone = series.zone if unit in ("D", "W", "M", "Y") else None
    times = series.time if zone is None else to_local(series.time, zone)  # type: ignore[arg-type]
    if unit in ("M", "Y"):
        later = _months_later(times, origin, ahead.astype("timedelta64[M]"), series)  # type: ignore[arg-type]
    else:
        later = times[origin][:, np.newaxis] + ahead  # type: ignore[index]
    return later if zone is None else from_local(later, zone)


def _months_later(
    times: np.ndarray, origin: np.ndarray, ahead: np.ndarray, series: TimeSeries
) -> np.ndarray:
    """Times a number of months after the origins, on the day of the month that the group keeps.

    The latest day is the one that a group keeps: after 29 February, ends of months go on with
    31 March.
    """
    days = times.astype("datetime64[D]")
    latest = np.maximum.reduceat(days - days.astype("datetime64[M]"), series.bounds[:-1])
    later = days[origin].astype("datetime64[M]")[:, np.newaxis] + ahead
    first = later.astype("datetime64[D]")
    last = (later + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    day = np.minimum(latest[series.group_of(origin)][:, np.newaxis], last - first)
    clock = times[origin] - days[origin]
    return np.asarray(first + day + clock[:, np.newaxis])


def _native(data: dict[str, np.ndarray], backend: str | None, zone: tzinfo | None) -> Any:
    import narwhals.stable.v2 as nw

    if backend is None:
        installed = [name for name in FRAMES if importlib.util.find_spec(name)]
        if not installed:
            raise ImportError("to_frame makes a DataFrame: pip install pandas (or polars).")
        backend = installed[0]
    elif backend not in FRAMES:
        raise ValueError(f"backend= must be one of {', '.join(FRAMES)}, received {backend!r}.")
    for name, column in data.items():
        if column.dtype == "datetime64[s]":  # which polars does not know
            data[name] = column.astype("datetime64[ms]")
    frame = nw.from_dict(data, backend=backend)  # type: ignore[arg-type]
    if zone is not None:
        name = zone_name(zone)
        if isinstance(zone, timezone) and zone is not UTC:
            # An offset: polars knows zones by their names alone, and PyArrow offsets without UTC.
            name = "UTC" if backend == "polars" else name.removeprefix("UTC")
        frame = frame.with_columns(
            nw.col("origin", "time").dt.replace_time_zone("UTC").dt.convert_time_zone(name)
        )
    return frame.to_native()
