"""Vector files to the matrix for a vocabulary, with its coverage."""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.embedding.cache import Cache, Found
from keras_rnnkit.embedding.coverage import Coverage, CoverageWarning
from keras_rnnkit.embedding.formats import (
    Faults,
    VectorFile,
    name_of,
    open_file,
    open_vectors,
)
from keras_rnnkit.embedding.vocabulary import Vocabulary, read_vocabulary
from keras_rnnkit.progress import Progress

FALLBACKS = ("lower", "digits")
POLICIES = ("zeros", "uniform", "normal", "mean", "<unk>")

_MISSING = 255
_UNKNOWN = b"<unk>"
_UNIFORM = 0.05  # half the range of Keras's own "uniform" initializer
_BLOCK_ROWS = 4096
_DIGIT = re.compile("[0-9]")
_LONE_DIGIT = re.compile("(?<![0-9])[0-9](?![0-9])")
_SEVERAL_DIGITS = re.compile("[0-9]{2,}")
_NUMBER = re.compile("[-+]?[.0-9]*[0-9][:,.0-9]*")
_HASHES = str.maketrans("0123456789", "#" * 10)
_ZEROS = str.maketrans("0123456789", "0" * 10)

Filler = Callable[[list[str], np.random.Generator], Any]


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a vocabulary.

    Args:
        matrix: float32 `(rows, dim)`, a row for each row of the vocabulary.
        coverage: How much of the vocabulary was found.
        found: bool `(rows,)`: the rows that hold a vector of the file.

    Example:
        >>> import keras_rnnkit as rk
        >>> vectors = rk.load_vectors({"the": [1.0, 2.0]}, ["", "[UNK]", "the"])
        >>> vectors.matrix
        array([[0., 0.],
               [0., 0.],
               [1., 2.]], dtype=float32)
        >>> vectors.found
        array([False, False,  True])
    """

    matrix: np.ndarray
    coverage: Coverage
    found: np.ndarray


def load_vectors(
    file: Any,
    vocabulary: Any,
    *,
    dim: int | None = None,
    words: Any = None,
    num_words: int | None = None,
    oov_token: str | None = None,
    counts: Mapping[str, int] | Sequence[int] | None = None,
    oov: str | Filler = "zeros",
    seed: int = 0,
    fallbacks: Sequence[str] = FALLBACKS,
    normalize: bool = False,
    strict: bool = False,
    warn_below: float | None = 0.5,
    cache: bool | str | os.PathLike[str] = False,
    progress: bool = True,
) -> Vectors:
    r"""Read the vectors of a vocabulary's words from a file.

    The file is streamed: each word is compared with the vocabulary before its numbers are parsed,
    so that memory holds the matrix and little else. The first vector of a word counts; later ones
    are counted as duplicates. GloVe's vectors come from Pennington, Socher and Manning,
    *GloVe: Global Vectors for Word Representation* (2014).

    Args:
        file: A path to GloVe, word2vec or fastText text (a header is noticed), word2vec binary, or
            any of these in `.gz` or `.zip`; a path to `.npy`, or a matrix, with `words`; a mapping
            word -> vector; or gensim `KeyedVectors`.
        vocabulary: A `TextVectorization` or `StringLookup` layer or its `get_vocabulary()`, a
            `Tokenizer` or its `word_index`, a list of words (row 0 first), a dict word -> row, or
            the path of a file with one word a line. Row 0 is padding if it is `""` or
            `"<pad>"`, or if a dict has no word for it.
        dim: Numbers in a vector. None takes those of the file; it picks the member of a `.zip`.
        words: The word of each row of a matrix or `.npy`: a list, or the path of a file with one
            word a line.
        num_words: Rows to keep, as a Tokenizer's `num_words` counts them (row 0 included).
        oov_token: The name of the out-of-vocabulary rows, if it is none of `[UNK]`, `<unk>`,
            `<UNK>`, `<oov>`, `<OOV>`.
        counts: How often each word occurs (a mapping, or a number for each row), for the share of
            tokens. A Tokenizer has its own.
        oov: How to fill rows without a vector, out-of-vocabulary rows included: `"zeros"`,
            `"uniform"` (-0.05 to 0.05), `"normal"` (mean and deviation of the rows found, number
            by number), `"mean"` of the rows found, `"<unk>"` (the file's own vector of that name),
            or a callable `(words, rng) -> (len(words), dim)`. Padding is always zero.
        seed: Seeds `oov`, so that the same call gives the same rows.
        fallbacks: Other spellings to try, in this order, for a word that is not in the file:
            `"lower"` case; `"digits"` as the file writes them (`<number>`, `##`, `00`), unless it
            has plain numbers. `()` tries nothing.
        normalize: Whether to scale the vectors found to unit length.
        strict: Whether the first damaged row is an error. Otherwise such rows are skipped and
            counted.
        warn_below: Warn if a smaller share has a vector: of the tokens if counts are known, else of
            the words. None never warns.
        cache: True caches the result beside the file, a path in that directory. The next call with
            the same file (by its inode, size and times) and vocabulary reads the cache. Threads
            and processes may share it; a damaged one is made again.
        progress: Whether to show a line on stderr when reading takes more than two seconds.

    Returns:
        The matrix, its coverage, and which rows were found.

    Raises:
        OSError: The file does not exist, is a directory, or cannot be read.
        TypeError: `file` or `vocabulary` is of an unknown kind.
        ValueError: The file is empty, a pipe, of another dimension (its header, or its rows),
            damaged in more than one row in a hundred (in any, if `strict`), or has no word of the
            vocabulary; an archive is damaged, encrypted, or has several members that fit; or an
            argument has an unknown value.

    Warns:
        CoverageWarning: Fewer words have a vector than `warn_below` asks for.
        RuntimeWarning: The header has a wrong count of rows, which are read all the same; or a
            cache cannot be written.

    Example:
        >>> import keras_rnnkit as rk
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "glove.txt")
        >>> _ = file.write_text("the 0.5 -1\ncat 0.25 2\n")
        >>> vectors = rk.load_vectors(file, ["", "[UNK]", "cat", "The", "dgo"], oov="mean")
        >>> vectors.matrix
        array([[ 0.   ,  0.   ],
               [ 0.375,  0.5  ],
               [ 0.25 ,  2.   ],
               [ 0.5  , -1.   ],
               [ 0.375,  0.5  ]], dtype=float32)
        >>> vectors.coverage
        Coverage(2 of 3 words (66.7 %); exact 1, lower 1, digits 0; 1 missing)
    """
    if not callable(oov) and oov not in POLICIES:
        raise ValueError(
            f"`oov` must be a callable or one of {', '.join(map(repr, POLICIES))}. Received: "
            f"{oov!r}."
        )
    fallbacks = tuple(fallbacks)
    if isinstance(fallbacks, str) or not set(fallbacks) <= set(FALLBACKS):
        raise ValueError(
            f"`fallbacks` must be a sequence of {', '.join(map(repr, FALLBACKS))}. Received: "
            f"{fallbacks!r}."
        )
    rows = read_vocabulary(vocabulary, num_words=num_words, oov_token=oov_token)
    found = _find(file, rows, dim, words, fallbacks, strict=strict, cache=cache, progress=progress)
    if found.told["header"]:
        warnings.warn(
            f"`file` {name_of(file)}, {found.told['header']}; those that it has are read. Mend the "
            "number, or fetch the file again where it is cut short.",
            RuntimeWarning,
            stacklevel=2,
        )
    hit = found.ranks != _MISSING
    if not hit.any():
        some = [word for row, word in enumerate(rows.words) if row not in rows.special][:5]
        raise ValueError(
            f"`file` {name_of(file)} has no word of `vocabulary`, which begins {some!r}. Do both "
            "speak one language, in one spelling (lower case, tokens)?"
        )
    coverage = _cover(found, rows, _counts_by_row(counts, rows), ("exact", *fallbacks), file)
    matrix = found.matrix
    unknown = found.unknown
    if normalize:
        _to_unit_length(matrix)
        unknown = unknown / (np.linalg.norm(unknown) or 1)
    _fill(matrix, hit, rows, oov, unknown, np.random.default_rng(seed), file)
    share = coverage.share if coverage.token_share is None else coverage.token_share
    if warn_below is not None and share < warn_below:
        warnings.warn(
            f"{coverage!r} is below warn_below={warn_below}. Missing first: "
            f"{', '.join(coverage.missing[:10])}. Check the spelling of the vocabulary against the "
            "file, or lower `warn_below`.",
            CoverageWarning,
            stacklevel=2,
        )
    return Vectors(matrix, coverage, hit)


def _find(
    file: Any,
    vocabulary: Vocabulary,
    dim: int | None,
    words: Any,
    fallbacks: tuple[str, ...],
    *,
    strict: bool,
    cache: bool | str | os.PathLike[str],
    progress: bool,
) -> Found:
    """Read the file, or its cache."""
    faults = Faults(name_of(file), strict=strict)
    with ExitStack() as stack:
        raw = kept = None
        if cache:
            if not isinstance(file, str | os.PathLike) or words is not None:
                raise ValueError(
                    f"`cache` needs a vector file. Received: {name_of(file)}; pass cache=False."
                )
            raw = stack.enter_context(open_file(file))
            directory = None if cache is True else Path(cache)
            key = [vocabulary.fingerprint, dim, fallbacks]
            kept = Cache(Path(file), raw, directory, vocabulary.rows, key)
            found = kept.read()
            if found and not (strict and (found.told["bad_rows"] or found.told["header"])):
                return found
        source = stack.enter_context(open_vectors(file, dim=dim, words=words, raw=raw))
        line = stack.enter_context(Progress(name_of(file), source.share, shown=progress))
        found = _match(source, vocabulary, fallbacks, faults, line)
        faults.check()
        if kept is not None:
            kept.write(found)
    return found


def _match(
    source: VectorFile,
    vocabulary: Vocabulary,
    fallbacks: tuple[str, ...],
    faults: Faults,
    progress: Progress,
) -> Found:
    """Give each row the vector of its word, or of the first fallback that is in the file."""
    wanted: dict[bytes, list[tuple[int, int]]] = {_UNKNOWN: []}
    for row, word in enumerate(vocabulary.words):
        if row not in vocabulary.special:
            for key, rank in _spellings(word, fallbacks).items():
                wanted.setdefault(key.encode(errors="surrogatepass"), []).append((row, rank))
    matrix = np.zeros((vocabulary.rows, source.dim), np.float32)
    best = bytearray([_MISSING]) * vocabulary.rows
    unknown = np.full(source.dim, np.nan, np.float32)
    seen = set()
    duplicates = 0
    for token, vector in source.rows(wanted, faults, progress.update):
        if token in seen:
            duplicates += 1
            continue
        seen.add(token)
        if token == _UNKNOWN:
            unknown[:] = vector
        for row, rank in wanted[token]:
            if rank < best[row]:
                matrix[row] = vector
                best[row] = rank
    ranks = np.frombuffer(best, np.uint8)
    if "digits" in fallbacks:
        _drop_false_digits(vocabulary, matrix, ranks, 1 + fallbacks.index("digits"))
    told = {
        "rows": faults.rows,
        "duplicates": duplicates,
        "bad_rows": faults.bad,
        "bad_examples": faults.examples,
        "header": faults.header,
    }
    return Found(matrix, ranks, unknown, told)


def _spellings(word: str, fallbacks: tuple[str, ...]) -> dict[str, int]:
    """Spellings under which a file may have the word, with their rank; 0 is the word itself."""
    spellings = {word: 0}
    lower = word.lower() if "lower" in fallbacks else word
    for rank, fallback in enumerate(fallbacks, 1):
        if fallback == "lower":
            spellings.setdefault(lower, rank)
        elif _DIGIT.search(word):
            for form in {word: 0, lower: 0}:
                for spelling in _without_digits(form):
                    spellings.setdefault(spelling, rank)
    return spellings


def _without_digits(word: str) -> Iterator[str]:
    """How files without plain numbers write a word with digits."""
    if _NUMBER.fullmatch(word):
        yield "<number>"
    yield word.translate(_HASHES)
    yield word.translate(_ZEROS)
    if _LONE_DIGIT.search(word):
        yield _SEVERAL_DIGITS.sub(lambda run: "#" * len(run[0]), word)


def _drop_false_digits(
    vocabulary: Vocabulary, matrix: np.ndarray, ranks: np.ndarray, rank: int
) -> None:
    """Undo the digits fallback if the file has plain numbers.

    In a file with `1984` in it, `0000` and `####` have another meaning.
    """
    doubtful = ranks == rank
    sure = np.flatnonzero(~doubtful & (ranks != _MISSING)).tolist()
    if doubtful.any() and any(
        any(map(int, _SEVERAL_DIGITS.findall(vocabulary.words[row]))) for row in sure
    ):
        matrix[doubtful] = 0
        ranks[doubtful] = _MISSING


def _counts_by_row(
    counts: Mapping[str, int] | Sequence[int] | None, vocabulary: Vocabulary
) -> np.ndarray | None:
    """Occurrences of the word of each row; 0 for special rows."""
    counts = vocabulary.counts if counts is None else counts
    if counts is None:
        return None
    if isinstance(counts, Mapping):
        by_row = np.array([counts.get(word, 0) for word in vocabulary.words])
    else:
        by_row = np.asarray(counts)
    if by_row.shape != (vocabulary.rows,) or by_row.dtype.kind not in "iu" or by_row.min() < 0:
        raise ValueError(
            "`counts` must map words to whole numbers from 0, or give one for each of the "
            f"{vocabulary.rows:,} rows. Received: shape {by_row.shape}, dtype {by_row.dtype}."
        )
    by_row[sorted(vocabulary.special)] = 0
    return by_row


def _cover(
    found: Found,
    vocabulary: Vocabulary,
    counts: np.ndarray | None,
    names: tuple[str, ...],
    file: Any,
) -> Coverage:
    lost = np.array(
        [
            row
            for row in np.flatnonzero(found.ranks == _MISSING).tolist()
            if row not in vocabulary.special
        ],
        dtype=int,
    )
    if counts is not None:
        lost = lost[np.argsort(-counts[lost], kind="stable")]
    return Coverage(
        file=name_of(file),
        dim=found.matrix.shape[1],
        words=vocabulary.rows - len(vocabulary.special),
        found={name: int((found.ranks == rank).sum()) for rank, name in enumerate(names)},
        missing=tuple(vocabulary.words[row] for row in lost),
        missing_counts=None if counts is None else tuple(counts[lost].tolist()),
        tokens=None if counts is None else int(counts.sum()),
        tokens_found=None if counts is None else int(counts.sum() - counts[lost].sum()),
        file_rows=found.told["rows"],
        duplicates=found.told["duplicates"],
        bad_rows=found.told["bad_rows"],
        bad_examples=tuple(found.told["bad_examples"]),
    )


def _to_unit_length(matrix: np.ndarray) -> None:
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))[:, None]
    np.divide(matrix, lengths, out=matrix, where=lengths > 0)


def _fill(
    matrix: np.ndarray,
    hit: np.ndarray,
    vocabulary: Vocabulary,
    oov: str | Filler,
    unknown: np.ndarray,
    rng: np.random.Generator,
    file: Any,
) -> None:
    """Fill the rows without a vector."""
    empty = ~hit
    empty[0] &= not vocabulary.padding
    rows = np.flatnonzero(empty)
    shape = (len(rows), matrix.shape[1])
    if oov == "zeros" or not len(rows):
        return
    if callable(oov):
        values = np.asarray(oov([vocabulary.words[row] for row in rows], rng), dtype=np.float32)
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(
                f"`oov` must return finite numbers of shape {shape}, a row for each of its words. "
                f"Received: shape {values.shape}."
            )
        matrix[rows] = values
    elif oov == "uniform":
        matrix[rows] = rng.random(shape, np.float32) * np.float32(2 * _UNIFORM) - _UNIFORM
    elif oov == "<unk>":
        if not np.isfinite(unknown).all():
            raise ValueError(
                f"`oov` is '<unk>', but `file` {name_of(file)} has no vector of that name. Use "
                "another policy, such as 'mean'."
            )
        matrix[rows] = unknown
    else:
        mean, deviation = _moments(matrix, hit)
        matrix[rows] = mean
        if oov == "normal":
            noise = rng.standard_normal(shape, np.float32)
            noise *= deviation
            matrix[rows] += noise


def _moments(matrix: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each number over the rows found, in float64, block by block."""

    def total(term: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        blocks = range(0, len(matrix), _BLOCK_ROWS)
        return np.sum(
            [
                term(matrix[i : i + _BLOCK_ROWS][hit[i : i + _BLOCK_ROWS]].astype(float)).sum(
                    axis=0
                )
                for i in blocks
            ],
            axis=0,
        )

    number = hit.sum()
    mean = total(lambda rows: rows) / number
    deviation = np.sqrt(total(lambda rows: (rows - mean) ** 2) / number)
    return mean.astype(np.float32), deviation.astype(np.float32)
