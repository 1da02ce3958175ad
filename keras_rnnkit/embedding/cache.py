"""The result of reading a vector file, cached beside it."""

import hashlib
import json
import os
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_rnnkit.atomic import atomic_write, clear_abandoned

_FORMAT = 2
_LONGEST_HEAD = 1 << 16
_TOLD = {"rows": int, "duplicates": int, "bad_rows": int, "bad_examples": list, "header": str}


@dataclass(frozen=True, eq=False)
class Found:
    """The result of reading a file for a vocabulary.

    Args:
        matrix: float32 `(rows, dim)`, zero where nothing was found.
        ranks: uint8 `(rows,)`: 0 exact, then the fallbacks; 255 where nothing was found.
        unknown: float32 `(dim,)`, the vector of `<unk>` in the file; not finite if it has none.
        told: Counts and examples for the coverage, and faults of the header.
    """

    matrix: np.ndarray
    ranks: np.ndarray
    unknown: np.ndarray
    told: dict[str, Any]

    def buffers(self) -> Iterator[memoryview]:
        """The bytes of the arrays, in the order of the cache."""
        for array in (self.ranks, self.unknown, self.matrix):
            yield np.ascontiguousarray(array).data


class Cache:
    """One cached result, of a file as it was when it was opened.

    Args:
        file: The vector file.
        raw: The same, open: the result is cached under its size and times, even if another file
            takes its place meanwhile.
        directory: Where to keep the cache; None means beside the file.
        rows: Rows of the result.
        key: Everything else that decides the result; JSON.
    """

    def __init__(
        self, file: Path, raw: BinaryIO, directory: Path | None, rows: int, key: Any
    ) -> None:
        self._raw = raw
        self._rows = rows
        self._status = _settled(raw)
        names = [_FORMAT, str(file.resolve()), *self._status, key]
        self._key = hashlib.sha256(json.dumps(names, default=int).encode()).hexdigest()
        self.path = (directory or file.parent) / f"{file.name}.{self._key[:16]}.cache"

    def read(self) -> Found | None:
        """The cached result, or None if there is none or it is damaged."""
        with suppress(OSError):
            clear_abandoned(self.path)
        if not self.path.is_file():
            return None
        try:
            with self.path.open("rb") as stream:
                head = json.loads(stream.readline(_LONGEST_HEAD))
                rows, dim = head["shape"]
                size = os.fstat(stream.fileno()).st_size - stream.tell()
                kinds = {name: type(value) for name, value in head["told"].items()}
                if rows != self._rows or size != rows + 4 * dim * (1 + rows) or kinds != _TOLD:
                    return None
                ranks = np.fromfile(stream, np.uint8, rows)
                unknown = np.fromfile(stream, "<f4", dim)
                matrix = np.fromfile(stream, "<f4", rows * dim).reshape(rows, dim)
            found = Found(matrix, ranks, unknown, head["told"])
            return found if head == self._head(found) else None
        except (
            AttributeError,
            KeyError,
            MemoryError,
            OSError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            return None

    def write(self, found: Found) -> None:
        """Cache a result, completely or not at all; warn if it cannot be written.

        The result of a file that changed while it was read is not cached.
        """
        if _status(self._raw) != self._status:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as stream:
                stream.write(json.dumps(self._head(found)).encode() + b"\n")
                stream.writelines(found.buffers())
        except OSError as error:
            warnings.warn(
                f"`cache` could not be written to {self.path} ({error.strerror}). Pass a directory "
                "that can be written: cache=directory.",
                RuntimeWarning,
                stacklevel=4,
            )

    def _head(self, found: Found) -> dict[str, Any]:
        check = zlib.crc32(json.dumps(found.told).encode())
        for buffer in found.buffers():
            check = zlib.crc32(buffer, check)
        return {
            "key": self._key,
            "shape": list(found.matrix.shape),
            "crc32": check,
            "told": found.told,
        }


def _status(raw: BinaryIO) -> list[int]:
    status = os.fstat(raw.fileno())
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _settled(raw: BinaryIO) -> list[int]:
    """What distinguishes this state of a file from any later one.

    A file system records times in steps, and a second change within one step would not show. So
    wait until the step in which the file was last changed is over.
    """
    *_, modified, changed = _status(raw)
    step = 20_000_000 if changed % 1_000_000_000 else 2_000_000_000  # FAT knows whole seconds
    age = time.time_ns() - max(modified, changed)
    if 0 <= age < step:
        time.sleep((step - age) / 1e9)
    return _status(raw)
