"""Rows in a memory-mapped file: whether the file is complete, and how they are pickled."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["check_file", "pack_map", "unpack_map"]


class Place(NamedTuple):
    """Where the entries of a mapped array lie.

    Attributes:
        path: of the file.
        dtype: of the entries.
        shape: of the array.
        strides: bytes from one entry to the next along each axis.
        start: first byte in the file that belongs to the array.
        extent: bytes from there to the end of the last.
        origin: bytes from `start` to the entry with index zero.
    """

    path: str
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    extent: int
    origin: int


def check_file(values: np.ndarray) -> None:
    """Refuse a map whose file has become shorter: reading it would kill the process."""
    if not isinstance(values, np.memmap) or values.filename is None:
        return
    root = _root(values)
    needed = root.offset + _reach(root)[1]
    try:
        size = Path(values.filename).stat().st_size
    except FileNotFoundError:
        return  # what is mapped stays, without its name
    if size < needed:
        raise ValueError(
            f"{values.filename} has been cut to {size:,} bytes since it was mapped, "
            f"expected {needed:,}. Write it again, and map it again."
        )


def pack_map(values: np.ndarray) -> Any:
    """What is pickled for an array: its place in a file if it is mapped, else the array.

    A map in copy-on-write mode (`"c"`) is pickled as an array.
    """
    if not isinstance(values, np.memmap) or values.filename is None or values.mode == "c":
        return values
    root = _root(values)
    below, extent = _reach(values)
    low = values.ctypes.data - below
    start = root.offset + low - (root.ctypes.data - _reach(root)[0])
    path = str(values.filename)
    return Place(path, values.dtype, values.shape, values.strides, start, extent, below)


def unpack_map(packed: Any) -> Any:
    """The array that `pack_map` was given, mapped again for reading.

    Raises:
        ValueError: the file is shorter than it was.
        FileNotFoundError: it is not there.
    """
    if not isinstance(packed, Place):
        return packed
    size, needed = Path(packed.path).stat().st_size, packed.start + packed.extent
    if size < needed:
        raise ValueError(
            f"{packed.path} holds {size:,} bytes, expected {needed:,}: it has been cut since the "
            "series was pickled."
        )
    entire = np.memmap(packed.path, np.uint8, "r", packed.start, (packed.extent,))
    first = entire[packed.origin : packed.origin + packed.dtype.itemsize].view(packed.dtype)
    return np.lib.stride_tricks.as_strided(
        first, packed.shape, packed.strides, subok=True, writeable=False
    )


def _root(values: np.memmap) -> np.memmap:
    while isinstance(values.base, np.memmap):
        values = values.base
    return values


def _reach(values: np.ndarray) -> tuple[int, int]:
    """Bytes from the lowest entry to that of index zero, and to the end of the highest."""
    steps = [
        stride * (length - 1) for stride, length in zip(values.strides, values.shape, strict=True)
    ]
    below = -sum(step for step in steps if step < 0)
    return below, below + sum(step for step in steps if step > 0) + values.itemsize
