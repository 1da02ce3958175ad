"""`rk.Cell` and the cells of `rk.cells`: their equations, once written, in every use."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent import own_cells
from tests.recurrent.autodiff import compiled, gradients, with_weights
from tests.recurrent.cases import arrays, inputs, mask_of
from tests.recurrent.own_cells import FEATURES, STEPS, UNITS, IndRNNCell, weights_of
from tests.recurrent.test_gradients import DTYPE, TOLERANCE, finite_differences, weighted

CELLS = list(STEPS)
LINEAR = [rk.cells.MinGRUCell, rk.cells.MinLSTMCell]
EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}
each_cell = pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)


def layer_of(kind, library=rk, cell=None, dtype=None, **options):
    """A built layer around a cell of this kind with weights for it, and the weights."""
    layer = library.RNN(kind(UNITS, **(cell or {}), dtype=dtype), dtype=dtype, **options)
    layer.build((5, 6, FEATURES))
    weights = weights_of(layer.cell, "float64" if dtype == "float64" else "float32")
    layer.set_weights(weights)
    return layer, weights


def starts(kind, batch=5, dtype="float32"):
    rng = np.random.default_rng(11)
    return [rng.normal(size=(batch, UNITS)).astype(dtype) for _ in kind.state_names]


@pytest.mark.backends
@pytest.mark.parametrize("mask", ["none", "right", "left", "holes", "empty row"])
@each_cell
def test_states_are_those_of_the_equations(kind, mask):
    if keras.backend.backend() == "jax" and mask not in {"none", "empty row"}:
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, **EVERYTHING)
    x, states, mask = inputs(), starts(kind), mask_of(mask)
    wanted, _ = own_cells.run(kind, weights, x, states, mask)
    output, *found = arrays(layer(x, initial_state=states, mask=mask))
    last, sequences = found[: len(states)], found[len(states) :]
    for one, other in zip(sequences, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    for one, other in zip(last, wanted, strict=True):
        np.testing.assert_allclose(one, other[:, -1], rtol=1e-5, atol=2e-6)
    seen = np.ones(x.shape[:2], bool) if mask is None else np.cumsum(mask, 1) > 0
    np.testing.assert_allclose(output, wanted[0] * seen[..., None], rtol=1e-5, atol=2e-6)


@pytest.mark.backends
@pytest.mark.parametrize("library", [rk, keras.layers], ids=["ours", "Keras's"])
@each_cell
def test_trace_shows_states_and_gates_by_name(kind, library):
    if keras.backend.backend() == "jax" and library is not rk:
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, library)
    x, mask = inputs(), mask_of("holes")
    zeros = [np.zeros((5, UNITS), "float32") for _ in kind.state_names]
    wanted, gates = own_cells.run(kind, weights, x, zeros, mask)
    traced = rk.trace(layer, x, mask=mask)[layer.name]
    assert tuple(traced.states) == kind.state_names
    assert tuple(traced.gates) == kind.gate_names
    for one, other in zip(traced.states.values(), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    for name, gate in traced.gates.items():
        np.testing.assert_allclose(gate[mask], gates[name][mask], rtol=1e-5, atol=2e-6)


@pytest.mark.backends
@each_cell
def test_gradients_are_those_of_the_equations(kind):
    if keras.backend.backend() == "jax" and kind not in (IndRNNCell, rk.cells.MinLSTMCell):
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, dtype=DTYPE, return_state_sequences=True)
    x, mask = inputs(2, 4, FEATURES, "float64"), mask_of("holes")[:2, :4]
    weights = [w.astype("float64") for w in weights]
    states = starts(kind, 2, "float64")
    rng = np.random.default_rng(2)
    shares = [rng.normal(size=(2, 4, UNITS)) for _ in states]

    def wanted():
        found, _ = own_cells.run(kind, weights, x, states, mask)
        return sum(np.sum(a * b) for a, b in zip(found, shares, strict=True))

    def loss(x, *rest):
        tensors, initial = rest[: len(weights)], list(rest[len(weights) :])
        _, *sequences = with_weights(layer, tensors, x, initial_state=initial, mask=mask)
        return weighted(sequences, shares)

    found = gradients(loss, [value.astype(DTYPE) for value in (x, *weights, *states)])
    for one, other in zip(found, finite_differences(wanted, [x, *weights, *states]), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.backends
@pytest.mark.parametrize("time", [1, 7, 1000])
@pytest.mark.parametrize("kind", LINEAR)
def test_all_steps_at_once_are_the_steps_one_by_one(kind, time):
    x = inputs(2, time)
    layer, _ = layer_of(kind, return_sequences=True)
    stepped = keras.layers.RNN(layer.cell, return_sequences=True)
    np.testing.assert_allclose(*map(arrays, (layer(x), stepped(x))), rtol=1e-5, atol=1e-5)
    path = rk.explain_path(layer, x).layers[0]
    by_step = keras.backend.backend() == "jax"  # on a CPU
    assert (path.path, path.quickest) == ("scan" if by_step else "linear scan", True)
    jitted = compiled(layer, jit=False)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        unknown = tf.TensorSpec((None, None, FEATURES))
        jitted = tf.function(layer, input_signature=[unknown])
    if jitted is not None:
        np.testing.assert_allclose(*map(arrays, (jitted(x), stepped(x))), rtol=1e-5, atol=1e-5)


@pytest.mark.backends
@each_cell
def test_backwards_stateful_half_precision_and_one_step_at_a_time(kind):
    if keras.backend.backend() == "jax" and kind not in (IndRNNCell, rk.cells.MinGRUCell):
        pytest.skip("each compiles for seconds there")
    x = inputs()
    layer, weights = layer_of(kind, **EVERYTHING)
    output, *_ = arrays(layer(x))
    backwards = layer_of(kind, go_backwards=True, return_sequences=True)[0]
    np.testing.assert_allclose(arrays(backwards(x[:, ::-1])), [output], rtol=1e-5, atol=1e-6)
    carried = layer_of(kind, stateful=True, return_sequences=True)[0]
    halves = [arrays(carried(part))[0] for part in (x[:, :3], x[:, 3:])]
    np.testing.assert_allclose(np.concatenate(halves, 1), output, rtol=1e-5, atol=1e-6)
    half = layer_of(kind, dtype="mixed_float16", return_sequences=True)[0]
    found = half(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    np.testing.assert_allclose(arrays(found)[0].astype("float32"), output, atol=0.02)
    states, seen = [np.zeros((5, UNITS), "float32") for _ in kind.state_names], []
    for t in range(x.shape[1]):
        y, states = layer.cell(x[:, t], states)
        seen.append(arrays(y)[0])
    np.testing.assert_allclose(np.stack(seen, 1), output, rtol=1e-5, atol=1e-6)
    with_states = kind(UNITS, return_state=True)
    with_states.build((5, FEATURES))
    with_states.set_weights(weights)
    y, states = with_states(x[:, 0], [np.zeros((5, UNITS), "float32") for _ in kind.state_names])
    for one, other in zip(arrays(with_states.unpack(y)[1:]), arrays(states), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.backends
@each_cell
def test_it_stacks_trains_both_ways_and_shows_its_gradient(kind):
    if keras.backend.backend() == "jax" and kind is not IndRNNCell:
        pytest.skip("each compiles for seconds there")
    model = keras.Sequential([
        keras.Input((6, FEATURES)),
        rk.Bidirectional(rk.RNN(kind(UNITS, dropout=0.2, seed=1), return_sequences=True)),
        rk.RNN([kind(UNITS, recurrent_dropout=0.2, seed=2), rk.GRUCell(UNITS)], name="stack"),
        keras.layers.Dense(1),
    ])  # fmt: skip
    model.compile("adam", "mse", run_eagerly=keras.backend.backend() != "jax")
    x, y = inputs(), np.ones((5, 1), "float32")
    before = arrays(model.weights)
    model.fit(x, y, verbose=0)
    moved = [bool((a != b).any()) for a, b in zip(before, arrays(model.weights), strict=True)]
    assert sum(moved) >= len(moved) - 2
    if kind in (IndRNNCell, rk.cells.PeepholeLSTMCell):
        flow = rk.gradient_flow(model, x, y, progress=False)
        assert any(layer.startswith("stack") for layer in flow.layers)
        half = keras.Sequential([rk.RNN(kind(UNITS, dtype="mixed_float16"))])
        half.compile("adam", "mse")
        rk.gradient_flow(half, x, np.ones((5, UNITS), "float32"), progress=False)
    norms = rk.jacobian_norms(layer_of(kind)[0], x)
    assert norms.shape == (5, 6)
    np.testing.assert_allclose(norms[:, -1], 1, rtol=1e-6)


@each_cell
def test_a_saved_model_runs_the_same_in_a_new_process(kind, tmp_path):
    layer, _ = layer_of(kind, return_sequences=True)
    model = keras.Sequential([keras.Input((6, FEATURES)), layer])
    x = inputs()
    np.save(tmp_path / "x.npy", x)
    model.save(tmp_path / "model.keras")
    program = (
        "import sys, numpy as np, keras, tests.recurrent.own_cells\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "y = model.predict(np.load(sys.argv[1] + '/x.npy'), verbose=0)\n"
        "np.save(sys.argv[1] + '/y.npy', y)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0), atol=1e-6)


@each_cell
def test_dropout_draws_one_mask_a_pass_and_none_at_inference(kind):
    rates = {"dropout": 0.5, "recurrent_dropout": 0.5, "seed": 3}
    layer, _ = layer_of(kind, cell=rates, return_sequences=True)
    plain, _ = layer_of(kind, return_sequences=True)
    x = np.repeat(inputs(5, 1), 6, axis=1)
    np.testing.assert_array_equal(*map(arrays, (layer(x), plain(x))))
    first, second = arrays(layer(x, training=True)), arrays(layer(x, training=True))
    assert (first[0] != second[0]).any()
    assert np.isfinite(first[0]).all()


def test_a_cell_says_what_is_wrong_with_it():
    for argument in ("dropout", "recurrent_dropout"):
        with pytest.raises(ValueError, match=rf"`{argument}` must be in \[0, 1\); received 1"):
            rk.cells.MinGRUCell(3, **{argument: 1})
    for nameless in (rk.Cell, type("Nameless", (rk.Cell,), {})):
        with pytest.raises(ValueError, match=f"{nameless.__name__} must name its states"):
            nameless(3)
    for units in (0, -2, 2.5, "3", True):
        with pytest.raises(ValueError, match="`units` must be a positive whole number"):
            rk.cells.MinGRUCell(units)
    with pytest.raises(ValueError, match="`reset_after` must be True"):
        rk.RNN(rk.cells.LayerNormGRUCell(3, reset_after=False))(inputs())

    class NoStep(rk.Cell):
        state_names = ("h",)

    with pytest.raises(NotImplementedError, match="NoStep must define `step`, or `gates`"):
        rk.RNN(NoStep(3))(inputs())

    class TwoGates(rk.Cell):
        state_names = ("h",)
        gate_names = ("a", "b")

        def step(self, x, states, training=False):
            return [states[0]], [states[0] * 2]

    class TwoStates(TwoGates):
        gate_names = ("a",)

        def step(self, x, states, training=False):
            return [states[0]], [states[0], states[0]]

    for layer in (rk.RNN(TwoGates(3)), keras.layers.RNN(TwoGates(3))):
        with pytest.raises(ValueError, match="names 2 gates, a, b, and its step returned 1"):
            layer(inputs())
    with pytest.raises(ValueError, match="names 1 states, h, and its step returned 2"):
        rk.RNN(TwoStates(3))(inputs())


def test_a_cell_in_the_place_of_a_layers_own_takes_no_kernel():
    layer = rk.LSTM(4)
    layer.cell = rk.cells.PeepholeLSTMCell(4)
    assert "cell" in {condition.name for condition in rk.explain_path(layer).layers[0].failed}
