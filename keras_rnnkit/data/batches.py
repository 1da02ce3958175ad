"""Batches: a series, a spec and options as arrays and an order, for tf.data and the loader."""

import inspect
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_rnnkit.data.epochs import EpochCounter, FitEpoch
from keras_rnnkit.data.layout import Layout, Storage, lay_out, map_rows
from keras_rnnkit.data.order import Order
from keras_rnnkit.data.scale import Scaler
from keras_rnnkit.data.series import TimeSeries, as_series, row_chunks
from keras_rnnkit.data.spec import Reads, Windows, WindowSpec
from keras_rnnkit.data.steps import format_duration

__all__ = ["Batches", "find_windows", "resolve"]

STORAGE = ("float32", "bfloat16", "float16")
POLICIES = ("drop", "mask", "error")


class Batches:
    """All that a dataset or loader needs to know, in NumPy; see `window_dataset` for arguments.

    Attributes:
        series: the rows.
        spec: the windows, with roles spelt out.
        order: which window stands where.
        seed: of the permutations.
        epoch: the first one, or the callback that tells it.
        layouts: where to read the `features`, `targets`, `known` columns and `weights`.
    """

    def __init__(
        self,
        series: Any,
        spec: WindowSpec,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int | None = None,
        drop_remainder: bool = False,
        scaler: Scaler | None = None,
        missing: str = "drop",
        weights: Sequence[float] | Callable[[np.ndarray], Any] | None = None,
        balance: bool = False,
        stateful_batches: bool = False,
        shard: tuple[int, int] | None = None,
        squeeze: bool = False,
        return_index: bool = False,
        dtype: str = "float32",
        epoch: int | FitEpoch = 0,
    ) -> None:
        self.series = series = as_series(series)
        self.spec = spec = resolve(series, spec)
        _check_choice("missing", missing, POLICIES)
        _check_choice("dtype", dtype, STORAGE)
        self.batch_size = _check_count("batch_size", batch_size)
        self.seed = random.randrange(2**31) if seed is None else _check_count("seed", seed, 0)  # noqa: S311  keras.utils.set_random_seed governs it
        if self.seed >= 2**63:
            raise ValueError(f"seed= must be below 2**63, received {seed}.")
        if scaler is not None and not isinstance(scaler, Scaler):
            raise TypeError(f"scaler= must be a Scaler, received {type(scaler).__name__}.")
        features = tuple(spec.features or ())
        self.epoch = epoch if isinstance(epoch, FitEpoch) else _check_count("epoch", epoch, 0)
        self.masks = missing == "mask"
        self.squeeze = squeeze
        self.return_index = return_index
        windows = find_windows(series, spec, missing)
        if not len(windows):
            raise ValueError(_why_none(series, spec))
        shards, share = _check_shard(shard)
        groups = _windows_by_group(series, windows) if balance else None
        if stateful_batches:
            if shuffle or balance or shards > 1:
                raise ValueError(
                    "stateful_batches=True keeps windows in time order: "
                    "shuffle=, balance= and shard= do not go with it."
                )
            _check_lanes(spec)
        # Rows are counted from the first one that a window reads.
        base = int(windows.first[0]) + spec.first_row
        last = int(windows.starts(np.array([len(windows) - 1]))[0])
        self.base = base
        self.order = Order(
            windows=Windows(windows.first - base, windows.ends, windows.stride),
            batch_size=batch_size,
            shuffle=shuffle,
            shards=shards,
            shard=share,
            drop_remainder=drop_remainder,
            groups=groups,
            lanes=stateful_batches,
        )
        if not len(self.order):
            raise ValueError(
                f"batch_size={batch_size} is larger than the {self.order.size:,} windows"
                f"{f' of each of {shards} shards' * (shards > 1)}: with drop_remainder=True no "
                "batch is left."
            )
        affine = None
        if scaler is not None:
            scaler.check_targets([name for name in spec.targets or () if name not in features])
            affine = scaler.affine(series)
        mapped = isinstance(series.values, np.memmap)
        rows = (base, last + spec.reach)
        ahead = spec.target_offsets.step if isinstance(spec.target_offsets, range) else 1

        def place(names: Sequence[str], step: int, kind: str) -> Layout:
            columns = series.columns(names)
            if mapped:
                return map_rows(series, columns, affine)
            if self.layouts and kind == dtype and set(names) <= set(features):
                # The rows are there already; a few are read whole rather than kept twice.
                chosen = np.array([features.index(name) for name in names])
                whole = names == features
                return replace(self.layouts["features"], columns=None if whole else chosen)
            return lay_out(series, columns, rows, step, _dtype(kind), affine)

        self.layouts: dict[str, Layout] = {}
        self.layouts["features"] = place(features, spec.step, dtype)
        if spec.targets:
            self.layouts["targets"] = place(tuple(spec.targets), ahead, "float32")
        if spec.known:
            self.layouts["known"] = place(tuple(spec.known), ahead, dtype)
        if weights is not None:
            if not spec.targets:
                raise ValueError(
                    "weights= weighs target rows, and the spec has none: targets=(). Name the "
                    "targets (WindowSpec.every_step has one at each input row); weights of other "
                    "targets are added where those are, in a map over the dataset."
                )
            row_weights = TimeSeries(_row_weights(series, weights))
            self.layouts["weights"] = lay_out(
                row_weights, np.arange(1), rows, ahead, _dtype("float32"), None
            )
        self.static = None
        if spec.static:
            self.static = _static(series, spec.static, affine)

        scaled_late = any(layout.mean is not None for layout in self.layouts.values())
        self.needs_group = return_index or scaled_late or self.static is not None

    @classmethod
    def of(cls, series: Any, spec: WindowSpec, options: dict[str, Any]) -> "Batches":
        """Make them from options by name; of one that does not exist, all are told."""
        try:
            inspect.signature(cls).bind(series, spec, **options)
        except TypeError as error:
            known = list(inspect.signature(cls).parameters)[2:]
            raise TypeError(f"{error}. The options are: {', '.join(known)}.") from None
        return cls(series, spec, **options)

    def __len__(self) -> int:
        return len(self.order)

    def count_with(self, counter: EpochCounter) -> None:
        """Set the counter to the first epoch, and to each one that the callback will tell."""
        if isinstance(self.epoch, FitEpoch):
            self.epoch.tell(counter)
            counter.number = self.epoch.number
        else:
            counter.number = self.epoch

    @property
    def bytes_held(self) -> int:
        """Memory of the arrays that are not the series' own."""
        held = {
            id(layout.source): layout.source for layout in self.layouts.values() if layout.phase
        }
        return sum(source.nbytes for source in held.values())

    def tables(self) -> dict[str, Any]:
        """Every array that `batch` looks things up in, by the part that reads it."""
        group = {"ends": self.series.bounds[1:] - self.base}
        if self.return_index and self.series.groups != (None,):
            group["label"] = np.array(self.series.groups)
        if self.static is not None:
            group["static"] = self.static
        return {
            "order": self.order.tables(),
            "group": group,
            **{name: layout.tables() for name, layout in self.layouts.items()},
        }

    def batch(self, number: Any, epoch: dict[str, Any], tables: dict[str, Any], ops: Any) -> Any:
        """One batch, as `window_dataset` describes it.

        Args:
            number: of the batch in its epoch.
            epoch: what its order follows from; see `permute.epoch_tables`.
            tables: what `tables` gives, as arrays of the same library as `ops`.
            ops: the operations; see `Order.starts`.
        """
        start = self.order.starts(number, epoch, tables["order"], ops)
        group = None
        if self.needs_group:
            group = ops.searchsorted(tables["group"]["ends"], start)
        read = {}
        for name, layout in self.layouts.items():
            past = name == "features"
            offsets = self.spec.input_offsets if past else self.spec.target_offsets
            # A map is not cut at the base.
            row = start if layout.phase else start + self.base
            read[name] = layout.read(row, offsets, group, tables[name], ops)
        if self.static is not None:
            read["static"] = ops.take(tables["group"]["static"], group)
        if self.masks:
            for name in {"features", "known", "static"} & read.keys():
                read[name] = ops.fill(read[name])
        inputs: Any = read["features"]
        ahead = {name: read[name] for name in ("known", "static") if name in read}
        if ahead:
            inputs = {"past": inputs, **ahead}
        parts = [inputs]
        if "targets" in read:
            parts.append(ops.squeeze(read["targets"]) if self.squeeze else read["targets"])
        weights = ops.mean(read["weights"]) if "weights" in read else None
        index = None
        if self.return_index:
            labels = tables["group"].get("label")
            index = {} if labels is None else {"group": ops.take(labels, group)}
            index["input_row"] = start + (self.base + self.spec.last_input)
            index["target_rows"] = ops.grid(start + self.base, self.spec.target_offsets)
        if self.order.lanes:
            real, begins = self.order.marks(number, tables["order"], ops)
            shown = ops.cast(real, "float32")[:, None]
            weights = shown if weights is None else weights * shown
            if index is not None:
                index["begins"], index["padding"] = begins, ~real
        if weights is not None and "targets" in read:
            parts.append(weights)
        if index is not None:
            parts.append(index)
        return parts[0] if len(parts) == 1 else tuple(parts)


def resolve(series: TimeSeries, spec: WindowSpec) -> WindowSpec:
    """The spec with its roles spelt out, each name checked against the series."""
    if not isinstance(spec, WindowSpec):
        raise ValueError(f"spec= must be a WindowSpec, received {type(spec).__name__}.")
    spec = spec.roles(series.names)
    for role in ("features", "targets", "known", "static"):
        series.columns(getattr(spec, role), what=role)
    if not spec.features:
        raise ValueError("features= is empty: every column is known= or static=.")
    return spec


def find_windows(series: TimeSeries, spec: WindowSpec, missing: str | None) -> Windows:
    """The windows of a series under a policy for missing values.

    Args:
        series: the series, or a part of a split.
        spec: with its roles spelt out.
        missing: `"drop"`, `"mask"` or `"error"`; None for the windows that would exist if no value
            were missing.

    Raises:
        ValueError: a window reads a missing value, and the policy is `"error"`.
    """
    reads: list[Reads] = []
    if missing is not None:
        reads.append((_missing_rows(series, spec.targets), spec.target_offsets))
    if missing in ("drop", "error"):
        reads.append((_missing_rows(series, spec.known), spec.target_offsets))
        reads.append((_missing_rows(series, spec.features), spec.input_offsets))
    windows = spec.windows(series.segments(), series.target_rows, reads)
    if missing in ("drop", "error") and spec.static:
        lacking = _groups_without(series, spec.static)
        kept = ~lacking[series.group_of(windows.first)]
        windows = Windows.of(windows.first[kept], windows.counts[kept], windows.stride)
    if missing == "error":
        lost = len(find_windows(series, spec, None)) - len(windows)
        if lost:
            raise ValueError(
                f"missing='error': {lost:,} windows read a missing value ({_told(series, spec)}). "
                "Fill them, or pass missing='drop' or 'mask'."
            )
    return windows


def _missing_rows(series: TimeSeries, names: Sequence[str] | None) -> np.ndarray:
    return series.missing_rows(names) if names else np.empty(0, np.int64)


def _groups_without(series: TimeSeries, names: Sequence[str]) -> np.ndarray:
    """Whether each group lacks every value of one of the columns."""
    lacking = np.zeros(len(series.groups), bool)
    for name in names:
        rows = np.searchsorted(series.missing_rows([name]), series.bounds)
        lacking |= np.diff(rows) == np.diff(series.bounds)
    return lacking


def _told(series: TimeSeries, spec: WindowSpec) -> str:
    """How many rows lack a value of each column that windows read, and the first of them."""
    read = dict.fromkeys((*(spec.features or ()), *(spec.targets or ()), *spec.known, *spec.static))
    rows = {name: series.missing_rows([name]) for name in read}
    return ", ".join(
        f"{name!r} lacks {len(lost):,} rows, the first of them row {lost[0]}"
        for name, lost in rows.items()
        if lost.size
    )


def _why_none(series: TimeSeries, spec: WindowSpec) -> str:
    """Why not one window exists, and what to do."""
    needs = (
        f"no window exists: lookback={spec.lookback}, step={spec.step}, delay={spec.delay}, "
        f"horizon={spec.horizon}, horizon_step={spec.horizon_step} reach over "
        f"{spec.reach - spec.first_row:,} rows"
    )
    segments = series.segments()
    if not len(spec.windows(segments, np.array([[0, len(series)]]))):
        longest = int(np.diff(segments, axis=1).max())
        gaps = len(segments) - len(series.groups)
        advice = "Shorten the window"
        if gaps:
            advice += ", or make the series with freq='rows', which takes no gap for one"
        where = "segment" if gaps or len(series.groups) > 1 else "series"
        cut = (
            f" ({gaps:,} gaps in time, a row every {format_duration(series.freq)})" if gaps else ""
        )
        return f"{needs}, and the longest {where} has {longest:,}{cut}. {advice}."
    fitting = len(find_windows(series, spec, None))
    if fitting:
        return (
            f"{needs}, and each of the {fitting:,} that fit reads a missing value "
            f"({_told(series, spec)}). Leave out the columns that lack values, fill them, or pass "
            "missing='mask'."
        )
    part = int(np.diff(series.target_rows, axis=1).sum())
    return f"{needs}, and its targets do not fit the {part:,} rows that this part may predict."


def _windows_by_group(series: TimeSeries, windows: Windows) -> np.ndarray:
    """`[start, stop)` windows of each group that has any."""
    group = series.group_of(windows.first)
    last = np.flatnonzero(np.diff(group, append=-1))
    stops = windows.ends[last]
    return np.stack([np.concatenate(([0], stops[:-1])), stops], axis=1)


def _check_lanes(spec: WindowSpec) -> None:
    following = spec.length * spec.step
    if spec.stride != following:
        raise ValueError(
            f"stateful_batches=True needs windows that follow each other: stride={following} "
            f"(the lookback, in whole steps), received stride={spec.stride}."
        )


def _static(
    series: TimeSeries, names: Sequence[str], affine: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
    """The constant columns of each group, `(groups, names)` float32; NaN where none has a value."""
    columns = series.columns(names)
    low = np.full((len(series.groups), len(columns)), np.inf)
    high = -low
    for chunk in row_chunks(series.values):
        block = series.values[chunk][:, columns]
        present = np.isfinite(block)
        group, last = series.group_of(np.array([chunk.start, chunk.stop - 1]))
        at = slice(group, last + 1)
        edges = np.maximum(series.bounds[:-1][at] - chunk.start, 0)
        least = np.minimum.reduceat(np.where(present, block, np.inf), edges, axis=0)
        most = np.maximum.reduceat(np.where(present, block, -np.inf), edges, axis=0)
        low[at], high[at] = np.minimum(low[at], least), np.maximum(high[at], most)
    differs = np.argwhere(low < high)
    if differs.size:
        group, column = differs[0]
        start, stop = series.bounds[group : group + 2]
        rows = series.values[start:stop, columns[column]]
        row = np.flatnonzero(np.isfinite(rows) & (rows != rows[np.isfinite(rows)][0]))[0]
        raise ValueError(
            f"static= names {names[column]!r}, which changes within group "
            f"{series.groups[group]!r} (row {start + row}). Name it in features= instead."
        )
    first = np.where(low > high, np.nan, low)
    if affine is not None:
        first = (first - affine[0][:, columns]) / affine[1][:, columns]
    store = Storage(np.dtype(np.float32), names)
    first = store(first)
    store.finish()
    return first


def _row_weights(series: TimeSeries, weights: Any) -> np.ndarray:
    if callable(weights):
        if series.time is None:
            raise ValueError("weights= is a function of time, and the series has no times.")
        weights = weights(series.local_time)
    elif series.gathered:
        raise ValueError(
            "weights=: the series has gathered its rows by group, so the order of the weights "
            "cannot be told. Sort the rows by group before, or pass a function of the times."
        )
    row_weights = np.asarray(weights, dtype=np.float32)
    if row_weights.shape != (len(series),):
        raise ValueError(
            f"weights= must hold one weight for each of {len(series):,} rows, "
            f"received shape {row_weights.shape}."
        )
    if not np.isfinite(row_weights).all() or (row_weights < 0).any():
        row = int(np.flatnonzero(~(np.isfinite(row_weights) & (row_weights >= 0)))[0])
        raise ValueError(
            f"weights= must be finite and not negative, received {row_weights[row]} in row {row}."
        )
    return row_weights


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        shown = ", ".join(map(repr, choices))
        raise ValueError(f"{name}= must be one of {shown}, received {value!r}.")


def _check_count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}= must be a whole number of at least {least}, received {value!r}.")
    return int(value)


def _check_shard(shard: tuple[int, int] | None) -> tuple[int, int]:
    if shard is None:
        return 1, 0
    try:
        count, index = shard
    except (TypeError, ValueError):
        raise ValueError(f"shard= must be (count, index), received {shard!r}.") from None
    _check_count("shard count", count)
    if _check_count("shard index", index, 0) >= count:
        raise ValueError(
            f"shard= index must be below its count, received (count={count}, index={index})."
        )
    return int(count), int(index)


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
