"""A model that runs a time step at a time, its states going in and coming out."""

from keras_rnnkit.streaming.step_model import step_model
from keras_rnnkit.streaming.stream import Stream

__all__ = ["Stream", "step_model"]
