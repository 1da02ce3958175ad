"""Jacobians of a recurrent layer's steps: their product, whole or by unit vectors."""

import functools
import inspect
import math
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.inspection import passes
from keras_rnnkit.inspection.trace import trace
from keras_rnnkit.progress import Progress
from keras_rnnkit.recurrent import kernels, masks
from keras_rnnkit.recurrent.equations import cut, equations_of, follows_from_h
from keras_rnnkit.recurrent.rnn import RNN, Pass
from keras_rnnkit.recurrent.watch import stand_in

DIRECTIONS = 32  # how many unit vectors a batch measures the Jacobians by


def jacobian_norms(
    layer: Any, x: Any, *, mask: Any = None, norm: str = "spectral", progress: bool = True
) -> np.ndarray:
    r"""Return the norm of ds_T/ds_t for every step t, T the last step, without a loss.

    It is the product that makes a gradient vanish or explode,

    .. math::

        \frac{\partial s_T}{\partial s_t} = \prod_{k=t+1}^{T} \frac{\partial s_k}{\partial s_{k-1}},

    where s holds all states: h, and c for the LSTM; those of every cell of a stack. Each factor is
    exact, by automatic differentiation of one step at the states of the layer. The product is
    computed in float64. A masked step is a factor of one.

    Args:
        layer: A recurrent layer, Keras's or ours, with any cell or a stack of them.
        x: Its input, (batch, time, ...).
        mask: (batch, time), true where a step counts.
        norm: `"spectral"`, the largest factor by which a change of the states can grow, or
            `"frobenius"`; divided by the root of the number of states it is `carried` of
            `gradient_flow`.
        progress: Whether to show a line on stderr when it takes more than two seconds.

    Returns:
        (batch, time) float64, in the input's time order. The last step, the first with
        `go_backwards`, has the norm of the identity: 1, or the root of the number of states.

    Raises:
        ValueError: If `layer` is not a recurrent layer, or `norm` is another one.

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

    def times(inputs: Any, states: Any, weights: Any) -> Any:
        cell, initial = precise(layer.cell, layer.get_initial_state(weights[0].shape[0]), False)

        def step(inputs: Any, states: Any) -> Any:
            return walk(cell, inputs, states, False, take_step)

        return times_jacobian(step, initial, inputs, states, weights)

    run = kernels.current().compiled(times)
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


def _step_jacobians(run: Any, inputs: Any, states: list[np.ndarray]) -> np.ndarray:
    """The Jacobian of each step by all states: (steps, size, size) in float64."""
    rows, dtype = len(states[0]), states[0].dtype
    ends = np.cumsum([math.prod(state.shape[1:]) for state in states])
    jacobians = np.empty((rows, ends[-1], ends[-1]))
    if rows:
        tensors = [tree.map_structure(ops.convert_to_tensor, part) for part in (inputs, states)]
        for index, unit in enumerate(np.eye(ends[-1], dtype=dtype)):
            parts = np.split(np.tile(unit, (rows, 1)), ends[:-1], axis=1)
            weights = [
                ops.convert_to_tensor(part.reshape(state.shape))
                for part, state in zip(parts, states, strict=True)
            ]
            found = run(*tensors, weights)
            arrays = [ops.convert_to_numpy(gradient).reshape(rows, -1) for gradient in found]
            jacobians[:, index] = np.concatenate(arrays, axis=-1)
    return jacobians


def carried(cell: Any, settled: Pass, copies: int) -> list[Any]:
    """How much of a gradient each cell of a pass carries back, by unit vectors, without the loss.

    For each cell (samples, time), in the order of processing: the root of the mean over `copies`
    unit vectors u of the squared norm of u ds_T/ds_t.
    """
    settled = replace(
        settled,
        sequences=tree.map_structure(ops.stop_gradient, settled.sequences),
        states=tree.map_structure(ops.stop_gradient, settled.states),
    )
    dtype = dtype_of(settled.states)
    steps = JoinedCell(cell, settled, _take_cut)
    loop = RNN(steps, return_state_sequences=True, dtype=dtype, name="recorder")
    made = loop.run(replace(settled, sequences=steps.joined, states=steps.initial)).sequences
    rows, time = made[0].shape[:2]

    def back(x: Any) -> Any:
        """From (samples, time, ...) to the last step first, each sample repeated by direction."""
        x = ops.flip(ops.moveaxis(x, 1, 0), axis=0)
        return ops.repeat(x, copies, axis=1) if copies > 1 else x

    before = [
        ops.concatenate([ops.cast(ops.expand_dims(start, 1), state.dtype), state[:, :-1]], axis=1)
        for start, state in zip(tree.flatten(steps.initial), made, strict=True)
    ]
    if settled.resets is not None:
        before = settled.restarted(before, settled.resets)
    inputs = [back(ops.cast(x, dtype)) for x in (steps.joined, *before)]
    inputs += [back(marks) for marks in (settled.mask, settled.resets) if marks is not None]

    def step(weights: Any, inputs: Any) -> Any:
        joined, *states = inputs[: 1 + len(before)]
        marks = [ops.expand_dims(x, -1) for x in inputs[1 + len(before) :]]
        found = times_jacobian(steps, steps.initial, joined, states, weights)
        if settled.mask is not None:
            found = [masks.where(marks[0], *each) for each in zip(found, weights, strict=True)]
        if settled.resets is not None:  # behind one, nothing comes of the states before it
            found = [masks.where(marks[-1], ops.zeros_like(x), x) for x in found]
        return found

    counts: list[int] = []
    weights: list[Any] = []
    for _, _, own in passes.cells(cell, steps.initial):
        shapes = [tuple(x.shape[1:]) for x in tree.flatten(own)]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = np.split(_directions(ends[-1], rows * copies), ends[:-1], axis=1)
        weights += [
            ops.convert_to_tensor(part.reshape(-1, *shape), dtype)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        counts.append(len(shapes))
    _, kept = kernels.current().scan(step, weights, inputs, lambda weights: weights)
    waiting = iter(kept)
    norms = []
    for count in counts:
        each = norm([ops.reshape(next(waiting), (time, rows, -1)) for _ in range(count)])
        each = ops.concatenate([ops.ones_like(each[:1]), each[:-1] / math.sqrt(copies)], axis=0)
        norms.append(ops.transpose(ops.flip(each, axis=0)))
    return norms


def _directions(size: int, rows: int) -> np.ndarray:
    """Orthogonal unit vectors, in turn: (samples, size)."""
    random = np.random.default_rng(0).normal(size=(size, min(size, DIRECTIONS)))
    basis = np.linalg.qr(random)[0].T
    return basis[np.arange(rows) % len(basis)]


def times_jacobian(step: Any, like: Any, inputs: Any, states: list[Any], weights: Any) -> list[Any]:
    """Vectors times the Jacobian of one step: of the new states by those before, all flat."""

    def weighted(flat: Any) -> Any:
        own = [ops.cast(x, start.dtype) for x, start in zip(flat, tree.flatten(like), strict=True)]
        _, made = step(inputs, tree.pack_sequence_as(like, own))
        pairs = zip(tree.flatten(made), weights, strict=True)
        # torch refuses to differentiate by what no state is made from.
        total = sum(ops.sum(0 * x) for x in flat)
        return total + sum(ops.sum(ops.cast(new, w.dtype) * w) for new, w in pairs), ()

    return kernels.current().gradients(weighted, states)[2]


def norm(parts: list[Any]) -> Any:
    """The Euclidean norm over all but two axes, scaled to avoid underflow."""
    lead = parts[0].shape[:2]
    flat = ops.concatenate([ops.reshape(x, (*lead, -1)) for x in parts], axis=-1)
    size = ops.max(ops.abs(flat), axis=-1, keepdims=True)
    scaled = flat / ops.where(size > 0, size, ops.ones_like(size))
    return size[..., 0] * ops.sqrt(ops.sum(scaled * scaled, axis=-1))


def take_step(cell: Any, inputs: Any, states: list[Any], training: bool) -> tuple[Any, list[Any]]:
    """Take a step of any cell; return its output and its states, flat."""
    knows = "training" in inspect.signature(cell.call).parameters
    if _known(cell):  # `__call__` would cast the inputs of one in float32
        take = functools.partial(type(cell).call, cell)
    else:
        take = cell if callable(cell) else cell.call
    output, made = take(inputs, states, **({"training": training} if knows else {}))
    return output, tree.flatten(made)


def _take_cut(cell: Any, inputs: Any, states: list[Any], training: bool) -> Any:
    """Take a step without gradient through the inputs."""
    return take_step(cell, tree.map_structure(ops.stop_gradient, inputs), states, training)


def _known(cell: Any) -> bool:
    """Whether a cell has a kernel, a recurrent kernel and a bias."""
    equations = equations_of(cell)
    return equations is not None and follows_from_h(equations)


def precise(cell: Any, states: Any, training: bool) -> tuple[Any, Any]:
    """A cell and its states; in float32 instead of half precision, to keep small gradients."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        found = [precise(one, own, training) for _, one, own in passes.cells(cell, states)]
        flat = tree.flatten([own for _, own in found])
        twin = stand_in(cell, cells=[one for one, _ in found])
        return twin, list(tree.pack_sequence_as(list(states), flat))
    half = getattr(cell, "compute_dtype", None) in ("float16", "bfloat16")
    if not half or not _known(cell):
        return cell, list(states)
    rates = (getattr(cell, f"{of}dropout", 0) for of in ("", "recurrent_", "weight_"))
    if training and any(rates):  # whose masks are of half precision
        return cell, list(states)
    names = ("kernel", "recurrent_kernel", "bias", "projection_kernel")
    held = {name: getattr(cell, name, None) for name in names}
    weights = {name: weight for name, weight in held.items() if weight is not None}
    # As rounded as the layer takes them.
    rounded = {name: ops.cast(weight, cell.compute_dtype) for name, weight in weights.items()}
    twin = stand_in(cell, **{n: ops.cast(x, "float32") for n, x in rounded.items()})
    return twin, [ops.cast(x, "float32") for x in states]


def walk(cell: Any, inputs: Any, states: Any, training: bool, step: Any, added: Any = None) -> Any:
    """Take a step of a cell, or of a stack, each by `step` with its part of `added`."""
    made: list[Any] = []
    for index, (_, one, own) in enumerate(passes.cells(cell, states)):
        more = () if added is None else (added[index],)
        inputs, new = step(one, inputs, own, training, *more)
        made += new
    return inputs, made


def dtype_of(states: Any) -> str:
    """The dtype of the measurement: half precision would lose most of it."""
    return "float64" if any("float64" in str(x.dtype) for x in tree.flatten(states)) else "float32"


class JoinedCell:
    """A `precise` cell that takes its inputs and what `walk` adds joined on one axis.

    Attributes:
        joined: The sequences of the pass joined with what is added, (samples, time, ...).
        initial: The states before the first step.
    """

    def __init__(self, cell: Any, settled: Pass, step: Any, added: Any = None) -> None:
        self.state_size = cell.state_size
        self._step, self._training = step, settled.training
        self._cell, self.initial = precise(cell, settled.states, settled.training)
        self._like = (settled.sequences, added)
        self._leaves = [*tree.flatten(settled.sequences), *tree.flatten(added or [])]
        dtype, lead = dtype_of(settled.states), self._leaves[0].shape[:2]
        parts = [
            ops.cast(ops.reshape(x, (*lead, math.prod(x.shape[2:]))), dtype) for x in self._leaves
        ]
        self.joined = ops.concatenate(parts, axis=-1)

    def __call__(self, joined: Any, states: Any) -> Any:
        """Take a step."""
        parts = []
        sizes = [math.prod(x.shape[2:]) for x in self._leaves]
        for part, like in zip(cut(joined, sizes), self._leaves, strict=True):
            part = part if like.ndim == 3 else ops.reshape(part, (-1, *like.shape[2:]))
            parts.append(part if part.dtype == like.dtype else ops.cast(part, like.dtype))
        sequences, added = self._like
        count = len(tree.flatten(sequences))
        inputs = tree.pack_sequence_as(sequences, parts[:count])
        if added is not None:
            added = tree.pack_sequence_as(added, parts[count:])
        output, made = walk(self._cell, inputs, states, self._training, self._step, added)
        return output, list(tree.pack_sequence_as(list(states), made))

    call = __call__
