"""The types of what layers and cells take, and how an explicit signature is handed on."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import keras

Activation = str | Callable[[Any], Any] | None
Initializer = str | Mapping[str, Any] | keras.initializers.Initializer
Regularizer = str | Mapping[str, Any] | keras.regularizers.Regularizer | None
Constraint = str | Mapping[str, Any] | keras.constraints.Constraint | None
Seed = int | keras.random.SeedGenerator | None
DType = str | keras.DTypePolicy | None


class LayerOptions(TypedDict, total=False):
    """What every Keras layer takes besides the arguments that are named."""

    autocast: bool
    input_shape: tuple[int | None, ...]


def given(scope: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, from the `locals()` at the head of its method.

    So that an explicit signature is written once, and not again to hand it on.
    """
    named = {name: value for name, value in scope.items() if name not in {"self", "__class__"}}
    return named | named.pop("kwargs")
