"""WindowSpec: which rows make a window. Index arithmetic only: no data, no TensorFlow."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["Reads", "WindowSpec", "Windows", "covered", "holding", "intersect"]

LARGEST_ROW = 2**62
CHUNK_ROWS = 1 << 20

# Rows that lack a value, and where from its start a window reads them.
Reads = tuple[np.ndarray, range | tuple[int, ...]]


@dataclass(frozen=True)
class WindowSpec:
    """Which time steps a window reads (lookback window), and which it predicts (horizon).

    All lengths are counted in rows, one for each time step. The inputs are
    `length = ceil(lookback / step)` rows `s, s + step, ..., e`. The targets are the rows
    `e + delay + j * horizon_step` for `j = 0 ... horizon - 1`. All of a window lies in one segment.
    Starts `s` are taken every `stride` rows, counted from the first possible window of each
    segment. A window that is left out for a missing value does not move the others.

    Args:
        lookback: length of the lookback window: rows from the first input to one past the last,
            before rounding to `step`.
        step: rows from one input to the next.
        delay: rows from the last input to the first target. 1 is the next row, 0 the last input row
            itself (for targets that are not inputs); a negative delay lies among the inputs or
            before them. A list, such as `[1, 6, 24]`, gives all targets, in place of `horizon`.
        horizon: number of target rows.
        horizon_step: rows from one target to the next.
        stride: rows from the start of one window to the start of the next.
        pad: number of input rows that may lie before the segment, at most `length - 1`: for short
            series, and the first rows of any series. They are padding: 0, with a mask
            `(batch, length)`.
        pad_targets: number of targets at the end of a window that may be unknown, at most
            `horizon - 1`: after the segment, in another part, or missing. They are 0, and so is
            their sample weight.
        features: columns read as inputs (past covariates and past values of the target). Default:
            all but `known` and `static`.
        targets: columns to predict. Default: the features that are not `known`. `()`: none, for
            prediction.
        known: known future covariates (calendar, plans), read at the target rows. They may be
            features too.
        static: static covariates, constant in each group, read once for a window.
        categories: columns among features, known and static ones that hold integers from 0 on, for
            an `Embedding`: never scaled, and inputs of their own, in int32.

    Raises:
        ValueError: an argument out of its range, or a column in two roles.

    Example:
        Five days of ten-minute rows, one an hour, to predict the row one day ahead:

        >>> import keras_rnnkit as rk
        >>> spec = rk.WindowSpec(lookback=720, step=6, delay=144, targets=["T"])
        >>> spec.length, spec.reach
        (120, 859)
        >>> rk.WindowSpec(lookback=4, step=2, horizon=2).input_rows([10]).tolist()
        [[10, 12]]
        >>> rk.WindowSpec(lookback=4, step=2, horizon=2).target_rows([10]).tolist()
        [[13, 14]]
        >>> rk.WindowSpec(lookback=4, delay=[1, 6, 24]).target_rows([0]).tolist()
        [[4, 9, 27]]
    """

    lookback: int
    _: KW_ONLY
    step: int = 1
    delay: int | Sequence[int] = 1
    horizon: int = 1
    horizon_step: int = 1
    stride: int = 1
    pad: int = 0
    pad_targets: int = 0
    features: Sequence[str] | None = None
    targets: Sequence[str] | None = None
    known: Sequence[str] = ()
    static: Sequence[str] = ()
    categories: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check each argument and keep the names as tuples."""
        for name in ("lookback", "step", "horizon", "horizon_step", "stride"):
            object.__setattr__(self, name, _rows(name, getattr(self, name), 1))
        delay = self.delay
        if isinstance(delay, (Sequence, np.ndarray)) and not isinstance(delay, str):
            delay = tuple(_rows("delay", value) for value in delay)
            if not delay or any(b <= a for a, b in pairwise(delay)):
                raise ValueError(f"delay= as a list must increase, received {list(delay)}.")
            if self.horizon not in (1, len(delay)) or self.horizon_step != 1:
                raise ValueError(
                    "delay= as a list gives every target row: leave out horizon= and horizon_step=."
                )
            object.__setattr__(self, "horizon", len(delay))
        else:
            delay = _rows("delay", delay)
        object.__setattr__(self, "delay", delay)
        self._check_pads()
        for name in ("features", "targets", "known", "static", "categories"):
            value = getattr(self, name)
            if isinstance(value, str):
                value = (value,)
            if value is None and name in ("known", "static", "categories"):
                value = ()
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.features is not None and not self.features:
            raise ValueError("features= is empty: expected at least one column, or None for all.")
        for role, others in (
            ("known", self.targets or ()),
            ("static", (*(self.features or ()), *(self.targets or ()), *self.known)),
        ):
            twice = sorted(set(getattr(self, role)) & set(others))
            if twice:
                raise ValueError(f"{role}= names {', '.join(twice)}, which has another role.")
        if self.reach - self.first_row > LARGEST_ROW:
            raise ValueError(
                f"a window of lookback={self.lookback}, delay={self.delay}, "
                f"horizon={self.horizon}, horizon_step={self.horizon_step} spans "
                f"{self.reach - self.first_row} rows, more than a row index can count "
                f"({LARGEST_ROW})."
            )

    def _check_pads(self) -> None:
        for name, of, rows in (
            ("pad", f"its {self.length} input rows", self.length),
            ("pad_targets", f"its {self.horizon} target rows", self.horizon),
        ):
            value = _rows(name, getattr(self, name), 0)
            object.__setattr__(self, name, value)
            if value >= rows:
                raise ValueError(
                    f"{name}= must leave a window one of {of}: at most {rows - 1}, "
                    f"received {value}."
                )
        if self.pad_targets and self.targets is not None and not len(self.targets):
            raise ValueError("pad_targets= needs targets, and the spec has none: targets=().")

    @classmethod
    def every_step(
        cls,
        lookback: int,
        *,
        step: int = 1,
        shift: int = 1,
        stride: int = 1,
        features: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        known: Sequence[str] = (),
        static: Sequence[str] = (),
        categories: Sequence[str] = (),
    ) -> "WindowSpec":
        """Windows with a target for every input row, for `return_sequences=True` (many-to-many).

        The target of input row `r` is row `r + shift`. The windows are the same as with
        `delay=shift - (length - 1) * step`, `horizon=length` and `horizon_step=step`; the targets
        of a part of a split stay in the part.

        Args:
            lookback: as in `WindowSpec`.
            step: as in `WindowSpec`.
            shift: rows from an input row to its target: 1 for the value that follows it, 0 for the
                label of the row itself (and for autoencoders).
            stride: as in `WindowSpec`.
            features: as in `WindowSpec`.
            targets: as in `WindowSpec`.
            known: as in `WindowSpec`.
            static: as in `WindowSpec`.
            categories: as in `WindowSpec`.

        Raises:
            ValueError: as `WindowSpec`, or a negative shift.

        Example:
            >>> import keras_rnnkit as rk
            >>> spec = rk.WindowSpec.every_step(4, targets=["label"])
            >>> spec.input_rows([0]).tolist(), spec.target_rows([0]).tolist()
            ([[0, 1, 2, 3]], [[1, 2, 3, 4]])
        """
        plain = cls(lookback, step=step)
        return cls(
            lookback,
            step=step,
            delay=_rows("shift", shift, 0) - plain.last_input,
            horizon=plain.length,
            horizon_step=step,
            stride=stride,
            features=features,
            targets=targets,
            known=known,
            static=static,
            categories=categories,
        )

    @property
    def length(self) -> int:
        """Input rows of a window (`n`)."""
        return -(-self.lookback // self.step)

    @property
    def last_input(self) -> int:
        """Rows from a window's start to its last input row (`e - s`)."""
        return (self.length - 1) * self.step

    @property
    def input_offsets(self) -> range:
        """Rows from a window's start to each of its input rows."""
        return range(0, self.last_input + 1, self.step)

    @property
    def target_offsets(self) -> range | tuple[int, ...]:
        """Rows from a window's start to each of its target rows."""
        if isinstance(self.delay, tuple):
            return tuple(self.last_input + delay for delay in self.delay)
        first = self.last_input + self.delay  # type: ignore[operator]
        return range(first, first + (self.horizon - 1) * self.horizon_step + 1, self.horizon_step)

    @property
    def sure_offsets(self) -> range | tuple[int, ...]:
        """Rows from a window's start to the targets that must be known."""
        return self.target_offsets[: self.horizon - self.pad_targets]

    @property
    def ahead(self) -> np.ndarray:
        """Rows from a window's last input row to each of its target rows, `(horizon,)` int64."""
        return np.array(self.target_offsets, np.int64) - self.last_input

    @property
    def has_horizon(self) -> bool:
        """Whether a window reads anything at its target rows."""
        return self.targets is None or bool(self.targets) or bool(self.known)

    @property
    def first_target(self) -> int:
        """Rows from a window's start to its first target row."""
        return self.target_offsets[0] if self.has_horizon else self.last_input

    @property
    def last_target(self) -> int:
        """Rows from a window's start to the last target row that must exist."""
        return self.sure_offsets[-1] if self.has_horizon else self.last_input

    @property
    def first_row(self) -> int:
        """Rows from a window's start to the first row that must exist.

        Below 0 where targets lie before it, above 0 with `pad`.
        """
        return min(self.pad * self.step, self.first_target)

    @property
    def reach(self) -> int:
        """Rows from a window's start to one past the last row that must exist."""
        return max(self.last_input, self.last_target) + 1

    def input_rows(self, starts: Sequence[int] | np.ndarray) -> np.ndarray:
        """Input rows of the windows that start at these rows, `(windows, length)` int64."""
        return np.asarray(starts, np.int64)[..., np.newaxis] + np.array(self.input_offsets)

    def target_rows(self, starts: Sequence[int] | np.ndarray) -> np.ndarray:
        """Target rows of the windows that start at these rows, `(windows, horizon)` int64."""
        return np.asarray(starts, np.int64)[..., np.newaxis] + np.array(self.target_offsets)

    def roles(self, names: Sequence[str]) -> "WindowSpec":
        """The same windows with all `features` and `targets` for the columns of a series."""
        elsewhere = {*self.known, *self.static}
        features = self.features
        if features is None:
            features = tuple(name for name in names if name not in elsewhere)
        targets = self.targets
        if targets is None:
            passed = {*self.known, *self.categories}
            targets = tuple(name for name in features if name not in passed)
        lost = [name for name in self.categories if name not in {*features, *elsewhere}]
        if lost:
            raise ValueError(
                f"categories= names {', '.join(map(repr, lost))}, which is none of the features=, "
                "known= or static= columns."
            )
        return replace(self, features=features, targets=targets)

    def numbers(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The columns of a role that are not categories."""
        return tuple(name for name in names or () if name not in self.categories)

    def coded(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The columns of a role that are categories."""
        return tuple(name for name in names or () if name in self.categories)

    def windows(
        self, segments: np.ndarray, targets: np.ndarray, missing: Sequence[Reads] = ()
    ) -> "Windows":
        """The windows that exist.

        Args:
            segments: `(segments, 2)` `[start, stop)` runs of rows, one of which holds all of a
                window, sorted.
            targets: `(parts, 2)` runs of rows that may be targets. All targets of a window lie in
                them, and so do inputs after its last target.
            missing: rows without a value, sorted, and the offsets at which a window reads them.
        """
        starts = segments - np.array([self.first_row, self.reach - 1])
        starts = starts[starts[:, 0] < starts[:, 1]]
        if not len(starts):
            return Windows.of(starts[:, 0], starts[:, 0], self.stride)
        judged: list[range | tuple[int, ...]] = [self.sure_offsets]
        if not self.has_horizon:
            judged = [range(self.last_input, self.last_input + 1)]
        elif self.last_target < self.last_input:
            late = -(-(self.last_target + 1) // self.step) * self.step
            judged.append(range(max(late, 0), self.last_input + 1, self.step))
        widest = max(map(_widest, judged))
        if len(judged) > 1:
            widest = max(widest, judged[1][0] - judged[0][-1])
        runs, between = _merged(targets, widest)
        starts = intersect(starts, runs - np.array([judged[0][0], judged[-1][-1]]))
        outside = [(between, offsets) for offsets in judged if len(between)]
        missing = [(rows, offsets) for rows, offsets in missing if len(rows)]
        # The start itself may lie before the segment.
        segment = np.searchsorted(segments[:, 0], starts[:, 0] + self.last_input, side="right")
        if not len(starts) or not (outside or missing):
            first = np.unique(segment, return_index=True)[1]
            anchor = np.repeat(starts[first, 0], np.diff(np.append(first, len(starts))))
            on_grid = starts[:, 0] + (anchor - starts[:, 0]) % self.stride
            counts = -((on_grid - starts[:, 1]) // self.stride)
            kept = counts > 0
            return Windows.of(on_grid[kept], counts[kept], self.stride)
        return self._whole_windows(segments, starts, outside, missing)

    def _whole_windows(
        self,
        segments: np.ndarray,
        starts: np.ndarray,
        outside: Sequence[Reads],
        missing: Sequence[Reads],
    ) -> "Windows":
        """The windows of these runs of starts that read none of these rows, a chunk at a time."""
        unset = -LARGEST_ROW
        anchors = np.full(len(segments), unset)
        found = []
        for low, high in _chunks(starts):
            possible = np.flatnonzero(_inside(starts, low, high) & ~_reading(outside, low, high))
            possible += low
            last = possible + self.last_input
            segment = np.searchsorted(segments[:, 0], last, side="right") - 1
            new = np.flatnonzero(np.diff(segment, prepend=-1))
            new = new[anchors[segment[new]] == unset]
            anchors[segment[new]] = possible[new]
            kept = (possible - anchors[segment]) % self.stride == 0
            lost = _reading(missing, low, high)[possible - low]
            if self.pad:
                lost = self._reading_inside(missing, possible, segments[segment, 0], lost)
            kept &= ~lost
            possible, segment = possible[kept], segment[kept]
            apart = np.diff(possible, prepend=-1) != self.stride
            apart |= np.diff(segment, prepend=-1) != 0
            first = np.flatnonzero(apart)
            counts = np.diff(np.append(first, len(possible)))
            found.append((possible[first], counts, segment[first]))
        first, counts, segment = (np.concatenate(parts) for parts in zip(*found, strict=True))
        # A run may have been cut at the edge of a chunk.
        cut = (first[1:] == first[:-1] + counts[:-1] * self.stride) & (np.diff(segment) == 0)
        begins = np.flatnonzero(np.append(True, ~cut)[: len(first)])
        joined = np.add.reduceat(counts, begins) if len(begins) else counts
        return Windows.of(first[begins], joined, self.stride)

    def _reading_inside(
        self, missing: Sequence[Reads], starts: np.ndarray, floor: np.ndarray, lost: np.ndarray
    ) -> np.ndarray:
        """Whether windows that may begin before their segments read one of the rows inside them.

        Args:
            missing: as in `windows`.
            starts: `(starts,)`.
            floor: `(starts,)` first row of the segment of each.
            lost: `(starts,)` whether each reads one of the rows inside its segment or before.
        """
        doubtful = np.flatnonzero(lost & (starts < floor))
        lost = lost.copy()
        lost[doubtful] = False
        starts, floor = starts[doubtful], floor[doubtful]
        for rows, offsets in missing:
            for offset in offsets:
                row = starts + offset
                at = np.minimum(np.searchsorted(rows, row), len(rows) - 1)
                lost[doubtful] |= (rows[at] == row) & (row >= floor)
        return lost


def _rows(name: str, value: Any, least: int | None = None) -> int:
    """A number of rows, checked."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        advice = ""
        if name == "horizon" and isinstance(value, (Sequence, np.ndarray)):
            advice = " For some rows ahead alone, such as 1, 6 and 24, pass delay=[1, 6, 24]."
        raise ValueError(f"{name}= must be a whole number of rows, received {value!r}.{advice}")
    if least is not None and value < least:
        raise ValueError(f"{name}= must be at least {least}, received {value}.")
    return int(value)


@dataclass(frozen=True)
class Windows:
    """The windows that exist, as runs of equally spaced starts: a table of O(segments).

    Attributes:
        first: `(runs,)` first start of each run.
        ends: `(runs,)` number of windows up to the end of each run.
        stride: rows from one start to the next in a run.
    """

    first: np.ndarray
    ends: np.ndarray
    stride: int

    @classmethod
    def of(cls, first: np.ndarray, counts: np.ndarray, stride: int) -> "Windows":
        """The windows of runs with these first starts and numbers of windows."""
        return cls(first, np.cumsum(counts), stride)

    @property
    def counts(self) -> np.ndarray:
        """Windows of each run."""
        return np.diff(self.ends, prepend=0)

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.ends.size else 0

    def runs(self, index: np.ndarray) -> np.ndarray:
        """The run in which each window lies."""
        return np.searchsorted(self.ends, index, side="right")

    def starts(self, index: np.ndarray | None = None) -> np.ndarray:
        """Start rows of windows `index` (all of them by default), int64."""
        if index is None:
            index = np.arange(len(self))
        run = self.runs(index)
        before = np.concatenate(([0], self.ends))[run]
        return self.first[run] + (index - before) * self.stride


def intersect(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rows in both of two sorted lists of disjoint `[start, stop)`, as such a list."""
    a, b = _not_empty(a), _not_empty(b)
    if len(b) == 1:
        return _not_empty(np.clip(a, *b[0]))
    low = np.searchsorted(b[:, 1], a[:, 0], side="right")
    high = np.searchsorted(b[:, 0], a[:, 1], side="left")
    pairs = np.maximum(high - low, 0)
    left = np.repeat(np.arange(len(a)), pairs)
    right = np.arange(pairs.sum()) + np.repeat(low - (np.cumsum(pairs) - pairs), pairs)
    return np.stack(
        [np.maximum(a[left, 0], b[right, 0]), np.minimum(a[left, 1], b[right, 1])], axis=1
    )


def _widest(offsets: range | tuple[int, ...]) -> int:
    """Most rows from one of these offsets to the next."""
    if isinstance(offsets, range):
        return offsets.step if len(offsets) > 1 else 1
    return max((b - a for a, b in pairwise(offsets)), default=1)


def _merged(runs: np.ndarray, widest: int) -> tuple[np.ndarray, np.ndarray]:
    """The runs, joined across gaps of fewer than `widest` rows, and the rows of those gaps.

    A window steps over a gap that is narrower than its own steps.
    """
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    if not len(runs):
        return runs, np.empty(0, np.int64)
    reached = np.maximum.accumulate(runs[:, 1])
    gaps = np.stack([reached[:-1], runs[1:, 0]], axis=1)
    width = gaps[:, 1] - gaps[:, 0]
    begins = np.flatnonzero(np.append(True, width >= widest))
    merged = np.stack([runs[begins, 0], reached[np.append(begins[1:], len(runs)) - 1]], axis=1)
    narrow = (width > 0) & (width < widest)
    lengths = width[narrow]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return merged, np.repeat(gaps[narrow, 0], lengths) + within


def _chunks(runs: np.ndarray) -> Iterator[tuple[int, int]]:
    """`[low, high)` of some rows each that together cover sorted runs."""
    if not len(runs):
        yield 0, 0
        return
    for low in range(int(runs[0, 0]), int(runs[-1, 1]), CHUNK_ROWS):
        yield low, min(low + CHUNK_ROWS, int(runs[-1, 1]))


def _inside(runs: np.ndarray, low: int, high: int) -> np.ndarray:
    """Whether each row of `[low, high)` lies in one of the sorted, disjoint runs."""
    edges = np.zeros(high - low + 1, np.int8)
    here = runs[np.searchsorted(runs[:, 1], low, side="right") :]
    here = here[: np.searchsorted(here[:, 0], high)]
    np.add.at(edges, np.maximum(here[:, 0], low) - low, 1)
    np.add.at(edges, np.minimum(here[:, 1], high) - low, -1)
    return np.cumsum(edges[:-1], dtype=np.int8).astype(bool)


def holding(segments: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The segment `[start, stop)` that each row lies in, `(rows, 2)`."""
    return segments[np.searchsorted(segments[:, 0], rows, side="right") - 1]


def covered(
    windows: Windows,
    offsets: range | tuple[int, ...],
    rows: int,
    bounds: np.ndarray | None = None,
) -> np.ndarray:
    """Whether each row is at one of the offsets from the start of a window.

    Args:
        windows: the windows.
        offsets: rows from a start.
        rows: number of rows.
        bounds: `(windows, 2)` rows `[start, stop)` to which each window is limited, if it may leave
            its segment.
    """
    marked = np.zeros(rows, bool)
    if not len(windows):
        return marked
    if bounds is not None:
        starts = windows.starts()
        for offset in offsets:
            row = starts + offset
            marked[row[(row >= bounds[:, 0]) & (row < bounds[:, 1])]] = True
        return marked
    marked[windows.starts() + offsets[0]] = True
    if not isinstance(offsets, range):
        for offset in offsets[1:]:
            marked[windows.starts() + offset] = True
        return marked
    reached = 1
    while reached < len(offsets):
        # What is covered once covers twice as far when it is moved on by as much.
        move = min(reached, len(offsets) - reached) * offsets.step
        marked[move:] |= marked[:-move].copy()
        reached += move // offsets.step
    return marked


def _reading(reads: Sequence[Reads], low: int, high: int) -> np.ndarray:
    """Whether the windows that start in `[low, high)` read one of the rows."""
    reading = np.zeros(high - low, bool)
    for rows, offsets in reads:
        first, last = low + offsets[0], high + offsets[-1]
        here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)] - first
        if not len(here):
            continue
        marked = np.zeros(last - first, bool)
        marked[here] = True
        if not isinstance(offsets, range):
            for offset in offsets:
                begin = offset - offsets[0]
                reading |= marked[begin : begin + len(reading)]
            continue
        reached = 1
        while reached < len(offsets):
            # What tells of some rows tells of twice as many when it is moved on by as many.
            move = min(reached, len(offsets) - reached) * offsets.step
            marked[:-move] |= marked[move:]
            reached += move // offsets.step
        reading |= marked[: len(reading)]
    return reading


def _not_empty(runs: np.ndarray) -> np.ndarray:
    some = runs[:, 0] < runs[:, 1]
    return runs if some.all() else runs[some]
