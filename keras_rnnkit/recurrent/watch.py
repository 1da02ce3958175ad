"""Replace a method or an attribute of a layer, for the thread that observes it only."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

looking = threading.RLock()  # one thread looks at a time


def replace_method(undo: contextlib.ExitStack, layer: Any, name: str, value: Any) -> None:
    """Replace a method of a layer for this thread, until `undo`.

    Other threads go on with the original method. If one of them sets another, that one stays.
    """
    own, mine, lasting = getattr(layer, name), threading.get_ident(), [True]

    @functools.wraps(own, updated=())
    def method(*args: Any, **kwargs: Any) -> Any:
        chosen = value if lasting and threading.get_ident() == mine else own
        return chosen(*args, **kwargs)

    before = vars(layer).get(name)
    setattr(layer, name, method)

    def restore() -> None:
        lasting.clear()  # for whoever holds it still
        if vars(layer).get(name) is not method:  # another thread has set its own meanwhile
            return
        if before is None:
            delattr(layer, name)
        else:
            setattr(layer, name, before)

    undo.callback(restore)


@contextlib.contextmanager
def returned_calls(module: Any, name: str) -> Iterator[list[str]]:
    """Record the calls that this thread makes of a module's function, except those that raise."""
    own, found = getattr(module, name), []

    def noted(*args: Any, **kwargs: Any) -> Any:
        result = own(*args, **kwargs)
        found.append(name)
        return result

    with contextlib.ExitStack() as undo:
        replace_method(undo, module, name, noted)
        yield found


def stand_in(layer: Any, **changed: Any) -> Any:
    """Return a copy of a layer that shares its weights and has other attributes."""
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer) | changed)
    return twin
