"""The cells: one step, inside every layer of Keras that takes a cell, and under dropout."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent.equations import equations_of, recurrent_masks
from tests import reference
from tests.recurrent.cases import (
    BATCH,
    CELLS,
    FEATURES,
    TIME,
    UNITS,
    arrays,
    inputs,
    make,
    ready,
    states_of,
    weights_of,
)


def cell_of(cell, **kwargs):
    if cell.startswith("GRU"):
        kwargs["reset_after"] = cell == "GRU"
    return getattr(rk, cell.split()[0] + "Cell")(UNITS, **kwargs)


@pytest.mark.backends
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_that_of_the_equations(cell):
    x, states, weights = inputs()[:, 0], states_of(cell), weights_of(cell)
    wanted, gates = reference.STEPS[cell](x, states, weights)
    one = cell_of(cell, return_state=True)
    one.build((BATCH, FEATURES))
    one.set_weights(weights)
    joined, new = one(x, states)
    for found, expected in zip(arrays(one.unpack(joined)), [wanted[0], *wanted], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for found, expected in zip(arrays(new), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    equations = equations_of(one)
    projected = equations.project(one, keras.ops.convert_to_tensor(x))
    found, _ = equations.step(one, projected, [keras.ops.convert_to_tensor(x) for x in states])
    assert one.gate_names[: len(gates)] == tuple(gates)
    for gate, name in zip(arrays(found), one.gate_names, strict=True):
        np.testing.assert_allclose(gate, gates[name], rtol=1e-5, atol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize("cell", CELLS)
def test_keras_rnn_stacks_the_states_over_time(cell):
    x, weights = inputs(), weights_of(cell)
    one = cell_of(cell, return_state=True)
    layer = keras.layers.RNN(one, return_sequences=True, return_state=True)
    layer.build(x.shape)
    layer.set_weights(weights)
    joined, *last = layer(x)
    wanted = reference.run(cell, weights, x)
    expected = [wanted["outputs"], *wanted["states"], *wanted["last"]]
    for found, other in zip([*arrays(one.unpack(joined)), *arrays(last)], expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=2e-6)


def test_cells_stand_in_stacks_bidirectional_and_time_distributed():
    x = inputs()
    top = rk.LSTMCell(UNITS, return_state=True)
    stack = keras.layers.RNN([rk.GRUCell(3), top], return_sequences=True)
    assert [part.shape for part in top.unpack(stack(x))] == [(BATCH, TIME, UNITS)] * 3
    both = keras.layers.Bidirectional(keras.layers.RNN(rk.GRUCell(UNITS, return_state=True)))
    assert both(x).shape == (BATCH, 4 * UNITS)
    many = keras.layers.TimeDistributed(keras.layers.RNN(rk.LSTMCell(UNITS)))
    one = keras.layers.RNN(many.layer.cell)
    nested = np.stack([x, 2 * x], axis=1)
    for index in range(2):
        np.testing.assert_allclose(
            arrays(many(nested))[0][:, index], arrays(one(nested[:, index]))[0], rtol=1e-5
        )


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_a_cell_keeps_its_arguments(name):
    options = {"return_state": True, "recurrent_dropout": 0.0, "seed": 4}
    if name != "SimpleRNN":
        options["implementation"] = 1
    cell = getattr(rk, f"{name}Cell")(3, **options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(cell))
    assert type(again) is type(cell)
    assert {key: getattr(again, key) for key in options} == options
    assert again.output_size == cell.output_size == 3 * (1 + len(cell.state_names))


def test_unpack_says_what_is_wrong():
    with pytest.raises(ValueError, match="return_state=True"):
        rk.GRUCell(3).unpack(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"3 \+ 3 = 6 features \(output, h\).*\(2, 5\)"):
        rk.GRUCell(3, return_state=True).unpack(np.ones((2, 5)))


@pytest.mark.backends
@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}])
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_is_keras_dropout(cell, rates):
    """The same seed draws the same masks, applied at the same places."""
    x = inputs()
    options = {"seed": 3, "return_sequences": True, **rates}
    ours = ready(cell, use_cudnn=False, **options)
    theirs = ready(cell, library=keras.layers, **options)
    found, wanted = arrays(ours(x, training=True)), arrays(theirs(x, training=True))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=2e-6)
    assert np.abs(found[0] - arrays(ours(x))[0]).max() > 0.01


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_dropout_keeps_the_state_bounded(cell):
    """The raw Jena wind column holds -9999: 6,000 standard deviations; Keras 2's GRU overflowed."""
    x = inputs(4, 240, 1)
    x[:, ::50] = 6000.0
    layer = make(cell, recurrent_dropout=0.2, return_state_sequences=True)
    _, *sequences = arrays(layer(x, training=True))
    assert np.abs(sequences[0]).max() <= 1
    # |c| grows by at most 1 a step, since f <= 1 and |i g| <= 1.
    assert np.abs(sequences[-1]).max() <= (240 if cell == "LSTM" else 1)


@pytest.mark.parametrize("cell", CELLS[1:])  # nothing leaks through a SimpleRNN
def test_the_bound_fails_when_the_leaked_state_is_masked(cell, monkeypatch):
    """Keras 2's fault, put into the equations: the state that leaks through takes the mask too."""
    equations = equations_of(make(cell).cell)
    step = equations.step

    def masked_step(cell, projected, states, training=False):
        gates, _ = step(cell, projected, states, training)
        masks = recurrent_masks(cell, states[0], training)
        mask = masks[0] if isinstance(masks, list) else masks
        if len(states) == 1:
            z, _, n = gates
            return gates, [z * states[0] * mask + (1 - z) * n]
        i, f, g, o = gates
        c = f * states[1] * mask + i * g
        return gates, [o * cell.activation(c), c]

    monkeypatch.setattr(equations, "step", masked_step)
    layer = make(cell, recurrent_dropout=0.2, return_state_sequences=True, use_cudnn=False)
    layer.build((4, 240, 1))
    weights = arrays(layer.weights)
    # An open memory: z or f near 1, as a trained cell may have, so that the fault shows at once.
    weights[-1][..., :UNITS] = 20.0
    weights[-1][..., UNITS : 2 * UNITS] = 20.0
    layer.set_weights(weights)
    start = [np.ones((4, UNITS), "float32")] * (1 + (cell == "LSTM"))
    _, *sequences = arrays(layer(inputs(4, 240, 1), initial_state=start, training=True))
    limit = 242 if cell == "LSTM" else 1
    assert np.abs(sequences[-1]).max() > limit


def test_positional_arguments_are_taken_as_keras_takes_them():
    assert rk.LSTMCell(3, "relu").activation is keras.activations.relu
    assert rk.GRUCell(3, "relu").get_config()["activation"] == "relu"
    assert rk.RNN(rk.LSTMCell(2), True).return_sequences
    assert rk.RNN(rk.LSTMCell(2), False, True).return_state
    assert rk.Bidirectional(rk.LSTM(2), "sum").merge_mode == "sum"
    assert rk.LSTM(3, "relu").activation is keras.activations.relu
