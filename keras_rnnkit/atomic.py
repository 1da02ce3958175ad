"""atomic_write: a file that is there whole or not at all, whatever else runs or is killed."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be deleted
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_write", "clear_abandoned"]

PREFIX, SUFFIX = ".rnnkit-", ".part"
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
EXCLUSIVE = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINKS | getattr(os, "O_BINARY", 0)


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file to write, which takes the place of `path` when the block ends without an error.

    Until then `path` stays as it was. What is written goes to a new file in the same folder under
    a name that cannot be guessed, is flushed to the disk and then renamed, so that processes and
    threads that write or read the same path at once each see one whole file. A link at `path` is
    replaced, not followed. The call begins with `clear_abandoned`.

    Args:
        path: the file to make or replace; its folder must exist.
        mode: `"wb"`, or `"w"` for UTF-8 text.

    Yields:
        The open file.

    Raises:
        OSError: the folder does not exist or cannot be written to, or the disk is full.
    """
    path = Path(path)
    clear_abandoned(path)
    descriptor, temporary = _new_file(path.parent)
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:
                # Before the lock goes, which keeps others from taking the file for abandoned.
                temporary.replace(path)
        if fcntl is None:
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if fcntl is not None:
        _flush_folder(path.parent)


def clear_abandoned(path: Path) -> None:
    """Delete what killed processes left behind of `atomic_write` in the folder of `path`.

    A writer holds a lock on its file, which ends with its process: neither a process number that
    was given anew nor one of another machine or container can be mistaken for the owner.
    Files that cannot be locked or deleted stay.
    """
    with os.scandir(Path(path).parent) as entries:
        left = [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX)
        ]
    for temporary in left:
        with suppress(OSError):
            if fcntl is None:
                temporary.unlink()
                continue
            descriptor = os.open(temporary, os.O_RDWR | os.O_NONBLOCK | NO_LINKS)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    temporary.unlink()
            finally:
                os.close(descriptor)


def _new_file(folder: Path) -> tuple[int, Path]:
    """A new file that no other process has open or takes for abandoned."""
    while True:
        temporary = folder / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
        try:
            descriptor = os.open(temporary, EXCLUSIVE, 0o666)
        except FileExistsError:
            continue
        if fcntl is None:
            return descriptor, temporary
        with suppress(OSError):  # a file system without locks: others then leave the file alone
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between the two calls another process may have locked and deleted it.
        if temporary.exists():
            return descriptor, temporary
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system lets a folder be flushed
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
