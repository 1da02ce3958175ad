"""gradient_flow: how far back in time a gradient reaches.

Two things are measured separately. How a gradient is *carried* back from step to step depends on
the layer: the product of its Jacobians, whatever the loss; see `jacobians.carried`. Where a
gradient enters (`fed`) depends on the loss: at the last step, or at every step. What arrives is the
sum.

Both gradients of the loss are derivatives by probes, zeros that are added in the loop: to each
output, for the gradient that enters at that step; and to each state, before anything reads it.
"""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.inspection import jacobians, passes
from keras_rnnkit.inspection.flow_report import GradientFlow, LayerFlow, judge
from keras_rnnkit.inspection.loss import loss_of
from keras_rnnkit.inspection.trace import state_names
from keras_rnnkit.progress import Progress
from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.equations import (
    LSTMEquations,
    equations_of,
    narrowed,
    with_dropped_weights,
)
from keras_rnnkit.recurrent.masks import count_steps
from keras_rnnkit.recurrent.zoneout import bare

HALF = "computed in float16, where a gradient below 6e-8 is lost"


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

    One forward and one backward pass measure, for every recurrent layer of Keras or this library,
    how a gradient is carried back from step to step, at which steps it enters, and what arrives:
    the norm of dLoss/dh_t for every step t, and of dLoss/dc_t for the LSTM. The verdict is that of
    what is carried, so that it is the same for a loss on the last step and for one on every step.
    The model stays as it is: weights, carried states, seeds and metrics. Other threads may call it
    meanwhile.

    What is carried is measured along unit vectors: 32 in a batch, shared among its samples, or one
    for each sample in a larger batch, and for cells that this library does not know. It is exact if
    a sample has as many as states, else an estimate of the mean square. Cells that this library
    knows are computed in float32 if the layer computes in half precision.

    Args:
        model: A model, or a layer.
        x: Its inputs: an array, or a list or dict of arrays, with samples on the first axis.
        y: Targets, as the loss takes them; None if the model adds all losses by itself.
        loss: A name, a `keras.losses.Loss`, or a function of (y, prediction); the mean of what it
            returns counts. None takes the loss that the model was compiled with.
        sample_weight: One weight for each sample, for the compiled loss.
        batch_size: Samples in a batch. The loss is the mean over the batches, each weighted by its
            number of samples.
        training: Whether dropout applies.
        progress: Whether to show a line on stderr when it takes more than two seconds.

    Returns:
        A `GradientFlow`: `flow["gru"].carried` and `flow["gru"].norms["h"]` are (time,),
        `print(flow)` shows a table, `rk.plot.gradient_flow(flow)` a picture. The total
        derivative by the state of a cell of another kind includes its output only if that is
        its first state. A cell that the model steps by itself is listed with a note.

    Raises:
        ValueError: If there is no recurrent layer, the call reaches none, `loss` is None and the
            model not compiled, `loss` is another thing, `y` is missing, `sample_weight` comes with
            a `loss`, `batch_size` is not positive, a cell is under Zoneout in training, or there
            are no samples, or not as many in each array.

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
        if training:
            _refuse_zoneout(root)
        shown = None if y is None else passes.rows_of(y, slice(0, batch_size))
        self._loss = loss_of(root, loss, first, shown, sample_weight)
        self._variables = passes.variables(root)
        self._outlines: list[_Outline] = []
        self._known: dict[int, list[_Outline]] = {}  # by the rows of a batch
        self._stepped: tuple[str, ...] = ()
        self._run = kernels.current().compiled(self._differentiate)

    def __call__(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, progress: bool
    ) -> GradientFlow:
        """Measure over all samples, batch by batch."""
        total = len(tree.flatten(x)[0])
        # torch would keep what a gradient by the weights needs.
        values = [ops.stop_gradient(value) for value in passes.values(self._variables)]
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
                        carried, *others = (ops.convert_to_numpy(x).astype("float64") for x in each)
                        # The loss is a mean over the rows; what is carried is a row's own.
                        arrays = [carried, *(share * other for other in others)]
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

    def _probes(self, values: Any, batch: Any, rows: int) -> list[Any]:
        """For each pass, cell by cell, zeros for its output and each of its states."""
        if rows not in self._known:
            kernels.current().outline(self._outline, values, *batch)
            self._known[rows] = self._outlines
        self._outlines = self._known[rows]
        return [
            [
                [ops.zeros((*one.lead, *shape), one.dtype) for shape in (cell.output, *cell.states)]
                for cell in one.cells
            ]
            for one in self._outlines
        ]

    def _outline(self, values: Any, x: Any, y: Any, sample_weight: Any) -> Any:
        """Note the probes that each pass needs."""
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

        The norms are lists, one for each cell: of `carried`, of `fed`, and by each state.
        """
        if not probes:
            loss, _ = self._call(values, x, y, sample_weight, lambda met: met.own()[0])
            return loss, [], []

        def loss_by(flat: Any) -> Any:
            waiting = zip(self._outlines, tree.pack_sequence_as(probes, list(flat)), strict=True)
            masks: list[Any] = []
            carried: list[Any] = []

            def probe(met: passes.Met) -> Any:
                outline, mine = next(waiting)
                cell, settled = met.layer.cell, met.settled
                masks.append(settled.mask)
                carried.append(jacobians.carried(cell, settled, outline.copies))
                probed = jacobians.JoinedCell(cell, settled, _probed_step, mine)
                return met.through(probed, probed.joined, probed.initial)

            loss, _ = self._call(values, x, y, sample_weight, probe)
            return loss, (loss, masks, carried)

        _, (loss, masks, carried), found = kernels.current().gradients(
            loss_by, tree.flatten(probes)
        )
        found = tree.pack_sequence_as(probes, found)
        norms = [_norms(*each) for each in zip(self._outlines, masks, carried, found, strict=True)]
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
    """The shapes of the probes of one cell in a pass.

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
    """The shapes of the probes of one pass.

    Attributes:
        cells: Of each cell.
        lead: (samples, time).
        copies: Number of directions by which the Jacobians of each sample are measured.
        dtype: Of all probes.
        backwards: Whether the layer runs from the last step to the first.
    """

    cells: tuple[_Cell, ...]
    lead: tuple[int, int]
    copies: int
    dtype: str
    backwards: bool


def _outlined(met: passes.Met) -> _Outline:
    layer, settled = met.layer, met.settled
    output = tree.map_structure(lambda x: x[:, 0], settled.sequences)
    found = []
    known = not settled.training
    for name, cell, states in passes.cells(layer.cell, settled.states):
        shown, new = jacobians.take_step(cell, output, states, settled.training)
        exact, _ = jacobians.precise(cell, states, settled.training)
        known &= equations_of(cell) is not None
        wide = getattr(cell, "return_state", False)
        is_half = keras.backend.standardize_dtype(new[0].dtype) == "float16"
        found.append(
            _Cell(
                f"{met.key}/{name}" if name else met.key,
                state_names(cell, len(new)),
                HALF if is_half and exact is cell else "",
                tuple((new[0] if wide else shown).shape[1:]),
                tuple(tuple(state.shape[1:]) for state in new),
                wide or shown is new[0],
            )
        )
        output = shown
    rows, time = tree.flatten(settled.sequences)[0].shape[:2]
    # A cell of another kind may hold something of each row, and a dropout mask is one.
    copies = min(math.ceil(jacobians.DIRECTIONS / rows), *map(_size, found)) if known else 1
    dtype = jacobians.dtype_of(settled.states)
    return _Outline(tuple(found), (rows, time), copies, dtype, layer.go_backwards)


def _refuse_zoneout(root: Any) -> None:
    """Refuse what draws anew at each step: a gradient by one step would draw once more."""
    for site in passes.sites(root):
        cell = site.layer if site.is_cell else site.layer.cell
        if any(bare(one) is not one for one in getattr(cell, "cells", [cell])):
            raise ValueError(
                f"`training` must be False where a cell is under Zoneout, as in {site.key!r}; "
                "received True. Leave it out: zoneout is then its expectation."
            )


def _size(cell: _Cell) -> int:
    return sum(math.prod(shape) for shape in cell.states)


def _probed_step(cell: Any, inputs: Any, states: list[Any], training: bool, probes: Any) -> Any:
    """Take a step, adding to the output and to each state where it is made."""
    fed, *probes = probes
    wide = getattr(cell, "return_state", False)
    equations = equations_of(cell)
    if equations is not None and equations.step is LSTMEquations.step:
        # h reads c in the step that makes it.
        projected = equations.project(cell, inputs, training)
        dropped = with_dropped_weights(cell, states[0], training)
        gates, (_, c) = equations.step(dropped, projected, states, training)
        c = _plus(c, probes[1])
        output = narrowed(cell, gates[-1] * cell.activation(c))
        new = [_plus(output, probes[0]), c]
    else:
        output, made = jacobians.take_step(cell, inputs, states, training)
        new = [_plus(*each) for each in zip(made, probes, strict=True)]
        output = made[0] if wide else output
    output = _plus(output, fed)
    return ops.concatenate([output, output, *new[1:]], axis=-1) if wide else output, new


def _plus(x: Any, probe: Any) -> Any:
    return x + (probe if x.dtype == probe.dtype else ops.cast(probe, x.dtype))


def _norms(outline: _Outline, mask: Any, carried: list[Any], gradients: Any) -> list[list[Any]]:
    """For each cell the norms of `carried`, of `fed`, and by each state."""
    if mask is None:
        last = ops.expand_dims(ops.arange(outline.lead[1]) == outline.lead[1] - 1, 0)
    else:
        counts = count_steps(mask)
        last = ops.logical_and(mask, counts == counts[:, -1:])
    found = []
    for cell, own, (fed, *states) in zip(outline.cells, carried, gradients, strict=True):
        if cell.shows:
            states[0] = states[0] + fed
            at_last = ops.reshape(last, (*last.shape, *[1] * len(cell.output)))
            fed = ops.where(at_last, states[0], fed)
        found.append([own, *(jacobians.norm([gradient]) for gradient in (fed, *states))])
    return found


class _Sums:
    """Sums of norms over samples, by step and by lag."""

    def __init__(self, time: int) -> None:
        self._steps, self._lags = np.zeros((2, time)), np.zeros((2, time))

    def add(self, norm: np.ndarray, mask: np.ndarray | None, backwards: bool) -> None:
        """Add (samples, time) norms, in the order of processing."""
        counts: Any = np.ones(norm.shape, bool) if mask is None else mask
        order = slice(None, None, -1 if backwards else 1)
        with np.errstate(invalid="ignore"):
            self._steps += np.where(counts, norm, 0).sum(axis=0)[order], counts.sum(axis=0)[order]
            norm, counts = norm[:, ::-1], counts[:, ::-1]
            lags = (np.cumsum(counts, axis=1) - 1)[counts]
            np.add.at(self._lags[0], lags, norm[counts])
            np.add.at(self._lags[1], lags, 1)

    def by_step(self) -> np.ndarray:
        """The mean at each step of the input; NaN if it is masked in all samples."""
        sums, counts = self._steps
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)

    def by_lag(self) -> np.ndarray:
        """The mean at each lag."""
        sums, counts = self._lags
        return sums[counts > 0] / counts[counts > 0]


def _flow(cell: _Cell, sums: list[_Sums]) -> LayerFlow:
    carried, fed, *states = (each.by_step() for each in sums)
    norms = dict(zip(cell.names, states, strict=True))
    return LayerFlow(cell.key, norms, fed, carried, *judge(sums[0].by_lag()), cell.note)
