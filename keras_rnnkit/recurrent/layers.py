"""SimpleRNN, LSTM, GRU: whole sequences, with every state of every step, on the fastest path."""

from __future__ import annotations  # short names of types in help and signatures

import functools
import inspect
from typing import Any, Literal, Unpack

import keras
from keras import ops

from keras_rnnkit.recurrent import kernels, masks, paths, replay
from keras_rnnkit.recurrent.arguments import (
    Activation,
    Constraint,
    DType,
    Initializer,
    LayerOptions,
    Regularizer,
    Seed,
    given,
)
from keras_rnnkit.recurrent.classical import GRUCell, LSTMCell, SimpleRNNCell
from keras_rnnkit.recurrent.equations import input_masks
from keras_rnnkit.recurrent.parts import parts_of
from keras_rnnkit.recurrent.rnn import Pass, RecurrentLayer, Result

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


class FusedLayer(RecurrentLayer):
    """A layer whose cell's equations are known: one kernel may run it, and replay recover it."""

    cell: Any
    use_cudnn: Any
    cell_of_ours: Any  # takes what Keras's cell does, `weight_dropout`, and for the LSTM more

    def __init__(self, *, weight_dropout: float, **kwargs: Any) -> None:
        added = {"weight_dropout": weight_dropout}
        if "projection" in kwargs:
            added["projection"] = kwargs.pop("projection")
        if weight_dropout or added.get("projection") is not None:
            known = set(inspect.signature(self.cell_of_ours).parameters) - {"name", "return_state"}
            taken = {name: value for name, value in kwargs.items() if name in known}
            self.__dict__["make_cell"] = functools.partial(self.cell_of_ours, **taken, **added)
        super().__init__(**kwargs)
        for name, value in added.items():
            setattr(self, name, value)
        self.supports_jit = kernels.current().COMPILES or not paths.decide(self).fused

    def begin(self, sequences: Any, *others: Any) -> Pass:
        """Settle the inputs of a call, whole numbers too; see `RecurrentLayer`."""
        return super().begin(ops.cast(sequences, self.cell.compute_dtype), *others)

    def run(self, settled: Pass) -> Result:
        """Make a pass on the path that `paths.decide` names."""
        settled = settled.without_padding()
        path = paths.decide(self, settled.training, settled.sequences, cuts=settled.cuts)
        if self.use_cudnn is True and not path.fused:
            raise ValueError(
                f"{self.name!r} has use_cudnn=True, but its fused kernel cannot run: "
                + "; ".join(f"{c.name} is {c.value}: {c.remedy}" for c in path.failed)
                + '. Pass use_cudnn="auto" to fall back to a loop.'
            )
        if path.path == "block":
            return self._run_block(settled)
        if path.fused:
            return self.run_parted(settled) if settled.cuts else self.run_fused(settled)
        inputs, step = self.by_equations(settled)
        last, kept = self.loop(settled, [inputs], settled.states, step)
        return Result(last[0], kept[0] if kept else None, last, kept)

    def run_fused(self, settled: Pass) -> Result:
        """Run the fused kernel over the valid steps alone."""
        sequence, lengths, counts = self.packed(settled)
        (h,), (last,) = kernels.current().fused(
            self.equations.fused_kind(self.cell),
            sequence,
            [settled.states],
            [self.fused_weights(settled)],
            lengths,
        )
        return self.unpacked(settled, h, last, counts)

    def run_parted(self, settled: Pass) -> Result:
        """Run the fused kernel over the parts of the rows between their resets; see `parts`."""
        kernel, kind = kernels.current(), self.equations.fused_kind(self.cell)
        mask = None if settled.mask is None else ops.convert_to_numpy(settled.mask)
        parts = parts_of(ops.convert_to_numpy(settled.resets), mask)
        sequence, weights = self.dropped(settled), self.fused_weights(settled)
        flat = ops.reshape(sequence, (-1, sequence.shape[-1]))
        pairs = zip(settled.states, settled.starts, strict=True)
        before = [ops.concatenate([x, ops.cast(start, x.dtype)]) for x, start in pairs]
        states = [ops.take(each, parts.begins, axis=0) for each in before]
        outcomes = []
        for steps in parts.pieces:
            states = [each[: len(steps)] for each in states]
            read = ops.take(flat, steps, axis=0)
            (h,), (states,) = kernel.fused(kind, read, [states], [weights], None)
            outcomes.append(ops.reshape(h, (-1, h.shape[-1])))
        h = ops.take(ops.concatenate([*outcomes, before[0]]), parts.places, axis=0)
        return self.completed(settled, h, [h[:, -1], *[None] * (len(states) - 1)])

    def fused_weights(self, settled: Pass) -> tuple[Any, ...]:
        """The weights as a fused kernel takes them in a pass."""
        return self.equations.fused_weights(self.in_pass(settled))

    def _run_block(self, settled: Pass) -> Result:
        """Run the kernel for small LSTMs, which returns every state, over the valid steps alone."""
        sequence, _, counts = self.packed(settled)
        weights = self.fused_weights(settled)
        sequences = kernels.current().block(sequence, settled.states, weights)
        if settled.mask is not None:
            sequences = [
                masks.unpack(each, start, counts)
                for each, start in zip(sequences, settled.states, strict=True)
            ]
        last = [each[:, -1] for each in sequences]
        return Result(last[0], sequences[0], last, sequences)

    def packed(self, settled: Pass) -> Any:
        """The inputs as a fused kernel takes them: dropout applied, valid steps first."""
        sequence = self.dropped(settled)
        if settled.mask is None:
            return masks.Packed(sequence, None, None)
        return masks.pack(sequence, settled.mask)

    def dropped(self, settled: Pass) -> Any:
        """The inputs with dropout applied."""
        dropped = input_masks(self.cell, settled.sequences, settled.training)
        return settled.sequences if dropped is None else settled.sequences * dropped

    def unpacked(self, settled: Pass, h: Any, last: list[Any], counts: Any) -> Result:
        """What a fused kernel returned, back at its steps, and what it did not return."""
        if settled.mask is not None:
            h = masks.unpack(h, settled.states[0], counts)
            ran = ops.expand_dims(counts[:, -1] > 0, -1)
            last = [
                state if state is None else ops.where(ran, state, start)
                for state, start in zip(last, settled.states, strict=True)
            ]
            last[0] = h[:, -1]
        return self.completed(settled, h, last)

    def completed(self, settled: Pass, h: Any, last: list[Any]) -> Result:
        """The result of h at every step, with the states that are asked for and not known."""
        unknown = any(state is None for state in last)
        sequences = []
        if self.return_state_sequences or (unknown and (self.return_state or self.stateful)):
            sequences = replay.states(
                self.equations,
                self.in_pass(settled),
                settled.sequences,
                h,
                settled.states,
                settled.mask,
                settled.training,
                settled.resets,
                settled.starts,
            )
            if unknown:
                last = [sequence[:, -1] for sequence in sequences]
        return Result(last[0], h, last, sequences)

    def get_config(self) -> dict[str, Any]:
        """Return Keras's configuration, what it leaves out, and what this package adds."""
        config = {**super().get_config(), "use_cudnn": self.use_cudnn, "seed": self.cell.seed}
        if hasattr(self.cell, "implementation"):
            config["implementation"] = self.cell.implementation
        for name in ("weight_dropout", "projection"):
            if hasattr(self, name):
                config[name] = getattr(self, name)
        return config


class TakesCell(keras.layers.RNN):
    """Stands behind Keras's three layers, which hand it a cell they made.

    Where `make_cell` is there, the cell that it makes comes in the place of Keras's.
    """

    make_cell: Any = None

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        if self.make_cell is not None:
            cell = self.__dict__.pop("make_cell")(name=cell.name)
        super().__init__(cell, **kwargs)


@register
class SimpleRNN(FusedLayer, keras.layers.SimpleRNN, TakesCell):
    r"""Keras's SimpleRNN that can return its state at every step, and has a fused kernel.

    .. math::

        h_t = \mathrm{activation}(x_t W + b + h_{t-1} U)

    One state, `h`, which is the output. The weights go to and from `keras.layers.SimpleRNN`. The
    fused kernel computes tanh and relu.

    :doc:`/glossary` says what the arguments, a call and its results are: those of
    `keras.layers.SimpleRNN`, `return_state_sequences`, `save_states`, `weight_dropout` and
    `use_cudnn`.

    Source: Elman, Finding structure in time, 1990.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.SimpleRNN(4, return_state_sequences=True)
    >>> output, h = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(output.shape), tuple(h.shape)
    ((2, 4), (2, 5, 4))
    """

    cell_of_ours = SimpleRNNCell

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        activity_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: Seed = None,
        *,
        weight_dropout: float = 0.0,
        use_cudnn: bool | Literal["auto"] = "auto",
        zero_output_for_mask: bool = False,
        return_state_sequences: bool = False,
        save_states: bool = False,
        learn_initial_state: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        arguments = given(locals())
        self.use_cudnn = arguments.pop("use_cudnn")
        if use_cudnn not in ("auto", True, False):
            raise ValueError(
                f"`use_cudnn` must be 'auto', True or False; received {use_cudnn!r}. Leave it out "
                "to take the fused kernel where it can run."
            )
        super().__init__(**arguments)
        # Keras's SimpleRNN takes this argument and forgets it.
        self.activity_regularizer = keras.regularizers.get(activity_regularizer)


@register
class LSTM(FusedLayer, keras.layers.LSTM, TakesCell):
    r"""Keras's LSTM that can return h and c at every step, with any mask, on every path.

    .. math::

        \begin{aligned}
        i_t &= \sigma(x_t W_i + h_{t-1} U_i + b_i) & f_t &= \sigma(x_t W_f + h_{t-1} U_f + b_f) \\
        g_t &= \tanh(x_t W_g + h_{t-1} U_g + b_g)  & o_t &= \sigma(x_t W_o + h_{t-1} U_o + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t   & h_t &= o_t \odot \tanh(c_t)
        \end{aligned}

    Two states, `h` and `c`; the output is `h`. Gates lie in the kernel as `i`, `f`, `g`, `o`. The
    weights go to and from `keras.layers.LSTM`. With `projection` h has a width of its own,
    :math:`h_t = (o_t \odot \tanh(c_t)) P`; the recurrent kernel is (projection, 4 units) then, and
    P, (units, projection), is the last of the weights.

    :doc:`/glossary` says what the arguments, a call and its results are: those of
    `keras.layers.LSTM`, `return_state_sequences`, `save_states`, `projection`, `weight_dropout` and
    `implementation`.

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997; the forget gate: Gers,
    Schmidhuber and Cummins, Learning to forget, 2000; the projection: Sak, Senior and Beaufays,
    Long short-term memory recurrent neural network architectures, 2014.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.LSTM(4, return_sequences=True, return_state_sequences=True)
    >>> output, h, c = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(c.shape)
    (2, 5, 4)
    """

    cell_of_ours = LSTMCell

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        activity_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Seed = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: bool | Literal["auto"] = "auto",
        *,
        projection: int | None = None,
        weight_dropout: float = 0.0,
        implementation: Literal[1, 2] = 2,
        zero_output_for_mask: bool = False,
        return_state_sequences: bool = False,
        save_states: bool = False,
        learn_initial_state: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**given(locals()))


@register
class GRU(FusedLayer, keras.layers.GRU, TakesCell):
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

    :doc:`/glossary` says what the arguments, a call and its results are: those of
    `keras.layers.GRU`, `return_state_sequences`, `save_states`, `weight_dropout` and
    `implementation`.

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014; the reset
    after the product is cuDNN's form of it.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.GRU(4, return_sequences=True, return_state_sequences=True)
    >>> output, h = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(h.shape)
    (2, 5, 4)
    """

    cell_of_ours = GRUCell

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        activity_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Seed = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: bool | Literal["auto"] = "auto",
        *,
        weight_dropout: float = 0.0,
        implementation: Literal[1, 2] = 2,
        zero_output_for_mask: bool = False,
        return_state_sequences: bool = False,
        save_states: bool = False,
        learn_initial_state: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**given(locals()))
