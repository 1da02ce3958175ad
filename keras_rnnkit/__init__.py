"""Recurrent layers that show their states, GloVe embeddings and time-series windows for Keras 3."""

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

__version__ = "0.1.0"

__all__ = [
    "Coverage",
    "CoverageWarning",
    "GloVeEmbedding",
    "Scaler",
    "Split",
    "TimeSeries",
    "Vectors",
    "WindowLoader",
    "WindowSpec",
    "check_split",
    "describe",
    "jena_climate",
    "load_vectors",
    "read_csv",
    "rolling_splits",
    "split",
    "synthetic_weather",
    "to_frame",
    "window_dataset",
]
