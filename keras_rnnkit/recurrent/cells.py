"""SimpleRNNCell, LSTMCell, GRUCell: one step, with states and gates that have names."""

from typing import Any

import keras
from keras import ops

from keras_rnnkit.recurrent.equations import GRU, LSTM, SIMPLE_RNN, Equations, known_as

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


class NamedStates:
    """What the three cells add to Keras's: `return_state`, `unpack` and the names."""

    equations: Equations
    units: int
    name: str

    def __init__(self, units: int, *args: Any, return_state: bool = False, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)  # type: ignore[call-arg]
        self.return_state = return_state
        if return_state:
            self.output_size = units * (1 + len(self.state_names))

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, in the order of the step's second result."""
        return self.equations.state_names

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Names of the gates, in the order of the kernel's blocks."""
        return self.equations.gate_names

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """Take one step; see the class."""
        listed = isinstance(states, (list, tuple))
        projected = self.equations.project(self, inputs, training)
        _, new = self.equations.step(self, projected, states if listed else [states], training)
        output = ops.concatenate([new[0], *new], axis=-1) if self.return_state else new[0]
        return output, new if listed else new[0]

    def unpack(self, outputs: Any) -> tuple[Any, ...]:
        """Split what the cell, or a layer around it, returned under `return_state=True`.

        Args:
            outputs: (..., units * (1 + number of states)).

        Returns:
            `(output, *states)`, each (..., units), in the order of `state_names`.

        Raises:
            ValueError: If the cell does not return states, or the last axis has another length.
        """
        parts = 1 + len(self.state_names)
        if not self.return_state:
            raise ValueError(
                f"`unpack` needs a cell that returns its states; {self.name!r} was made with "
                "return_state=False. Pass return_state=True to the cell."
            )
        if outputs.shape[-1] != parts * self.units:
            raise ValueError(
                f"`outputs` must have {parts} x {self.units} = {parts * self.units} features "
                f"(output, {', '.join(self.state_names)}); received shape {tuple(outputs.shape)}. "
                "Pass what this cell's layer returned, before any other layer."
            )
        return tuple(ops.split(outputs, parts, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """Return Keras's configuration, what it leaves out, and `return_state`."""
        config = {**super().get_config(), "return_state": self.return_state}  # type: ignore[misc]
        if hasattr(self, "implementation"):
            config["implementation"] = self.implementation
        return config


@register
@known_as(SIMPLE_RNN)
class SimpleRNNCell(NamedStates, keras.layers.SimpleRNNCell):
    r"""Keras's SimpleRNNCell that can return its state beside its output.

    .. math::

        h_t = \mathrm{activation}(x_t W + b + h_{t-1} U)

    One state, `h`, and one gate, `n`: the new value itself, which is also the output.

    Args:
        units: Size of the state.
        return_state: Whether the step's output is `[output, h]` joined on the last axis, so that
            any `keras.layers.RNN` stacks the states over time; `unpack` takes it apart.
        **kwargs: Keras's own arguments (`keras.layers.SimpleRNNCell`).

    Call arguments:
        inputs: (batch, features).
        states: `[h]`, (batch, units).
        training: Whether `dropout` and `recurrent_dropout` apply. The masks stay the same from
            step to step until a layer, or `reset_dropout_mask`, draws new ones.

    Returns:
        `(output, [h])`, in the cell's compute dtype.

    Masks are a layer's business. Note that on JAX `keras.layers.RNN` takes the first state for
    the output of a masked step and fails when the output is wider; use `rk.RNN` there.

    Raises:
        ValueError: If `units` is not positive.

    Source: Elman, Finding structure in time, 1990.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> cell = rk.SimpleRNNCell(4, return_state=True)
    >>> y = keras.layers.RNN(cell, return_sequences=True)(np.ones((2, 5, 3), "float32"))
    >>> output, h = cell.unpack(y)
    >>> tuple(h.shape)
    (2, 5, 4)
    """

    equations = SIMPLE_RNN


@register
@known_as(LSTM)
class LSTMCell(NamedStates, keras.layers.LSTMCell):
    r"""Keras's LSTMCell that can return its states beside its output.

    .. math::

        \begin{aligned}
        i_t &= \sigma(x_t W_i + h_{t-1} U_i + b_i) & f_t &= \sigma(x_t W_f + h_{t-1} U_f + b_f) \\
        g_t &= \tanh(x_t W_g + h_{t-1} U_g + b_g)  & o_t &= \sigma(x_t W_o + h_{t-1} U_o + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t   & h_t &= o_t \odot \tanh(c_t)
        \end{aligned}

    Two states, `h` and `c`; four gates in the order `i`, `f`, `g`, `o` of Keras's kernel (input,
    forget, candidate, output). The output is `h`; :math:`\sigma` stands for
    `recurrent_activation` and tanh for `activation`.

    Args:
        units: Size of each state.
        return_state: Whether the step's output is `[output, h, c]` joined on the last axis, so
            that any `keras.layers.RNN` stacks the states over time; `unpack` takes it apart.
        **kwargs: Keras's own arguments (`keras.layers.LSTMCell`). `implementation=1` draws one
            dropout mask a gate, `2` one for all; the sums are made in the same way.

    Call arguments:
        inputs: (batch, features).
        states: `[h, c]`, each (batch, units).
        training: Whether `dropout` and `recurrent_dropout` apply. The masks stay the same from
            step to step until a layer, or `reset_dropout_mask`, draws new ones.

    Returns:
        `(output, [h, c])`, in the cell's compute dtype.

    Masks are a layer's business. Note that on JAX `keras.layers.RNN` takes the first state for
    the output of a masked step and fails when the output is wider; use `rk.RNN` there.

    Raises:
        ValueError: If `units` is not positive.

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997; the forget gate: Gers,
    Schmidhuber and Cummins, Learning to forget, 2000.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> cell = rk.LSTMCell(4, return_state=True)
    >>> y = keras.layers.RNN(cell, return_sequences=True)(np.ones((2, 5, 3), "float32"))
    >>> output, h, c = cell.unpack(y)
    >>> cell.state_names, cell.gate_names, tuple(c.shape)
    (('h', 'c'), ('i', 'f', 'g', 'o'), (2, 5, 4))
    """

    equations = LSTM


@register
@known_as(GRU)
class GRUCell(NamedStates, keras.layers.GRUCell):
    r"""Keras's GRUCell that can return its state beside its output.

    .. math::

        \begin{aligned}
        z_t &= \sigma(x_t W_z + b_z + h_{t-1} U_z + d_z) \\
        r_t &= \sigma(x_t W_r + b_r + h_{t-1} U_r + d_r) \\
        n_t &= \tanh(x_t W_n + b_n + r_t \odot (h_{t-1} U_n + d_n)) \\
        h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t
        \end{aligned}

    With `reset_after=False` there is no second bias d and
    :math:`n_t = \tanh(x_t W_n + b_n + (r_t \odot h_{t-1}) U_n)`. One state, `h`, which is
    the output; three gates in the order `z`, `r`, `n` of Keras's kernel (update, reset,
    candidate). `z` keeps the old state, as in Keras; other texts swap `z` and `1 - z`.

    Args:
        units: Size of the state.
        return_state: Whether the step's output is `[output, h]` joined on the last axis, so that
            any `keras.layers.RNN` stacks the states over time; `unpack` takes it apart.
        **kwargs: Keras's own arguments (`keras.layers.GRUCell`). `implementation=1` draws one
            dropout mask a gate, `2` one for all; the sums are made in the same way.

    Call arguments:
        inputs: (batch, features).
        states: `[h]`, (batch, units).
        training: Whether `dropout` and `recurrent_dropout` apply. The masks stay the same from
            step to step until a layer, or `reset_dropout_mask`, draws new ones.

    Returns:
        `(output, [h])`, in the cell's compute dtype.

    Masks are a layer's business. Note that on JAX `keras.layers.RNN` takes the first state for
    the output of a masked step and fails when the output is wider; use `rk.RNN` there.

    Raises:
        ValueError: If `units` is not positive.

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014; the reset
    after the product is cuDNN's form of it.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> cell = rk.GRUCell(4, return_state=True)
    >>> y = keras.layers.RNN(cell, return_sequences=True)(np.ones((2, 5, 3), "float32"))
    >>> output, h = cell.unpack(y)
    >>> cell.gate_names
    ('z', 'r', 'n')
    """

    equations = GRU
