"""from_wide: a wide table, with a column or a row for each series, to a panel."""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any

import numpy as np

from keras_rnnkit.data.series import Runs, TimeSeries, as_table
from keras_rnnkit.data.tables import labels_of, whole_numbers
from keras_rnnkit.data.time_formats import is_compact_date, is_time
from keras_rnnkit.data.times import Times, as_times

__all__ = ["from_wide"]


def from_wide(
    table: Any,
    series: str,
    time: Any,
    group: str | Sequence[str] | None,
    names: Sequence[str] | None,
    value: str,
    freq: Any,
    time_format: str | None,
    zone: str | tzinfo | None,
) -> TimeSeries:
    """See `TimeSeries.from_wide`."""
    if series == "columns":
        if group is not None:
            raise ValueError("group= names no column where each column is a series of its own.")
        if not isinstance(table, TimeSeries):
            options = {"time": time, "time_format": time_format, "zone": zone, "freq": freq}
            table = TimeSeries(table, names=names, **options)
        if table.groups != (None,):
            raise ValueError("table= has groups already: expected a column for each series.")
        times = None if table.time is None else Times(table.time, table.zone)
        return _panel(table.values.T, table.names, times, value, freq or table.freq)
    if series != "rows":
        raise ValueError(f"series= must be 'columns' or 'rows', received {series!r}.")
    import narwhals.stable.v2 as nw

    try:
        frame = nw.from_native(as_table(table), eager_only=True)
    except TypeError as error:
        raise TypeError(f"table= must be a DataFrame, received {type(table).__name__}.") from error
    keys = [group] if isinstance(group, str) else list(group or ())
    if names is None:
        names = [
            name for name in frame.columns if name not in keys and frame.schema[name].is_numeric()
        ]
    unknown = [name for name in (*keys, *names) if name not in frame.columns]
    if unknown:
        raise ValueError(f"the DataFrame has no column {', '.join(map(repr, unknown))}.")
    if not names:
        raise ValueError("table= has no column of numbers.")
    labels: Sequence[Any] = range(len(frame))
    if keys:
        labels = whole_numbers(
            labels_of([frame.get_column(key).to_list() for key in keys], {}) or []
        )
    if "" in labels:
        raise ValueError(f"group=: row {list(labels).index('')} (counted from 0) has no group.")
    if time is None and all(is_time(name, time_format) or is_compact_date(name) for name in names):
        time = list(names)
    if time is None:
        time = np.arange(len(names))
    times = as_times(time, time_format=time_format, zone=zone)
    if len(times.values) != len(names):
        raise ValueError(f"time= has {len(times.values)} entries for {len(names)} columns.")
    values = frame.select(list(names)).to_numpy().astype(np.float64)
    return _panel(values, labels, times, value, freq)


def _panel(
    values: np.ndarray, labels: Sequence[Any], times: Times | None, value: str, freq: Any
) -> TimeSeries:
    """A panel of series `(series, time steps)`, each from its first value to its last."""
    twice = sorted({str(label) for label in labels if list(labels).count(label) > 1})
    if twice:
        raise ValueError(f"the label {twice[0]!r} is that of two series: name more in group=.")
    rows = []
    for label, row in zip(labels, values, strict=True):
        present = np.flatnonzero(np.isfinite(row))
        if not len(present):
            raise ValueError(f"series {label!r} holds no value: leave it out.")
        rows.append(np.arange(present[0], present[-1] + 1))
    bounds = np.cumsum([0, *map(len, rows)])
    place = np.concatenate(rows)
    return TimeSeries(
        values[np.repeat(np.arange(len(rows)), np.diff(bounds)), place],
        names=[value],
        time=None if times is None else Times(times.values[place], times.zone),
        group=Runs(bounds, tuple(labels), reordered=True),
        freq=freq,
    )
