"""What was found in a vector file, kept beside it for the next time."""

import hashlib
import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Found:
    """The outcome of reading a file for a vocabulary.

    Args:
        matrix: float32 `(rows, dim)`, zero where nothing was found.
        ranks: uint8 `(rows,)`: 0 exact, then the fallbacks; 255 where nothing was found.
        unknown: float32 `(dim,)`, the file's own `<unk>`; not finite where it has none.
        told: Counts and examples for the coverage.
    """

    matrix: np.ndarray
    ranks: np.ndarray
    unknown: np.ndarray
    told: dict[str, Any]

    def buffers(self) -> Iterator[memoryview]:
        """The bytes of the arrays, in the order in which they are kept."""
        for array in (self.ranks, self.unknown, self.matrix):
            yield np.ascontiguousarray(array).data


class Cache:
    """One cached outcome.

    Args:
        file: The vector file.
        directory: Where to keep it; None means beside the file.
        key: Whatever else decides the outcome; JSON.
    """

    def __init__(self, file: Path, directory: Path | None, key: Any) -> None:
        stat = file.stat()
        names = [_FORMAT, str(file.resolve()), stat.st_size, stat.st_mtime_ns, key]
        self._key = hashlib.sha256(json.dumps(names, default=int).encode()).hexdigest()
        self.path = (directory or file.parent) / f"{file.name}.{self._key[:16]}.cache"

    def read(self) -> Found | None:
        """The cached outcome, or None where there is none or it is damaged."""
        try:
            with self.path.open("rb") as stream:
                head = json.loads(stream.readline())
                rows, dim = head["shape"]
                ranks = np.fromfile(stream, np.uint8, rows)
                unknown = np.fromfile(stream, "<f4", dim)
                matrix = np.fromfile(stream, "<f4", rows * dim).reshape(rows, dim)
                found = Found(matrix, ranks, unknown, head["told"])
                whole = not stream.read(1)
            return found if whole and head == self._head(found) else None
        except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError):
            return None

    def write(self, found: Found) -> None:
        """Keep an outcome, whole or not at all; a place that refuses it gets a warning."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".part")
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(json.dumps(self._head(found)).encode() + b"\n")
                    stream.writelines(found.buffers())
                Path(temporary).replace(self.path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
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
