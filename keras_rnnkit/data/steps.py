"""Steps of time: from text to a duration, and the sampling rate of times."""

import re
from datetime import timedelta, tzinfo
from typing import Any

import numpy as np

from keras_rnnkit.data.zones import to_local

__all__ = ["format_duration", "infer_step", "parse_step", "steps_between"]

CALENDAR = ("D", "W", "M", "Y")
UNITS = {
    "ns": "ns",
    "us": "us",
    "ms": "ms",
    "s": "s",
    "min": "m",
    "h": "h",
    "d": "D",
    "w": "W",
    "month": "M",
    "year": "Y",
}
SECONDS = {"D": 86400, "h": 3600, "min": 60, "s": 1}
CHUNK_ROWS = 1 << 20


def parse_step(step: Any) -> np.timedelta64 | int:
    """A time step from text such as `"10min"`, `"1h"` or `"1month"`, a timedelta or an integer."""
    if isinstance(step, str):
        match = re.fullmatch(r"\s*(\d*)\s*([A-Za-z]+)\s*", step)
        unit = UNITS.get(match[2].lower() if match else "")
        # "MS" is pandas's start of a month, not a millisecond.
        if match is None or unit is None or int(match[1] or 1) == 0 or match[2] == "MS":
            raise ValueError(
                "freq= must be a positive number and a unit "
                f"({', '.join(UNITS)}), such as '10min', received {step!r}."
            )
        return np.timedelta64(int(match[1] or 1), unit)  # type: ignore[call-overload]
    if isinstance(step, timedelta):
        days = step // timedelta(days=1)
        step = np.timedelta64(step) if step % timedelta(days=1) else np.timedelta64(days, "D")
    if isinstance(step, np.timedelta64):
        number = int(step.astype(np.int64))
    elif isinstance(step, (int, np.integer)) and not isinstance(step, bool):
        number = int(step)
    else:
        raise ValueError(
            "freq= must be text such as '10min', a timedelta, a whole number for integer times, "
            f"or 'rows', received {step!r}."
        )
    if number <= 0:
        raise ValueError(f"freq= must be positive, received {step!r}.")
    return step if isinstance(step, np.timedelta64) else number


def _counted(times: np.ndarray, unit: str, zone: tzinfo | None) -> np.ndarray:
    """The times whose differences are counted in steps of a unit.

    Days, months and years are those of the zone's calendar: a day is 23 or 25 hours long where the
    clock changes, and 31 January and 28 February are one month apart.
    """
    if unit in CALENDAR and zone is not None:
        times = to_local(times, zone)
    return times.astype(f"datetime64[{unit}]") if unit in ("M", "Y") else times


def steps_between(
    times: np.ndarray, step: np.timedelta64 | int, zone: tzinfo | None = None
) -> np.ndarray:
    """For each row but the first, whether it follows the row before by exactly one step.

    Args:
        times: `(rows,)`, in UTC with a zone.
        step: days, weeks, months and years are counted on the calendar (of the zone); other steps
            as elapsed time.
        zone: of the times.
    """
    unit = np.datetime_data(step.dtype)[0] if isinstance(step, np.timedelta64) else ""
    follows = np.empty(max(len(times) - 1, 0), dtype=bool)
    for start in range(0, len(follows), CHUNK_ROWS):
        part = _counted(times[start : start + CHUNK_ROWS + 1], unit, zone)
        follows[start : start + CHUNK_ROWS] = np.diff(part) == step
    return follows


def infer_step(
    times: np.ndarray, inside: np.ndarray, zone: tzinfo | None = None
) -> np.timedelta64 | int | None:
    """The commonest step between neighbouring rows, or None with fewer than two rows.

    Args:
        times: `(rows,)`, in UTC with a zone.
        inside: `(rows - 1,)`, true where both neighbours belong to one group.
        zone: of the times.
    """
    common, number = _commonest(times, inside, "", None)
    if common is None or times.dtype.kind != "M":
        return None if common is None else int(common)
    day = np.timedelta64(1, "D")
    if zone is not None:
        # A day that begins with the clock's midnight is not always 24 hours long.
        local, alike = _commonest(times, inside, "D", zone)
        if alike >= number and local % day == np.timedelta64(0, "D"):
            common, number = local.astype("timedelta64[D]"), alike
    if common >= 28 * day and number < inside.sum():
        # Months are 28 to 31 days long: the calendar then explains more steps than any length.
        months, alike = _commonest(times, inside, "M", zone)
        if months > np.timedelta64(0, "M") and alike > number:
            whole = int(months.astype(np.int64))
            return np.timedelta64(whole, "M") if whole % 12 else np.timedelta64(whole // 12, "Y")
    return common


def _commonest(
    times: np.ndarray, inside: np.ndarray, unit: str, zone: tzinfo | None
) -> tuple[Any, int]:
    """The commonest step (the shortest of several), and how often it occurs."""
    found = []
    for start in range(0, len(inside), CHUNK_ROWS):
        part = _counted(times[start : start + CHUNK_ROWS + 1], unit, zone)
        steps = np.diff(part)[inside[start : start + CHUNK_ROWS]]
        if len(steps) and (steps == steps[0]).all():
            found.append((steps[:1], np.array([len(steps)])))
        else:
            found.append(np.unique(steps, return_counts=True))
    if not inside.any():
        return None, 0
    values, at = np.unique(np.concatenate([steps for steps, _ in found]), return_inverse=True)
    counts = np.bincount(at, weights=np.concatenate([counts for _, counts in found]))
    return values[counts.argmax()], int(counts.max())


def format_duration(step: Any) -> str:
    """A time step as people write it: `10 min`, `1 h`, `7 D`."""
    if not isinstance(step, np.timedelta64):
        return str(step)
    unit = np.datetime_data(step.dtype)[0]
    if unit in "MY":
        number = int(step.astype(np.int64))
        return f"{number} {'month' if unit == 'M' else 'year'}{'s' * (number > 1)}"
    seconds = step / np.timedelta64(1, "s")
    for name, length in SECONDS.items():
        if seconds >= length and (seconds / length) == round(seconds / length, 3):
            return f"{seconds / length:g} {name}"
    return f"{seconds:g} s"
