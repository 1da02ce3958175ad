"""Bidirectional: both directions, with the states of every step of each."""

from __future__ import annotations  # short names of types in help and signatures

from typing import Any, Literal, Unpack

import keras
from keras import ops, tree

from keras_rnnkit.recurrent import kernels, masks, paths
from keras_rnnkit.recurrent.arguments import DType, LayerOptions, given
from keras_rnnkit.recurrent.layers import FusedLayer
from keras_rnnkit.recurrent.rnn import (
    RecurrentLayer,
    Result,
    register,
    release_dropout,
    require_functional,
    require_resets,
    require_sequences,
)
from keras_rnnkit.recurrent.states import put_back


@register
class Bidirectional(keras.layers.Bidirectional):
    """Keras's Bidirectional that also carries the state sequences of both directions.

    Each direction runs its own layer over the sequence, the backward one from the end; where both
    have the same fused kernel and nothing forbids it, one kernel runs both.

    Args:
        layer: A recurrent layer, run forward; its copy with `go_backwards=True` runs backward.
        merge_mode: How the two outputs become one; None keeps both.
        backward_layer: The layer to run backward instead of a copy; it has `go_backwards=True`.

    :doc:`/glossary` says what a call is; its `initial_state` holds the forward layer's states, then
    the backward layer's.

    Returns:
        `(output, *last_states, *state_sequences)`: two outputs if `merge_mode` is None; the
        states, forward then backward, if the layer has `return_state`; the state sequences,
        forward then backward, if it has `return_state_sequences`. Every sequence is (batch, time,
        units) in the input's time order: at step t the backward one has seen steps t and later.

    Raises:
        ValueError: As Keras's, or if the two layers differ in `return_state_sequences`.

    Source: Schuster and Paliwal, Bidirectional recurrent neural networks, 1997.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.Bidirectional(rk.LSTM(4, return_state_sequences=True))
    >>> output, h, c, backward_h, backward_c = layer(np.ones((2, 5, 3), "float32"))
    >>> tuple(output.shape), tuple(backward_c.shape)
    ((2, 8), (2, 5, 4))
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: Literal["sum", "mul", "concat", "ave"] | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        arguments = given(locals())
        for what, one in (("layer", layer), ("backward_layer", backward_layer)):
            if not hasattr(one, "go_backwards") and (what == "layer" or one is not None):
                raise ValueError(
                    f"`{what}` must be a recurrent layer with `go_backwards`, such as rk.LSTM(32); "
                    f"received {one!r}. A cell becomes a layer by rk.RNN(cell); layers of other "
                    "kinds go before or behind this one."
                )
        super().__init__(**arguments)
        self.supports_masking = True  # which Keras's own no longer does after 3.15
        for layer in self.directions():
            layer.paired = False  # by this class, which knows all their results
        self.return_state_sequences = getattr(self.forward_layer, "return_state_sequences", False)
        backward = getattr(self.backward_layer, "return_state_sequences", False)
        if self.return_state_sequences != backward:
            raise ValueError(
                "`layer` and `backward_layer` must have the same `return_state_sequences`; "
                f"received {self.return_state_sequences} and {backward}. Set both alike."
            )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, in both directions if it must be the same in both."""
        if name in ("return_sequences", "return_state", "stateful", "save_states"):
            for layer in self.directions():
                setattr(layer, name, value)
        super().__setattr__(name, value)

    def __call__(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the sequences, then call as every layer; see the class."""
        require_sequences(self, sequences)
        require_functional(self, sequences)
        if kwargs.get("reset") is not None:
            require_resets(self.name, kwargs["reset"], sequences)
            for layer in self.directions():
                if not isinstance(layer, RecurrentLayer):
                    raise ValueError(
                        f"`reset` of {self.name!r} needs layers of this package; received "
                        f"{type(layer).__name__}. Pass the layer of the same name in keras_rnnkit."
                    )
        return super().__call__(sequences, *args, **kwargs)

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
        sequences_mask: Any = None,
        reset: Any = None,
    ) -> Any:
        """Process whole sequences in both directions; see the class."""
        mask = sequences_mask if mask is None else mask
        given = [None, None] if initial_state is None else _halves(self.name, list(initial_state))
        if reset is None and self.fuses(training, sequences):
            found = self._run_fused(sequences, given, mask, training)
        else:
            options = {} if reset is None else {"reset": reset}
            found = [
                layer(sequences, initial_state=states, mask=mask, training=training, **options)
                for layer, states in zip(self.directions(), given, strict=True)
            ]
        forward, backward = (
            list(results) if isinstance(results, (list, tuple)) else [results] for results in found
        )
        return self._merge(forward, backward)

    @property
    def features(self) -> int | None:
        """Number of features of the inputs, or None before the layer is built."""
        return getattr(self.forward_layer, "features", None)

    def directions(self) -> tuple[Any, Any]:
        """Return the forward and the backward layer.

        A method and no property: Keras names a layer in a weights file by the first attribute that
        holds it.
        """
        return self.forward_layer, self.backward_layer

    def fuses(self, training: bool = False, tensor: Any = None) -> bool:
        """Whether one kernel runs both directions in such a call."""
        forward, backward = self.directions()
        return (
            all(
                isinstance(layer, FusedLayer)
                and layer.built
                and layer.dtype_policy == self.dtype_policy
                and layer.output_regularizer is None
                and paths.decide(layer, training, tensor).fused
                # One kernel reads one input, and each direction drops its own.
                and not (training and layer.dropout)
                for layer in self.directions()
            )
            and type(forward) is type(backward)
            and list(forward.state_size) == list(backward.state_size)
            and forward.cell.activation is backward.cell.activation
            and not forward.go_backwards
        )

    def _run_fused(self, sequences: Any, given: Any, mask: Any, training: bool) -> list[Any]:
        """Run one kernel for both directions; return the results that each layer would return."""
        forward = self.forward_layer
        settled = [
            layer.begin(sequences, states, mask, training).without_padding()
            for layer, states in zip(self.directions(), given, strict=True)
        ]
        packed = forward.packed(settled[0])
        outputs, last = kernels.current().fused(
            forward.equations.fused_kind(forward.cell),
            packed.sequence,
            [one.states for one in settled],
            [
                layer.fused_weights(one)
                for layer, one in zip(self.directions(), settled, strict=True)
            ],
            packed.lengths,
        )
        counts = [packed.counts, None]
        if packed.lengths is not None:
            counts[1] = masks.count_steps(settled[1].mask)
        results: list[Result] = [
            layer.unpacked(*each)
            for layer, *each in zip(self.directions(), settled, outputs, last, counts, strict=True)
        ]
        for layer in self.directions():
            release_dropout(layer.cell)
        return [
            layer.conclude(one, result)
            for layer, one, result in zip(self.directions(), settled, results, strict=True)
        ]

    def _merge(self, forward: list[Any], backward: list[Any]) -> Any:
        y, y_back = (ops.cast(results[0], self.compute_dtype) for results in (forward, backward))
        if self.return_sequences:
            y_back = ops.flip(y_back, axis=1)
        if self.merge_mode is None:
            merged = [y, y_back]
        elif self.merge_mode == "concat":
            merged = [ops.concatenate([y, y_back], axis=-1)]
        elif self.merge_mode == "mul":
            merged = [y * y_back]
        else:
            merged = [(y + y_back) / (2 if self.merge_mode == "ave" else 1)]
        keeps = 1 + self._states_in(forward)
        backward[keeps:] = tree.map_structure(lambda x: ops.flip(x, axis=1), backward[keeps:])
        return self._arranged(merged, forward, backward)

    def _states_in(self, results: list[Any]) -> int:
        """How many of a direction's results are its last states."""
        kinds = self.return_state + self.return_state_sequences
        return (len(results) - 1) // kinds if self.return_state else 0

    def _arranged(self, merged: list[Any], forward: list[Any], backward: list[Any]) -> Any:
        """The results of both directions, or their shapes or masks, in the order of a call."""
        keeps = 1 + self._states_in(forward)
        found = [*merged, *forward[1:keeps], *backward[1:keeps]]
        found += [*forward[keeps:], *backward[keeps:]]
        return tuple(found) if len(found) > 1 else found[0]

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Return the shape of each result of a call."""
        shapes = [layer.compute_output_shape(sequences_shape) for layer in self.directions()]
        several = self.return_state or self.return_state_sequences
        forward, backward = (list(shape) if several else [tuple(shape)] for shape in shapes)
        output = tuple(forward[0])
        if self.merge_mode == "concat":
            merged = [(*output[:-1], output[-1] + backward[0][-1])]
        else:
            merged = [output] if self.merge_mode else [output, tuple(backward[0])]
        return self._arranged(merged, forward, backward)

    def compute_mask(self, sequences: Any, previous_mask: Any) -> Any:
        """Pass the mask on with every result that has a time axis."""
        found = [layer.compute_mask(sequences, previous_mask) for layer in self.directions()]
        forward, backward = (each if isinstance(each, list) else [each] for each in found)
        merged = [forward[0]] * (1 if self.merge_mode else 2)
        return self._arranged(merged, forward, backward)

    def reset_state(self, samples: Any = None) -> None:
        """Put the carried states of both directions back to the start, or those of some samples."""
        for layer in self.directions():
            put_back(layer, samples)


def _halves(name: str, states: list[Any]) -> list[list[Any]]:
    if len(states) % 2:
        raise ValueError(
            f"`initial_state` of {name!r} must hold the forward layer's states, then as many for "
            f"the backward layer; received {len(states)}. Pass both."
        )
    half = len(states) // 2
    return [states[:half], states[half:]]
