"""SimpleRNN, LSTM, GRU: whole sequences, with every state of every step, on the fastest path."""

from typing import Any

import keras
from keras import ops

from keras_rnnkit.recurrent import kernels, masks, paths, replay
from keras_rnnkit.recurrent.equations import Equations, equations_of
from keras_rnnkit.recurrent.rnn import Pass, RecurrentLayer, Result

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


class FusedLayer(RecurrentLayer):
    """A layer whose cell's equations are known: one kernel may run it, and replay recover it."""

    cell: Any
    use_cudnn: Any

    def __init__(self, units: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self.supports_jit = kernels.current().COMPILES or not paths.decide(self).fused

    def begin(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> Pass:
        """Settle the inputs of a call, whole numbers too; see `RecurrentLayer`."""
        sequences = ops.cast(sequences, self.cell.compute_dtype)
        return super().begin(sequences, initial_state, mask, training)

    @property
    def equations(self) -> Equations:
        """The cell's equations."""
        return equations_of(self.cell)  # type: ignore[return-value]

    def run(self, settled: Pass) -> Result:
        """Make a pass on the path that `paths.decide` names."""
        settled = settled.without_padding()
        path = paths.decide(self, settled.training, settled.sequences)
        if self.use_cudnn is True and not path.fused:
            raise ValueError(
                f"{self.name!r} has use_cudnn=True, but its fused kernel cannot run: "
                + "; ".join(f"{c.name} is {c.value}: {c.remedy}" for c in path.failed)
                + '. Pass use_cudnn="auto" to fall back to a loop.'
            )
        if path.fused:
            return self.run_fused(settled)
        equations, hoists = self.equations, kernels.current().HOISTS
        inputs = settled.sequences
        if hoists:
            inputs = equations.project(self.cell, inputs, settled.training)

        def step(states: Any, inputs_t: Any) -> Any:
            projected = inputs_t[0]
            if not hoists:
                projected = equations.project(self.cell, projected, settled.training)
            return equations.step(self.cell, projected, states, settled.training)

        last, kept = self.loop(settled, inputs, settled.states, step)
        return Result(last[0], kept[0] if kept else None, last, kept)

    def run_fused(self, settled: Pass) -> Result:
        """Run the fused kernel over the valid steps alone."""
        sequence, lengths, counts = self.packed(settled)
        (h,), (last,) = kernels.current().fused(
            self.equations.fused_kind(self.cell),
            sequence,
            [settled.states],
            [self.equations.fused_weights(self.cell)],
            lengths,
        )
        return self.unpacked(settled, h, last, counts)

    def packed(self, settled: Pass) -> Any:
        """The inputs as a fused kernel takes them: dropout applied, valid steps first."""
        sequence = settled.sequences
        dropped = self.equations.input_masks(self.cell, sequence, settled.training)
        sequence = sequence if dropped is None else sequence * dropped
        if settled.mask is None:
            return masks.Packed(sequence, None, None)
        return masks.pack(sequence, settled.mask)

    def unpacked(self, settled: Pass, h: Any, last: list[Any], counts: Any) -> Result:
        """What a fused kernel returned, back at its steps, with the states it did not return."""
        if settled.mask is not None:
            h = masks.unpack(h, settled.states[0], counts)
            ran = ops.expand_dims(counts[:, -1] > 0, -1)
            last = [
                state if state is None else ops.where(ran, state, start)
                for state, start in zip(last, settled.states, strict=True)
            ]
            last[0] = h[:, -1]
        unknown = any(state is None for state in last)
        sequences = []
        if self.return_state_sequences or (unknown and (self.return_state or self.stateful)):
            sequences = replay.states(
                self.equations,
                self.cell,
                settled.sequences,
                h,
                settled.states,
                settled.mask,
                settled.training,
            )
            if unknown:
                last = [sequence[:, -1] for sequence in sequences]
        return Result(last[0], h, last, sequences)

    def get_config(self) -> dict[str, Any]:
        """Return Keras's configuration, what it leaves out, and what this package adds."""
        config = {**super().get_config(), "use_cudnn": self.use_cudnn, "seed": self.cell.seed}
        if hasattr(self.cell, "implementation"):
            config["implementation"] = self.cell.implementation
        return config


@register
class SimpleRNN(FusedLayer, keras.layers.SimpleRNN):
    r"""Keras's SimpleRNN that can return its state at every step, and has a fused kernel.

    .. math::

        h_t = \mathrm{activation}(x_t W + b + h_{t-1} U)

    One state, `h`, which is the output. The weights go to and from `keras.layers.SimpleRNN`.

    Args:
        units: Size of the state.
        return_state_sequences: Whether to return the state of every step as well.
        save_states: Whether the carried states of a stateful layer are saved with its weights.
            Keras's own layer does not read such a file.
        **kwargs: Keras's own arguments (`keras.layers.SimpleRNN`), and `use_cudnn` as
            Keras's LSTM has it: "auto", True or False. The kernel computes tanh and relu.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: `[h]`, each (batch, units). A single row, (1, units) or (units,), stands
            for every sample.
        mask: (batch, time), true where a step counts; any pattern, rows without a step included.
            A masked step holds the state before it and shows the output before it, zero ahead of
            the first valid step; with `zero_output_for_mask` it shows zero.
        training: Whether `dropout` and `recurrent_dropout` apply.

    Returns:
        `(output, *last_states, *state_sequences)`: the states if `return_state`, the sequences
        `(h,)` if `return_state_sequences`, each (batch, time, units) in the layer's
        compute dtype. With `go_backwards` time runs as processed, as in Keras.

    Raises:
        ValueError: If there is no time axis or no time step, if states are of the wrong number or
            shape, if `unroll` meets an unknown length, or if `use_cudnn=True` and the fused
            kernel cannot run (`explain_path` says why).

    Source: Elman, Finding structure in time, 1990.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.SimpleRNN(4, return_state_sequences=True)
    >>> output, h = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(output.shape), tuple(h.shape)
    ((2, 4), (2, 5, 4))
    """

    def __init__(self, units: int, *args: Any, use_cudnn: Any = "auto", **kwargs: Any) -> None:
        if use_cudnn not in ("auto", True, False):
            raise ValueError(
                f"`use_cudnn` must be 'auto', True or False; received {use_cudnn!r}. Leave it out "
                "to take the fused kernel where it can run."
            )
        self.use_cudnn = use_cudnn
        super().__init__(units, *args, **kwargs)
        # Keras's SimpleRNN takes this argument and forgets it.
        self.activity_regularizer = keras.regularizers.get(kwargs.get("activity_regularizer"))


@register
class LSTM(FusedLayer, keras.layers.LSTM):
    r"""Keras's LSTM that can return h and c at every step, with any mask, on every path.

    .. math::

        \begin{aligned}
        i_t &= \sigma(x_t W_i + h_{t-1} U_i + b_i) & f_t &= \sigma(x_t W_f + h_{t-1} U_f + b_f) \\
        g_t &= \tanh(x_t W_g + h_{t-1} U_g + b_g)  & o_t &= \sigma(x_t W_o + h_{t-1} U_o + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t   & h_t &= o_t \odot \tanh(c_t)
        \end{aligned}

    Two states, `h` and `c`; the output is `h`. Gates lie in the kernel as `i`, `f`, `g`, `o`. The
    weights go to and from `keras.layers.LSTM`.

    Args:
        units: Size of each state.
        return_state_sequences: Whether to return both states of every step as well.
        save_states: Whether the carried states of a stateful layer are saved with its weights.
            Keras's own layer does not read such a file.
        **kwargs: Keras's own arguments (`keras.layers.LSTM`). `implementation=1`
            draws one dropout mask a gate, `2` one for all; the sums are made in the same way.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: `[h, c]`, each (batch, units). A single row, (1, units) or (units,), stands
            for every sample.
        mask: (batch, time), true where a step counts; any pattern, rows without a step included.
            A masked step holds the state before it and shows the output before it, zero ahead of
            the first valid step; with `zero_output_for_mask` it shows zero.
        training: Whether `dropout` and `recurrent_dropout` apply.

    Returns:
        `(output, *last_states, *state_sequences)`: the states if `return_state`, the sequences
        `(h, c)` if `return_state_sequences`, each (batch, time, units) in the layer's
        compute dtype. With `go_backwards` time runs as processed, as in Keras.

    Raises:
        ValueError: If there is no time axis or no time step, if states are of the wrong number or
            shape, if `unroll` meets an unknown length, or if `use_cudnn=True` and the fused
            kernel cannot run (`explain_path` says why).

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997; the forget gate: Gers,
    Schmidhuber and Cummins, Learning to forget, 2000.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.LSTM(4, return_sequences=True, return_state_sequences=True)
    >>> output, h, c = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(c.shape)
    (2, 5, 4)
    """


@register
class GRU(FusedLayer, keras.layers.GRU):
    r"""Keras's GRU that can return its state at every step, with any mask, on every path.

    .. math::

        \begin{aligned}
        z_t &= \sigma(x_t W_z + b_z + h_{t-1} U_z + d_z) \\
        r_t &= \sigma(x_t W_r + b_r + h_{t-1} U_r + d_r) \\
        n_t &= \tanh(x_t W_n + b_n + r_t \odot (h_{t-1} U_n + d_n)) \\
        h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t
        \end{aligned}

    With `reset_after=False` there is no second bias d and
    :math:`n_t = \tanh(x_t W_n + b_n + (r_t \odot h_{t-1}) U_n)`, which no fused kernel
    computes. One state, `h`, which is the output. Gates lie in the kernel as `z`, `r`, `n`. The
    weights go to and from `keras.layers.GRU`.

    Args:
        units: Size of the state.
        return_state_sequences: Whether to return the state of every step as well.
        save_states: Whether the carried states of a stateful layer are saved with its weights.
            Keras's own layer does not read such a file.
        **kwargs: Keras's own arguments (`keras.layers.GRU`). `implementation=1`
            draws one dropout mask a gate, `2` one for all; the sums are made in the same way.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: `[h]`, each (batch, units). A single row, (1, units) or (units,), stands
            for every sample.
        mask: (batch, time), true where a step counts; any pattern, rows without a step included.
            A masked step holds the state before it and shows the output before it, zero ahead of
            the first valid step; with `zero_output_for_mask` it shows zero.
        training: Whether `dropout` and `recurrent_dropout` apply.

    Returns:
        `(output, *last_states, *state_sequences)`: the states if `return_state`, the sequences
        `(h,)` if `return_state_sequences`, each (batch, time, units) in the layer's
        compute dtype. With `go_backwards` time runs as processed, as in Keras.

    Raises:
        ValueError: If there is no time axis or no time step, if states are of the wrong number or
            shape, if `unroll` meets an unknown length, or if `use_cudnn=True` and the fused
            kernel cannot run (`explain_path` says why).

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014; the reset
    after the product is cuDNN's form of it.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.GRU(4, return_sequences=True, return_state_sequences=True)
    >>> output, h = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(h.shape)
    (2, 5, 4)
    """
