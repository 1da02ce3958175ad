"""A warning not ours: Keras on torch reads tensors in a way that NumPy 2 deprecates."""

from pathlib import Path

import keras
import pytest


def pytest_collection_modifyitems(items):
    if keras.backend.backend() != "torch":
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
            )
