"""Recurrent layers that show their states, GloVe embeddings and time-series windows for Keras 3."""

__version__ = "0.1.0"

__all__: list[str] = []
