"""Gradients against finite differences of the NumPy equations, in float64, on both paths."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.autodiff import compiled, gradients, tensor_gradients, with_weights
from tests.recurrent.cases import CELLS, arrays, inputs, make, states_of, weights_of

pytestmark = pytest.mark.backends
BATCH, TIME, FEATURES, UNITS = 2, 4, 2, 2
MASK = np.array([[True, True, False, True], [False, True, True, False]])


def weighted(results, shares):
    products = zip(results, shares, strict=True)
    return sum(keras.ops.sum(a * keras.ops.convert_to_tensor(b, a.dtype)) for a, b in products)


def finite_differences(function, values, step=1e-6):
    found = []
    for value in values:
        gradient = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            kept = value[index]
            value[index] = kept + step
            above = function()
            value[index] = kept - step
            below = function()
            value[index] = kept
            gradient[index] = (above - below) / (2 * step)
        found.append(gradient)
    return found


# JAX computes in float64 only when told so before Keras is imported: there the layer's gradient is
# a float32 one, held against the same float64 differences.
DTYPE, TOLERANCE = ("float32", 1e-5) if keras.backend.backend() == "jax" else ("float64", 1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("path", ["loop", "fused", "block"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_the_equations(cell, path, masked, monkeypatch):
    backend = keras.backend.backend()
    # The block computes in float32 alone.
    dtype, tolerance = ("float32", 1e-5) if path == "block" else (DTYPE, TOLERANCE)
    if backend == "jax" and not masked:
        pytest.skip("the masked case has every term; each compiles for seconds here")
    if path == "fused":
        if cell == "GRU reset before" or (backend == "jax" and cell != "LSTM"):
            pytest.skip("no fused kernel computes this cell on this backend")
        reference_kernels.install(monkeypatch)
    if path == "block":
        if cell != "LSTM" or not kernels.current().BLOCKS:
            pytest.skip("the block trains the LSTM on TensorFlow alone")
        reference_kernels.watch_block(monkeypatch)
    mask = MASK if masked else None
    weights = weights_of(cell, FEATURES, UNITS, "float64")
    x = inputs(BATCH, TIME, FEATURES, "float64")
    states = states_of(cell, BATCH, UNITS, "float64")
    rng = np.random.default_rng(2)
    # Each result has weights of its own, so that no two gradients can cancel.
    shares = [rng.normal(size=(BATCH, TIME, UNITS)) for _ in range(1 + len(states))]
    shares += [rng.normal(size=(BATCH, UNITS)) for _ in states]

    def wanted_loss():
        found = reference.run(cell, weights, x, states, mask)
        results = [found["outputs"], *found["states"], *found["last"]]
        return sum(np.sum(a * b) for a, b in zip(results, shares, strict=True))

    layer = make(
        cell,
        units=UNITS,
        dtype=dtype,
        return_sequences=True,
        return_state=True,
        return_state_sequences=True,
        use_cudnn={"loop": False, "fused": True, "block": "auto"}[path],
    )
    layer.build(x.shape)
    options = {"mask": mask, "training": path == "block"}

    def loss(x, *rest):
        tensors, initial = rest[:3], list(rest[3:])
        output, *others = with_weights(layer, tensors, x, initial_state=initial, **options)
        last, sequences = others[: len(initial)], others[len(initial) :]
        results = [output, *sequences, *last]
        return weighted(results, shares)

    values = [value.astype(dtype) for value in (x, *weights, *states)]
    wanted = finite_differences(wanted_loss, [x, *weights, *states])
    for one, other in zip(gradients(loss, values), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    if path == "block":
        # In a graph a tape looks gradients up elsewhere.
        graph = compiled(lambda *values: tensor_gradients(loss, values), jit=False)
        for one, other in zip(arrays(graph(*values)), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
        assert len(reference_kernels.CALLS) == 2


PADDED = {
    "LSTM": lambda **kwargs: make("LSTM", units=UNITS, **kwargs),
    "GRU": lambda **kwargs: make("GRU", units=UNITS, **kwargs),
    "SimpleRNN": lambda **kwargs: make("SimpleRNN", units=UNITS, **kwargs),
    "Bidirectional": lambda **kwargs: rk.Bidirectional(make("LSTM", units=UNITS, **kwargs)),
    "any cell": lambda use_cudnn, **kwargs: rk.RNN(keras.layers.LSTMCell(UNITS), **kwargs),
}


@pytest.mark.parametrize("use_cudnn", ["auto", False])
@pytest.mark.parametrize("name", PADDED)
def test_padding_reaches_neither_result_nor_gradient(name, use_cudnn, monkeypatch):
    if keras.backend.backend() == "jax" and (name != "LSTM" or use_cudnn):
        pytest.skip("compiles for seconds there")
    if use_cudnn:
        reference_kernels.install(monkeypatch)
    x, mask = inputs(2, 3, 2), np.array([[True, False, True], [True, False, False]])
    spoilt = np.where(mask[..., None], x, np.nan).astype("float32")
    layer = PADDED[name](return_sequences=True, return_state_sequences=True, use_cudnn=use_cudnn)
    layer.build(x.shape)
    weights = arrays(layer.weights)

    def loss(x, *weights):
        found = with_weights(layer, weights, x, mask=keras.ops.convert_to_tensor(mask))
        return sum(keras.ops.sum(y**2) for y in keras.tree.flatten(found))

    for one, other in zip(
        gradients(loss, [spoilt, *weights]), gradients(loss, [x, *weights]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
