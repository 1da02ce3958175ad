"""A text file, packed or not: its text without a footer, in lines of limited length."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

__all__ = ["Text", "open_text"]

LONGEST_LINE = 1 << 24
PACKED: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zip": "zip"}


@contextmanager
def open_text(
    path: Path, compression: str | None, encoding: str, footer: int
) -> Iterator[tuple["Text", IO[bytes]]]:
    """The text of a file, and the file itself.

    Args:
        path: of the file; a zip archive must hold one file.
        compression: `"gzip"`, `"bz2"`, `"xz"`, `"zip"`, None, or `"infer"` by the name.
        encoding: of the text.
        footer: number of lines to leave out at the end.
    """
    kind = SUFFIXES.get(path.suffix.lower()) if compression == "infer" else compression
    if kind not in (None, "zip", *PACKED):
        raise ValueError(f"compression= must be one of zip, {', '.join(PACKED)}: {kind!r}.")
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        binary: Any = raw
        if kind == "zip":
            archive = stack.enter_context(zipfile.ZipFile(raw))
            # A Mac adds hidden files of its own.
            members = [
                name
                for name in archive.namelist()
                if not (name.endswith("/") or name.startswith("__MACOSX/"))
                and not Path(name).name.startswith(".")
            ]
            if len(members) != 1:
                raise ValueError(
                    f"{path} holds {len(members)} files, expected one: {', '.join(members[:8])}. "
                    "Unpack the one to read."
                )
            binary = stack.enter_context(archive.open(members[0]))
        elif kind is not None:
            binary = stack.enter_context(PACKED[kind](raw))
        text = stack.enter_context(io.TextIOWrapper(binary, encoding=encoding, newline=""))
        yield Text(text, path, footer), raw


class Text(io.TextIOBase):
    """A text without its footer, whose lines are limited: a small archive can hold a huge line."""

    def __init__(self, text: IO[str], path: Path, footer: int) -> None:
        self._text, self._path, self._footer, self._length = text, path, footer, 0
        self._cut = self.lines()

    def lines(self) -> Iterator[str]:
        """The lines, one after the other, with their line ends."""
        held: deque[str] = deque()
        while line := self._text.readline(LONGEST_LINE):
            self._refuse(len(line))
            held.append(line)
            if len(held) > self._footer:
                yield held.popleft()

    def read(self, size: int = -1) -> str:  # type: ignore[override]
        """A part of the text, as requested by pandas."""
        if self._footer:
            return "".join(islice(self._cut, 4096))
        block = self._text.read(size)
        end = max(block.rfind("\n"), block.rfind("\r"))
        self._length = self._length + len(block) if end < 0 else len(block) - end
        self._refuse(self._length)
        return block

    def _refuse(self, length: int) -> None:
        if length >= LONGEST_LINE:
            raise ValueError(
                f"{self._path} has a line longer than {LONGEST_LINE:,} characters; is it a CSV "
                "file?"
            )
