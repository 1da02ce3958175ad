"""Settings for every test: a quiet, deterministic Keras and a bounded Hypothesis."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# For tests/gpu, whose subprocess sees the GPUs that this run was shown.
os.environ.setdefault("RNNKIT_GPUS", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")

import keras
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def fresh_keras():
    """Start each test from the same seed, without names left over from the one before."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)


# What tells soonest that something is broken, in less than three minutes on two cores.
QUICK = (
    *("tests/test_messages.py", "tests/test_signatures.py", "tests/test_readme.py"),
    *("tests/data/test_reference_windows.py", "tests/data/test_split.py"),
    *("tests/data/test_series.py", "tests/data/test_scale.py", "tests/data/test_times.py"),
    *("tests/data/test_window_loader.py", "tests/data/test_window_options.py"),
    *("tests/embedding/test_formats.py", "tests/embedding/test_vocabulary.py"),
    *("tests/recurrent/test_parity.py", "tests/recurrent/test_cells.py"),
    *("tests/recurrent/test_masks.py", "tests/recurrent/test_errors.py"),
    *("tests/inspection/test_trace.py", "tests/inspection/test_path_report.py"),
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.split("::")[0] in QUICK:
            item.add_marker("quick")
