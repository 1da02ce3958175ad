"""Labels of groups that several columns tell: joined by a space, and no two alike."""

from collections.abc import Sequence
from typing import Any

__all__ = ["join_labels"]


def join_labels(columns: Sequence[Sequence[Any]], joined: dict[str, tuple[Any, ...]]) -> list[str]:
    """The labels of each row, joined by a space.

    Args:
        columns: `(rows,)` each.
        joined: what each label was joined from so far; this adds to it.

    Raises:
        ValueError: different rows would get the same label.
    """
    rows = list(zip(*columns, strict=True))
    labels = {row: " ".join(map(str, row)).strip() for row in dict.fromkeys(rows)}
    for row, label in labels.items():
        other = joined.setdefault(label, row)
        if other != row:
            raise ValueError(
                f"group=: {other} and {row} are different groups, and both read {label!r} when "
                "joined by a space. Make one column that tells all groups apart, for example with "
                "another mark between its parts, and name that."
            )
    return [labels[row] for row in rows]
