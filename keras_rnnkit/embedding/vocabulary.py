"""A vocabulary of any kind to the word of each row of an embedding matrix."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

_PADDING = frozenset({"", "<pad>", "<PAD>", "[PAD]"})
_UNKNOWN = frozenset({"[UNK]", "<unk>", "<UNK>", "<oov>", "<OOV>"})
_KINDS = (
    "a TextVectorization or StringLookup layer, its get_vocabulary(), a Tokenizer or its "
    "word_index, a list of words (row 0 first), a dict word -> row, or the path of a file with "
    "one word a line"
)


@dataclass(frozen=True)
class Vocabulary:
    """The word of each row.

    Args:
        words: One text a row; the name of special rows.
        special: Rows without a word: padding, out-of-vocabulary, unassigned.
        padding: Whether row 0 is padding.
        counts: How often each word occurs, if the source knows it.
    """

    words: tuple[str, ...]
    special: frozenset[int] = frozenset()
    padding: bool = False
    counts: Mapping[str, int] | None = field(default=None, compare=False, repr=False)

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return len(self.words)

    @cached_property
    def fingerprint(self) -> str:
        """A name for these rows, the same in every process."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()

    def known(self) -> "Vocabulary":
        """The vocabulary with its words."""
        return self

    def to_json(self) -> str:
        """The vocabulary as JSON text."""
        return json.dumps([list(self.words), sorted(self.special), self.padding])

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """The vocabulary that `to_json` wrote.

        Raises:
            ValueError: It did not write this text.
        """
        try:
            words, special, padding = json.loads(text)
            vocabulary = cls(tuple(words), frozenset(special), padding)
            written = text == vocabulary.to_json()
        except (RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"no vocabulary: {error}") from error
        if not written or not all(isinstance(word, str) for word in words):
            raise ValueError("no vocabulary as it was written")
        return vocabulary


@dataclass(frozen=True)
class SavedVocabulary:
    """The vocabulary of a saved config; a layer with it reads no file.

    Args:
        fingerprint: That of its `Vocabulary`.
        rows: Rows of the matrix.
        padding: Whether row 0 is padding.
        vocabulary: The words, if they were saved with the model.
    """

    fingerprint: str
    rows: int
    padding: bool
    vocabulary: Vocabulary | None = None

    @classmethod
    def from_entry(cls, entry: Any, rows: Any, padding: Any) -> "SavedVocabulary":
        """The vocabulary of a config: its fingerprint, or the words themselves.

        Raises:
            ValueError: A fingerprint without the number of rows.
        """
        if not isinstance(entry, str | os.PathLike):
            words = read_vocabulary(entry)
            return cls(words.fingerprint, words.rows, words.padding, words)
        if not isinstance(rows, int) or rows < 1:
            raise ValueError(
                "the config of a GloVeEmbedding must tell the rows of its vocabulary, `input_dim`. "
                f"Received: {rows!r}. Take one that `get_config` gave, or call "
                "GloVeEmbedding(file, vocabulary)."
            )
        return cls(str(entry), rows, bool(padding))

    def known(self) -> Vocabulary:
        """The vocabulary with its words.

        Raises:
            ValueError: The config has none.
        """
        if self.vocabulary is None:
            raise ValueError(
                f"`vocabulary` is known by its fingerprint alone ({self.fingerprint[:19]}..., "
                f"{self.rows:,} rows): a config holds no words. Give them: "
                "GloVeEmbedding.from_config({**config, 'vocabulary': words}), or load the model "
                "from its .keras file, which brings them along."
            )
        return self.vocabulary


def read_vocabulary(
    source: Any, *, num_words: int | None = None, oov_token: str | None = None
) -> Vocabulary:
    """Read any usual kind of vocabulary.

    Args:
        source: One of those that the error below lists.
        num_words: Rows to keep, as a Tokenizer's `num_words` counts them (row 0 included).
        oov_token: The name of the out-of-vocabulary rows, if it is none of the usual ones.

    Returns:
        The rows, special ones marked.

    Raises:
        TypeError: `source` is none of these.
        ValueError: It holds no word, the same word or row twice, or an empty word.
    """
    if num_words is not None and (not isinstance(num_words, int | np.integer) or num_words < 1):
        raise ValueError(f"`num_words` must be a positive number of rows. Received: {num_words!r}.")
    if isinstance(source, Vocabulary):
        if num_words is None or num_words >= source.rows:
            return source
        kept = frozenset(row for row in source.special if row < num_words)
        return Vocabulary(source.words[:num_words], kept, source.padding, source.counts)
    counts = None
    special: set[int] = set()
    padding = False
    padding_names = _PADDING
    if hasattr(source, "get_vocabulary"):
        oov_token = oov_token or getattr(source, "oov_token", None)
        mask_token = getattr(source, "mask_token", None)
        padding_names = _PADDING | ({mask_token} if isinstance(mask_token, str) else set())
        source = source.get_vocabulary()
        hint = " Call the layer's adapt() first."
    else:
        hint = ""
    if hasattr(source, "word_index"):
        oov_token = oov_token or getattr(source, "oov_token", None)
        num_words = num_words or getattr(source, "num_words", None)
        counts = dict(getattr(source, "word_counts", None) or {}) or None
        source = source.word_index
        hint = " Call the Tokenizer's fit_on_texts() first."
    if isinstance(source, str | os.PathLike):
        source = read_words(source, "vocabulary")
    if isinstance(source, Mapping):
        words, special = _rows_of_mapping(source, num_words)
        padding = 0 in special or words[:1] == [""]
    elif isinstance(source, Iterable) and not isinstance(source, set | frozenset | bytes):
        words = [_text(word, row) for row, word in enumerate(source)][:num_words]
    else:
        raise TypeError(
            f"`vocabulary` must be {_KINDS}. Received: {type(source).__name__} {source!r:.80}."
        )
    if words and words[0] in padding_names:
        padding = True
        special.add(0)
    unknown = _UNKNOWN | ({oov_token} if oov_token else set())
    special.update(row for row, word in enumerate(words) if word in unknown)
    if len(special) == len(words):
        raise ValueError(f"`vocabulary` holds no word: {words[:5]!r}.{hint}")
    seen: dict[str, int] = {}
    for row, word in enumerate(words):
        if row in special:
            continue
        if not word:
            raise ValueError(f"`vocabulary` has an empty word in row {row}; only row 0 may be ''.")
        if seen.setdefault(word, row) != row:
            raise ValueError(
                f"`vocabulary` holds {word!r} twice, in rows {seen[word]} and {row}. Give each "
                "word one row."
            )
    return Vocabulary(tuple(words), frozenset(special), padding, counts)


def _text(word: Any, row: int) -> str:
    if isinstance(word, bytes):
        return word.decode()
    if isinstance(word, str):
        return str(word)
    raise TypeError(
        f"`vocabulary` must hold words (str). Received: {word!r} of type {type(word).__name__} in "
        f"row {row}."
    )


def _rows_of_mapping(
    source: Mapping[Any, Any], num_words: int | None
) -> tuple[list[str], set[int]]:
    """The words by row, from a mapping of word to row; rows without a word are special."""
    by_row: dict[int, str] = {}
    for word, row in source.items():
        if isinstance(row, bool) or not isinstance(row, int | np.integer) or row < 0:
            raise TypeError(
                "`vocabulary` as a dict must map each word to its row, a whole number from 0. "
                f"Received: {word!r}: {row!r}."
            )
        if num_words is not None and row >= num_words:
            continue
        if by_row.setdefault(int(row), _text(word, int(row))) != word:
            raise ValueError(
                f"`vocabulary` gives row {row} to both {by_row[int(row)]!r} and {word!r}. Give "
                "each word a row of its own."
            )
    rows = 1 + max(by_row, default=-1)
    return [by_row.get(row, "") for row in range(rows)], set(range(rows)) - by_row.keys()


def read_words(path: str | os.PathLike[str], argument: str) -> list[str]:
    """Read a file with one word a line.

    Raises:
        OSError: It cannot be read; the message names the `argument` it was given for.
        ValueError: It is not UTF-8.
    """
    try:
        # Windows's editor begins a file with a mark, which is no part of the first word.
        lines = Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`{argument}` {os.fspath(path)!r} is not UTF-8 text ({error.reason} at byte "
            f"{error.start}). Save it as UTF-8, or give the words themselves."
        ) from error
    except OSError as error:
        raise type(error)(
            f"`{argument}` is no readable file: {os.fspath(path)!r} ({error.strerror}). Give the "
            "path of a file with one word a line, or the words themselves."
        ) from error
    lines = [line.removesuffix("\r") for line in lines]
    return lines[:-1] if lines[-1] == "" else lines
