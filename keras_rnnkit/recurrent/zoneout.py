"""Zoneout: a cell some of whose states' entries skip a step."""

from __future__ import annotations  # short names of types in help and signatures

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.arguments import DType, LayerOptions, Seed
from keras_rnnkit.recurrent.classical import StateCell, require_rate
from keras_rnnkit.recurrent.equations import step_of
from keras_rnnkit.recurrent.own_cell import DropsOut
from keras_rnnkit.recurrent.starts import starts_of

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


def _of_cell(name: str) -> Callable[..., Any]:
    """Return a method that hands on to the cell's of this name, if it has one."""

    def method(self: Any, *arguments: Any) -> Any:
        return getattr(self.cell, name)(*arguments) if hasattr(self.cell, name) else None

    return method


@register
class Zoneout(DropsOut, keras.layers.Layer):
    r"""Any cell, with entries of its states that keep their value of the step before.

    .. math::

        s_t = k_t \odot s_{t-1} + (1 - k_t) \odot \tilde s_t

    where :math:`\tilde s_t` is the state that the cell computes. In training k is 1 with the
    probability `rate` and else 0, drawn anew for each entry, time step and sample; at inference k
    is `rate`, its expectation. States and gates have the names of the cell's, and its weights are
    all there are, so that they go to and from a layer of the cell alone. The output, where it is
    the first state, is that state after zoneout.

    Args:
        cell: A cell: Keras's, one of these, or your own. In a stack each has a Zoneout of its own.
        rate: The probability to keep a value, in [0, 1), or one for each state in the cell's order:
            `(0.05, 0.5)` keeps h of an LSTM with 0.05 and c with 0.5.
        seed: Of what is drawn.

    Raises:
        ValueError: If a rate is not in [0, 1), there are not as many as states, or `cell` is a
            list, a stack, a Zoneout or no cell. In training on JAX, if a `keras.layers.RNN` runs
            it, which draws nothing anew at a step: use `rk.RNN`.

    Source: Krueger et al., Zoneout: regularizing RNNs by randomly preserving hidden activations,
    2016.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> cell = rk.cells.Zoneout(rk.LSTMCell(4), rate=(0.05, 0.5))
    >>> layer = rk.RNN(cell, return_state_sequences=True)
    >>> output, h, c = layer(np.ones((2, 5, 3), "float32"), training=True)
    >>> tuple(c.shape)
    (2, 5, 4)
    """

    def __init__(
        self,
        cell: Any,
        rate: float | Sequence[float],
        seed: Seed = None,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        others = (list, tuple, keras.layers.StackedRNNCells, keras.layers.RNN, Zoneout)
        if isinstance(cell, others) or not (hasattr(cell, "call") and hasattr(cell, "state_size")):
            raise ValueError(
                "`cell` must be one cell, with `call(inputs, states)` and `state_size`; received "
                f"{cell!r}. In a stack give each cell a Zoneout of its own: "
                "rk.RNN([Zoneout(LSTMCell(8), 0.1), Zoneout(LSTMCell(8), 0.1)])."
            )
        for each in np.asarray(rate, object).ravel():
            require_rate("rate", each)
        dtype = getattr(cell, "dtype_policy", None) if dtype is None else dtype
        super().__init__(name=name, dtype=dtype, trainable=trainable, **kwargs)
        self.cell, self.rate, self.seed = cell, rate, seed
        self.state_size, self.output_size = cell.state_size, getattr(cell, "output_size", None)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.noise: Any = None  # of the next step, where `rk.RNN` has drawn it before its loop
        sizes = cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
        if all(isinstance(size, int) for size in sizes):  # else its first step tells
            self._rates(len(sizes))

    def build(self, input_shape: Any) -> None:
        """Make the weights of the cell."""
        if isinstance(self.cell, keras.Layer) and not self.cell.built:
            self.cell.build(input_shape)

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """Take one step of the cell, and let entries of its states keep what they were."""
        output, made = step_of(self.cell, training)(inputs, states)
        before, new = tree.flatten(states), tree.flatten(made)
        each = zip(self._rates(len(new)), before, new, strict=True)
        if training:
            noise = self._noise_of_step(inputs, states)
            kept = [ops.where(u < r, b, n) for u, (r, b, n) in zip(noise, each, strict=True)]
        else:
            kept = [r * b + (1 - r) * n for r, b, n in each]
        if isinstance(self.cell, StateCell) and self.cell.return_state:
            output = ops.concatenate([kept[0], *kept], axis=-1)
        elif output is new[0]:
            output = kept[0]
        return output, tree.pack_sequence_as(made, kept)

    def _rates(self, count: int) -> list[float]:
        """Return the rate of each state, of which there are so many."""
        if np.shape(self.rate) not in ((), (count,)):
            raise ValueError(
                f"`rate` must be one number, or {count}, one for each state of "
                f"{type(self.cell).__name__}; received {self.rate!r}. Give as many."
            )
        return np.broadcast_to(self.rate, count).tolist()

    def draw(self, lead: tuple[Any, ...], states: Any) -> list[Any]:
        """Return noise for each state, flat: for all its entries, of each in `lead`."""
        shapes = [(*lead, *state.shape[1:]) for state in tree.flatten(states)]
        return [keras.random.uniform(shape, seed=self.seed_generator) for shape in shapes]

    def _noise_of_step(self, inputs: Any, states: Any) -> list[Any]:
        """Return the noise that was drawn for this step, else draw it."""
        kernel, noise, self.noise = kernels.current(), self.noise, None
        if noise is None and kernel.LOOP == "scan" and not kernel.is_known(inputs):
            raise ValueError(
                f"{self.name!r} draws anew at each time step, for which keras.layers.RNN has no "
                "way on JAX: received a step of its loop in training. Use rk.RNN."
            )
        return self.draw(ops.shape(inputs)[:1], states) if noise is None else noise

    def get_initial_state(self, batch_size: Any = None) -> Any:
        """Return the states that the cell begins with."""
        return starts_of(self.cell, batch_size, self.compute_dtype)

    get_dropout_mask = _of_cell("get_dropout_mask")
    get_recurrent_dropout_mask = _of_cell("get_recurrent_dropout_mask")
    reset_dropout_mask = _of_cell("reset_dropout_mask")
    reset_recurrent_dropout_mask = _of_cell("reset_recurrent_dropout_mask")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, the cell by its own."""
        cell = keras.saving.serialize_keras_object(self.cell)
        return {**super().get_config(), "cell": cell, "rate": self.rate, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Make it from its configuration."""
        cell = keras.saving.deserialize_keras_object(config["cell"], custom_objects=custom_objects)
        return cls(**{**config, "cell": cell})


def bare(cell: Any) -> Any:
    """Return a cell without the Zoneout around it."""
    return cell.cell if isinstance(cell, Zoneout) else cell
