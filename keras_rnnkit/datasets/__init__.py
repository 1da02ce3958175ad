"""Data to begin with: the Jena weather record, and weather made up in its likeness."""

from keras_rnnkit.datasets.jena_climate import jena_climate
from keras_rnnkit.datasets.synthetic_weather import synthetic_weather

__all__ = ["jena_climate", "synthetic_weather"]
