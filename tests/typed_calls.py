"""Right calls, and wrong ones that a type checker must flag: see `test_signatures`. Never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportMissingImports=false

import numpy as np

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
    rk.GloVeEmbedding("glove.txt", ["", "a"], freeze_found=True, oov="mean", lora_rank=None)
    spec = rk.WindowSpec(4, targets=["a"])
    rk.window_dataset(np.arange(9.0), spec, batch_size=4, shuffle=True)
    loader: rk.WindowLoader = rk.WindowLoader(np.arange(9.0), spec, missing="drop")
    length: int = len(loader)
    report = rk.window_report(np.arange(9.0), spec, dtype="bfloat16")
    windows: int = report.parts["all"].windows + length
    matrix: np.ndarray = rk.load_vectors({"a": [1.0]}, ["a"]).matrix
    trace: rk.inspection.Trace = rk.trace(rk.GRU(4), matrix)["gru"]
    parts: rk.data.Split = rk.split(trace["h"], train=0.7, val=0.1)
    series: rk.TimeSeries = parts.train
    rk.Scaler().fit(series).transform(series)
    rk.read_csv("table.csv", time="date", na_values=["?"])
    print(windows)


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
    rk.GloVeEmbedding("glove.txt", ["", "a"], freezefound=True)  # type: ignore[call-arg]
    rk.GloVeEmbedding("glove.txt")  # type: ignore[call-arg]
    spec = rk.WindowSpec(lookbak=4)  # type: ignore[call-arg]
    spec = rk.WindowSpec(4)
    rk.window_dataset([1.0], spec, batchsize=4)  # type: ignore[call-arg]
    rk.window_dataset([1.0])  # type: ignore[call-arg]
    rk.WindowLoader([1.0], spec, shufle=True)  # type: ignore[call-arg]
    rk.WindowLoader([1.0], spec, dtype="float8")  # type: ignore[arg-type]
    rk.window_report([1.0], spec, missing="dorp")  # type: ignore[arg-type]
    rk.split([1.0], trian=0.7, val=0.1)  # type: ignore[call-arg]
    rk.load_vectors("glove.txt", ["a"], norm=True)  # type: ignore[call-arg]
    text: str = rk.trace(rk.GRU(4), [1.0])  # type: ignore[assignment]
    print(text)
