"""Keras's faults that do not show through these layers, each held fast."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.autodiff import gradients, with_weights
from tests.recurrent.cases import (
    BATCH,
    CELLS,
    FEATURES,
    TIME,
    UNITS,
    arrays,
    inputs,
    make,
    mask_of,
    ready,
    states_of,
    weights_of,
)

pytestmark = pytest.mark.backends


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_with_implementation_1(cell, monkeypatch):
    """Keras's layer feeds a list of masks to one product and fails, wherever it tries cuDNN."""
    reference_kernels.install(monkeypatch)
    options = {} if cell == "SimpleRNN" else {"implementation": 1}
    layer = ready(cell, dropout=0.5, seed=2, **options)
    found = arrays(layer(inputs(), training=True))[0]
    assert np.isfinite(found).all()
    assert np.abs(found - arrays(layer(inputs()))[0]).max() > 0.01


def test_backwards_outputs_are_flipped_once(monkeypatch):
    """Keras on JAX flips the outputs of its cuDNN path twice."""
    reference_kernels.install(monkeypatch)
    x = inputs()
    wanted = reference.run("LSTM", weights_of("LSTM"), x, backwards=True)["outputs"]
    for use_cudnn in (False, True):
        layer = ready("LSTM", go_backwards=True, return_sequences=True, use_cudnn=use_cudnn)
        np.testing.assert_allclose(arrays(layer(x))[0], wanted, rtol=1e-5, atol=2e-6)
        both = rk.Bidirectional(make("LSTM", return_sequences=True, use_cudnn=use_cudnn))
        both.build(x.shape)
        both.set_weights([*weights_of("LSTM"), *weights_of("LSTM")])
        backward = arrays(both(x))[0][..., UNITS:]
        np.testing.assert_allclose(backward[:, ::-1], wanted, rtol=1e-5, atol=2e-6)


def test_a_stack_of_stateful_cells_is_reset():
    """Keras iterates over the nested states and fails."""
    layer = rk.RNN([rk.GRUCell(2), rk.LSTMCell(3)], stateful=True)
    layer(inputs())
    assert all(state.any() for state in arrays(layer.states))
    layer.reset_state()
    assert not any(state.any() for state in arrays(layer.states))


def test_masked_steps_show_the_same_whatever_the_initial_state():
    """Keras on JAX shows the initial state, not zero, before the first valid step."""
    x, mask = inputs(), mask_of("empty row")
    states = states_of("GRU")
    wanted = reference.run("GRU", weights_of("GRU"), x, states, mask)
    for layer in (
        ready("GRU", return_sequences=True),
        rk.RNN(keras.layers.GRUCell(UNITS), return_sequences=True),
    ):
        layer.build(x.shape)
        layer.set_weights(weights_of("GRU"))
        found = arrays(layer(x, initial_state=states, mask=mask))[0]
        np.testing.assert_allclose(found, wanted["outputs"], rtol=1e-5, atol=2e-6)
        assert not found[1].any()


@pytest.mark.parametrize("unroll", [False, True])
def test_zero_output_for_mask_holds_unrolled_too(unroll):
    """Keras on JAX ignores it there."""
    mask = mask_of("holes")
    layer = ready("LSTM", return_sequences=True, zero_output_for_mask=True, unroll=unroll)
    found = arrays(layer(inputs(), mask=mask))[0]
    assert not found[~mask].any()
    assert found[mask].any(axis=-1).all()


def test_unrolled_backwards_under_a_mask():
    """Keras on torch flips a tuple and fails."""
    x, mask = inputs(), mask_of("left")
    layer = rk.RNN(keras.layers.LSTMCell(UNITS), unroll=True, go_backwards=True)
    layer.build(x.shape)
    layer.set_weights(weights_of("LSTM"))
    wanted = reference.run("LSTM", weights_of("LSTM"), x, mask=mask, backwards=True)
    np.testing.assert_allclose(
        arrays(layer(x, mask=mask))[0], wanted["outputs"][:, -1], rtol=1e-5, atol=2e-6
    )


def test_a_wider_output_under_a_mask():
    """Keras on JAX puts `states[0]` in the place of the output and fails on its width."""
    x, mask = inputs(), mask_of("holes")
    cell = rk.LSTMCell(UNITS, return_state=True)
    layer = rk.RNN(cell, return_sequences=True)
    layer.build(x.shape)
    layer.set_weights(weights_of("LSTM"))
    wanted = reference.run("LSTM", weights_of("LSTM"), x, mask=mask)
    output, _, c = arrays(cell.unpack(layer(x, mask=mask)))
    np.testing.assert_allclose(output, wanted["outputs"], rtol=1e-5, atol=2e-6)
    valid = np.cumsum(mask, axis=1) > 0
    np.testing.assert_allclose(c[valid], wanted["states"][1][valid], rtol=1e-5, atol=2e-6)


def test_a_mask_is_kept_beside_initial_states():
    """Keras drops the mask that comes with a tensor once a second tensor is passed."""
    words = keras.Input((TIME,), dtype="int32")
    start = keras.Input((UNITS,))
    vectors = keras.layers.Embedding(9, FEATURES, mask_zero=True)(words)
    values = np.random.default_rng(0).integers(1, 9, (BATCH, TIME))
    cut = values * (np.arange(TIME) < 4)
    for layer in (rk.GRU(UNITS), rk.RNN(rk.GRUCell(UNITS)), rk.Bidirectional(rk.GRU(UNITS))):
        states = [start, start] if isinstance(layer, rk.Bidirectional) else [start]
        model = keras.Model([words, start], layer(vectors, initial_state=states))
        h = states_of("GRU")[0]
        found = model.predict([cut, h], verbose=0)
        assert np.abs(found - model.predict([values, h], verbose=0)).max() > 1e-4
        garbage = np.where(cut == 0, 0, values)
        np.testing.assert_allclose(found, model.predict([garbage, h], verbose=0), rtol=1e-5)
        last = arrays(layer(model.layers[1](values[:, :4]), initial_state=[h] * len(states)))[0]
        np.testing.assert_allclose(found, last, rtol=1e-4, atol=1e-5)


def test_a_gradient_passes_a_stateful_layer():
    """Keras on torch assigns the state in place, under the gradient that needs it."""
    layer = rk.LSTM(UNITS, stateful=True)
    layer.build((BATCH, TIME, FEATURES))
    weights = arrays(layer.weights)
    for _ in range(2):
        (found,) = gradients(lambda x: keras.ops.sum(layer(x) ** 2), [inputs()])
        assert np.abs(found).max() > 1e-6
    assert len(weights) == 3


def test_simple_rnn_keeps_what_keras_forgets():
    """Keras's SimpleRNN drops `activity_regularizer`, and `seed` from its config."""
    layer = rk.SimpleRNN(3, activity_regularizer="l2", seed=7)
    layer(inputs())
    assert len(layer.losses) == 1
    assert layer.get_config()["seed"] == 7


def test_weights_can_be_differentiated_through_a_scope():
    """Holds the helper of these tests: a gradient by weight is that by the layer's own variable."""
    layer = ready("GRU")

    def loss(*weights):
        return keras.ops.sum(with_weights(layer, weights, inputs()) ** 2)

    found = gradients(loss, arrays(layer.weights))
    assert [gradient.shape for gradient in found] == [w.shape for w in weights_of("GRU")]
    assert all(np.abs(gradient).max() > 1e-4 for gradient in found)
