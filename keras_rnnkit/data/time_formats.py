"""Times from text: formats that are recognised, and formats that are given."""

import re
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

import numpy as np

__all__ = [
    "NUMBER",
    "UNIX",
    "TimeReader",
    "compact_dates",
    "compact_format",
    "from_moments",
    "in_words",
    "is_compact_date",
    "is_time",
    "likely_format",
]

DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
WORDS = ("%d-%b-%Y", "%d-%b-%y", "%y-%b-%d")
# Day and month, or day and year, may stand either way: a format counts where no other one fits.
GUESSES = tuple(
    date + clock
    for date in DATES + WORDS
    for clock in ("", " %H", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
)
# Digits are those of ASCII: int and float would read those of other scripts, and 1_000.
ISO = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?)?", re.ASCII)
ISO_WITH_ZONE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*?(Z|[+-]\d\d(?::?\d\d)?)", re.ASCII)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
COUNT = re.compile(r"[+-]?\d{1,18}", re.ASCII)
QUARTER = re.compile(r"(\d{4})[- ]?Q([1-4])|Q([1-4])[-/ ]?(\d{4})", re.ASCII)
OTHER_DIGIT = re.compile(r"(?![0-9])\d")
UNIX = {"unix": ("s", 1), "unix_ms": ("ms", 1e3), "unix_us": ("us", 1e6), "unix_ns": ("ns", 1e9)}
EPOCH = datetime(1970, 1, 1)
EXCEL = np.datetime64("1899-12-30", "ms")
# What whole numbers of so many digits are most likely.
WRITTEN = {
    4: ("%Y", "years"),
    5: ("excel", "days of a spreadsheet"),
    8: ("%Y%m%d", "dates"),
    10: ("unix", "seconds"),
    13: ("unix_ms", "milliseconds"),
    16: ("unix_us", "microseconds"),
    19: ("unix_ns", "nanoseconds"),
}
NAMED: dict[str | None, str] = {
    None: "a date and time",
    "count": "a whole number",
    "excel": "the day number of a spreadsheet",
    **{name: f"{words} since 1970" for name, words in WRITTEN.values() if name in UNIX},
}


def _checked(texts: list[str], pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """The matches of every text; ValueError holds the first row without a match, and its text."""
    found = [pattern.fullmatch(text) for text in texts]
    if None in found:
        raise ValueError(found.index(None), texts[found.index(None)])
    return found  # type: ignore[return-value]


def _by_pandas(texts: list[str], time_format: str, **options: Any) -> np.ndarray | None:
    """Times of one format, or None if pandas cannot read a row, or reads it too loosely."""
    import pandas as pd

    joined = "\n".join(texts)
    if (
        "now" in joined
        or "today" in joined
        or (not joined.isascii() and OTHER_DIGIT.search(joined))
    ):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of several offsets, before pandas 3
            cells = np.array(texts, dtype=object)
            index = pd.DatetimeIndex(pd.to_datetime(cells, format=time_format, **options))
    except (ValueError, TypeError, OverflowError):
        return None
    times = (index if index.tz is None else index.tz_convert(None)).to_numpy()
    if np.isnat(times).any():
        return None
    coarse = times.astype("datetime64[us]")
    return coarse if (coarse == times).all() else times


def _row_by_row(
    texts: list[str], read: Callable[[str], datetime]
) -> tuple[np.ndarray, set[tzinfo]]:
    moments = []
    for row, text in enumerate(texts):
        if OTHER_DIGIT.search(text):
            raise ValueError(row, text)
        try:
            moments.append(read(text))
        except ValueError as error:
            raise ValueError(row, text) from error
    return from_moments(moments, texts)


def from_moments(moments: list[datetime], given: list[Any]) -> tuple[np.ndarray, set[tzinfo]]:
    """Times and zones of `datetime` objects, of which all have a zone or none has."""
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


def _iso_moment(text: str) -> datetime:
    if not ISO.fullmatch(text):
        raise ValueError(text)
    moment: datetime = np.datetime64(text, "us").item()
    return moment


def _numbers(texts: list[str], time_format: str) -> np.ndarray:
    """Times from numbers: seconds or parts of them since 1970, spreadsheet days, or a counter."""
    _checked(texts, COUNT if time_format == "count" else NUMBER)
    try:
        numbers = np.array(texts).astype(np.int64)
    except (ValueError, OverflowError):
        numbers = np.array(texts).astype(np.float64)
    if numbers.dtype.kind == "i" and compact_dates(numbers) is not None:
        raise ValueError(0, texts[0])
    if time_format == "count":
        return numbers
    # Seconds of the year 5138 are milliseconds of 1973.
    unit, per_second = UNIX.get(time_format, ("D", 1))
    low, high = (1, 2_958_466) if time_format == "excel" else (-np.inf, 1e11 * per_second)
    right = (numbers >= low) & (np.abs(numbers) < high)
    if not right.all():
        raise ValueError(int(right.argmin()), texts[right.argmin()])
    if time_format == "excel":
        return EXCEL + (numbers * 86_400_000).round().astype("timedelta64[ms]")
    if numbers.dtype.kind == "i":
        times = numbers.astype(f"datetime64[{unit}]")
        return times if unit == "ns" else times.astype("datetime64[us]")
    return (numbers * (1e6 / per_second)).round().astype(np.int64).astype("datetime64[us]")


def compact_dates(numbers: np.ndarray) -> np.ndarray | None:
    """Days from integers such as 20170130, or None if one is not a day from 1800 to 2199."""
    if not ((numbers >= 18000101) & (numbers <= 21991231)).all() or not numbers.size:
        return None
    month = (numbers // 10000 - 1970) * 12 + numbers // 100 % 100 - 1
    months = month.astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (numbers % 100 - 1).astype("timedelta64[D]")
    right = (numbers // 100 % 100 - 1 < 12) & (numbers // 100 % 100 > 0) & (numbers % 100 > 0)
    return (
        days.astype("datetime64[s]")
        if (right & (days.astype(months.dtype) == months)).all()
        else None
    )


def _read_texts(texts: list[str], time_format: str) -> tuple[np.ndarray, set[tzinfo]]:
    """Times of one format, or of "iso", "iso with zone" or "quarter"."""
    if time_format in UNIX or time_format in ("count", "excel"):
        return _numbers(texts, time_format), set()
    if time_format == "iso with zone":
        offsets = {match[1] for match in _checked(texts, ISO_WITH_ZONE)}
        times = _by_pandas(texts, "ISO8601", utc=True)
        if times is None:
            return _row_by_row(texts, datetime.fromisoformat)
        zones = {datetime.fromisoformat(f"2000-01-01T00:00{each}").tzinfo for each in offsets}
        return times, zones  # type: ignore[return-value]
    if time_format == "quarter":
        found = [(int(m[1] or m[4]), int(m[2] or m[3])) for m in _checked(texts, QUARTER)]
        months = np.array([(year - 1970) * 12 + 3 * (quarter - 1) for year, quarter in found])
        return months.astype("datetime64[M]").astype("datetime64[s]"), set()
    if time_format == "iso":
        times, read = _by_pandas(texts, "ISO8601"), _iso_moment
    else:
        zoned = "%z" in time_format.lower()
        times = None if zoned else _by_pandas(texts, time_format)
        read = partial(_strptime, time_format)
    return _row_by_row(texts, read) if times is None else (times, set())


def _strptime(time_format: str, text: str) -> datetime:
    return datetime.strptime(text, time_format)


def _fitting(text: str) -> list[str]:
    """The recognised formats that a text fits."""
    known = {"iso": ISO, "iso with zone": ISO_WITH_ZONE, "quarter": QUARTER}
    named = [name for name, pattern in known.items() if pattern.fullmatch(text)]
    return named[:1] or [guess for guess in GUESSES if is_time(text, guess)]


def is_time(text: str, time_format: str | None = None) -> bool:
    """Whether the text is a time of a `strptime` format, or of one that `as_times` recognises."""
    if time_format is None:
        return bool(_fitting(text))
    try:
        _row_by_row([text], partial(_strptime, time_format))
    except ValueError:
        return False
    return True


def is_compact_date(text: str) -> bool:
    """Whether the text is a date such as 20170130, which may be a number too."""
    return (
        len(text) == 8
        and bool(COUNT.fullmatch(text))
        and compact_dates(np.array([int(text)])) is not None
    )


def compact_format(texts: list[str]) -> str | None:
    """The format of times such as 2024013123, from months to seconds, if all texts are such."""
    for time_format in ("%Y%m", "%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"):
        digits = len(f"{EPOCH:{time_format}}")
        if all(
            len(text) == digits and "18" <= text[:2] <= "21" and is_time(text, time_format)
            for text in texts
        ):
            return time_format
    return None


def likely_format(text: str) -> str:
    """What a number is most likely as a time, by its digits."""
    digits = text.lstrip("+-").split(".")[0]
    return WRITTEN.get(len(digits), ("count", ""))[0] or "count"


class TimeReader:
    """Reads the texts of a column of times, chunk by chunk.

    If several formats fit, all are tried until one is left.

    Args:
        time_format: as `as_times` takes it.
    """

    def __init__(self, time_format: str | None = None) -> None:
        self.zones: set[tzinfo] = set()
        self._asked = time_format
        self._found: dict[str, list[np.ndarray]] = {}
        self._first = ""
        self._rows = 0

    def add(self, texts: list[str]) -> None:
        """Read more texts; ValueError holds the number and text of the first wrong row."""
        if not self._rows:
            self._first = texts[0]
            compact = ["%Y%m%d"] if is_compact_date(texts[0]) else []
            formats = [self._asked] if self._asked else compact or _fitting(texts[0])
            self._found = {each: [] for each in formats}
        farthest = (-1, "")
        read = {}
        for each in self._found:
            try:
                read[each], zones = _read_texts(texts, each)
            except ValueError as error:
                if len(error.args) != 2:
                    raise
                farthest = max(farthest, error.args)
            else:
                self.zones |= zones
        if not read:
            row, text = farthest if self._found else (0, texts[0])
            raise ValueError(self._rows + row, text)
        self._found = {each: [*self._found[each], times] for each, times in read.items()}
        self._rows += len(texts)

    def take(self, *, last: bool = False) -> np.ndarray:
        """The times read since the last call; none as long as more than one format fits."""
        found = {each: np.concatenate(times) for each, times in self._found.items() if times}
        times = next(iter(found.values()), np.empty(0, "datetime64[us]"))
        if not all(np.array_equal(times, other) for other in found.values()):
            if not last:
                return times[:0]
            raise ValueError(
                f"the times, such as {self._first!r}, fit {' and '.join(map(repr, found))}: "
                "pass time_format= with the one that is meant."
            )
        if last or len(found) == 1:
            self._found = {each: [] for each in self._found}
            return times
        return times[:0]


def in_words(error: ValueError, time_format: str | None, what: str) -> ValueError:
    """The error of a `TimeReader`, in words."""
    if len(error.args) != 2:
        return ValueError(f"{what}: {error}")
    row, value = error.args
    wanted = NAMED.get(time_format, f"format {time_format!r}")
    digits = value.lstrip("+-").split(".")[0]
    likely, words = WRITTEN.get(len(digits) * digits.isdigit(), (time_format, ""))
    if time_format is None and digits.isdigit():
        wanted += " (or time_format='count' for whole numbers"
        wanted += f", {likely!r} for {words})" if words else ")"
    elif time_format in NAMED and likely != time_format:
        wanted += f" (of {words}: time_format={likely!r})"
    return ValueError(
        f"{what}: expected {wanted} in every row, received {value!r} in row {row} "
        "(counted from 0). Correct the row, or pass time_format= with its format."
    )
