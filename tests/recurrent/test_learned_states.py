"""`learn_initial_state`: the states before the first step are weights, on every path."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests import reference
from tests.recurrent import own_cells, reference_kernels
from tests.recurrent.autodiff import gradients, with_weights
from tests.recurrent.cases import (
    CELLS,
    FEATURES,
    UNITS,
    arrays,
    inputs,
    make,
    mask_of,
    states_of,
    weights_of,
)
from tests.recurrent.test_gradients import DTYPE, TOLERANCE, finite_differences, weighted

JAX = keras.backend.backend() == "jax"
LEARNED = {"learn_initial_state": True, "return_sequences": True, "return_state_sequences": True}


def learned(cell, dtype=None, library=rk, **options):
    """A built layer, and its weights: each state before the first step, then the cell's."""
    layer = make(cell, library, dtype=dtype, **{**LEARNED, **options})
    layer.build((5, 6, FEATURES))
    weights = [state[0] for state in states_of(cell)] + weights_of(cell)
    layer.set_weights(weights)
    return layer, weights


@pytest.mark.backends
@pytest.mark.parametrize("path", ["loop", "fused", "block"])
@pytest.mark.parametrize("cell", CELLS)
def test_values_and_gradients_are_those_of_the_equations(cell, path, monkeypatch):
    if JAX and (cell, path) != ("LSTM", "loop"):
        pytest.skip("each compiles for seconds there")
    if path == "fused":
        if cell == "GRU reset before":
            pytest.skip("no fused kernel computes this cell")
        reference_kernels.install(monkeypatch)
    if path == "block" and (cell != "LSTM" or not kernels.current().BLOCKS):
        pytest.skip("the block trains the LSTM on TensorFlow alone")
    dtype, tolerance = ("float32", 1e-5) if path == "block" else (DTYPE, TOLERANCE)
    use_cudnn = {"loop": False, "fused": True, "block": "auto"}[path]
    layer, weights = learned(cell, dtype, use_cudnn=use_cudnn)
    count, mask = len(states_of(cell)), mask_of("holes")[:2, :4]
    x = inputs(2, 4, FEATURES, "float64")
    weights = [w.astype("float64") for w in weights]
    rng = np.random.default_rng(2)
    shares = [rng.normal(size=(2, 4, UNITS)) for _ in range(1 + count)]

    def wanted():
        states = [np.tile(state, (2, 1)) for state in weights[:count]]
        found = reference.run(cell, weights[count:], x, states, mask)
        results = [found["outputs"], *found["states"]]
        return sum(np.sum(a * b) for a, b in zip(results, shares, strict=True))

    def loss(x, *tensors):
        found = with_weights(layer, tensors, x, mask=mask, training=path == "block")
        return weighted(found, shares)

    values = [value.astype(dtype) for value in (x, *weights)]
    tensors = [keras.ops.convert_to_tensor(value) for value in values]
    np.testing.assert_allclose(arrays(loss(*tensors))[0], wanted(), rtol=1e-4)
    for one, other in zip(
        gradients(loss, values), finite_differences(wanted, [x, *weights]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.backends
def test_a_scan_a_stack_both_directions_and_what_they_begin_with():
    x = inputs()
    scanned = rk.RNN(rk.cells.MinGRUCell(UNITS), **LEARNED)
    assert arrays(scanned(x))[0].shape == (5, 6, UNITS)
    assert (arrays(scanned.weights[0])[0] == 0).all()
    weights = own_cells.weights_of(scanned)
    scanned.set_weights(weights)
    begin = [np.tile(weights[0], (5, 1))]
    wanted, _ = own_cells.run(rk.cells.MinGRUCell, weights[1:], x, begin)
    np.testing.assert_allclose(arrays(scanned(x))[1], wanted[0], rtol=1e-5, atol=1e-6)

    class Ones(keras.layers.SimpleRNNCell):
        def get_initial_state(self, batch_size=None):
            return [keras.ops.ones((batch_size, self.units), self.compute_dtype)]

    stack = rk.RNN([Ones(2), rk.LSTMCell(3)], learn_initial_state=True)
    both = rk.Bidirectional(rk.GRU(3, learn_initial_state=True), name="both")
    model = keras.Sequential([keras.Input((6, FEATURES)), rk.GRU(3, return_sequences=True)])
    for layer in (stack, keras.layers.RepeatVector(3), both):
        model.add(layer)
    assert [tuple(w.shape) for w in stack.weights[:3]] == [(2,), (3,), (3,)]
    assert [set(w.ravel()) for w in arrays(stack.weights[:3])] == [{1.0}, {0.0}, {0.0}]
    assert "initial_state_0" in both.backward_layer.weights[0].path
    model.compile("adam", "mse", run_eagerly=not JAX)
    before = arrays(model.weights)
    model.fit(x, np.ones((5, 6), "float32"), verbose=0)
    for one, other, weight in zip(before, arrays(model.weights), model.weights, strict=True):
        assert (one != other).any() or "recurrent" in weight.path


@pytest.mark.backends
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_given_states_come_before_learned_ones_and_carried_ones_begin_there(cell):
    if JAX and cell != "LSTM":
        pytest.skip("each compiles for seconds there")
    x, states = inputs(), states_of(cell)
    layer, weights = learned(cell)
    own = [np.tile(w, (5, 1)) for w in weights[: len(states)]]
    plain = make(cell, **{**LEARNED, "learn_initial_state": False})
    plain.build(x.shape)
    plain.set_weights(weights[len(states) :])
    found = arrays(layer(x))
    for one, other in zip(found, arrays(plain(x, initial_state=own)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for one, other in zip(*(arrays(each(x, initial_state=states)) for each in (layer, plain)),
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    traced = rk.trace(layer, x)[layer.name]
    np.testing.assert_allclose(traced["h"], found[1], rtol=1e-5, atol=1e-6)
    assert rk.jacobian_norms(layer, x).shape == (5, 6)
    half, _ = learned(cell, dtype="mixed_float16")
    np.testing.assert_allclose(arrays(half(x))[1].astype("float32"), found[1], atol=0.02)

    carried, _ = learned(cell, stateful=True)
    assert not [w for w in carried.trainable_weights if "initial_state" in w.path]
    for state in rk.get_states(carried)[carried.name]:
        assert (state == 0).all()  # set_weights came after the states
    rk.reset_states(carried)
    for state, wanted in zip(rk.get_states(carried)[carried.name], own, strict=True):
        np.testing.assert_allclose(state, wanted)
    halves = [arrays(carried(part))[0] for part in (x[:, :3], x[:, 3:])]
    np.testing.assert_allclose(np.concatenate(halves, 1), found[0], rtol=1e-5, atol=1e-6)
    rk.reset_states(carried, samples=[1])
    state = rk.get_states(carried)[carried.name][0]
    np.testing.assert_allclose(state[1], own[0][1])
    assert (state[0] != own[0][0]).any()


def test_weights_files_hold_them_and_a_stateful_layer_begins_with_them(tmp_path):
    def model(**options):
        layer = rk.LSTM(UNITS, learn_initial_state=True, name="lstm", **options)
        return keras.Sequential([keras.Input((6, FEATURES), batch_size=5), layer])

    trained, x = model(), inputs()
    trained.set_weights([s[0] for s in states_of("LSTM")] + weights_of("LSTM"))
    trained.save(tmp_path / "m.keras")
    trained.save_weights(tmp_path / "m.weights.h5")
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys, numpy as np, keras, keras_rnnkit\n"
        "model = keras.saving.load_model(sys.argv[1] + '/m.keras')\n"
        "np.save(sys.argv[1] + '/y.npy', model.predict(np.load(sys.argv[1] + '/x.npy')))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    wanted = arrays(trained(x))[0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, atol=1e-6)
    carried = model(stateful=True)
    carried.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(arrays(carried(x))[0], wanted, atol=1e-6)
    saving = model(stateful=True, save_states=True)
    saving.load_weights(tmp_path / "m.weights.h5")
    saving(x)
    saving.save_weights(tmp_path / "s.weights.h5")
    again = model(stateful=True, save_states=True)
    again.load_weights(tmp_path / "s.weights.h5")
    for one, other in zip(*(rk.get_states(m)["lstm"] for m in (saving, again)), strict=True):
        np.testing.assert_allclose(one, other)


@pytest.mark.backends
@pytest.mark.parametrize("cell", ["LSTM", "zoned, projected"])
def test_a_reset_goes_back_to_them(cell):
    if cell == "LSTM":
        layer, _ = learned(cell)
    else:
        zoned = rk.cells.Zoneout(rk.LSTMCell(UNITS, projection=2), (0.1, 0.3))
        layer = rk.RNN(zoned, **LEARNED)
        layer.build((5, 6, FEATURES))
        layer.set_weights(own_cells.weights_of(layer))
    x, reset = inputs(), np.zeros((5, 6), bool)
    reset[:, 3] = True
    found = arrays(layer(x, reset=reset))
    for one, first, second in zip(found, *(arrays(layer(part)) for part in (x[:, :3], x[:, 3:])),
                                  strict=True):  # fmt: skip
        np.testing.assert_allclose(one, np.concatenate([first, second], 1), rtol=1e-5, atol=1e-6)
