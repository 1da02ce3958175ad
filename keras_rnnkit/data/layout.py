"""Layouts: where the rows of a series lie in memory, so that a window is quick to read."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_rnnkit.data.series import TimeSeries, row_chunks

__all__ = ["Layout", "as_stored", "lay_out", "map_rows"]

ALIGNMENT = 64


@dataclass(frozen=True)
class Layout:
    """Some columns of a run of rows, and how to find row `t` among them.

    Laid out **phase-major**, row `t` stands at `(t % step) * phase + t // step`: the rows `t`,
    `t + step`, `t + 2 * step`, ... lie side by side, and a window is one slice of memory whatever
    its step. A memory map stays in row order instead, and is scaled and narrowed to its columns
    batch by batch.

    Attributes:
        values: `(positions, columns)`.
        step: rows from one row to the one beside it.
        phase: positions of each phase; 0 in row order.
        columns: columns to take of each row read; None for all.
        mean: `(groups, columns)` to subtract of each row read; None for nothing.
        scale: `(groups, columns)` to divide by then.
    """

    values: np.ndarray
    step: int
    phase: int = 0
    columns: np.ndarray | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    def tables(self) -> dict[str, np.ndarray]:
        """The arrays that `read` looks things up in."""
        named = {"values": self.values, "columns": self.columns, "mean": self.mean}
        tables = {name: value for name, value in named.items() if value is not None}
        if self.scale is not None:
            tables["factor"] = (1 / self.scale).astype(np.float32)
        return tables

    def read(
        self,
        start: Any,
        offsets: range | tuple[int, ...],
        group: Any,
        tables: dict[str, Any],
        ops: Any,
    ) -> Any:
        """The rows at these offsets from each start, `(starts, offsets, columns)` float32.

        Args:
            start: `(starts,)` rows.
            offsets: rows from a start to each row read.
            group: `(starts,)` group of each, whose statistics scale it.
            tables: what `tables` gives, as arrays of the same library as `ops`.
            ops: the operations; see `Order.starts`.
        """
        first, length = start + offsets[0], len(offsets)
        spacing = offsets.step if isinstance(offsets, range) else 0
        if spacing and not self.phase:
            values = ops.slices(tables["values"], first, length, spacing)
        elif spacing == self.step or length == 1:
            values = ops.slices(tables["values"], self._position(first), length, 1)
        else:
            rows = ops.grid(start, offsets)
            values = ops.take(tables["values"], self._position(rows) if self.phase else rows)
        if self.columns is not None:
            values = ops.take_columns(values, tables["columns"])
        if self.mean is not None:
            if self.values.dtype.itemsize < 4:
                values = ops.cast(values, "float32")
            # In the file's own precision, for the subtraction may cancel.
            values = values - ops.cast_like(ops.take(tables["mean"], group)[:, None], values)
            values = ops.cast(values, "float32") * ops.take(tables["factor"], group)[:, None]
        return ops.cast(values, "float32")

    def _position(self, row: Any) -> Any:
        return (row % self.step) * self.phase + row // self.step


def lay_out(
    series: TimeSeries,
    columns: np.ndarray,
    rows: tuple[int, int],
    step: int,
    dtype: np.dtype,
    affine: tuple[np.ndarray, np.ndarray] | None,
) -> Layout:
    """Copy columns of the rows `[start, stop)` phase-major, scaled; row `start` becomes row 0.

    Args:
        series: the rows.
        columns: `(columns,)` which of its columns.
        rows: `[start, stop)`.
        step: rows from one row of a window to the next.
        dtype: to store.
        affine: mean and scale, `(groups, series columns)` each, or None.
    """
    start, stop = rows
    source = series.values[start:stop]
    whole = _is_whole(columns, source)
    step = min(step, len(source))
    phase = -(-len(source) // step)
    values = aligned_empty((step, phase, len(columns)), dtype)
    # The positions behind the last row are read by no window, but must not hold garbage.
    values[:, phase - 1] = 0
    edges = np.array([0, len(source)])
    if affine is not None:
        edges = np.unique(np.clip(series.bounds - start, 0, len(source)))
    for low, high in itertools.pairwise(edges.tolist()):
        group = int(series.group_of(np.array(start + low)))
        part = source[low:high]
        for chunk in row_chunks(part):
            block = part[chunk] if whole else part[chunk][:, columns]
            if affine is not None:
                mean, scale = (of[group, columns] for of in affine)
                block = (block - mean) / scale
            names = [series.names[column] for column in columns]
            _place(values, as_stored(block, dtype, names), low + chunk.start)
    return Layout(values.reshape(step * phase, len(columns)), step, phase)


def map_rows(
    series: TimeSeries,
    columns: np.ndarray,
    affine: tuple[np.ndarray, np.ndarray] | None,
) -> Layout:
    """All rows where they are, to be narrowed and scaled batch by batch."""
    mean = scale = None
    if affine is not None:
        mean, scale = (of[:, columns] for of in affine)
    narrow = None if _is_whole(columns, series.values) else columns
    return Layout(series.values, 1, 0, narrow, mean, scale)


def _is_whole(columns: np.ndarray, values: np.ndarray) -> bool:
    return np.array_equal(columns, np.arange(values.shape[1]))


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array on a 64-byte boundary, which TensorFlow can take without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, dtype=np.uint8)
    offset = -buffer.ctypes.data % ALIGNMENT
    return buffer[offset : offset + size].view(dtype).reshape(shape)


def as_stored(block: np.ndarray, dtype: np.dtype, names: Sequence[str]) -> np.ndarray:
    """The block as it is stored; a finite number that would become infinite is refused.

    Args:
        block: `(rows, columns)`.
        dtype: to store.
        names: of the columns.
    """
    with np.errstate(over="ignore"):
        stored: np.ndarray = block.astype(dtype, copy=False)
        if np.isfinite(np.sum(stored, dtype=np.float32)):
            return stored
    lost = np.argwhere(np.isinf(stored) & np.isfinite(block))
    if lost.size:
        row, column = lost[0]
        raise ValueError(
            f"column {names[column]!r} holds {block[row, column]:g}, more than "
            f"{dtype} can. Pass scaler=, or dtype= with a wider range."
        )
    return stored


def _place(values: np.ndarray, block: np.ndarray, row: int) -> None:
    """Write a block of rows that begins with `row` into `(step, phase, columns)`."""
    step = len(values)
    head = min(-row % step, len(block))
    for offset in range(head):
        values[(row + offset) % step, (row + offset) // step] = block[offset]
    first = (row + head) // step
    turns = (len(block) - head) // step
    middle = block[head : head + turns * step].reshape(turns, step, block.shape[1])
    values[:, first : first + turns] = middle.transpose(1, 0, 2)
    tail = block[head + turns * step :]
    if len(tail):
        values[: len(tail), first + turns] = tail
