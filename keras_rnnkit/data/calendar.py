"""calendar: hours, weekdays and seasons as columns, known ahead of time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["calendar"]

# By name: the period that a part counts in, its own unit, and the number of the first.
PARTS = {
    "minute": ("h", "m", 0),
    "hour": ("D", "h", 0),
    "weekday": ("W", "D", 0),
    "day": ("M", "D", 1),
    "day_of_year": ("Y", "D", 1),
    "month": ("Y", "M", 1),
}
# Weeks of datetime64 begin on the weekday of 1 January 1970, a Thursday.
THURSDAY = np.timedelta64(3, "D")


def calendar(*parts: str, cyclic: bool = True) -> dict[str, Callable[[np.ndarray], Any]]:
    """Calendar features: functions of time, by column name, for `TimeSeries.with_columns`.

    They are computed from local time in the zone of the series. Such columns are known future
    covariates: name them in `WindowSpec(known=...)`, and `forecast_windows` computes them for the
    future. Any function of times may be used in the same way, such as one that marks holidays.

    Args:
        *parts: `"minute"` (of the hour), `"hour"` (of the day), `"weekday"` (Monday is 0), `"day"`
            (of the month, from 1), `"day_of_year"` and `"month"` (from 1).
        cyclic: two columns for each part, sine and cosine of the position in the hour, day, week,
            month or year, so that the end is next to the beginning. Otherwise one column of
            integers: for decision trees, or as `categories` for an `Embedding`.

    Raises:
        ValueError: an unknown part.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> hours = np.datetime64("2024-01-01T00", "h") + np.arange(48)
        >>> series = rk.TimeSeries(np.arange(48.0), names=["load"], time=hours)
        >>> series = series.with_columns(rk.data.calendar("hour"))
        >>> series = series.with_columns(rk.data.calendar("weekday", cyclic=False))
        >>> series.names, series.values[[6, 24]].round(3).tolist()
        (('load', 'hour sin', 'hour cos', 'weekday'), [[6.0, 1.0, 0.0, 0.0], [24.0, 0.0, 1.0, 1.0]])
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(
            f"calendar() takes {', '.join(map(repr, PARTS))}, "
            f"received {', '.join(map(repr, unknown)) or 'none of them'}."
        )
    if not cyclic:
        return {part: _Part(part, None) for part in parts}
    return {f"{part} {wave}": _Part(part, wave) for part in parts for wave in ("sin", "cos")}


@dataclass(frozen=True)
class _Part:
    """A part of the calendar as a function of times, which can be pickled."""

    part: str
    wave: str | None

    def __call__(self, time: np.ndarray) -> np.ndarray:
        if time.dtype.kind != "M":
            raise ValueError(
                f"the calendar's {self.part} needs dates, and the times are whole numbers."
            )
        period, unit, first = PARTS[self.part]
        if period == "W":
            time = time + THURSDAY
        begin = time.astype(f"datetime64[{period}]")
        if self.wave is None:
            whole = time.astype(f"datetime64[{unit}]")
            return (whole - begin.astype(whole.dtype)).astype(np.int64) + first
        start, end = (
            t.astype(time.dtype) for t in (begin, begin + np.ones((), f"timedelta64[{period}]"))
        )
        turn = 2 * np.pi * ((time - start) / (end - start))
        return np.asarray(np.sin(turn) if self.wave == "sin" else np.cos(turn))
