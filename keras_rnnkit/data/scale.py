"""Scaler: zero mean and unit variance, from training rows alone, and back to real units."""

import json
import os
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.data.series import TimeSeries, as_series, row_chunks
from keras_rnnkit.data.spec import intersect

__all__ = ["Scaler"]


class Scaler:
    """Scales each column to zero mean and unit variance; statistics from training rows alone.

    `fit` reads only the rows that may be targets of the part it is given, so a part that comes
    from `split` cannot let validation rows into the statistics. Missing values are passed over. A
    column that is constant (or nearly so, to the precision of the series) is only centred.

    Args:
        names: columns to scale; the others stay as they are. Default: all.
        by_group: statistics of each group apart. A group that has no training row cannot be
            scaled.

    Attributes:
        mean: `(groups, columns)` float64, one row without `by_group`.
        scale: `(groups, columns)` float64 standard deviation, 1 for a constant column.
        columns: names of the scaled columns; empty before `fit`.
        constant: names of the columns that are constant (in some group).
        fitted_rows: `(parts, 2)` rows that the statistics come from.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> series = rk.TimeSeries(np.array([[1.0], [2.0], [3.0], [90.0]]), names=["T"])
        >>> train, val, _ = rk.split(series, train=0.75, val=0.25)
        >>> scaler = rk.Scaler().fit(train)
        >>> float(scaler.mean[0, 0])
        2.0
        >>> scaler.inverse_transform(scaler.transform(series).values, ["T"]).round(3).tolist()
        [[1.0], [2.0], [3.0], [90.0]]
    """

    def __init__(self, *, names: Sequence[str] | None = None, by_group: bool = False) -> None:
        self.names = None if names is None else (names,) if isinstance(names, str) else tuple(names)
        self.by_group = by_group
        self.columns: tuple[str, ...] = ()
        self._passed: tuple[str, ...] = ()  # columns that stay as they are
        self.groups: tuple[Any, ...] = (None,)
        self.mean = self.scale = np.empty((0, 0))
        self.constant: tuple[str, ...] = ()
        self.fitted_rows = np.empty((0, 2), dtype=np.int64)

    def fit(self, series: Any) -> "Scaler":
        """Take the statistics from a series' rows that may be targets, in one pass.

        Args:
            series: the training part, as `split` returns it.

        Returns:
            The scaler itself.

        Raises:
            ValueError: no training row has a value in some column (of some group).
        """
        series = as_series(series)
        columns = series.columns(self.names)
        names = tuple(series.names[column] for column in columns)
        labels = series.groups if self.by_group else (None,)
        count, mean, squares = np.zeros((3, len(labels), len(columns)))
        low, high = np.full_like(mean, np.inf), np.full_like(mean, -np.inf)
        for group, rows in _parts(series, series.target_rows):
            at = group if self.by_group else 0
            for chunk in row_chunks(rows):
                block = rows[chunk][:, columns].astype(np.float64)
                present = np.isfinite(block)
                number = present.sum(axis=0)
                centre = np.where(present, block, 0.0).sum(axis=0) / np.maximum(number, 1)
                spread = np.where(present, block - centre, 0.0)
                # Chan, Golub and LeVeque (1979): moments of two sets joined without cancellation.
                delta = centre - mean[at]
                share = number / np.maximum(count[at] + number, 1)
                squares[at] += (spread**2).sum(axis=0) + delta**2 * count[at] * share
                mean[at] += delta * share
                count[at] += number
                low[at] = np.minimum(low[at], np.where(present, block, np.inf).min(axis=0))
                high[at] = np.maximum(high[at], np.where(present, block, -np.inf).max(axis=0))
        seen: np.ndarray = np.asarray(count.any(axis=1))
        lacking = np.argwhere((count == 0) & (seen | ~seen.any())[:, np.newaxis])
        if lacking.size:
            group, column = lacking[0]
            where = f" of group {labels[group]!r}" if self.by_group else ""
            raise ValueError(
                f"column {names[column]!r} has no value in the training rows{where}: "
                "leave it out with names=, or give more training rows."
            )
        deviation = np.sqrt(squares / np.maximum(count, 1))
        # A spread below the second is the rounding of the values themselves; that of a constant is
        # the rounding of its mean, which grows with the rows.
        peak = np.maximum(np.abs(low), np.abs(high))
        flat = (low >= high) | (deviation <= peak * np.finfo(series.values.dtype).eps)
        self.columns = names
        self._passed = tuple(name for name in series.names if name not in names)
        self.groups = labels
        self.mean = np.where(count > 0, mean, np.nan)
        self.scale = np.where(flat, 1.0, deviation)
        self.constant = tuple(
            name for name, here in zip(names, (flat & (count > 0)).any(axis=0), strict=True) if here
        )
        self.fitted_rows = series.target_rows
        return self

    def transform(self, series: Any) -> TimeSeries:
        """The series with its columns scaled, as a float32 copy.

        To scale without a copy of your own, give the scaler to `window_dataset` instead.

        Raises:
            ValueError: the scaler is not fitted, a column is missing, or a group was not fitted.
        """
        series = as_series(series)
        scaled = np.empty(series.values.shape, dtype=np.float32)
        mean, scale = self.affine(series)
        for group, (start, stop) in enumerate(
            zip(series.bounds[:-1], series.bounds[1:], strict=True)
        ):
            rows = series.values[start:stop]
            for chunk in row_chunks(rows):
                scaled[start:stop][chunk] = (rows[chunk] - mean[group]) / scale[group]
        return series.with_values(scaled)

    def affine(self, series: TimeSeries) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale for each group and column of a series, 0 and 1 where it is not scaled.

        Returns:
            Two arrays `(groups, columns)` float64.
        """
        self._check_fitted()
        columns = series.columns(self.columns, what="Scaler names")
        mean = np.zeros((len(series.groups), len(series.names)))
        scale = np.ones_like(mean)
        at = self._group_positions(series.groups)
        mean[:, columns] = self.mean[at]
        scale[:, columns] = self.scale[at]
        return mean, scale

    def inverse_transform(
        self, values: Any, names: str | Sequence[str], *, groups: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Values back in real units.

        Args:
            values: scaled values or predictions. For several names the last axis holds one of each;
                for one name the shape is free, such as `(batch,)` or `(batch, horizon)`.
            names: the columns that the values belong to; a column that is not scaled stays.
            groups: with `by_group`, the group of each entry of the first axis.

        Returns:
            An array of the same shape, floating.

        Raises:
            ValueError: the last axis does not fit the names, a name that the fitted series does
                not have, or groups are needed and not given.
        """
        self._check_fitted()
        values = np.asarray(values)
        names = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in names if name not in (*self.columns, *self._passed)]
        if unknown:
            raise ValueError(
                f"names= holds {unknown}; the scaler was fitted on a series with "
                f"{[*self.columns, *self._passed]}."
            )
        if len(names) > 1 and (values.ndim == 0 or values.shape[-1] != len(names)):
            raise ValueError(
                f"values= must have a last axis of {len(names)} for names={names}, "
                f"received shape {values.shape}."
            )
        mean = np.zeros((len(self.groups), len(names)))
        scale = np.ones_like(mean)
        for position, name in enumerate(names):
            if name in self.columns:
                mean[:, position] = self.mean[:, self.columns.index(name)]
                scale[:, position] = self.scale[:, self.columns.index(name)]
        if not self.by_group:
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
        """The scaling as a `keras.layers.Normalization`, to ride inside a model.

        The model then takes and gives real units, and needs no scaler beside it. The layer
        computes in the model's precision, float32 as a rule.

        Args:
            names: the columns on the last axis of the layer's input, in their order.
            invert: scale back instead.

        Raises:
            ValueError: a scaler by group, which a layer without the group cannot apply; a column
                that varies by less than `keras.config.epsilon()`, which the layer would divide by.
        """
        import keras

        self._check_fitted()
        if self.by_group:
            raise ValueError(
                "a scaler with by_group=True cannot be a layer: its input has no group."
            )
        names = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in names if name not in self.columns]
        if unknown:
            raise ValueError(f"names= holds {unknown}; the scaler knows {list(self.columns)}.")
        at = [self.columns.index(name) for name in names]
        small = [
            name
            for name, i in zip(names, at, strict=True)
            if self.scale[0, i] < keras.config.epsilon()
        ]
        if small:
            raise ValueError(
                f"{', '.join(map(repr, small))}: the standard deviation is below "
                f"{keras.config.epsilon()}, the least that the layer divides by. Give the column "
                "in a smaller unit."
            )
        layer = keras.layers.Normalization(
            axis=-1, mean=self.mean[0, at], variance=self.scale[0, at] ** 2, invert=invert
        )
        # Built inside a training step, it would keep tensors of that step.
        layer.build((None, len(names)))
        return layer

    def save(self, path: str | PathLike[str]) -> None:
        """Write the scaler as JSON, whole or not at all."""
        self._check_fitted()
        path = Path(path)
        content = {
            "names": None if self.names is None else list(self.names),
            "by_group": self.by_group,
            "columns": list(self.columns),
            "passed": list(self._passed),
            "groups": list(self.groups),
            "mean": [[None if np.isnan(x) else x for x in row] for row in self.mean.tolist()],
            "scale": self.scale.tolist(),
            "constant": list(self.constant),
            "fitted_rows": self.fitted_rows.tolist(),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Scaler":
        """Read a scaler that `save` wrote.

        Raises:
            ValueError: the file is not one.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            scaler = cls(names=content["names"], by_group=content["by_group"])
            scaler.columns = tuple(content["columns"])
            scaler._passed = tuple(content["passed"])
            scaler.groups = tuple(content["groups"])
            scaler.mean = np.array(content["mean"], dtype=np.float64)
            scaler.scale = np.array(content["scale"], dtype=np.float64)
            scaler.constant = tuple(content["constant"])
            scaler.fitted_rows = np.array(content["fitted_rows"], dtype=np.int64).reshape(-1, 2)
            shape = (len(scaler.groups), len(scaler.columns))
            if not shape == scaler.mean.shape == scaler.scale.shape:
                raise ValueError(f"mean and scale must have shape {shape}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no scaler that Scaler.save wrote: {error}.") from error
        return scaler

    def __repr__(self) -> str:
        if not self.columns:
            return "Scaler(not fitted)"
        groups = f", {len(self.groups)} groups" * self.by_group
        flat = f", constant: {', '.join(self.constant)}" if self.constant else ""
        return f"Scaler({len(self.columns)} columns{groups}{flat})"

    def _check_fitted(self) -> None:
        if not self.columns:
            raise ValueError("the scaler is not fitted: call fit with the training part first.")

    def _group_positions(self, groups: Sequence[Any]) -> np.ndarray:
        if not self.by_group:
            return np.zeros(len(groups), dtype=np.int64)
        position = {label: index for index, label in enumerate(self.groups)}
        unfitted = [
            label
            for label in dict.fromkeys(groups)
            if label not in position or np.isnan(self.mean[position[label]]).any()
        ]
        if unfitted:
            raise ValueError(
                f"group {unfitted[0]!r} had no training row, so its scale is unknown "
                f"({len(unfitted)} such). Use by_group=False, or leave the group out."
            )
        return np.array([position[label] for label in groups], dtype=np.int64)


def _parts(series: TimeSeries, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The values of each run of rows, cut at the groups, with the position of their group."""
    whole = np.stack([series.bounds[:-1], series.bounds[1:]], axis=1)
    for start, stop in intersect(rows, whole):
        yield int(series.group_of(start)), series.values[start:stop]
