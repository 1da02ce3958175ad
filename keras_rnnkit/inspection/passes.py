"""The passes of a model's recurrent layers in a call, observed without changing the model.

Every recurrent layer of Keras prepares its inputs (initial states, mask, dropout) and then calls
its `inner_loop`; every layer of this library its `run`. Inside `intercepted`, that method calls a
handler instead, in this thread only: other threads go on with the method of the layer. Calls are
made in a `keras.StatelessScope`, so that nothing they assign, carried states and seeds included,
reaches the model. What needs another attribute runs on a `stand_in`.
"""

import contextlib
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops, tree

from keras_rnnkit.recurrent import masks
from keras_rnnkit.recurrent.paths import named_layers
from keras_rnnkit.recurrent.rnn import RNN, Pass, RecurrentLayer
from keras_rnnkit.recurrent.watch import looking, replace_method, stand_in

STEPPED = "stepped by the model itself: its states are seen when it runs in a keras.layers.RNN"


@dataclass(frozen=True)
class Site:
    """Where a recurrent layer, or a cell that a model steps by itself, lies in a model.

    Attributes:
        key: The names that lead to it, joined by `/`; the root's own name only if it is the layer.
        layer: The layer or cell.
    """

    key: str
    layer: Any

    @property
    def is_cell(self) -> bool:
        """Whether it is a cell."""
        return not isinstance(self.layer, keras.layers.RNN)


@dataclass
class Met:
    """A pass that a layer is about to make.

    Attributes:
        key: The layer's, numbered from its second call on; the outer steps of a call of a
            TimeDistributed have one.
        layer: The layer that makes it.
        settled: Its inputs, in the order of processing.
        method: The name of the method that makes it.
        arguments: What that method was called with.
    """

    key: str
    layer: Any
    settled: Pass
    method: str
    arguments: tuple[Any, ...]

    def own(self) -> tuple[Any, Any]:
        """Make the layer's own pass.

        Returns:
            What its method returns, and the output of every step in the order of processing.
        """
        # The kernel that runs is the same; Keras keeps the last output apart all the same.
        twin = stand_in(self.layer, return_sequences=True)
        result = getattr(type(self.layer), self.method)(twin, *self.arguments)
        return result, result.outputs if isinstance(twin, RecurrentLayer) else result[1]

    def through(self, cell: Any, sequences: Any, states: Any) -> Any:
        """Make the pass with another cell over other inputs, in Keras's own time loop.

        Args:
            cell: Steps over the same states as the layer's.
            sequences: (batch, time, ...), in the order of processing.
            states: The states before the first step.

        Returns:
            What the layer's own method returns.
        """
        layer, settled = self.layer, self.settled
        options = {
            "return_sequences": layer.return_sequences,
            "unroll": layer.unroll,
            "dtype": layer.dtype_policy,
            "name": layer.name,
        }
        if isinstance(layer, RecurrentLayer):
            keeps = layer.return_state_sequences
            loop = RNN(cell, return_state_sequences=keeps, **options)
            return loop.run(replace(settled, sequences=sequences, states=states))
        zero = layer.zero_output_for_mask
        loop = keras.layers.RNN(cell, zero_output_for_mask=zero, **options)
        return loop.inner_loop(sequences, states, settled.mask, training=settled.training)


def sites(root: Any) -> list[Site]:
    """Return where the recurrent layers of a model or layer lie, and cells outside of them.

    Raises:
        ValueError: If there is none.
    """
    found: list[Site] = []
    cells: list[tuple[str, ...]] = []
    taken: Counter[str] = Counter()
    for names, layer in named_layers(root):
        if not (isinstance(layer, keras.layers.RNN) or _is_cell(layer)):
            continue
        if any(names[: len(above)] == above for above in cells):  # of a stack
            continue
        key = "/".join(names)
        taken[key] += 1
        found.append(Site(numbered(key, taken[key]), layer))
        if found[-1].is_cell:
            cells.append(names)
    if not found:
        raise ValueError(
            f"`model_or_layer` must be or hold a recurrent layer; {root.name!r} holds none. Pass "
            "a model with a SimpleRNN, LSTM, GRU or RNN layer."
        )
    return found


def _is_cell(layer: Any) -> bool:
    """Whether a layer is what `keras.layers.RNN` takes for a cell."""
    if isinstance(layer, keras.layers.RNN) or not hasattr(layer, "state_size"):
        return False
    return any(name.startswith("state") for name in inspect.signature(layer.call).parameters)


def numbered(key: str, count: int) -> str:
    """Return the key of the first, second, ... of its name: `lstm`, `lstm#2`."""
    return key if count == 1 else f"{key}#{count}"


@contextlib.contextmanager
def intercepted(root: Any, handle: Callable[[Met], Any]) -> Iterator[dict[str, Any]]:
    """Inside it, every recurrent layer calls `handle` to make the passes of this thread.

    Yields:
        By key, the cells that the model has stepped by itself so far; a recurrent layer is listed
        there by its cell if it has made no pass.
    """
    calls: Counter[str] = Counter()
    outer: list[tuple[Any, Counter[str]]] = []  # TimeDistributed calls under way
    stepped: dict[str, Any] = {}
    met: set[str] = set()

    def meet(site: Site, settled: Pass, method: str, *arguments: Any) -> Any:
        met.add(site.key)
        stepped.pop(site.key, None)
        calls[site.key] += 1
        key = numbered(site.key, calls[site.key])
        return handle(Met(key, site.layer, settled, method, arguments))

    def note(site: Site, cell: Any, own: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if site.key not in met:
                stepped[site.key] = cell
            return own(*args, **kwargs)

        return call

    def outer_steps(layer: Any, own: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            outer.append((layer, calls.copy()))
            try:
                return own(*args, **kwargs)
            finally:
                outer.pop()

        return call

    def outer_step(layer: Any, own: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if outer and outer[-1][0] is layer:
                calls.clear()
                calls.update(outer[-1][1])
            return own(*args, **kwargs)

        return call

    with looking, contextlib.ExitStack() as undo:
        found = [layer for _, layer in named_layers(root)]
        for layer in found:
            # A `tf.function` made before would run its graph, and no Python.
            function = getattr(layer.call, "python_function", None)
            if function is not None:
                replace_method(undo, layer, "call", function)
            if isinstance(layer, keras.layers.Bidirectional):
                replace_method(undo, layer, "call", functools.partial(_call_apart, layer))
        for site in sites(root):
            cell = site.layer if site.is_cell else site.layer.cell
            if isinstance(cell, keras.Layer):
                replace_method(undo, cell, "call", note(site, cell, cell.call))
            if isinstance(site.layer, RecurrentLayer):
                replace_method(undo, site.layer, "run", functools.partial(_watched_run, site, meet))
            elif not site.is_cell:
                watched = functools.partial(_watched_loop, site, meet)
                replace_method(undo, site.layer, "inner_loop", watched)
        for layer in found:
            if isinstance(layer, keras.layers.TimeDistributed):
                replace_method(undo, layer, "call", outer_steps(layer.layer, layer.call))
                replace_method(undo, layer.layer, "call", outer_step(layer.layer, layer.layer.call))
        yield stepped


class _Apart:
    """A direction that Bidirectional does not fuse with the other."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._layer(*args, **kwargs)


def _call_apart(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a Bidirectional so that each direction makes a pass of its own."""
    directions = {
        name: _Apart(getattr(layer, name)) for name in ("forward_layer", "backward_layer")
    }
    return type(layer).call(stand_in(layer, **directions), *args, **kwargs)


def _watched_run(site: Site, meet: Any, settled: Pass) -> Any:
    return meet(site, settled, "run", settled)


def _watched_loop(
    site: Site, meet: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
) -> Any:
    states = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
    ordered, steps = sequences, None
    if mask is not None and any(m is not None for m in tree.flatten(mask)):
        steps = masks.as_mask(mask)
    if site.layer.go_backwards:
        ordered = ops.flip(sequences, axis=1)
        steps = None if steps is None else ops.flip(steps, axis=1)
    settled = Pass(ordered, states, steps, bool(training))
    return meet(site, settled, "inner_loop", sequences, initial_state, mask, training)


def cells(cell: Any, states: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield each cell of a stack with its name and its states; a cell alone has no name."""
    if not isinstance(cell, keras.layers.StackedRNNCells):
        yield "", cell, states
        return
    names: Counter[str] = Counter()
    for one, own in zip(cell.cells, states, strict=True):
        name = getattr(one, "name", type(one).__name__)
        names[name] += 1
        yield numbered(name, names[name]), one, list(own) if tree.is_nested(own) else [own]


def build(root: Any, inputs: Any) -> None:
    """Give a model or layer that was never called its weights, as its first call would."""
    with looking:
        if not root.built:
            root(symbols(inputs))


def symbols(inputs: Any) -> Any:
    """Return the inputs without their values."""
    return tree.map_structure(
        lambda x: keras.KerasTensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)),
        inputs,
    )


def variables(root: Any) -> list[keras.Variable]:
    """Return every variable that a call may read or assign, carried states included."""
    found = list(root.variables)
    for site in sites(root):
        found += tree.flatten(getattr(site.layer, "states", None) or [])
    return list({id(variable): variable for variable in found}.values())


def values(of: list[keras.Variable]) -> list[Any]:
    """Return the variables' values, to be passed to a compiled function."""
    return [ops.convert_to_tensor(variable) for variable in of]


def require_rows(root: Any, batch_size: int, **parts: Any) -> None:
    """Refuse arrays that cannot go through a model sample by sample.

    Args:
        root: A model or layer.
        batch_size: Samples in a call.
        **parts: Arrays, by the name of the argument; None if it was left out.
    """
    if not isinstance(root, keras.Layer):
        raise ValueError(
            f"The model must be a Keras model or layer; received {type(root).__name__}. Load a "
            "saved one with keras.saving.load_model."
        )
    if _is_cell(root):
        raise ValueError(
            f"The model must be a Keras model or layer; received the cell {root.name!r}, which "
            "takes one step. Pass keras.layers.RNN(cell)."
        )
    if batch_size < 1:
        raise ValueError(
            f"`batch_size` must be 1 or more; received {batch_size}. Leave it out for 32."
        )
    counts = {}
    for name, part in parts.items():
        for leaf in [] if part is None else tree.flatten(part):
            if len(getattr(leaf, "shape", ())) == 0:
                raise ValueError(
                    f"`{name}` must be an array with one row a sample, or a list or dict of such "
                    f"arrays; received {type(leaf).__name__}. Pass it through numpy.asarray."
                )
            counts[name] = leaf.shape[0]
            if set(counts.values()) != {leaf.shape[0]} or not leaf.shape[0]:
                rows = ", ".join(f"{count} in `{part}`" for part, count in counts.items())
                raise ValueError(
                    f"Every array must have the same number of rows, 1 or more; received {rows}. "
                    "Pass one row a sample."
                )


def rows_of(inputs: Any, rows: slice) -> Any:
    """Return some samples of every array of the inputs, as tensors."""
    return tree.map_structure(lambda x: ops.convert_to_tensor(x[rows]), inputs)
