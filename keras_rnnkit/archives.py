"""What packed files raise when they cannot be read, told with the file's name."""

import errno
import gzip
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it raises no such error either
    LZMAError = zlib.error  # type: ignore[assignment, misc]

__all__ = ["open_zip", "unpacking"]

END_OF_DIRECTORY = struct.Struct("<4s4H2LH")
LONGEST_COMMENT = 0xFFFF


@contextmanager
def unpacking(name: str) -> Iterator[None]:
    """Let a block that reads a packed file fail with one kind of error, that says what to do.

    Args:
        name: what the message calls the file.

    Raises:
        ValueError: the archive is damaged, cut short, encrypted, or packed by a method that
            Python's `zipfile` does not know.
    """
    try:
        yield
    except (
        EOFError,
        LZMAError,
        gzip.BadGzipFile,
        struct.error,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _broken(name, error) from error
    except RuntimeError as error:  # a password, and (NotImplementedError) an unknown method
        raise ValueError(
            f"{name} is packed in a way that cannot be read here ({error}). Unpack it by other "
            "means."
        ) from error
    except OSError as error:
        # bzip2 has no error of its own; a damaged zip tells of places that no file has.
        if type(error) is not OSError or error.errno not in (None, errno.EINVAL):
            raise
        raise _broken(name, error) from error


def open_zip(raw: BinaryIO) -> zipfile.ZipFile:
    """A zip archive, where its directory lists as many members as it says that it has.

    `zipfile` takes what it finds, and a length that was damaged hides the members behind it.

    Raises:
        zipfile.BadZipFile: it lists other members, or is none.
    """
    archive = zipfile.ZipFile(raw)
    # Where its end is recorded, `zipfile` has found out; a comment or more may follow.
    raw.seek(max(0, raw.seek(0, os.SEEK_END) - END_OF_DIRECTORY.size - LONGEST_COMMENT))
    end = raw.read()
    counted = END_OF_DIRECTORY.unpack_from(end, end.rfind(b"PK\5\6"))[4]
    listed = len(archive.infolist())
    if counted not in (listed & 0xFFFF, 0xFFFF):  # the latter where there are more than it can say
        raise zipfile.BadZipFile(f"it lists {listed:,} members and counts {counted:,}")
    return archive


def _broken(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} is not a complete archive ({error}). Download it again.")
