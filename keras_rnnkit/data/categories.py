"""Categories: labels as integers, with one integer for labels that were not seen."""

import hashlib
import json
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.atomic import atomic_write

__all__ = ["Categories"]


class Categories:
    """Encodes labels (text or integers) as integers for an `Embedding`.

    With `unseen=True`, 0 stands for labels that were not seen in `fit`, and for missing ones; the
    labels are 1, 2, ... in sorted order. Fit it on the training part alone.

    Args:
        unseen: whether 0 is kept for unseen labels; otherwise an unseen label is an error.

    Attributes:
        labels: the labels seen in `fit`, sorted.

    Example:
        >>> import keras_rnnkit as rk
        >>> weather = rk.data.Categories().fit(["rain", "sun", "rain"])
        >>> weather.encode(["sun", "snow"]).tolist(), weather.size
        ([2, 0], 3)
        >>> weather.decode([1, 0])
        ['rain', None]
    """

    def __init__(self, *, unseen: bool = True) -> None:
        self.unseen = unseen
        self.labels: tuple[str | int, ...] = ()

    @property
    def size(self) -> int:
        """The number of integers in use, the `input_dim` of an `Embedding`."""
        return len(self.labels) + self.unseen

    def fit(self, labels: Any) -> "Categories":
        """Collect the labels that occur, except missing ones.

        Args:
            labels: text or integers: a list, an array or a column of a DataFrame.

        Returns:
            The categories themselves.

        Raises:
            ValueError: no label; or labels that are neither text nor integers, or a mixture.
        """
        found = {label for label in _listed(labels) if label is not None}
        if not found:
            raise ValueError("labels= holds no label.")
        if len({type(label) for label in found}) > 1:
            raise ValueError("labels= holds text and numbers: make them one of both.")
        self.labels = tuple(sorted(found))
        return self

    def encode(self, labels: Any) -> np.ndarray:
        """The integer of each label, int64 of the same length.

        Raises:
            ValueError: not fitted; or a label is unseen or missing, with `unseen=False`.
        """
        self._check_fitted()
        listed = _listed(labels)
        numbers: dict[str | int | None, int] = dict(
            zip(self.labels, range(int(self.unseen), self.size), strict=True)
        )
        codes = np.array([numbers.get(label, -1) for label in listed], np.int64)
        lost = np.flatnonzero(codes < 0)
        if lost.size and not self.unseen:
            raise ValueError(
                f"labels= holds {listed[lost[0]]!r} in row {lost[0]} ({len(lost):,} such rows "
                "in all), which was not seen in fit: there is no place for it with unseen=False."
            )
        codes[lost] = 0
        return codes

    def decode(self, codes: Any) -> list[str | int | None]:
        """The label of each integer; None for that of unseen labels.

        Raises:
            ValueError: an integer that stands for no label.
        """
        self._check_fitted()
        places = [None, *self.labels] if self.unseen else list(self.labels)
        codes = np.asarray(codes).ravel().tolist()
        wrong = [code for code in codes if code not in range(len(places))]
        if wrong:
            raise ValueError(f"codes= must be from 0 to {len(places) - 1}, received {wrong[0]}.")
        return [places[int(code)] for code in codes]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the categories as JSON with a checksum; never an incomplete file."""
        self._check_fitted()
        content = {"unseen": self.unseen, "labels": list(self.labels)}
        with atomic_write(Path(path), "w") as file:
            json.dump({**content, "sha256": _checksum(content)}, file, indent=1)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Categories":
        """Read categories that `save` wrote.

        Raises:
            ValueError: the file holds no categories, or was changed.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("sha256") != _checksum(content):
                raise ValueError("its checksum does not fit")
            made = cls(unseen=content["unseen"]).fit(content["labels"])
            if list(made.labels) != content["labels"] or type(made.unseen) is not bool:
                raise ValueError("its labels are not in order")
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} holds no categories that Categories.save wrote: {error}."
            ) from error
        return made

    def _check_fitted(self) -> None:
        if not self.labels:
            raise ValueError("the categories are not fitted: call fit with the training labels.")

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.labels[:5])) + ", ..." * (len(self.labels) > 5)
        place = ", and one for the unseen" if self.unseen else ""
        return f"Categories({len(self.labels):,}: {shown}{place})"


def _listed(labels: Any) -> list[str | int | None]:
    """The labels as text or integers, None where one is missing."""
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ValueError(f"labels= must be a list or column of labels, received {labels!r}.")
    if hasattr(labels, "to_numpy"):  # a column of a DataFrame
        labels = labels.to_numpy()
    listed = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    return [_label(label, row) for row, label in enumerate(listed)]


def _label(label: Any, row: int) -> str | int | None:
    # What differs from itself is NaN; pandas's NA answers neither way.
    if label is None or str(label) in ("<NA>", "NaT") or label != label:
        return None
    if isinstance(label, str):
        return str(label)
    if isinstance(label, (int, float, np.number)) and int(label) == label:
        return int(label)
    raise ValueError(f"labels= must be text or whole numbers, received {label!r} in row {row}.")


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
