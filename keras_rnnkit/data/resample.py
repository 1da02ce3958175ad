"""resample: rows at any times to rows at regular intervals, by the rules of pandas."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_rnnkit.data.series import Runs, TimeSeries, as_series
from keras_rnnkit.data.steps import parse_step
from keras_rnnkit.data.times import Times

__all__ = ["resample"]

RULES = {"Y": "YS", "M": "MS", "D": "D", "h": "h", "m": "min"}
FILLS = (None, "ffill", "linear")


def resample(
    series: Any,
    freq: Any,
    *,
    how: str | Mapping[str, str] = "mean",
    fill: str | None = None,
    gap: Any = None,
    mark: str = "filled",
) -> TimeSeries:
    """Resample rows at any times, such as events, to rows at regular intervals.

    In each group the rows of each interval become one, as in `DataFrame.resample` of pandas.
    Intervals are counted from midnight, and have the time of their beginning. Days and months are
    those of the zone of the series. An interval without a row is left out, which makes a gap.

    Args:
        series: the series, or what `TimeSeries` takes; its times must be dates.
        freq: the interval: `"10min"`, `"1h"`, `"1D"`, `"1month"`, a timedelta.
        how: how to aggregate the values of an interval, by pandas' name: `"mean"`, `"sum"`,
            `"min"`, `"max"`, `"median"`, `"first"`, `"last"`, `"count"`; or a mapping from column
            to it (others: `"mean"`). Missing values are skipped.
        fill: how to fill an interval without a value: None leaves it missing, `"ffill"` repeats the
            last value, `"linear"` interpolates in time.
        gap: the longest time between two values of a column over which it is filled, such as
            `"1h"`; needed with `fill`.
        mark: with `fill`, name of an additional column: 1 if a value of the row was filled, else 0.

    Returns:
        A `TimeSeries` of float64 with that sampling rate.

    Raises:
        ValueError: times that are not dates, a name that pandas does not know, `fill` without
            `gap`.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> minutes = np.datetime64("2024-01-01T00:00") + np.array([1, 7, 12, 48])
        >>> events = rk.TimeSeries([1.0, 3.0, 4.0, 8.0], names=["x"], time=minutes, freq="rows")
        >>> rk.resample(events, "10min")["x"].tolist()
        [2.0, 4.0, 8.0]
        >>> filled = rk.resample(events, "10min", fill="ffill", gap="1h")
        >>> filled.values.tolist()
        [[2.0, 0.0], [4.0, 0.0], [4.0, 1.0], [4.0, 1.0], [8.0, 0.0]]
    """
    import pandas as pd

    series = as_series(series)
    step = parse_step(freq)
    if series.time is None or series.time.dtype.kind != "M" or isinstance(step, int):
        raise ValueError("resample needs a series with dates, and freq= with a duration.")
    if fill not in FILLS:
        raise ValueError(f"fill= must be one of {FILLS}, received {fill!r}.")
    if (fill is None) != (gap is None):
        raise ValueError("fill= needs gap=, the longest time to fill, and gap= needs fill=.")
    if len(series.target_rows) != 1 or np.diff(series.target_rows)[0] != len(series):
        raise ValueError("series= is a part of a split: resample first, then split.")
    if fill is not None and mark in series.names:
        raise ValueError(f"mark= must differ from the columns, received {mark!r}.")
    longest = None if gap is None else parse_step(gap)
    if isinstance(longest, int) or (
        longest is not None and np.datetime_data(longest.dtype)[0] in ("M", "Y")
    ):
        raise ValueError(f"gap= must be a fixed time such as '1h' or '31D', received {gap!r}.")
    number, unit = int(step.astype(np.int64)), np.datetime_data(step.dtype)[0]
    rule = f"{7 * number}D" if unit == "W" else f"{number}{RULES.get(unit, unit)}"
    hows = {name: how if isinstance(how, str) else how.get(name, "mean") for name in series.names}
    if not isinstance(how, str):
        series.columns(list(how), what="how")
    index = pd.DatetimeIndex(series.time)
    if series.zone is not None:
        index = index.tz_localize("UTC").tz_convert(series.zone)
    values, times, lengths = [], [], []
    for start, stop in zip(series.bounds[:-1], series.bounds[1:], strict=True):
        rows = np.where(np.isfinite(series.values[start:stop]), series.values[start:stop], np.nan)
        frame = pd.DataFrame(rows.astype(np.float64), index[start:stop], list(series.names))
        binned = frame.resample(rule)
        try:
            steps = binned.agg(hows)[list(series.names)].astype(np.float64)
        except AttributeError as error:
            raise ValueError(f"how= names nothing that pandas knows: {how!r}.") from error
        seen = binned.count().to_numpy() > 0
        kept = binned.size().to_numpy() > 0
        counted = np.array([each == "count" for each in hows.values()])
        known = steps.to_numpy(copy=True)
        known[~seen & ~counted] = np.nan
        if longest is not None:
            steps = pd.DataFrame(known, steps.index, steps.columns)
            whole = steps.ffill() if fill == "ffill" else steps.interpolate("time")
            filled = ~seen & _near(frame, steps.index, longest)
            known[filled] = whole.to_numpy()[filled]
            kept |= filled.any(axis=1)
            known = np.column_stack([known, filled.any(axis=1)])
        values.append(known[kept])
        made = steps.index if steps.index.tz is None else steps.index.tz_convert(None)
        times.append(made.to_numpy()[kept])
        lengths.append(int(kept.sum()))
    group = None
    if series.groups != (None,):
        group = Runs(np.cumsum([0, *lengths]), series.groups, reordered=True)
    return TimeSeries(
        np.concatenate(values),
        names=[*series.names, *([mark] * (longest is not None))],
        time=Times(np.concatenate(times), series.zone),
        group=group,
        freq=step,
    )


def _near(frame: Any, steps: Any, longest: Any) -> np.ndarray:
    """`(steps, columns)` whether the values around an interval are close enough to fill it."""
    near = np.zeros((len(steps), frame.shape[1]), dtype=bool)
    at = steps.to_numpy()
    for column, name in enumerate(frame.columns):
        seen = frame.index.to_numpy()[frame[name].notna().to_numpy()]
        after = np.searchsorted(seen, at)
        inside = (after > 0) & (after < len(seen))
        apart = seen[after[inside]] - seen[after[inside] - 1]
        near[inside, column] = apart <= longest
    return near
