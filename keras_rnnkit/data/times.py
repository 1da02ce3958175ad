"""Times: from text to datetime64, and the step at which they were taken."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

__all__ = ["as_times", "format_duration", "infer_step", "is_time", "parse_step", "steps_between"]

DIRECTIVES = {
    "%Y": r"(?P<Y>\d{4})",
    "%m": r"(?P<m>\d{1,2})",
    "%d": r"(?P<d>\d{1,2})",
    "%H": r"(?P<H>\d{1,2})",
    "%M": r"(?P<M>\d{2})",
    "%S": r"(?P<S>\d{2})",
    "%f": r"(?P<f>\d{1,6})",
}
CLOCKS = ("", " %H:%M", " %H:%M:%S")
GUESSES = tuple(
    date + clock for date in ("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y") for clock in CLOCKS
)
ISO = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?)?")
ISO_WITH_ZONE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)")
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
FINE = ("s", "ms", "us", "ns")
SECONDS = {"D": 86400, "h": 3600, "min": 60, "s": 1}


def _bad_row(text: list[str], pattern: re.Pattern[str]) -> int:
    return next((row for row, value in enumerate(text) if not pattern.fullmatch(value)), -1)


def _from_format(text: list[str], time_format: str) -> np.ndarray:
    """Reads every value in one strptime format; ValueError holds the first row that differs."""
    parts = re.split(r"(%.)", time_format)
    names = [part[1] for part in parts[1::2]]
    if any(f"%{name}" not in DIRECTIVES for name in names) or len(set(names)) < len(names):
        values = []
        for row, value in enumerate(text):
            try:
                moment = datetime.strptime(value, time_format)
            except ValueError as error:
                raise ValueError(row, value) from error
            if moment.tzinfo is not None:
                moment = moment.astimezone(UTC).replace(tzinfo=None)
            values.append(moment)
        return np.array(values, dtype="datetime64[us]")
    pattern = re.compile("".join(DIRECTIVES.get(part, re.escape(part)) for part in parts))
    fields = {"Y": "1970", "m": "01", "d": "01", "H": "00", "M": "00", "S": "00", "f": "0"}

    def iso(match: re.Match[str]) -> str:
        f = {**fields, **match.groupdict()}
        return f"{f['Y']}-{f['m']:0>2}-{f['d']:0>2}T{f['H']:0>2}:{f['M']}:{f['S']}.{f['f']:0<6}"

    translated: list[str] = []
    for row, value in enumerate(text):
        match = pattern.fullmatch(value)
        if match is None:
            # A row above may hold a day that its month lacks.
            _from_iso(translated, text)
            raise ValueError(row, value)
        translated.append(iso(match))
    return _from_iso(translated, text)


def _from_iso(values: list[str], text: list[str]) -> np.ndarray:
    try:
        return np.array(values, dtype="datetime64[us]")
    except ValueError:
        for row, value in enumerate(values):
            try:
                np.datetime64(value, "us")
            except ValueError:
                raise ValueError(row, text[row]) from None
        raise


def _from_text(text: list[str], time_format: str | None) -> np.ndarray:
    if time_format in ("unix", "unix_ms"):
        seconds = np.empty(len(text))
        for row, value in enumerate(text):
            try:
                seconds[row] = float(value)
            except ValueError:
                raise ValueError(row, value) from None
        if time_format == "unix_ms":
            seconds /= 1000
        # Seconds of the year 5138 are milliseconds of 1973; NaN is no time either.
        wrong = ~(np.abs(seconds) < 1e11)
        if wrong.any():
            raise ValueError(int(wrong.argmax()), text[wrong.argmax()])
        return (seconds * 1e6).round().astype(np.int64).view("datetime64[us]")
    if time_format == "count":
        row = _bad_row(text, re.compile(r"[+-]?\d{1,18}"))
        if row >= 0:
            raise ValueError(row, text[row])
        return np.array(text, dtype=np.int64)
    if time_format is not None:
        return _from_format(text, time_format)
    if ISO_WITH_ZONE.fullmatch(text[0]):
        return _from_format_iso_zone(text)
    if ISO.fullmatch(text[0]):
        row = _bad_row(text, ISO)
        if row >= 0:
            _from_iso(text[:row], text)
            raise ValueError(row, text[row])
        return _from_iso(text, text)
    return _guess(text)


def _from_format_iso_zone(text: list[str]) -> np.ndarray:
    values = []
    for row, value in enumerate(text):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(row, value) from error
        if moment.tzinfo is None:
            raise ValueError(row, value)
        values.append(moment.astimezone(UTC).replace(tzinfo=None))
    return np.array(values, dtype="datetime64[us]")


def _guess(text: list[str]) -> np.ndarray:
    """Reads the one common format that fits every row."""
    found: dict[str, np.ndarray] = {}
    farthest = (-1, text[0])
    for time_format in GUESSES:
        try:
            found[time_format] = _from_format(text, time_format)
        except ValueError as error:
            farthest = max(farthest, (error.args[0], error.args[1]))
    if not found:
        raise ValueError(*farthest)
    if len(found) > 1 and not all(
        np.array_equal(times, next(iter(found.values()))) for times in found.values()
    ):
        raise ValueError(
            f"the times, such as {text[0]!r}, fit {' and '.join(map(repr, found))}: "
            "pass time_format= with the one that is meant."
        )
    return next(iter(found.values()))


def as_times(time: Any, *, time_format: str | None = None, what: str = "time") -> np.ndarray:
    """Times as `datetime64` or `int64`, shape `(rows,)`.

    Args:
        time: `datetime64`, integers (kept as they are: a counter), `datetime` objects, or text.
        time_format: `strptime` format of text, `"unix"` or `"unix_ms"` for seconds or
            milliseconds since 1970, or `"count"` for whole numbers. By default ISO 8601 and the
            common dotted and slashed dates are recognised.
        what: what to call the times in an error.

    Raises:
        ValueError: a value cannot be read (its row is named), or two formats fit.
    """
    values = np.asarray(time)
    if values.ndim != 1:
        raise ValueError(f"{what}= must have one axis (rows,), received shape {values.shape}.")
    if values.dtype.kind == "M":
        times = values if np.datetime_data(values.dtype)[0] in FINE else values.astype("M8[s]")
    elif values.dtype.kind in "iu" and time_format is None:
        return values.astype(np.int64)
    elif not values.size:
        return np.empty(0, "datetime64[us]")
    elif values.dtype.kind in "OSUTiuf":
        if values.dtype.kind == "S":
            values = values.astype(str)
        text = [value if isinstance(value, str) else str(value) for value in values.tolist()]
        try:
            times = _from_text(text, time_format)
        except ValueError as error:
            if len(error.args) != 2:
                raise ValueError(f"{what}: {error}") from error
            row, value = error.args
            wanted = f"format {time_format!r}" if time_format else "a date and time"
            if time_format == "unix":
                wanted = "seconds since 1970 (of milliseconds: time_format='unix_ms')"
            if time_format is None and value.lstrip("+-").isdigit():
                wanted += " (or time_format='count' for whole numbers, 'unix' for seconds)"
            raise ValueError(
                f"{what}: expected {wanted} in every row, received {value!r} in row {row} "
                "(counted from 0). Correct the row, or pass time_format= with its format."
            ) from error
    else:
        raise ValueError(
            f"{what}= must hold dates, integers or text, received dtype {values.dtype}."
        )
    if times.dtype.kind == "i":
        return times
    missing = np.isnat(times)
    if missing.any():
        raise ValueError(
            f"{what}: row {missing.argmax()} (counted from 0) has no time. Drop or fill it first."
        )
    return times


def is_time(text: str, time_format: str | None = None) -> bool:
    """Whether the text is a time of a `strptime` format, or of one that `as_times` recognises."""
    if time_format is None and (ISO.fullmatch(text) or ISO_WITH_ZONE.fullmatch(text)):
        return True
    for guess in GUESSES if time_format is None else (time_format,):
        try:
            _from_format([text], guess)
        except ValueError:
            continue
        return True
    return False


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
        step = np.timedelta64(step)
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


def _calendar(times: np.ndarray, unit: str) -> np.ndarray:
    return times.astype(f"datetime64[{unit}]").astype(np.int64)


def steps_between(times: np.ndarray, step: np.timedelta64 | int) -> np.ndarray:
    """For each row but the first, whether it follows the row before by exactly one step.

    Months and years are counted on the calendar, so that 31 January and 28 February are one
    month apart.
    """
    if isinstance(step, np.timedelta64) and np.datetime_data(step.dtype)[0] in "MY":
        months = _calendar(times, np.datetime_data(step.dtype)[0])
        return np.diff(months) == step.astype(np.int64)
    return np.diff(times) == step


def infer_step(times: np.ndarray, inside: np.ndarray) -> np.timedelta64 | int | None:
    """The commonest step between neighbouring rows, or None with fewer than two rows.

    Args:
        times: `(rows,)`.
        inside: `(rows - 1,)`, true where both neighbours belong to one group.
    """
    steps = np.diff(times)[inside]
    if not steps.size:
        return None
    if (steps == steps[0]).all():
        common = steps[0]
    else:
        values, counts = np.unique(steps, return_counts=True)
        common = values[counts.argmax()]
        if times.dtype.kind == "M" and common >= np.timedelta64(28, "D"):
            # Months are 28 to 31 days long: the calendar then explains more steps than any length.
            months, alike = np.unique(np.diff(_calendar(times, "M"))[inside], return_counts=True)
            number = int(months[alike.argmax()])
            if number > 0 and alike.max() > counts.max():
                years, rest = divmod(number, 12)
                return np.timedelta64(number, "M") if rest else np.timedelta64(years, "Y")
    return common if times.dtype.kind == "M" else int(common)


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
