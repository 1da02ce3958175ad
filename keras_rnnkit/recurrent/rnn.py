"""RNN: any Keras cell, with every state of every step."""

from __future__ import annotations  # short names of types in help and signatures

import inspect
from dataclasses import dataclass, replace
from typing import Any, Unpack

import keras
from keras import ops, tree

from keras_rnnkit.recurrent import kernels, masks, replay
from keras_rnnkit.recurrent.arguments import DType, LayerOptions, Regularizer, flag, given
from keras_rnnkit.recurrent.classical import StateCell
from keras_rnnkit.recurrent.equations import (
    Equations,
    equations_of,
    require_named,
    step_of,
    with_dropped_weights,
)
from keras_rnnkit.recurrent.linear_scan import linear_scan
from keras_rnnkit.recurrent.own_cell import Cell
from keras_rnnkit.recurrent.starts import Starts
from keras_rnnkit.recurrent.states import put_back, value_of
from keras_rnnkit.recurrent.zoneout import Zoneout

register = keras.saving.register_keras_serializable(package="keras_rnnkit")


@dataclass
class Pass:
    """One pass over a batch, in the order of processing.

    Attributes:
        sequences: (batch, time, ...), reversed for `go_backwards`.
        states: The states before the first step, as the cell nests them.
        mask: (batch, time) booleans, reversed likewise, or None.
        training: Whether dropout applies.
        resets: (batch, time) booleans, true where the states go back to `starts` before the step,
            or None.
        starts: The states that the cell begins with, nested like `states`; only beside `resets`.
    """

    sequences: Any
    states: list[Any]
    mask: Any
    training: bool
    resets: Any = None
    starts: Any = None

    @property
    def cuts(self) -> tuple[Any, ...]:
        """Resets and mask, by which a kernel would part the rows; empty where nothing resets."""
        return () if self.resets is None else (self.resets, self.mask)

    def without_padding(self) -> Pass:
        """The same pass with zeros at masked steps: a NaN there would reach the weights."""
        if self.mask is None:
            return self
        sequences = tree.map_structure(lambda x: masks.zeroed(x, self.mask), self.sequences)
        return replace(self, sequences=sequences)

    def restarted(self, states: list[Any], resets: Any) -> list[Any]:
        """States, flat, from the start where `resets`; see `masks.restarted`.

        An output that stands before them is none, and stays.
        """
        starts = tree.flatten(self.starts)
        kept = len(states) - len(starts)
        pairs = zip(starts, states[kept:], strict=True)
        return [*states[:kept], *(masks.restarted(x, start, resets) for start, x in pairs)]


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


class RecurrentLayer(Starts, keras.layers.RNN):
    """What the layers of this package add to Keras's, apart from how a pass runs.

    `begin` settles a call's inputs, `run` makes the pass, `conclude` keeps a stateful layer's
    states and arranges the results. A subclass defines `run`.
    """

    paired = False  # whether it looks like a copy made by Keras's Bidirectional
    features: int | None = None  # that its weights are made for

    def __init__(
        self,
        *,
        return_state_sequences: bool,
        save_states: bool,
        learn_initial_state: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # which Keras's own no longer do after 3.15
        self.return_state_sequences = return_state_sequences
        self.save_states = save_states
        self.learn_initial_state = learn_initial_state
        self.learned_states: list[Any] = []
        self.regularized: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; refuse one that would be without effect, or with a wrong one."""
        if name == "stateful" and value and self.built and self.states is None:
            raise ValueError(
                f"`stateful` of {self.name!r} must be set before the layer is built: the states "
                "are made there, and it has none to carry. Make the layer with stateful=True, or "
                "from its get_config(), and give it these weights by set_weights."
            )
        if name in ("return_state_sequences", "save_states", "learn_initial_state"):
            value = flag(name, value)
        if name == "save_states" and value and not self.stateful:
            raise ValueError(
                "`save_states=True` saves the states that a stateful layer carries; received "
                "stateful=False. Pass stateful=True, or leave `save_states` out."
            )
        if name == "zero_output_for_mask" and hasattr(self, "return_state_sequences"):
            # Of all that sets it after the constructor, Keras's Bidirectional names its copies so.
            self.paired = self.name.startswith(("forward_", "backward_"))
        super().__setattr__(name, value)

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Make the weights, and the states that a stateful layer carries."""
        if self.paired and self.return_state_sequences:
            raise ValueError(
                f"{self.name!r} has return_state_sequences=True, which keras.layers.Bidirectional "
                "would take for one output and turn the wrong axis of. Use rk.Bidirectional."
            )
        super().build(sequences_shape, initial_state_shape)
        if self.output_regularizer is not None:
            regularizer = self.output_regularizer
            self.regularized = keras.layers.Identity(
                activity_regularizer=regularizer, dtype=self.dtype_policy
            )
        if self.learn_initial_state and not self.learned_states:
            # To a stateful one no gradient comes from behind the states that are carried over.
            self.make_learned_states(trainable=not self.stateful)
        self.features = sequences_shape[-1]
        if self.save_states:
            for variable in tree.flatten(self.states):
                value_of(variable)  # refuses what no file could hold

    def __call__(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the sequences, then call as every layer; see the class."""
        require_sequences(self, sequences)
        require_functional(self, sequences)
        if kwargs.get("reset") is not None:
            require_resets(self.name, kwargs["reset"], sequences)
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
        """Process whole sequences; see the class.

        Keras fills in `sequences_mask` where it drops `mask`: in a call with initial states, or
        with `reset`.
        """
        mask = sequences_mask if mask is None else mask
        settled = self.begin(sequences, initial_state, mask, training, reset)
        try:
            result = self.run(settled)
        finally:
            release_dropout(self.cell)
        found = self.conclude(settled, result)
        if self.return_state_sequences and self.regularized is not None:
            for output in tree.flatten(found)[: -len(tree.flatten(settled.states))]:
                self.regularized(output)
        return found

    @property
    def activity_regularizer(self) -> Any:
        """What Keras applies to each result of a call: None with state sequences.

        Else every state of every step would count as an output. `regularized` takes the outputs.
        """
        return None if getattr(self, "return_state_sequences", False) else self.output_regularizer

    @activity_regularizer.setter
    def activity_regularizer(self, value: Any) -> None:
        self.output_regularizer = value

    def run(self, settled: Pass) -> Result:
        """Make a pass."""
        raise NotImplementedError

    @property
    def equations(self) -> type[Equations]:
        """The cell's equations."""
        return equations_of(self.cell)  # type: ignore[return-value]

    def in_pass(self, settled: Pass) -> Any:
        """The cell as a pass has it: with dropped weights, where it drops them."""
        return with_dropped_weights(self.cell, settled.states[0], settled.training)

    def by_equations(self, settled: Pass) -> tuple[Any, Any]:
        """What a loop over a cell with known equations reads at each step, and the step."""
        equations, cell, inputs = self.equations, self.in_pass(settled), settled.sequences
        hoists = kernels.current().hoists(inputs)
        if hoists:
            inputs = equations.project(cell, inputs, settled.training)

        def step(states: Any, inputs_t: Any) -> Any:
            projected = inputs_t[0]
            if not hoists:
                projected = equations.project(cell, projected, settled.training)
            gates, new = equations.step(cell, projected, states, settled.training)
            if isinstance(cell, Cell):
                require_named(cell, gates, new)
            return new

        return inputs, step

    def loop(self, settled: Pass, inputs: Any, states: list[Any], step: Any) -> Any:
        """Take a step at a time, recording only what is asked for; a masked one holds the states.

        Args:
            settled: The pass.
            inputs: What the steps read, each (batch, time, ...).
            states: Before the first step, flat. The first is the output: zeros where it is None.
            step: `step(states, [inputs_t, ...]) -> states`.

        Returns:
            The states after the last step; those asked for at every step, (batch, time, ...).
        """
        kernel = kernels.current()
        scan = kernels.unrolled if self.unroll else kernel.scan
        by_time = [_time_first(x) for x in inputs]
        counts = len(by_time)  # where the mask stands, if there is one
        for marks in (settled.mask, settled.resets):
            if marks is not None:
                by_time.append(ops.expand_dims(ops.transpose(marks), -1))
        if states[0] is None and scan is not kernels.unrolled:
            states[0] = ops.zeros_like(step(states, [x[0] for x in by_time])[0])

        def held(states: Any, inputs_t: Any) -> Any:
            if settled.resets is not None:
                states = settled.restarted(list(states), inputs_t[-1])
            if settled.mask is None:
                return step(states, inputs_t)
            pairs = zip(step(states, inputs_t), states, strict=True)
            return [
                masks.where(inputs_t[counts], x, ops.zeros_like(x) if before is None else before)
                for x, before in pairs
            ]

        def keep(states: Any) -> Any:
            if self.return_state_sequences:
                return states
            return states[:1] if self.return_sequences else []

        last, kept = scan(held if len(by_time) > 1 else step, states, by_time, keep)
        return list(last), [_time_first(sequence) for sequence in kept]

    def begin(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool, reset: Any = None
    ) -> Pass:
        """Settle the inputs of a call: states of the batch's size, the order, dropout masks."""
        self._require_steps(sequences.shape)
        states = self._settle_states(initial_state, sequences)
        if training:
            draw_dropout(self.cell, sequences[:, 0], states)
        if mask is not None and any(m is not None for m in tree.flatten(mask)):
            mask = self._settle_mask(masks.as_mask(mask), sequences)
        else:
            mask = None
        starts = None
        if reset is not None:
            require_resets(self.name, reset, sequences)
            starts = self.get_initial_state(ops.shape(sequences)[0])
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
            if reset is not None:
                # What parts a step from the one before parts it from the next one, seen backwards.
                before = ops.flip(reset[:, 1:], axis=1)
                reset = ops.concatenate([ops.zeros_like(reset[:, :1]), before], axis=1)
        return Pass(sequences, states, mask, training, reset, starts)

    def conclude(self, settled: Pass, result: Result) -> Any:
        """Arrange the results of a pass as the caller asked for them."""
        mask, zero = settled.mask, self.zero_output_for_mask
        if mask is not None and settled.resets is not None and not zero:
            # As the mask of a call for each part would show it.
            mask, zero = seen(mask, settled.resets), True
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
            for cell, states in _cells(self.cell, default)
            for _ in tree.flatten(states)
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

    def reset_state(self, samples: Any = None) -> None:
        """Put the carried states back to what the cell begins with.

        Args:
            samples: Indices or booleans of the samples to put back; all when None.
        """
        put_back(self, samples)

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
        if self.learned_states:
            put_back(self)
        if self.save_states and saved:
            for index, variable in enumerate(tree.flatten(self.states or [])):
                variable.assign(saved[f"state_{index}"])

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Return the shape of each result of a call."""
        require_sequences(self, keras.KerasTensor(sequences_shape))
        self._require_steps(sequences_shape)
        starts = self.get_initial_state(1)

        def states_behind(*lead: Any) -> list[Any]:
            return tree.map_structure(lambda start: (*lead, *start.shape[1:]), starts)

        batch, time = sequences_shape[:2]
        lead = (batch, time) if self.return_sequences else (batch,)
        size = output_shape(self.cell, starts)
        found = [(*lead, *size)]
        found += states_behind(batch) if self.return_state else []
        found += states_behind(batch, time) if self.return_state_sequences else []
        return tuple(found) if len(found) > 1 else found[0]

    def compute_mask(self, sequences: Any, previous_mask: Any) -> Any:
        """Pass the mask on with every result that has a time axis."""
        mask = tree.flatten(previous_mask)[0] if previous_mask is not None else None
        found = [mask if self.return_sequences else None]
        states = len(tree.flatten(self.get_initial_state(1)))
        found += [None] * states * self.return_state
        found += [mask] * states * self.return_state_sequences
        return found if len(found) > 1 else found[0]

    @classmethod
    def from_config(cls, config: dict[str, Any], **kwargs: Any) -> Any:
        """Make a layer from its configuration, one that Keras 2 wrote too."""
        if config.get("time_major"):
            raise ValueError(
                f"{cls.__name__}: Keras 3 has no `time_major`; received time_major=True. Transpose "
                "the sequences to (batch, time, features), and take it out of the configuration."
            )
        config = {name: value for name, value in config.items() if name != "time_major"}
        return super().from_config(config, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return Keras's configuration and what this package adds."""
        return {
            **super().get_config(),
            "activity_regularizer": keras.regularizers.serialize(self.output_regularizer),
            "return_state_sequences": self.return_state_sequences,
            "save_states": self.save_states,
            "learn_initial_state": self.learn_initial_state,
        }


@register
class RNN(RecurrentLayer):
    """Keras's RNN that can return every state at every step, for any cell.

    The cell may be Keras's, a list of cells, or a user's own with `call` and `state_size`, its
    states of any nest and rank. Their shapes are those of the cell's `get_initial_state`, else
    (batch, size) for each integer of `state_size`; the output has the shape of the first, or
    `output_size`.

    Args:
        cell: A cell, or a list of cells to stack.

    :doc:`/glossary` says what the other arguments, a call and its results are: those of
    `keras.layers.RNN`, `return_state_sequences` and `save_states`. Each state, and each sequence of
    states, is nested as the cell nests them.

    Raises:
        ValueError: If the cell has no `state_size` or no `call`, or if there are several inputs.

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
        learn_initial_state: bool = False,
        activity_regularizer: Regularizer = None,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        arguments = given(locals())
        for one in cell if isinstance(cell, (list, tuple)) else [cell]:
            if isinstance(one, keras.layers.RNN):
                raise ValueError(
                    f"`cell` must be a cell, which takes one step; received the layer {one!r}. "
                    "Pass its attribute `cell`, or use the layer itself."
                )
            if not hasattr(one, "call") or getattr(one, "state_size", None) is None:
                raise ValueError(
                    "`cell` must have a `call(inputs, states)` method and a `state_size`, an "
                    "integer or one integer a state; received "
                    f"{one!r} without {'`state_size`' if hasattr(one, 'call') else '`call`'}. "
                    "Set `self.state_size` in the cell's __init__."
                )
        super().__init__(**arguments)

    def run(self, settled: Pass) -> Result:
        """Make a pass a step at a time, with the output carried before the states."""
        settled = settled.without_padding()
        if self.at_once:
            return self._run_scan(settled)
        if self._steps_by_equations():
            inputs, by_equations = self.by_equations(settled)
            last, kept = self.loop(settled, [inputs], settled.states, by_equations)
            return Result(last[0], kept[0] if kept else None, last, kept)
        take = step_of(self.cell, settled.training)
        cells = _cells(self.cell, settled.states) if settled.training else []
        zoned = [(cell, states) for cell, states in cells if isinstance(cell, Zoneout)]
        lead = ops.shape(settled.sequences)[:2]
        noise = [each for cell, states in zoned for each in cell.draw(lead, states)]

        def step(states: Any, inputs_t: Any) -> list[Any]:
            drawn = iter(inputs_t[1:])
            for cell, of_cell in zoned:
                cell.noise = [next(drawn) for _ in tree.flatten(of_cell)]
            nested = tree.pack_sequence_as(settled.states, list(states)[1:])
            output, new = take(inputs_t[0], nested)
            return [output, *tree.flatten(new)]

        starts = [None, *tree.flatten(settled.states)]
        last, kept = self.loop(settled, [settled.sequences, *noise], starts, step)
        return Result(last[0], kept[0] if kept else None, last[1:], kept[1:])

    @property
    def linear(self) -> bool:
        """Whether the cell is linear in its state, so that all steps can be computed at once."""
        return self._steps_by_equations() and type(self.cell).step is Cell.step

    @property
    def at_once(self) -> bool:
        """Whether all steps are: not where XLA makes one loop of a step's equations on a CPU."""
        kernel = kernels.current()
        return self.linear and not (kernel.LOOP == "scan" and kernel.device(None) == "CPU")

    def _steps_by_equations(self) -> bool:
        """Whether the cell's equations say all that a call of it would do."""
        own = isinstance(self.cell, StateCell) and self.equations is not None
        return own and self.cell.dtype_policy == self.dtype_policy and not self.cell.return_state

    def _run_scan(self, settled: Pass) -> Result:
        """Compute all steps of a cell that is linear in its state at once."""
        cell = self.cell
        gates = cell.gates(cell.project(settled.sequences, settled.training))
        leak, drive = cell.leak_and_drive(gates)
        require_named(cell, gates, [leak])
        start = None if settled.starts is None else settled.starts[0]
        h = replay.recurrence(leak, drive, settled.states[0], settled.mask, settled.resets, start)
        return Result(h[:, -1], h, [h[:, -1]], [h])


def _time_first(sequence: Any) -> Any:
    """(batch, time, ...) from (time, batch, ...) and back."""
    return ops.transpose(sequence, (1, 0, *range(2, sequence.ndim)))


def require_sequences(layer: Any, sequences: Any) -> None:
    """Refuse what is no batch of sequences, or one of other features than the layer has met."""
    of = f"`sequences` of {layer.name!r}"
    if not hasattr(sequences, "shape"):
        raise ValueError(
            f"{of} must be one array or tensor, (batch, time, features); received a "
            f"{type(sequences).__name__}{_advice(sequences)}"
        )
    shape = tuple(sequences.shape)
    if len(shape) < 3:
        raise ValueError(
            f"{of}: expected ndim=3, (batch, time, features); found ndim={len(shape)}, shape "
            f"{shape}. If a recurrent layer comes before, pass return_sequences=True to it, so "
            "that it hands on every step."
        )
    if layer.features not in (None, shape[-1]) and shape[-1] is not None:
        raise ValueError(
            f"{of} must have {layer.features} features, (batch, time, {layer.features}), as in the "
            f"call that made its weights; received shape {shape}. Pass the same columns, or make "
            "a new layer."
        )


def _advice(sequences: Any) -> str:
    """How what is no array becomes one."""
    if isinstance(sequences, (list, tuple)) and not any(hasattr(x, "dtype") for x in sequences):
        lengths = {len(x) if hasattr(x, "__len__") else 0 for x in sequences}
        if len(lengths) > 1:
            return (
                f" of sequences of {min(lengths)} to {max(lengths)} steps. Pad them to one length, "
                "keras.utils.pad_sequences(sequences, padding='post', dtype='float32'), and let "
                "keras.layers.Masking mark the padding."
            )
        return ". Make it an array, numpy.array(sequences, 'float32')."
    return (
        ". Where a layer before returns its states too, take its first result, the output; join "
        "several inputs on their last axis, and part them in the cell; states go into "
        "`initial_state`."
    )


def require_functional(layer: Any, sequences: Any) -> None:
    """Refuse several results in a `Sequential`, whose next layer takes one."""
    asked = [name for name in ("return_state", "return_state_sequences") if getattr(layer, name)]
    if not asked or not isinstance(sequences, keras.KerasTensor):
        return
    frame = inspect.currentframe()
    while frame := frame and frame.f_back:
        model = frame.f_locals.get("self")
        if isinstance(model, keras.Sequential) and any(x is layer for x in model.layers[:-1]):
            raise ValueError(
                f"{layer.name!r} has {asked[-1]}=True and returns more than its output, which the "
                "next layer of a Sequential model cannot take. Build the model with the functional "
                "API: output, *states = layer(inputs)."
            )


def require_resets(name: str, reset: Any, sequences: Any) -> None:
    """Refuse a `reset` that is not one boolean a step of each sample."""
    wanted = tuple(sequences.shape[:2])
    found = tuple(getattr(reset, "shape", ()))
    fits = len(found) == 2 and all(
        None in pair or pair[0] == pair[1] for pair in zip(wanted, found, strict=True)
    )
    if not fits or "bool" not in str(reset.dtype):
        kind = getattr(reset, "dtype", type(reset).__name__)
        raise ValueError(
            f"`reset` of {name!r} must be booleans of shape (batch, time), {wanted} here; received "
            f"{kind} of shape {found}. Give one boolean a step of each sample, true where "
            "another sequence begins."
        )


def seen(mask: Any, resets: Any) -> Any:
    """Whether a step has counted since the last reset, (batch, time)."""
    leak = ops.logical_not(ops.logical_or(mask, resets))
    leak, drive = (ops.expand_dims(ops.cast(x, "float32"), -1) for x in (leak, mask))
    counted = linear_scan(leak, drive, ops.zeros_like(drive[:, 0]))
    return counted[..., 0] > 0


def draw_dropout(cell: Any, inputs: Any, states: Any) -> Any:
    """Draw a pass's dropout masks before its loop, where a seed may still advance.

    Returns:
        A tensor of the shape of the cell's output, for the cell stacked on it.
    """
    if isinstance(cell, keras.layers.StackedRNNCells):
        for one, state in _cells(cell, states):
            inputs = draw_dropout(one, inputs, state)
        return inputs
    h = tree.flatten(states)[0]
    if hasattr(cell, "get_dropout_mask"):
        cell.get_dropout_mask(inputs)
        cell.get_recurrent_dropout_mask(h)
    return ops.zeros((ops.shape(inputs)[0], *output_shape(cell, states)), h.dtype)


def _cells(cell: Any, states: Any) -> list[tuple[Any, Any]]:
    """Each cell of a stack, or the only one, with its states."""
    stacked = isinstance(cell, keras.layers.StackedRNNCells)
    return list(zip(cell.cells, states, strict=True)) if stacked else [(cell, states)]


def output_shape(cell: Any, states: Any) -> tuple[int, ...]:
    """The shape of a cell's output, without the batch: that of its first state, unless it says."""
    cell, states = _cells(cell, states)[-1]
    size = getattr(cell, "output_size", None)
    if size is None:
        return tuple(tree.flatten(states)[0].shape[1:])
    return tuple(size) if isinstance(size, (list, tuple)) else (size,)


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
    received = sum(state is not None for state in given)
    if not received == len(given) == len(expected):
        raise ValueError(
            f"`initial_state` of {name!r} must hold {len(expected)} states of shapes {wanted}; "
            f"received {received}. Pass one tensor a state, in the order of `return_state`."
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
