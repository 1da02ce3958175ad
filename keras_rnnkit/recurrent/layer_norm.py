"""The three classical cells with layer normalization of the products, before the gates."""

from typing import Any

import keras
from keras import ops

from keras_rnnkit.recurrent.classical import GRUCell, LSTMCell, SimpleRNNCell
from keras_rnnkit.recurrent.equations import input_masks, narrowed, product, recurrent_masks

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


def _norm(cell: Any, name: str, width: int, center: bool = True) -> keras.layers.LayerNormalization:
    """A built norm of a cell, over its last axis."""
    norm = keras.layers.LayerNormalization(
        epsilon=cell.epsilon, center=center, name=name, dtype=cell.dtype_policy
    )
    norm.build((None, width))
    return norm


@register
class LayerNormSimpleRNNCell(SimpleRNNCell):
    r"""The SimpleRNN with the sum of both products normalized, before the bias.

    .. math::

        h_t = \tanh(\mathrm{LN}(x_t W + h_{t-1} U) + b)

    State, gate and arguments are those of `rk.SimpleRNNCell`. After its weights comes the gain of
    the norm, (units,): the bias is its shift, as in TensorFlow Addons. The norm divides by
    :math:`\sqrt{\mathrm{var} + \epsilon}`, :math:`\epsilon = 10^{-5}`.

    Source: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.RNN(rk.cells.LayerNormSimpleRNNCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    """

    epsilon = 1e-5

    def build(self, input_shape: Any) -> None:
        """Make the weights of the SimpleRNN, and the gain."""
        super().build(input_shape)
        self.norm = _norm(self, "norm", self.units, center=False)

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return `x W`; the bias comes after the norm."""
        return product(inputs, self.kernel, input_masks(self, inputs, training))

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Cell`."""
        h = states[0]
        inner = product(h, self.recurrent_kernel, recurrent_masks(self, h, training))
        joined = self.norm(projected + inner)
        n = self.activation(ops.add(joined, self.bias) if self.use_bias else joined)
        return [n], [n]


@register
class LayerNormLSTMCell(LSTMCell):
    r"""The LSTM with both products and the new c normalized.

    .. math::

        \begin{aligned}
        (i_t, f_t, g_t, o_t) &= (\sigma, \sigma, \tanh, \sigma)
            (\mathrm{LN}_x(x_t W) + \mathrm{LN}_h(h_{t-1} U) + b) \\
        c_t &= \mathrm{LN}_c(f_t \odot c_{t-1} + i_t \odot g_t) \\
        h_t &= o_t \odot \tanh(c_t)
        \end{aligned}

    Each norm is over all four gates together. States, gates and arguments are those of
    `rk.LSTMCell`. After its weights come gain and shift of :math:`\mathrm{LN}_x`, (4 units,), of
    :math:`\mathrm{LN}_h`, (4 units,), and of :math:`\mathrm{LN}_c`, (units,), all placed as in
    TensorFlow Addons. The norms divide by :math:`\sqrt{\mathrm{var} + \epsilon}`,
    :math:`\epsilon = 10^{-3}`.

    Source: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.RNN(rk.cells.LayerNormLSTMCell(4), return_state_sequences=True)
    >>> output, h, c = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(c.shape)
    (2, 5, 4)
    """

    epsilon = 1e-3

    def build(self, input_shape: Any) -> None:
        """Make the weights of the LSTM, and the norms."""
        super().build(input_shape)
        self.kernel_norm = _norm(self, "kernel_norm", 4 * self.units)
        self.recurrent_norm = _norm(self, "recurrent_norm", 4 * self.units)
        self.state_norm = _norm(self, "state_norm", self.units)

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return `LN(x W)`."""
        return self.kernel_norm(super().project(inputs, training))

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Cell`."""
        h, c = states
        inner = product(h, self.recurrent_kernel, recurrent_masks(self, h, training))
        joined = projected + self.recurrent_norm(inner)
        if self.use_bias:
            joined = ops.add(joined, self.bias)
        i, f, g, o = ops.split(joined, 4, axis=-1)
        gate, activation = self.recurrent_activation, self.activation
        i, f, g, o = gate(i), gate(f), activation(g), gate(o)
        c = self.state_norm(f * c + i * g)
        h = o * activation(c)
        return [i, f, g, o], [narrowed(self, h), c]


@register
class LayerNormGRUCell(GRUCell):
    r"""The GRU with both products normalized.

    .. math::

        \begin{aligned}
        (x_z, x_r, x_n) &= \mathrm{LN}_x(x_t W) + b \qquad
        (u_z, u_r, u_n) = \mathrm{LN}_h(h_{t-1} U) + d \\
        z_t &= \sigma(x_z + u_z) \qquad r_t = \sigma(x_r + u_r) \qquad
        n_t = \tanh(x_n + r_t \odot u_n) \\
        h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t
        \end{aligned}

    Each norm is over all three gates together. State, gates and arguments are those of
    `rk.GRUCell`, with `reset_after=True`. After its weights come gain and shift of
    :math:`\mathrm{LN}_x` and of :math:`\mathrm{LN}_h`, each (3 units,). The norms divide by
    :math:`\sqrt{\mathrm{var} + \epsilon}`, :math:`\epsilon = 10^{-3}`.

    Raises:
        ValueError: If the cell is built with `reset_after=False`.

    Source: Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.RNN(rk.cells.LayerNormGRUCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 4)
    """

    epsilon = 1e-3

    def build(self, input_shape: Any) -> None:
        """Make the weights of the GRU, and the norms."""
        if not self.reset_after:
            raise ValueError(
                f"{self.name!r} normalizes the product of state and kernel, to which the reset "
                "gate is applied: `reset_after` must be True; received False. Leave it out."
            )
        super().build(input_shape)
        self.kernel_norm = _norm(self, "kernel_norm", 3 * self.units)
        self.recurrent_norm = _norm(self, "recurrent_norm", 3 * self.units)

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return `LN(x W) + b`."""
        product_x = product(inputs, self.kernel, input_masks(self, inputs, training))
        projected = self.kernel_norm(product_x)
        return ops.add(projected, self.bias[0]) if self.use_bias else projected

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Cell`."""
        h = states[0]
        inner = product(h, self.recurrent_kernel, recurrent_masks(self, h, training))
        inner = self.recurrent_norm(inner)
        if self.use_bias:
            inner = inner + self.bias[1]
        z, r, n = ops.split(projected, 3, axis=-1)
        inner_z, inner_r, inner_n = ops.split(inner, 3, axis=-1)
        z, r = self.recurrent_activation(z + inner_z), self.recurrent_activation(r + inner_r)
        n = self.activation(n + r * inner_n)
        return [z, r, n], [z * h + (1 - z) * n]
