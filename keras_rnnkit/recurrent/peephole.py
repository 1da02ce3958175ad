"""PeepholeLSTMCell: an LSTM whose gates see the cell state."""

from typing import Any

import keras
from keras import ops

from keras_rnnkit.recurrent.classical import LSTMCell
from keras_rnnkit.recurrent.equations import narrowed, product, recurrent_masks

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


@register
class PeepholeLSTMCell(LSTMCell):
    r"""The LSTM whose gates also see c: the one before the step, and for o the new one.

    .. math::

        \begin{aligned}
        i_t &= \sigma(x_t W_i + h_{t-1} U_i + p_i \odot c_{t-1} + b_i) \\
        f_t &= \sigma(x_t W_f + h_{t-1} U_f + p_f \odot c_{t-1} + b_f) \\
        g_t &= \tanh(x_t W_g + h_{t-1} U_g + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(x_t W_o + h_{t-1} U_o + p_o \odot c_t + b_o) \\
        h_t &= o_t \odot \tanh(c_t)
        \end{aligned}

    States, gates, arguments and the first weights are those of `rk.LSTMCell`; then come
    :math:`p_i, p_f, p_o`, each (units,), as in TensorFlow Addons.

    Source: Gers and Schmidhuber, Recurrent nets that time and count, 2000.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.RNN(rk.cells.PeepholeLSTMCell(4), return_state_sequences=True)
    >>> output, h, c = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(c.shape), [tuple(weight.shape) for weight in layer.weights[3:]]
    ((2, 5, 4), [(4,), (4,), (4,)])
    """

    def build(self, input_shape: Any) -> None:
        """Make the weights of the LSTM, and those by which i, f and o see c."""
        super().build(input_shape)
        self.input_peephole, self.forget_peephole, self.output_peephole = (
            self.add_weight((self.units,), self.kernel_initializer, name=f"{gate}_peephole")
            for gate in ("input", "forget", "output")
        )

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Take one step; see `Cell`."""
        h, c = states
        inner = product(h, self.recurrent_kernel, recurrent_masks(self, h, training))
        joined = projected + inner
        if self.use_bias:
            joined = ops.add(joined, self.bias)
        i, f, g, o = ops.split(joined, 4, axis=-1)
        gate, activation = self.recurrent_activation, self.activation
        i, f, g = (
            gate(i + self.input_peephole * c),
            gate(f + self.forget_peephole * c),
            activation(g),
        )
        c = f * c + i * g
        o = gate(o + self.output_peephole * c)
        h = o * activation(c)
        return [i, f, g, o], [narrowed(self, h), c]
