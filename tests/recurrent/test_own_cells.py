"""`rk.Cell` and the cells of `rk.cells`: their equations, once written, in every use."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.autodiff import compiled
from tests.recurrent.cases import MASKS, arrays, inputs
from tests.recurrent.equation_checks import (
    EVERYTHING,
    check_gradients,
    check_other_ways,
    check_results,
    check_saved,
    check_trace,
    moved_by_training,
    zeros,
)
from tests.recurrent.own_cells import FEATURES, STEPS, UNITS, IndRNNCell, layer_of, sizes_of
from tests.recurrent.test_gradients import DTYPE

CELLS = list(STEPS)
LINEAR = [rk.cells.MinGRUCell, rk.cells.MinLSTMCell]
JAX = keras.backend.backend() == "jax"
each_cell = pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)


@pytest.mark.backends
@pytest.mark.parametrize("mask", MASKS)
@each_cell
def test_states_are_those_of_the_equations(kind, mask):
    if JAX and mask not in {"none", "empty row"}:
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, **EVERYTHING)
    check_results(layer, kind, weights, sizes_of(kind), mask)


@pytest.mark.backends
@pytest.mark.parametrize("library", [rk, keras.layers], ids=["ours", "Keras's"])
@each_cell
def test_trace_shows_states_and_gates_by_name(kind, library):
    if JAX and library is not rk:
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, library)
    check_trace(layer, kind, weights, sizes_of(kind), (kind.state_names, kind.gate_names))


@pytest.mark.backends
@each_cell
def test_gradients_are_those_of_the_equations(kind):
    if JAX and kind not in (IndRNNCell, rk.cells.MinLSTMCell):
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, dtype=DTYPE, return_state_sequences=True)
    check_gradients(layer, kind, weights, sizes_of(kind))


@pytest.mark.backends
@pytest.mark.parametrize("time", [1, 7, 1000])
@pytest.mark.parametrize("kind", LINEAR)
def test_all_steps_at_once_are_the_steps_one_by_one(kind, time):
    x = inputs(2, time)
    layer, _ = layer_of(kind, return_sequences=True)
    stepped = keras.layers.RNN(layer.cell, return_sequences=True)
    np.testing.assert_allclose(*map(arrays, (layer(x), stepped(x))), rtol=1e-5, atol=1e-5)
    path = rk.explain_path(layer, x).layers[0]
    by_step = JAX  # on a CPU
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
    if JAX and kind not in (IndRNNCell, rk.cells.MinGRUCell):
        pytest.skip("each compiles for seconds there")
    x = inputs()
    layer, weights = layer_of(kind, return_sequences=True)
    output = arrays(layer(x))[0]
    check_other_ways(lambda **options: layer_of(kind, **options)[0], output)
    states, seen = zeros(sizes_of(kind)), []
    for t in range(x.shape[1]):
        y, states = layer.cell(x[:, t], states)
        seen.append(arrays(y)[0])
    np.testing.assert_allclose(np.stack(seen, 1), output, rtol=1e-5, atol=1e-6)
    with_states = kind(UNITS, return_state=True)
    with_states.build((5, FEATURES))
    with_states.set_weights(weights)
    y, states = with_states(x[:, 0], zeros(sizes_of(kind)))
    for one, other in zip(arrays(with_states.unpack(y)[1:]), arrays(states), strict=True):
        np.testing.assert_array_equal(one, other)


def dropout_of(kind, rate):
    """Recurrent dropout, or that of the inputs where no gate reads a state."""
    linear = issubclass(kind, rk.Cell) and kind.leak_and_drive is not rk.Cell.leak_and_drive
    return {"dropout" if linear else "recurrent_dropout": rate}


@pytest.mark.backends
@each_cell
def test_it_stacks_trains_both_ways_and_shows_its_gradient(kind):
    if JAX and kind is not IndRNNCell:
        pytest.skip("each compiles for seconds there")
    model = keras.Sequential([
        keras.Input((6, FEATURES)),
        rk.Bidirectional(rk.RNN(kind(UNITS, dropout=0.2, seed=1), return_sequences=True)),
        rk.RNN([kind(UNITS, **dropout_of(kind, 0.2), seed=2), rk.GRUCell(UNITS)], name="stack"),
        keras.layers.Dense(1),
    ])  # fmt: skip
    x, y = inputs(), np.ones((5, 1), "float32")
    moved = moved_by_training(model)
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


def test_a_saved_model_runs_the_same_in_a_new_process(tmp_path):
    check_saved([layer_of(kind, return_sequences=True)[0] for kind in CELLS], tmp_path)


@each_cell
def test_dropout_draws_one_mask_a_pass_and_none_at_inference(kind):
    rates = {"dropout": 0.5, **dropout_of(kind, 0.5), "seed": 3}
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
