"""Recurrent layers that show their states, GloVe embeddings and time-series windows for Keras 3."""

from keras_rnnkit import versions  # noqa: F401  first: it says why, where Keras fails to import
from keras_rnnkit.data import (
    Scaler,
    Split,
    TimeSeries,
    WindowLoader,
    WindowSpec,
    check_split,
    describe,
    read_csv,
    rolling_splits,
    split,
    to_frame,
    window_dataset,
)
from keras_rnnkit.datasets import (
    jena_climate,
    synthetic_weather,
)
from keras_rnnkit.embedding import (
    Coverage,
    CoverageWarning,
    GloVeEmbedding,
    Vectors,
    load_vectors,
)
from keras_rnnkit.inspection import (
    Diagnosis,
    allow_memory_growth,
    doctor,
    plot,
)
from keras_rnnkit.recurrent import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    GRUCell,
    LSTMCell,
    PathReport,
    SimpleRNN,
    SimpleRNNCell,
    SlowPathError,
    explain_path,
    get_states,
    reset_states,
    set_states,
)

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022  plain alphabetical order, as the tests and the docs have it
    "Bidirectional",
    "Coverage",
    "CoverageWarning",
    "Diagnosis",
    "GRU",
    "GRUCell",
    "GloVeEmbedding",
    "LSTM",
    "LSTMCell",
    "PathReport",
    "RNN",
    "Scaler",
    "SimpleRNN",
    "SimpleRNNCell",
    "SlowPathError",
    "Split",
    "TimeSeries",
    "Vectors",
    "WindowLoader",
    "WindowSpec",
    "allow_memory_growth",
    "check_split",
    "describe",
    "doctor",
    "explain_path",
    "get_states",
    "jena_climate",
    "load_vectors",
    "plot",
    "read_csv",
    "reset_states",
    "rolling_splits",
    "set_states",
    "split",
    "synthetic_weather",
    "to_frame",
    "window_dataset",
]
