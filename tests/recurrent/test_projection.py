"""`projection` of the LSTM: h of a width of its own, on every path and in every tool."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests import reference
from tests.recurrent import own_cells, reference_kernels
from tests.recurrent.cases import MASKS, arrays, inputs, mask_of
from tests.recurrent.equation_checks import (
    EVERYTHING,
    check_gradients,
    check_other_ways,
    check_results,
    check_saved,
    check_trace,
    same,
    shown,
    starts,
    zeros,
)
from tests.recurrent.test_gradients import DTYPE

BACKEND = keras.backend.backend()
FEATURES, UNITS, WIDTH = 3, 5, 2
SIZES = [WIDTH, UNITS]
SHAPES = [(FEATURES, 4 * UNITS), (WIDTH, 4 * UNITS), (4 * UNITS,), (UNITS, WIDTH)]
# torch has a kernel for it, and the loop is taken on request.
PATHS = ["auto", False] if BACKEND == "torch" else ["auto"]


def weights_of(peephole=False):
    rng = np.random.default_rng(3)
    shapes = SHAPES + [(UNITS,)] * 3 * peephole
    return [rng.normal(size=shape, scale=0.5).astype("float32") for shape in shapes]


def step(x, states, weights):
    """A step of the LSTM, or with peepholes where there are weights of such; h is projected."""
    *own, narrow = weights[:4]
    known = own_cells.peephole_lstm if len(weights) > 4 else reference.lstm_step
    (h, c), gates = known(x, states, [*own, *weights[4:]])
    return [h @ narrow, c], gates


def ready(dtype=None, **options):
    layer = rk.LSTM(UNITS, projection=WIDTH, dtype=dtype, **options)
    layer.build((5, 6, FEATURES))
    layer.set_weights(weights_of())
    return layer


@pytest.mark.backends
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mask", MASKS)
def test_states_and_gates_are_those_of_the_equations(mask, path):
    if BACKEND == "jax" and mask != "empty row":
        pytest.skip("each compiles for seconds there")
    layer = ready(use_cudnn=path, **EVERYTHING)
    check_results(layer, step, weights_of(), SIZES, mask)
    check_trace(layer, step, weights_of(), SIZES, (("h", "c"), ("i", "f", "g", "o")), mask)


@pytest.mark.backends
@pytest.mark.parametrize("path", PATHS)
def test_gradients_are_those_of_the_equations(path):
    layer = ready(dtype=DTYPE, use_cudnn=path, return_state_sequences=True)
    check_gradients(layer, step, weights_of(), SIZES)


@pytest.mark.backends
def test_it_runs_as_every_layer_does():
    if BACKEND == "jax":
        pytest.skip("each of the eight compiles for seconds there")
    x, mask = inputs(), mask_of("holes")
    (h, c), _ = own_cells.run(step, weights_of(), x, zeros(SIZES), mask)
    carried = check_other_ways(ready, shown(h, mask), mask)
    same(arrays(carried.states)[1:], [c[:, -1]])
    half = ready(dtype="mixed_float16", **EVERYTHING)(x, mask=mask)
    assert {keras.backend.standardize_dtype(y.dtype) for y in half} == {"float16"}
    np.testing.assert_allclose(arrays(half)[-1].astype("float32"), c, atol=0.02)
    both = rk.Bidirectional(rk.LSTM(UNITS, projection=WIDTH, return_state_sequences=True))
    both.build(x.shape)
    both.set_weights(weights_of() * 2)
    output, *sequences = arrays(both(x, mask=mask))
    assert output.shape == (5, 2 * WIDTH)
    same(sequences[1:2], [c])
    assert [s.shape[-1] for s in sequences] == [WIDTH, UNITS, WIDTH, UNITS]
    cell = rk.LSTMCell(UNITS, projection=WIDTH, return_state=True)
    stepped = rk.RNN(cell, return_sequences=True)
    stepped.build(x.shape)
    stepped.set_weights(weights_of())
    found = arrays(cell.unpack(stepped(x, mask=mask))[1:])
    same([shown(each, mask) for each in found], [shown(each, mask) for each in (h, c)])
    assert both.compute_output_shape(x.shape)[0] == (5, 2 * WIDTH)
    again = type(back_of := ready()).from_config(back_of.get_config())
    assert (again.projection, list(again.state_size)) == (WIDTH, [WIDTH, UNITS])


def test_other_lstms_and_keras_loops_take_it_too():
    x, states = inputs(), starts(SIZES)
    for peephole, kind in ((False, rk.LSTMCell), (True, rk.cells.PeepholeLSTMCell)):
        weights = weights_of(peephole=peephole)
        wanted, _ = own_cells.run(step, weights, x, states)
        for library in (rk, keras.layers):
            layer = library.RNN(kind(UNITS, projection=WIDTH), return_state=True)
            layer.build(x.shape)
            layer.set_weights(weights)
            same(arrays(layer(x, initial_state=states))[1:], [each[:, -1] for each in wanted])
    normed = rk.RNN(rk.cells.LayerNormLSTMCell(UNITS, projection=WIDTH), return_state=True)
    assert [tuple(y.shape) for y in normed(x)] == [(5, WIDTH), (5, WIDTH), (5, UNITS)]


@pytest.mark.backends
def test_tools_that_differentiate_know_it():
    if BACKEND == "jax":
        pytest.skip("each compiles for seconds there")
    x = inputs(2, 3)
    layer = ready(name="lstm")
    weights = [w.astype("float64") for w in weights_of()]
    start = [np.zeros((2, size)) for size in SIZES]
    (h, c), gates = own_cells.run(step, weights, x, start)
    first = np.concatenate([h[:, 0], c[:, 0]], axis=1)
    jacobian = np.empty((2, WIDTH + UNITS, WIDTH + UNITS))
    for at in range(WIDTH + UNITS):
        ends = []
        for change in (1e-6, -1e-6):
            moved = first.copy()
            moved[:, at] += change
            begin = [moved[:, :WIDTH], moved[:, WIDTH:]]
            later, _ = own_cells.run(step, weights, x[:, 1:], begin)
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
    holds = "(model.layers[1].projection, model.layers[1].weight_dropout) == (2, 0.5)"
    model = check_saved([layer], tmp_path, holds)
    assert len(model.losses) == 2  # the input kernel's, and the projection's
