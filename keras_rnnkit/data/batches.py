"""Batches: a series, a spec and options as arrays and an order, for the dataset and the loader."""

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import numpy as np

from keras_rnnkit.arguments import refuse_unknown
from keras_rnnkit.data.epochs import EpochCounter, FitEpoch
from keras_rnnkit.data.layout import Layout, Storage, lay_out, map_rows
from keras_rnnkit.data.order import Order, by_weight
from keras_rnnkit.data.scale import Scaler
from keras_rnnkit.data.series import TimeSeries, as_series, row_chunks
from keras_rnnkit.data.shares import check_share, own_share
from keras_rnnkit.data.spec import Reads, Windows, WindowSpec
from keras_rnnkit.data.steps import format_duration

__all__ = [
    "Batches",
    "check_options",
    "find_windows",
    "known_rows",
    "resolve",
    "takes_options",
    "why_none",
]

Storable = Literal["float32", "bfloat16", "float16"]
Policy = Literal["drop", "mask", "error"]

# What a window reads besides its past, under the names of the inputs.
INPUTS = ("known", "static", "past_categories", "known_categories", "static_categories")

P = ParamSpec("P")
R = TypeVar("R")


class Batches:
    """What a dataset or loader needs, as NumPy arrays; see `window_dataset` for the arguments.

    Its options are listed here, and `takes_options` lets others take over the list.

    Attributes:
        series: the rows.
        spec: the windows, with the columns of each role.
        order: the order of the windows.
        base: the first row that a window reads, from which rows are counted.
        seed: the shuffle seed.
        epoch: the first epoch, or the callback that sets it.
        shared: whether `shard` was given.
        layouts: where to read the columns of each role that varies in time, and `weights`.
        static: `(groups, columns)` float32 of the roles `static` and `static_categories`.
    """

    series: TimeSeries
    spec: WindowSpec
    order: Order
    base: int
    seed: int
    epoch: int | FitEpoch
    shared: bool
    layouts: dict[str, Layout]
    static: dict[str, np.ndarray]

    # Any object that batches are made for takes over the list, a loader too.
    def __init__(
        self: Any,
        series: Any,
        spec: WindowSpec,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int | None = None,
        drop_remainder: bool = False,
        scaler: Scaler | None = None,
        missing: Policy = "drop",
        weights: Sequence[float] | np.ndarray | Callable[[np.ndarray], Any] | None = None,
        balance: bool = False,
        sampling: Sequence[float] | np.ndarray | Callable[[np.ndarray], Any] | None = None,
        stateful_batches: bool = False,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        squeeze: bool = False,
        return_index: bool = False,
        dtype: Storable = "float32",
        epoch: int | FitEpoch = 0,
    ) -> None:
        self.series = as_series(series)
        self.spec = resolve(self.series, spec)
        _check_choice("missing", missing, get_args(Policy))
        _check_choice("dtype", dtype, get_args(Storable))
        if scaler is not None and not isinstance(scaler, Scaler):
            raise TypeError(f"scaler= must be a Scaler, received {type(scaler).__name__}.")
        self.batch_size = _check_count("batch_size", batch_size)
        self.seed = _seed(seed)
        self.epoch = epoch if isinstance(epoch, FitEpoch) else _check_count("epoch", epoch, 0)
        self.masks = missing == "mask"
        if squeeze and self.spec.pad_targets:
            raise ValueError(
                "squeeze=True does not go with pad_targets=: Keras would take the mean over the "
                "horizon before the weights of its rows could count."
            )
        self.squeeze = squeeze
        self.return_index = return_index
        windows = find_windows(self.series, self.spec, missing)
        if not len(windows):
            raise ValueError(why_none(self.series, self.spec))
        self.base, rows = self._reach(windows)
        self.shared = shard is not None
        self.order = self._order(
            windows, shuffle, _check_shard(shard), drop_remainder, balance, stateful_batches
        )
        if sampling is not None:
            self.order = replace(self.order, draws=self._draws(windows, sampling))
        affine = self._affine(scaler)
        self.layouts = self._layouts(rows, dtype, affine)
        if weights is not None:
            self.layouts["weights"] = self._weights(weights, rows)
        if self.spec.pad_targets:
            known = TimeSeries(known_rows(self.series, self.spec, missing))
            self.layouts["certain"] = self._of_rows(known, rows)
        self.static = self._static(affine)
        scaled_late = any(layout.mean is not None for layout in self.layouts.values())
        self.needs_group = return_index or scaled_late or bool(self.static)

    def _reach(self, windows: Windows) -> tuple[int, tuple[int, int]]:
        """The first row that a window reads, and `[start, stop)` of all that they read."""
        spec = self.spec
        base = max(int(windows.first[0]) + min(0, spec.first_target), 0)
        last = int(windows.starts(np.array([len(windows) - 1]))[0])
        reach = spec.reach
        if spec.pad_targets:
            reach = max(reach, spec.target_offsets[-1] + 1)
        return base, (base, min(last + reach, len(self.series)))

    def _order(
        self,
        windows: Windows,
        shuffle: bool,
        shard: tuple[int, int],
        drop_remainder: bool,
        balance: bool,
        lanes: bool,
    ) -> Order:
        """The order of the windows, with rows counted from `base`."""
        if lanes:
            if shuffle or balance or shard[0] > 1:
                raise ValueError(
                    "stateful_batches=True keeps windows in time order: "
                    "shuffle=, balance= and shard= do not go with it."
                )
            _check_lanes(self.spec)
        order = Order(
            windows=Windows(windows.first - self.base, windows.ends, windows.stride),
            batch_size=self.batch_size,
            shuffle=shuffle,
            shards=shard[0],
            shard=shard[1],
            drop_remainder=drop_remainder,
            groups=_windows_by_group(self.series, self.spec, windows) if balance else None,
            lanes=lanes,
        )
        if not len(order):
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the {order.size:,} windows"
                f"{f' of each of {shard[0]} shards' * (shard[0] > 1)}: with drop_remainder=True "
                "no batch is left."
            )
        return order

    def _draws(self, windows: Windows, sampling: Any) -> np.ndarray:
        """How windows are drawn by the weights of their rows; see `Order`."""
        if not self.order.shuffle or self.order.groups is not None:
            raise ValueError(
                "sampling= draws other windows in each epoch: it needs shuffle=True, and does not "
                "go with balance=."
            )
        row_weights = _row_weights(self.series, sampling, "sampling")
        offsets = self.spec.sure_offsets if self.spec.targets else [self.spec.last_input]
        starts = windows.starts()
        weights = sum(row_weights[starts + offset].astype(np.float64) for offset in offsets)
        if not np.any(weights):
            raise ValueError("sampling= gives every window the weight 0.")
        return by_weight(np.asarray(weights))

    def _affine(self, scaler: Scaler | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and scale of each column; None without a scaler."""
        if scaler is None:
            return None
        features = self.spec.features or ()
        scaler.check_targets([name for name in self.spec.targets or () if name not in features])
        return scaler.affine(self.series)

    def _layouts(
        self, rows: tuple[int, int], dtype: str, affine: tuple[np.ndarray, np.ndarray] | None
    ) -> dict[str, Layout]:
        """Where the columns of each role lie."""
        spec, series = self.spec, self.series
        features = spec.numbers(spec.features)
        layouts: dict[str, Layout] = {}
        _check_categories(series, spec)

        def place(role: str, names: tuple[str, ...], step: int, kind: str) -> None:
            if not names:
                return
            columns = series.columns(names)
            coded = role.endswith("categories")
            if isinstance(series.values, np.memmap):
                layouts[role] = map_rows(series, columns, None if coded else affine)
            elif layouts and kind == dtype and set(names) <= set(features):
                # The rows are there already; a few are read whole rather than kept twice.
                chosen = np.array([features.index(name) for name in names])
                whole = names == features
                layouts[role] = replace(layouts["features"], columns=None if whole else chosen)
            else:
                scaling = None if coded else affine
                layouts[role] = lay_out(series, columns, rows, step, _dtype(kind), scaling)

        place("features", features, spec.step, dtype)
        place("targets", tuple(spec.targets or ()), self._ahead, "float32")
        place("known", spec.numbers(spec.known), self._ahead, dtype)
        place("past_categories", spec.coded(spec.features), spec.step, "float32")
        place("known_categories", spec.coded(spec.known), self._ahead, "float32")
        return layouts

    def _static(self, affine: tuple[np.ndarray, np.ndarray] | None) -> dict[str, np.ndarray]:
        """The constant columns of each group, and those of them that are categories."""
        static = self.spec.static
        roles = {"static": self.spec.numbers(static), "static_categories": self.spec.coded(static)}
        return {
            role: _static(self.series, names, affine if role == "static" else None)
            for role, names in roles.items()
            if names
        }

    @property
    def _ahead(self) -> int:
        """Rows from one target to the next, if they are evenly spaced."""
        offsets = self.spec.target_offsets
        return offsets.step if isinstance(offsets, range) else 1

    def _weights(self, weights: Any, rows: tuple[int, int]) -> Layout:
        """Where the weights of the target rows lie."""
        if not self.spec.targets:
            raise ValueError(
                "weights= are those of target rows, and the spec has none: targets=(). Name the "
                "targets (WindowSpec.every_step has one at each input row), or add the weights "
                "where you add the targets, in a map over the dataset."
            )
        return self._of_rows(TimeSeries(_row_weights(self.series, weights)), rows)

    def _of_rows(self, numbers: TimeSeries, rows: tuple[int, int]) -> Layout:
        """Where one number for each row lies, to be read at the target rows."""
        return lay_out(numbers, np.arange(1), rows, self._ahead, _dtype("float32"), None)

    def __len__(self) -> int:
        return len(self.order)

    def check_share(self, loader: bool) -> None:
        """Refuse what the engine cannot part rightly; see `shares.check_share`."""
        check_share(self.order, self.shared, loader)

    def count_with(self, counter: EpochCounter, loader: bool) -> None:
        """Set the counter to the first epoch, and to each that the callback announces."""
        if isinstance(self.epoch, FitEpoch):
            self.epoch.tell(counter, partial(self.check_share, loader))
            counter.number = self.epoch.number
        else:
            counter.number = self.epoch

    @property
    def bytes_held(self) -> int:
        """Memory of the arrays besides those of the series, in bytes."""
        held = {
            id(layout.source): layout.source for layout in self.layouts.values() if layout.phase
        }
        return sum(source.nbytes for source in held.values())

    def tables(self) -> dict[str, Any]:
        """The arrays that `batch` reads, by the part that reads them."""
        group = {"ends": self.series.bounds[1:] - self.base}
        if self.return_index and self.series.groups != (None,):
            group["label"] = np.array(self.series.groups)
        group |= self.static
        segment = {}
        if self.leaves_segments:
            firsts, ends = (self.series.segments() - self.base).T.copy()
            segment = {"firsts": firsts, "ends": ends}
        return {
            "order": self.order.tables(),
            "group": group,
            "segment": segment,
            **{name: layout.tables() for name, layout in self.layouts.items()},
        }

    def batch(self, number: Any, epoch: dict[str, Any], tables: dict[str, Any], ops: Any) -> Any:
        """One batch, as `window_dataset` describes it.

        Args:
            number: number of the batch in its epoch.
            epoch: what the order depends on; see `permute.epoch_tables`.
            tables: what `tables` gives, as arrays of the same library as `ops`.
            ops: the operations; see `Order.starts`.
        """
        spec = self.spec
        start = self.order.starts(number, epoch, tables["order"], ops)
        group: Any = None
        within: Any = None
        if self.needs_group:
            group = ops.searchsorted(tables["group"]["ends"], start + spec.last_input)
        if self.leaves_segments:
            segment = ops.searchsorted(tables["segment"]["ends"], start + spec.last_input)
            within = tuple(
                ops.take(tables["segment"][edge], segment) for edge in ("firsts", "ends")
            )
        read = {}
        for name, layout in self.layouts.items():
            past = name in ("features", "past_categories")
            offsets = spec.input_offsets if past else spec.target_offsets
            # A map is not cut at the base.
            base = 0 if layout.phase else self.base
            edges = within
            if within is None or not (spec.pad if past else spec.pad_targets):
                edges = None
            elif base:
                edges = (within[0] + base, within[1] + base)
            row = start + base if base else start
            read[name] = layout.read(row, offsets, group, tables[name], ops, edges)
        for name in self.static:
            read[name] = ops.take(tables["group"][name], group)
        inside = None
        if spec.pad_targets:
            inside = ops.grid(start, spec.target_offsets) < within[1][:, None]
            self._settle_horizon(read, inside, ops)
        if self.masks:
            for name in {"features", "known", "static"} & read.keys():
                read[name] = ops.fill(read[name])
        inputs: dict[str, Any] = {"past": read["features"]} if "features" in read else {}
        inputs |= {name: read[name] for name in INPUTS if name in read}
        if spec.pad:
            inputs["mask"] = real = ops.grid(start, spec.input_offsets) >= within[0][:, None]
            for name in {"past", "past_categories"} & inputs.keys():
                inputs[name] = ops.where(real[..., None], inputs[name], np.float32(0))
        for name in inputs:
            if name.endswith("categories"):
                inputs[name] = ops.cast(inputs[name], "int32")
        parts: list[Any] = [inputs["past"] if list(inputs) == ["past"] else inputs]
        if "targets" in read:
            parts.append(ops.squeeze(read["targets"]) if self.squeeze else read["targets"])
        weights = ops.mean(read["weights"]) if "weights" in read else None
        if inside is not None:
            weights = read["certain"][..., 0]
            if "weights" in read:
                known = read["weights"] * read["certain"]
                weights = weights * (ops.total(known) / ops.total(read["certain"]))
        index = None
        if self.return_index:
            labels = tables["group"].get("label")
            index = {} if labels is None else {"group": ops.take(labels, group)}
            index["input_row"] = start + (self.base + spec.last_input)
            rows = ops.grid(start + self.base, spec.target_offsets)
            index["target_rows"] = rows if inside is None else ops.where(inside, rows, rows * 0 - 1)
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

    @property
    def leaves_segments(self) -> bool:
        """Whether windows may begin before their segment or end behind it."""
        return bool(self.spec.pad or self.spec.pad_targets)

    def _settle_horizon(self, read: dict[str, Any], inside: Any, ops: Any) -> None:
        """Set unknown targets to 0, and `certain` to 1 where they are known."""
        inside = inside[..., None]
        nothing, lost = np.float32(0), np.float32(np.nan)
        certain = read["certain"] = ops.where(inside, read["certain"], nothing)
        read["targets"] = ops.where(certain > 0, read["targets"], nothing)
        for name in {"known", "known_categories"} & read.keys():
            known = ops.where(inside, read[name], lost)
            if not self.masks or name == "known_categories":
                known = ops.where(ops.finite(known), known, nothing)
            read[name] = known


def takes_options(source: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Let a function of `**options` take over the list of them, with types and defaults.

    Args:
        source: `Batches`; for a method, its `__init__`.
    """

    def sign(function: Callable[..., R]) -> Callable[P, R]:
        own = inspect.signature(function).return_annotation
        listed = inspect.signature(source).replace(return_annotation=own)
        function.__signature__ = listed  # type: ignore[attr-defined]
        return function

    return sign


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse an option that does not exist, as `refuse_unknown`."""
    refuse_unknown(options, list(inspect.signature(Batches).parameters)[2:], "option")


def resolve(series: TimeSeries, spec: WindowSpec) -> WindowSpec:
    """The spec with the columns of each role; checks each name against the series."""
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
        spec: with the columns of each role.
        missing: `"drop"`, `"mask"` or `"error"`; None counts the windows that would exist without
            missing values.

    Raises:
        ValueError: a window reads a missing value, and the policy is `"error"`.
    """
    reads: list[Reads] = []
    if missing is not None:
        reads.append((_missing_rows(series, spec.targets), spec.sure_offsets))
        # A mark can stand beside a number that is missing, but a category has no place for it.
        needed = spec.coded if missing == "mask" else tuple
        reads.append((_missing_rows(series, needed(spec.known)), spec.sure_offsets))
        reads.append((_missing_rows(series, needed(spec.features or ())), spec.input_offsets))
    windows = spec.windows(series.segments(), series.target_rows, reads)
    static = () if missing is None else needed(spec.static)
    if static:
        lacking = _groups_without(series, static)
        kept = ~lacking[series.group_of(windows.first + spec.last_input)]
        windows = Windows.of(windows.first[kept], windows.counts[kept], windows.stride)
    if missing == "error":
        lost = len(find_windows(series, spec, None)) - len(windows)
        if lost:
            raise ValueError(
                f"missing='error': {lost:,} windows read a missing value ({_told(series, spec)}). "
                "Fill them, or pass missing='drop' or 'mask'."
            )
    return windows


def known_rows(series: TimeSeries, spec: WindowSpec, missing: str) -> np.ndarray:
    """Whether each row counts as known among the last targets of a window, for `pad_targets`."""
    known = np.zeros(len(series), bool)
    for start, stop in series.target_rows:
        known[start:stop] = True
    known[_missing_rows(series, spec.targets)] = False
    needed = spec.coded(spec.known) if missing == "mask" else spec.known
    known[_missing_rows(series, needed)] = False
    return known


def _missing_rows(series: TimeSeries, names: Sequence[str] | None) -> np.ndarray:
    return series.missing_rows(names) if names else np.empty(0, np.int64)


def _groups_without(series: TimeSeries, names: Sequence[str]) -> np.ndarray:
    """Whether a column has no value at all, for each group."""
    lacking = np.zeros(len(series.groups), bool)
    for name in names:
        rows = np.searchsorted(series.missing_rows([name]), series.bounds)
        lacking |= np.diff(rows) == np.diff(series.bounds)
    return lacking


def _told(series: TimeSeries, spec: WindowSpec) -> str:
    """How many rows lack a value, for each column that windows read, and the first of them."""
    read = dict.fromkeys((*(spec.features or ()), *(spec.targets or ()), *spec.known, *spec.static))
    rows = {name: series.missing_rows([name]) for name in read}
    return ", ".join(
        f"{name!r} lacks {len(lost):,} rows, the first of them row {lost[0]}"
        for name, lost in rows.items()
        if lost.size
    )


def why_none(series: TimeSeries, spec: WindowSpec) -> str:
    """Why no window exists, and what to do."""
    needs = (
        f"no window exists: lookback={spec.lookback}, step={spec.step}, delay={spec.delay}, "
        f"horizon={spec.horizon}, horizon_step={spec.horizon_step} reach over "
        f"{spec.reach - spec.first_row:,} rows"
    )
    segments = series.segments()
    if not len(spec.windows(segments, np.array([[0, len(series)]]))):
        longest = int(np.diff(segments, axis=1).max())
        gaps = len(segments) - len(series.groups)
        advice = "Shorten the window, or pass pad= to WindowSpec, which lets it begin earlier"
        if gaps:
            advice += ", or make the series with freq='rows', which ignores gaps"
        where = "segment" if gaps or len(series.groups) > 1 else "series"
        cut = (
            f" ({gaps:,} gaps in time, a row every {format_duration(series.freq)})" if gaps else ""
        )
        if spec.targets and longest >= spec.last_input + 1:
            advice += ". To forecast what follows, make the windows with forecast_windows"
        return f"{needs}, and the longest {where} has {longest:,}{cut}. {advice}."
    fitting = len(find_windows(series, spec, None))
    if fitting:
        return (
            f"{needs}, and each of the {fitting:,} that fit reads a missing value "
            f"({_told(series, spec)}). Leave out the columns that lack values, fill them, or pass "
            "missing='mask'. To forecast rows that have no value yet, make the windows with "
            "forecast_windows."
        )
    part = int(np.diff(series.target_rows, axis=1).sum())
    return f"{needs}, and its targets do not fit the {part:,} rows that this part may predict."


def _windows_by_group(series: TimeSeries, spec: WindowSpec, windows: Windows) -> np.ndarray:
    """`[start, stop)` windows of each group that has any."""
    group = series.group_of(windows.first + spec.last_input)
    last = np.flatnonzero(np.diff(group, append=-1))
    stops = windows.ends[last]
    return np.stack([np.concatenate(([0], stops[:-1])), stops], axis=1)


def _check_categories(series: TimeSeries, spec: WindowSpec) -> None:
    """Refuse categories that are not integers from 0 on."""
    columns = series.columns(spec.categories)
    if not len(columns):
        return
    for chunk in row_chunks(series.values):
        block = series.values[chunk][:, columns]
        wrong = np.isfinite(block) & ((block < 0) | (block != np.floor(block)) | (block >= 2**24))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"categories= names {spec.categories[column]!r}, which holds "
                f"{block[row, column]:g} in row {chunk.start + row}: expected whole numbers from 0 "
                f"to {2**24 - 1}. Encode other labels with Categories."
            )


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


def _row_weights(series: TimeSeries, weights: Any, what: str = "weights") -> np.ndarray:
    if callable(weights):
        if series.time is None:
            raise ValueError(f"{what}= is a function of time, and the series has no times.")
        weights = weights(series.local_time)
    elif series.gathered:
        raise ValueError(
            f"{what}=: the series has gathered its rows by group, so the order of the weights "
            "is unclear. Sort the rows by group before, or pass a function of the times."
        )
    row_weights = np.asarray(weights, dtype=np.float32)
    if row_weights.shape != (len(series),):
        raise ValueError(
            f"{what}= must hold one weight for each of {len(series):,} rows, "
            f"received shape {row_weights.shape}."
        )
    if not np.isfinite(row_weights).all() or (row_weights < 0).any():
        row = int(np.flatnonzero(~(np.isfinite(row_weights) & (row_weights >= 0)))[0])
        raise ValueError(
            f"{what}= must be finite and not negative, received {row_weights[row]} in row {row}."
        )
    return row_weights


def _seed(seed: int | None) -> int:
    if seed is None:
        return random.randrange(2**31)  # noqa: S311  keras.utils.set_random_seed governs it
    if _check_count("seed", seed, 0) >= 2**63:
        raise ValueError(f"seed= must be below 2**63, received {seed}.")
    return int(seed)


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        shown = ", ".join(map(repr, choices))
        raise ValueError(f"{name}= must be one of {shown}, received {value!r}.")


def _check_count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}= must be a whole number of at least {least}, received {value!r}.")
    return int(value)


def _check_shard(shard: Any) -> tuple[int, int]:
    if shard is None:
        return 1, 0
    if isinstance(shard, str) and shard == "auto":
        return own_share()
    try:
        count, index = shard
    except (TypeError, ValueError):
        raise ValueError(f"shard= must be (count, index) or 'auto', received {shard!r}.") from None
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
