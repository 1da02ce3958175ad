"""SimpleRNNCell, LSTMCell, GRUCell: one step, with states and gates that have names."""

from __future__ import annotations  # short names of types in help and signatures

from numbers import Real
from typing import Any, Literal, Unpack

import keras
from keras import ops, tree

from keras_rnnkit.recurrent.arguments import (
    Activation,
    Constraint,
    DType,
    Initializer,
    LayerOptions,
    Regularizer,
    Seed,
    flag,
    given,
)
from keras_rnnkit.recurrent.equations import (
    Equations,
    GRUEquations,
    LSTMEquations,
    SimpleRNNEquations,
    cut,
)

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


class StateCell(Equations):
    """What the cells of this package add to Keras's: `return_state` and `unpack`."""

    units: int
    name: str
    state_size: Any

    def __init__(self, *, return_state: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.return_state = flag("return_state", return_state)
        if return_state:
            self.output_size = self.units * (1 + len(self.state_names))

    def __call__(self, inputs: Any, states: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs and the number of states, then call as every layer."""
        kernel, count = getattr(self, "kernel", None), len(tree.flatten(states))
        if count != len(self.state_names):
            raise ValueError(
                f"`states` of {self.name!r} must hold {', '.join(self.state_names)}, each (batch, "
                f"{self.units}); received {count} of them. Begin with get_initial_state(batch)."
            )
        if kernel is not None and kernel.shape[0] != inputs.shape[-1]:
            raise ValueError(
                f"`inputs` of {self.name!r} must have {kernel.shape[0]} features, as in the call "
                f"that made its weights; received shape {tuple(inputs.shape)}. Pass the same "
                "columns, or make a new cell."
            )
        return super().__call__(inputs, states, *args, **kwargs)  # type: ignore[misc]

    def unpack(self, outputs: Any) -> tuple[Any, ...]:
        """Split what the cell, or a layer around it, returned under `return_state=True`.

        Args:
            outputs: (..., features), the output and the states joined.

        Returns:
            `(output, *states)`, each (..., size), in the order of `state_names`.

        Raises:
            ValueError: If the cell does not return states, or the last axis has another length.
        """
        sizes = [self.state_size] if isinstance(self.state_size, int) else list(self.state_size)
        sizes = [sizes[0], *sizes]
        if not self.return_state:
            raise ValueError(
                f"`unpack` needs a cell that returns its states; {self.name!r} was made with "
                "return_state=False. Pass return_state=True to the cell."
            )
        if outputs.shape[-1] != sum(sizes):
            raise ValueError(
                f"`outputs` must have {' + '.join(map(str, sizes))} = {sum(sizes)} features "
                f"(output, {', '.join(self.state_names)}); received shape {tuple(outputs.shape)}. "
                "Pass what this cell's layer returned, before any other layer."
            )
        return tuple(cut(outputs, sizes))

    def get_config(self) -> dict[str, Any]:
        """Return Keras's configuration and the arguments that it leaves out."""
        config = {**super().get_config(), "return_state": self.return_state}  # type: ignore[misc]
        for name in ("implementation", "weight_dropout", "projection"):
            if hasattr(self, name):
                config[name] = getattr(self, name)
        return config


class ClassicalCell(StateCell):
    """`weight_dropout` for the three classical cells.

    Its mask is drawn and dropped together with those of `recurrent_dropout`, as any
    `keras.layers.RNN` does once a pass.
    """

    weight_mask: Any = None

    def __init__(self, *, weight_dropout: float, **kwargs: Any) -> None:
        require_rate("weight_dropout", weight_dropout)
        super().__init__(**kwargs)
        self.weight_dropout = weight_dropout

    def get_recurrent_dropout_mask(self: Any, step_input: Any) -> Any:
        """Return the masks of `recurrent_dropout`; draw this pass's of `weight_dropout` too."""
        if self.weight_dropout and self.weight_mask is None:
            ones = ops.ones(self.recurrent_kernel.shape, self.compute_dtype)
            seed = self.seed_generator
            self.weight_mask = keras.random.dropout(ones, self.weight_dropout, seed=seed)
        return super().get_recurrent_dropout_mask(step_input)  # type: ignore[misc]

    def reset_recurrent_dropout_mask(self) -> None:
        """Let the next pass draw masks of `recurrent_dropout` and of `weight_dropout`."""
        self.weight_mask = None
        super().reset_recurrent_dropout_mask()  # type: ignore[misc]


def _require_projection(projection: Any, units: int) -> None:
    """Raise an error for a width that h cannot be projected to."""
    if projection is None:
        return
    whole = isinstance(projection, int) and not isinstance(projection, bool)
    if not (whole and 0 < projection < units):
        raise ValueError(
            f"`projection` must be a whole number from 1 to units - 1 = {units - 1}; received "
            f"{projection!r}. Give the width of h, or leave it out for one of `units`."
        )


def require_rate(argument: str, rate: float) -> None:
    """Refuse a share, of what is dropped or kept, that is none."""
    if not isinstance(rate, Real) or not 0 <= rate < 1:
        raise ValueError(
            f"`{argument}` must be in [0, 1); received {rate!r}. Give a share, such as 0.2."
        )


@register
class SimpleRNNCell(SimpleRNNEquations, ClassicalCell, keras.layers.SimpleRNNCell):
    r"""Keras's SimpleRNNCell that can return its state beside its output.

    .. math::

        h_t = \mathrm{activation}(x_t W + b + h_{t-1} U)

    One state, `h`, and one gate, `n`: the new value itself, which is also the output.

    :doc:`/glossary` says what the arguments and a call are: those of `keras.layers.SimpleRNNCell`,
    `weight_dropout` and `return_state`.

    Raises:
        ValueError: If `weight_dropout` is not in [0, 1).

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
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Seed = None,
        *,
        weight_dropout: float = 0.0,
        return_state: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**given(locals()))


@register
class LSTMCell(LSTMEquations, ClassicalCell, keras.layers.LSTMCell):
    r"""Keras's LSTMCell that can return its states beside its output.

    .. math::

        \begin{aligned}
        i_t &= \sigma(x_t W_i + h_{t-1} U_i + b_i) & f_t &= \sigma(x_t W_f + h_{t-1} U_f + b_f) \\
        g_t &= \tanh(x_t W_g + h_{t-1} U_g + b_g)  & o_t &= \sigma(x_t W_o + h_{t-1} U_o + b_o) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t   & h_t &= o_t \odot \tanh(c_t)
        \end{aligned}

    With `projection` h has a width of its own, :math:`h_t = (o_t \odot \tanh(c_t)) P`. The
    recurrent kernel is (projection, 4 units) then, and P, (units, projection), is the last of the
    weights; it has the initializer, regularizer and constraint of the input kernel.

    Two states, `h` and `c`; four gates in the order `i`, `f`, `g`, `o` of Keras's kernel (input,
    forget, candidate, output). The output is `h`; :math:`\sigma` stands for
    `recurrent_activation` and tanh for `activation`.

    :doc:`/glossary` says what the arguments and a call are: those of `keras.layers.LSTMCell`,
    `projection`, `weight_dropout` and `return_state`.

    Raises:
        ValueError: If `projection` is not a whole number between 0 and `units`, or `weight_dropout`
            not in [0, 1).

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997; the forget gate: Gers,
    Schmidhuber and Cummins, Learning to forget, 2000; the projection: Sak, Senior and Beaufays,
    Long short-term memory recurrent neural network architectures, 2014.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> cell = rk.LSTMCell(4, return_state=True)
    >>> y = keras.layers.RNN(cell, return_sequences=True)(np.ones((2, 5, 3), "float32"))
    >>> output, h, c = cell.unpack(y)
    >>> cell.state_names, cell.gate_names, tuple(c.shape)
    (('h', 'c'), ('i', 'f', 'g', 'o'), (2, 5, 4))
    """

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
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Seed = None,
        *,
        implementation: Literal[1, 2] = 2,
        projection: int | None = None,
        weight_dropout: float = 0.0,
        return_state: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        arguments = given(locals())
        _require_projection(arguments.pop("projection"), units)
        super().__init__(**arguments)
        self.projection = projection
        if projection is not None:
            self.state_size = [projection, units]
            self.output_size = 2 * projection + units if return_state else projection

    def build(self, input_shape: Any) -> None:
        """Make the weights of Keras's cell, and the projection's kernel."""
        super().build(input_shape)
        if self.projection is not None:
            self.projection_kernel = self.add_weight(
                (self.units, self.projection),
                self.kernel_initializer,
                name="projection_kernel",
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )

    def add_weight(self, shape: Any = None, initializer: Any = None, **options: Any) -> Any:
        """Make a weight; the recurrent kernel reads h, which may be narrower than Keras has it."""
        if self.projection is not None and options.get("name") == "recurrent_kernel":
            shape = (self.projection, shape[-1])
        return super().add_weight(shape, initializer, **options)


@register
class GRUCell(GRUEquations, ClassicalCell, keras.layers.GRUCell):
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

    :doc:`/glossary` says what the arguments and a call are: those of `keras.layers.GRUCell`,
    `weight_dropout` and `return_state`.

    Raises:
        ValueError: If `weight_dropout` is not in [0, 1).

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
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: Seed = None,
        *,
        implementation: Literal[1, 2] = 2,
        weight_dropout: float = 0.0,
        return_state: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**given(locals()))
