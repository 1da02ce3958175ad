"""`projection` of the LSTM: h of a width of its own, on every path and in every tool."""

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
from tests.recurrent.cases import arrays, inputs, mask_of
from tests.recurrent.test_gradients import DTYPE, TOLERANCE, finite_differences, weighted

BACKEND = keras.backend.backend()
FEATURES, UNITS, WIDTH = 3, 5, 2
EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}
SHAPES = [(FEATURES, 4 * UNITS), (WIDTH, 4 * UNITS), (4 * UNITS,), (UNITS, WIDTH)]
# torch has a kernel for it, and the loop is taken on request.
PATHS = ["auto", False] if BACKEND == "torch" else ["auto"]


def weights_of(dtype="float32", peephole=False):
    rng = np.random.default_rng(3)
    shapes = SHAPES + [(UNITS,)] * 3 * peephole
    return [rng.normal(size=shape, scale=0.5).astype(dtype) for shape in shapes]


def starts(batch=5, dtype="float32"):
    rng = np.random.default_rng(11)
    return [rng.normal(size=(batch, size)).astype(dtype) for size in (WIDTH, UNITS)]


def run(weights, x, states, mask=None):
    """Every state and gate, (batch, time, ...), masked steps holding the states; by NumPy."""
    *own, narrow = weights[:4]
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    found, gates = [], []
    for t in range(x.shape[1]):
        if len(weights) > 4:
            (h, c), of_step = own_cells.peephole_lstm(x[:, t], states, [*own, *weights[4:]])
        else:
            (h, c), of_step = reference.lstm_step(x[:, t], states, own)
        pairs = zip((h @ narrow, c), states, strict=True)
        states = [np.where(mask[:, t, None], new, old) for new, old in pairs]
        found.append(states)
        gates.append(of_step)
    sequences = [np.stack(steps, axis=1) for steps in zip(*found, strict=True)]
    return sequences, {name: np.stack([g[name] for g in gates], 1) for name in gates[0]}


def ready(dtype=None, **options):
    layer = rk.LSTM(UNITS, projection=WIDTH, dtype=dtype, **options)
    layer.build((5, 6, FEATURES))
    layer.set_weights(weights_of())
    return layer


@pytest.mark.backends
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mask", ["none", "right", "left", "holes", "empty row"])
def test_states_and_gates_are_those_of_the_equations(mask, path):
    if BACKEND == "jax" and mask != "empty row":
        pytest.skip("each compiles for seconds there")
    x, states, mask = inputs(), starts(), mask_of(mask)
    layer = ready(use_cudnn=path, **EVERYTHING)
    (h, c), _ = run(weights_of(), x, states, mask)
    found = arrays(layer(x, initial_state=states, mask=mask))
    seen = np.ones(x.shape[:2], bool) if mask is None else np.cumsum(mask, 1) > 0
    wanted = [h * seen[..., None], h[:, -1], c[:, -1], h, c]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    _, gates = run(weights_of(), x, [0 * state for state in states], mask)
    traced = rk.trace(layer, x, mask=mask)[layer.name]
    assert list(traced.states) == ["h", "c"]
    for name, gate in traced.gates.items():
        counts = seen if mask is None else mask
        np.testing.assert_allclose(gate[counts], gates[name][counts], rtol=1e-5, atol=2e-6)


@pytest.mark.backends
@pytest.mark.parametrize("path", PATHS)
def test_gradients_are_those_of_the_equations(path):
    x, mask = inputs(2, 4, FEATURES, "float64"), mask_of("holes")[:2, :4]
    weights, states = weights_of("float64"), starts(2, "float64")
    rng = np.random.default_rng(2)
    shares = [rng.normal(size=(2, 4, size)) for size in (WIDTH, UNITS)]
    layer = rk.LSTM(
        UNITS, projection=WIDTH, dtype=DTYPE, use_cudnn=path, return_state_sequences=True
    )
    layer.build(x.shape)

    def wanted():
        found, _ = run(weights, x, states, mask)
        return sum(np.sum(a * b) for a, b in zip(found, shares, strict=True))

    def loss(x, *rest):
        _, *found = with_weights(layer, rest[:4], x, initial_state=list(rest[4:]), mask=mask)
        return weighted(found, shares)

    values = [x, *weights, *states]
    found = gradients(loss, [value.astype(DTYPE) for value in values])
    for one, other in zip(found, finite_differences(wanted, values), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.backends
def test_it_runs_as_every_layer_does():
    if BACKEND == "jax":
        pytest.skip("each of the eight compiles for seconds there")
    x, mask = inputs(), mask_of("holes")
    (h, c), _ = run(weights_of(), x, [np.zeros((5, size)) for size in (WIDTH, UNITS)], mask)
    seen = (np.cumsum(mask, 1) > 0)[..., None]
    close = {"rtol": 1e-5, "atol": 2e-6}
    back = ready(go_backwards=True, return_sequences=True)(x[:, ::-1], mask=mask[:, ::-1])
    np.testing.assert_allclose(arrays(back)[0], h * seen, **close)
    carried = ready(stateful=True, return_sequences=True)
    for part in (slice(0, 3), slice(3, 6)):
        y = arrays(carried(x[:, part], mask=mask[:, part]))[0]
    np.testing.assert_allclose(y[:, -1], h[:, -1], **close)
    np.testing.assert_allclose(arrays(carried.states)[1], c[:, -1], **close)
    half = ready(dtype="mixed_float16", **EVERYTHING)(x, mask=mask)
    assert {keras.backend.standardize_dtype(y.dtype) for y in half} == {"float16"}
    np.testing.assert_allclose(arrays(half)[-1].astype("float32"), c, atol=0.02)
    both = rk.Bidirectional(rk.LSTM(UNITS, projection=WIDTH, return_state_sequences=True))
    both.build(x.shape)
    both.set_weights(weights_of() * 2)
    output, *sequences = arrays(both(x, mask=mask))
    assert output.shape == (5, 2 * WIDTH)
    np.testing.assert_allclose(sequences[1], c, **close)
    assert [s.shape[-1] for s in sequences] == [WIDTH, UNITS, WIDTH, UNITS]
    cell = rk.LSTMCell(UNITS, projection=WIDTH, return_state=True)
    stepped = rk.RNN(cell, return_sequences=True)
    stepped.build(x.shape)
    stepped.set_weights(weights_of())
    for one, other in zip(cell.unpack(stepped(x, mask=mask))[1:], (h, c), strict=True):
        np.testing.assert_allclose(arrays(one)[0] * seen, other * seen, **close)
    assert both.compute_output_shape(x.shape)[0] == (5, 2 * WIDTH)
    again = type(back_of := ready()).from_config(back_of.get_config())
    assert (again.projection, list(again.state_size)) == (WIDTH, [WIDTH, UNITS])


def test_other_lstms_and_keras_loops_take_it_too():
    x, states = inputs(), starts()
    for peephole, kind in ((False, rk.LSTMCell), (True, rk.cells.PeepholeLSTMCell)):
        weights = weights_of(peephole=peephole)
        wanted, _ = run(weights, x, states)
        for library in (rk, keras.layers):
            layer = library.RNN(kind(UNITS, projection=WIDTH), return_state=True)
            layer.build(x.shape)
            layer.set_weights(weights)
            found = arrays(layer(x, initial_state=states))[1:]
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other[:, -1], rtol=1e-5, atol=2e-6)
    normed = rk.RNN(rk.cells.LayerNormLSTMCell(UNITS, projection=WIDTH), return_state=True)
    assert [tuple(y.shape) for y in normed(x)] == [(5, WIDTH), (5, WIDTH), (5, UNITS)]


@pytest.mark.backends
def test_tools_that_differentiate_know_it():
    if BACKEND == "jax":
        pytest.skip("each compiles for seconds there")
    x = inputs(2, 3)
    layer = ready(name="lstm")
    weights = [w.astype("float64") for w in weights_of()]
    zeros = [np.zeros((2, size)) for size in (WIDTH, UNITS)]
    (h, c), gates = run(weights, x, zeros)
    first = np.concatenate([h[:, 0], c[:, 0]], axis=1)
    jacobian = np.empty((2, WIDTH + UNITS, WIDTH + UNITS))
    for at in range(WIDTH + UNITS):
        ends = []
        for step in (1e-6, -1e-6):
            moved = first.copy()
            moved[:, at] += step
            later, _ = run(weights, x[:, 1:], [moved[:, :WIDTH], moved[:, WIDTH:]])
            ends.append(np.concatenate([each[:, -1] for each in later], axis=1))
        jacobian[:, :, at] = (ends[0] - ends[1]) / 2e-6
    norms = rk.jacobian_norms(layer, x)
    np.testing.assert_allclose(norms[:, 0], np.linalg.norm(jacobian, 2, axis=(1, 2)), rtol=1e-4)
    share = np.random.default_rng(0).normal(size=(2, WIDTH)).astype("float32")
    flow = rk.gradient_flow(
        layer, x, share, lambda y, p: keras.ops.sum(y * p, axis=-1), batch_size=2, progress=False
    )
    by_c = share @ weights[3].T * gates["o"][:, -1] * (1 - np.tanh(c[:, -1]) ** 2)
    for name, wanted in (("h", share), ("c", by_c)):
        norm = np.linalg.norm(wanted / 2, axis=-1).mean()
        np.testing.assert_allclose(flow["lstm"].norms[name][-1], norm, rtol=1e-4)


@pytest.mark.backends
def test_the_report_says_which_kernel_takes_it(monkeypatch):
    reference_kernels.install(monkeypatch)
    layer = ready()
    for training in (False, True):
        (path,) = rk.explain_path(layer, inputs(), training=training).layers
        reference_kernels.CALLS.clear()
        layer(inputs(), training=training)
        assert bool(reference_kernels.CALLS) == path.fused == (BACKEND == "torch")
        failed = [] if BACKEND == "torch" else ["projection"]
        assert [condition.name for condition in path.failed] == failed
        assert path.path == ("aten" if BACKEND == "torch" else kernels.current().LOOP)
    if BACKEND != "torch":
        with pytest.raises(ValueError, match="projection is 2: leave it out"):
            ready(use_cudnn=True)(inputs())


def test_the_block_leaves_it_to_the_loop():
    (path,) = rk.explain_path(ready(), inputs(), training=True).layers
    assert path.path == "loop"
    assert "block" not in [condition.name for condition in path.conditions]


@pytest.mark.parametrize("projection", [5, 6, 0, -1, 2.0, True, "2"])
def test_a_width_that_h_cannot_have_is_refused(projection):
    for make in (rk.LSTM, rk.LSTMCell, rk.cells.PeepholeLSTMCell):
        with pytest.raises(ValueError, match=r"`projection` must be a whole number from 1 to"):
            make(UNITS, projection=projection)


def test_a_saved_model_runs_the_same_in_a_new_process(tmp_path):
    layer = rk.LSTM(UNITS, projection=WIDTH, weight_dropout=0.5, kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((6, FEATURES)), layer])
    assert len(model.losses) == 2  # the input kernel's, and the projection's
    x = inputs()
    np.save(tmp_path / "x.npy", x)
    model.save(tmp_path / "model.keras")
    program = (
        "import sys, numpy as np, keras, keras_rnnkit\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "layer = model.layers[0]\n"
        "assert (layer.projection, layer.weight_dropout) == (2, 0.5)\n"
        "y = model.predict(np.load(sys.argv[1] + '/x.npy'), verbose=0)\n"
        "np.save(sys.argv[1] + '/y.npy', y)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0), atol=1e-6)
