"""Data sets to begin with: the Jena weather record, synthetic weather like it, film reviews."""

from keras_rnnkit.datasets.imdb_reviews import imdb_reviews
from keras_rnnkit.datasets.jena_climate import jena_climate
from keras_rnnkit.datasets.synthetic_weather import synthetic_weather

__all__ = ["imdb_reviews", "jena_climate", "synthetic_weather"]
