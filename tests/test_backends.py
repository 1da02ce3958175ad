"""Runs the tests marked `backends` again on each other Keras backend that is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_backend(backend):
    if backend == keras.backend.backend():
        pytest.skip(f"{backend} is the backend of this run")
    if "RNNKIT_BACKEND_RUN" in os.environ:
        pytest.skip("this is itself a run on one backend")
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install 'keras-rnnkit[{backend}]'")
    command = [sys.executable, "-m", "pytest", "-m", "backends", "-q", "-x", "tests"]
    environment = {**os.environ, "KERAS_BACKEND": backend, "RNNKIT_BACKEND_RUN": "1"}
    run = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{backend}:\n{run.stdout[-8000:]}\n{run.stderr[-4000:]}"
