"""Times: from text to datetime64, and the step at which they were taken."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

import numpy as np

from keras_rnnkit.data.zones import as_zone, from_local, to_local, zone_name

__all__ = [
    "Times",
    "as_times",
    "format_duration",
    "infer_step",
    "is_date",
    "is_time",
    "moment",
    "parse_step",
    "steps_between",
]

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
# Digits are those of ASCII: int and float would read those of other scripts, and 1_000.
ISO = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?)?", re.ASCII)
ISO_WITH_ZONE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)", re.ASCII)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
COUNT = re.compile(r"[+-]?\d{1,18}", re.ASCII)
OTHER_DIGIT = re.compile(r"(?![0-9])\d")
UNIX = ("unix", "unix_ms")
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
FINE = ("s", "ms", "us", "ns")
SECONDS = {"D": 86400, "h": 3600, "min": 60, "s": 1}
CHUNK_ROWS = 1 << 20


class Times(NamedTuple):
    """Times and their zone.

    Attributes:
        values: `(rows,)` `datetime64` or `int64`; in UTC where there is a zone.
        zone: what the times are of, or None.
    """

    values: np.ndarray
    zone: tzinfo | None


def _bad_row(text: list[str], pattern: re.Pattern[str]) -> int:
    return next((row for row, value in enumerate(text) if not pattern.fullmatch(value)), -1)


def _from_format(text: list[str], time_format: str) -> tuple[np.ndarray, set[tzinfo]]:
    """Reads every value in one strptime format; ValueError holds the first row that differs."""
    parts = re.split(r"(%.)", time_format)
    names = [part[1] for part in parts[1::2]]
    if any(f"%{name}" not in DIRECTIVES for name in names) or len(set(names)) < len(names):
        values = []
        for row, value in enumerate(text):
            if OTHER_DIGIT.search(value):
                raise ValueError(row, value)
            try:
                values.append(datetime.strptime(value, time_format))
            except ValueError as error:
                raise ValueError(row, value) from error
        return _from_moments(values, text)
    pattern = re.compile("".join(DIRECTIVES.get(part, re.escape(part)) for part in parts), re.ASCII)
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
    return _from_iso(translated, text), set()


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


def _from_moments(moments: list[datetime], given: list[Any]) -> tuple[np.ndarray, set[tzinfo]]:
    """Times and zones of `datetime` objects, of which all tell their zone or none does."""
    zoned = [moment.tzinfo is not None for moment in moments]
    if any(zoned) and not all(zoned):
        odd = zoned.index(not zoned[0])
        raise ValueError(odd, str(given[odd]))
    fine = next((row for row, m in enumerate(moments) if getattr(m, "nanosecond", 0)), None)
    if fine is not None:
        raise ValueError(
            f"row {fine} (counted from 0) counts nanoseconds, which datetime objects do not: pass "
            "a column or index of pandas, or datetime64"
        )
    zones = {moment.tzinfo for moment in moments} - {None}
    if zones:
        moments = [moment.astimezone(UTC).replace(tzinfo=None) for moment in moments]
    return np.array(moments, dtype="datetime64[us]"), zones  # type: ignore[return-value]


def _from_text(text: list[str], time_format: str | None) -> tuple[np.ndarray, set[tzinfo]]:
    if time_format in UNIX:
        row = _bad_row(text, NUMBER)
        if row >= 0:
            raise ValueError(row, text[row])
        seconds = np.array(text, dtype=np.float64)
        if time_format == "unix_ms":
            seconds /= 1000
        # Seconds of the year 5138 are milliseconds of 1973.
        wrong = ~(np.abs(seconds) < 1e11)
        if wrong.any():
            raise ValueError(int(wrong.argmax()), text[wrong.argmax()])
        return (seconds * 1e6).round().astype(np.int64).view("datetime64[us]"), set()
    if time_format == "count":
        row = _bad_row(text, COUNT)
        if row >= 0:
            raise ValueError(row, text[row])
        return np.array(text, dtype=np.int64), set()
    if time_format is not None:
        return _from_format(text, time_format)
    if ISO_WITH_ZONE.fullmatch(text[0]):
        moments = []
        for row, value in enumerate(text):
            try:
                moments.append(datetime.fromisoformat(value))
            except ValueError as error:
                raise ValueError(row, value) from error
        return _from_moments(moments, text)
    if ISO.fullmatch(text[0]):
        row = _bad_row(text, ISO)
        if row >= 0:
            _from_iso(text[:row], text)
            raise ValueError(row, text[row])
        return _from_iso(text, text), set()
    return _guess(text), set()


def _guess(text: list[str]) -> np.ndarray:
    """Reads the one common format that fits every row."""
    found: dict[str, np.ndarray] = {}
    farthest = (-1, text[0])
    for time_format in GUESSES:
        try:
            found[time_format], _ = _from_format(text, time_format)
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


def as_times(
    time: Any, *, time_format: str | None = None, zone: Any = None, what: str = "time"
) -> Times:
    """Times as `datetime64` or `int64`, and the time zone that they are of.

    Args:
        time: `datetime64`, integers (kept as they are: a counter), `datetime` objects, text, or a
            column of a DataFrame.
        time_format: `strptime` format of text, `"unix"` or `"unix_ms"` for seconds or
            milliseconds since 1970, or `"count"` for whole numbers. By default ISO 8601 and the
            common dotted and slashed dates are recognised.
        zone: name of the zone. Times that tell their offset from UTC, and seconds since 1970, are
            counted in it; others are what its clock shows.
        what: what to call the times in an error.

    Raises:
        ValueError: a value cannot be read (its row is named), two formats fit, the times do not
            fit 64 bits, or they are of several offsets and no `zone` names the place.
    """
    if isinstance(time, Times):
        return time
    values, zones = _without_zone(time)
    if values.ndim != 1:
        raise ValueError(f"{what}= must have one axis (rows,), received shape {values.shape}.")
    if values.dtype.kind == "M":
        times = values
        if np.datetime_data(values.dtype)[0] not in FINE:
            times = values.astype("M8[s]")
            wrapped = (times.astype(values.dtype) != values) & ~np.isnat(values)
            _refuse_wrapped(values, wrapped, what)
    elif values.dtype.kind in "iu" and time_format is None:
        times = values.astype(np.int64)
        if values.dtype.kind == "u":
            _refuse_wrapped(values, times < 0, what)
    elif not values.size:
        times = np.empty(0, "datetime64[us]")
    elif values.dtype.kind in "OSUTiuf":
        if values.dtype.kind == "S":
            values = values.astype(str)
        try:
            times, zones = _read(values.tolist(), time_format)
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
    if times.dtype.kind == "M":
        missing = np.isnat(times)
        if missing.any():
            raise ValueError(
                f"{what}: row {missing.argmax()} (counted from 0) has no time. "
                "Drop or fill it first."
            )
    if times.size and int(times.max().astype(int)) - int(times.min().astype(int)) >= 2**63:
        raise ValueError(
            f"{what}= spans more than 64 bits can count: {times.min()} to {times.max()}."
        )
    if zone is None:
        return Times(times, _common_zone(zones, what))
    zone = as_zone(zone)
    if times.dtype.kind != "M":
        raise ValueError(f"zone= needs dates, and {what}= holds whole numbers.")
    if not zones and time_format not in UNIX:
        times = from_local(times, zone)
    return Times(times, zone)


def _without_zone(time: Any) -> tuple[np.ndarray, set[tzinfo]]:
    """The values, in UTC where they are a column of a DataFrame with a zone."""
    if not isinstance(time, (np.ndarray, list, tuple, range)):
        import narwhals.stable.v2 as nw

        column = time.to_series() if hasattr(time, "nlevels") else time  # an index of pandas
        column = nw.from_native(column, series_only=True, pass_through=True)
        if isinstance(column, nw.Series):
            # narwhals does not know all zones of pandas by their names.
            zone = getattr(getattr(column.to_native(), "dtype", None), "tz", None)
            if zone is not None:
                return column.to_native().dt.tz_convert(None).to_numpy(), {as_zone(zone)}
            zone = getattr(column.dtype, "time_zone", None)
            if zone is not None:
                column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
                return column.to_numpy(), {as_zone(zone)}
            time = column.to_numpy()
    return np.asarray(time), set()


def is_date(column: Any) -> bool:
    """Whether a column of a DataFrame, as narwhals shows it, holds dates."""
    import narwhals.stable.v2 as nw

    native = getattr(column.to_native(), "dtype", None)
    return isinstance(column.dtype, (nw.Datetime, nw.Date)) or hasattr(native, "tz")


def _read(values: list[Any], time_format: str | None) -> tuple[np.ndarray, set[tzinfo]]:
    if isinstance(values[0], datetime) and values[0].tzinfo is not None:
        odd = next((row for row, v in enumerate(values) if not isinstance(v, datetime)), -1)
        if odd >= 0:
            raise ValueError(odd, str(values[odd]))
        return _from_moments(values, values)
    text = [value if isinstance(value, str) else str(value) for value in values]
    return _from_text(text, time_format)


def _common_zone(zones: set[tzinfo], what: str) -> tzinfo | None:
    found = {zone_name(zone): zone for zone in map(as_zone, zones)}
    if len(found) > 1:
        raise ValueError(
            f"{what}: the times are of several offsets or zones ({', '.join(sorted(found)[:3])}), "
            "which does not tell where days begin. Pass zone= with the name of the place, such as "
            "'Europe/Berlin', or 'UTC'."
        )
    return next(iter(found.values()), None)


def _refuse_wrapped(values: np.ndarray, wrapped: np.ndarray, what: str) -> None:
    if wrapped.any():
        row = int(wrapped.argmax())
        raise ValueError(
            f"{what}: row {row} (counted from 0) holds {values[row]}, more than 64 bits can count."
        )


def moment(time: Any, zone: tzinfo | None = None) -> str:
    """A time as people write it, on the clock of its zone."""
    if zone is not None:
        time = to_local(np.asarray(time), zone)
    return str(time).replace("T", " ").removesuffix(".000000000").removesuffix(".000000")


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
    """The times, in whose differences steps of a unit are counted.

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
        step: in days, weeks, months or years it is counted on the calendar (of the zone); else
            as time that goes by.
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
    """The commonest step, the shortest of several, and how often it is taken."""
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
