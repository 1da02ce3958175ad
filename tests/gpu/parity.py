"""Every result of every layer against the equations in NumPy, under every mask, TF32 or not."""

import itertools
from functools import partial
from unittest import SkipTest

import keras
import numpy as np

import keras_rnnkit as rk
from tests import reference
from tests.gpu import machine
from tests.recurrent.autodiff import compiled, gradients, with_weights
from tests.recurrent.cases import MASKS, arrays, make, mask_of, weights_of

LAYERS = [
    direction + cell
    for direction in ("", "Bidirectional ")
    for cell in ("LSTM", "GRU", "SimpleRNN")
]
# TF32 keeps 10 bits of a factor's mantissa, float32 23. A gradient is held to ten times as much,
# relative to its norm.
TOLERANCES = {False: 2e-5, True: 5e-3}
BATCH = 5


def items(cpu):
    # Without TF32 first: a kernel that keeps to what was set before must keep to the stricter.
    for allowed, name, fused in itertools.product((False, True), LAYERS, (True, False)):
        title = f"{name}, {'kernel' if fused else 'loop'}, TF32 {'on' if allowed else 'off'}"
        yield title, partial(compare, name, fused, allowed, cpu)


def compare(name, fused, allowed, cpu):
    """Values and gradients under every mask; the figures are the largest errors."""
    cell = name.split()[-1]
    if fused and machine.BACKEND == "jax" and cell != "LSTM":
        raise SkipTest("JAX has a kernel for the LSTM alone")
    machine.allow_tensor_float_32(allowed)
    time, features, units = (6, 3, 4) if cpu else (40, 14, 32)
    # "auto" on the CPU: there the kernel cannot be a demand.
    use_cudnn = ("auto" if cpu else True) if fused else False
    weights = [
        # So that the recurrent kernel neither explodes nor fades, whatever its size.
        each * (4 / units) ** 0.5
        for seed in range(3, 3 + len(name.split()))
        for each in weights_of(cell, features, units, "float64", seed)
    ]
    x = np.random.default_rng(5).normal(size=(BATCH, time, features))
    layer = layer_of(name, units, use_cudnn)
    layer.build(x.shape)

    def call(mask, x, *weights):
        return list(with_weights(layer, weights, x, mask=mask))

    run = compiled(call, jit=machine.BACKEND == "jax") or call
    expected, figures = machine.path_of(cell, use_cudnn, cpu), []
    for kind in MASKS:
        mask = mask_of(kind, BATCH, time)
        paths = {one.path for one in rk.explain_path(layer, x.astype("float32"), mask=mask).layers}
        assert paths == {expected}, f"expected the path {expected}, received {paths}"
        error, slope = errors(name, run, [x, *weights], mask)
        figures.append(f"{kind} {error:.0e}/{slope:.0e}")
        assert error <= TOLERANCES[allowed], f"error {error:.1e}, mask: {kind}"
        assert slope <= 10 * TOLERANCES[allowed], f"gradient's error {slope:.1e}, mask: {kind}"
    return f"{expected}; errors of values/gradients: {', '.join(figures)}"


def layer_of(name, units, use_cudnn):
    """A layer that returns all that it can."""
    *wrapper, cell = name.split()
    layer = make(
        cell,
        units=units,
        use_cudnn=use_cudnn,
        return_sequences=True,
        return_state=True,
        return_state_sequences=True,
    )
    return rk.Bidirectional(layer, merge_mode=None) if wrapper else layer


def wanted(name, values, mask):
    """All results by the equations, in the layer's order."""
    *wrapper, cell = name.split()
    x, *weights = values
    if not wrapper:
        found = reference.run(cell, weights, x, mask=mask)
        return [found["outputs"], *found["last"], *found["states"]]
    half = len(weights) // 2
    forward, backward = (
        reference.run(
            cell, each, x, mask=mask, backwards=backwards, zero_output_for_mask=mask is not None
        )
        for each, backwards in ((weights[:half], False), (weights[half:], True))
    )
    return [
        forward["outputs"],
        backward["outputs"][:, ::-1],
        *forward["last"],
        *backward["last"],
        *forward["states"],
        *(sequence[:, ::-1] for sequence in backward["states"]),
    ]


def errors(name, run, values, mask):
    """The largest error of a result, and a gradient's along a random direction.

    The direction's slope is a finite difference of the equations in float64.
    """
    rng = np.random.default_rng(7)
    right = wanted(name, values, mask)
    probes = [rng.normal(size=each.shape) for each in right]
    directions = [rng.normal(size=each.shape) for each in values]

    def loss_at(distance):
        moved = [v + distance * d for v, d in zip(values, directions, strict=True)]
        return sum((y * p).sum() for y, p in zip(wanted(name, moved, mask), probes, strict=True))

    def tensors(arrays):
        return [keras.ops.convert_to_tensor(each.astype("float32")) for each in arrays]

    mask = None if mask is None else keras.ops.convert_to_tensor(mask)
    factors = tensors(probes)

    def loss(*values):
        return sum(keras.ops.sum(y * p) for y, p in zip(run(mask, *values), factors, strict=True))

    found = arrays(run(mask, *tensors(values)))
    error = max(np.abs(one - two).max() for one, two in zip(found, right, strict=True))
    slopes = gradients(loss, tensors(values))
    norm = np.sqrt(sum((each.astype("float64") ** 2).sum() for each in slopes))
    assert 0 < norm < np.inf, f"the gradient's norm is {norm}"
    slope = sum((g * d).sum() for g, d in zip(slopes, directions, strict=True))
    difference = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6
    return error, abs(slope - difference) / norm
