"""The passes that a model's recurrent layers make in a call, met without changing the model.

Every recurrent layer of Keras settles its inputs (initial states, mask, dropout) and then calls
its `inner_loop`; every one of this package its `run`. While `intercepted` lasts, that method asks
a handler instead. Calls are made in a `keras.StatelessScope`, so that nothing they assign, carried
states and seeds included, reaches the model.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_rnnkit.recurrent import masks
from keras_rnnkit.recurrent.bidirectional import Bidirectional
from keras_rnnkit.recurrent.paths import named_layers
from keras_rnnkit.recurrent.rnn import RNN, Pass, StateSequences


@dataclass(frozen=True)
class Site:
    """Where a recurrent layer lies in a model.

    Attributes:
        key: The names that lead to it, joined by `/`; the root's own name only if it is the layer.
        layer: The layer.
        repeated: Whether a TimeDistributed around it calls it once for each of its outer steps.
    """

    key: str
    layer: Any
    repeated: bool


@dataclass
class Met:
    """A pass that a layer is about to make.

    Attributes:
        site: The layer that makes it.
        settled: Its inputs, in the order of processing.
        original: The method that makes it.
        arguments: What that method was called with.
    """

    site: Site
    settled: Pass
    original: Callable[..., Any]
    arguments: tuple[Any, ...]

    def own(self) -> tuple[Any, Any]:
        """Make the layer's own pass.

        Returns:
            What its method returns, and the output of every step in the order of processing.
        """
        layer = self.site.layer
        kept = layer.return_sequences
        # The kernel that runs is the same; Keras keeps the last output apart all the same.
        layer.return_sequences = True
        try:
            result = self.original(*self.arguments)
        finally:
            layer.return_sequences = kept
        return result, result.outputs if isinstance(layer, StateSequences) else result[1]

    def sequences(self) -> Any:
        """The layer's input, (batch, time, ...), in the order of the input."""
        sequences = self.settled.sequences
        return ops.flip(sequences, axis=1) if self.site.layer.go_backwards else sequences

    def through(self, cell: Any, sequences: Any) -> Any:
        """Make the pass with another cell over other sequences, in Keras's own time loop.

        Args:
            cell: Steps over the same states as the layer's.
            sequences: (batch, time, ...), in the order of the input.

        Returns:
            What the layer's own method returns.
        """
        layer = self.site.layer
        options = {"unroll": layer.unroll, "dtype": layer.dtype_policy, "name": layer.name}
        if isinstance(layer, StateSequences):
            loop = RNN(
                cell,
                return_sequences=layer.return_sequences,
                return_state_sequences=layer.return_state_sequences,
                **options,
            )
            settled = self.settled
            ordered = ops.flip(sequences, axis=1) if layer.go_backwards else sequences
            return loop.run(Pass(ordered, settled.states, settled.mask, settled.training))
        loop = keras.layers.RNN(
            cell,
            return_sequences=layer.return_sequences,
            go_backwards=layer.go_backwards,
            zero_output_for_mask=layer.zero_output_for_mask,
            **options,
        )
        _, states, mask, training = self.arguments
        return loop.inner_loop(sequences, states, mask, training=training)


def sites(root: Any) -> list[Site]:
    """Return where the recurrent layers of a model or layer lie.

    Raises:
        ValueError: If there is none.
    """
    named = named_layers(root)
    apart = [names for names, layer in named if isinstance(layer, keras.layers.TimeDistributed)]
    found = []
    taken: Counter[str] = Counter()
    for names, layer in named:
        if isinstance(layer, keras.layers.RNN):
            key = "/".join(names)
            taken[key] += 1
            repeated = any(names[: len(above)] == above or above == (root.name,) for above in apart)
            found.append(Site(numbered(key, taken[key]), layer, repeated))
    if not found:
        raise ValueError(
            f"`model_or_layer` must be or hold a recurrent layer; {root.name!r} holds none. Pass "
            "a model with a SimpleRNN, LSTM, GRU or RNN layer."
        )
    return found


def numbered(key: str, count: int) -> str:
    """Return the key of the first, second, ... of its name: `lstm`, `lstm#2`."""
    return key if count == 1 else f"{key}#{count}"


@contextlib.contextmanager
def intercepted(root: Any, handle: Callable[[Met], Any]) -> Iterator[None]:
    """While it lasts, every recurrent layer asks `handle` to make its passes."""
    with contextlib.ExitStack() as undo:
        for site in sites(root):
            ours = isinstance(site.layer, StateSequences)
            method = "run" if ours else "inner_loop"
            watched = _watched_run if ours else _watched_loop
            original = getattr(site.layer, method)
            _replace(undo, site.layer, method, watched(site, original, handle))
        for _, layer in named_layers(root):
            if isinstance(layer, Bidirectional):
                # One kernel for both directions would pass their layers by.
                _replace(undo, layer, "fuses", lambda *_: False)
            elif isinstance(layer, keras.layers.Bidirectional):
                for each in (layer.forward_layer, layer.backward_layer):
                    if hasattr(each, "use_cudnn"):
                        undo.callback(setattr, each, "use_cudnn", each.use_cudnn)
                        each.use_cudnn = False
        yield


def _replace(undo: contextlib.ExitStack, layer: Any, name: str, value: Any) -> None:
    setattr(layer, name, value)
    undo.callback(delattr, layer, name)


def _watched_run(site: Site, original: Any, handle: Any) -> Any:
    def run(settled: Pass) -> Any:
        return handle(Met(site, settled, original, (settled,)))

    return run


def _watched_loop(site: Site, original: Any, handle: Any) -> Any:
    def inner_loop(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        states = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
        ordered, steps = sequences, None
        if mask is not None and any(m is not None for m in tree.flatten(mask)):
            steps = masks.as_mask(mask)
        if site.layer.go_backwards:
            ordered = ops.flip(sequences, axis=1)
            steps = None if steps is None else ops.flip(steps, axis=1)
        settled = Pass(ordered, states, steps, bool(training))
        return handle(Met(site, settled, original, (sequences, initial_state, mask, training)))

    return inner_loop


def cells(cell: Any, states: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield each cell of a stack with its name and its states, flat; a cell alone has no name."""
    if not isinstance(cell, keras.layers.StackedRNNCells):
        yield "", cell, tree.flatten(states)
        return
    names: Counter[str] = Counter()
    for one, own in zip(cell.cells, states, strict=True):
        name = getattr(one, "name", type(one).__name__)
        names[name] += 1
        yield numbered(name, names[name]), one, tree.flatten(own)


def build(root: Any, inputs: Any) -> None:
    """Give a model or layer that was never called its weights, as its first call would."""
    if not root.built:
        root(
            tree.map_structure(
                lambda x: keras.KerasTensor(
                    tuple(x.shape), keras.backend.standardize_dtype(x.dtype)
                ),
                inputs,
            )
        )


def variables(root: Any) -> list[keras.Variable]:
    """Return every variable that a call may read or assign, carried states included."""
    found = list(root.variables)
    for site in sites(root):
        found += tree.flatten(site.layer.states or [])
    return list({id(variable): variable for variable in found}.values())


def values(of: list[keras.Variable]) -> list[Any]:
    """Return the variables' values, to be passed to a compiled function."""
    return [ops.convert_to_tensor(variable) for variable in of]


def require_rows(root: Any, batch_size: int, **parts: Any) -> None:
    """Refuse what cannot go through a model row by row.

    Args:
        root: A model or layer.
        batch_size: Rows to a call.
        **parts: What goes with the rows, by the argument's name; None where it was left out.
    """
    if not isinstance(root, keras.Layer):
        raise ValueError(
            f"The model must be a Keras model or layer; received {type(root).__name__}. Load a "
            "saved one with keras.saving.load_model."
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
    """Return some rows of every array of the inputs, as tensors."""
    return tree.map_structure(lambda x: ops.convert_to_tensor(x[rows]), inputs)
