"""Look inside a model that exists, and at the machine it runs on."""

from keras_rnnkit.inspection import plot
from keras_rnnkit.inspection.doctor import Diagnosis, allow_memory_growth, doctor
from keras_rnnkit.inspection.trace import Trace, trace

__all__ = ["Diagnosis", "Trace", "allow_memory_growth", "doctor", "plot", "trace"]
