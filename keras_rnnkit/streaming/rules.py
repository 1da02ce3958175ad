"""What acts on each time step by itself: the layers and operations that a step model keeps.

A list of what is known to, never of what is known not to: anything else is refused.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.embedding import GloVeEmbedding
from keras_rnnkit.recurrent import GRU, LSTM, RNN, SimpleRNN
from keras_rnnkit.recurrent.paths import recurrent_layers

layers = keras.layers


class NotPerStep(Exception):  # noqa: N818  it is caught, and becomes a ValueError
    """Why a layer or operation does not act on each time step by itself, and what to use."""


# Nothing at inference.
NO_OPS = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Identity,
)

# A number at a time.
ELEMENTWISE = (
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Rescaling,
    layers.Embedding,
    GloVeEmbedding,
)

# Inputs joined number by number.
MERGES = (
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)

# Over an `axis`.
ALONG_AXIS = (
    layers.Softmax,
    layers.LayerNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
    layers.BatchNormalization,
    layers.Normalization,
    layers.Concatenate,
)

OTHERS = (
    layers.Dense,
    layers.EinsumDense,
    layers.Activation,
    layers.PReLU,
    layers.Masking,
    layers.TimeDistributed,
)

RECURRENT = (layers.SimpleRNN, layers.LSTM, layers.GRU, SimpleRNN, LSTM, GRU, RNN, layers.RNN)

WINDOWED = (
    layers.Conv1D,
    layers.SeparableConv1D,
    layers.DepthwiseConv1D,
    layers.AveragePooling1D,
    layers.MaxPooling1D,
)

_LAST = "Use the output of a recurrent layer with return_sequences=False, which is that so far"
_CAUSAL = 'Use keras.layers.Conv1D(..., padding="causal", strides=1)'
REFUSED: dict[Any, tuple[str, str]] = {
    layers.Bidirectional: (
        "reads the sequence from its end too",
        "Use one direction, with twice the units if that is what the model needs",
    ),
    layers.Attention: ("reads every time step", "Use a recurrent layer or a causal Conv1D"),
    layers.AdditiveAttention: ("reads every time step", "Use a recurrent layer or a causal Conv1D"),
    layers.MultiHeadAttention: (
        "reads every time step",
        "Use a recurrent layer or a causal Conv1D",
    ),
    layers.GroupQueryAttention: (
        "reads every time step",
        "Use a recurrent layer or a causal Conv1D",
    ),
    layers.GlobalAveragePooling1D: ("is over all of time", _LAST),
    layers.GlobalMaxPooling1D: ("is over all of time", _LAST),
    layers.Flatten: ("joins the time steps", _LAST),
    layers.Reshape: (
        "may move values from one time step to another",
        "Use keras.layers.TimeDistributed(keras.layers.Reshape(...)), which leaves time alone",
    ),
    layers.Permute: ("may move the time axis", "Leave time where it is, after the batch"),
    layers.RepeatVector: ("repeats what is known at the end only", _LAST),
    layers.UpSampling1D: ("changes the number of time steps", "Leave it out"),
    layers.Cropping1D: (
        "leaves time steps out",
        "Leave it out, and cut the outputs of the whole model",
    ),
    layers.GroupNormalization: (
        "takes its statistics over time",
        "Use keras.layers.LayerNormalization",
    ),
    layers.Conv1DTranspose: ("changes the number of time steps", _CAUSAL),
    layers.Lambda: (
        "is code that nothing is known of",
        "If it acts on each time step by itself, say so by `stepwise=[keras.layers.Lambda]`",
    ),
}


# What a recurrent layer of another class may not have of its own, for its cell is called alone.
_OF_A_PASS = ("call", "inner_loop", "get_initial_state", "begin", "run", "conclude", "loop")


def require_known_pass(layer: Any) -> None:
    """Refuse a recurrent layer that does more in a pass than to call its cell."""
    kinds = type(layer).__mro__
    place = next((i for i, kind in enumerate(kinds) if kind in RECURRENT), len(kinds))
    own = [name for kind in kinds[:place] for name in _OF_A_PASS if name in vars(kind)]
    if own or place == len(kinds):
        raise NotPerStep(
            f"is a recurrent layer with a `{own[0] if own else 'call'}` of its own",
            "Write it as a cell, and use keras.layers.RNN(cell) or rk.RNN(cell)",
        )


def known(layer: Any, kinds: tuple[Any, ...]) -> Any:
    """Return the kind that a layer is of, unless it has a `call` of its own."""
    for kind in kinds:
        if isinstance(layer, kind) and type(layer).call is kind.call:
            return kind
    return None


def window_of(layer: Any) -> int:
    """Return how many time steps before its own a convolution or pooling reads, if it is causal.

    Raises:
        NotPerStep: If it has a stride, or channels that come first.
    """
    size = getattr(layer, "pool_size", None) or layer.kernel_size
    steps = (size[0] - 1) * getattr(layer, "dilation_rate", (1,))[0]
    if tuple(layer.strides) != (1,):
        raise NotPerStep(
            f"has strides={layer.strides[0]}: it has no output at some time steps",
            "Use strides=1",
        )
    if layer.data_format != "channels_last":
        raise NotPerStep(f'has data_format="{layer.data_format}"', 'Use "channels_last"')
    return steps


def require_causal(layer: Any, padded: int) -> None:
    """Refuse a convolution or pooling that reads time steps to come, or has another length.

    Args:
        layer: Of the kinds `WINDOWED`.
        padded: By how many zeros its input was lengthened at its start.
    """
    steps = window_of(layer)
    if layer.padding == "causal" and not padded:
        return
    if padded == steps and (layer.padding == "valid" or not steps):
        return
    raise NotPerStep(
        f'has padding="{layer.padding}"'
        + (f" after {padded} zeros, and reads {steps} steps before its own" if padded else "")
        + ": its outputs are not one for each time step, from this one and those before alone",
        'Use padding="causal"'
        if hasattr(layer, "kernel_size")
        else f"Put keras.layers.ZeroPadding1D(({steps}, 0)) before it, with "
        'strides=1 and padding="valid"',
    )


def require_per_step(layer: Any, inputs: list[Any]) -> None:
    """Refuse a layer that does not act on each time step by itself.

    Args:
        layer: The layer.
        inputs: Its inputs, each with time on axis 1, as KerasTensors.

    Raises:
        NotPerStep: If it is not known to.
    """
    rank = max(len(x.shape) for x in inputs)
    if known(layer, ELEMENTWISE):
        return
    if known(layer, MERGES):
        if len({len(x.shape) for x in inputs}) > 1:
            raise NotPerStep("joins inputs of different ranks", "Give all of them a time axis")
        return
    if known(layer, (layers.TimeDistributed,)):
        require_no_carried_states(layer)
        return
    if rank < 3:
        raise NotPerStep(
            "acts on the last axis, which is time here", "Give its input an axis of features"
        )
    if known(layer, ALONG_AXIS):
        _require_other_axis(layer.axis, rank)
        return
    if known(layer, (layers.Masking,)):
        return
    if known(layer, (layers.PReLU,)):
        if 1 not in (layer.shared_axes or ()):
            raise NotPerStep("has a weight for each time step", "Use shared_axes=[1]")
        return
    if known(layer, (layers.EinsumDense,)):
        _require_label_kept(layer.equation)
    elif not known(layer, (layers.Dense, layers.Activation)):
        kind = next((kind for kind in REFUSED if isinstance(layer, kind)), None)
        if kind is not None:
            raise NotPerStep(*REFUSED[kind])
        raise NotPerStep(
            "is of a kind that is not known to act on each time step by itself",
            f"If it does, say so by `stepwise=[{type(layer).__name__}]`",
        )
    function = getattr(layer, "activation", None)
    own = getattr(keras.activations, getattr(function, "__name__", ""), None) is not function
    if function is not None and own and not acts_per_step(function, inputs[0].shape[2:]):
        raise NotPerStep(
            f"has an activation, {getattr(function, '__name__', function)!r}, that reads other "
            "time steps",
            "Use one that acts on the last axis or on each number",
        )


def require_no_carried_states(layer: Any) -> None:
    """Refuse a layer that is called as it is and carries states by itself."""
    if any(one.stateful for one in recurrent_layers(layer)):
        raise NotPerStep(
            "is or holds a stateful layer, whose states are not those of a time step",
            "Use stateful=False",
        )


def _require_other_axis(axis: Any, rank: int) -> None:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if any(one is not None and one % rank <= 1 for one in axes):
        raise NotPerStep(f"is over time: axis={axis}", "Use axis=-1")


def _require_label_kept(equation: str) -> None:
    """Refuse an einsum that sums over time, or weighs it."""
    inputs, _, output = equation.replace(" ", "").partition("->")
    left, _, weights = inputs.partition(",")
    if "..." in equation:
        keeps = left.startswith("...") and output.startswith("...") and len(left) == 4
    else:
        keeps = left[1] not in weights and output[:2] == left[:2]
    if not keeps:
        raise NotPerStep(f"mixes time steps: equation {equation!r}", "Use keras.layers.Dense")


def acts_per_step(function: Callable[[Any], Any], features: Any) -> bool:
    """Whether a function of (batch, time, ...) gives the same for each time step alone."""
    shape = (2, 4, *(3 if size is None else size for size in features))
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    try:
        whole = ops.convert_to_numpy(function(ops.convert_to_tensor(inputs)))
        steps = [
            ops.convert_to_numpy(function(ops.convert_to_tensor(inputs[:, [t]]))) for t in range(4)
        ]
    except Exception:
        return False
    joined = np.concatenate(steps, axis=1) if steps[0].ndim > 1 else steps[0]
    return whole.shape == joined.shape and bool(np.allclose(whole, joined, rtol=1e-4, atol=1e-5))


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operations, by the names of their classes in lower case: those of `keras.ops` without `_`.
ELEMENTWISE_OPS = _names(
    """abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh cast ceil celu clip
    copy cos cosh deg2rad divide dividenonan elu equal erf erfinv exp exp2 expm1 floor floordivide
    fmod gelu greater greaterequal hardshrink hardsigmoid hardsilu hardtanh heaviside hypot isclose
    isfinite isinf isnan leakyrelu less lessequal log log10 log1p log2 logaddexp logicaland
    logicalnot logicalor logicalxor logsigmoid maximum minimum mod multiply nantonum negative
    notequal oneslike power rad2deg reciprocal relu relu6 round rsqrt selu sigmoid sign silu sin
    sinh softplus softshrink softsign sparseplus sqrt square squareplus stopgradient subtract tan
    tanh tanhshrink threshold truedivide trunc where zeroslike"""
)
REDUCING_OPS = _names(
    "all amax amin any argmax argmin countnonzero logsumexp max mean min prod std sum var"
)
KEEPING_AXIS_OPS = _names("argsort cumprod cumsum flip logsoftmax roll softmax sort sparsemax")


def time_axis_after(operation: Any, args: Any, kwargs: Any, axis_of: Callable[[Any], Any]) -> int:
    """Return on which axis of its results an operation of `keras.ops` has time.

    Args:
        operation: The operation.
        args: What it is called with.
        kwargs: What it is called with by name.
        axis_of: Which axis of a tensor is time; None for one without.

    Raises:
        NotPerStep: If it does not act on each time step by itself, or is not known to.
    """
    name = type(operation).__name__.lower()
    sequences = [x for x in tree.flatten((args, kwargs)) if axis_of(x) is not None]
    time = axis_of(sequences[0])
    rank = len(sequences[0].shape)
    unknown = NotPerStep(
        "is not known to act on each time step by itself",
        "Put it into a layer of your own, and if it does, say so by `stepwise=[MyLayer]`",
    )
    # An array that is no input, such as the limits of `ops.clip`, may have a value for each step.
    arrays = any(np.ndim(x) for n, x in vars(operation).items() if n in ("x_min", "x_max"))
    if arrays or not type(operation).__module__.startswith("keras."):
        raise unknown
    if name in ELEMENTWISE_OPS:
        return _aligned(args, kwargs, axis_of)
    axis = getattr(operation, "axis", None)
    axes: Any = None if axis is None else tree.flatten(axis)
    if name in REDUCING_OPS | KEEPING_AXIS_OPS:
        if axes is None or any(one % rank in (0, time) for one in axes):
            raise NotPerStep(f"is over time: axis={axis}", "Give it the axis of the features")
        if name in KEEPING_AXIS_OPS or getattr(operation, "keepdims", False):
            return time
        return time - sum(one % rank < time for one in axes)
    if name == "expanddims":
        place = axes[0] % (rank + 1) if axes and len(axes) == 1 else None
        if place is None:
            raise unknown
        return time + (place <= time)
    if name == "squeeze":
        if axes is None or any(one % rank == time for one in axes):
            raise NotPerStep(f"is over time: axis={axis}", "Give it the axis of the features")
        return time - sum(one % rank < time for one in axes)
    if name in ("concatenate", "stack"):
        aligned = _aligned(args, kwargs, axis_of, broadcast=False)
        if name == "concatenate" and axes[0] % rank == aligned:
            raise NotPerStep(f"is over time: axis={axis}", "Give it the axis of the features")
        return aligned + (name == "stack" and axes[0] % (rank + 1) <= aligned)
    if name == "split":
        if axes is None or axes[0] % rank == time:
            raise NotPerStep(f"is over time: axis={axis}", "Give it the axis of the features")
        return time
    if name == "getitem":
        return _after_indexing(args[1] if len(args) > 1 else kwargs["key"], rank, time)
    if name == "matmul":
        left, right = (*args, *kwargs.values())[:2]
        weighed = axis_of(left) is not None and axis_of(right) is None and len(right.shape) == 2
        if weighed and time < rank - 1:
            return time
    raise unknown


def _aligned(args: Any, kwargs: Any, axis_of: Any, broadcast: bool = True) -> int:
    """Where time is in what inputs of any ranks make together, broadcast to each other."""
    tensors = [x for x in tree.flatten((args, kwargs)) if hasattr(x, "shape")]
    rank = max(len(x.shape) for x in tensors)
    places = {axis_of(x) - len(x.shape) for x in tensors if axis_of(x) is not None}
    if len(places) > 1:
        raise NotPerStep("joins inputs with time on different axes", "Give all the same axes")
    place = places.pop()
    for x in tensors:
        if axis_of(x) is None and len(x.shape) >= -place and (not broadcast or x.shape[place] != 1):
            raise NotPerStep(
                f"joins time steps with a tensor of shape {tuple(x.shape)}, which has a value "
                "for each of them or none",
                "Give it one value for all time steps: an axis of length 1",
            )
    return rank + place


def _after_indexing(key: Any, rank: int, time: int) -> int:
    keys = list(key) if isinstance(key, (list, tuple)) else [key]  # a list where it was loaded
    if any(hasattr(one, "shape") or one is None for one in keys):
        raise NotPerStep("takes out more than columns", "Index features by numbers or slices")
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        keys[place : place + 1] = [slice(None)] * (rank - len(keys) + 1)
    keys += [slice(None)] * (rank - len(keys))
    if any(one != slice(None) for one in keys[: time + 1]):
        raise NotPerStep("takes out some of the time steps or samples", "Index features alone")
    return time
