"""What the layers say when they are called wrongly."""

import keras
import numpy as np
import pytest
from packaging.version import Version

import keras_rnnkit as rk
from tests.recurrent.cases import BATCH, FEATURES, TIME, inputs

STATE = np.zeros((BATCH, 3), "float32")


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([STATE], r"must hold 2 states of shapes \('batch', 3\), \('batch', 3\); received 1"),
        ([STATE, STATE, STATE], "received 3. Pass one tensor a state"),
        pytest.param(
            [STATE, None],
            "must hold 2 states .* received 1",
            marks=pytest.mark.skipif(
                Version(keras.__version__) < Version("3.13"),
                reason="Keras 3.12 looks at its shape first",
            ),
        ),
        ([STATE, np.zeros((BATCH, 4), "float32")], r"received shape \(5, 4\) for a batch of 5"),
        ([STATE, np.zeros((2, 3), "float32")], r"received shape \(2, 3\).*one row a sample"),
    ],
)
def test_initial_states_of_the_wrong_number_or_shape(states, message):
    with pytest.raises(ValueError, match=message):
        rk.LSTM(3)(inputs(), initial_state=states)
    with pytest.raises(ValueError, match=message):
        rk.RNN(keras.layers.LSTMCell(3))(inputs(), initial_state=states)


def test_no_time_step():
    with pytest.raises(ValueError, match=r"at least one time step; received shape \(5, 0, 3\)"):
        rk.GRU(3)(inputs()[:, :0])


def test_unrolling_an_unknown_length():
    layer = rk.LSTM(3, unroll=True, return_state_sequences=True)
    with pytest.raises(ValueError, match="unroll=True, which needs a known number of time steps"):
        layer(keras.Input((None, FEATURES)))


@pytest.mark.parametrize("layer", [rk.GRU(3), rk.RNN(rk.GRUCell(3))])
def test_a_lost_time_axis(layer):
    model = keras.Sequential([keras.Input((TIME, FEATURES)), rk.LSTM(4)])
    message = r"expected ndim=3.*found ndim=2.*return_sequences=True"
    with pytest.raises(ValueError, match=message):
        model.add(layer)
    with pytest.raises(ValueError, match=message):
        layer(np.ones((2, 3)))


@pytest.mark.parametrize("cell", [rk.cells.MinGRUCell, rk.cells.MinLSTMCell])
def test_gates_that_read_no_state_drop_none(cell):
    with pytest.raises(ValueError, match=rf"those of {cell.__name__} read no state; received 0\.5"):
        cell(4, recurrent_dropout=0.5)


def test_arguments_of_no_layer():
    with pytest.raises(ValueError, match="units"):
        rk.LSTM(0)
    with pytest.raises((TypeError, ValueError), match="nonsense"):
        rk.GRU(3, nonsense=1)
