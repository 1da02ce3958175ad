"""Tools to look inside a model and at the machine it runs on."""

from keras_rnnkit.inspection import plot

__all__ = ["plot"]
