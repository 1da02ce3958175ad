"""Time zones: from UTC to local time, and back."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

__all__ = ["as_zone", "comes_twice", "from_local", "second_of_two", "to_local", "zone_name"]

OFFSET = re.compile(r"(?:UTC)?([+-])(\d\d):?(\d\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86400
# Of the years that datetime knows, less a day on either side for the offset itself.
FIRST_DAY, LAST_DAY = -719160, 2932890


def as_zone(zone: Any) -> tzinfo:
    """A time zone from its name (`"Europe/Berlin"`, `"UTC"`, `"+02:00"`) or a `tzinfo`.

    Raises:
        ValueError: there is no zone of this name.
    """
    zone = getattr(zone, "zone", None) or zone  # what pytz makes is bound to one offset
    if isinstance(zone, tzinfo):
        return zone
    if not isinstance(zone, str):
        raise ValueError(f"zone= must be a name such as 'Europe/Berlin', received {zone!r}.")
    if zone == "UTC":
        return UTC
    match = OFFSET.fullmatch(zone)
    if match:
        minutes = int(match[2]) * 60 + int(match[3])
        return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"zone= names no time zone: {zone!r}. Names are such as 'Europe/Berlin' or 'UTC' "
            "(where the system knows none, pip install tzdata)."
        ) from error


def zone_name(zone: tzinfo) -> str:
    """The name of a zone, as `as_zone` takes it."""
    return getattr(zone, "key", None) or str(zone)


def to_local(times: np.ndarray, zone: tzinfo) -> np.ndarray:
    """Local times in a zone, from times in UTC; both `datetime64` of the same shape."""
    return times + _offsets(_seconds(times), zone)


def from_local(local: np.ndarray, zone: tzinfo, later: np.ndarray | None = None) -> np.ndarray:
    """Times in UTC, from local times in a zone; both `datetime64` of the same shape.

    Of an hour that comes twice, the first is taken, but for the times that are marked in `later`.
    A time in an hour that is left out is moved forward by it, as in `datetime`.
    """
    early, late, fits_early, fits_late = _readings(local, zone)
    first = fits_early | ~fits_late
    return np.where(first if later is None else first & ~later, early, late)


def comes_twice(local: np.ndarray, zone: tzinfo) -> np.ndarray:
    """Whether each local time comes twice in a zone, since the clocks are set back."""
    early, late, fits_early, fits_late = _readings(local, zone)
    return fits_early & fits_late & (early != late)


def second_of_two(local: np.ndarray, zone: tzinfo, codes: np.ndarray | None) -> np.ndarray:
    """Whether each of these times is the second of two, as the order of the rows tells it.

    It is told where the rows in an hour that comes twice are its times in order, and the same
    times in order again.

    Args:
        local: `(rows,)` local times.
        zone: their zone.
        codes: `(rows,)` numbers of their groups, or None.
    """
    order = np.arange(len(local)) if codes is None else np.argsort(codes, kind="stable")
    places = np.flatnonzero(comes_twice(local[order], zone))
    apart = np.diff(places) > 1
    if codes is not None:
        apart |= np.diff(codes[order[places]]) != 0
    later = np.zeros(len(local), dtype=bool)
    for run in np.split(order[places], np.flatnonzero(apart) + 1):
        first, second = np.split(local[run], [len(run) // 2])
        if np.array_equal(first, second) and (first[1:] > first[:-1]).all():
            later[run[len(first) :]] = True
    return later


def _readings(local: np.ndarray, zone: tzinfo) -> tuple[np.ndarray, ...]:
    """Local times by the offsets of a day before and a day after, and whether each is right."""
    seconds = _seconds(local)
    before, after = (_offsets(seconds + days * DAY, zone) for days in (-1, 1))
    early, late = local - before, local - after
    return (
        early,
        late,
        _offsets(_seconds(early), zone) == before,
        _offsets(_seconds(late), zone) == after,
    )


def _seconds(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[s]").astype(np.int64)


def _offsets(seconds: np.ndarray, zone: tzinfo) -> np.ndarray:
    """Offset from UTC at these seconds since 1970 in UTC, `timedelta64[s]`."""
    if not seconds.size:
        return np.zeros(seconds.shape, "timedelta64[s]")
    days = (int(np.clip(day // DAY, FIRST_DAY, LAST_DAY)) for day in (seconds.min(), seconds.max()))
    moments, offsets = _changes(*days, zone)
    if not len(moments):
        return np.broadcast_to(offsets[0], seconds.shape)
    return offsets[np.searchsorted(moments, seconds, side="right")]


@lru_cache(maxsize=16)
def _changes(first: int, last: int, zone: tzinfo) -> tuple[np.ndarray, np.ndarray]:
    """The seconds at which the offset changes from day `first` to the end of day `last`."""

    def offset(second: int) -> int:
        there = (EPOCH + timedelta(seconds=second)).astimezone(zone)
        return int(there.utcoffset().total_seconds())  # type: ignore[union-attr]

    moments, offsets = [], [offset(first * DAY)]
    for day in range(first, last + 1):
        low, high = day * DAY, (day + 1) * DAY
        after = offset(high)
        if after == offsets[-1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        moments.append(high)
        offsets.append(after)
    return np.array(moments, dtype=np.int64), np.array(offsets, dtype="timedelta64[s]")
