"""Scaler: each column to zero mean and unit variance, with statistics from the training part."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.atomic import atomic_write
from keras_rnnkit.data.layout import Storage
from keras_rnnkit.data.series import TimeSeries, as_series, row_chunks
from keras_rnnkit.data.spec import intersect

__all__ = ["Scaler"]

LARGEST_CODE = 31


class Scaler:
    """Scales each column to zero mean and unit variance, with statistics from the training part.

    `fit` reads only the rows that may be targets of the part it is given, so no validation rows of
    a `split` enter the statistics. Missing values are skipped. A column that is constant (or
    nearly, to the precision of the series) is only centred.

    Columns that look like codes are not scaled unless `names` names them: integers from 0 to 31
    that repeat (0 and 1, classes, hours of the day), and static columns of a panel, which are
    constant in each group and not the same in all (store numbers, areas). The `repr` of the scaler
    and `window_report` show which columns are scaled.

    Args:
        names: columns to scale; the others are not scaled. Default: all that do not look like
            codes.
        by_group: whether each group has its own statistics. Static columns, which would all become
            0, are scaled by the statistics of all groups, if `names` names them. A group without a
            training row cannot be scaled.

    Attributes:
        mean: `(groups, columns)` float64, one row without `by_group`.
        scale: `(groups, columns)` float64 standard deviation, 1 for a constant column.
        columns: names of the scaled columns.
        unscaled: names of the columns that are not scaled.
        constant: names of the scaled columns that are constant (in some group).
        fitted_rows: `(parts, 2)` rows from which the statistics come.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> rows = np.array([[1.0, 0], [2.0, 1], [3.0, 0], [90.0, 1]])
        >>> series = rk.TimeSeries(rows, names=["T", "rain"])
        >>> train, val, _ = rk.split(series, train=0.75, val=0.25)
        >>> scaler = rk.Scaler(names=["T"]).fit(train)
        >>> scaler
        Scaler(scaled: T; as they are: rain)
        >>> float(scaler.mean[0, 0])
        2.0
        >>> scaler.inverse_transform(scaler.transform(series).values, ["T", "rain"]).round(3)[3]
        array([90.,  1.])
    """

    def __init__(self, *, names: Sequence[str] | None = None, by_group: bool = False) -> None:
        self.names = None if names is None else (names,) if isinstance(names, str) else tuple(names)
        self.by_group = by_group
        self.columns: tuple[str, ...] = ()
        self.unscaled: tuple[str, ...] = ()
        self.groups: tuple[Any, ...] = (None,)
        self.mean = self.scale = np.empty((0, 0))
        self.constant: tuple[str, ...] = ()
        self.fitted_rows = np.empty((0, 2), dtype=np.int64)
        self._whole: tuple[str, ...] = ()  # scaled unasked, though all their numbers are whole

    def fit(self, series: Any) -> "Scaler":
        """Compute the statistics from the rows of a series that may be targets, in one pass.

        Args:
            series: the training part, as `split` returns it.

        Returns:
            The scaler itself.

        Raises:
            ValueError: no training row has a value in some column (of some group), or a number is
                so large that its square is infinite.
        """
        series = as_series(series)
        columns = series.columns(self.names)
        groups = _Moments(len(series.groups), len(columns))
        for at, offsets, block in _training_chunks(series, columns):
            groups.add(at, offsets, block)
        everything = groups.pooled()
        varies = everything.low[0] < everything.high[0]
        static = varies & (groups.low >= groups.high).all(axis=0) & (groups.count > 1).any(axis=0)
        kept = np.ones(len(columns), dtype=bool)
        if self.names is None:
            # Codes come up again: of as many numbers as there are rows, none needs to.
            low, high = everything.low[0], everything.high[0]
            codes = groups.whole & (low >= 0) & (low <= high) & (high <= LARGEST_CODE)
            codes &= everything.count[0] > high - low + 1
            kept = ~(codes | static)
        found = groups if self.by_group else everything
        names = np.array(series.names, dtype=object)[columns]
        labels = series.groups if self.by_group else (None,)
        found.check(names, labels, kept & ~static if self.by_group else kept)
        mean, deviation = found.mean, np.sqrt(found.squares / np.maximum(found.count, 1))
        # A spread below the second is the rounding of the values themselves; that of a constant is
        # the rounding of its mean, which grows with the rows.
        peak = np.maximum(np.abs(found.low), np.abs(found.high))
        eps = np.finfo(np.result_type(series.values.dtype, np.float16)).eps
        flat = (found.low >= found.high) | (deviation <= peak * eps)
        scale = np.where(flat, 1.0, deviation)
        if self.by_group and static.any():
            pooled = np.sqrt(everything.squares / everything.count)[:, static]
            mean[:, static], scale[:, static], flat[:, static] = (
                everything.mean[:, static],
                pooled,
                False,
            )
        seen = found.count.any(axis=1, keepdims=True)
        self.columns = tuple(names[kept].tolist())
        self.unscaled = tuple(name for name in series.names if name not in self.columns)
        self.groups = labels
        self.mean = np.where(seen, mean, np.nan)[:, kept]
        self.scale = np.where(seen, scale, 1.0)[:, kept]
        self.constant = tuple(names[kept & (flat & seen).any(axis=0)].tolist())
        self._whole = () if self.names is not None else tuple(names[kept & groups.whole].tolist())
        self.fitted_rows = series.target_rows
        return self

    def transform(self, series: Any) -> TimeSeries:
        """The series with its columns scaled, as a float32 copy.

        To scale without a copy, pass the scaler to `window_dataset` instead.

        Raises:
            ValueError: the scaler is not fitted, a column is missing, a group was not fitted, or
                float32 cannot hold a column that is not scaled.
        """
        series = as_series(series)
        scaled = np.empty(series.values.shape, dtype=np.float32)
        mean, scale = self.affine(series)
        store = Storage(scaled.dtype, series.names)
        for chunk in row_chunks(series.values):
            centre, spread = (series.of_rows(table, chunk) for table in (mean, scale))
            scaled[chunk] = store((series.values[chunk] - centre) / spread)
        store.finish()
        return series.with_values(scaled, in_order=True)

    def fit_transform(self, series: Any) -> TimeSeries:
        """Fit to a series, the training part, and return it with its columns scaled.

        Raises:
            ValueError: as `fit` and `transform`.
        """
        return self.fit(series).transform(series)

    def affine(self, series: TimeSeries) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale for each group and column of a series; 0 and 1 for columns not scaled.

        Returns:
            Two arrays `(groups, columns)` float64, of one row without `by_group`.
        """
        self._check_fitted()
        columns = series.columns(self.columns, what="Scaler names")
        mean, scale = np.zeros((1, len(series.names))), np.ones((1, len(series.names)))
        at = np.zeros(1, dtype=np.int64)
        if self.by_group:
            at = self._group_positions(series.groups)
            mean, scale = mean.repeat(len(at), axis=0), scale.repeat(len(at), axis=0)
        mean[:, columns] = self.mean[at]
        scale[:, columns] = self.scale[at]
        return mean, scale

    def check_targets(self, names: Sequence[str]) -> None:
        """Refuse targets that may be labels and were scaled without being named.

        Raises:
            ValueError: a column of integers beyond codes.
        """
        doubtful = [name for name in names if name in self._whole]
        if doubtful:
            shown = ", ".join(map(repr, doubtful))
            raise ValueError(
                f"targets= names {shown}, of whole numbers: are they labels, which stay as they "
                "are, or counts to be scaled? Say it with Scaler(names=...), which scales the "
                "columns it names and no others."
            )

    def inverse_transform(
        self, values: Any, names: str | Sequence[str], *, groups: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Values back in real units.

        Args:
            values: scaled values or predictions. With several names the last axis is that of the
                columns; with one name any shape, such as `(batch,)` or `(batch, horizon)`.
            names: the columns of the values; columns that are not scaled stay unchanged.
            groups: with `by_group`, the label of the group of each sample, as `return_index`
                gives it.

        Returns:
            An array of the same shape, floating.

        Raises:
            ValueError: the last axis does not fit the names, an unknown name, or groups are needed
                and not given.
        """
        self._check_fitted()
        values = np.asarray(values)
        names = [names] if isinstance(names, str) else list(names)
        mean, scale = self._of_columns(names)
        if len(names) > 1 and (values.ndim == 0 or values.shape[-1] != len(names)):
            raise ValueError(
                f"values= must have a last axis of {len(names)} for names={names}, "
                f"received shape {values.shape}."
            )
        if not self.by_group or not set(names) & set(self.columns):
            return (values * scale[0] + mean[0]).reshape(values.shape)
        least = 1 + (len(names) > 1)
        if groups is None or values.ndim < least or len(groups) != len(values):
            raise ValueError(
                "groups= must hold the group of each entry of the first axis "
                f"of values, since the scaler was fitted by group; values have shape "
                f"{values.shape}, names {names}."
            )
        at = self._group_positions(groups)
        shape = (len(values),) + (1,) * (values.ndim - 2) + ((-1,) if values.ndim > 1 else ())
        return values * scale[at].reshape(shape) + mean[at].reshape(shape)

    def as_layer(self, names: str | Sequence[str], *, invert: bool = False) -> Any:
        """The scaling as a `keras.layers.Normalization` layer, to put into a model.

        The model then takes and returns real units, and needs no scaler. The layer computes in
        the precision of the model, by default float32.

        Args:
            names: the columns on the last axis of the input, in order; columns that are not scaled
                stay unchanged.
            invert: from scaled values to real units instead.

        Raises:
            ValueError: a scaler with `by_group`, since a layer does not know the group; a column
                that varies by less than `keras.config.epsilon()`, which the layer would divide by.
        """
        import keras

        self._check_fitted()
        if self.by_group:
            raise ValueError(
                "a scaler with by_group=True cannot be a layer: its input has no group."
            )
        names = [names] if isinstance(names, str) else list(names)
        mean, scale = self._of_columns(names)
        small = [
            name for name, s in zip(names, scale[0], strict=True) if s < keras.config.epsilon()
        ]
        if small:
            raise ValueError(
                f"{', '.join(map(repr, small))}: the standard deviation is below "
                f"{keras.config.epsilon()}, the least that the layer divides by. Give the column "
                "in a smaller unit."
            )
        layer = keras.layers.Normalization(
            axis=-1, mean=mean[0], variance=scale[0] ** 2, invert=invert
        )
        # Built inside a training step, it would keep tensors of that step.
        layer.build((None, len(names)))
        return layer

    def save(self, path: str | PathLike[str]) -> None:
        """Write the scaler as JSON with a checksum; never an incomplete file."""
        self._check_fitted()
        content = {
            "names": None if self.names is None else list(self.names),
            "by_group": self.by_group,
            "columns": list(self.columns),
            "unscaled": list(self.unscaled),
            "whole": list(self._whole),
            "groups": list(self.groups),
            "mean": [None if np.isnan(row).any() else row.tolist() for row in self.mean],
            "scale": self.scale.tolist(),
            "constant": list(self.constant),
            "fitted_rows": self.fitted_rows.tolist(),
        }
        with atomic_write(Path(path), "w") as file:
            json.dump({**content, "sha256": _checksum(content)}, file, indent=1)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Scaler":
        """Read a scaler that `save` wrote.

        Raises:
            ValueError: the file holds no scaler, or was changed.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("sha256") != _checksum(content):
                raise ValueError("its checksum does not fit")
            scaler = cls(names=content["names"], by_group=content["by_group"])
            scaler.columns = tuple(content["columns"])
            scaler.unscaled = tuple(content["unscaled"])
            scaler._whole = tuple(content["whole"])
            scaler.groups = tuple(content["groups"])
            shape = (len(scaler.groups), len(scaler.columns))
            lost = [np.nan] * shape[1]
            mean = [lost if row is None else row for row in content["mean"]]
            scaler.mean = np.array(mean, dtype=np.float64).reshape(len(mean), -1)
            scaler.scale = np.array(content["scale"], dtype=np.float64).reshape(len(mean), -1)
            scaler.constant = tuple(content["constant"])
            scaler.fitted_rows = np.array(content["fitted_rows"], dtype=np.int64).reshape(-1, 2)
            if not shape == scaler.mean.shape == scaler.scale.shape:
                raise ValueError(f"mean and scale must have shape {shape}")
            rows = [*content["scale"], *(row for row in content["mean"] if row is not None)]
            if not all(type(x) in (int, float) for row in rows for x in row):
                raise ValueError("a mean or a scale is no number")
            known = scaler.mean[[row is not None for row in content["mean"]]]
            if not np.isfinite(known).all() or not np.isfinite(scaler.scale).all():
                raise ValueError("a mean or a scale is not finite")
            if (scaler.scale <= 0).any():
                raise ValueError("a scale is not positive")
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            raise ValueError(f"{path} holds no scaler that Scaler.save wrote: {error}.") from error
        return scaler

    def __repr__(self) -> str:
        if not len(self.mean):
            return "Scaler(not fitted)"
        told = [f"scaled: {', '.join(self.columns) or 'no column'}"]
        if self.unscaled:
            told.append(f"as they are: {', '.join(self.unscaled)}")
        if self.constant:
            told.append(f"constant: {', '.join(self.constant)}")
        if self.by_group:
            told.append(f"{len(self.groups):,} groups")
        return f"Scaler({'; '.join(told)})"

    def _of_columns(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale of columns, `(groups, names)`; 0 and 1 for columns not scaled."""
        unknown = [name for name in names if name not in (*self.columns, *self.unscaled)]
        if unknown:
            raise ValueError(
                f"names= holds {unknown}; the scaler was fitted on a series with "
                f"{[*self.columns, *self.unscaled]}."
            )
        mean = np.zeros((len(self.groups), len(names)))
        scale = np.ones_like(mean)
        for position, name in enumerate(names):
            if name in self.columns:
                mean[:, position] = self.mean[:, self.columns.index(name)]
                scale[:, position] = self.scale[:, self.columns.index(name)]
        return mean, scale

    def _check_fitted(self) -> None:
        if not len(self.mean):
            raise ValueError("the scaler is not fitted: call fit with the training part first.")

    def _group_positions(self, groups: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Row of the statistics, for each label."""
        if groups is self.groups:
            at = np.arange(len(self.groups))
        else:
            known, wanted = np.array(self.groups), np.asarray(groups)
            if wanted.dtype.kind in "SO":  # a tensor of text gives bytes
                texts = [x.decode() if isinstance(x, bytes) else x for x in wanted.tolist()]
                wanted = np.array(texts)
            kinds = ["text" if of.dtype.kind in "US" else "numbers" for of in (wanted, known)]
            if kinds[0] != kinds[1] and len(wanted):
                raise ValueError(
                    f"the labels of the groups are {kinds[0]} ({wanted.tolist()[0]!r}), and those "
                    f"that the scaler was fitted to are {kinds[1]} ({self.groups[0]!r}): convert "
                    "one of them, so that both series have labels of one type."
                )
            order = np.argsort(known)
            at = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)]
            at[known[at] != wanted] = -1
        unfitted = (at < 0) | np.isnan(self.mean[at]).any(axis=1)
        if unfitted.any():
            lost = np.asarray(groups)[unfitted].tolist()
            number = len(set(lost))
            raise ValueError(
                f"group {lost[0]!r} had no training row, so its scale is unknown "
                f"({number} such). Use by_group=False, or leave the group out."
            )
        return at


class _Moments:
    """Count, mean, sum of squares about it, and range of each column, in each of some groups."""

    def __init__(self, groups: int, columns: int) -> None:
        self.count, self.mean, self.squares = np.zeros((3, groups, columns))
        self.low, self.high = np.full_like(self.mean, np.inf), np.full_like(self.mean, -np.inf)
        self.whole = np.ones(columns, dtype=bool)

    def add(self, at: np.ndarray, offsets: np.ndarray, block: np.ndarray) -> None:
        """Add rows.

        Args:
            at: groups of these rows, each once.
            offsets: first row of each in the block.
            block: `(rows, columns)` float64.
        """
        sizes = np.diff(offsets, append=len(block))[:, np.newaxis]
        present = np.isfinite(block)
        entire = bool(present.all())

        def total(values: np.ndarray) -> np.ndarray:
            return np.add.reduceat(values, offsets, axis=0, dtype=np.float64)

        with np.errstate(over="ignore", invalid="ignore"):
            filled = block if entire else np.where(present, block, 0.0)
            number = sizes.astype(np.float64) if entire else total(present)
            centre = total(filled) / np.maximum(number, 1)
            spread = filled - np.repeat(centre, sizes[:, 0], axis=0)
            if not entire:
                spread[~present] = 0.0
            # The rounding of the mean, which the sum of squares would keep.
            rest = total(spread) / np.maximum(number, 1)
            squares = np.maximum(total(spread * spread) - number * rest**2, 0.0)
            # Chan, Golub and LeVeque (1979): moments of two sets joined without cancellation.
            delta = centre + rest - self.mean[at]
            share = number / np.maximum(self.count[at] + number, 1)
            self.squares[at] += squares + delta**2 * self.count[at] * share
            self.mean[at] += delta * share
            self.count[at] += number
        low, high = (
            (block, block)
            if entire
            else (np.where(present, block, np.inf), np.where(present, block, -np.inf))
        )
        self.low[at] = np.minimum(self.low[at], np.minimum.reduceat(low, offsets, axis=0))
        self.high[at] = np.maximum(self.high[at], np.maximum.reduceat(high, offsets, axis=0))
        if self.whole.any():
            self.whole &= (filled == np.floor(filled)).all(axis=0)

    def pooled(self) -> "_Moments":
        """The moments of all groups together."""
        one = _Moments(1, len(self.whole))
        one.count = self.count.sum(axis=0, keepdims=True)
        with np.errstate(over="ignore", invalid="ignore"):
            share = self.count / np.maximum(one.count, 1)
            one.mean = (share * self.mean).sum(axis=0, keepdims=True)
            apart = self.count * (self.mean - one.mean) ** 2
            one.squares = (self.squares + apart).sum(axis=0, keepdims=True)
        one.low = self.low.min(axis=0, keepdims=True)
        one.high = self.high.max(axis=0, keepdims=True)
        return one

    def check(self, names: np.ndarray, labels: Sequence[Any], kept: np.ndarray) -> None:
        """Refuse columns without a value, or with one too large, in a group that has any."""
        seen = self.count.any(axis=1, keepdims=True)
        seen |= not seen.any()
        for wrong, why, advice in (
            (
                (self.count == 0) & seen,
                "has no value in the training rows",
                "leave it out with names=, or give more training rows",
            ),
            (
                ~np.isfinite(self.squares),
                "holds numbers whose squares are beyond float64 in the training rows",
                "where they stand for missing values, pass TimeSeries(..., na_values=[...])",
            ),
        ):
            found = np.argwhere(wrong & kept)
            if found.size:
                group, column = found[0]
                where = "" if labels == (None,) else f" of group {labels[group]!r}"
                largest = ""
                if self.count[group, column]:
                    low, high = self.low[group, column], self.high[group, column]
                    largest = f" ({low if -low > high else high:g})"
                raise ValueError(f"column {names[column]!r} {why}{where}{largest}: {advice}.")


def _training_chunks(
    series: TimeSeries, columns: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The rows that may be targets, part by part: groups, first row of each, values as float64."""
    whole = np.stack([series.bounds[:-1], series.bounds[1:]], axis=1)
    runs = intersect(series.target_rows, whole)
    group_of = series.group_of(runs[:, 0])
    for chunk in row_chunks(series.values):
        low = np.searchsorted(runs[:, 1], chunk.start, side="right")
        high = np.searchsorted(runs[:, 0], chunk.stop)
        if low == high:
            continue
        starts = np.maximum(runs[low:high, 0], chunk.start) - chunk.start
        lengths = np.minimum(runs[low:high, 1], chunk.stop) - chunk.start - starts
        offsets = np.cumsum(lengths) - lengths
        rows = np.repeat(starts - offsets, lengths) + np.arange(lengths.sum())
        groups = group_of[low:high]
        first = np.append(True, groups[1:] != groups[:-1])
        block = series.values[chunk]
        if len(rows) < len(block):
            block = block[rows]
        yield groups[first], offsets[first], block[:, columns].astype(np.float64)


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
