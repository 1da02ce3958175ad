"""Layouts: how the rows of a series lie in memory, so that a window is fast to read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_rnnkit.data.maps import pack_map, unpack_map
from keras_rnnkit.data.series import TimeSeries, row_chunks

__all__ = ["Layout", "Storage", "lay_out", "map_rows"]

ALIGNMENT = 64


@dataclass(frozen=True)
class Layout:
    """Some columns of a run of rows, and how to find row `t` among them.

    Laid out **phase-major**, row `t` stands at `(t % step) * phase + t // step`: the rows `t`,
    `t + step`, `t + 2 * step`, ... lie side by side, and a window is one slice of memory whatever
    its step. A memory map stays in row order instead, and is scaled and narrowed to its columns
    batch by batch.

    Attributes:
        source: the rows: a map, or a copy that is made when it is first read.
        step: rows from one row to the next one in memory.
        phase: number of positions in each phase; 0 in row order.
        columns: columns to take from each row; None for all.
        mean: `(groups, columns)` to subtract from each row; None for nothing.
        scale: `(groups, columns)` to divide by then.
    """

    source: "np.ndarray | Copy"
    step: int
    phase: int = 0
    columns: np.ndarray | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """The rows, `(positions, columns)`."""
        return self.source.values if isinstance(self.source, Copy) else self.source

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: of rows in a file, its path."""
        source = self.source if isinstance(self.source, Copy) else pack_map(self.source)
        return {**self.__dict__, "source": source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "source": unpack_map(state["source"])})

    def tables(self) -> dict[str, np.ndarray]:
        """The arrays that `read` uses."""
        named = {"values": self.values, "columns": self.columns, "mean": self.mean}
        tables = {name: value for name, value in named.items() if value is not None}
        if self.scale is not None:
            tables["factor"] = 1 / self.scale
        return tables

    def read(
        self,
        start: Any,
        offsets: range | tuple[int, ...],
        group: Any,
        tables: dict[str, Any],
        ops: Any,
        within: tuple[Any, Any] | None = None,
    ) -> Any:
        """The rows at some offsets from each start, `(starts, offsets, columns)` float32.

        Args:
            start: `(starts,)` rows.
            offsets: rows from a start to each row read.
            group: `(starts,)` group of each, whose statistics scale it.
            tables: what `tables` gives, as arrays of the same library as `ops`.
            ops: the operations; see `Order.starts`.
            within: `(starts,)` first row and one past the last that may be read for each; rows
                before and after are read as these.
        """
        first, length = start + offsets[0], len(offsets)
        spacing = offsets.step if isinstance(offsets, range) else 0
        if within is not None:
            low, stop = (bound[:, None] for bound in within)
            rows = ops.minimum(ops.maximum(ops.grid(start, offsets), low), stop - 1)
            values = ops.take(tables["values"], self._position(rows) if self.phase else rows)
        elif spacing and not self.phase:
            values = ops.slices(tables["values"], first, length, spacing)
        elif spacing == self.step or length == 1:
            values = ops.slices(tables["values"], self._position(first), length, 1)
        else:
            rows = ops.grid(start, offsets)
            values = ops.take(tables["values"], self._position(rows) if self.phase else rows)
        if self.columns is not None:
            values = ops.take_columns(values, tables["columns"])
        if self.mean is not None:
            # In the file's own precision, for the subtraction may cancel.
            exact = np.can_cast(self.values.dtype, np.float32)
            values = ops.cast(values, "float32" if exact else "float64")
            mean, factor = (ops.take(tables[name], group)[:, None] for name in ("mean", "factor"))
            values = (values - ops.cast_like(mean, values)) * ops.cast_like(factor, values)
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
    """Columns of the rows `[start, stop)` phase-major, scaled; row `start` becomes row 0.

    Args:
        series: the rows.
        columns: `(columns,)` which of its columns.
        rows: `[start, stop)`.
        step: rows from one row of a window to the next.
        dtype: to store.
        affine: mean and scale as `Scaler.affine` gives them, or None.
    """
    copied = Copy(series, columns, rows, step, dtype, affine)
    return Layout(copied, copied.step, copied.phase)


class Copy:
    """Columns of a run of rows, copied phase-major when they are first read; see `lay_out`."""

    def __init__(
        self,
        series: TimeSeries,
        columns: np.ndarray,
        rows: tuple[int, int],
        step: int,
        dtype: np.dtype,
        affine: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        self.series, self.columns, self.rows = series, columns, rows
        self.dtype, self.affine = dtype, affine
        length = rows[1] - rows[0]
        self.step = min(step, length)
        self.phase = -(-length // self.step)
        self.nbytes = self.step * self.phase * len(columns) * dtype.itemsize

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: what the copy is made from."""
        return {name: value for name, value in self.__dict__.items() if name != "values"}

    @cached_property
    def values(self) -> np.ndarray:
        """The copy, `(positions, columns)`."""
        values = aligned_empty((self.step, self.phase, len(self.columns)), self.dtype)
        # The positions behind the last row are read by no window, but must not hold garbage.
        values[:, self.phase - 1] = 0
        store = Storage(self.dtype, [self.series.names[column] for column in self.columns])
        for first, block in _blocks(self.series, self.columns, self.rows, self.affine):
            _place(values, store(block), first - self.rows[0])
        store.finish()
        return values.reshape(-1, len(self.columns))


def map_rows(
    series: TimeSeries,
    columns: np.ndarray,
    affine: tuple[np.ndarray, np.ndarray] | None,
) -> Layout:
    """All rows in place; columns are chosen and scaled batch by batch."""
    if not np.can_cast(series.values.dtype, np.float32):
        store = Storage(np.dtype(np.float32), [series.names[column] for column in columns])
        for _, block in _blocks(series, columns, (0, len(series)), affine):
            store(block)
        store.finish()
    mean = scale = None
    if affine is not None:
        shape = (len(series.groups), len(columns))
        mean, scale = (np.broadcast_to(of[:, columns], shape) for of in affine)
    narrow = None if _is_whole(columns, series.values) else columns
    return Layout(series.values, 1, 0, narrow, mean, scale)


def _blocks(
    series: TimeSeries,
    columns: np.ndarray,
    rows: tuple[int, int],
    affine: tuple[np.ndarray, np.ndarray] | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Columns of the rows `[start, stop)`, scaled, a few at a time: first row and values."""
    start, stop = rows
    source = series.values[start:stop]
    take: Any = columns
    if (np.diff(columns) == 1).all():  # a view
        take = slice(columns[0], columns[-1] + 1)
    if affine is not None:
        affine = affine[0][:, columns], affine[1][:, columns]
    for chunk in row_chunks(source):
        block = source[chunk][:, take]
        if affine is not None:
            place = slice(start + chunk.start, start + chunk.stop)
            mean, scale = (series.of_rows(of, place) for of in affine)
            block = (block - mean) / scale
        yield start + chunk.start, block


def _is_whole(columns: np.ndarray, values: np.ndarray) -> bool:
    return np.array_equal(columns, np.arange(values.shape[1]))


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array on a 64-byte boundary, which TensorFlow can take without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, dtype=np.uint8)
    offset = -buffer.ctypes.data % ALIGNMENT
    return buffer[offset : offset + size].view(dtype).reshape(shape)


class Storage:
    """Stores columns in a dtype, and refuses what the dtype cannot hold.

    A finite number that would become infinite is refused at once. At the end, columns of integers
    (years, ids) are refused if one of them would change.

    Args:
        dtype: to store.
        names: of the columns.
    """

    def __init__(self, dtype: np.dtype, names: Sequence[str]) -> None:
        self.dtype = dtype
        self.names = names
        self._whole = np.ones(len(names), dtype=bool)
        self._changed: dict[int, tuple[Any, Any]] = {}

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """The block `(rows, columns)` as it is stored."""
        with np.errstate(over="ignore"):
            stored: np.ndarray = block.astype(self.dtype, copy=False)
            entire = np.isfinite(np.sum(stored, dtype=np.float32))
        wrong = None if entire else np.isinf(stored) & np.isfinite(block)
        if wrong is not None and wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"column {self.names[column]!r} holds {block[row, column]:g}, more than "
                f"{self.dtype} can. Pass scaler=, or dtype= with a wider range."
            )
        if not np.can_cast(block.dtype, self.dtype):
            self._look(block, stored)
        return stored

    def _look(self, block: np.ndarray, stored: np.ndarray) -> None:
        for column in np.flatnonzero(self._whole).tolist():
            given = block[:, column]
            present = np.isfinite(given)
            if (present & (given != np.floor(given))).any():
                self._whole[column] = False
            elif column not in self._changed:
                kept = stored[:, column].astype(block.dtype)
                differs = present & (given != kept)
                if differs.any():
                    self._changed[column] = given[differs][0], kept[differs][0]

    def finish(self) -> None:
        """Refuse columns of integers that were changed."""
        for column, (given, kept) in self._changed.items():
            if self._whole[column]:
                wider = "" if self.dtype == np.float32 else ", or dtype='float32'"
                raise ValueError(
                    f"column {self.names[column]!r} holds whole numbers, of which {self.dtype} "
                    f"would make others: {given:.0f} becomes {float(kept):.0f}. Pass scaler= with "
                    f"this column in its names={wider}, or subtract an offset first."
                )


def _place(values: np.ndarray, block: np.ndarray, row: int) -> None:
    """Write a block of rows that begins with `row` into `(step, phase, columns)`."""
    step = len(values)
    if step == 1:
        values[0, row : row + len(block)] = block
        return
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
