"""The formats that word vectors come in, each read as a stream of (word, vector)."""

import codecs
import gzip
import io
import itertools
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from keras_rnnkit.embedding.decimals import parse_rows
from keras_rnnkit.embedding.vocabulary import read_words

_BLOCK = 1 << 17  # of twice that size, malloc maps fresh pages for every one
_SMALL_BLOCK = 1 << 16  # below it each row is counted: the sum over a block may hide two faults
_LONGEST_LINE = 1 << 24
_BATCH_VALUES = 1 << 15
_SPACE = ord(" ")
_HEAD_LINES = 10
_EXAMPLES = 5
_BAD_SHARE = 0.01

Row = tuple[bytes, np.ndarray]


class Faults:
    """Counts the rows read and those that are damaged.

    Args:
        name: What is being read.
        strict: Whether the first damaged row raises.
    """

    def __init__(self, name: str, *, strict: bool) -> None:
        self.name = name
        self.strict = strict
        self.rows = 0
        self.bad = 0
        self.examples: list[str] = []

    def add(self, where: str, expected: str, found: str, rows: int = 1) -> None:
        """Note `rows` damaged rows.

        Raises:
            ValueError: In strict mode.
        """
        message = f"{where}: expected {expected}, found {found}"
        if self.strict:
            raise ValueError(
                f"`file` {self.name}, {message}. Mend the row, or pass strict=False to leave out "
                "rows like it."
            )
        self.bad += rows
        if len(self.examples) < _EXAMPLES:
            self.examples.append(message)

    def check(self) -> None:
        """Raise where more than one row in a hundred was damaged."""
        if self.bad > _BAD_SHARE * self.rows:
            raise ValueError(
                f"`file` {self.name}: {self.bad:,} of {self.rows:,} rows are bad, more than "
                f"{_BAD_SHARE:.0%}; is it whole, and in a known format? First of them:\n  "
                + "\n  ".join(self.examples)
            )


class VectorFile(Protocol):
    """Word vectors, not yet read."""

    dim: int

    def rows(
        self, wanted: Collection[bytes], faults: Faults, tick: Callable[[], None]
    ) -> Iterator[Row]:
        """Yield the sound rows of the wanted words, in the file's order, repeats included.

        `tick` is called now and then, for a progress line.
        """
        ...  # pragma: no cover

    def share(self) -> float:
        """Share of the file read so far."""
        ...  # pragma: no cover


def name_of(file: Any) -> str:
    """What messages call the file."""
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    return f"{type(file).__name__} in memory"


@contextmanager
def open_vectors(file: Any, *, dim: int | None = None, words: Any = None) -> Iterator[VectorFile]:
    """Find out what `file` is, and open it.

    Args:
        file: A path (GloVe, word2vec or fastText text, word2vec binary, any of them in .gz or
            .zip; .npy), a mapping word -> vector, gensim `KeyedVectors`, or a matrix.
        dim: Numbers in a vector; None takes what the file has.
        words: The word of each row, for a matrix or .npy.

    Raises:
        OSError: The file cannot be read.
        TypeError: `file` is none of these.
        ValueError: It is empty, damaged, ambiguous, in no known format, or of another dimension.
    """
    if dim is not None and (not isinstance(dim, int | np.integer) or dim < 1):
        raise ValueError(f"`dim` must be a positive whole number or None. Received: {dim!r}.")
    name = name_of(file)
    with ExitStack() as stack:
        source: VectorFile
        if isinstance(file, str | os.PathLike):
            path = Path(file)
            _check_path(path, name)
            raw = stack.enter_context(path.open("rb"))
            with _damage_told(name):
                source = _open_path(raw, path, name, dim, words, stack)
        elif hasattr(file, "key_to_index") and hasattr(file, "vectors"):
            table = np.asarray(file.vectors)
            source = _Table(name, file.key_to_index, lambda word: table[file.key_to_index[word]])
        elif isinstance(file, Mapping):
            source = _Table(name, file, file.__getitem__)
        elif isinstance(file, np.ndarray):
            source = _Matrix(name, file, words)
        else:
            raise TypeError(
                "`file` must be a path, a mapping word -> vector, gensim KeyedVectors, or a "
                f"matrix with `words`. Received: {type(file).__name__} {file!r:.80}."
            )
        if dim is not None and source.dim != dim:
            raise ValueError(
                f"`file` {name} holds vectors of {source.dim} numbers; `dim` says {dim}. Pass "
                f"dim={source.dim}, or the file of {dim} dimensions."
            )
        with _damage_told(name):
            yield source


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise ValueError(
            f"`file` {name} is damaged or cut short ({error}). Fetch it again."
        ) from error


def _check_path(path: Path, name: str) -> None:
    if path.is_dir():
        raise IsADirectoryError(
            f"`file` {name} is a directory. Give a file in it: "
            f"{', '.join(sorted(entry.name for entry in path.iterdir())[:10]) or 'it is empty'}."
        )
    if not path.exists():
        raise FileNotFoundError(
            f"`file` {name} does not exist. Give another path: load_vectors(path, ...), "
            "GloVeEmbedding(path, ...), or GloVeEmbedding.from_config({**config, 'file': path}). "
            "A saved model needs no file: keras.saving.load_model(...), or file=None with `dim` "
            "before load_weights(...)."
        )


def _open_path(
    raw: BinaryIO, path: Path, name: str, dim: int | None, words: Any, stack: ExitStack
) -> VectorFile:
    size = path.stat().st_size
    magic = raw.read(6)
    raw.seek(0)
    if magic == b"\x93NUMPY":
        return _Matrix(name, np.load(path, mmap_mode="r", allow_pickle=False), words)
    if magic[:4] == b"\xba\x16\x4f\x2f":
        raise ValueError(
            f"`file` {name} is a fastText model, not its vectors. Give the .vec file beside it."
        )
    begin = 0
    stream: BinaryIO = raw
    if magic[:2] == b"\x1f\x8b":
        stream = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw)))
    elif magic[:4] == b"PK\x03\x04":
        archive = stack.enter_context(zipfile.ZipFile(raw))
        member = _member(archive, name, dim)
        begin, size = member.header_offset, member.compress_size
        stream = io.BufferedReader(stack.enter_context(archive.open(member)), _BLOCK)  # type: ignore[type-var]
    return _open_stream(stream, name, dim, lambda: min(1.0, (raw.tell() - begin) / max(size, 1)))


def _member(archive: zipfile.ZipFile, name: str, dim: int | None) -> zipfile.ZipInfo:
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    fitting = members
    if len(members) > 1 and dim is not None:
        size = re.compile(rf"(?<!\d){dim}d?(?![\da-z])", re.IGNORECASE)
        fitting = [member for member in members if size.search(Path(member.filename).name)]
    if len(fitting) != 1:
        listed = ", ".join(member.filename for member in members) or "none"
        raise ValueError(
            f"`file` {name} is an archive with {len(fitting)} members "
            f"{'to choose from' if dim is None else f'for dim={dim}'}. Pass the `dim` that picks "
            f"one, or unpack it. Members: {listed}."
        )
    return fitting[0]


def _open_stream(
    stream: BinaryIO, name: str, dim: int | None, share: Callable[[], float]
) -> VectorFile:
    """Tell text from binary, with or without a header, by the first rows."""
    head = stream.read(_BLOCK)
    head += stream.readline(_LONGEST_LINE)
    if not head.strip():
        raise ValueError(f"`file` {name} is empty.")
    head = head.removeprefix(codecs.BOM_UTF8)
    lines = list(itertools.islice(io.BytesIO(head), _HEAD_LINES))
    lines = lines[:1] + [line for line in lines[1:] if line.strip()]
    header = re.fullmatch(rb"(\d+) (\d+)\s*", lines[0])
    if header and int(header[2]):
        promised, size = int(header[1]), int(header[2])
        sizes = Counter(_trailing_numbers(line) for line in lines[1:])
        body = head[len(lines[0]) :]
        if sizes[size] or not body:
            return _Text(stream, body, promised, size, lines[1:], name, share)
        if set(sizes) != {1}:
            return _Binary(stream, body, promised, size, name, share)
    sizes = Counter(_trailing_numbers(line) for line in lines)
    size = sizes.most_common(1)[0][0]
    aligned = sum(b"  " in line.strip() for line in lines) > len(lines) // 2
    if size < 1 or (size == 1 and aligned):
        raise ValueError(
            f"`file` {name} is not in a known format: expected rows of a word and its numbers, "
            f"parted by single spaces, found {lines[0][:60]!r}."
        )
    return _Text(stream, head, None, size, lines, name, share)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _trailing_numbers(line: bytes) -> int:
    """Numbers at a row's end; its first field is never one of them."""
    count = 0
    for field in reversed(line.rstrip(b" \r\n").split(b" ")[1:]):
        if not _is_number(field):
            break
        count += 1
    return count


def _is_utf8(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _excerpt(text: bytes) -> str:
    return repr(text[:40].decode(errors="backslashreplace"))


class _Text:
    """Rows `word number number ...`; the word is compared before a number is parsed.

    The shape of every row is checked: by the sum of the spaces in a block of lines, and row by row
    where the sum does not fit or the block is small. Numbers are checked in the rows that are used.
    """

    def __init__(
        self,
        stream: BinaryIO,
        head: bytes,
        promised: int | None,
        dim: int,
        lines: list[bytes],
        name: str,
        share: Callable[[], float],
    ) -> None:
        self.dim = dim
        self.share = share
        self._stream = stream
        self._head = head
        self._promised = promised
        self._name = name
        ends = Counter(line.rstrip(b"\r\n").endswith(b" ") for line in lines)
        self._spaces = dim + (ends[True] > ends[False])

    def _blocks(self) -> Iterator[bytes]:
        block = self._head
        self._head = b""
        while block:
            yield block
            block = self._stream.read(_BLOCK)
            if block and not block.endswith(b"\n"):
                rest = self._stream.readline(_LONGEST_LINE)
                if len(rest) == _LONGEST_LINE:
                    raise ValueError(
                        f"`file` {self._name} has a line longer than {_LONGEST_LINE:,} bytes; is "
                        "it a vector file?"
                    )
                block += rest

    def rows(
        self, wanted: Collection[bytes], faults: Faults, tick: Callable[[], None]
    ) -> Iterator[Row]:
        # A word that holds spaces shows only its first part before the row is split.
        first_parts = {word.split(b" ", 1)[0] for word in wanted if b" " in word}
        heads = first_parts.union(wanted) if first_parts else wanted
        batch = max(1, _BATCH_VALUES // self.dim)
        pending: list[tuple[int, bytes, bytes]] = []
        first = 1 + (self._promised is not None)
        for block in self._blocks():
            lines, picked = self._pick(block, heads)
            for index, line in picked:
                number = first + faults.rows + index
                row = self._split(line, wanted, number, faults)
                if row and row[0] in wanted:
                    pending.append((number, *row))
                    if len(pending) == batch:
                        yield from self._parsed(pending, faults)
                        pending.clear()
            faults.rows += lines
            tick()
        yield from self._parsed(pending, faults)
        if self._promised is not None:
            _check_promise(self._promised, faults)

    def _pick(
        self, block: bytes, heads: Collection[bytes]
    ) -> tuple[int, Iterable[tuple[int, bytes]]]:
        """The number of lines, and those to look into: all, where the spaces do not add up."""
        picked = []
        index = -1
        for index, line in enumerate(io.BytesIO(block)):
            word = line.partition(b" ")[0]
            if word in heads or not (word.isascii() or _is_utf8(word)):
                picked.append((index, line))
        lines = index + 1
        spaces = np.count_nonzero(np.frombuffer(block, np.uint8) == _SPACE)
        if len(block) < _SMALL_BLOCK or spaces != self._spaces * lines:
            return lines, enumerate(io.BytesIO(block))
        return lines, picked

    def _split(
        self, line: bytes, wanted: Collection[bytes], number: int, faults: Faults
    ) -> tuple[bytes, bytes] | None:
        """Part the word from its numbers, or note what is wrong."""
        body = line.rstrip(b"\r\n").rstrip(b" ")
        if not body:
            return None
        spaces = body.count(b" ")
        word, _, numbers = body.partition(b" ")
        if spaces > self.dim:
            word, *fields = body.rsplit(b" ", self.dim)
            numbers = b" ".join(fields)
            # A word of several parts, as in `. . . 0.1 0.2`, is told from a row too long by what
            # stands before the last `dim` numbers.
            if word not in wanted and (
                _is_number(word.rsplit(b" ", 1)[1]) or not all(map(_is_number, fields))
            ):
                faults.add(
                    f"line {number:,}", f"a word and {self.dim} numbers", f"{spaces} numbers"
                )
                return None
        elif spaces < self.dim:
            faults.add(f"line {number:,}", f"a word and {self.dim} numbers", f"{spaces} numbers")
            return None
        if not word.isascii() and not _is_utf8(word):
            faults.add(f"line {number:,}", "UTF-8", _excerpt(word))
            return None
        return word, numbers

    def _parsed(self, pending: list[tuple[int, bytes, bytes]], faults: Faults) -> Iterator[Row]:
        if not pending:
            return
        matrix, good = parse_rows([numbers for _, _, numbers in pending], self.dim)
        for (number, word, numbers), vector, sound in zip(pending, matrix, good, strict=True):
            if sound:
                yield word, vector
            else:
                fields = numbers.split(b" ")
                wrong = next((field for field in fields if not _finite(field)), numbers)
                faults.add(f"line {number:,}", f"{self.dim} finite numbers", _excerpt(wrong))


def _finite(text: bytes) -> bool:
    with np.errstate(over="ignore"):
        return _is_number(text) and bool(np.isfinite(np.float32(float(text))))


def _check_promise(promised: int, faults: Faults) -> None:
    missing = promised - faults.rows
    if missing > 0:
        found = faults.rows
        faults.rows = promised
        faults.add("header", f"{promised:,} rows", f"{found:,}", missing)


class _Binary:
    """word2vec's binary rows: the word, a space, little-endian float32, perhaps a newline."""

    def __init__(
        self,
        stream: BinaryIO,
        head: bytes,
        promised: int,
        dim: int,
        name: str,
        share: Callable[[], float],
    ) -> None:
        self.dim = dim
        self.share = share
        self._stream = stream
        self._head = head
        self._promised = promised
        self._name = name

    def rows(
        self, wanted: Collection[bytes], faults: Faults, tick: Callable[[], None]
    ) -> Iterator[Row]:
        buffer, start = self._head, 0
        width = 4 * self.dim
        for number in range(1, self._promised + 1):
            end = buffer.find(b" ", start)
            while end < 0 or len(buffer) < end + 1 + width:
                if end < 0 and len(buffer) - start > _BLOCK:
                    raise ValueError(
                        f"`file` {self._name}, row {number:,}: expected a word of word2vec's "
                        f"binary format, found {_BLOCK:,} bytes without a space."
                    )
                tick()
                more = self._stream.read(_BLOCK)
                if not more:
                    _check_promise(self._promised, faults)
                    return
                buffer, start = buffer[start:] + more, 0
                end = buffer.find(b" ", start)
            word = buffer[start:end].lstrip(b"\n")
            start = end + 1 + width
            faults.rows = number
            if word in wanted:
                vector = np.frombuffer(buffer, "<f4", self.dim, end + 1)
                if np.isfinite(vector).all():
                    yield word, vector
                else:
                    faults.add(f"row {number:,}", f"{self.dim} finite numbers", _excerpt(word))
            elif not word.isascii() and not _is_utf8(word):
                faults.add(f"row {number:,}", "UTF-8", _excerpt(word))


class _Table:
    """Vectors that are looked up by word."""

    def __init__(self, name: str, keys: Mapping[str, Any], get: Callable[[str], Any]) -> None:
        if not keys:
            raise ValueError(f"`file` {name} is empty.")
        self.dim = int(np.asarray(get(next(iter(keys)))).size)
        self._keys = keys
        self._get = get

    def share(self) -> float:
        return 1.0

    def rows(
        self, wanted: Collection[bytes], faults: Faults, tick: Callable[[], None]
    ) -> Iterator[Row]:
        faults.rows = len(self._keys)
        for key in wanted:
            word = key.decode(errors="surrogatepass")
            if word in self._keys:
                yield from _checked(key, self._get(word), self.dim, f"word {word!r}", faults)


class _Matrix:
    """A matrix, in memory or mapped from its file, and the word of each row."""

    def __init__(self, name: str, matrix: np.ndarray, words: Any) -> None:
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.size:
            raise ValueError(
                f"`file` {name} must be a matrix of numbers, (words, dim). Received: shape "
                f"{matrix.shape}, dtype {matrix.dtype}."
            )
        if words is None:
            raise ValueError(
                f"`file` {name} is a matrix: pass `words`, the word of each of its "
                f"{len(matrix):,} rows, or the path of a file with one word a line."
            )
        if isinstance(words, str | os.PathLike):
            words = read_words(words, "words")
        words = [word.decode() if isinstance(word, bytes) else word for word in words]
        if len(words) != len(matrix):
            raise ValueError(
                f"`words` must name each row of `file` {name}: expected {len(matrix):,}, received "
                f"{len(words):,}."
            )
        self.dim = matrix.shape[1]
        self._matrix = matrix
        self._words: Iterable[str] = words

    def share(self) -> float:
        return 1.0

    def rows(
        self, wanted: Collection[bytes], faults: Faults, tick: Callable[[], None]
    ) -> Iterator[Row]:
        faults.rows = len(self._matrix)
        for row, word in enumerate(self._words):
            key = word.encode(errors="surrogatepass")
            if key in wanted:
                yield from _checked(key, self._matrix[row], self.dim, f"row {row:,}", faults)


def _checked(key: bytes, value: Any, dim: int, where: str, faults: Faults) -> Iterator[Row]:
    with np.errstate(over="ignore"):
        vector = np.asarray(value, dtype=np.float32)
    if vector.shape != (dim,):
        faults.add(where, f"{dim} numbers", f"shape {vector.shape}")
    elif not np.isfinite(vector).all():
        faults.add(where, f"{dim} finite numbers", "one that is not finite")
    else:
        yield key, vector
