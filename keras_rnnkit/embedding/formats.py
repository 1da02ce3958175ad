"""The formats that word vectors come in, each read as a stream of (word, vector)."""

import codecs
import gzip
import io
import itertools
import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from keras_rnnkit.archives import open_zip, unpacking
from keras_rnnkit.embedding.decimals import parse_rows
from keras_rnnkit.embedding.vocabulary import read_words

_BLOCK = 1 << 17  # of twice that size, malloc maps fresh pages for every one
_SMALL_BLOCK = 1 << 16  # below it each row is counted: the sum over a block may hide two faults
_LONGEST_ROW = 1 << 24
_BATCH_VALUES = 1 << 15
_SPACE = ord(" ")
_HEAD_LINES = 10
_EXAMPLES = 5
_BAD_SHARE = 0.01
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

Row = tuple[bytes, np.ndarray]


class Faults:
    """Counts the rows read and those that are damaged.

    Args:
        name: What is being read.
        strict: Whether the first damaged row is an error.
    """

    def __init__(self, name: str, *, strict: bool) -> None:
        self.name = name
        self.strict = strict
        self.rows = 0
        self.bad = 0
        self.examples: list[str] = []
        self.header = ""

    def add(self, where: str, expected: str, found: str) -> None:
        """Note a damaged row.

        Raises:
            ValueError: In strict mode.
        """
        self.bad += 1
        self._note(f"{where}: expected {expected}, found {found}")

    def count(self, promised: int, *, more: bool = False) -> None:
        """Note a header with a wrong count of rows; the rows are not damaged by that.

        Raises:
            ValueError: In strict mode.
        """
        found = "more" if more else f"{self.rows:,}"
        self.header = f"header: expected {promised:,} rows, found {found}"
        self._note(self.header)

    def _note(self, message: str) -> None:
        if self.strict:
            raise ValueError(
                f"`file` {self.name}, {message}. Mend it, or pass strict=False to leave out rows "
                "like it."
            )
        if len(self.examples) < _EXAMPLES:
            self.examples.append(message)

    def check(self) -> None:
        """Raise if more than one row in a hundred was damaged."""
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
        """Yield the undamaged rows of the wanted words, in the order of the file, with repeats.

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


def open_file(file: str | os.PathLike[str]) -> BinaryIO:
    """Open a vector file, if it is one.

    Raises:
        OSError: It does not exist, is a directory, or cannot be read.
        ValueError: It is a pipe or a device.
    """
    path, name = Path(file), name_of(file)
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
    if not path.is_file():
        raise ValueError(
            f"`file` {name} is no regular file but a pipe or a device. Write it to a file first."
        )
    return path.open("rb")


@contextmanager
def open_vectors(
    file: Any, *, dim: int | None = None, words: Any = None, raw: BinaryIO | None = None
) -> Iterator[VectorFile]:
    """Recognise the format of `file`, and open it.

    Args:
        file: A path (GloVe, word2vec or fastText text, word2vec binary, any of them in .gz or
            .zip; .npy), a mapping word -> vector, gensim `KeyedVectors`, or a matrix.
        dim: Numbers in a vector; None takes those of the file.
        words: The word of each row, for a matrix or .npy.
        raw: The file of that path, if it is open already.

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
            raw = raw or stack.enter_context(open_file(file))
            with unpacking(f"`file` {name}"):
                source = _open_path(raw, Path(file), name, dim, words, stack)
        elif hasattr(file, "key_to_index") and hasattr(file, "vectors"):
            table = np.asarray(file.vectors)
            source = _Table(name, file.key_to_index, lambda word: table[file.key_to_index[word]])
        elif isinstance(file, Mapping):
            source = _Table(name, file, file.__getitem__)
        elif isinstance(file, np.ndarray):
            source = _Matrix(name, file, words)
        else:
            wv = " Give its vectors: model.wv." if hasattr(file, "wv") else ""
            raise TypeError(
                "`file` must be a path, a mapping word -> vector, gensim KeyedVectors, or a "
                f"matrix with `words`. Received: {type(file).__name__} {file!r:.80}.{wv}"
            )
        if dim is not None and source.dim != dim:
            raise ValueError(
                f"`file` {name} holds vectors of {source.dim} numbers; `dim` says {dim}. Pass "
                f"dim={source.dim}, or the file of {dim} dimensions."
            )
        with unpacking(f"`file` {name}"):
            yield source


def _open_path(
    raw: BinaryIO, path: Path, name: str, dim: int | None, words: Any, stack: ExitStack
) -> VectorFile:
    size = os.fstat(raw.fileno()).st_size
    magic = raw.read(6)
    raw.seek(0)
    if magic == b"\x93NUMPY":
        return _Matrix(name, _map_matrix(path, name), words)
    if magic[:4] == b"\xba\x16\x4f\x2f":
        raise ValueError(
            f"`file` {name} is a fastText model, not its vectors. Give the .vec file beside it."
        )
    begin = 0
    stream: BinaryIO = raw
    if magic[:2] == b"\x1f\x8b":
        stream = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw)))
    elif magic[:4] == b"PK\x03\x04":
        archive = stack.enter_context(open_zip(raw))
        member = _member(archive, name, dim)
        begin, size = member.header_offset, member.compress_size
        stream = io.BufferedReader(stack.enter_context(archive.open(member)), _BLOCK)  # type: ignore[type-var]
    return _open_stream(stream, name, lambda: min(1.0, (raw.tell() - begin) / max(size, 1)))


def _map_matrix(path: Path, name: str) -> np.ndarray:
    try:
        matrix: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header makes NumPy raise errors of many kinds
        raise ValueError(
            f"`file` {name} is no whole .npy file of numbers ({error}). Save the matrix again."
        ) from error
    return matrix


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


def _open_stream(stream: BinaryIO, name: str, share: Callable[[], float]) -> VectorFile:
    """Distinguish text from binary, with or without a header, by the first rows."""
    head = stream.read(_BLOCK)
    if _is_tar(head):
        raise ValueError(
            f"`file` {name} is a tar archive. Unpack it, and give the file of vectors in it."
        )
    head = head.removeprefix(codecs.BOM_UTF8)
    first, _, body = head.partition(b"\n")
    header = re.fullmatch(rb"(\d{1,18}) (\d{1,18})\s*", first)
    promised, dim = map(int, header.groups()) if header else (0, 0)
    if dim and _is_binary(body):
        return _Binary(stream, body, promised, dim, name, share)
    head += _rest_of_line(stream, head, name)
    lines = [line for line in itertools.islice(io.BytesIO(head), _HEAD_LINES) if line.strip()]
    sizes = Counter(map(_trailing_numbers, lines[1:] if dim else lines))
    if dim and sizes[dim]:
        body = head.partition(b"\n")[2]
        return _Text(stream, body, promised, dim, lines[1:], name, share)
    if not sizes:
        what = "holds a header and no rows" if dim else "is empty"
        raise ValueError(f"`file` {name} {what}.")
    size = sizes.most_common(1)[0][0]
    if dim and size > 1:
        raise ValueError(
            f"`file` {name} has a header that says {dim} numbers a row, and rows of {size}. Mend "
            "its first line, or take it out."
        )
    aligned = sum(b"  " in line.strip() for line in lines) > len(lines) // 2
    if size < 1 or (size == 1 and aligned):
        raise ValueError(
            f"`file` {name} is not in a known format: expected rows of a word and its numbers, "
            f"parted by single spaces, found {lines[-1][:60]!r}."
        )
    # Rows of one number whose words are numbers too begin like a header.
    return _Text(stream, head, None, size, lines, name, share)


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _is_binary(body: bytes) -> bool:
    """Whether the bytes after a header, perhaps cut inside a character, are binary.

    Rows that end in numbers are text, even if one of them is damaged.
    """
    sizes = Counter(map(_trailing_numbers, itertools.islice(io.BytesIO(body), _HEAD_LINES)))
    if sizes and sizes.most_common(1)[0][0]:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return True
    return _CONTROL.search(body) is not None


def _rest_of_line(stream: BinaryIO, begun: bytes, name: str) -> bytes:
    if not begun or begun.endswith(b"\n"):
        return b""
    rest = stream.readline(_LONGEST_ROW)
    if len(rest) == _LONGEST_ROW and not rest.endswith(b"\n"):
        raise ValueError(
            f"`file` {name} has a line longer than {_LONGEST_ROW:,} bytes; is it a vector file?"
        )
    return rest


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return b"_" not in text and text.strip() == text  # which `float` takes


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


class _Rows:
    """Rows of a stream whose beginning was read to recognise the format.

    Args:
        stream: The rest.
        head: The beginning, from the first row on.
        promised: Number of rows in the header; None without one.
        dim: Numbers a row.
        name: What messages call the file.
        share: Gives the share read so far.
    """

    def __init__(
        self,
        stream: BinaryIO,
        head: bytes,
        promised: int | None,
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

    def _cut(self, row: int, expected: str, found: str) -> ValueError:
        return ValueError(
            f"`file` {self._name} is cut short in row {row:,}: expected {expected}, found {found}. "
            "Fetch it again."
        )


class _Text(_Rows):
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
        super().__init__(stream, head, promised, dim, name, share)
        ends = Counter(line.rstrip(b"\r\n").endswith(b" ") for line in lines)
        self._spaces = dim + (ends[True] > ends[False])

    def _blocks(self) -> Iterator[bytes]:
        block = self._head
        self._head = b""
        while block:
            yield block
            block = self._stream.read(_BLOCK)
            block += _rest_of_line(self._stream, block, self._name)

    def rows(
        self, wanted: Collection[bytes], faults: Faults, tick: Callable[[], None]
    ) -> Iterator[Row]:
        # A word that holds spaces shows only its first part before the row is split.
        first_parts = {word.split(b" ", 1)[0] for word in wanted if b" " in word}
        heads = first_parts.union(wanted) if first_parts else wanted
        batch = max(1, _BATCH_VALUES // self.dim)
        pending: list[tuple[int, bytes, bytes]] = []
        first = 1 + (self._promised is not None)
        ended = True
        for block in self._blocks():
            ended = block.endswith(b"\n")
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
        if self._promised is not None and faults.rows < self._promised:
            if not ended:
                raise self._cut(faults.rows, f"{self._promised:,} rows and a line's end", "neither")
            faults.count(self._promised)

    def _pick(
        self, block: bytes, heads: Collection[bytes]
    ) -> tuple[int, Iterable[tuple[int, bytes]]]:
        """The number of lines, and those to examine: all, if the number of spaces does not fit."""
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
        """Separate the word from its numbers, or note the fault."""
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
    return bool(parse_rows([text], 1)[1][0])


class _Binary(_Rows):
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
        super().__init__(stream, head, promised, dim, name, share)
        if 4 * dim > _LONGEST_ROW:
            raise ValueError(
                f"`file` {name} says that it has {dim:,} numbers a row, more than {_LONGEST_ROW:,} "
                "bytes; is it a vector file?"
            )
        # Nothing is laid out for a width that no row of the file has.
        self._head += stream.read(max(0, self._row_end(head, 0, 1) - len(head)))
        if promised and len(self._head) < self._row_end(self._head, 0, 1):
            raise self._cut(1, f"a word and {dim:,} numbers", f"{len(self._head):,} bytes")

    def _row_end(self, buffer: bytes, start: int, number: int) -> int:
        """Where the row at `start` ends; after the buffer, if the row is longer."""
        end = buffer.find(b" ", start, start + _BLOCK)
        if end < 0 and len(buffer) - start >= _BLOCK:
            raise ValueError(
                f"`file` {self._name}, row {number:,}: expected a word of word2vec's binary "
                f"format, found {_BLOCK:,} bytes without a space."
            )
        return (end if end >= 0 else len(buffer)) + 1 + 4 * self.dim

    def rows(
        self, wanted: Collection[bytes], faults: Faults, tick: Callable[[], None]
    ) -> Iterator[Row]:
        promised = self._promised or 0
        buffer, start = self._head, 0
        for number in range(1, promised + 1):
            while (end := self._row_end(buffer, start, number)) > len(buffer):
                tick()
                more = self._stream.read(max(_BLOCK, end - len(buffer)))
                if not more:
                    if rest := len(buffer[start:].lstrip(b"\n")):
                        wanted_bytes = f"a word and {self.dim:,} numbers"
                        raise self._cut(number, wanted_bytes, f"{rest:,} bytes")
                    faults.count(promised)
                    return
                buffer, start = buffer[start:] + more, 0
            begin = end - 4 * self.dim
            word = buffer[start : begin - 1].lstrip(b"\n")
            start = end
            faults.rows = number
            if word in wanted:
                vector = np.frombuffer(buffer, "<f4", self.dim, begin)
                if np.isfinite(vector).all():
                    yield word, vector
                else:
                    faults.add(f"row {number:,}", f"{self.dim} finite numbers", _excerpt(word))
            elif not word.isascii() and not _is_utf8(word):
                faults.add(f"row {number:,}", "UTF-8", _excerpt(word))
        if buffer[start:].lstrip(b"\n") or self._stream.read(2).lstrip(b"\n"):
            faults.count(promised, more=True)


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
    try:
        vector = np.asarray(value)
        if vector.dtype.kind in "SUMmc":  # NumPy would make numbers of them
            raise TypeError
        with np.errstate(over="ignore"):
            vector = vector.astype(np.float32)
    except (TypeError, ValueError):
        faults.add(where, f"{dim} numbers", f"{value!r:.40}")
        return
    if vector.shape != (dim,):
        faults.add(where, f"{dim} numbers", f"shape {vector.shape}")
    elif not np.isfinite(vector).all():
        faults.add(where, f"{dim} finite numbers", "one that is not finite")
    else:
        yield key, vector
