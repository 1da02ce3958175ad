"""A series in one memory-mapped file: its rows, times, groups, and the table they come from."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.atomic import atomic_write
from keras_rnnkit.data.series import Runs, TimeSeries, row_chunks
from keras_rnnkit.data.times import Times
from keras_rnnkit.data.zones import as_zone, zone_name

__all__ = ["Spool", "identity", "kept", "open_store", "write_store"]

MAGIC = b"keras-rnnkit series 1\n"
TAIL = len(MAGIC) + 8


class Spool:
    """Rows that are written to a temporary file without a name.

    Args:
        folder: a folder with enough space.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by __exit__
        self._dtype = np.dtype(np.float64)
        self._shape: tuple[int, ...] = (0,)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, rows: np.ndarray) -> None:
        """Write more rows, of the type of the first."""
        if not len(rows):
            return
        if not self._shape[0]:
            self._dtype, self._shape = rows.dtype, (0, *rows.shape[1:])
        same = rows.astype(self._dtype, copy=False)
        if rows.dtype != self._dtype and not (same == rows).all():
            raise ValueError(
                f"the first rows hold {self._dtype}, and later ones {rows.dtype}, which is finer."
            )
        self._file.write(same.tobytes())
        self._shape = (self._shape[0] + len(rows), *self._shape[1:])

    def all(self) -> np.ndarray:
        """All rows, mapped."""
        if not self._shape[0]:
            return np.empty(0, self._dtype)
        self._file.flush()
        return np.memmap(self._file, self._dtype, "r", 0, self._shape)


def write_store(
    path: Path,
    values: np.ndarray,
    order: np.ndarray | None,
    series_of: Callable[[np.ndarray], TimeSeries],
    told: dict[str, Any],
) -> TimeSeries:
    """Write rows to a file, completely or not at all, and map them.

    The file is a `.npy` file of the rows, followed by the times and the manifest.

    Args:
        path: the file to make or replace.
        values: `(rows, columns)`.
        order: rows to write, in this order; None for all of them.
        series_of: makes the series from the rows that are written, or refuses them.
        told: further entries of the manifest.
    """
    rows = len(values) if order is None else len(order)
    shape = (rows, values.shape[1])
    with atomic_write(path) as file:
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": values.dtype.str, "fortran_order": False, "shape": shape},
        )
        first = file.tell()
        for chunk in row_chunks(np.broadcast_to(values[:1], shape)):
            part = values[chunk] if order is None else values[order[chunk]]
            file.write(part.tobytes())
        file.flush()
        series = series_of(np.memmap(file, values.dtype, "r", first, shape))
        manifest = {
            **told,
            "names": series.names,
            "rows": rows,
            "zone": None if series.zone is None else zone_name(series.zone),
            "freq": _as_json(series.freq),
            "groups": series.groups,
            "bounds": series.bounds.tolist(),
            "reordered": series.reordered,
        }
        file.seek(0, io.SEEK_END)
        if series.time is not None:
            file.write(b"\0" * (-file.tell() % 64))
            manifest["time"] = (file.tell(), series.time.dtype.str)
            for chunk in row_chunks(series.time[:, np.newaxis]):
                file.write(series.time[chunk].tobytes())
        text = json.dumps(manifest).encode()
        file.write(text + len(text).to_bytes(8, "little") + MAGIC)
    return open_store(path)


def _as_json(freq: Any) -> Any:
    if isinstance(freq, np.timedelta64):
        return [int(freq.astype(np.int64)), np.datetime_data(freq.dtype)[0]]
    return freq


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it was not made by `write_store`, or is truncated.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - TAIL))
            tail = file.read()
            length = int.from_bytes(tail[:8], "little")
            if tail[8:] != MAGIC or length > size - TAIL:
                raise ValueError
            file.seek(size - TAIL - length)
            manifest: dict[str, Any] = json.loads(file.read(length))
    except FileNotFoundError:
        raise FileNotFoundError(f"path= names no file: {path}") from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not a complete file that read_csv or read_parquet wrote with store=. Write "
            "it again; or, where numpy.save made it, pass its path to TimeSeries."
        ) from error
    return manifest


def open_store(path: Path) -> TimeSeries:
    """The series of a file that `write_store` made, mapped, not read.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not whole, or the table that it was read from has changed since.
    """
    manifest = read_manifest(path)
    source = manifest["source"]
    if Path(source["path"]).exists() and identity(Path(source["path"])) != source:
        raise ValueError(
            f"{path} was made of {source['path']}, which has changed since: read that again with "
            "store=."
        )
    freq, time, zone = manifest["freq"], None, None
    if isinstance(freq, list):
        freq = np.timedelta64(*freq)
    if manifest["zone"] is not None:
        zone = as_zone(manifest["zone"])
    if "time" in manifest:
        place, dtype = manifest["time"]
        time = Times(np.memmap(path, dtype, "r", place, (manifest["rows"],)), zone)
    group = None
    if manifest["groups"] != [None]:
        group = Runs(
            np.array(manifest["bounds"]), tuple(manifest["groups"]), reordered=manifest["reordered"]
        )
    return TimeSeries(path, names=manifest["names"], time=time, group=group, freq=freq)


def identity(source: Path) -> dict[str, Any]:
    """What distinguishes a file from another one, or from an earlier state of itself."""
    state = source.stat()
    return {
        "path": str(source.resolve()),
        "bytes": state.st_size,
        "changed": state.st_mtime_ns,
    }


def kept(path: Path, told: dict[str, Any]) -> TimeSeries | None:
    """The series of a file if it was made from the same table in the same way, else None."""
    try:
        manifest = read_manifest(path)
        if all(manifest.get(key) == value for key, value in told.items()):
            return open_store(path)
    except (FileNotFoundError, ValueError):
        pass
    return None
