"""Cell: the base of cells of one's own, whose equations are written once."""

from __future__ import annotations  # short names of types in help and signatures

from typing import Any, Unpack

import keras
from keras import ops

from keras_rnnkit.recurrent.arguments import DType, LayerOptions, Seed, given
from keras_rnnkit.recurrent.classical import StateCell, require_rate
from keras_rnnkit.recurrent.equations import input_masks, recurrent_masks

# The base of Keras's cells by which its RNN knows whose dropout masks to draw before a pass, and
# to let go of after it.
DropsOut: Any = next(
    base for base in keras.layers.LSTMCell.__mro__ if "reset_dropout_mask" in vars(base)
)


class Cell(StateCell, DropsOut, keras.layers.Layer):
    """The base class of a cell of your own, whose equations are written once.

    A subclass names its states and gates, makes its weights in `build`, and writes `step`. It then
    runs in `rk.RNN` and in any `keras.layers.RNN`, in stacks and in `rk.Bidirectional`, under any
    mask, and `trace`, `gradient_flow` and `jacobian_norms` look inside by name.

    If the new state is `leak * state + drive`, and neither depends on the state, write `gates` and
    `leak_and_drive` instead of `step`. `rk.RNN` then computes all time steps at once.

    Args:
        units: Size of each state.
        dropout: Share of the inputs to drop. `project` applies it.
        recurrent_dropout: Share of a state to drop on its way into the gates, by `dropped`; refused
            by a cell that is linear in its state.
        seed: Of the dropout masks.
        return_state: Whether a step's output is `[output, *states]` joined on the last axis;
            `unpack` takes it apart.

    Attributes:
        state_names: Names of the states. The first is the output.
        gate_names: Names of the gates, in the order in which `step` returns them.

    Raises:
        ValueError: If the class names no states, `units` is not positive, a rate is not in
            [0, 1), or a step returns another number of gates or states than are named.

    Source of the example: Li et al., Independently recurrent neural network (IndRNN), 2018.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> class IndRNNCell(rk.Cell):
    ...     state_names = ("h",)
    ...     gate_names = ("n",)
    ...
    ...     def build(self, input_shape):
    ...         self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
    ...         self.recurrent = self.add_weight((self.units,), "uniform", name="recurrent")
    ...         self.bias = self.add_weight((self.units,), "zeros", name="bias")
    ...
    ...     def step(self, x, states, training=False):
    ...         h, = states
    ...         n = keras.ops.relu(x @ self.kernel + self.recurrent * h + self.bias)
    ...         return [n], [n]
    >>> layer = rk.RNN(IndRNNCell(4), return_state_sequences=True, name="ind")
    >>> output, h = layer(np.ones((2, 5, 3), "float32"))
    >>> rk.trace(layer, np.ones((2, 5, 3), "float32"))["ind"].gates["n"].shape
    (2, 5, 4)
    """

    gate_names: tuple[str, ...] = ()

    def __init__(
        self,
        units: int,
        *,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Seed = None,
        return_state: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        options = given(locals())
        if not getattr(self, "state_names", ()):
            raise ValueError(
                f"{type(self).__name__} must name its states; received no `state_names`. Derive a "
                'class from rk.Cell with state_names = ("h",), `build` and `step`.'
            )
        for argument, rate in {"dropout": dropout, "recurrent_dropout": recurrent_dropout}.items():
            require_rate(argument, rate)
        if recurrent_dropout and type(self).leak_and_drive is not Cell.leak_and_drive:
            raise ValueError(
                f"`recurrent_dropout` drops a state on its way into the gates, and those of "
                f"{type(self).__name__} read no state; received {recurrent_dropout!r}. Leave it "
                "out, or pass `dropout`."
            )
        for argument in ("units", "dropout", "recurrent_dropout", "seed"):
            setattr(self, argument, options.pop(argument))
        super().__init__(**options)
        size = self.units
        self.state_size = [size] * len(self.state_names) if len(self.state_names) > 1 else size
        if not return_state:
            self.output_size = size
        self.seed_generator = keras.random.SeedGenerator(seed)

    def project(self: Any, inputs: Any, training: bool = False) -> Any:
        """Return what `step` takes of the inputs: the inputs, under `dropout`.

        A cell may return the part of its equations that needs no state, such as `x W + b`. It is
        then computed for all time steps at once where that is quicker.
        """
        masks = input_masks(self, inputs, training)
        return inputs if masks is None else inputs * masks

    def step(
        self: Any, projected: Any, states: Any, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Return the gates and the states after a step.

        Args:
            projected: What `project` returned, (batch, ..., features).
            states: The states before the step, each (batch, ..., units).
            training: Whether dropout applies.
        """
        gates = self.gates(projected)
        leak, drive = self.leak_and_drive(gates)
        return gates, [leak * states[0] + drive]

    def gates(self, projected: Any) -> list[Any]:
        """Return the gates of a cell that is linear in its state."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `step`, or `gates` and `leak_and_drive`."
        )

    def leak_and_drive(self, gates: list[Any]) -> tuple[Any, Any]:
        """Return the terms of `leak * state + drive`, of a cell that is linear in its state."""
        raise NotImplementedError

    def dropped(self, state: Any, training: bool) -> Any:
        """Return a state with `recurrent_dropout` applied, to compute the gates from."""
        masks = recurrent_masks(self, state, training)
        return state if masks is None else state * masks

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Return the states before the first step: zeros."""
        return [ops.zeros((batch_size, self.units), self.compute_dtype) for _ in self.state_names]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        named = ("units", "dropout", "recurrent_dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in named}}
