"""window_report: how many windows a series gives, which are dropped and why, as a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from keras_rnnkit.data.batches import (
    Batches,
    check_options,
    find_windows,
    known_rows,
    resolve,
    takes_options,
    why_none,
)
from keras_rnnkit.data.series import TimeSeries, as_series, row_chunks
from keras_rnnkit.data.spec import Windows, WindowSpec, covered, holding
from keras_rnnkit.data.split import Split, check_split, read_across
from keras_rnnkit.data.steps import format_duration, infer_step
from keras_rnnkit.data.times import moment
from keras_rnnkit.data.zones import zone_name

__all__ = ["PartReport", "WindowReport", "window_report"]

BLOCK_ROWS = 1 << 19
LARGE = 10  # a target beyond this is told of where nothing scales it
# Lines of the table that are left out where they are 0 in every part.
OPTIONAL = ("across_gap", "other_part", "between_strides", "missing", "padding", "begins")


@dataclass(frozen=True)
class PartReport:
    """The windows of one part of a series.

    Attributes:
        rows: rows of the series.
        possible: starts at which a window fits into its group.
        across_gap: of these, starts whose window would cross a gap in time.
        other_part: starts whose targets lie in another part.
        between_strides: starts skipped by `stride`.
        missing: windows that would read a missing value.
        windows: the windows that exist.
        input_rows: rows that are an input of some window.
        target_rows: rows that are a target of some window.
        batches: batches of an epoch.
        padding: samples of these batches without a window, with `stateful_batches`: their weight
            is 0.
        begins: windows before which the state must be reset, with `stateful_batches`.
        bytes_held: memory of the dataset, besides the series itself.
        groups: groups of the series.
        groups_without_window: groups without a window.
        missing_by_column: rows without a value, by column that the windows use.
        first_target: time of the first row that may be a target, in local time; None without times
            or such rows.
        last_target: time of the last such row.
        reason: why there is no window; empty where there is one.
    """

    rows: int
    possible: int
    across_gap: int
    other_part: int
    between_strides: int
    missing: int
    windows: int
    input_rows: int
    target_rows: int
    batches: int
    padding: int
    begins: int
    bytes_held: int
    groups: int
    groups_without_window: int
    missing_by_column: dict[str, int]
    first_target: str | None = None
    last_target: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class WindowReport:
    """The result of `window_report`; prints as a table.

    Attributes:
        parts: a `PartReport` by name: `"train"`, `"val"`, `"test"`, or `"all"` for a series.
        split_check: the result of the check of the split; empty for a series.
        leaked_targets: targets that a window's inputs show: features too, and read at a row that is
            a target (`delay` of 0 or less).
        leaked_steps: how many targets of a window are among its inputs, and how many it has.
        read_across: rows that windows without targets read in one part and that are targets of
            another, by both names: a leak if inputs are used as targets.
        scaled: columns of the windows that `scaler` scales.
        unscaled: columns of the windows that are not scaled, if there is a scaler.
        zone: name of the time zone that the times are of, or None.
        told: what is likely a mistake, in sentences: a step of time that most rows do not keep,
            targets far from 0 that no scaler scales.
    """

    parts: dict[str, PartReport]
    split_check: str
    leaked_targets: tuple[str, ...] = ()
    leaked_steps: tuple[int, int] = (0, 0)
    read_across: dict[tuple[str, str], int] = field(default_factory=dict)
    scaled: tuple[str, ...] = ()
    unscaled: tuple[str, ...] = ()
    zone: str | None = None
    told: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [["", *self.parts]]
        lines = (
            ("rows", "rows"),
            ("targets from", "first_target"),
            ("targets to", "last_target"),
            ("possible starts", "possible"),
            ("- across a gap in time", "across_gap"),
            ("- targets in another part", "other_part"),
            ("- between strides", "between_strides"),
            ("- over a missing value", "missing"),
            ("windows", "windows"),
            ("rows used as inputs", "input_rows"),
            ("rows used as targets", "target_rows"),
            ("batches an epoch", "batches"),
            ("rows of weight 0", "padding"),
            ("rows to reset", "begins"),
            ("memory held (MB)", "bytes_held"),
            ("groups", "groups"),
            ("groups without a window", "groups_without_window"),
        )
        for label, name in lines:
            values = [getattr(part, name) for part in self.parts.values()]
            if name in OPTIONAL:
                if not any(values):
                    continue
            elif name.startswith("groups") and all(
                part.groups == 1 for part in self.parts.values()
            ):
                continue
            elif name.endswith("_target"):
                if any(values):
                    rows.append([label, *(value or "-" for value in values)])
                continue
            shown = [f"{v / 1e6:,.1f}" if name == "bytes_held" else f"{v:,}" for v in values]
            rows.append([label, *shown])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text = [
            "  ".join(
                cell.rjust(width) if position else cell.ljust(width)
                for position, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lacking = next(iter(self.parts.values())).missing_by_column
        if lacking:
            text.append("missing: " + ", ".join(f"{k} {v:,}" for k, v in lacking.items()))
        if self.zone:
            text.append(f"times: {self.zone}")
        if self.scaled or self.unscaled:
            told = f"scaled: {', '.join(self.scaled) or 'no column'}"
            stay = f"; as they are: {', '.join(self.unscaled)}" * bool(self.unscaled)
            text.append(told + stay)
        text += self.told
        for name, report in self.parts.items():
            if report.reason:
                text.append(report.reason if name == "all" else f"{name}: {report.reason}")
        if self.split_check:
            text.append(f"split: {self.split_check}")
        if self.leaked_targets:
            within, steps = self.leaked_steps
            told = f"leak: targets among the inputs: {', '.join(self.leaked_targets)}"
            if within < steps:
                told += (
                    f", in {within:,} of {steps:,} target rows; only a model that reads no later "
                    "time steps (no Bidirectional, no pooling over time) does not see them"
                )
            text.append(told)
        for (part, other), number in self.read_across.items():
            text.append(
                f"leak if inputs serve as targets: windows of {part} read {number:,} target rows "
                f"of {other}; WindowSpec.every_step keeps targets in their part"
            )
        return "\n".join(text)

    __repr__ = __str__


@takes_options(Batches)
def window_report(series: Any, spec: WindowSpec, **options: Any) -> WindowReport:
    """Count the windows of a series or split, those that are dropped, and why.

    Args:
        series: a `TimeSeries`, array or DataFrame, or a `Split` of one, which is then checked
            too.
        spec: the windows.
        **options: as in `window_dataset`.

    Returns:
        A `WindowReport`, which prints as a table, and tells what is likely a mistake: a target far
        from 0 that no scaler scales, a step of time that most rows do not keep, and why there is
        no window.

    Raises:
        ValueError: as `window_dataset`, except for a series without any window, or with numbers
            that `dtype` cannot hold; or the split leaks.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> parts = rk.split(np.sin(np.arange(100.0)), train=0.7, val=0.3)
        >>> rk.window_report(parts, rk.WindowSpec(10), batch_size=16)
                                   train  val
        rows                         100  100
        possible starts               90   90
        - targets in another part     30   60
        windows                       60   30
        rows used as inputs           69   39
        rows used as targets          60   30
        batches an epoch               4    2
        memory held (MB)             0.0  0.0
        split: no row is a target of two parts
    """
    check_options(options)
    check = ""
    if isinstance(series, Split):
        check_split(series, scaler=options.get("scaler"))
        check = "no row is a target of two parts"
        if options.get("scaler") is not None:
            check += ", the scaler was fitted on the training part alone"
        parts: Mapping[str, Any] = {k: v for k, v in series._asdict().items() if v is not None}
    else:
        parts = {"all": series}
    parts = {name: as_series(part) for name, part in parts.items()}
    first = next(iter(parts.values()))
    roles, zone = resolve(first, spec), first.zone
    whole = _Whole.of(first, roles)
    used = _used(roles)
    scaler = options.get("scaler")
    scales = () if scaler is None else roles.numbers(scaler.columns)
    scaled = tuple(name for name in used if name in scales)
    targets = roles.target_offsets
    shown = sum(1 for offset in targets if offset in roles.input_offsets)
    seen = set(roles.features or ()) if shown else set()
    return WindowReport(
        {name: _part(part, roles, whole, options) for name, part in parts.items()},
        check,
        tuple(name for name in roles.targets or () if name in seen),
        (shown, len(targets)),
        read_across(parts, roles) if len(parts) > 1 else {},
        scaled,
        () if scaler is None else tuple(name for name in used if name not in scaled),
        None if zone is None else zone_name(zone),
        (*_told_of_step(first), *_told_of_scale(first, roles, scaled)),
    )


def _told_of_step(series: TimeSeries) -> Iterator[str]:
    """That most rows follow each other at another step than the series is said to have."""
    if series.time is None or series.freq in (None, "rows"):
        return
    gaps = len(series.segments()) - len(series.groups)
    pairs = len(series) - len(series.groups)
    if 2 * gaps > pairs:
        inside = np.ones(len(series) - 1, dtype=bool)
        inside[series.bounds[1:-1] - 1] = False
        step = infer_step(series.time, inside, series.zone)
        yield (
            f"step: freq is {format_duration(series.freq)}, and {gaps:,} of {pairs:,} rows do not "
            f"follow the one before by it, which makes each a gap; the commonest step is "
            f"{format_duration(step)}. Leave freq= out, or bring the rows to it with resample."
        )


def _told_of_scale(series: TimeSeries, spec: WindowSpec, scaled: tuple[str, ...]) -> Iterator[str]:
    """That a target is far from 0, which a network that begins near 0 has to learn first."""
    for name in spec.numbers(spec.targets):
        if name not in scaled:
            ends = [_ends(series[name][rows]) for rows in row_chunks(series.values)]
            low, high = min(end[0] for end in ends), max(end[1] for end in ends)
            if max(-low, high) > LARGE:
                yield (
                    f"target {name} is not scaled and lies between {low:g} and {high:g}: fit a "
                    "Scaler on the training part and pass it as scaler=."
                )


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest of those that are not missing."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (np.inf, -np.inf)


def _used(spec: WindowSpec) -> tuple[str, ...]:
    """The columns that the windows read, each once."""
    return tuple(
        dict.fromkeys((*(spec.features or ()), *(spec.targets or ()), *spec.known, *spec.static))
    )


class _Whole(NamedTuple):
    """What is the same for all parts of a series: windows of any stride in any part."""

    possible: int
    unbroken: int
    lacking: dict[str, int]

    @classmethod
    def of(cls, series: TimeSeries, spec: WindowSpec) -> "_Whole":
        every = replace(spec, stride=1)
        everywhere = series.with_target_rows(np.array([[0, len(series)]]))
        in_groups = np.stack([series.bounds[:-1], series.bounds[1:]], axis=1)
        unbroken = len(every.windows(series.segments(), everywhere.target_rows))
        return cls(
            # With `pad` a gap may make room for more windows than it costs.
            max(len(every.windows(in_groups, everywhere.target_rows)), unbroken),
            unbroken,
            series.missing_counts(),
        )


def _part(
    series: TimeSeries,
    spec: WindowSpec,
    whole: _Whole,
    options: dict[str, Any],
) -> PartReport:
    missing = options.get("missing", "drop")
    windows = find_windows(series, spec, missing)
    every = replace(spec, stride=1)
    # Strides are counted before missing values leave windows out.
    strided = len(find_windows(series, spec, None))
    here = strided if spec.stride == 1 else len(find_windows(series, every, None))
    batches = bytes_held = padding = begins = 0
    if len(windows):
        made = Batches(series, spec, **options)
        batches, bytes_held = len(made), made.bytes_held
        if made.order.lanes:
            padding = made.order.places - len(windows)
            begins = made.order.begins
    served = series.group_of((windows.first + spec.last_input)[windows.counts > 0])
    groups = int(np.count_nonzero(np.diff(served, prepend=-1)))
    inputs, targets = _rows_used(series, spec, windows, missing)
    return PartReport(
        rows=len(series),
        possible=whole.possible,
        across_gap=whole.possible - whole.unbroken,
        other_part=whole.unbroken - here,
        between_strides=here - strided,
        missing=strided - len(windows),
        windows=len(windows),
        input_rows=inputs,
        target_rows=targets,
        batches=batches,
        padding=padding,
        begins=begins,
        bytes_held=bytes_held,
        groups=len(series.groups),
        groups_without_window=len(series.groups) - groups,
        missing_by_column={
            name: whole.lacking[name] for name in _used(spec) if name in whole.lacking
        },
        **_target_times(series),
        reason="" if len(windows) else why_none(series, spec),
    )


def _rows_used(
    series: TimeSeries, spec: WindowSpec, windows: Windows, missing: str
) -> tuple[int, int]:
    """How many rows are an input of some window, and how many a target."""
    if not (spec.pad or spec.pad_targets):
        targets = _covered(windows, spec.target_offsets) if spec.has_horizon else 0
        return _covered(windows, spec.input_offsets), targets
    bounds = holding(series.segments(), windows.starts() + spec.last_input)
    inputs, ahead = (
        covered(windows, offsets, len(series), bounds)
        for offsets in (spec.input_offsets, spec.target_offsets)
    )
    if spec.pad_targets:
        ahead &= known_rows(series, spec, missing)
    return int(np.count_nonzero(inputs)), int(np.count_nonzero(ahead)) * spec.has_horizon


def _target_times(series: TimeSeries) -> dict[str, str]:
    """The first and last time of the rows that may be targets, in words."""
    if series.time is None or not series.target_rows.size:
        return {}
    edges = series.target_rows.ravel()
    edges = edges[: len(edges) - (edges[-1] == len(series))]  # as reduceat wants them
    first = np.minimum.reduceat(series.time, edges)[::2].min()
    last = np.maximum.reduceat(series.time, edges)[::2].max()
    return {
        name: moment(time, series.zone)
        for name, time in (("first_target", first), ("last_target", last))
    }


def _covered(windows: Windows, offsets: range | tuple[int, ...]) -> int:
    """Rows at one of the offsets from the start of any window, each counted once."""
    if not len(windows):
        return 0
    # How many they are does not depend on where the first of them lies.
    offsets = (
        range(0, offsets[-1] - offsets[0] + 1, offsets.step)
        if isinstance(offsets, range)
        else tuple(offset - offsets[0] for offset in offsets)
    )
    span = offsets[-1]
    begin = int(windows.first[0])
    end = int(windows.starts(np.array([len(windows) - 1]))[0]) + span + 1
    size = max(BLOCK_ROWS, 4 * span)
    total = 0
    for low in range(begin, end, size):
        high = min(low + size, end)
        # Starts that reach these rows begin at most a span before them.
        starts = _starts(windows, *(_first_at(windows, row) for row in (low - span, high)))
        covered = np.zeros(high - low + span, dtype=bool)
        covered[starts - (low - span)] = True
        reached = 1
        if isinstance(offsets, range):
            while reached < len(offsets):
                # What is covered once covers twice as far when it is moved on by as much.
                move = min(reached, len(offsets) - reached)
                covered[move * offsets.step :] |= covered[: -move * offsets.step].copy()
                reached += move
        else:
            begun = covered.copy()
            for offset in offsets[1:]:
                covered[offset:] |= begun[:-offset]
        total += int(np.count_nonzero(covered[span:]))
    return total


def _first_at(windows: Windows, row: int) -> int:
    """The number of windows that start before a row."""
    run = int(np.searchsorted(windows.first, row)) - 1
    if run < 0:
        return 0
    before = 0 if run == 0 else int(windows.ends[run - 1])
    inside = -((int(windows.first[run]) - row) // windows.stride)
    return min(before + inside, int(windows.ends[run]))


def _starts(windows: Windows, low: int, high: int) -> np.ndarray:
    """Starts of the windows from number `low` up to `high`, a run at a time."""
    first, last = windows.runs(np.array([low, max(high - 1, low)]))
    ends = windows.ends[first : last + 1]
    before = np.append(windows.ends[first - 1] if first else 0, ends[:-1])
    counts = np.clip(ends, low, high) - np.clip(before, low, high)
    origin = windows.first[first : last + 1] - before * windows.stride
    return np.repeat(origin, counts) + np.arange(low, high) * windows.stride
