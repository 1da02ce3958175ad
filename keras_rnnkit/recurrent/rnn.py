"""RNN: any Keras cell, with every state of every step."""

from __future__ import annotations  # short names of types in help and signatures

import inspect
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, Unpack

import keras
from keras import ops, tree

from keras_rnnkit.recurrent import masks
from keras_rnnkit.recurrent.arguments import DType, LayerOptions, Regularizer, given
from keras_rnnkit.recurrent.states import put_back, value_of

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


@dataclass
class Pass:
    """One pass over a batch, in the order of processing.

    Attributes:
        sequences: (batch, time, ...), reversed for `go_backwards`.
        states: The states before the first step, as the cell nests them.
        mask: (batch, time) booleans, reversed likewise, or None.
        training: Whether dropout applies.
    """

    sequences: Any
    states: list[Any]
    mask: Any
    training: bool

    def without_padding(self) -> Pass:
        """The same pass with zeros at masked steps: a NaN there would reach the weights."""
        if self.mask is None:
            return self
        sequences = tree.map_structure(lambda x: masks.zeroed(x, self.mask), self.sequences)
        return replace(self, sequences=sequences)


@dataclass
class Result:
    """What a pass yields, in the order of processing.

    Attributes:
        last_output: (batch, ...), held over masked steps at the end.
        outputs: (batch, time, ...), held over masked steps; None when only the last is asked for.
        last_states: The states after the last step, flat; one that nobody asks for may be None.
        sequences: Each state at every step, flat; may be empty when not asked for.
    """

    last_output: Any
    outputs: Any
    last_states: list[Any]
    sequences: list[Any]


class RecurrentLayer(keras.layers.RNN):
    """What the layers of this package add to Keras's, apart from how a pass runs.

    `begin` settles a call's inputs, `run` makes the pass, `conclude` keeps a stateful layer's
    states and arranges the results. A subclass defines `run`.
    """

    def __init__(self, *, return_state_sequences: bool, save_states: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # which Keras's own no longer do after 3.15
        if save_states and not self.stateful:
            raise ValueError(
                "`save_states=True` saves the states that a stateful layer carries; received "
                "stateful=False. Pass stateful=True, or leave `save_states` out."
            )
        self.return_state_sequences = return_state_sequences
        self.save_states = save_states

    def __call__(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the time axis, then call as every layer; see the class."""
        require_time_axis(self.name, sequences)
        return super().__call__(sequences, *args, **kwargs)

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
        sequences_mask: Any = None,
    ) -> Any:
        """Process whole sequences; see the class.

        Keras fills in `sequences_mask` where it drops `mask`: in a call with initial states.
        """
        mask = sequences_mask if mask is None else mask
        settled = self.begin(sequences, initial_state, mask, training)
        try:
            result = self.run(settled)
        finally:
            release_dropout(self.cell)
        return self.conclude(settled, result)

    def run(self, settled: Pass) -> Result:
        """Make a pass."""
        raise NotImplementedError

    def begin(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> Pass:
        """Settle the inputs of a call: states of the batch's size, the order, dropout masks."""
        self._require_steps(sequences.shape)
        states = self._settle_states(initial_state, sequences)
        if training:
            draw_dropout(self.cell, sequences[:, 0], states)
        if mask is not None and any(m is not None for m in tree.flatten(mask)):
            mask = self._settle_mask(masks.as_mask(mask), sequences)
        else:
            mask = None
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        return Pass(sequences, states, mask, training)

    def conclude(self, settled: Pass, result: Result) -> Any:
        """Arrange the results of a pass as the caller asked for them."""
        mask, zero = settled.mask, self.zero_output_for_mask
        if mask is None:
            output = result.outputs if self.return_sequences else result.last_output
        elif self.return_sequences:
            output = masks.shown(result.outputs, mask, zero)
        else:
            output = masks.last_shown(result.last_output, mask, zero)
        if self.stateful:
            self._carry(result.last_states)
        found = [output]
        if self.return_state:
            found += tree.pack_sequence_as(settled.states, result.last_states)
        if self.return_state_sequences:
            found += tree.pack_sequence_as(settled.states, result.sequences)
        found = tree.map_structure(lambda x: ops.cast(x, self.compute_dtype), found)
        return tuple(found) if len(found) > 1 else found[0]

    def _require_steps(self, shape: Any) -> None:
        """Refuse a number of time steps that cannot be run."""
        if shape[1] == 0:
            raise ValueError(
                f"`sequences` of {self.name!r} must have at least one time step; received shape "
                f"{tuple(shape)}. Leave empty sequences out of the batch."
            )
        if self.unroll and shape[1] is None:
            raise ValueError(
                f"{self.name!r} has unroll=True, which needs a known number of time steps; "
                f"received shape {tuple(shape)}. Give it in "
                "keras.Input(shape=(time, features)), or pass unroll=False."
            )

    def _settle_mask(self, mask: Any, sequences: Any) -> Any:
        """The mask, one row a sample; refused where it does not fit."""
        wanted, found = tuple(sequences.shape[:2]), tuple(mask.shape)
        fits = len(found) == 2 and all(
            None in (a, b) or a == b for a, b in zip(wanted[1:], found[1:], strict=True)
        )
        if not fits or not (None in (wanted[0], found[0]) or found[0] in (1, wanted[0])):
            raise ValueError(
                f"`mask` of {self.name!r} must have shape (batch, time), {wanted} here; received "
                f"{found}. Give one boolean a step of each sample."
            )
        if found[0] == 1 != wanted[0]:
            mask = ops.broadcast_to(mask, ops.shape(sequences)[:2])
        return mask

    def _settle_states(self, given: Any, sequences: Any) -> list[Any]:
        """The states before the first step: given, carried over, or the cell's own."""
        batch, static_batch = ops.shape(sequences)[0], sequences.shape[0]
        default = self.get_initial_state(batch)
        if given is not None:
            leaves = _fitted(self.name, tree.flatten(given), tree.flatten(default), static_batch)
        elif self.stateful:
            leaves = [self._rows(state, batch, static_batch) for state in tree.flatten(self.states)]
        else:
            leaves = tree.flatten(default)
        dtypes = [
            getattr(cell, "compute_dtype", self.compute_dtype)
            for cell in getattr(self.cell, "cells", [self.cell])
            for _ in tree.flatten(cell.state_size)
        ]
        leaves = [ops.cast(x, dtype) for x, dtype in zip(leaves, dtypes, strict=True)]
        return list(tree.pack_sequence_as(default, leaves))

    def _rows(self, state: Any, batch: Any, static_batch: int | None) -> Any:
        """Copy the first rows of a carried state: a batch may be smaller than the one declared.

        A copy, since the variable is assigned before a gradient through the value is taken.
        """
        if static_batch is not None and static_batch > state.shape[0]:
            raise ValueError(
                f"`sequences` of the stateful layer {self.name!r} must have at most "
                f"{state.shape[0]} rows, the batch size it was built with; received "
                f"{static_batch}. Use batches of {state.shape[0]}, or declare a larger one in "
                "keras.Input(batch_size=...)."
            )
        value = ops.stop_gradient(ops.copy(ops.convert_to_tensor(state)))
        return value if static_batch == state.shape[0] else value[:batch]

    def _carry(self, last_states: list[Any]) -> None:
        """Keep the states for the next batch; rows beyond a smaller batch stay as they were."""
        for variable, state in zip(tree.flatten(self.states), last_states, strict=True):
            value = ops.cast(ops.stop_gradient(state), variable.dtype)
            if state.shape[0] != variable.shape[0]:
                rest = ops.convert_to_tensor(variable)[ops.shape(state)[0] :]
                value = ops.concatenate([value, ops.cast(rest, variable.dtype)], axis=0)
                value = ops.reshape(value, variable.shape)
            variable.assign(value)

    def reset_state(self, rows: Any = None) -> None:
        """Put the carried states back to what the cell begins with.

        Args:
            rows: Indices or booleans of the samples to put back; all when None.
        """
        put_back(self, rows)

    @property
    def variables(self) -> list[Any]:
        """Keras's list and the carried states, which Keras leaves out.

        Without them the JAX trainer does not see the states change and drops them.
        """
        return [*super().variables, *tree.flatten(self.states or [])]

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Save the carried states too, when asked by `save_states`."""
        super().save_own_variables(store)
        if self.save_states:
            for index, variable in enumerate(tree.flatten(self.states or [])):
                store[f"state_{index}"] = value_of(variable)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Load the carried states if they were saved and are asked for by `save_states`."""
        saved = {name: store[name] for name in store.keys() if name.startswith("state_")}  # noqa: SIM118
        super().load_own_variables({k: store[k] for k in store.keys() if k not in saved})  # noqa: SIM118
        if self.save_states and saved:
            for index, variable in enumerate(tree.flatten(self.states or [])):
                variable.assign(saved[f"state_{index}"])

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Return the shape of each result of a call."""
        require_time_axis(self.name, keras.KerasTensor(sequences_shape))
        self._require_steps(sequences_shape)
        shape = super().compute_output_shape(sequences_shape, initial_state_shape)
        if not self.return_state_sequences:
            return shape
        shapes = shape if self.return_state else (shape,)

        def over_time(size: Any) -> Any:
            if isinstance(size, (list, tuple)):
                return [over_time(each) for each in size]
            return (*sequences_shape[:2], size)

        return (*shapes, *(over_time(size) for size in self.state_size))

    def compute_mask(self, sequences: Any, previous_mask: Any) -> Any:
        """Pass the mask on with every result that has a time axis."""
        mask = tree.flatten(previous_mask)[0] if previous_mask is not None else None
        found = [mask if self.return_sequences else None]
        states = len(tree.flatten(self.state_size))
        found += [None] * states * self.return_state
        found += [mask] * states * self.return_state_sequences
        return found if len(found) > 1 else found[0]

    def get_config(self) -> dict[str, Any]:
        """Return Keras's configuration and what this package adds."""
        return {
            **super().get_config(),
            "return_state_sequences": self.return_state_sequences,
            "save_states": self.save_states,
        }


@register
class RNN(RecurrentLayer):
    """Keras's RNN that can return every state at every step, for any cell.

    The cell may be Keras's, a list of cells, or a user's own with `call` and `state_size`; it runs
    in Keras's own time loop, and its states are recorded there.

    Args:
        cell: A cell, or a list of cells to stack.

    :doc:`/glossary` says what the other arguments, a call and its results are: those of
    `keras.layers.RNN`, `return_state_sequences` and `save_states`. Each state, and each sequence of
    states, is nested as the cell nests them.

    Raises:
        ValueError: If the cell has no `state_size` or no `call`.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> cells = [rk.GRUCell(3), rk.LSTMCell(4)]
    >>> layer = rk.RNN(cells, return_sequences=True, return_state_sequences=True)
    >>> output, gru_h, (lstm_h, lstm_c) = layer(np.ones((2, 5, 6), "float32"))
    >>> tuple(lstm_c.shape)
    (2, 5, 4)
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        *,
        return_state_sequences: bool = False,
        save_states: bool = False,
        activity_regularizer: Regularizer = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        arguments = given(locals())
        for one in cell if isinstance(cell, (list, tuple)) else [cell]:
            if not hasattr(one, "call") or getattr(one, "state_size", None) is None:
                raise ValueError(
                    "`cell` must have a `call(inputs, states)` method and a `state_size`, an "
                    "integer or one integer a state; received "
                    f"{one!r} without {'`state_size`' if hasattr(one, 'call') else '`call`'}. "
                    "Set `self.state_size` in the cell's __init__."
                )
        super().__init__(**arguments)

    def run(self, settled: Pass) -> Result:
        """Make a pass in Keras's time loop.

        Under a mask the record stands first among the states: Keras's loop on JAX shows
        `states[0]` at a masked step, whatever the output's width.
        """
        settled = settled.without_padding()
        cell_arguments = inspect.signature(self.cell.call).parameters
        kwargs = {"training": settled.training} if "training" in cell_arguments else {}
        recorder = Recorder(self.cell, kwargs, self.return_state_sequences)
        states: list[Any] = settled.states
        if settled.mask is not None:
            output = recorder.one_step(settled.sequences[:, 0], states)[0]
            states = [recorder.join(ops.zeros_like(output), states), *states]
        else:
            recorder.first = False
        loop = keras.layers.RNN(
            recorder,
            return_sequences=self.return_sequences or self.return_state_sequences,
            unroll=self.unroll,
            dtype=self.dtype_policy,
            name="loop",
        )
        last, records, states = loop.inner_loop(
            settled.sequences, states, settled.mask, training=settled.training
        )
        last_states = tree.flatten(list(states)[1:] if recorder.first else states)
        last_output, *_ = recorder.part(last)
        if not loop.return_sequences:
            return Result(last_output, None, last_states, [])
        outputs, *sequences = recorder.part(records)
        if settled.mask is not None:
            initial = tree.flatten(settled.states)
            sequences = [
                masks.held_from(sequence, start, settled.mask)
                for sequence, start in zip(sequences, initial, strict=False)
            ]
        return Result(last_output, outputs, last_states, sequences)


class Recorder:
    """A step that shows `[output, *states]` of a cell's step, joined on one axis.

    Attributes:
        first: Whether the record stands first among the states, and is carried with them.
    """

    state_size = 1

    def __init__(self, cell: Any, kwargs: dict[str, Any], recording: bool) -> None:
        self.cell = cell
        self.kwargs = kwargs
        self.recording = recording
        self.first = True
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, inputs: Any, states: Any) -> Any:
        """Take a step."""
        states = list(states)[1:] if self.first else list(states)
        output, new = self.one_step(inputs, states)
        record = self.join(output, new)
        return record, [record, *new] if self.first else new

    call = __call__

    def one_step(self, inputs: Any, states: list[Any]) -> Any:
        """The cell's own step, its states nested as they came: stacks of one cell unnest them."""
        output, new = self.cell(inputs, states, **self.kwargs)
        return output, list(tree.pack_sequence_as(states, tree.flatten(new)))

    def join(self, output: Any, states: Any) -> Any:
        """Lay the output, and the states when they are recorded, side by side."""
        parts = [output, *(tree.flatten(states) if self.recording else ())]
        self.shapes = [tuple(part.shape[1:]) for part in parts]
        if len(parts) == 1:
            return output
        flat = [
            ops.reshape(part, (-1, math.prod(shape)))
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return ops.concatenate([ops.cast(part, output.dtype) for part in flat], axis=-1)

    def part(self, record: Any) -> list[Any]:
        """Undo `join` for a record, or a sequence of them."""
        if len(self.shapes) == 1:
            return [record]
        lead = tuple(ops.shape(record)[:-1])
        parts = cut(record, [math.prod(shape) for shape in self.shapes])
        return [
            ops.reshape(part, (*lead, *shape)) if len(shape) != 1 else part
            for part, shape in zip(parts, self.shapes, strict=True)
        ]


def cut(joined: Any, sizes: list[int]) -> list[Any]:
    """Cut the last axis into parts of these sizes.

    By slices: Keras's split by places waits for the GPU on torch.
    """
    ends = itertools.accumulate(sizes)
    return [joined[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


def require_time_axis(name: str, sequences: Any) -> None:
    """Refuse an input that has lost its time axis, and say where it may have."""
    rank = len(getattr(sequences, "shape", (0, 0, 0)))
    if rank < 3:
        raise ValueError(
            f"`sequences` of {name!r}: expected ndim=3, (batch, time, features); found "
            f"ndim={rank}, shape {tuple(sequences.shape)}. If a recurrent layer comes before, pass "
            "return_sequences=True to it, so that it hands on every step."
        )


def draw_dropout(cell: Any, inputs: Any, states: Any) -> Any:
    """Draw a pass's dropout masks before its loop, where a seed may still advance.

    Returns:
        A tensor of the shape of the cell's output, for the cell stacked on it.
    """
    if isinstance(cell, keras.layers.StackedRNNCells):
        for one, state in zip(cell.cells, states, strict=True):
            inputs = draw_dropout(one, inputs, state)
        return inputs
    h = tree.flatten(states)[0]
    if hasattr(cell, "get_dropout_mask"):
        cell.get_dropout_mask(inputs)
        cell.get_recurrent_dropout_mask(h)
    size = getattr(cell, "output_size", None) or tree.flatten(cell.state_size)[0]
    return ops.zeros((ops.shape(inputs)[0], size), h.dtype)


def release_dropout(cell: Any) -> None:
    """Let go of a pass's dropout masks."""
    for one in getattr(cell, "cells", [cell]):
        if hasattr(one, "reset_dropout_mask"):
            one.reset_dropout_mask()
            one.reset_recurrent_dropout_mask()


def _fitted(name: str, given: list[Any], expected: list[Any], batch: int | None) -> list[Any]:
    """Broadcast given states to the batch, or say what is wrong with them."""
    shapes = [tuple(state.shape) for state in expected]
    wanted = ", ".join(str(("batch", *shape[1:])) for shape in shapes)
    if len(given) != len(expected):
        raise ValueError(
            f"`initial_state` of {name!r} must hold {len(expected)} states of shapes {wanted}; "
            f"received {len(given)}. Pass one tensor a state, in the order of `return_state`."
        )
    fitted = []
    for state, like, shape in zip(given, expected, shapes, strict=True):
        found = tuple(state.shape)
        lacks_rows = len(found) == len(shape) - 1
        rows = 1 if lacks_rows else found[0] if found else None
        fits = found[-(len(shape) - 1) :] == shape[1:] and len(found) in (
            len(shape),
            len(shape) - 1,
        )
        if not fits or (rows not in (None, 1, batch) and batch is not None):
            raise ValueError(
                f"`initial_state` of {name!r} must hold states of shapes {wanted}, or one row to "
                f"stand for every sample; received shape {found} for a batch of {batch}. Give "
                "each state one row a sample."
            )
        fitted.append(ops.broadcast_to(state, ops.shape(like)) if rows == 1 != batch else state)
    return fitted
