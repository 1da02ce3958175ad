"""gradient_flow and jacobian_norms: how far back in time a gradient reaches.

Two questions are kept apart. How a gradient is *carried* from step to step is the layer's own
affair: the product of its Jacobians, whatever the loss. Where it is *fed* is the loss's: at the
last step, or at every one. What arrives at a step is the sum of both.

All are derivatives by probes, zeros that are added in the loop:

- to each output as it is made: the derivative is what is fed at this step;
- to each state where it is made, before anything reads it: with the former, the total derivative;
- in a second pass, cut off from the loss and from the layers below, to each state as it is handed
  on: the derivative of the last states, weighted by a unit vector, is a row of the product.
"""

import functools
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.inspection import passes
from keras_rnnkit.inspection.trace import state_names, trace
from keras_rnnkit.progress import Progress
from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.equations import LSTMEquations, equations_of
from keras_rnnkit.recurrent.masks import count_steps
from keras_rnnkit.recurrent.rnn import RNN, Pass, cut

VANISHING, EXPLODING = 0.01, 100.0  # what is carried to the first step, of 1 at the last
FLOOR = 1e-30  # below it float32 begins to lose what is carried
DIRECTIONS = 32  # how many unit vectors a batch measures the Jacobians by
HALF = "computed in float16, where a gradient below 6e-8 is lost"


@dataclass(frozen=True, eq=False)
class LayerFlow:
    r"""How a gradient fares on its way back through one recurrent layer.

    Factor, half-life and verdict speak of `carried` alone. Lags count the steps that are not
    masked, back from each row's last one in the order of processing; with `go_backwards`, and in a
    backward direction, they lead to later steps.

    Attributes:
        layer: Its key, as `trace` has it.
        norms: What arrives. For each state by name, (time,): the mean over the rows of the
            Euclidean norm of dLoss/dstate_t, where t counts for the row; NaN where it counts for
            none. It is the total derivative: that by c_t includes what c_t does to h_t.
        fed: What of the former is fed to h by the layers above, (time,): the same mean, of the
            derivative by the output of step t alone, and not by way of a later step. At the last
            step all is fed. What is read at a masked step counts for the step whose output it
            holds; not so in Keras's own layers on JAX, which show the state there.
        carried: What a step passes on, whatever the loss, (time,): the mean over the rows of
            :math:`\lVert \partial s_T / \partial s_t \rVert_F / \sqrt n`, where s are all
            n states of the cell and T is the row's last step: the root of the mean square by which
            a change of the states grows on its way to the last step; 1 at the last step itself.
        factor: By how much `carried` changes for each step back, 1 for not at all: the straight
            line of least squares through its logarithm over the lag. NaN when there is one step
            alone; 0 when nothing is carried back a step.
        half_life: The lag at which `carried` has first halved, in steps, between two of them by
            interpolation; inf if it never does.
        verdict: `"vanishing"` where `carried` at the longest lag is below 0.01, `"exploding"`
            where it is above 100 or not finite, else `"steady"`; `"not measured"` for a cell that
            the model steps by itself, which has no norms either.
        note: What could not be measured, and why; empty otherwise.
    """

    layer: str
    norms: dict[str, np.ndarray]
    fed: np.ndarray
    carried: np.ndarray
    factor: float
    half_life: float
    verdict: str
    note: str = ""


class GradientFlow(Mapping[str, LayerFlow]):
    """The `LayerFlow` of every recurrent layer of a model; prints as a table.

    Attributes:
        layers: By key, in the order in which the layers run.
        loss: The loss whose gradient it is.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.SimpleRNN(2, activation="linear", recurrent_initializer="zeros", name="rnn")
    >>> flow = rk.gradient_flow(layer, np.ones((1, 5, 3), "float32"), np.zeros((1, 2)), "mse")
    >>> flow["rnn"].verdict
    'vanishing'
    """

    def __init__(self, layers: dict[str, LayerFlow], loss: float) -> None:
        self.layers = layers
        self.loss = loss

    def __getitem__(self, key: str) -> LayerFlow:
        """Return the flow of a layer."""
        if key not in self.layers:
            raise KeyError(f"{key!r} is none of {list(self.layers)}")
        return self.layers[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [
            (
                "layer",
                "verdict",
                "factor a step",
                "half-life",
                "carried to first and last step",
                "fed at",
                "gradient at first and last step",
            )
        ]
        for key, flow in self.layers.items():
            if not flow.norms:
                rows.append((key, flow.verdict, *[""] * 5))
                continue
            half_life = f"{flow.half_life:.1f} steps" if np.isfinite(flow.half_life) else "none"
            arrives = _ends(next(iter(flow.norms.values())))
            factor, carried = f"{flow.factor:.4f}", _ends(flow.carried)
            rows.append((key, flow.verdict, factor, half_life, carried, _where(flow.fed), arrives))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(
            [
                f"gradient of the loss {self.loss:.4g} by h, back in time",
                *lines,
                *(f"{key}: {flow.note}" for key, flow in self.layers.items() if flow.note),
                f"vanishing: below {VANISHING:g} of a gradient at the last step is carried to the "
                f"first; exploding: above {EXPLODING:g} times",
            ]
        )


def _ends(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    return f"{known[0]:.2e}, {known[-1]:.2e}" if known.size else "none"


def _where(fed: np.ndarray) -> str:
    """The steps at which a gradient is fed, in words."""
    steps = np.flatnonzero(fed > 0)
    if not steps.size:
        return "no step"
    if len(steps) == 1:
        return f"step {steps[0]}"
    known = np.count_nonzero(~np.isnan(fed))
    which = f"all {known} steps" if len(steps) == known else f"{len(steps)} of {known} steps"
    return f"{which}, most at {np.nanargmax(fed)}"


def gradient_flow(
    model: Any,
    x: Any,
    y: Any,
    loss: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int = 32,
    training: bool = False,
    progress: bool = True,
) -> GradientFlow:
    """Measure how the gradient of the loss changes on its way back in time.

    One forward and one backward pass tell, for every recurrent layer, Keras's own or ours, how a
    gradient is carried from step to step, at which steps the loss feeds it, and what arrives: the
    norm of dLoss/dh_t for every step t, and of dLoss/dc_t for the LSTM. The verdict is on what is
    carried, so that it is the same for a loss on the last step and for one on every step. The
    model is left as it was: weights, carried states, seeds and metrics; other threads may call it
    meanwhile.

    What is carried is measured by unit vectors: 32 a batch, shared among its rows, or one a row in
    a larger batch, and for a cell that this library does not know. It is exact where a row has as
    many as states, else an estimate of the mean square. Cells that this library knows are computed
    in float32 where the layer computes in half precision.

    Args:
        model: A model, or a layer.
        x: What to call it with: an array, or a list or dict of them, with one row a sample.
        y: Targets, as the loss takes them; None where all losses are of the model's own adding.
        loss: A name, a `keras.losses.Loss`, or a function of (y, prediction); the mean of what it
            returns counts. None takes the loss that the model was compiled with.
        sample_weight: One weight a row, for the compiled loss.
        batch_size: Rows to a pass. The loss of all rows is taken for the mean of the batches',
            each weighted by its rows.
        training: Whether dropout applies.
        progress: Whether to show a line on stderr when it takes more than two seconds.

    Returns:
        A `GradientFlow`: `flow["gru"].carried` and `flow["gru"].norms["h"]` are (time,),
        `print(flow)` shows the table, `rk.plot.gradient_flow(flow)` the picture. The total
        derivative by the state of a cell of another kind includes its output only where that is
        its first state. A cell that the model steps by itself is listed with a note.

    Raises:
        ValueError: If there is no recurrent layer, the call reaches none, `loss` is None and the
            model not compiled, `loss` is another thing, `y` is missing, `sample_weight` comes with
            a `loss`, `batch_size` is not positive, or there are no rows, or not as many in each
            array.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential([keras.Input((30, 2)), keras.layers.SimpleRNN(8, name="rnn")])
    >>> x, y = np.ones((4, 30, 2), "float32"), np.ones((4, 8), "float32")
    >>> flow = rk.gradient_flow(model, x, y, "mse")
    >>> flow["rnn"].norms["h"].shape
    (30,)
    """
    passes.require_rows(model, batch_size, x=x, y=y, sample_weight=sample_weight)
    gauge = FlowGauge(model, x, y, loss, batch_size, training, sample_weight)
    return gauge(x, y, sample_weight, batch_size, progress)


class FlowGauge:
    """`gradient_flow` for one model, compiled once for many calls."""

    def __init__(
        self,
        root: Any,
        x: Any,
        y: Any,
        loss: Any,
        batch_size: int,
        training: bool = False,
        sample_weight: Any = None,
    ) -> None:
        self._root, self._training = root, training
        first = passes.rows_of(x, slice(0, batch_size))
        passes.build(root, first)
        shown = None if y is None else passes.rows_of(y, slice(0, batch_size))
        self._loss = _loss_of(root, loss, first, shown, sample_weight)
        self._variables = passes.variables(root)
        self._outlines: list[_Outline] = []
        self._known: dict[int, list[_Outline]] = {}  # by the rows of a batch
        self._stepped: tuple[str, ...] = ()
        self._run = kernels.current().compiled(self._differentiate)

    def __call__(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, progress: bool
    ) -> GradientFlow:
        """Measure over all rows, batch by batch."""
        total = len(tree.flatten(x)[0])
        values = passes.values(self._variables)
        sums: dict[str, list[_Sums]] = {}
        cells: dict[str, _Cell] = {}
        loss, done = 0.0, 0
        with Progress("gradient flow", lambda: done / total, shown=progress) as line:
            for start in range(0, total, batch_size):
                rows = slice(start, min(start + batch_size, total))
                share = (rows.stop - rows.start) / total
                batch = [
                    None if part is None else passes.rows_of(part, rows)
                    for part in (x, y, sample_weight)
                ]
                probes = self._probes(values, batch, rows.stop - rows.start)
                value, masks, norms = self._run(values, *batch, probes)
                loss += share * float(ops.convert_to_numpy(value))
                for outline, mask, found in zip(self._outlines, masks, norms, strict=True):
                    counts = None if mask is None else ops.convert_to_numpy(mask)
                    for cell, each in zip(outline.cells, found, strict=True):
                        carried, *others = (
                            ops.convert_to_numpy(norm).astype("float64") for norm in each
                        )
                        # The loss is a mean over the rows; what is carried is a row's own.
                        arrays = [_mean_square(carried, outline.copies)]
                        arrays += [share * norm for norm in others]
                        cells[cell.key] = cell
                        own = sums.setdefault(cell.key, [_Sums(outline.lead[1]) for _ in arrays])
                        for each_sum, array in zip(own, arrays, strict=True):
                            each_sum.add(array, counts, outline.backwards)
                done = rows.stop
                line.update()
        layers = {key: _flow(cells[key], own) for key, own in sums.items()}
        none = np.empty(0)
        for key in self._stepped:
            layers[key] = LayerFlow(
                key, {}, none, none, math.nan, math.nan, "not measured", passes.STEPPED
            )
        return GradientFlow(layers, loss)

    def _probes(self, values: Any, batch: Any, rows: int) -> list[list[Any]]:
        """Zeros of the shapes that outputs and states have in this batch, for each pass."""
        if rows not in self._known:
            kernels.current().outline(self._outline, values, *batch)
            self._known[rows] = self._outlines
        self._outlines = self._known[rows]
        return [
            [ops.zeros(shape, outline.dtype) for shape in outline.shapes()]
            for outline in self._outlines
        ]

    def _outline(self, values: Any, x: Any, y: Any, sample_weight: Any) -> Any:
        """Note what each pass needs of probes."""
        found: list[_Outline] = []

        def note(met: passes.Met) -> Any:
            found.append(_outlined(met))
            return met.own()[0]

        loss, stepped = self._call(values, x, y, sample_weight, note)
        if not found and not stepped:
            raise ValueError(
                f"`model` must call a recurrent layer; the call of {self._root.name!r} reaches "
                "none of those it holds. Pass the part of the model that uses them."
            )
        self._outlines, self._stepped = found, tuple(stepped)
        return loss

    def _differentiate(self, values: Any, x: Any, y: Any, sample_weight: Any, probes: Any) -> Any:
        """The loss, and for each pass its mask and norms, in the order of processing.

        The norms are lists, one a cell: of what is carried (rows * copies, time), of what is fed,
        and by each state, (rows, time).
        """
        if not probes:
            loss, _ = self._call(values, x, y, sample_weight, lambda met: met.own()[0])
            return loss, [], []

        def scalar_of(flat: Any) -> Any:
            waiting = zip(self._outlines, tree.pack_sequence_as(probes, list(flat)), strict=True)
            masks: list[Any] = []
            carried: list[Any] = []

            def probe(met: passes.Met) -> Any:
                outline, mine = next(waiting)
                inner, handed_on = outline.parted(mine)
                masks.append(met.settled.mask)
                carried.append(_weighted_last_states(met, outline, handed_on))
                cell = ProbedCell(met.layer.cell, met.settled, _probed_step, inner)
                return met.through(cell, cell.joined, cell.initial)

            loss, _ = self._call(values, x, y, sample_weight, probe)
            return loss + sum(carried), (loss, masks)

        _, (loss, masks), found = kernels.current().gradients(scalar_of, tree.flatten(probes))
        found = tree.pack_sequence_as(probes, found)
        norms = [
            _norms(outline, mask, gradients)
            for outline, mask, gradients in zip(self._outlines, masks, found, strict=True)
        ]
        return loss, masks, norms

    def _call(self, values: Any, x: Any, y: Any, sample_weight: Any, handle: Any) -> Any:
        """The loss of a call, and the cells that the model stepped by itself."""
        mapping = list(zip(self._variables, values, strict=True))
        with (
            keras.StatelessScope(mapping, collect_losses=True),
            passes.intercepted(self._root, handle) as stepped,
        ):
            prediction = self._root(x, training=self._training)
            return ops.cast(self._loss(x, y, prediction, sample_weight), "float32"), stepped


class _Cell(NamedTuple):
    """What the probes of one cell in a pass are like.

    Attributes:
        key: Its layer's; in a stack each cell has one of its own.
        names: Of its states.
        note: As in `LayerFlow`.
        output: The shape of its output, without the batch.
        states: The shapes of its states, flat.
        shows: Whether the output is the first state.
    """

    key: str
    names: tuple[str, ...]
    note: str
    output: tuple[int, ...]
    states: tuple[tuple[int, ...], ...]
    shows: bool


class _Outline(NamedTuple):
    """What the probes of one pass are like.

    Attributes:
        cells: Of each cell.
        lead: (rows, time).
        copies: By how many directions each row's Jacobians are measured.
        dtype: Of all probes.
        backwards: Whether the layer runs from the last step to the first.
    """

    cells: tuple[_Cell, ...]
    lead: tuple[int, int]
    copies: int
    dtype: str
    backwards: bool

    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the probes: for each cell its output and states, then for each its states."""
        rows, time = self.lead
        inner = [shape for cell in self.cells for shape in (cell.output, *cell.states)]
        handed_on = [shape for cell in self.cells for shape in cell.states]
        return [(rows, time, *shape) for shape in inner] + [
            (rows * self.copies, time, *shape) for shape in handed_on
        ]

    def parted(self, flat: list[Any]) -> tuple[list[list[Any]], list[list[Any]]]:
        """What is as long as `shapes`, cell by cell: for outputs and states, and for states."""
        waiting = iter(flat)
        inner = [[next(waiting) for _ in (cell.output, *cell.states)] for cell in self.cells]
        return inner, [[next(waiting) for _ in cell.states] for cell in self.cells]


def _outlined(met: passes.Met) -> _Outline:
    layer, settled = met.layer, met.settled
    output = tree.map_structure(lambda x: x[:, 0], settled.sequences)
    found = []
    known = not settled.training
    for name, cell, states in passes.cells(layer.cell, settled.states):
        shown, new = _step(cell, output, states, settled.training)
        known &= equations_of(cell) is not None
        wide = getattr(cell, "return_state", False)
        is_half = keras.backend.standardize_dtype(new[0].dtype) == "float16"
        found.append(
            _Cell(
                f"{met.key}/{name}" if name else met.key,
                state_names(cell, len(new)),
                HALF if is_half and _precise(cell, settled.training) is cell else "",
                tuple((new[0] if wide else shown).shape[1:]),
                tuple(tuple(state.shape[1:]) for state in new),
                wide or shown is new[0],
            )
        )
        output = shown
    rows, time = tree.flatten(settled.sequences)[0].shape[:2]
    # A cell of another kind may hold something of each row, and a dropout mask is one.
    copies = min(math.ceil(DIRECTIONS / rows), *map(_size, found)) if known else 1
    states = tree.flatten(settled.states)
    # Half precision would lose most of what is to be measured.
    dtype = "float64" if any("float64" in str(x.dtype) for x in states) else "float32"
    return _Outline(tuple(found), (rows, time), copies, dtype, layer.go_backwards)


def _size(cell: _Cell) -> int:
    return sum(math.prod(shape) for shape in cell.states)


def _precise(cell: Any, training: bool) -> Any:
    """The cell in float32 if it computes in half precision, where gradients would be lost."""
    half = getattr(cell, "compute_dtype", None) in ("float16", "bfloat16")
    if not half or equations_of(cell) is None:
        return cell
    if training and (cell.dropout or cell.recurrent_dropout):  # whose masks are of half precision
        return cell
    names = ("kernel", "recurrent_kernel", "bias")
    weights = {name: getattr(cell, name) for name in names if getattr(cell, name) is not None}
    # As rounded as the layer takes them.
    rounded = {name: ops.cast(weight, cell.compute_dtype) for name, weight in weights.items()}
    return passes.stand_in(cell, **{n: ops.cast(x, "float32") for n, x in rounded.items()})


class ProbedCell:
    """A cell that takes `[inputs, *probes]` on one axis, and adds a probe to what it makes.

    Args:
        cell: The cell, or a stack of them.
        settled: The pass that it is to make.
        step: Called with a cell, its inputs and states, `training` and its probes for a step;
            returns the output and the states, flat.
        probes: For each cell, (rows, time, ...).

    Attributes:
        joined: The sequences of the pass with the probes beside them.
        initial: The states before the first step.
    """

    def __init__(self, cell: Any, settled: Pass, step: Any, probes: list[list[Any]]) -> None:
        self.state_size = cell.state_size
        self._cell, self._step, self._training = cell, step, settled.training
        self._own = []
        self._counts = [len(each) for each in probes]
        initial: list[Any] = []
        for _, one, states in passes.cells(cell, settled.states):
            precise = _precise(one, settled.training)
            self._own.append(precise)
            flat = tree.flatten(states)
            initial += flat if precise is one else [ops.cast(x, "float32") for x in flat]
        self.initial = list(tree.pack_sequence_as(settled.states, initial))
        self._inputs = settled.sequences
        self._like = [*tree.flatten(settled.sequences), *tree.flatten(probes)]
        dtype = self._like[-1].dtype
        lead = self._like[-1].shape[:2]
        parts = [
            ops.cast(ops.reshape(x, (*lead, math.prod(x.shape[2:]))), dtype) for x in self._like
        ]
        self.joined = ops.concatenate(parts, axis=-1)

    def __call__(self, joined: Any, states: Any) -> Any:
        """Take a step."""
        sizes = [math.prod(x.shape[2:]) for x in self._like]
        parts = [
            ops.cast(ops.reshape(part, (-1, *x.shape[2:])), x.dtype)
            for part, x in zip(cut(joined, sizes), self._like, strict=True)
        ]
        count = len(parts) - sum(self._counts)
        output = tree.pack_sequence_as(self._inputs, parts[:count])
        waiting = iter(parts[count:])
        found: list[Any] = []
        for cell, added, (_, _, own) in zip(
            self._own, self._counts, passes.cells(self._cell, states), strict=True
        ):
            probes = [next(waiting) for _ in range(added)]
            output, new = self._step(cell, output, own, self._training, probes)
            found += new
        return output, list(tree.pack_sequence_as(list(states), found))

    call = __call__


def _step(cell: Any, inputs: Any, states: list[Any], training: bool) -> tuple[Any, list[Any]]:
    """Take a step of any cell; return its output and its states, flat."""
    knows = "training" in inspect.signature(cell.call).parameters
    if equations_of(cell) is not None:  # `__call__` would cast the inputs of one in float32
        take = functools.partial(type(cell).call, cell)
    else:
        take = cell if callable(cell) else cell.call
    output, made = take(inputs, states, **({"training": training} if knows else {}))
    return output, tree.flatten(made)


def _probed_step(
    cell: Any, inputs: Any, states: list[Any], training: bool, probes: list[Any]
) -> tuple[Any, list[Any]]:
    """Take a step, adding to the output and to each state where it is made."""
    equations = equations_of(cell)
    if equations is not None and equations.step is LSTMEquations.step:
        # h reads c in the step that makes it.
        projected = equations.project(cell, inputs, training)
        gates, (_, c) = equations.step(cell, projected, states, training)
        c = c + probes[2]
        output = h = gates[-1] * cell.activation(c)
        new = [h + probes[1], c]
    else:
        output, flat = _step(cell, inputs, states, training)
        new = [x + ops.cast(p, x.dtype) for x, p in zip(flat, probes[1:], strict=True)]
        if getattr(cell, "return_state", False):
            output = flat[0]
    output = output + ops.cast(probes[0], output.dtype)
    if getattr(cell, "return_state", False):
        output = ops.concatenate([output, output, *new[1:]], axis=-1)
    return output, new


def _handed_on_step(
    cell: Any, inputs: Any, states: list[Any], training: bool, probes: list[Any]
) -> tuple[Any, list[Any]]:
    """Take a step, adding to each state as the next one gets it; nothing comes by the inputs."""
    inputs = tree.map_structure(ops.stop_gradient, inputs)
    output, flat = _step(cell, inputs, states, training)
    return output, [x + ops.cast(p, x.dtype) for x, p in zip(flat, probes, strict=True)]


def _weighted_last_states(met: passes.Met, outline: _Outline, probes: list[list[Any]]) -> Any:
    """The sum of the last states by a unit vector for each cell, row and copy of it."""
    layer, settled = met.layer, met.settled

    def cut_off(x: Any) -> Any:
        return ops.repeat(ops.stop_gradient(x), outline.copies, axis=0)

    alone = Pass(
        tree.map_structure(cut_off, settled.sequences),
        tree.map_structure(cut_off, settled.states),
        None if settled.mask is None else ops.repeat(settled.mask, outline.copies, axis=0),
        settled.training,
    )
    cell = ProbedCell(layer.cell, alone, _handed_on_step, probes)
    loop = RNN(cell, unroll=layer.unroll, dtype=layer.dtype_policy, name="carried")
    result = loop.run(Pass(cell.joined, cell.initial, alone.mask, alone.training))
    last = iter(result.last_states)
    total = ops.zeros((), outline.dtype)
    for each in outline.cells:
        rows = outline.lead[0] * outline.copies
        weights = ops.convert_to_tensor(_directions(_size(each), rows), outline.dtype)
        flat = [ops.cast(ops.reshape(next(last), (rows, -1)), outline.dtype) for _ in each.states]
        total = total + ops.sum(weights * ops.concatenate(flat, axis=-1))
    return ops.cast(total, "float32")


def _directions(size: int, rows: int) -> np.ndarray:
    """Unit vectors at right angles to each other, in turn: (rows, size)."""
    random = np.random.default_rng(0).normal(size=(size, min(size, DIRECTIONS)))
    basis = np.linalg.qr(random)[0].T
    return basis[np.arange(rows) % len(basis)]


def _norms(outline: _Outline, mask: Any, gradients: list[Any]) -> list[list[Any]]:
    """For each cell the norms of what is carried, of what is fed, and by each state."""
    inner, handed_on = outline.parted(gradients)
    if mask is None:
        last = ops.expand_dims(ops.arange(outline.lead[1]) == outline.lead[1] - 1, 0)
    else:
        counts = count_steps(mask)
        last = ops.logical_and(mask, counts == counts[:, -1:])
    found = []
    for cell, (fed, *states), carried in zip(outline.cells, inner, handed_on, strict=True):
        if cell.shows:
            states[0] = states[0] + fed
            at_last = ops.reshape(last, (*last.shape, *[1] * len(cell.output)))
            fed = ops.where(at_last, states[0], fed)
        found.append([_norm(carried), *(_norm([gradient]) for gradient in (fed, *states))])
    return found


def _norm(gradients: list[Any]) -> Any:
    """The Euclidean norm at each row and step; scaled, so that no square is lost to underflow."""
    lead = gradients[0].shape[:2]
    flat = ops.concatenate([ops.reshape(x, (*lead, -1)) for x in gradients], axis=-1)
    size = ops.max(ops.abs(flat), axis=-1, keepdims=True)
    scaled = flat / ops.where(size > 0, size, ops.ones_like(size))
    return size[..., 0] * ops.sqrt(ops.sum(scaled * scaled, axis=-1))


def _mean_square(norms: np.ndarray, copies: int) -> np.ndarray:
    """The root of the mean square over the copies of each row."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(np.square(norms.reshape(-1, copies, norms.shape[1])).mean(axis=1))


def _loss_of(root: Any, loss: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The loss as a function of (x, y, prediction, sample_weight)."""
    if loss is None:
        if not getattr(root, "compiled", False):
            raise ValueError(
                f"`loss` must be given for {root.name!r}, which is not compiled; received None. "
                'Pass a loss, such as "mse", or compile the model.'
            )
        plain = type(root).compute_loss is keras.Model.compute_loss
        _require_targets(y, plain and getattr(root, "loss", None) is not None)
        knows = "training" in inspect.signature(root.compute_loss).parameters
        options = {"training": False} if knows else {}

        def compiled_loss(x: Any, y: Any, prediction: Any, weight: Any) -> Any:
            return root.compute_loss(x=x, y=y, y_pred=prediction, sample_weight=weight, **options)

        if y is not None:  # else all losses are of the model's own adding
            _settle_compiled_loss(root, compiled_loss, x, y)
        return compiled_loss
    if sample_weight is not None:
        raise ValueError(
            "`sample_weight` weights the loss that the model was compiled with; received it "
            "together with `loss`. Leave one of them out."
        )
    _require_targets(y, True)
    refusal = (
        "`loss` must be the name of a loss, a keras.losses.Loss or a function of (y, prediction); "
        f"received {loss!r}. For a model of several outputs pass a function, or compile it with a "
        "loss for each and leave `loss` out."
    )
    try:
        function = keras.losses.get(loss)
    except (ValueError, TypeError) as error:
        raise ValueError(refusal) from error
    takes_any = callable(loss) and not isinstance(loss, (keras.losses.Loss, type))
    if not isinstance(function, keras.losses.Loss):
        function = LossByFunction(function)

    def one_loss(x: Any, y: Any, prediction: Any, weight: Any) -> Any:
        if tree.is_nested(prediction) and not takes_any:
            raise ValueError(f"{root.name!r} has several outputs, and {refusal}")
        return function(y, prediction)

    return one_loss


def _require_targets(y: Any, read: bool) -> None:
    if y is None and read:
        raise ValueError(
            "`y` must hold the targets that the loss reads; received None. Pass them, or zeros "
            "where it does not read them."
        )


class LossByFunction(keras.losses.Loss):
    """A function as `compile` takes it: the target in the prediction's dtype, the mask applied."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return what the function returns."""
        return self._function(y_true, y_pred)


def _settle_compiled_loss(root: Any, loss: Any, x: Any, y: Any) -> None:
    """Let a model that was never trained make its trackers, which a compiled function cannot."""
    shown = root.compute_output_spec(passes.symbols(x))
    prediction = tree.map_structure(lambda t: ops.zeros(t.shape, t.dtype), shown)
    # A regularizer reads its variable, which a scope without values would not find.
    variables = passes.variables(root)
    with keras.StatelessScope(list(zip(variables, passes.values(variables), strict=True))):
        loss(x, y, prediction, None)


class _Sums:
    """Sums of norms over rows, by step and by lag."""

    def __init__(self, time: int) -> None:
        self._steps, self._lags = np.zeros((2, time)), np.zeros((2, time))

    def add(self, norm: np.ndarray, mask: np.ndarray | None, backwards: bool) -> None:
        """Add (rows, time) norms, in the order of processing."""
        counts: Any = np.ones(norm.shape, bool) if mask is None else mask
        order = slice(None, None, -1 if backwards else 1)
        with np.errstate(invalid="ignore"):
            self._steps += np.where(counts, norm, 0).sum(axis=0)[order], counts.sum(axis=0)[order]
            norm, counts = norm[:, ::-1], counts[:, ::-1]
            lags = (np.cumsum(counts, axis=1) - 1)[counts]
            np.add.at(self._lags[0], lags, norm[counts])
            np.add.at(self._lags[1], lags, 1)

    def by_step(self) -> np.ndarray:
        """The mean at each step of the input; NaN where it counts for no row."""
        sums, counts = self._steps
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)

    def by_lag(self) -> np.ndarray:
        """The mean at each lag that a row has."""
        sums, counts = self._lags
        return sums[counts > 0] / counts[counts > 0]


def _flow(cell: _Cell, sums: list[_Sums]) -> LayerFlow:
    carried, fed, *states = (each.by_step() for each in sums)
    norms = dict(zip(cell.names, states, strict=True))
    return LayerFlow(cell.key, norms, fed, carried, *judge(sums[0].by_lag()), cell.note)


def judge(carried: np.ndarray) -> tuple[float, float, str]:
    """Return factor, half-life and verdict, as `LayerFlow` has them, of norms by lag."""
    if len(carried) < 2:
        return math.nan, math.inf, "steady"
    finite = np.isfinite(carried)
    lags = np.flatnonzero(finite & (carried > FLOOR))
    factor = math.exp(np.polyfit(lags, np.log(carried[lags]), 1)[0]) if lags.size > 1 else 0.0
    if not finite.all():
        return (factor if lags.size > 1 else math.inf), math.inf, "exploding"
    reach = carried[-1]
    verdict = "vanishing" if reach < VANISHING else "exploding" if reach > EXPLODING else "steady"
    return factor, _half_life(carried), verdict


def _half_life(norms: np.ndarray) -> float:
    half = norms[0] / 2
    below = np.flatnonzero(norms <= half)
    if not below.size:
        return math.inf
    before, after = norms[below[0] - 1], norms[below[0]]
    if after == 0:
        return float(below[0] - 1 + (before - half) / before)
    return float(below[0] - 1 + np.log(before / half) / np.log(before / after))


def jacobian_norms(
    layer: Any, x: Any, *, mask: Any = None, norm: str = "spectral", progress: bool = True
) -> np.ndarray:
    r"""Return the norm of ds_T/ds_t for every step t, T the last step, without a loss.

    It is the product that makes a gradient vanish or explode,

    .. math::

        \frac{\partial s_T}{\partial s_t} = \prod_{k=t+1}^{T} \frac{\partial s_k}{\partial s_{k-1}},

    where s holds all states: h, and c for the LSTM; those of every cell of a stack. Each factor is
    exact, by automatic differentiation of one step at the states that the layer went through; the
    product is made in float64. A masked step is a factor of one.

    Args:
        layer: A recurrent layer, Keras's or ours, with any cell or a stack of them.
        x: Its input, (batch, time, ...).
        mask: (batch, time), true where a step counts.
        norm: `"spectral"`, the largest factor by which a change of the states can grow, or
            `"frobenius"`; by the root of the number of states it is what `gradient_flow` calls
            carried.
        progress: Whether to show a line on stderr when it takes more than two seconds.

    Returns:
        (batch, time) float64, in the input's time order. The last step, the first with
        `go_backwards`, has the norm of the identity: 1, or the root of the number of states.

    Raises:
        ValueError: If `layer` is no recurrent layer, or `norm` is another.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> norms = rk.jacobian_norms(rk.GRU(4), np.ones((2, 5, 3), "float32"))
    >>> norms.shape, norms[:, -1]
    ((2, 5), array([1., 1.]))
    """
    if not isinstance(layer, keras.layers.RNN):
        raise ValueError(
            f"`layer` must be a recurrent layer; received {type(layer).__name__}. Pass "
            "`model.get_layer(name)`, `.forward_layer` of a Bidirectional, or "
            "keras.layers.RNN(cell)."
        )
    orders: dict[str, Any] = {"spectral": 2, "frobenius": "fro"}
    if norm not in orders:
        raise ValueError(f"`norm` must be one of {list(orders)}; received {norm!r}. Pass one.")
    traced = trace(layer, x, mask=mask, progress=progress).values()
    dtype = layer.variable_dtype
    states = [state.astype(dtype) for one in traced for state in one.states.values()]
    sequences = tree.map_structure(lambda part: np.asarray(part, dtype), x)
    lead = states[0].shape[:2]
    counts: Any = np.ones(lead, bool) if mask is None else np.asarray(mask, bool)
    if layer.go_backwards:
        states = [state[:, ::-1] for state in states]
        sequences = tree.map_structure(lambda part: part[:, ::-1], sequences)
        counts = counts[:, ::-1]
    rows, time = lead
    run = kernels.current().compiled(_step_gradient(layer))
    found = np.empty(lead)
    done = 0
    with Progress("jacobian norms", lambda: done / rows, shown=progress) as line:
        for row in range(rows):
            inputs = tree.map_structure(lambda part, row=row: part[row, 1:], sequences)
            steps = _step_jacobians(run, inputs, [state[row, :-1] for state in states])
            product = np.eye(steps.shape[-1])
            for t in range(time - 1, -1, -1):
                found[row, t] = np.linalg.norm(product, orders[norm])
                if t and counts[row, t]:
                    product = product @ steps[t - 1]
            done = row + 1
            line.update()
    return found[:, ::-1] if layer.go_backwards else found


def _step_gradient(layer: Any) -> Any:
    """A function of (inputs, states, weights): the gradient by the states of weighted new ones."""

    def run(inputs: Any, states: Any, weights: Any) -> Any:
        rows = weights.shape[0]

        def weighted(flat: Any) -> Any:
            nested = tree.pack_sequence_as(layer.get_initial_state(rows), list(flat))
            output, new = inputs, []
            for _, cell, own in passes.cells(layer.cell, nested):
                output, made = _step(_precise(cell, False), output, own, False)
                new += [ops.reshape(state, (rows, -1)) for state in made]
            joined = ops.concatenate([ops.cast(x, weights.dtype) for x in new], axis=-1)
            return ops.sum(joined * weights), ()

        return kernels.current().gradients(weighted, states)[2]

    return run


def _step_jacobians(run: Any, inputs: Any, states: list[np.ndarray]) -> np.ndarray:
    """The Jacobian of each step by all states: (steps, size, size) in float64."""
    rows, dtype = len(states[0]), states[0].dtype
    size = sum(math.prod(state.shape[1:]) for state in states)
    jacobians = np.empty((rows, size, size))
    if rows:
        tensors = [tree.map_structure(ops.convert_to_tensor, part) for part in (inputs, states)]
        for index, unit in enumerate(np.eye(size, dtype=dtype)):
            weights = ops.convert_to_tensor(np.tile(unit, (rows, 1)))
            found = run(*tensors, weights)
            arrays = [ops.convert_to_numpy(gradient).reshape(rows, -1) for gradient in found]
            jacobians[:, index] = np.concatenate(arrays, axis=-1)
    return jacobians
