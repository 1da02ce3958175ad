"""Word vectors: from files of many formats into a Keras layer."""

from keras_rnnkit.embedding.coverage import Coverage, CoverageWarning
from keras_rnnkit.embedding.layer import GloVeEmbedding
from keras_rnnkit.embedding.vectors import Vectors, load_vectors

__all__ = ["Coverage", "CoverageWarning", "GloVeEmbedding", "Vectors", "load_vectors"]
