"""Times: from arrays, text and columns of tables to datetime64, and their zone."""

from datetime import datetime, tzinfo
from typing import Any, NamedTuple

import numpy as np

from keras_rnnkit.data.time_formats import (
    UNIX,
    TimeReader,
    compact_dates,
    from_moments,
    in_words,
)
from keras_rnnkit.data.zones import as_zone, from_local, to_local, zone_name

__all__ = ["Times", "as_times", "finish", "is_date", "is_period", "moment"]

FINE = ("s", "ms", "us", "ns")


class Times(NamedTuple):
    """Times and their zone.

    Attributes:
        values: `(rows,)` `datetime64` or `int64`; in UTC where there is a zone.
        zone: their time zone, or None.
    """

    values: np.ndarray
    zone: tzinfo | None


def as_times(
    time: Any, *, time_format: str | None = None, zone: Any = None, what: str = "time"
) -> Times:
    """Times as `datetime64` or `int64`, and their time zone.

    Args:
        time: `datetime64`, integers (a counter; but numbers such as 20170130 in all rows are
            dates), `datetime` objects, text, or a column of a DataFrame.
        time_format: `strptime` format of text; `"unix"`, `"unix_ms"`, `"unix_us"` or `"unix_ns"`
            for seconds or parts of them since 1970, `"excel"` for dates as numbers of a
            spreadsheet, or `"count"` for a counter. By default ISO 8601, quarters and common dates
            with dots, slashes or hyphens are recognised.
        zone: name of the zone. Times with an offset from UTC, and seconds since 1970, are converted
            to it; others are taken for local times there.
        what: name of the times in an error.

    Raises:
        ValueError: a value cannot be read (the error names its row), two formats fit, the times do
            not fit 64 bits, or they have several offsets and `zone` is not given.
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
        dates = compact_dates(times)
        times = times if dates is None else dates
    elif not values.size:
        times = np.empty(0, "datetime64[us]")
    elif values.dtype.kind in "OSUTiuf":
        if values.dtype.kind == "S":
            values = values.astype(str)
        try:
            times, zones = _read(values.tolist(), time_format)
        except ValueError as error:
            raise in_words(error, time_format, what) from error
    else:
        raise ValueError(
            f"{what}= must hold dates, integers or text, received dtype {values.dtype}."
        )
    return finish(times, zones, time_format, zone, what)


def finish(
    times: np.ndarray,
    zones: set[tzinfo],
    time_format: str | None,
    zone: Any,
    what: str,
    later: np.ndarray | None = None,
) -> Times:
    """Times that were read, in their own zone or the given one; for `later` see `from_local`."""
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
        times = from_local(times, zone, later)
    return Times(times, zone)


def _without_zone(time: Any) -> tuple[np.ndarray, set[tzinfo]]:
    """The values, in UTC if they are a column of a DataFrame with a zone."""
    if not isinstance(time, (np.ndarray, list, tuple, range)):
        import narwhals.stable.v2 as nw

        time = nw.to_native(time, pass_through=True)
        if is_period(time):
            time = getattr(time, "dt", time).to_timestamp()
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


def is_period(column: Any) -> bool:
    """Whether a column or index of pandas holds periods, such as months."""
    return str(getattr(column, "dtype", "")).startswith("period[")


def is_date(column: Any) -> bool:
    """Whether a column of a DataFrame, as narwhals shows it, holds dates."""
    import narwhals.stable.v2 as nw

    native = column.to_native()
    return (
        isinstance(column.dtype, (nw.Datetime, nw.Date))
        or hasattr(getattr(native, "dtype", None), "tz")
        or is_period(native)
    )


def _read(values: list[Any], time_format: str | None) -> tuple[np.ndarray, set[tzinfo]]:
    if isinstance(values[0], datetime) and values[0].tzinfo is not None:
        odd = next((row for row, v in enumerate(values) if not isinstance(v, datetime)), -1)
        if odd >= 0:
            raise ValueError(odd, str(values[odd]))
        return from_moments(values, values)
    reader = TimeReader(time_format)
    reader.add([value if isinstance(value, str) else str(value) for value in values])
    return reader.take(last=True), reader.zones


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
    """A time as text, in local time."""
    if zone is not None:
        time = to_local(np.asarray(time), zone)
    return str(time).replace("T", " ").removesuffix(".000000000").removesuffix(".000000")
