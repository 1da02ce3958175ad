"""WindowSpec: which rows make a window. Index arithmetic alone: no data, no TensorFlow."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np

__all__ = ["WindowSpec", "Windows", "intersect"]

LARGEST_ROW = 2**62


@dataclass(frozen=True)
class WindowSpec:
    """Which rows a window reads and which rows it is to predict.

    The inputs are `length = ceil(lookback / step)` rows `s, s + step, ..., e`. The targets are the
    rows `e + delay + j * horizon_step` for `j = 0 ... horizon - 1`. All of a window lies in one
    segment. Starts `s` are taken every `stride` rows, counted from the first possible window of
    each segment.

    Args:
        lookback: rows from the first input row to one past the last, before rounding to `step`.
        step: rows from one input row to the next.
        delay: rows from the last input row to the first target; 1 is the next row, 0 the last
            input row itself (for targets that are not inputs).
        horizon: target rows of a window.
        horizon_step: rows from one target row to the next.
        stride: rows from the start of one window to the start of the next.
        features: columns read as inputs. Default: all but `known` and `static`.
        targets: columns to predict. Default: the features. `()`: none, for prediction.
        known: columns known ahead (calendar, plans), read at the target rows.
        static: columns that are constant in each group, read once for a window.

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
    """

    lookback: int
    _: KW_ONLY
    step: int = 1
    delay: int = 1
    horizon: int = 1
    horizon_step: int = 1
    stride: int = 1
    features: Sequence[str] | None = None
    targets: Sequence[str] | None = None
    known: Sequence[str] = ()
    static: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check each argument and keep the names as tuples."""
        for name in ("lookback", "step", "delay", "horizon", "horizon_step", "stride"):
            value = getattr(self, name)
            least = 0 if name == "delay" else 1
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
                raise ValueError(f"{name}= must be a whole number of rows, received {value!r}.")
            if value < least:
                raise ValueError(f"{name}= must be at least {least}, received {value}.")
            object.__setattr__(self, name, int(value))
        for name in ("features", "targets", "known", "static"):
            value = getattr(self, name)
            if isinstance(value, str):
                value = (value,)
            if value is None and name in ("known", "static"):
                value = ()
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.features is not None and not self.features:
            raise ValueError("features= is empty: expected at least one column, or None for all.")
        for role, others in (
            ("known", (*(self.features or ()), *(self.targets or ()))),
            ("static", (*(self.features or ()), *(self.targets or ()), *self.known)),
        ):
            twice = sorted(set(getattr(self, role)) & set(others))
            if twice:
                raise ValueError(f"{role}= names {', '.join(twice)}, which has another role.")
        if self.reach > LARGEST_ROW:
            raise ValueError(
                f"a window of lookback={self.lookback}, delay={self.delay}, "
                f"horizon={self.horizon}, horizon_step={self.horizon_step} spans {self.reach} "
                f"rows, more than a row index can count ({LARGEST_ROW})."
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
    def has_horizon(self) -> bool:
        """Whether a window reads anything at its target rows."""
        return self.targets is None or bool(self.targets) or bool(self.known)

    @property
    def first_target(self) -> int:
        """Rows from a window's start to its first target row."""
        return self.last_input + self.delay * self.has_horizon

    @property
    def last_target(self) -> int:
        """Rows from a window's start to its last target row."""
        return self.first_target + (self.horizon - 1) * self.horizon_step * self.has_horizon

    @property
    def reach(self) -> int:
        """Rows from a window's start to one past its last row."""
        return self.last_target + 1

    def input_rows(self, starts: Sequence[int] | np.ndarray) -> np.ndarray:
        """Input rows of the windows that start at these rows, `(windows, length)` int64."""
        return np.asarray(starts, np.int64)[..., np.newaxis] + np.arange(self.length) * self.step

    def target_rows(self, starts: Sequence[int] | np.ndarray) -> np.ndarray:
        """Target rows of the windows that start at these rows, `(windows, horizon)` int64."""
        offsets = self.last_input + self.delay + np.arange(self.horizon) * self.horizon_step
        return np.asarray(starts, np.int64)[..., np.newaxis] + offsets

    def roles(self, names: Sequence[str]) -> "WindowSpec":
        """The same windows with `features` and `targets` spelt out for a series' columns."""
        elsewhere = {*self.known, *self.static}
        features = self.features
        if features is None:
            features = tuple(name for name in names if name not in elsewhere)
        targets = features if self.targets is None else self.targets
        return replace(self, features=features, targets=targets)

    def windows(
        self,
        whole: np.ndarray,
        targets: np.ndarray,
        *,
        inputs: np.ndarray | None = None,
        horizon: np.ndarray | None = None,
    ) -> "Windows":
        """The windows that exist.

        Args:
            whole: `(segments, 2)` `[start, stop)` runs of rows that hold all of a window.
            targets: `(parts, 2)` runs of rows that may be targets; one holds a window's targets.
            inputs: `(runs, 2)` runs that hold its input rows, where they are more than `whole`.
            horizon: `(runs, 2)` runs that hold its target rows, likewise.
        """
        starts = intersect(
            whole - np.array([0, self.last_target]),
            targets - np.array([self.first_target, self.last_target]),
        )
        if inputs is not None:
            starts = intersect(starts, inputs - np.array([0, self.last_input]))
        if horizon is not None:
            starts = intersect(starts, horizon - np.array([self.first_target, self.last_target]))
        counts = -((starts[:, 0] - starts[:, 1]) // self.stride)
        return Windows(starts[:, 0], np.cumsum(counts), self.stride)


@dataclass(frozen=True)
class Windows:
    """The windows that exist, as runs of equally spaced starts: a table of O(segments).

    Attributes:
        first: `(runs,)` first start of each run.
        ends: `(runs,)` windows up to and with each run.
        stride: rows from one start to the next in a run.
    """

    first: np.ndarray
    ends: np.ndarray
    stride: int

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


def _not_empty(runs: np.ndarray) -> np.ndarray:
    some = runs[:, 0] < runs[:, 1]
    return runs if some.all() else runs[some]
