"""Replay: gates and states after the fact, against the equations, with their dropout masks."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_rnnkit.recurrent import kernels, replay
from keras_rnnkit.recurrent.equations import equations_of
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.autodiff import compiled
from tests.recurrent.cases import (
    CELLS,
    arrays,
    inputs,
    make,
    mask_of,
    ready,
    states_of,
    weights_of,
)

pytestmark = pytest.mark.backends


@pytest.mark.parametrize("mask", ["none", "holes", "empty row"])
@pytest.mark.parametrize("cell", CELLS)
def test_replay_finds_every_state_and_gate_of_keras_cell(cell, mask):
    x, states, mask = inputs(), states_of(cell), mask_of(mask)
    wanted = reference.run(cell, weights_of(cell), x, states, mask)
    layer = ready(cell, library=keras.layers)
    equations = equations_of(layer.cell)
    x, h, *initial = (ops.convert_to_tensor(a) for a in (x, wanted["states"][0], *states))
    valid = None if mask is None else ops.convert_to_tensor(mask)
    found = replay.states(equations, layer.cell, x, h, initial, valid)
    for one, other in zip(arrays(found), wanted["states"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    for one, name in zip(
        arrays(replay.gates(equations, layer.cell, x, h, initial[0])),
        equations.gate_names,
        strict=True,
    ):
        np.testing.assert_allclose(one, wanted["gates"][name], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("rates", [{"dropout": 0.4}, {"dropout": 0.4, "implementation": 1}])
def test_replay_applies_the_masks_of_the_forward_pass(rates, monkeypatch):
    """Recorded in the loop or recovered after the kernel, c is the same under dropout."""
    reference_kernels.install(monkeypatch)
    x = inputs()
    found = []
    for use_cudnn in (False, "auto"):
        layer = ready("LSTM", seed=3, return_state_sequences=True, use_cudnn=use_cudnn, **rates)
        found.append(arrays(layer(x, training=True)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    # One mask a gate is no kernel's business: the layer sees that and loops.
    assert bool(reference_kernels.CALLS) == ("implementation" not in rates)


@pytest.mark.parametrize("scan", [replay.stepping_scan, replay.associative_scan])
@pytest.mark.parametrize("time", [1, 2, 7, 8])
def test_a_scan_is_the_recurrence(time, scan):
    rng = np.random.default_rng(0)
    leak, drive = rng.uniform(size=(2, 3, time, 2)).astype("float32")
    initial = rng.normal(size=(3, 2)).astype("float32")
    c, wanted = initial, []
    for t in range(time):
        c = leak[:, t] * c + drive[:, t]
        wanted.append(c)
    tensors = [ops.convert_to_tensor(a) for a in (leak, drive, initial)]
    found = arrays(scan(*tensors))[0]
    np.testing.assert_allclose(found, np.stack(wanted, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("device", "scan"), [("CPU", "stepping_scan"), ("GPU", "associative_scan")]
)
def test_the_device_decides_how_to_scan(device, scan, monkeypatch):
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: device)
    monkeypatch.setattr(replay, scan, lambda *_: "this one")
    x = ops.zeros((2, 3, 4))
    assert replay.linear_scan(x, x, x[:, 0]) == "this one"


@pytest.mark.parametrize("scan", [replay.stepping_scan, replay.associative_scan])
def test_a_length_known_only_at_run_time(scan, monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow traces unknown lengths")
    import tensorflow as tf

    layer = make("LSTM", return_state_sequences=True)
    layer.build((None, None, 3))
    x = inputs()
    _, h, c = layer(x)
    monkeypatch.setattr(replay, "linear_scan", scan)

    def recover(x, h):
        zeros = tf.zeros_like(h[:, 0])
        return replay.states(layer.equations, layer.cell, x, h, [zeros, zeros])[1]

    traced = compiled(recover, jit=False)
    signature = [tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None, 4))]
    found = traced.get_concrete_function(*signature)(x, h)
    np.testing.assert_allclose(found, c, rtol=1e-5, atol=2e-6)
