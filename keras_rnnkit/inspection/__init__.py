"""Look inside a model: states and gates, how far the gradient reaches, and pictures."""

from keras_rnnkit.inspection import plot
from keras_rnnkit.inspection.trace import Trace, trace

__all__ = [
    "Trace",
    "plot",
    "trace",
]
