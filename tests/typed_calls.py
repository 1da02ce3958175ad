"""Right calls, and wrong ones that a type checker must flag: see `test_signatures`. Never run."""

import keras_rnnkit as rk


def right() -> None:
    rk.SimpleRNN(4, "relu", use_cudnn=False, name="simple")
    rk.LSTM(4, "tanh", return_state_sequences=True, implementation=1, dtype="mixed_float16")
    rk.GRU(4, reset_after=False, stateful=True, save_states=True, zero_output_for_mask=True)
    rk.LSTM(4, projection=2, weight_dropout=0.5)
    rk.LSTMCell(4, "relu", return_state=True, seed=1, projection=2)
    rk.RNN([rk.GRUCell(4), rk.SimpleRNNCell(4)], True, return_state_sequences=True)
    rk.Bidirectional(rk.GRU(4), "sum", backward_layer=rk.GRU(4, go_backwards=True))
    rk.Bidirectional(rk.GRU(4), merge_mode=None, trainable=False)


def wrong() -> None:
    rk.SimpleRNN(4, reset_after=True)  # type: ignore[call-arg]
    rk.SimpleRNN(4, use_cudnn="never")  # type: ignore[arg-type]
    rk.LSTM()  # type: ignore[call-arg]
    rk.LSTM(4, return_sequence=True)  # type: ignore[call-arg]
    rk.GRU(4, projection=2)  # type: ignore[call-arg]
    rk.LSTM(4, weight_dropout=None)  # type: ignore[arg-type]
    rk.LSTM("4")  # type: ignore[arg-type]
    rk.GRU(4, implementation=3)  # type: ignore[arg-type]
    rk.GRUCell(4, return_states=True)  # type: ignore[call-arg]
    rk.LSTMCell(4, activation=3)  # type: ignore[arg-type]
    rk.RNN()  # type: ignore[call-arg]
    rk.RNN(rk.GRUCell(4), return_state_sequence=True)  # type: ignore[call-arg]
    rk.Bidirectional(rk.GRU(4), "mean")  # type: ignore[arg-type]
