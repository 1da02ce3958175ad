"""Recurrent layers that show their states, GloVe embeddings and time-series windows for Keras 3."""

from keras_rnnkit import versions  # noqa: F401  first: it says why, where Keras fails to import

# isort: split
from keras_rnnkit import data, datasets, embedding, inspection
from keras_rnnkit.data import (
    Scaler,
    TimeSeries,
    WindowLoader,
    WindowSpec,
    check_split,
    forecast_windows,
    read_csv,
    read_parquet,
    resample,
    rolling_splits,
    split,
    to_frame,
    window_dataset,
    window_report,
)
from keras_rnnkit.embedding import (
    GloVeEmbedding,
    Vectors,
    load_vectors,
)
from keras_rnnkit.inspection import (
    RecurrentMonitor,
    doctor,
    explain_path,
    gradient_flow,
    jacobian_norms,
    plot,
    trace,
)
from keras_rnnkit.recurrent import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Cell,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    cells,
    get_states,
    reset_states,
    set_states,
)
from keras_rnnkit.streaming import Stream, step_model

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022  plain alphabetical order, as the tests and the docs have it
    "Bidirectional",
    "Cell",
    "GRU",
    "GRUCell",
    "GloVeEmbedding",
    "LSTM",
    "LSTMCell",
    "RNN",
    "RecurrentMonitor",
    "Scaler",
    "SimpleRNN",
    "SimpleRNNCell",
    "Stream",
    "TimeSeries",
    "Vectors",
    "WindowLoader",
    "WindowSpec",
    "cells",
    "check_split",
    "data",
    "datasets",
    "doctor",
    "embedding",
    "explain_path",
    "forecast_windows",
    "get_states",
    "gradient_flow",
    "inspection",
    "jacobian_norms",
    "load_vectors",
    "plot",
    "read_csv",
    "read_parquet",
    "resample",
    "reset_states",
    "rolling_splits",
    "set_states",
    "split",
    "step_model",
    "to_frame",
    "trace",
    "window_dataset",
    "window_report",
]
