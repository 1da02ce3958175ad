"""Tools to inspect a model and the machine it runs on."""

from keras_rnnkit.inspection import plot
from keras_rnnkit.inspection.doctor import Diagnosis, allow_memory_growth, doctor
from keras_rnnkit.inspection.flow_report import GradientFlow
from keras_rnnkit.inspection.gradient_flow import gradient_flow
from keras_rnnkit.inspection.jacobians import jacobian_norms
from keras_rnnkit.inspection.monitor import RecurrentMonitor
from keras_rnnkit.inspection.path_report import PathReport, SlowPathError, explain_path
from keras_rnnkit.inspection.trace import Trace, trace

__all__ = [
    "Diagnosis",
    "GradientFlow",
    "PathReport",
    "RecurrentMonitor",
    "SlowPathError",
    "Trace",
    "allow_memory_growth",
    "doctor",
    "explain_path",
    "gradient_flow",
    "jacobian_norms",
    "plot",
    "trace",
]
