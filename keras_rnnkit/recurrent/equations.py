"""The equations of each cell, written once: for cells, for loops that record, and for replay.

The cells of this package inherit them. Keras's own cells use the same names of weights, and are
passed as `self`: `LSTMEquations.step(cell, projected, states)`. A step is two functions:

    projected     = project(inputs)          the part that needs no state
    gates, states = step(projected, states)  the equations

Both accept any number of axes between the batch and the features: one step, or all steps at once if
the state before each is known.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_rnnkit.recurrent.watch import stand_in


def product(inputs: Any, kernel: Any, masks: Any = None) -> Any:
    """Multiply inputs by a kernel under dropout masks: none, one for all gates, or one a gate."""
    if masks is None:
        return _matmul(inputs, kernel)
    if not isinstance(masks, (list, tuple)):
        return _matmul(inputs * masks, kernel)
    blocks = ops.split(kernel, len(masks), axis=-1)
    parts = [_matmul(inputs * m, block) for m, block in zip(masks, blocks, strict=True)]
    return ops.concatenate(parts, axis=-1)


def _matmul(inputs: Any, kernel: Any) -> Any:
    """One product for all steps: TensorFlow would compute one a sample, also in the gradient."""
    if inputs.ndim == 2:
        return ops.matmul(inputs, kernel)
    *lead, features = ops.shape(inputs)
    flat = ops.matmul(ops.reshape(inputs, (-1, features)), kernel)
    return ops.reshape(flat, (*lead, kernel.shape[-1]))


def input_masks(cell: Any, inputs: Any, training: bool) -> Any:
    """Masks of `dropout`, drawn once a pass; None where nothing is dropped."""
    return _constant(cell.get_dropout_mask, inputs) if training and cell.dropout else None


def recurrent_masks(cell: Any, h: Any, training: bool) -> Any:
    """Masks of `recurrent_dropout`: on the way into the gates, never on the state itself."""
    dropped = training and cell.recurrent_dropout
    return _constant(cell.get_recurrent_dropout_mask, h) if dropped else None


def with_dropped_weights(cell: Any, h: Any, training: bool) -> Any:
    """The cell with `weight_dropout` applied to its recurrent kernel; itself if nothing is dropped.

    To be called once a pass, before the loop or kernel. `h` is the state, for which the masks of
    `recurrent_dropout` are drawn too.
    """
    if not (training and getattr(cell, "weight_dropout", None)):
        return cell
    cell.get_recurrent_dropout_mask(h)
    kernel = ops.cast(cell.recurrent_kernel, cell.compute_dtype)
    return stand_in(cell, recurrent_kernel=kernel * cell.weight_mask)


def cut(joined: Any, sizes: list[int]) -> list[Any]:
    """Cut the last axis into parts of these sizes.

    By slices: Keras's split by places waits for the GPU on torch.
    """
    ends = itertools.accumulate(sizes)
    return [joined[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _constant(draw: Any, like: Any) -> Any:
    """The masks that a cell draws for one step, with as many axes as `like`."""
    if like.ndim == 2:
        return draw(like)
    drawn = draw(like[:, 0])
    if isinstance(drawn, (list, tuple)):
        return [ops.expand_dims(mask, 1) for mask in drawn]
    return ops.expand_dims(drawn, 1)


class Equations:
    """What one step of a cell computes.

    Attributes:
        state_names: Names of the states, in the order of the cell's `state_size`.
        gate_names: Names of the gates, in the order of the blocks of the cell's kernel.
    """

    state_names: tuple[str, ...]
    gate_names: tuple[str, ...]

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return the part of every gate that needs no state: (batch, ..., gates * units)."""
        raise NotImplementedError

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step.

        Args:
            projected: What `project` returned.
            states: The states before the step, each (batch, ..., units).
            training: Whether dropout applies.

        Returns:
            The gates after their activations, in the order of `gate_names`, and the states after
            the step, in the order of `state_names`.
        """
        raise NotImplementedError

    def call(self: Any, inputs: Any, states: Any, training: bool = False) -> Any:
        """Take one step as `keras.layers.RNN` asks for it."""
        listed = isinstance(states, (list, tuple))
        before = states if listed else [states]
        projected = self.project(inputs, training)
        dropped = with_dropped_weights(self, before[0], training)
        gates, new = dropped.step(projected, before, training)
        require_named(self, gates, new)
        output = ops.concatenate([new[0], *new], axis=-1) if self.return_state else new[0]
        return output, new if listed else new[0]

    def fused_kind(self: Any) -> str | None:
        """Name of the fused kernel that computes these equations, or None.

        One of `"lstm"`, `"gru"`, `"rnn_tanh"`, `"rnn_relu"`.
        """
        return None

    def fused_weights(self: Any) -> tuple[Any, ...]:
        """Return (kernel, recurrent kernel, input bias, recurrent bias) in cuDNN's gate order.

        For an LSTM with a projection its kernel follows.
        """
        kernel = ops.convert_to_tensor(self.kernel)
        none = ops.zeros(kernel.shape[-1:], kernel.dtype)
        bias = ops.convert_to_tensor(self.bias) if self.use_bias else none
        return kernel, ops.convert_to_tensor(self.recurrent_kernel), bias, none


class SimpleRNNEquations(Equations):
    """`h' = activation(x W + b + h U)`."""

    state_names = ("h",)
    gate_names = ("n",)

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return `x W + b`; see `Equations`."""
        projected = product(inputs, self.kernel, input_masks(self, inputs, training))
        return ops.add(projected, self.bias) if self.use_bias else projected

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Equations`."""
        h = states[0]
        inner = product(h, self.recurrent_kernel, recurrent_masks(self, h, training))
        n = self.activation(projected + inner)
        return [n], [n]

    def fused_kind(self: Any) -> str | None:
        """Name the fused kernel; see `Equations`."""
        kinds = [f"rnn_{name}" for name in ("tanh", "relu") if computes(self.activation, name)]
        return kinds[0] if kinds else None


class LSTMEquations(Equations):
    """`i, f, o = sigmoid(...)`, `g = tanh(...)`, `c' = f c + i g`, `h' = o tanh(c')`, projected."""

    state_names = ("h", "c")
    gate_names = ("i", "f", "g", "o")

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return `x W`: TensorFlow does not fuse b into it, but into the sum of both products."""
        return product(inputs, self.kernel, input_masks(self, inputs, training))

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Equations`."""
        h, c = states
        inner = product(h, self.recurrent_kernel, recurrent_masks(self, h, training))
        joined = projected + inner
        if self.use_bias:
            joined = ops.add(joined, self.bias)
        i, f, g, o = ops.split(joined, 4, axis=-1)
        gate, activation = self.recurrent_activation, self.activation
        i, f, g, o = gate(i), gate(f), activation(g), gate(o)
        c = f * c + i * g
        h = o * activation(c)
        return [i, f, g, o], [narrowed(self, h), c]

    def leak_and_drive(self: Any, inputs: Any, h: Any, training: bool) -> tuple[Any, Any]:
        """The terms f and i g of `c' = f c + i g`, linear in c, for inputs not yet projected.

        Without o, which c does not need: a quarter of the work.
        """
        size, gate = 3 * self.units, self.recurrent_activation
        drawn = input_masks(self, inputs, training), recurrent_masks(self, h, training)
        x_masks, h_masks = (m[:3] if isinstance(m, (list, tuple)) else m for m in drawn)
        joined = product(inputs, self.kernel[:, :size], x_masks)
        joined = joined + product(h, self.recurrent_kernel[:, :size], h_masks)
        if self.use_bias:
            joined = ops.add(joined, self.bias[:size])
        i, f, g = ops.split(joined, 3, axis=-1)
        return gate(f), gate(i) * self.activation(g)

    def fused_kind(self: Any) -> str | None:
        """Name the fused kernel; see `Equations`."""
        return "lstm" if _tanh_and_sigmoid(self) else None

    def fused_weights(self: Any) -> tuple[Any, ...]:
        """Return the weights, with the projection's; see `Equations`."""
        weights = Equations.fused_weights(self)
        if getattr(self, "projection", None) is None:
            return weights
        return (*weights, ops.convert_to_tensor(self.projection_kernel))


def narrowed(cell: Any, h: Any) -> Any:
    """The h of an LSTM after its projection; unchanged if the cell has none."""
    if vars(cell).get("projection") is None:  # quicker at each step than to miss an attribute
        return h
    return _matmul(h, cell.projection_kernel)


class GRUEquations(Equations):
    """`z, r = sigmoid(...)`, `n = tanh(...)`, `h' = z h + (1 - z) n`."""

    state_names = ("h",)
    gate_names = ("z", "r", "n")

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return `x W + b`, with the first of two biases if `reset_after`; see `Equations`."""
        projected = product(inputs, self.kernel, input_masks(self, inputs, training))
        if not self.use_bias:
            return projected
        return ops.add(projected, self.bias[0] if self.reset_after else self.bias)

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Equations`."""
        h, kernel, zr_units = states[0], self.recurrent_kernel, 2 * self.units
        masks = recurrent_masks(self, h, training)
        gate, activation = self.recurrent_activation, self.activation
        z, r, n = ops.split(projected, 3, axis=-1)
        if self.reset_after:
            inner = product(h, kernel, masks)
            if self.use_bias:
                inner = inner + self.bias[1]
            inner_z, inner_r, inner_n = ops.split(inner, 3, axis=-1)
            z, r = gate(z + inner_z), gate(r + inner_r)
            n = activation(n + r * inner_n)
        else:
            by_gate = isinstance(masks, (list, tuple))
            zr_masks, n_masks = (masks[:2], masks[2:]) if by_gate else (masks, masks)
            inner_z, inner_r = ops.split(product(h, kernel[:, :zr_units], zr_masks), 2, axis=-1)
            z, r = gate(z + inner_z), gate(r + inner_r)
            n = activation(n + product(r * h, kernel[:, zr_units:], n_masks))
        return [z, r, n], [z * h + (1 - z) * n]

    def fused_kind(self: Any) -> str | None:
        """Name the fused kernel; see `Equations`."""
        return "gru" if self.reset_after and _tanh_and_sigmoid(self) else None

    def fused_weights(self: Any) -> tuple[Any, Any, Any, Any]:
        """Return the weights, the reset gate before the update gate."""

        def reset_first(weight: Any) -> Any:
            z, r, n = ops.split(ops.convert_to_tensor(weight), 3, axis=-1)
            return ops.concatenate([r, z, n], axis=-1)

        kernel = reset_first(self.kernel)
        none = ops.zeros(kernel.shape[-1:], kernel.dtype)
        biases = reset_first(self.bias) if self.use_bias else (none, none)
        return kernel, reset_first(self.recurrent_kernel), biases[0], biases[1]


def computes(function: Any, name: str) -> bool:
    """Whether an activation is Keras's of this name, by either of the names that Keras has."""
    return function is getattr(keras.activations, name) or function is getattr(ops, name)


def _tanh_and_sigmoid(cell: Any) -> bool:
    return computes(cell.activation, "tanh") and computes(cell.recurrent_activation, "sigmoid")


def require_named(cell: Any, gates: list[Any], states: list[Any]) -> None:
    """Raise an error if a step returns another number of gates or states than the cell names."""
    for kind, names, found in (
        ("gate", cell.gate_names, gates),
        ("state", cell.state_names, states),
    ):
        if len(names) != len(found):
            raise ValueError(
                f"{type(cell).__name__} names {len(names)} {kind}s, {', '.join(names)}, and its "
                f"step returned {len(found)}. Let `step` return (gates, states), one tensor for "
                f"each name, and set `{kind}_names` to fit."
            )


_OF_KERAS: dict[type, type[Equations]] = {
    keras.layers.SimpleRNNCell: SimpleRNNEquations,
    keras.layers.LSTMCell: LSTMEquations,
    keras.layers.GRUCell: GRUEquations,
}


def step_of(cell: Any, training: Any) -> Callable[[Any, Any], Any]:
    """Return what takes a step of any cell: `(inputs, states) -> (output, states)`."""
    knows = "training" in inspect.signature(cell.call).parameters
    take = cell if callable(cell) else cell.call
    return functools.partial(take, training=training) if knows else take


def equations_of(cell: Any) -> type[Equations] | None:
    """Return the equations of a cell, or None for one whose `call` is its own."""
    kind = type(cell)
    if issubclass(kind, Equations) and kind.call is Equations.call:
        return kind
    return _OF_KERAS.get(kind)


def follows_from_h(equations: type[Equations]) -> bool:
    """Whether `replay` can compute every gate and state from the first state of every step."""
    return equations.step in {known.step for known in _OF_KERAS.values()}
