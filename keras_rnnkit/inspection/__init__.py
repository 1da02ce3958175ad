"""Look inside a model: states and gates, how far the gradient reaches."""

from keras_rnnkit.inspection.gradient_flow import GradientFlow, gradient_flow, jacobian_norms
from keras_rnnkit.inspection.trace import Trace, trace

__all__ = [
    "GradientFlow",
    "Trace",
    "gradient_flow",
    "jacobian_norms",
    "trace",
]
