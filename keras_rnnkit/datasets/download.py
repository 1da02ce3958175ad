"""A public file, downloaded once and checked."""

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

from keras_rnnkit.atomic import atomic_write, clear_abandoned
from keras_rnnkit.progress import Progress

__all__ = ["download"]

ATTEMPTS = 3
BLOCK = 1 << 18
SECONDS = 60.0  # without a byte


def download(
    address: str, size: int, sha256: str | None, call: str, *, progress: bool = True
) -> Path:
    """The path of a public file, downloaded if it is not there yet.

    It is stored where Keras stores its own data, in the folder `datasets` of `KERAS_HOME` or of
    `~/.keras`. Until it is complete it has another name, so that no other process reads a part of
    it. A file of another size is downloaded again.

    Args:
        address: its URL.
        size: its bytes.
        sha256: its hash, in hexadecimal; None where only the size is known.
        call: how to pass the path of a copy instead, with `{}` for the name, for the error.
        progress: whether to show a line on stderr if the download takes more than two seconds.

    Raises:
        OSError: the download failed three times, or the file cannot be written.
    """
    name = address.rsplit("/", 1)[1]
    try:
        folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "datasets")
        path = folder / name
        folder.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path)
        if path.is_file() and path.stat().st_size == size:
            return path
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(address, path, size, sha256, progress)
            except (OSError, HTTPException):
                if attempt == ATTEMPTS:
                    raise
            else:
                break
    except (OSError, HTTPException, RuntimeError) as error:  # or there is no home
        raise OSError(
            f"{name} could not be downloaded: {error}. Fetch {address} by other means and pass its "
            f"path, {call.format(name)}."
        ) from error
    return path


def _fetch(address: str, path: Path, size: int, sha256: str | None, progress: bool) -> None:
    digest = hashlib.sha256()
    done = 0
    with (
        urllib.request.urlopen(address, timeout=SECONDS) as response,  # noqa: S310  ours, https
        atomic_write(path) as file,
        Progress(path.name, lambda: min(1.0, done / size), shown=progress) as line,
    ):
        while done <= size and (block := response.read(BLOCK)):
            file.write(block)
            digest.update(block)
            done += len(block)
            line.update()
        if done != size:
            raise OSError(f"expected {size:,} bytes, received {'more' if done > size else done}")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise OSError(f"its hash is {digest.hexdigest()}, expected {sha256}")
