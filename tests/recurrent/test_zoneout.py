"""`rk.cells.Zoneout` around every kind of cell: what is kept, where, and what is refused."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.autodiff import gradients, with_weights
from tests.recurrent.cases import arrays, inputs, mask_of
from tests.recurrent.own_cells import FEATURES, STEPS, UNITS, IndRNNCell, weights_of
from tests.recurrent.test_gradients import DTYPE, TOLERANCE, finite_differences, weighted

Zoneout = rk.cells.Zoneout
JAX = keras.backend.backend() == "jax"
RATES = {rk.cells.PeepholeLSTMCell: (0.2, 0.5), rk.cells.MinGRUCell: 0.3, IndRNNCell: [0.4]}
EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}
each_cell = pytest.mark.parametrize("kind", RATES, ids=lambda kind: kind.__name__)


def layer_of(kind, library=rk, dtype=None, cell=None, **options):
    """A built layer around a zoned cell with weights for it, and the weights."""
    inner = kind(UNITS, dtype=dtype, **(cell or {}))
    layer = library.RNN(Zoneout(inner, RATES[kind], seed=3), dtype=dtype, **options)
    layer.build((None, None, FEATURES))
    weights = weights_of(inner, "float64" if dtype == "float64" else "float32")
    layer.set_weights(weights)
    return layer, weights


def rates_of(kind):
    return np.broadcast_to(RATES[kind], len(kind.state_names))


def expected(kind, weights, x, states, mask=None):
    """Every state at every step at inference: the rate's share of the one before; by NumPy."""
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    found = []
    for t in range(x.shape[1]):
        made, _ = STEPS[kind](x[:, t], states, weights)
        made = [r * a + (1 - r) * b for r, a, b in zip(rates_of(kind), states, made, strict=True)]
        states = [np.where(mask[:, t, None], a, b) for a, b in zip(made, states, strict=True)]
        found.append(states)
    return [np.stack(steps, axis=1) for steps in zip(*found, strict=True)]


def start(kind, batch=5, dtype="float32"):
    rng = np.random.default_rng(11)
    return [rng.normal(size=(batch, UNITS)).astype(dtype) for _ in kind.state_names]


@pytest.mark.backends
@pytest.mark.parametrize("mask", ["none", "right", "left", "holes", "empty row"])
@each_cell
def test_at_inference_a_state_is_the_expectation(kind, mask):
    if JAX and mask not in {"none", "empty row"}:
        pytest.skip("each compiles for seconds there")
    layer, weights = layer_of(kind, **EVERYTHING)
    x, states, mask = inputs(), start(kind), mask_of(mask)
    wanted = expected(kind, weights, x, states, mask)
    output, *found = arrays(layer(x, initial_state=states, mask=mask))
    for one, other in zip(found[len(states) :], wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    for one, other in zip(found, wanted, strict=False):
        np.testing.assert_allclose(one, other[:, -1], rtol=1e-5, atol=2e-6)
    seen = np.ones(x.shape[:2], bool) if mask is None else np.cumsum(mask, 1) > 0
    np.testing.assert_allclose(output, wanted[0] * seen[..., None], rtol=1e-5, atol=2e-6)
    theirs, _ = layer_of(kind, keras.layers, return_sequences=True)
    np.testing.assert_allclose(arrays(theirs(x, mask=mask)), arrays(layer(x, mask=mask))[:1],
                               rtol=1e-5, atol=1e-6)  # fmt: skip


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
    x, mask = inputs(2, 4, FEATURES, "float64"), mask_of("holes")[:2, :4]
    weights, states = [w.astype("float64") for w in weights], start(kind, 2, "float64")
    shares = [np.random.default_rng(2).normal(size=(2, 4, UNITS)) for _ in states]

    def wanted():
        found = expected(kind, weights, x, states, mask)
        return sum(np.sum(a * b) for a, b in zip(found, shares, strict=True))

    def loss(x, *rest):
        tensors, initial = rest[: len(weights)], list(rest[len(weights) :])
        _, *sequences = with_weights(layer, tensors, x, initial_state=initial, mask=mask)
        return weighted(sequences, shares)

    found = gradients(loss, [value.astype(DTYPE) for value in (x, *weights, *states)])
    for one, other in zip(found, finite_differences(wanted, [x, *weights, *states]), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.backends
@each_cell
def test_it_is_traced_by_the_cells_names(kind):
    layer, weights = layer_of(kind)
    x, mask = inputs(), mask_of("holes")
    states = [np.zeros((5, UNITS), "float32") for _ in kind.state_names]
    wanted = expected(kind, weights, x, states, mask)
    traced = rk.trace(layer, x, mask=mask)[layer.name]
    assert (tuple(traced.states), tuple(traced.gates)) == (kind.state_names, kind.gate_names)
    assert traced.kind == f"Zoneout({kind.__name__.removesuffix('Cell')})"
    for one, other in zip(traced.states.values(), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    before = [
        np.concatenate([s[:, None], w[:, :-1]], axis=1) for s, w in zip(states, wanted, strict=True)
    ]
    _, gates = STEPS[kind](x, before, weights)
    for name, gate in traced.gates.items():
        np.testing.assert_allclose(gate[mask], gates[name][mask], rtol=1e-5, atol=2e-6)
    norms = rk.jacobian_norms(layer, x)
    assert norms.shape == (5, 6)
    assert (norms[:, 0] != norms[:, -1]).all()


@pytest.mark.backends
def test_stateful_half_precision_and_the_cells_weights():
    kind, x = rk.cells.MinGRUCell if JAX else rk.cells.PeepholeLSTMCell, inputs()
    layer, _ = layer_of(kind, return_sequences=True)
    output = arrays(layer(x))[0]
    carried = rk.RNN(layer.cell, stateful=True, return_sequences=True)
    halves = [arrays(carried(part))[0] for part in (x[:, :3], x[:, 3:])]
    np.testing.assert_allclose(np.concatenate(halves, 1), output, rtol=1e-5, atol=1e-6)
    half, _ = layer_of(kind, dtype="mixed_float16", return_sequences=True)
    for found in (half(x), half(x, training=True)):
        assert keras.backend.standardize_dtype(found.dtype) == "float16"
        assert np.isfinite(arrays(found)[0]).all()
    np.testing.assert_allclose(arrays(half(x))[0].astype("float32"), output, atol=0.02)
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
    model.compile("adam", "mse", run_eagerly=not JAX)
    x, y = inputs(), np.ones((5, 1), "float32")
    before = arrays(model.weights)
    model.fit(x, y, verbose=0)
    assert sum((a != b).any() for a, b in zip(before, arrays(model.weights), strict=True)) > 10
    with pytest.raises(ValueError, match="`training` must be False where a cell is under Zoneout"):
        rk.gradient_flow(model, x, y, training=True, progress=False)
    if JAX:
        return  # where it compiles for a minute
    flow = rk.gradient_flow(model, x, y, progress=False)
    assert [name.split("/")[0] for name in flow.layers] == ["bidirectional"] * 2 + ["stack"] * 2
    assert all(np.isfinite(layer.carried).all() for layer in flow.layers.values())


def test_a_saved_model_runs_the_same_in_a_new_process(tmp_path):
    layers = [layer_of(kind, return_sequences=True)[0] for kind in RATES]
    sequences = keras.Input((6, FEATURES))
    model = keras.Model(sequences, [layer(sequences) for layer in layers])
    x = inputs()
    np.save(tmp_path / "x.npy", x)
    model.save(tmp_path / "model.keras")
    program = (
        "import sys, numpy as np, keras, tests.recurrent.own_cells\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "assert [layer.cell.seed for layer in model.layers[1:]] == [3, 3, 3]\n"
        "y = model.predict(np.load(sys.argv[1] + '/x.npy'), verbose=0)\n"
        "np.savez(sys.argv[1] + '/y.npz', *y)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "y.npz") as found:
        for one, other in zip(found.values(), model.predict(x, verbose=0), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


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
    with pytest.raises(ValueError, match="`rate` must be one number, or 2, one for each state"):
        rk.RNN(Zoneout(rk.LSTMCell(3), (0.1, 0.1, 0.1)))(inputs())
    cells = [rk.GRUCell(3), rk.GRUCell(3)]
    stack = keras.layers.StackedRNNCells(cells)
    for wrong in (cells, stack, Zoneout(rk.GRUCell(3), 0.1), keras.layers.Dense(3), rk.GRU(3)):
        with pytest.raises(ValueError, match="`cell` must be one cell"):
            Zoneout(wrong, 0.1)
