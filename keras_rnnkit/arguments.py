"""Arguments of an explicit signature: handed on, and told by name where one is misspelt."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypedDict

import keras

__all__ = [
    "Activation", "Constraint", "DType", "Initializer", "LayerOptions", "Regularizer", "Seed",
    "given", "refuse_unknown",
]  # fmt: skip

Activation = str | Callable[[Any], Any] | None
Initializer = str | Mapping[str, Any] | keras.initializers.Initializer
Regularizer = str | Mapping[str, Any] | keras.regularizers.Regularizer | None
Constraint = str | Mapping[str, Any] | keras.constraints.Constraint | None
Seed = int | keras.random.SeedGenerator | None
DType = str | keras.DTypePolicy | None


class LayerOptions(TypedDict, total=False):
    """What every Keras layer takes besides the arguments that are named."""

    autocast: bool
    input_dim: int
    input_shape: tuple[int | None, ...]


def given(scope: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, from the `locals()` at the head of its method.

    So that an explicit signature is written once, and not again to hand it on.

    Raises:
        TypeError: The call has an argument that the signature does not name.
    """
    named = {name: value for name, value in scope.items() if name not in {"self", "__class__"}}
    rest = named.pop("kwargs")
    known = dict.fromkeys([*named, "activity_regularizer", *sorted(LayerOptions.__optional_keys__)])
    refuse_unknown(rest, known, f"argument of {type(scope['self']).__name__}")
    return named | rest


def refuse_unknown(passed: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse an argument that does not exist.

    Args:
        passed: Names of the arguments of a call.
        known: Those that there are.
        what: What each of them is, such as `"option"`.

    Raises:
        TypeError: Names the argument that may be meant, and all there are.
    """
    known = list(known)
    for name in passed:
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f" Did you mean {near[0]}=?" if near else ""
            raise TypeError(f"{name}= is no {what}.{meant} There are: {', '.join(known)}.")
