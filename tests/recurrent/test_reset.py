"""`reset` in a call: each part between two resets is as its own call from the start state."""

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.autodiff import gradients, with_weights
from tests.recurrent.cases import arrays, inputs, mask_of, ready, states_of, weights_of
from tests.recurrent.own_cells import min_gru
from tests.recurrent.test_gradients import DTYPE, TOLERANCE, finite_differences, weighted

BACKEND = keras.backend.backend()
BATCH, TIME, FEATURES, UNITS = 5, 6, 3, 4
EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}
RESETS = np.zeros((BATCH, TIME), bool)
for row, steps in enumerate([[2, 5], [0, 3], [1, 2, 3], [], [0]]):
    RESETS[row, steps] = True
CLOSE = {"rtol": 1e-5, "atol": 3e-6}


@keras.saving.register_keras_serializable(package="test_reset")
class Leaky(rk.Cell):
    """A cell that does not begin with zeros, in two states of which the output is none."""

    state_names = ("h", "count")
    gate_names = ("n",)

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")

    def step(self, x, states, training=False):
        h, count = states
        n = ops.tanh(x @ self.kernel + 0.5 * h)
        return [n], [n, count + 1]

    def get_initial_state(self, batch_size=None):
        return [ops.full((batch_size, self.units), value, self.compute_dtype) for value in (0.5, 3)]


class Apart(keras.Layer):
    """A cell with a call of its own, whose output is no state."""

    state_size = FEATURES
    output_size = 2 * FEATURES

    def call(self, inputs, states):
        total = 0.5 * states[0] + inputs
        return ops.concatenate([total, -total], axis=-1), [total]


LAYERS = {
    "SimpleRNN": lambda **kwargs: ready("SimpleRNN", **kwargs),
    "LSTM": lambda **kwargs: ready("LSTM", **kwargs),
    "GRU": lambda **kwargs: ready("GRU", **kwargs),
    "projection": lambda **kwargs: rk.LSTM(UNITS, projection=2, **kwargs),
    "MinGRU": lambda **kwargs: rk.RNN(rk.cells.MinGRUCell(UNITS), **kwargs),
    "own start": lambda **kwargs: rk.RNN(Leaky(UNITS), **kwargs),
    "own call": lambda **kwargs: rk.RNN(Apart(), **kwargs),
    "stack": lambda **kwargs: rk.RNN([rk.LSTMCell(3), keras.layers.GRUCell(UNITS)], **kwargs),
}


def parts(row, backwards=False):
    """Slices of a row between its resets, in the order of processing."""
    edges = [0, *(t for t in range(1, TIME) if RESETS[row, t]), TIME]
    found = [slice(*pair) for pair in itertools.pairwise(edges)]
    return found[::-1] if backwards else found


def by_parts(layer, x, states, mask):
    """What calls of the layer for each part give: outputs, last states, state sequences."""
    backwards, rows = layer.go_backwards, []
    for row in range(BATCH):
        pieces = []
        for part in parts(row, backwards):
            first = not pieces and (backwards or not RESETS[row, 0])
            initial = [state[row : row + 1] for state in states] if first and states else None
            pieces.append(call_of(layer, x[row : row + 1], part, initial, mask, row))
        count = (len(pieces[0]) - 1) // 2
        output, *sequences = (
            np.concatenate([piece[at] for piece in pieces], axis=1)
            for at in (0, *range(1 + count, 1 + 2 * count))
        )
        rows.append([output, *pieces[-1][1 : 1 + count], *sequences])
    return [np.concatenate(each) for each in zip(*rows, strict=True)]


def call_of(layer, x, part, initial, mask, row):
    """A call for one part of a row."""
    mask = None if mask is None else mask[row : row + 1]
    if BACKEND != "jax":
        masked = None if mask is None else mask[:, part]
        return arrays(layer(x[:, part], initial_state=initial, mask=masked))
    # Where each length is compiled, the other steps are masked.
    inside = np.isin(np.arange(TIME), np.arange(TIME)[part])[None]
    inside = inside if mask is None else inside & mask
    found = arrays(layer(x, initial_state=initial, mask=inside))
    order = slice(None, None, -1 if layer.go_backwards else 1)
    return [y[:, order][:, part][:, order] if y.ndim == 3 else y for y in found]


@pytest.mark.backends
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mask", ["none", "left", "empty row"])
@pytest.mark.parametrize("name", LAYERS)
def test_each_part_is_as_its_own_call(name, mask, backwards):
    if BACKEND == "jax" and (mask != "empty row" or backwards or name not in ("LSTM", "MinGRU")):
        pytest.skip("each compiles for seconds there")
    x, mask = inputs(), mask_of(mask)
    layer = LAYERS[name](go_backwards=backwards, **EVERYTHING)
    layer.build(x.shape)
    states = states_of(name) if name in ("LSTM", "GRU") else None
    found = arrays(layer(x, initial_state=states, mask=mask, reset=RESETS))
    for one, other in zip(found, by_parts(layer, x, states, mask), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
    if mask is not None and name in ("LSTM", "own call") and BACKEND != "jax":
        for options in ({"unroll": True}, {"zero_output_for_mask": True}):
            twin = LAYERS[name](go_backwards=backwards, **options)
            twin.build(x.shape)
            twin.set_weights(layer.get_weights())
            last = arrays(twin(x, initial_state=states, mask=mask, reset=RESETS))[0]
            shown = mask[:, :1] if backwards else mask[:, -1:]
            wanted = found[0][:, -1] * (shown if "zero_output_for_mask" in options else 1)
            np.testing.assert_allclose(last, wanted, **CLOSE)


@pytest.mark.backends
@pytest.mark.parametrize(
    "make", [rk.LSTM, lambda units, **options: rk.RNN(Leaky(units), **options)]
)
def test_both_directions_part_at_the_same_places(make, monkeypatch):
    if BACKEND == "jax" and make is not rk.LSTM:
        pytest.skip("each compiles for seconds there")
    reference_kernels.install(monkeypatch)  # which must not be asked
    x, mask = inputs(), mask_of("holes")
    both = rk.Bidirectional(make(UNITS, **EVERYTHING), merge_mode=None)
    both.build(x.shape)
    output, backward, *rest = arrays(both(x, mask=mask, reset=RESETS))
    assert not reference_kernels.CALLS
    for layer, found in zip(both.directions(), (output, backward), strict=True):
        wanted = by_parts(layer, x, None, mask)
        order = slice(None, None, -1 if layer.go_backwards else 1)
        np.testing.assert_allclose(found, wanted[0][:, order] * mask[..., None], **CLOSE)
        count = 2
        own = count * layer.go_backwards
        for at in range(count):
            np.testing.assert_allclose(rest[own + at], wanted[1 + at], **CLOSE)
            sequence = rest[2 * count + own + at]
            np.testing.assert_allclose(sequence, wanted[1 + count + at][:, order], **CLOSE)


@pytest.mark.backends
@pytest.mark.parametrize("name", ["LSTM", "MinGRU"])
def test_gradients_are_those_of_the_parts(name):
    if BACKEND == "jax" and name == "MinGRU":
        pytest.skip("each compiles for seconds there")
    x, resets = inputs(2, 4, FEATURES, "float64"), np.zeros((2, 4), bool)
    resets[0, 2] = resets[1, 0] = resets[1, 1] = True
    mask = np.array([[True, False, True, True], [True, True, False, True]])
    if name == "LSTM":
        layer = rk.LSTM(UNITS, dtype=DTYPE, return_state_sequences=True)
        weights, step = weights_of("LSTM", dtype="float64"), reference.lstm_step
    else:
        cell = rk.cells.MinGRUCell(UNITS, dtype=DTYPE)
        layer, step = rk.RNN(cell, dtype=DTYPE, return_state_sequences=True), min_gru
        shapes = (FEATURES, 2 * UNITS), (2 * UNITS,)
        weights = [np.random.default_rng(4).normal(size=shape) for shape in shapes]
    layer.build(x.shape)
    states = states_of(name, 2, dtype="float64")
    shares = [np.random.default_rng(2).normal(size=(2, 4, UNITS)) for _ in states]

    def wanted():
        total, own = 0.0, states
        for t in range(4):
            own = [np.where(resets[:, t, None], 0, state) for state in own]
            new, _ = step(x[:, t], own, weights)
            own = [np.where(mask[:, t, None], a, b) for a, b in zip(new, own, strict=True)]
            total += sum(np.sum(a * b[:, t]) for a, b in zip(own, shares, strict=True))
        return total

    def loss(x, *rest):
        tensors, initial = rest[: len(weights)], list(rest[len(weights) :])
        options = {"initial_state": initial, "mask": mask, "reset": resets}
        return weighted(with_weights(layer, tensors, x, **options)[1:], shares)

    values = [x, *weights, *states]
    found = gradients(loss, [value.astype(DTYPE) for value in values])
    for one, other in zip(found, finite_differences(wanted, values), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
    assert not found[-1][1].any()


@pytest.mark.backends
def test_a_stateful_layer_in_half_precision_carries_on_behind_it():
    x = inputs()
    layer = ready("GRU", stateful=True)
    layer(x)
    layer(x, reset=RESETS)
    # Row 4 began anew, row 3 went on.
    once, twice = (arrays(ready("GRU")(part))[0] for part in (x, np.concatenate([x, x], axis=1)))
    (carried,) = arrays(layer.states)
    np.testing.assert_allclose(carried[4], once[4], **CLOSE)
    np.testing.assert_allclose(carried[3], twice[3], **CLOSE)
    half = ready("GRU", dtype="mixed_float16")(x, reset=RESETS)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    whole = arrays(ready("GRU")(x, reset=RESETS))[0]
    np.testing.assert_allclose(arrays(half)[0].astype("float32"), whole, atol=0.01)


def model_of():
    x, reset = keras.Input((TIME, FEATURES), name="x"), keras.Input((TIME,), dtype="bool")
    y = rk.Bidirectional(rk.LSTM(UNITS, return_sequences=True, name="lstm"))(x, reset=reset)
    y = rk.RNN([rk.cells.MinGRUCell(UNITS), rk.GRUCell(3)], name="rnn")(y, reset=reset)
    return keras.Model([x, reset], y)


def test_a_model_takes_it_as_an_input_and_runs_in_a_new_process(tmp_path):
    model = model_of()
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit([inputs(), RESETS], np.ones((BATCH, 3), "float32"), verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    np.savez(tmp_path / "x.npz", inputs(), RESETS)
    model.save(tmp_path / "model.keras")
    program = (
        "import sys, numpy as np, keras, keras_rnnkit\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "with np.load(sys.argv[1] + '/x.npz') as x:\n"
        "    y = model.predict([x['arr_0'], x['arr_1']], verbose=0)\n"
        "np.save(sys.argv[1] + '/y.npy', y)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    wanted = model.predict([inputs(), RESETS], verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, atol=1e-6)
    assert np.abs(wanted - model.predict([inputs(), RESETS & False], verbose=0)).max() > 1e-3


def test_trace_and_gradient_flow_see_it():
    x = inputs()
    start, reset = keras.Input((TIME, FEATURES)), keras.Input((TIME,), dtype="bool")
    mask = start[..., 0] > -1
    stack = rk.RNN([Leaky(FEATURES), rk.LSTMCell(UNITS)], return_sequences=True, name="rnn")
    layer = rk.LSTM(UNITS, go_backwards=True, name="lstm")
    y = layer(stack(start, reset=reset, mask=mask), reset=reset, mask=mask)
    model = keras.Model([start, reset], [y, stack.output])
    layer.set_weights(weights_of("LSTM", UNITS))
    traced = rk.trace(model, [x, RESETS], progress=False)
    valid = x[..., 0] > -1
    hidden = model.predict([x, RESETS], verbose=0)[1]
    assert list(traced) == ["rnn/leaky", "rnn/lstm_cell", "lstm"]
    weights = weights_of("LSTM", UNITS)
    for row in range(BATCH):
        for part in parts(row):
            one = slice(row, row + 1)
            found = reference.run(
                "LSTM", weights, hidden[one, part], None, valid[one, part], backwards=True
            )
            counts = valid[row, part]
            for name, gate in found["gates"].items():
                of_part = traced["lstm"].gates[name][row, part][counts]
                np.testing.assert_allclose(of_part, gate[0, ::-1][counts], **CLOSE)
            c = found["states"][1][0, ::-1]
            np.testing.assert_allclose(traced["lstm"]["c"][row, part], c, **CLOSE)
            if counts.any():
                begins = part.start + int(counts.argmax())
                assert traced["rnn/leaky"]["count"][row, begins, 0] == 4
    flow = rk.gradient_flow(
        keras.Model([start, reset], y), [x, RESETS], np.ones((BATCH, UNITS)), "mse", progress=False
    )
    assert (flow["lstm"].norms["h"] > 0).all()
    alone = rk.GRU(UNITS, name="alone")
    model = keras.Model([start, reset], alone(start, reset=reset))
    every = np.zeros((BATCH, TIME), bool)
    every[:, 3] = True
    flow = rk.gradient_flow(model, [x, every], np.ones((BATCH, UNITS)), "mse", progress=False)
    for found in (flow["alone"].carried, flow["alone"].norms["h"]):
        assert not found[:3].any()
        assert found[3:].all()


@pytest.mark.backends
def test_the_report_says_that_the_loop_is_taken(monkeypatch):
    reference_kernels.install(monkeypatch)
    x, reset = keras.Input((TIME, FEATURES)), keras.Input((TIME,), dtype="bool")
    y = rk.LSTM(UNITS, return_sequences=True, name="lstm")(x, reset=reset)
    y = rk.RNN(rk.cells.MinGRUCell(UNITS), return_sequences=True, name="min")(y, reset=reset)
    model = keras.Model([x, reset], rk.LSTM(UNITS, name="plain")(y))
    report = rk.explain_path(model, [inputs(), RESETS])
    assert report["lstm"].path == kernels.current().LOOP
    assert [condition.name for condition in report["lstm"].failed] == ["reset"]
    assert report["min"].path == "linear scan"
    assert report["plain"].fused
    with pytest.raises(ValueError, match="reset is given: leave it out"):
        rk.LSTM(UNITS, use_cudnn=True)(inputs(), reset=RESETS)


def test_the_block_leaves_it_to_the_loop(monkeypatch):
    reference_kernels.watch_block(monkeypatch)
    layer = ready("LSTM")
    trained = arrays(layer(inputs(), reset=RESETS, training=True))[0]
    assert not reference_kernels.CALLS
    np.testing.assert_allclose(trained, arrays(layer(inputs(), reset=RESETS))[0], **CLOSE)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (np.zeros((BATCH, TIME - 1), bool), rf"bool of shape \({BATCH}, {TIME - 1}\)"),
        (np.zeros((1, TIME), bool), rf"bool of shape \(1, {TIME}\)"),
        (np.zeros((BATCH, TIME, 1), bool), "bool of shape"),
        (np.zeros((BATCH, TIME), "int32"), "int32 of shape"),
        (np.zeros((BATCH, TIME), "float32"), "float32 of shape"),
        ([[True] * TIME] * BATCH, "list of shape"),
        (keras.KerasTensor((None, TIME), "float32"), "float32 of shape"),
        (keras.KerasTensor((None, TIME - 1), "bool"), "bool of shape"),
    ],
)
def test_what_is_no_reset_is_refused(wrong, found):
    x = keras.Input((TIME, FEATURES)) if isinstance(wrong, keras.KerasTensor) else inputs()
    for layer in (rk.GRU(3), rk.RNN(rk.GRUCell(3)), rk.Bidirectional(rk.GRU(3))):
        with pytest.raises(ValueError, match=f"`reset` of .* must be booleans.*received {found}"):
            layer(x, reset=wrong)


def test_layers_of_keras_in_a_bidirectional_are_refused():
    with pytest.raises(ValueError, match="needs layers of this package; received GRU"):
        rk.Bidirectional(keras.layers.GRU(3))(inputs(), reset=RESETS)
