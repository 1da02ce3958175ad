"""What must run without TensorFlow; test_package.py runs it with the import blocked."""

import numpy as np

import keras_rnnkit as rk


def recurrent():
    x = np.ones((2, 5, 3), "float32")
    mask = np.array([[False, True, True, False, True], [True, True, True, False, False]])
    for layer in (rk.SimpleRNN, rk.LSTM, rk.GRU):
        output, *states = layer(4, return_state_sequences=True)(x, mask=mask)
        assert output.shape == (2, 4)
        assert {tuple(state.shape) for state in states} == {(2, 5, 4)}
    both = rk.Bidirectional(rk.LSTM(4, return_state_sequences=True))
    assert len(both(x, mask=mask)) == 5
    assert len(rk.RNN([rk.GRUCell(3), rk.LSTMCell(4)], return_state_sequences=True)(x)) == 3
    assert rk.explain_path(both).layers


recurrent()
print("ran without tensorflow")
