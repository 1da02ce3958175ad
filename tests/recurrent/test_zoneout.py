"""`rk.cells.Zoneout` around every kind of cell: what is kept, where, and what is refused."""

import functools

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent import own_cells
from tests.recurrent.autodiff import gradients
from tests.recurrent.cases import MASKS, arrays, inputs, mask_of
from tests.recurrent.equation_checks import (
    EVERYTHING,
    check_gradients,
    check_other_ways,
    check_results,
    check_saved,
    check_trace,
    moved_by_training,
    same,
)
from tests.recurrent.own_cells import FEATURES, STEPS, UNITS, IndRNNCell, sizes_of
from tests.recurrent.test_gradients import DTYPE

Zoneout = rk.cells.Zoneout
JAX = keras.backend.backend() == "jax"
RATES = {rk.cells.PeepholeLSTMCell: (0.2, 0.5), rk.cells.MinGRUCell: 0.3, IndRNNCell: [0.4]}
each_cell = pytest.mark.parametrize("kind", RATES, ids=lambda kind: kind.__name__)


def layer_of(kind, *args, **options):
    """A built layer around a zoned cell with weights for it, and the weights."""
    zoned = functools.partial(Zoneout, rate=RATES[kind], seed=3)
    return own_cells.layer_of(kind, *args, around=zoned, **options)


def rates_of(kind):
    return np.broadcast_to(RATES[kind], len(kind.state_names))


def step_of(kind):
    """A step at inference: of each state, the rate's share of the one before."""

    def step(x, states, weights):
        made, gates = STEPS[kind](x, states, weights)
        each = zip(rates_of(kind), states, made, strict=True)
        return [r * a + (1 - r) * b for r, a, b in each], gates

    return step


@pytest.mark.backends
@pytest.mark.parametrize("mask", MASKS)
@each_cell
def test_at_inference_a_state_is_the_expectation(kind, mask):
    if JAX and mask not in {"none", "empty row"}:
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, **EVERYTHING)
    check_results(layer, step_of(kind), weights, sizes_of(kind), mask)
    theirs, _ = layer_of(kind, keras.layers, return_sequences=True)
    x, mask = inputs(), mask_of(mask)
    same(arrays(theirs(x, mask=mask)), arrays(layer(x, mask=mask))[:1])


@pytest.mark.backends
@pytest.mark.parametrize("library", [rk, keras.layers], ids=["ours", "Keras's"])
@each_cell
def test_in_training_each_entry_is_kept_or_the_cells(kind, library):
    if JAX and library is not rk:
        layer, _ = layer_of(kind, library)
        with pytest.raises(ValueError, match=r"draws anew at each time step.*Use rk\.RNN"):
            layer(inputs(), training=True)
        return
    batch, x, mask = 200, inputs(200, 6), np.random.default_rng(1).random((200, 6)) < 0.8
    layer, weights = layer_of(kind, library, cell={"return_state": True}, return_sequences=True)
    first, second = (arrays(layer(x, mask=mask, training=True))[0] for _ in range(2))
    assert (first != second).any()
    again, _ = layer_of(kind, library, cell={"return_state": True}, return_sequences=True)
    np.testing.assert_array_equal(arrays(again(x, mask=mask, training=True))[0], first)
    output, *states = np.split(first, 1 + len(kind.state_names), axis=-1)
    np.testing.assert_array_equal(output, states[0])
    before = [np.zeros((batch, UNITS), "float32") for _ in states]
    kept = [[] for _ in states]
    for t in range(x.shape[1]):
        made, _ = STEPS[kind](x[:, t], before, weights)
        counts = mask[:, t] & (np.cumsum(mask, 1)[:, t] > 1)
        for index, (old, new) in enumerate(zip(before, made, strict=True)):
            now = states[index][:, t]
            held = np.isclose(now, old, rtol=1e-5, atol=2e-6)
            assert (held | np.isclose(now, new, rtol=1e-4, atol=2e-5))[mask[:, t]].all()
            kept[index].append(held[counts])
            before[index] = np.where(mask[:, t, None], now, old)
    for share, rate in zip(kept, rates_of(kind), strict=True):
        assert abs(np.concatenate(share).mean() - rate) < 0.05


@pytest.mark.backends
@each_cell
def test_gradients_are_those_of_the_equations(kind):
    if JAX and kind is not rk.cells.PeepholeLSTMCell:
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, dtype=DTYPE, return_state_sequences=True)
    check_gradients(layer, step_of(kind), weights, sizes_of(kind))


@pytest.mark.backends
@each_cell
def test_it_is_traced_by_the_cells_names(kind):
    layer, weights = layer_of(kind)
    names = (kind.state_names, kind.gate_names)
    traced = check_trace(layer, step_of(kind), weights, sizes_of(kind), names)
    assert traced.kind == f"Zoneout({kind.__name__.removesuffix('Cell')})"
    norms = rk.jacobian_norms(layer, inputs())
    assert norms.shape == (5, 6)
    assert (norms[:, 0] != norms[:, -1]).all()


@pytest.mark.backends
def test_stateful_half_precision_and_the_cells_weights():
    kind, x = rk.cells.MinGRUCell if JAX else rk.cells.PeepholeLSTMCell, inputs()
    layer, _ = layer_of(kind, return_sequences=True)
    output = arrays(layer(x))[0]
    check_other_ways(lambda **options: layer_of(kind, **options)[0], output)
    half, _ = layer_of(kind, dtype="mixed_float16", return_sequences=True)
    assert keras.backend.standardize_dtype(half(x, training=True).dtype) == "float16"
    assert np.isfinite(arrays(half(x, training=True))[0]).all()
    plain = rk.RNN(kind(UNITS), return_sequences=True)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    nothing = rk.RNN(Zoneout(plain.cell, 0), return_sequences=True)
    for training in (False, True):
        np.testing.assert_allclose(arrays(nothing(x, training=training)), arrays(plain(x)), 1e-6)


@pytest.mark.backends
def test_it_stacks_trains_both_ways_and_shows_its_gradient():
    model = keras.Sequential([
        keras.Input((6, FEATURES)),
        rk.Bidirectional(rk.RNN(Zoneout(keras.layers.LSTMCell(4, dropout=0.2), (0.1, 0.3)),
                                return_sequences=True)),
        rk.RNN([Zoneout(rk.GRUCell(4, recurrent_dropout=0.2), 0.2), Zoneout(IndRNNCell(4), 0.1)],
               name="stack"),
        keras.layers.Dense(1),
    ])  # fmt: skip
    x, y = inputs(), np.ones((5, 1), "float32")
    assert sum(moved_by_training(model)) > 10
    with pytest.raises(ValueError, match="`training` must be False where a cell is under Zoneout"):
        rk.gradient_flow(model, x, y, training=True, progress=False)
    if JAX:
        return  # where it compiles for a minute
    flow = rk.gradient_flow(model, x, y, progress=False)
    assert [name.split("/")[0] for name in flow.layers] == ["bidirectional"] * 2 + ["stack"] * 2
    assert all(np.isfinite(layer.carried).all() for layer in flow.layers.values())


def test_a_saved_model_runs_the_same_in_a_new_process(tmp_path):
    layers = [layer_of(kind, return_sequences=True)[0] for kind in RATES]
    check_saved(layers, tmp_path, "[each.cell.seed for each in model.layers[1:]] == [3, 3, 3]")


@pytest.mark.backends
@pytest.mark.parametrize("zoned", [False, True])
@pytest.mark.parametrize("library", [rk, keras.layers], ids=["ours", "Keras's"])
def test_dropout_draws_one_mask_a_pass(library, zoned):
    """The inputs' mask shows in the gradient: a dropped feature receives none, at any step."""
    if JAX and zoned and library is not rk:
        pytest.skip("refused in training")
    cell = IndRNNCell(UNITS, dropout=0.5, recurrent_dropout=0.5, seed=3)
    layer = library.RNN(Zoneout(cell, 0.1) if zoned else cell, return_sequences=True)
    layer.build((None, None, FEATURES))
    x = inputs(5, 4) + 3
    found = [
        gradients(lambda x: keras.ops.sum(layer(x, training=True) ** 2), [x])[0] == 0
        for _ in range(4)
    ]
    dropped = [each.all(axis=1) for each in found]
    for each, mask in zip(found, dropped, strict=True):
        np.testing.assert_array_equal(each, np.repeat(mask[:, None], 4, axis=1) | each)
    assert any((one != dropped[0]).any() for one in dropped[1:])
    assert 0 < np.mean(dropped) < 1


def test_what_it_refuses():
    for rate in (1, -0.1, 1.5, (0.1, 1.0), "0.1", float("nan")):
        with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\)"):
            Zoneout(rk.LSTMCell(3), rate)
    cells = [rk.GRUCell(3), rk.GRUCell(3)]
    stack = keras.layers.StackedRNNCells(cells)
    for wrong in (cells, stack, Zoneout(rk.GRUCell(3), 0.1), keras.layers.Dense(3), rk.GRU(3)):
        with pytest.raises(ValueError, match="`cell` must be one cell"):
            Zoneout(wrong, 0.1)
