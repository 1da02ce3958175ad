"""Look inside a model that exists, and at the machine it runs on."""

from keras_rnnkit.inspection import plot
from keras_rnnkit.inspection.trace import Trace, trace

__all__ = [
    "Trace",
    "plot",
    "trace",
]
