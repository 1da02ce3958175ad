"""Recurrent layers that show their states, GloVe embeddings and time-series windows for Keras 3."""

from keras_rnnkit.embedding import (
    Coverage,
    CoverageWarning,
    GloVeEmbedding,
    Vectors,
    load_vectors,
)

__version__ = "0.1.0"

__all__ = ["Coverage", "CoverageWarning", "GloVeEmbedding", "Vectors", "load_vectors"]
