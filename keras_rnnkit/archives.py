"""What packed files raise when they cannot be read, told with the file's name."""

import gzip
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it raises no such error either
    LZMAError = zlib.error  # type: ignore[assignment, misc]

__all__ = ["unpacking"]


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
        if type(error) is not OSError or error.errno is not None:
            raise
        raise _broken(name, error) from error  # a damaged bzip2, which has no error of its own


def _broken(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} is no whole archive ({error}). Fetch it again.")
