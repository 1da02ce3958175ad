"""Arguments of layers and cells: the types of those that Keras names, `units`, and flags."""

from typing import Any

import numpy as np

from keras_rnnkit import arguments
from keras_rnnkit.arguments import (
    Activation,
    Constraint,
    DType,
    Initializer,
    LayerOptions,
    Regularizer,
    Seed,
)

__all__ = [
    "Activation", "Constraint", "DType", "Initializer", "LayerOptions", "Regularizer", "Seed",
    "flag", "given",
]  # fmt: skip


def given(scope: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, as `keras_rnnkit.arguments.given`; `units` checked.

    Raises:
        ValueError: `units` is no positive whole number.
    """
    named = arguments.given(scope)
    if "units" in named:
        units = named["units"]
        whole = isinstance(units, (int, np.integer)) and not isinstance(units, bool)
        if not whole or units < 1:
            raise ValueError(
                f"`units` must be a positive whole number; received {units!r}. Give the size of "
                "the state, such as 32."
            )
        named["units"] = int(units)
    return named


def flag(argument: str, value: Any) -> bool:
    """Return an argument that is true or false; refuse one that merely counts as such."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(
            f"`{argument}` must be True or False; received {value!r}. Give a boolean: text, "
            '"no" as well, would count as true.'
        )
    return bool(value)
