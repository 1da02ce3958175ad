"""Look inside a model: states and gates, how far the gradient reaches."""

from keras_rnnkit.inspection.trace import Trace, trace

__all__ = [
    "Trace",
    "trace",
]
