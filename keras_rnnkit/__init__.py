"""Recurrent layers that show their states, GloVe embeddings and time-series windows for Keras 3."""

from keras_rnnkit.data import (
    Scaler,
    Split,
    TimeSeries,
    WindowLoader,
    WindowSpec,
    check_split,
    read_csv,
    rolling_splits,
    split,
    window_dataset,
)
from keras_rnnkit.datasets import jena_climate, synthetic_weather

__version__ = "0.1.0"

__all__ = [
    "Scaler",
    "Split",
    "TimeSeries",
    "WindowLoader",
    "WindowSpec",
    "check_split",
    "jena_climate",
    "read_csv",
    "rolling_splits",
    "split",
    "synthetic_weather",
    "window_dataset",
]
