"""What must run without TensorFlow; test_package.py runs it with the import blocked."""

import numpy as np

import keras_rnnkit as rk


def data():
    series = rk.datasets.synthetic_weather(days=3)
    train, val, _ = rk.split(series, train=0.6, val=0.4)
    scaler = rk.Scaler().fit(train)
    spec = rk.WindowSpec(36, step=6, targets=["T (degC)"])
    loader = rk.WindowLoader(train, spec, batch_size=16, shuffle=True, seed=0, scaler=scaler)
    assert loader[0][0].shape == (16, 6, 14)
    assert "windows" in str(rk.window_report(val, spec))


def embedding():
    layer = rk.GloVeEmbedding({"the": [1.0, 2.0]}, ["", "[UNK]", "the"], freeze_found=True)
    assert layer(np.array([[2, 0]])).shape == (1, 2, 2)
    assert layer.coverage.words_found == 1


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


data()
embedding()
recurrent()
print("ran without tensorflow")
