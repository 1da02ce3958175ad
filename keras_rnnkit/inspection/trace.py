"""trace: every state and gate of a model's recurrent layers, as named arrays."""

import functools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.inspection import passes
from keras_rnnkit.progress import Progress
from keras_rnnkit.recurrent import kernels, masks, replay
from keras_rnnkit.recurrent.equations import equations_of, follows_from_h
from keras_rnnkit.recurrent.rnn import RNN, Pass
from keras_rnnkit.recurrent.zoneout import bare

LOW, HIGH = 0.1, 0.9  # a gate beyond either is called saturated
STILL = 1e-6  # a unit that stays within this is called dead, or frozen


@dataclass(frozen=True)
class NotFinite:
    """The first NaN or infinity of a trace.

    Attributes:
        name: The state or gate in which it occurs first; the output if in none of them.
        step: The time step, from 0.
        row: The sample.
        unit: The unit.
        value: The value.
    """

    name: str
    step: int
    row: int
    unit: int
    value: float

    def __str__(self) -> str:
        return f"{self.value} in {self.name}, unit {self.unit}, step {self.step}, row {self.row}"


@dataclass(frozen=True)
class Summary:
    """Saturated gates, dead units and NaN in a trace; masked steps do not count.

    Attributes:
        saturation: For each gate, the share of its values below 0.1 and above 0.9 in magnitude.
            For a candidate (`g`, `n`), which lies between -1 and 1, the second is the share of
            saturated tanh.
        dead: Units whose h is zero, within 1e-6, at every step of every sample.
        frozen: Units whose h is not zero and stays the same, within 1e-6, over each sample.
        not_finite: The first NaN or infinity, or None.
    """

    saturation: dict[str, tuple[float, float]]
    dead: tuple[int, ...]
    frozen: tuple[int, ...]
    not_finite: NotFinite | None


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """Every state and gate of one recurrent layer, one cell of a stack, or one direction.

    The time axis is that of the input, also for `go_backwards` and backward directions. At a masked
    step a state repeats the one before it, as in the layer, and a gate, which took no part, is NaN.

    Attributes:
        layer: Its key: the names that lead to it, such as `"bidirectional/forward_lstm"`.
        kind: `"SimpleRNN"`, `"LSTM"`, `"GRU"`, or the class of a cell of another kind; under
            zoneout `"Zoneout(LSTM)"`.
        output: (batch, time, units), the output of the layer at each step.
        states: (batch, time, units) by name: `h`, and `c` for the LSTM. A cell of another kind has
            the names of its `state_names`, else `h`, `state_1`, ..., nested states flat; a state
            of a higher rank has its axes after the time. Empty for a cell that the model steps by
            itself.
        gates: (batch, time, units) by name: LSTM `i`, `f`, `g`, `o`; GRU `z`, `r`, `n`; SimpleRNN
            `n`. Empty for a cell of another kind.
        mask: (batch, time), true where the step counts, or None.
        note: What is missing, and why; empty otherwise.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> traced = rk.trace(rk.GRU(4, name="gru"), np.ones((2, 5, 3), "float32"))["gru"]
    >>> traced["z"].shape
    (2, 5, 4)
    """

    layer: str
    kind: str
    output: np.ndarray
    states: dict[str, np.ndarray]
    gates: dict[str, np.ndarray]
    mask: np.ndarray | None
    note: str

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a state or a gate by its name."""
        for part in (self.states, self.gates):
            if name in part:
                return part[name]
        note = f" ({self.note})" if self.note else ""
        raise ValueError(
            f"`name` must be a state or gate of {self.layer!r}, one of "
            f"{[*self.states, *self.gates]}{note}; received {name!r}. Take one of those."
        )

    @cached_property
    def summary(self) -> Summary:
        """Gate saturation, dead and frozen units, and the first NaN or infinity."""
        h = next(iter(self.states.values()), None)
        if h is None or h.ndim != 3:
            return Summary({}, (), (), self._not_finite())
        counts: Any = np.ones(h.shape[:2], bool) if self.mask is None else self.mask
        saturation = {}
        for name, gate in self.gates.items():
            size = np.abs(gate[counts])
            size = size[np.isfinite(size)]
            low, high = (size < LOW).sum(), (size > HIGH).sum()
            saturation[name] = (low / max(size.size, 1), high / max(size.size, 1))
        counted = counts[..., None]
        with np.errstate(invalid="ignore"):
            highest = np.where(counted, h, -np.inf).max(axis=1)
            lowest = np.where(counted, h, np.inf).min(axis=1)
            some = counts.any(axis=1)[:, None]
            zero = ~some | (np.maximum(np.abs(highest), np.abs(lowest)) <= STILL)
            still = ~some | (highest - lowest <= STILL)
        dead = zero.all(axis=0) & some.any()
        frozen = still.all(axis=0) & ~dead & bool((counts.sum(axis=1) > 1).any())
        return Summary(
            saturation,
            tuple(np.flatnonzero(dead).tolist()),
            tuple(np.flatnonzero(frozen).tolist()),
            self._not_finite(),
        )

    def _not_finite(self) -> NotFinite | None:
        found = []
        # Gates first: at one step they are made before the states.
        for name, values in [*self.gates.items(), *self.states.items(), ("output", self.output)]:
            if np.isfinite(values.sum()):
                continue
            bad = ~np.isfinite(values)
            if self.mask is not None:
                bad &= self.mask.reshape(self.mask.shape + (1,) * (bad.ndim - 2))
            if bad.any():
                step = int(bad.any(axis=tuple({*range(bad.ndim)} - {1})).argmax())
                at = np.argwhere(bad[:, step])[0]
                value = float(values[:, step][tuple(at)])
                found.append(NotFinite(name, step, int(at[0]), int(at[-1]), value))
        return min(found, key=lambda each: each.step, default=None)

    def __repr__(self) -> str:
        if not self.states:
            return f"{self.layer} ({self.kind}): {self.note}"
        batch, time, *_, units = self.output.shape
        masked = "" if self.mask is None else f", {1 - self.mask.mean():.0%} of the steps masked"
        size = f"{batch} samples, {time} steps, {units} units"
        lines = [f"{self.layer} ({self.kind}): {size}{masked}"]
        lines.append(f"  {'':8}{'lowest':>10}{'highest':>10}{'< 0.1':>8}{'> 0.9':>8}")
        summary = self.summary
        for name, values in {**self.states, **self.gates}.items():
            finite = values[np.isfinite(values)]
            ends = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
            line = f"  {name:8}{ends[0]:10.3g}{ends[1]:10.3g}"
            if name in summary.saturation:
                low, high = summary.saturation[name]
                line += f"{low:8.0%}{high:8.0%}"
            lines.append(line)
        for what, found in (("dead", summary.dead), ("frozen", summary.frozen)):
            if found:
                shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
                lines.append(f"  {what} units: {len(found)} of {units} ({shown})")
        if summary.not_finite:
            lines.append(f"  first not finite: {summary.not_finite}")
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])


class Traces(dict[str, Trace]):
    """A `Trace` by the key of its layer, in the order in which the layers run."""

    def __missing__(self, key: Any) -> Trace:
        raise KeyError(f"{key!r} is none of the layers in this trace: {list(self)}")


def trace(
    model_or_layer: Any,
    inputs: Any,
    *,
    mask: Any = None,
    batch_size: int = 32,
    progress: bool = True,
) -> Traces:
    """Return every state and gate of every recurrent layer in a call of a model.

    It works with layers of Keras and of this library, in models of every kind, built here or loaded
    from disk. The model is called as by `predict`, and stays as it is: weights, carried states and
    seeds. Other threads may call it meanwhile. The pass of each layer gives h. The gates are
    computed from h by the equations of the cell, in one product for all steps, and the LSTM's c
    from the gates. For a cell of another kind the pass is made again, recording its states.

    Args:
        model_or_layer: A model, or a layer. One that was never called is built.
        inputs: Its inputs: an array, or a list or dict of arrays, with samples on the first axis.
        mask: (batch, time), for a recurrent layer alone, true where a step counts.
        batch_size: Samples in a batch; no more are on the device at a time. States of stateful
            layers are carried from batch to batch, as in `predict`.
        progress: Whether to show a line on stderr when it takes more than two seconds.

    Returns:
        One `Trace` for each recurrent layer, in the order in which they run. The keys are names
        joined by `/`: `"lstm"`, `"inner_model/lstm"`, `"bidirectional/forward_lstm"`, and
        `"rnn/gru_cell"` for a cell of a stack. A layer that is called twice comes twice, as
        `"lstm"` and `"lstm#2"`; under a `TimeDistributed` each outer step of a sample is a sample
        of its own: (batch * outer steps, time, units). A layer that the call does not reach is
        left out. A cell that the model steps by itself, as attention decoders
        do, has a `Trace` without arrays, whose `note` says so.

    Raises:
        ValueError: If there is no recurrent layer, the call reaches none, `batch_size` is not
            positive, there are no samples, or not as many in each array, or `model_or_layer` is a
            cell.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, name="lstm")])
    >>> traced = rk.trace(model, np.ones((2, 5, 3), "float32"))
    >>> traced["lstm"]["c"].shape, list(traced["lstm"].gates)
    ((2, 5, 4), ['i', 'f', 'g', 'o'])
    """
    passes.require_rows(model_or_layer, batch_size, inputs=inputs, mask=mask)
    return Tracer(model_or_layer, inputs, batch_size)(inputs, mask, batch_size, progress)


class _Facts(NamedTuple):
    """What is known of a layer when its call is compiled, except arrays.

    Attributes:
        kind: As in `Trace`.
        note: As in `Trace`.
        backwards: Whether its arrays run from the last step to the first.
        names: Of its arrays, in order: JAX sorts what a compiled function returns.
    """

    kind: str
    note: str
    backwards: bool
    names: tuple[str, ...]


class Tracer:
    """`trace` for one model, compiled once for many calls."""

    def __init__(self, root: Any, inputs: Any, batch_size: int) -> None:
        passes.build(root, passes.rows_of(inputs, slice(0, batch_size)))
        self._root = root
        self._variables = passes.variables(root)
        self._facts: dict[str, _Facts] = {}
        self._run = kernels.current().compiled(self._call)

    def __call__(self, inputs: Any, mask: Any, batch_size: int, progress: bool) -> Traces:
        """Trace all samples, batch by batch."""
        total = len(tree.flatten(inputs)[0])
        values = passes.values(self._variables)
        arrays: dict[tuple[str, str, str], np.ndarray] = {}
        done = 0
        with Progress("trace", lambda: done / total, shown=progress) as line:
            for start in range(0, total, batch_size):
                rows = slice(start, min(start + batch_size, total))
                masked = None if mask is None else ops.convert_to_tensor(mask[rows])
                found, assigned = self._run(values, passes.rows_of(inputs, rows), masked)
                for index, value in assigned.items():
                    values[index] = value
                self._store(arrays, found, rows, total)
                done = rows.stop
                line.update()
        return self._traces(arrays, total)

    def _call(self, values: Any, inputs: Any, mask: Any) -> Any:
        """Call the model; return the arrays of its layers, and the variables it assigned."""
        found: dict[str, list[dict[str, Any]]] = {}
        facts: dict[str, _Facts] = {}

        def record(met: passes.Met) -> Any:
            layer, mask = met.layer, met.settled.mask
            result, outputs = met.own()
            for name, cell, parts in _cells(layer.cell, met.settled, outputs):
                key = f"{met.key}/{name}" if name else met.key
                if mask is not None:
                    shown = masks.shown(parts["output"], mask, layer.zero_output_for_mask)
                    parts |= {"output": shown, "mask": mask}
                found.setdefault(key, []).append(parts)
                facts[key] = _Facts(*_kind(cell), layer.go_backwards, tuple(parts))
            return result

        mapping = list(zip(self._variables, values, strict=True))
        with (
            keras.StatelessScope(mapping) as scope,
            passes.intercepted(self._root, record) as stepped,
        ):
            before = [scope.get_current_value(variable) for variable in self._variables]
            masked = {} if mask is None else {"mask": mask}
            self._root(inputs, training=False, **masked)
            after = [scope.get_current_value(variable) for variable in self._variables]
        for key, cell in stepped.items():
            facts[key] = _Facts(_kind(cell)[0], passes.STEPPED, False, ())
        self._facts = facts
        assigned = {
            index: new
            for index, (old, new) in enumerate(zip(before, after, strict=True))
            if new is not old
        }
        return {key: _merged(parts) for key, parts in found.items()}, assigned

    def _store(self, arrays: Any, found: Any, rows: slice, total: int) -> None:
        """Put the results of a batch at their samples, in the time order of the input."""
        for key, parts in found.items():
            backwards = self._facts[key].backwards
            for name, tensor in parts.items():
                batch = ops.convert_to_numpy(tensor)
                if batch.dtype.kind not in "biuf":  # bfloat16, which NumPy does not know
                    batch = batch.astype("float32")
                batch = batch[:, ::-1] if backwards else batch
                each = len(batch) // (rows.stop - rows.start)
                if (key, name) not in arrays:
                    arrays[key, name] = np.empty((total * each, *batch.shape[1:]), batch.dtype)
                arrays[key, name][rows.start * each : rows.stop * each] = batch

    def _traces(self, arrays: Any, total: int) -> Traces:
        if not self._facts:
            raise ValueError(
                f"`model_or_layer` must call a recurrent layer; {self._root.name!r} holds "
                f"{[site.key for site in passes.sites(self._root)]} and its call reaches none of "
                "them. Pass the part of the model that uses them."
            )
        traces = Traces()
        for key, facts in self._facts.items():
            own = {name: arrays[key, name] for name in facts.names}
            output = own.get("output", np.empty((total, 0, 0), "float32"))
            mask = own.get("mask")
            states = {name[6:]: own[name] for name in own if name.startswith("state ")}
            gates = {name[5:]: own[name] for name in own if name.startswith("gate ")}
            if mask is not None:
                for gate in gates.values():
                    gate[~mask] = np.nan
            traces[key] = Trace(key, facts.kind, output, states, gates, mask, facts.note)
        return traces


def _cells(cell: Any, settled: Pass, outputs: Any) -> Any:
    """The name, cell and arrays of each cell of a layer, in the order of processing."""
    sequences, starts = settled.sequences, settled.starts or settled.states
    each = zip(passes.cells(cell, settled.states), passes.cells(cell, starts), strict=True)
    for (name, one, states), (_, _, own_starts) in each:
        alone = replace(settled, sequences=sequences, states=list(states), starts=own_starts)
        parts = _parts(one, alone, None if name else outputs)
        sequences = parts["output"]
        yield name, one, parts


def _parts(cell: Any, settled: Pass, outputs: Any) -> dict[str, Any]:
    """Outputs, states and gates of one cell; `outputs` is None where its pass was not made."""
    equations = equations_of(cell)
    mask = settled.mask
    wide = getattr(cell, "return_state", False)
    recorded = outputs is None or wide or settled.resets is not None
    if recorded or equations is None or not follows_from_h(equations):
        recorder = RNN(
            cell,
            return_sequences=True,
            return_state_sequences=True,
            dtype=getattr(cell, "dtype_policy", None),
            name="recorder",
        )
        result = recorder.run(settled)
        outputs, states = result.outputs, result.sequences
    else:
        initial = tree.flatten(settled.states)
        h = outputs
        if mask is not None:
            # The steps that count say all; what the others show differs between Keras's paths.
            packed = masks.pack(h, mask)
            h = masks.unpack(packed.sequence, initial[0], packed.counts)
        outputs, states = h, [h]
    parts = {"output": outputs}
    gates: list[Any] = []
    equations = equations_of(bare(cell))
    if equations is not None:
        restarted = None
        if settled.resets is not None:
            restarted = functools.partial(settled.restarted, resets=settled.resets)
        initial = tree.flatten(settled.states)
        gates, states = replay.gates_and_states(
            equations, bare(cell), settled.sequences, states, initial, mask, restarted
        )
    names = state_names(cell, len(states))
    parts |= {f"state {name}": state for name, state in zip(names, states, strict=True)}
    if equations is not None:
        pairs = zip(equations.gate_names, gates, strict=True)
        parts |= {f"gate {name}": gate for name, gate in pairs}
    return parts


def state_names(cell: Any, count: int) -> tuple[str, ...]:
    """Return the names of a cell's states: its own, or `h`, `state_1`, ..."""
    cell = bare(cell)
    equations = equations_of(cell)
    known = getattr(cell, "state_names", None) if equations is None else equations.state_names
    if known is not None and len(known) == count:
        return tuple(known)
    return ("h", *(f"state_{index}" for index in range(1, count)))


def _kind(cell: Any) -> tuple[str, str]:
    if bare(cell) is not cell:
        kind, note = _kind(bare(cell))
        return f"Zoneout({kind})", note
    name = type(cell).__name__
    if equations_of(cell) is not None:
        return name.removesuffix("Cell"), ""
    return name, f"gates unknown: {name} is not a cell this library knows"


def _merged(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The calls of a TimeDistributed as samples: the outer steps of a sample follow each other."""
    if len(calls) == 1:
        return calls[0]
    return {
        name: ops.reshape(
            ops.stack([parts[name] for parts in calls], axis=1),
            (-1, *calls[0][name].shape[1:]),
        )
        for name in calls[0]
    }
