"""Columns computed from other columns, times or groups, also for future rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_rnnkit.data.series import TimeSeries

__all__ = ["check_order", "check_whole", "lag_of", "make_column"]

# Up to here float64 holds every whole number.
LARGEST_WHOLE = 2**53


def make_column(series: "TimeSeries", name: str, recipe: Any, in_order: bool) -> np.ndarray:
    """One column of `TimeSeries.with_columns`, `(rows,)`."""
    if callable(recipe):
        if series.time is None:
            raise ValueError(
                f"column {name!r} is a function of times, and the series has none: make it with "
                "time=."
            )
        values = recipe(series.local_time)
    elif isinstance(recipe, Mapping):
        lacking = [label for label in series.groups if label not in recipe]
        if lacking:
            raise ValueError(
                f"column {name!r} has no value for group {lacking[0]!r}"
                f"{f' and {len(lacking) - 1} others' * (len(lacking) > 1)}."
            )
        of_groups = np.asarray([recipe[label] for label in series.groups])
        values = np.repeat(of_groups, np.diff(series.bounds))
    elif isinstance(recipe, tuple):
        values = _lagged(series, name, recipe)
    else:
        check_order(series, f"column {name!r}", in_order)
        values = recipe
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"column {name!r} must hold numbers, received {values.dtype}. Code text with "
            "Categories first."
        )
    check_whole(values, [name])
    if values.shape != (len(series),):
        raise ValueError(
            f"column {name!r} must hold a number for each of {len(series):,} rows, received shape "
            f"{values.shape}."
        )
    return values


def check_order(series: "TimeSeries", what: str, in_order: bool) -> None:
    """Refuse numbers for each row where they may be in the order of the input."""
    if series.reordered and not in_order:
        raise ValueError(
            f"{what}: the series has brought the rows of each group together, so the order of the "
            "numbers given for each row is unclear. Put them into the table that the series is "
            "made from. Or, where they are computed from the series (its columns, values, time), "
            "pass in_order=True."
        )


def check_whole(values: np.ndarray, names: Sequence[str] | None) -> None:
    """Refuse whole numbers that float64 would round.

    Args:
        values: `(rows,)` or `(..., columns)`.
        names: of the columns. Default: their numbers.
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or isinstance(values, np.memmap):
        return
    beyond = (values > LARGEST_WHOLE) | (values < -LARGEST_WHOLE)
    if beyond.any():
        column = int(np.argwhere(beyond)[0][-1]) if values.ndim > 1 else 0
        name = names[column] if names is not None and column < len(names) else str(column)
        raise ValueError(
            f"column {name!r} holds {values[beyond][0]}, and float64 rounds whole numbers beyond "
            "2**53. Leave the column out (an identifier may be the group=), subtract an offset, "
            "or make it float64 yourself where rounding does no harm."
        )


def lag_of(recipe: Any) -> int | None:
    """Rows by which a lag looks back; None for other rules."""
    return recipe[1] if isinstance(recipe, tuple) else None


def _lagged(series: "TimeSeries", name: str, recipe: tuple[Any, ...]) -> np.ndarray:
    """The values of a column some rows before in the same segment; NaN at its beginning."""
    whole = len(recipe) == 2 and isinstance(recipe[1], (int, np.integer))
    if not whole or isinstance(recipe[1], bool) or recipe[1] < 1:
        raise ValueError(
            f"column {name!r}: a lag is a column and a number of rows of at least 1, such as "
            f"('load', 24), received {recipe!r}."
        )
    column, rows = recipe
    if column not in series.names:
        raise ValueError(
            f"column {name!r} is a lag of {column!r}, which the series does not have. Its columns "
            f"are: {', '.join(map(repr, series.names))}."
        )
    values = series[column]
    lagged = np.full(len(series), np.nan, np.result_type(values.dtype, np.float32))
    lagged[rows:] = values[:-rows]
    segments = series.segments()
    firsts = np.repeat(segments[:, 0], segments[:, 1] - segments[:, 0])
    lagged[np.arange(len(series)) - rows < firsts] = np.nan
    return lagged
