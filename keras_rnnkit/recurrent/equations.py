"""Each cell's equations, once: cells step by them, loops record by them, replay recovers by them.

An `Equations` describes a Keras cell without owning its weights, so the same text serves
`keras.layers.LSTMCell` and the cells of this package. Two functions make a step:

    projected     = project(cell, x)               the part that needs no state
    gates, states = step(cell, projected, states)  the equations

Both accept any number of axes between the batch and the features: one step, or all of them when
each state before a step is known.
"""

from typing import Any

import keras
from keras import ops


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
    """One product for all steps: TensorFlow makes one a sample of it, and of its gradient too."""
    if inputs.ndim == 2:
        return ops.matmul(inputs, kernel)
    *lead, features = ops.shape(inputs)
    flat = ops.matmul(ops.reshape(inputs, (-1, features)), kernel)
    return ops.reshape(flat, (*lead, kernel.shape[-1]))


def _dropout_masks(drawn: Any, like: Any) -> Any:
    """The masks that the cell has drawn, each with the axes of `like`: constant over time."""
    if drawn is None or like.ndim == 2:
        return drawn
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

    def input_masks(self, cell: Any, inputs: Any, training: bool) -> Any:
        """Masks of `dropout`, drawn once a pass; None where nothing is dropped."""
        if not (training and cell.dropout):
            return None
        one_step = inputs if inputs.ndim == 2 else inputs[:, 0]
        return _dropout_masks(cell.get_dropout_mask(one_step), inputs)

    def recurrent_masks(self, cell: Any, h: Any, training: bool) -> Any:
        """Masks of `recurrent_dropout`: on the way into the gates, never on the state itself."""
        if not (training and cell.recurrent_dropout):
            return None
        one_step = h if h.ndim == 2 else h[:, 0]
        return _dropout_masks(cell.get_recurrent_dropout_mask(one_step), h)

    def input_bias(self, cell: Any) -> Any:
        """The bias that needs no state, or None."""
        return cell.bias

    def project(self, cell: Any, inputs: Any, training: bool = False) -> Any:
        """Return `x W + b` for every gate, joined: (batch, ..., gates * units)."""
        projected = product(inputs, cell.kernel, self.input_masks(cell, inputs, training))
        bias = self.input_bias(cell)
        return projected if bias is None else ops.add(projected, bias)

    def step(
        self, cell: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step.

        Args:
            cell: The cell whose weights and activations count.
            projected: What `project` returned.
            states: The states before the step, each (batch, ..., units).
            training: Whether dropout applies.

        Returns:
            The gates after their activations, in the order of `gate_names`, and the states after
            the step, in the order of `state_names`.
        """
        raise NotImplementedError

    def fused_kind(self, cell: Any) -> str | None:
        """Name of the fused kernel that computes these equations, or None.

        One of `"lstm"`, `"gru"`, `"rnn_tanh"`, `"rnn_relu"`.
        """
        raise NotImplementedError

    def fused_weights(self, cell: Any) -> tuple[Any, Any, Any, Any]:
        """Return (kernel, recurrent kernel, input bias, recurrent bias) in cuDNN's gate order."""
        kernel = ops.convert_to_tensor(cell.kernel)
        none = ops.zeros(kernel.shape[-1:], kernel.dtype)
        bias = ops.convert_to_tensor(cell.bias) if cell.use_bias else none
        return kernel, ops.convert_to_tensor(cell.recurrent_kernel), bias, none


class SimpleRNNEquations(Equations):
    """`h' = activation(x W + b + h U)`."""

    state_names = ("h",)
    gate_names = ("n",)

    def step(
        self, cell: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Equations`."""
        h = states[0]
        inner = product(h, cell.recurrent_kernel, self.recurrent_masks(cell, h, training))
        n = cell.activation(projected + inner)
        return [n], [n]

    def fused_kind(self, cell: Any) -> str | None:
        """Name the fused kernel; see `Equations`."""
        for name in ("tanh", "relu"):
            if computes(cell.activation, name):
                return f"rnn_{name}"
        return None


class LSTMEquations(Equations):
    """`i, f, o = sigmoid(...)`, `g = tanh(...)`, `c' = f c + i g`, `h' = o tanh(c')`."""

    state_names = ("h", "c")
    gate_names = ("i", "f", "g", "o")

    def input_bias(self, cell: Any) -> Any:
        """None: added after both products, where TensorFlow does not fuse it into the first."""
        return None

    def step(
        self, cell: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Equations`."""
        h, c = states
        inner = product(h, cell.recurrent_kernel, self.recurrent_masks(cell, h, training))
        joined = projected + inner
        if cell.use_bias:
            joined = ops.add(joined, cell.bias)
        i, f, g, o = ops.split(joined, 4, axis=-1)
        gate, activation = cell.recurrent_activation, cell.activation
        i, f, g, o = gate(i), gate(f), activation(g), gate(o)
        c = f * c + i * g
        h = o * activation(c)
        return [i, f, g, o], [h, c]

    def leak_and_drive(self, cell: Any, inputs: Any, h: Any, training: bool) -> tuple[Any, Any]:
        """The terms f and i g of `c' = f c + i g`, linear in c, for inputs not yet projected.

        Without o, which c does not need: a quarter of the work.
        """
        size, gate = 3 * cell.units, cell.recurrent_activation
        drawn = self.input_masks(cell, inputs, training), self.recurrent_masks(cell, h, training)
        x_masks, h_masks = (m[:3] if isinstance(m, (list, tuple)) else m for m in drawn)
        joined = product(inputs, cell.kernel[:, :size], x_masks)
        joined = joined + product(h, cell.recurrent_kernel[:, :size], h_masks)
        if cell.use_bias:
            joined = ops.add(joined, cell.bias[:size])
        i, f, g = ops.split(joined, 3, axis=-1)
        return gate(f), gate(i) * cell.activation(g)

    def fused_kind(self, cell: Any) -> str | None:
        """Name the fused kernel; see `Equations`."""
        return "lstm" if _tanh_and_sigmoid(cell) else None


class GRUEquations(Equations):
    """`z, r = sigmoid(...)`, `n = tanh(...)`, `h' = z h + (1 - z) n`."""

    state_names = ("h",)
    gate_names = ("z", "r", "n")

    def input_bias(self, cell: Any) -> Any:
        """The first of two biases with `reset_after`, else the only one."""
        return cell.bias[0] if cell.use_bias and cell.reset_after else cell.bias

    def step(
        self, cell: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Equations`."""
        h, kernel, zr_units = states[0], cell.recurrent_kernel, 2 * cell.units
        masks = self.recurrent_masks(cell, h, training)
        gate, activation = cell.recurrent_activation, cell.activation
        z, r, n = ops.split(projected, 3, axis=-1)
        if cell.reset_after:
            inner = product(h, kernel, masks)
            if cell.use_bias:
                inner = inner + cell.bias[1]
            inner_z, inner_r, inner_n = ops.split(inner, 3, axis=-1)
            z, r = gate(z + inner_z), gate(r + inner_r)
            n = activation(n + r * inner_n)
        else:
            zr_masks, n_masks = (
                (masks[:2], masks[2:]) if isinstance(masks, list) else (masks, masks)
            )
            inner_z, inner_r = ops.split(product(h, kernel[:, :zr_units], zr_masks), 2, axis=-1)
            z, r = gate(z + inner_z), gate(r + inner_r)
            n = activation(n + product(r * h, kernel[:, zr_units:], n_masks))
        return [z, r, n], [z * h + (1 - z) * n]

    def fused_kind(self, cell: Any) -> str | None:
        """Name the fused kernel; see `Equations`."""
        return "gru" if cell.reset_after and _tanh_and_sigmoid(cell) else None

    def fused_weights(self, cell: Any) -> tuple[Any, Any, Any, Any]:
        """Return the weights, the reset gate before the update gate."""

        def reset_first(weight: Any) -> Any:
            z, r, n = ops.split(ops.convert_to_tensor(weight), 3, axis=-1)
            return ops.concatenate([r, z, n], axis=-1)

        kernel = reset_first(cell.kernel)
        none = ops.zeros(kernel.shape[-1:], kernel.dtype)
        biases = reset_first(cell.bias) if cell.use_bias else (none, none)
        return kernel, reset_first(cell.recurrent_kernel), biases[0], biases[1]


def computes(function: Any, name: str) -> bool:
    """Whether an activation is Keras's of this name, by either of the names that Keras has."""
    return function is getattr(keras.activations, name) or function is getattr(ops, name)


def _tanh_and_sigmoid(cell: Any) -> bool:
    return computes(cell.activation, "tanh") and computes(cell.recurrent_activation, "sigmoid")


SIMPLE_RNN, LSTM, GRU = SimpleRNNEquations(), LSTMEquations(), GRUEquations()
_KNOWN: dict[type, Equations] = {
    keras.layers.SimpleRNNCell: SIMPLE_RNN,
    keras.layers.LSTMCell: LSTM,
    keras.layers.GRUCell: GRU,
}


def known_as(equations: Equations) -> Any:
    """Class decorator: say that the cells of a class step by these equations."""

    def register(cell_class: type) -> type:
        _KNOWN[cell_class] = equations
        return cell_class

    return register


def equations_of(cell: Any) -> Equations | None:
    """Return the equations of a cell, or None for one whose step is its own.

    A subclass counts as unknown unless it is registered: its `call` may compute something else.
    """
    return _KNOWN.get(type(cell))
