"""The layers of a step model that take states in and hand the new ones out."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.recurrent import masks
from keras_rnnkit.recurrent.equations import equations_of, step_of
from keras_rnnkit.recurrent.own_cell import Cell
from keras_rnnkit.recurrent.rnn import output_shape
from keras_rnnkit.recurrent.starts import Starts
from keras_rnnkit.recurrent.watch import stand_in

register = keras.saving.register_keras_serializable(package="keras_rnnkit")

ZERO_STARTS = {
    kind.get_initial_state
    for kind in (
        keras.layers.SimpleRNNCell,
        keras.layers.LSTMCell,
        keras.layers.GRUCell,
        Cell,
    )
}


class StateLayer(keras.layers.Layer):
    """A layer whose states come in and go out.

    Args:
        calls: For each call in the step model, the names of its states.
        given: Those of them that have no start of their own.
    """

    def __init__(self, *, calls: Any = (), given: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.calls = [list(names) for names in calls]
        self.given = list(given)

    def starts(self, batch_size: Any) -> list[Any]:
        """Return the states before the first step, (batch, ...) each."""
        raise NotImplementedError

    def compute_mask(self, *_: Any) -> Any:
        """Let no mask pass."""
        return None

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        calls = [list(names) for names in self.calls]
        return {**super().get_config(), "calls": calls, "given": list(self.given)}


@register
class RecurrentStep(Starts, StateLayer):
    """One time step of a recurrent layer.

    Args:
        cell: The layer's cell itself.
        returns: What the layer returns, of `"sequence"`, `"last"`, `"states"` and
            `"state sequences"`.
        zero_output_for_mask: As the layer has it.
        holds_output: Whether the output before is a state too, the first: shown at masked steps.
        learn_initial_state: As the layer has it, whose `learned_states` it shares.
    """

    def __init__(
        self,
        cell: Any,
        *,
        returns: Any,
        zero_output_for_mask: bool = False,
        holds_output: bool = False,
        learn_initial_state: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.returns = list(returns)
        self.zero_output_for_mask = zero_output_for_mask
        self.holds_output = holds_output
        self.learn_initial_state = learn_initial_state
        self.learned_states = []

    def build(self, sequences_shape: Any, *_: Any) -> None:
        """Make the weights of the cell and of the states, where there are none yet."""
        if isinstance(self.cell, keras.Layer) and not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))
            self.cell.built = True
        if self.learn_initial_state and not self.learned_states:
            self.make_learned_states(trainable=True)

    def compute_mask(self, _: Any, previous_mask: Any) -> Any:
        """Pass the mask on with every result that has a time axis."""
        mask = tree.flatten(previous_mask)[0] if previous_mask is not None else None
        states = len(tree.flatten(self.get_initial_state(1)))
        sizes = {"sequence": 1, "last": 1, "states": states, "state sequences": states}
        timed = [name.startswith("state ") or name == "sequence" for name in self.returns]
        found = [
            mask if one else None
            for name, one in zip(self.returns, timed, strict=True)
            for _ in range(sizes[name])
        ]
        return found + [None] * (states + self.holds_output)

    def starts(self, batch_size: Any) -> list[Any]:
        """Return the states before the first step; see `StateLayer`."""
        states = self.get_initial_state(batch_size)
        found = list(tree.flatten(states))
        if self.holds_output:
            shape = output_shape(self.cell, states)
            found.insert(0, ops.zeros((batch_size, *shape), self.compute_dtype))
        return found

    def call(self, sequences: Any, states: Any, mask: Any = None, reset: Any = None) -> Any:
        """Take one time step.

        Args:
            sequences: (batch, 1, ...).
            states: Before the step, flat.
            mask: (batch, 1) or None.
            reset: (batch, 1) or None, true where the states go back to the start first.

        Returns:
            What `returns` asks for, then the states after the step.
        """
        states = self.restarted(list(states), reset)
        before = states[1:] if self.holds_output else states
        mask = None if mask is None else masks.as_mask(mask)
        outputs, last, after, each = self.run(sequences, before, mask, reset)
        if mask is not None:
            held, ran = self.held_output(states, last), self.ran(mask, reset)
            shown = mask if self.zero_output_for_mask else ran
            other = ops.zeros_like(held) if self.zero_output_for_mask else held
            if outputs is not None:
                outputs = masks.where(shown, outputs, ops.expand_dims(other, 1))
            valid = mask[:, -1] if self.zero_output_for_mask else ran[:, -1]
            shown_last = masks.where(valid, last, other)
            held = masks.where(ran[:, -1], last, held)
        else:
            shown_last = held = last
        found = {
            "sequence": [outputs],
            "last": [shown_last],
            "states": after,
            "state sequences": each,
        }
        new = [held, *after] if self.holds_output else after
        results = [x for name in self.returns for x in found[name]] + list(new)
        return [ops.cast(x, self.compute_dtype) for x in results]

    def held_output(self, states: list[Any], like: Any) -> Any:
        """Return the output before these steps."""
        if self.holds_output:
            return states[0]
        shown = shown_state(self.cell)
        return ops.zeros_like(like) if shown is None else states[shown]

    def restarted(self, states: list[Any], reset: Any) -> list[Any]:
        """Return the states that the step begins with."""
        if reset is None:
            return states
        pairs = zip(states, self.starts(ops.shape(states[0])[0]), strict=True)
        return [masks.restarted(state, start, reset) for state, start in pairs]

    def ran(self, mask: Any, reset: Any) -> Any:
        """Return whether each step shows another output than that before all: (batch, time)."""
        return mask

    def run(self, sequences: Any, states: list[Any], mask: Any, reset: Any) -> Any:
        """Return the outputs, the last one, the states after, and the states at every step."""
        if equations_of(self.cell) is not None:
            sequences = ops.cast(sequences, self.compute_dtype)
        nested = tree.pack_sequence_as(self.get_initial_state(1), states)
        output, new = step_of(self.cell, False)(sequences[:, 0], list(nested))
        after = tree.flatten(new)
        if mask is not None:
            pairs = zip(after, states, strict=True)
            after = [masks.where(mask[:, 0], x, before) for x, before in pairs]
        return ops.expand_dims(output, 1), output, after, [ops.expand_dims(x, 1) for x in after]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "returns": list(self.returns),
            "zero_output_for_mask": self.zero_output_for_mask,
            "holds_output": self.holds_output,
            "learn_initial_state": self.learn_initial_state,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RecurrentStep":
        """Make the layer with its cell."""
        cell = keras.saving.deserialize_keras_object(config["cell"])
        return cls(**{**config, "cell": cell})


class RecurrentChunk(RecurrentStep):
    """Any number of time steps of a recurrent layer, by its own fast path; never saved.

    Args:
        layer: The layer itself.
        **kwargs: Those of `RecurrentStep`.
    """

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(layer.cell, **kwargs)
        self.layer = layer

    def restarted(self, states: list[Any], reset: Any) -> list[Any]:
        """Leave it to the layer."""
        return states

    def ran(self, mask: Any, reset: Any) -> Any:
        """See `RecurrentStep`."""
        return masks.count_steps(mask if reset is None else ops.logical_or(mask, reset)) > 0

    def run(self, sequences: Any, states: list[Any], mask: Any, reset: Any) -> Any:
        """See `RecurrentStep`."""
        nested = tree.pack_sequence_as(self.get_initial_state(1), states)
        each = "state sequences" in self.returns
        twin = stand_in(
            self.layer,
            return_sequences="sequence" in self.returns,
            return_state=True,
            stateful=False,
            unroll=False,
            zero_output_for_mask=False,
        )
        options = {} if reset is None else {"reset": reset}  # Keras's own layers take none
        output, *found = twin.call(
            sequences, initial_state=list(nested), mask=mask, training=False, **options
        )
        found = tree.flatten(found)
        after, every = found[: len(states)], found[len(states) :] if each else []
        if "sequence" in self.returns:
            return output, output[:, -1], after, every
        return None, output, after, every


def shown_state(cell: Any) -> int | None:
    """Return which state, counted flat, is the output; None where none is, or not from zeros on."""
    before, last = 0, cell
    if isinstance(cell, keras.layers.StackedRNNCells):
        before = sum(len(tree.flatten(one.state_size)) for one in cell.cells[:-1])
        last = cell.cells[-1]
    known = equations_of(last) is not None and not getattr(last, "return_state", False)
    zeros = getattr(type(last), "get_initial_state", None) in ZERO_STARTS
    return before if known and zeros else None


@register
class WindowStep(StateLayer):
    """A layer that reads the last few time steps: the inputs before are its state.

    Args:
        layer: A convolution or a pooling over time, with stride 1.
        steps: How many inputs before this one it reads.
    """

    def __init__(self, layer: Any, *, steps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.steps = steps

    def build(self, sequences_shape: Any, *_: Any) -> None:
        """Make the layer's weights, where it has none yet."""
        self.features = sequences_shape[-1]
        if not self.layer.built:
            self.layer.build((sequences_shape[0], self.steps + 1, self.features))
            self.layer.built = True

    def starts(self, batch_size: Any) -> list[Any]:
        """Return zeros, (batch, steps, features)."""
        return [ops.zeros((batch_size, self.steps, self.features), self.compute_dtype)]

    def call(self, sequences: Any, states: Any) -> Any:
        """Return the outputs, (batch, time, features), and the last inputs."""
        window = ops.concatenate([states[0], sequences], axis=1)
        outputs = stand_in(self.layer, padding="valid").call(window)
        return [outputs, window[:, -self.steps :]]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WindowStep":
        """Make the layer with the one that it holds."""
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


@register
class WithMask(keras.layers.Layer):
    """Gives a tensor a mask, as Keras hands masks on from layer to layer."""

    def call(self, inputs: Any) -> Any:
        """Return the first of a tensor and its mask."""
        return inputs[0]

    def compute_mask(self, inputs: Any, _: Any) -> Any:
        """Return the second."""
        return inputs[1]


def state_layers(model: Any) -> list[StateLayer]:
    """Return the layers of a step model that have states, those of models inside too."""
    found: list[StateLayer] = []
    for layer in model.layers:
        if isinstance(layer, StateLayer):
            found.append(layer)
        elif isinstance(layer, keras.Model):
            found += state_layers(layer)
    return found


def start_states(model: Any, batch_size: int) -> dict[str, np.ndarray]:
    """Return the states of a step model before the first step, by name."""
    return {
        name: np.array(ops.convert_to_numpy(start))
        for layer in state_layers(model)
        for names in layer.calls
        for name, start in zip(names, layer.starts(batch_size), strict=True)
    }


def given_states(model: Any) -> list[str]:
    """Return the states of a step model that have no start of their own."""
    return [name for layer in state_layers(model) for name in layer.given]
