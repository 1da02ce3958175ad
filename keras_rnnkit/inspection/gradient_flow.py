"""gradient_flow and jacobian_norms: how far back in time a gradient reaches.

A probe, zero everywhere, is added to each state where it is made. The derivative of the loss by
the probe at step t is then the total derivative by the state at t, through everything that reads
the state: the output, the gates of the next step, all later steps.
"""

import inspect
import math
from collections import Counter
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
from keras_rnnkit.recurrent.equations import equations_of

VANISHING, EXPLODING = 0.01, 100.0  # the norm at the first step, as a multiple of that at the last


@dataclass(frozen=True, eq=False)
class LayerFlow:
    """How a gradient fares on its way back through one recurrent layer.

    Lags count the steps that are not masked, back from each row's last one in the order of
    processing; with `go_backwards`, and in a backward direction, they lead to later steps.

    Attributes:
        layer: Its key, as `trace` has it.
        norms: For each state by name, (time,): the mean over the rows of the Euclidean norm of
            dLoss/dstate_t, where t counts for the row; NaN where it counts for none. It is the
            total derivative: that by c_t includes what c_t does to h_t.
        factor: By how much the norm of h changes for each step back, 1 for not at all: the
            straight line of least squares through its logarithm over the lag. NaN when there is
            one step alone; 0 when no step but the last gets a gradient.
        half_life: The lag at which the norm of h has first halved, in steps, between two of them
            by interpolation; inf if it never does.
        verdict: `"vanishing"` where the norm of h at the longest lag is below 0.01 of that at the
            last step, `"exploding"` where it is above 100 times that or not finite, else
            `"steady"`.
    """

    layer: str
    norms: dict[str, np.ndarray]
    factor: float
    half_life: float
    verdict: str


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
        rows = [
            ("layer", "verdict", "factor a step", "half-life", "norm at the first and last step")
        ]
        for key, flow in self.layers.items():
            h = next(iter(flow.norms.values()))
            known = h[~np.isnan(h)]
            ends = f"{known[0]:.2e}, {known[-1]:.2e}" if known.size else "none"
            half_life = f"{flow.half_life:.1f} steps" if np.isfinite(flow.half_life) else "none"
            rows.append((key, flow.verdict, f"{flow.factor:.4f}", half_life, ends))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(
            [
                f"gradient of the loss {self.loss:.4g} by h, back in time",
                *lines,
                f"vanishing: below {VANISHING:g} of the norm at the last step when the first is "
                f"reached; exploding: above {EXPLODING:g} times",
            ]
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the norms over time; see `plot.gradient_flow`."""
        from keras_rnnkit.inspection import plot

        return plot.gradient_flow(self, ax=ax)


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

    One forward and one backward pass give dLoss/dh_t for every step t, and dLoss/dc_t for the
    LSTM, of every recurrent layer, Keras's own or ours. The model is left as it was: weights,
    carried states, seeds and metrics.

    How to read it: a loss on the last step alone shows how far back the layer can learn. A loss
    on every step feeds the gradient anew on the way, so that the norms say little about reach;
    `jacobian_norms` tells it without a loss.

    Args:
        model: A model, or a layer.
        x: What to call it with: an array, or a list or dict of them, with one row a sample.
        y: Targets, as the loss takes them.
        loss: A name, a `keras.losses.Loss`, or a function of (y, prediction); the mean of what it
            returns counts. None takes the loss that the model was compiled with.
        sample_weight: One weight a row, for the compiled loss.
        batch_size: Rows to a pass. The loss of all rows is taken for the mean of the batches',
            each weighted by its rows.
        training: Whether dropout applies.
        progress: Whether to show a line on stderr when it takes more than two seconds.

    Returns:
        A `GradientFlow`: `flow["gru"].norms["h"]` is (time,), `print(flow)` the table,
        `flow.plot()` a picture. A cell of another kind counts for its output only where that is
        its first state.

    Raises:
        ValueError: If there is no recurrent layer, the call reaches none, `loss` is None and the
            model not compiled, `sample_weight` comes with a `loss`, `batch_size` is not positive,
            or there are no rows, or not as many in each array.

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
        self._probed: list[_Probed] = []
        self._shapes: tuple[int, list[_Probed]] | None = None
        self._run = kernels.current().compiled(self._differentiate)

    def __call__(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int, progress: bool
    ) -> GradientFlow:
        """Measure over all rows, batch by batch."""
        total = len(tree.flatten(x)[0])
        values = passes.values(self._variables)
        sums: dict[tuple[str, str], _Sums] = {}
        loss, done = 0.0, 0
        with Progress("gradient flow", lambda: done / total, shown=progress) as line:
            for start in range(0, total, batch_size):
                rows = slice(start, min(start + batch_size, total))
                share = (rows.stop - rows.start) / total
                batch = [
                    None if part is None else passes.rows_of(part, rows)
                    for part in (x, y, sample_weight)
                ]
                value, masks, norms = self._run(values, *batch, self._probes(values, batch))
                loss += share * float(ops.convert_to_numpy(value))
                for one, mask, found in zip(self._probed, masks, norms, strict=True):
                    arrays = [ops.convert_to_numpy(norm).astype("float64") for norm in found]
                    shown = None if mask is None else ops.convert_to_numpy(mask)
                    for name, norm in zip(one.names, arrays, strict=True):
                        own = sums.setdefault(name, _Sums(norm.shape[1]))
                        own.add(share * norm, shown, one.backwards)
                done = rows.stop
                line.update()
        layers: dict[str, LayerFlow] = {}
        for key in dict.fromkeys(key for key, _ in sums):
            layers[key] = _flow(
                key, {name: each for (owner, name), each in sums.items() if owner == key}
            )
        return GradientFlow(layers, loss)

    def _probes(self, values: Any, batch: Any) -> list[list[Any]]:
        """Zeros of the shapes that the layers' states have in this batch."""
        rows = len(tree.flatten(batch[0])[0])
        if self._shapes is None or self._shapes[0] != rows:
            kernels.current().outline(self._outline, values, *batch)
            self._shapes = rows, self._probed
        return [[ops.zeros(shape, one.dtype) for shape in one.shapes] for one in self._shapes[1]]

    def _outline(self, values: Any, x: Any, y: Any, sample_weight: Any) -> Any:
        """Note what each pass needs of probes."""
        found: list[_Probed] = []
        calls: Counter[str] = Counter()

        def note(met: passes.Met) -> Any:
            site = met.site
            calls[site.key] += not (site.repeated and calls[site.key])
            found.append(_probed(passes.numbered(site.key, calls[site.key]), met))
            return met.own()[0]

        loss = self._call(values, x, y, sample_weight, note)
        if not found:
            raise ValueError(
                f"`model` must call a recurrent layer; the call of {self._root.name!r} reaches "
                "none of those it holds. Pass the part of the model that uses them."
            )
        self._probed = found
        return loss

    def _differentiate(self, values: Any, x: Any, y: Any, sample_weight: Any, probes: Any) -> Any:
        """The loss, and for each pass its mask and the norms by each state, (rows, time)."""

        def loss_of(flat: Any) -> Any:
            waiting = iter(tree.pack_sequence_as(probes, list(flat)))
            masks: list[Any] = []

            def probe(met: passes.Met) -> Any:
                mask = met.settled.mask
                if mask is not None and met.site.layer.go_backwards:
                    mask = ops.flip(mask, axis=1)
                masks.append(mask)
                return met.through(*_with_probes(met, next(waiting)))

            loss = self._call(values, x, y, sample_weight, probe)
            return loss, masks

        loss, masks, found = kernels.current().gradients(loss_of, tree.flatten(probes))
        norms = [_norm(gradient) for gradient in found]
        return loss, masks, tree.pack_sequence_as(probes, norms)

    def _call(self, values: Any, x: Any, y: Any, sample_weight: Any, handle: Any) -> Any:
        mapping = list(zip(self._variables, values, strict=True))
        with (
            keras.StatelessScope(mapping, collect_losses=True),
            passes.intercepted(self._root, handle),
        ):
            prediction = self._root(x, training=self._training)
            return ops.cast(self._loss(x, y, prediction, sample_weight), "float32")


class _Probed(NamedTuple):
    """What the probes of one pass are like.

    Attributes:
        names: (key, name) of each state; in a stack each cell has a key of its own.
        shapes: (rows, time, *state) of each.
        dtype: Of all.
        backwards: Whether the layer runs from the last step to the first.
    """

    names: tuple[tuple[str, str], ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    backwards: bool


def _probed(key: str, met: passes.Met) -> _Probed:
    layer, states = met.site.layer, met.settled.states
    lead = tuple(met.settled.sequences.shape[:2])
    names: list[tuple[str, str]] = []
    for name, cell, own in passes.cells(layer.cell, states):
        owner = f"{key}/{name}" if name else key
        names += [(owner, state) for state in state_names(cell, len(own))]
    flat = tree.flatten(states)
    # Half precision would lose most of what is to be measured.
    dtype = "float64" if flat[0].dtype == "float64" else "float32"
    return _Probed(
        tuple(names),
        tuple((*lead, *state.shape[1:]) for state in flat),
        dtype,
        layer.go_backwards,
    )


def _with_probes(met: passes.Met, probes: list[Any]) -> tuple[Any, Any]:
    """A cell that adds what it is given to its states, and the sequences that give it."""
    sequences = met.sequences()
    time = sequences.shape[1]
    parts = [ops.reshape(x, (-1, time, math.prod(x.shape[2:]))) for x in (sequences, *probes)]
    dtype = keras.backend.standardize_dtype(sequences.dtype)
    if "float" not in dtype:  # no gradient would come through
        dtype = tree.flatten(met.settled.states)[0].dtype
    joined = ops.concatenate([ops.cast(part, dtype) for part in parts], axis=-1)
    shapes = [tuple(x.shape[2:]) for x in (sequences, *probes)]
    return ProbedCell(met.site.layer.cell, shapes, met.settled.training), joined


class ProbedCell:
    """A cell that takes `[inputs, *probes]` on one axis, and adds a probe to each new state.

    Args:
        cell: The cell, or a stack of them.
        shapes: Of the inputs and of each probe, without the batch.
        training: Whether dropout applies.
    """

    def __init__(self, cell: Any, shapes: list[tuple[int, ...]], training: bool) -> None:
        self.cell = cell
        self.state_size = cell.state_size
        self._shapes = shapes
        self._training = training

    def __call__(self, joined: Any, states: Any) -> Any:
        """Take a step."""
        sizes = [math.prod(shape) for shape in self._shapes]
        ends = [sum(sizes[: index + 1]) for index in range(len(sizes) - 1)]
        output, *probes = (
            ops.reshape(part, (-1, *shape))
            for part, shape in zip(ops.split(joined, ends, axis=-1), self._shapes, strict=True)
        )
        found: list[Any] = []
        for _, cell, own in passes.cells(self.cell, states):
            added = probes[len(found) : len(found) + len(own)]
            output, new = step(cell, output, own, self._training, added)
            found += new
        return output, list(tree.pack_sequence_as(list(states), found))

    call = __call__


def step(cell: Any, inputs: Any, states: list[Any], training: bool, added: Any) -> Any:
    """Take a step of any cell, adding to its states as they are made.

    Returns:
        `(output, states)`, the states flat.
    """
    equations = equations_of(cell)
    if equations is not None:
        projected = equations.project(cell, inputs, training)
        new = equations.step(cell, projected, states, training, added)
        wide = getattr(cell, "return_state", False)
        return ops.concatenate([new[0], *new], axis=-1) if wide else new[0], new
    knows = "training" in inspect.signature(cell.call).parameters
    take = cell if callable(cell) else cell.call
    output, made = take(inputs, states, **({"training": training} if knows else {}))
    flat = tree.flatten(made)
    if added is None:
        return output, flat
    new = [state + ops.cast(probe, state.dtype) for state, probe in zip(flat, added, strict=True)]
    return new[0] if output is flat[0] else output, new


def _norm(gradient: Any) -> Any:
    """The Euclidean norm of each row and step; scaled, so that no square is lost to underflow."""
    flat = ops.reshape(gradient, (*gradient.shape[:2], -1))
    size = ops.max(ops.abs(flat), axis=-1, keepdims=True)
    scaled = flat / ops.where(size > 0, size, ops.ones_like(size))
    return size[..., 0] * ops.sqrt(ops.sum(scaled * scaled, axis=-1))


def _loss_of(root: Any, loss: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The loss as a function of (x, y, prediction, sample_weight)."""
    if loss is None:
        if not getattr(root, "compiled", False):
            raise ValueError(
                f"`loss` must be given for {root.name!r}, which is not compiled; received None. "
                'Pass a loss, such as "mse", or compile the model.'
            )
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
    function = keras.losses.get(loss)
    if not isinstance(function, keras.losses.Loss):
        function = LossByFunction(function)
    return lambda x, y, prediction, weight: function(y, prediction)


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
    symbols = tree.map_structure(
        lambda t: keras.KerasTensor(tuple(t.shape), keras.backend.standardize_dtype(t.dtype)), x
    )
    shown = root.compute_output_spec(symbols)
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
        """Add (rows, time) norms."""
        counts: Any = np.ones(norm.shape, bool) if mask is None else mask
        with np.errstate(invalid="ignore"):
            self._steps += np.where(counts, norm, 0).sum(axis=0), counts.sum(axis=0)
            if not backwards:
                norm, counts = norm[:, ::-1], counts[:, ::-1]
            lags = (np.cumsum(counts, axis=1) - 1)[counts]
            np.add.at(self._lags[0], lags, norm[counts])
            np.add.at(self._lags[1], lags, 1)

    def by_step(self) -> np.ndarray:
        """The mean at each step; NaN where it counts for no row."""
        sums, counts = self._steps
        return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)

    def by_lag(self) -> np.ndarray:
        """The mean at each lag that a row has."""
        sums, counts = self._lags
        return sums[counts > 0] / counts[counts > 0]


def _flow(key: str, sums: dict[str, _Sums]) -> LayerFlow:
    h = next(iter(sums.values()))
    return LayerFlow(key, {name: each.by_step() for name, each in sums.items()}, *judge(h.by_lag()))


def judge(norms: np.ndarray) -> tuple[float, float, str]:
    """Return factor, half-life and verdict, as `LayerFlow` has them, of norms by lag."""
    arrives = np.flatnonzero(norms != 0)
    if not arrives.size:
        return 0.0, 0.0, "vanishing"
    norms = norms[arrives[0] :]
    if len(norms) == 1:
        return math.nan, math.inf, "steady"
    lags = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    factor = math.exp(np.polyfit(lags, np.log(norms[lags]), 1)[0]) if lags.size > 1 else 0.0
    if not np.isfinite(norms).all():
        return (factor if lags.size > 1 else math.inf), math.inf, "exploding"
    reach = norms[-1] / norms[0]
    verdict = "vanishing" if reach < VANISHING else "exploding" if reach > EXPLODING else "steady"
    return factor, _half_life(norms), verdict


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
    r"""Return the norm of dh_T/dh_t for every step t, T the last step, without a loss.

    It is the product that makes a gradient vanish or explode,

    .. math::

        rac{\partial s_T}{\partial s_t} = \prod_{k=t+1}^{T} \frac{\partial s_k}{\partial s_{k-1}},

    where s holds all states of the cell (h, and c for the LSTM); the norm is that of its block
    from h to h. Each factor is exact, by automatic differentiation of one step at the states that
    the layer went through; the product is made in float64. A masked step is a factor of one.

    Args:
        layer: A recurrent layer with one cell, Keras's or ours.
        x: Its input, (batch, time, features).
        mask: (batch, time), true where a step counts.
        norm: `"spectral"`, the largest factor by which a change of h_t can grow, or
            `"frobenius"`.
        progress: Whether to show a line on stderr when it takes more than two seconds.

    Returns:
        (batch, time) float64, in the input's time order. The last step, the first with
        `go_backwards`, has the norm of the identity: 1, or the root of the units.

    Raises:
        ValueError: If `layer` is no recurrent layer or holds a stack of cells, or `norm` is
            another.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> norms = rk.jacobian_norms(rk.GRU(4), np.ones((2, 5, 3), "float32"))
    >>> norms.shape, norms[:, -1]
    ((2, 5), array([1., 1.]))
    """
    cell = getattr(layer, "cell", None)
    if not isinstance(layer, keras.layers.RNN) or isinstance(cell, keras.layers.StackedRNNCells):
        raise ValueError(
            "`layer` must be a recurrent layer with one cell; received "
            f"{type(layer).__name__}{' of a stack of cells' if cell is not None else ''}. Pass "
            "`model.get_layer(name)`, or `.forward_layer` of a Bidirectional."
        )
    orders: dict[str, Any] = {"spectral": 2, "frobenius": "fro"}
    if norm not in orders:
        raise ValueError(f"`norm` must be one of {list(orders)}; received {norm!r}. Pass one.")
    (traced,) = trace(layer, x, mask=mask, progress=progress).values()
    states = [state.astype(layer.variable_dtype) for state in traced.states.values()]
    sequences = np.asarray(x, layer.variable_dtype)
    counts: Any = np.ones(sequences.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    if layer.go_backwards:
        states = [state[:, ::-1] for state in states]
        sequences, counts = sequences[:, ::-1], counts[:, ::-1]
    rows, time, units = states[0].shape
    run = kernels.current().compiled(_step_gradient(cell))
    found = np.empty((rows, time))
    done = 0
    with Progress("jacobian norms", lambda: done / rows, shown=progress) as line:
        for row in range(rows):
            steps = _step_jacobians(run, sequences[row, 1:], [state[row, :-1] for state in states])
            product = np.eye(units, steps.shape[-1])
            for t in range(time - 1, -1, -1):
                found[row, t] = np.linalg.norm(product[:, :units], orders[norm])
                if t and counts[row, t]:
                    product = product @ steps[t - 1]
            done = row + 1
            line.update()
    return found[:, ::-1] if layer.go_backwards else found


def _step_gradient(cell: Any) -> Any:
    """A function of (inputs, states, weights): the gradient by the states of weighted new ones."""

    def run(inputs: Any, states: Any, weights: Any) -> Any:
        def weighted(states: Any) -> Any:
            _, new = step(cell, inputs, list(states), False, None)
            return ops.sum(ops.concatenate(new, axis=-1) * weights), ()

        return kernels.current().gradients(weighted, states)[2]

    return run


def _step_jacobians(run: Any, inputs: np.ndarray, states: list[np.ndarray]) -> np.ndarray:
    """The Jacobian of each step by all states: (steps, size, size) in float64."""
    size = sum(state.shape[-1] for state in states)
    jacobians = np.empty((len(inputs), size, size))
    if len(inputs):
        tensors = ops.convert_to_tensor(inputs), [ops.convert_to_tensor(s) for s in states]
        for index, unit in enumerate(np.eye(size, dtype=inputs.dtype)):
            found = run(*tensors, ops.convert_to_tensor(unit))
            arrays = [ops.convert_to_numpy(gradient) for gradient in found]
            jacobians[:, index] = np.concatenate(arrays, axis=-1)
    return jacobians
