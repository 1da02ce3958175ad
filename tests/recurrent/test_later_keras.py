"""Masks pass through our layers where Keras's own stop them, as they do after Keras 3.15."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_rnnkit as rk

pytestmark = pytest.mark.backends

PADDING = 9.0


@pytest.fixture(autouse=True)
def later_keras(monkeypatch):
    """Constructors of Keras's layers that end by saying that they stop masks."""

    def stop_masks(kind):
        construct = kind.__init__

        def constructor(self, *args, **kwargs):
            construct(self, *args, **kwargs)
            self.supports_masking = False

        monkeypatch.setattr(kind, "__init__", constructor)

    for kind in (layers.RNN, layers.Bidirectional, layers.TimeDistributed):
        stop_masks(kind)


def check(model, outer=()):
    """A padded sequence comes out as it does without its padding: no layer reads that."""
    x = np.random.default_rng(0).normal(size=(1, *outer, 3, 2)).astype("float32")
    x[..., 2, :] = PADDING
    found, wanted = (ops.convert_to_numpy(model(part)) for part in (x, x[..., :2, :]))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


STACKS = {
    "layers": lambda: [rk.LSTM(4, return_sequences=True), rk.GRU(3)],
    "cells": lambda: [
        rk.RNN([rk.GRUCell(4), rk.LSTMCell(2)], return_sequences=True),
        rk.RNN(rk.SimpleRNNCell(3)),
    ],
    "bidirectional": lambda: [
        rk.Bidirectional(rk.LSTM(4, return_sequences=True)),
        rk.Bidirectional(rk.SimpleRNN(3)),
    ],
}


@pytest.mark.parametrize("stack", STACKS)
def test_the_second_of_two_layers_sees_the_mask(stack):
    check(keras.Sequential([layers.Masking(PADDING), *STACKS[stack]()]))


def test_in_a_functional_model_that_was_saved(tmp_path):
    inputs = keras.Input((None, 2))
    x = layers.Masking(PADDING)(inputs)
    x, *states = rk.LSTM(4, return_sequences=True, return_state_sequences=True)(x)
    x = rk.GRU(3)(layers.Concatenate()([x, *states]))
    keras.Model(inputs, x).save(tmp_path / "model.keras")
    check(keras.saving.load_model(tmp_path / "model.keras"))


# Keras's TimeDistributed, which stops masks itself, hands each step's to what it wraps.
@pytest.mark.filterwarnings("ignore:Layer 'time_distributed:UserWarning")
def test_in_time_distributed():
    inner = keras.Sequential([rk.LSTM(4, return_sequences=True), rk.GRU(3)])
    model = keras.Sequential([layers.Masking(PADDING), layers.TimeDistributed(inner)])
    check(model, outer=(2,))


def test_keras_own_would_stop_it():
    theirs = layers.GRU(4, return_sequences=True)
    with pytest.warns(UserWarning, match="does not support masking"), pytest.raises(AssertionError):
        check(keras.Sequential([layers.Masking(PADDING), theirs, rk.GRU(3)]))
