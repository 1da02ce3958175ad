"""MinGRUCell, MinLSTMCell: gates of the input alone, so that time steps are computed at once."""

from typing import Any

import keras
from keras import ops

from keras_rnnkit.recurrent.equations import product
from keras_rnnkit.recurrent.own_cell import Cell

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


class _MinCell(Cell):
    """One kernel and one bias for all gates, which do not depend on the state."""

    state_names = ("h",)

    def build(self, input_shape: Any) -> None:
        """Make the kernel, (features, gates * units), and the bias."""
        width = len(self.gate_names) * self.units
        self.kernel = self.add_weight((input_shape[-1], width), "glorot_uniform", name="kernel")
        self.bias = self.add_weight((width,), "zeros", name="bias")

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return `x W + b`; see `Cell`."""
        return product(super().project(inputs, training), self.kernel) + self.bias


@register
class MinGRUCell(_MinCell):
    r"""The GRU whose gates do not read the state.

    .. math::

        z_t = \sigma(x_t W_z + b_z) \qquad n_t = x_t W_n + b_n \qquad
        h_t = (1 - z_t) \odot h_{t-1} + z_t \odot n_t

    One state, `h`, which is the output; gates `z` and `n`, in the order of the kernel's blocks.
    Here z weights the new value, as in the paper; in Keras's GRU it weights the old one.
    In `rk.RNN` all time steps are computed at once. The arguments are those of `rk.Cell`.

    Source: Feng et al., Were RNNs all we needed?, 2024.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.RNN(rk.cells.MinGRUCell(4), return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    gate_names = ("z", "n")

    def gates(self, projected: Any) -> list[Any]:
        """Return z and n."""
        z, n = ops.split(projected, 2, axis=-1)
        return [ops.sigmoid(z), n]

    def leak_and_drive(self, gates: list[Any]) -> tuple[Any, Any]:
        """Return `1 - z` and `z n`."""
        z, n = gates
        return 1 - z, z * n


@register
class MinLSTMCell(_MinCell):
    r"""The LSTM whose gates do not read the state, with one state, and gates that sum to one.

    .. math::

        f_t = \sigma(x_t W_f + b_f) \qquad i_t = \sigma(x_t W_i + b_i) \qquad
        g_t = x_t W_g + b_g

        h_t = \frac{f_t \odot h_{t-1} + i_t \odot g_t}{f_t + i_t}

    One state, `h`, which is the output; gates `i`, `f` and `g`, in the order of the kernel's
    blocks, before they are made to sum to one. In `rk.RNN` all time steps are computed at once. The
    arguments are those of `rk.Cell`.

    Source: Feng et al., Were RNNs all we needed?, 2024.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.RNN(rk.cells.MinLSTMCell(4), return_sequences=True)
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape)
    (2, 5, 4)
    """

    gate_names = ("i", "f", "g")

    def gates(self, projected: Any) -> list[Any]:
        """Return i, f and g."""
        i, f, g = ops.split(projected, 3, axis=-1)
        return [ops.sigmoid(i), ops.sigmoid(f), g]

    def leak_and_drive(self, gates: list[Any]) -> tuple[Any, Any]:
        """Return `f / (f + i)` and `i g / (f + i)`."""
        i, f, g = gates
        whole = f + i
        return f / whole, i * g / whole
