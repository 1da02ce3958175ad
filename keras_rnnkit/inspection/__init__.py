"""Tools to look inside a model and at the machine it runs on."""

from keras_rnnkit.inspection import plot
from keras_rnnkit.inspection.doctor import Diagnosis, allow_memory_growth, doctor

__all__ = ["Diagnosis", "allow_memory_growth", "doctor", "plot"]
