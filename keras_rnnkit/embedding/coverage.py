"""How much of a vocabulary has a vector, and which words have none."""

from collections.abc import Mapping
from dataclasses import dataclass


class CoverageWarning(UserWarning):
    """Fewer words of the vocabulary have a vector than `warn_below` asks for.

    Silence it with `warnings.simplefilter("ignore", rk.embedding.CoverageWarning)`, or with
    `warn_below=None` where the vectors are read.
    """


@dataclass(frozen=True, repr=False)
class Coverage:
    """How much of a vocabulary has a pretrained vector, and what was skipped in the file.

    `repr(coverage)` is one line; `print(coverage)` (or `coverage.table()`) shows all of it.

    Args:
        file: What the vectors were read from.
        dim: Numbers in a vector.
        words: Words in the vocabulary, padding and out-of-vocabulary rows not counted.
        found: Number of words found, by spelling: `exact`, then each fallback.
        missing: The words without a vector: the most frequent first if counts were given, else in
            the order of the vocabulary.
        missing_counts: How often each of `missing` occurs; None without counts.
        tokens: Occurrences of all words together; None without counts.
        tokens_found: Occurrences of the words found; None without counts.
        file_rows: Lines read.
        duplicates: Lines skipped because the same word came before.
        bad_rows: Lines skipped because they were damaged.
        bad_examples: The first few of those, each with its line, what was expected and found; and
            a header with a wrong count of lines.

    Example:
        >>> import keras_rnnkit as rk
        >>> vectors = rk.load_vectors({"the": [1.0, 2.0], "cat": [3.0, 4.0]},
        ...                           ["the", "cat", "Cat", "dgo"],
        ...                           counts={"the": 90, "cat": 5, "Cat": 3, "dgo": 2})
        >>> vectors.coverage
        Coverage(3 of 4 words (75.0 %), 98.0 % of tokens; exact 2, lower 1, digits 0; 1 missing)
        >>> vectors.coverage.missing
        ('dgo',)
    """

    file: str
    dim: int
    words: int
    found: Mapping[str, int]
    missing: tuple[str, ...]
    missing_counts: tuple[int, ...] | None = None
    tokens: int | None = None
    tokens_found: int | None = None
    file_rows: int = 0
    duplicates: int = 0
    bad_rows: int = 0
    bad_examples: tuple[str, ...] = ()

    @property
    def words_found(self) -> int:
        """Number of words with a vector, in any spelling."""
        return sum(self.found.values())

    @property
    def share(self) -> float:
        """Share of the words (types) with a vector, 0 to 1."""
        return self.words_found / self.words

    @property
    def token_share(self) -> float | None:
        """Share of the occurrences (tokens) whose word has a vector, 0 to 1; None without counts.

        It is also None if the counts have no word of the vocabulary.
        """
        if not self.tokens or self.tokens_found is None:
            return None
        return self.tokens_found / self.tokens

    def __repr__(self) -> str:
        how = ", ".join(f"{name} {number:,}" for name, number in self.found.items())
        tokens = "" if self.token_share is None else f", {_percent(self.token_share)} of tokens"
        line = (
            f"Coverage({self.words_found:,} of {self.words:,} words ({_percent(self.share)})"
            f"{tokens}; {how}; {len(self.missing):,} missing"
        )
        if self.duplicates:
            line += f"; {self.duplicates:,} duplicate rows"
        if self.bad_rows:
            line += f"; {self.bad_rows:,} bad rows"
        return line + ")"

    def __str__(self) -> str:
        return self.table()

    def table(self, missing: int = 10) -> str:
        """The coverage as lines of text.

        Args:
            missing: How many of the missing words to list.

        Returns:
            A table: a line for each spelling by which words were found, the shares, the faults of
            the file, and the first missing words with their counts.
        """
        lines = [("file", self.file, ""), ("dimension", f"{self.dim:,}", "")]
        lines.append(("words", f"{self.words:,}", ""))
        for name, number in self.found.items():
            lines.append((f"  found, {name}", f"{number:,}", _percent(number / self.words)))
        number = len(self.missing)
        lines.append(("  missing", f"{number:,}", _percent(number / self.words)))
        if self.token_share is not None:
            lines.append(("tokens", f"{self.tokens:,}", ""))
            lines.append(("  found", f"{self.tokens_found:,}", _percent(self.token_share)))
        lines.append(("rows in the file", f"{self.file_rows:,}", ""))
        lines.append(("  duplicates", f"{self.duplicates:,}", ""))
        lines.append(("  bad", f"{self.bad_rows:,}", ""))
        width = max(len(value) for _, value, _ in lines[1:])
        text = [f"{name:<18}{value:>{width}}  {share}".rstrip() for name, value, share in lines[1:]]
        text.insert(0, f"{'file':<18}{self.file}")
        text += [f"  {example}" for example in self.bad_examples]
        if shown := self.missing[:missing]:
            counts = self.missing_counts or [None] * number
            named = [
                word if count is None else f"{word} ({count:,})"
                for word, count in zip(shown, counts, strict=False)
            ]
            title = "missing, most frequent first" if self.missing_counts else "missing"
            text.append(f"{title}: " + ", ".join(named) + (", ..." if number > missing else ""))
        return "\n".join(text)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
