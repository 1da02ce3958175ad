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

__version__ = "0.1.0"

__all__ = [
    "Scaler",
    "Split",
    "TimeSeries",
    "WindowLoader",
    "WindowSpec",
    "check_split",
    "describe",
    "jena_climate",
    "read_csv",
    "rolling_splits",
    "split",
    "synthetic_weather",
    "to_frame",
    "window_dataset",
]
