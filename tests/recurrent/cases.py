"""The cells, masks and inputs that the matrix of tests runs over."""

import keras
import numpy as np

import keras_rnnkit as rk

BATCH, TIME, FEATURES, UNITS = 5, 6, 3, 4
CELLS = ["SimpleRNN", "LSTM", "GRU", "GRU reset before"]
MASKS = ["none", "right", "left", "holes", "empty row"]
GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3, "GRU reset before": 3}


def make(cell, library=rk, **kwargs):
    """A layer of this package, or of `keras.layers`, by the cell's name in the matrix."""
    if cell.startswith("GRU"):
        kwargs["reset_after"] = cell == "GRU"
    return getattr(library, cell.split()[0])(kwargs.pop("units", UNITS), **kwargs)


def weights_of(cell, features=FEATURES, units=UNITS, dtype="float32", seed=3):
    """Weights that leave no symmetry for a wrong gate order to hide in."""
    rng = np.random.default_rng(seed)
    width = GATES[cell] * units
    bias = (2, width) if cell == "GRU" else (width,)
    return [
        rng.normal(size=shape, scale=0.5).astype(dtype)
        for shape in ((features, width), (units, width), bias)
    ]


def ready(cell, weights=None, library=rk, **kwargs):
    """A built layer that holds `weights_of(cell)`."""
    layer = make(cell, library, **kwargs)
    weights = weights_of(cell) if weights is None else weights
    layer.build((BATCH, TIME, weights[0].shape[0]))
    layer.set_weights(weights)
    return layer


def inputs(batch=BATCH, time=TIME, features=FEATURES, dtype="float32", seed=5):
    return np.random.default_rng(seed).normal(size=(batch, time, features)).astype(dtype)


def states_of(cell, batch=BATCH, units=UNITS, dtype="float32", seed=11):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(batch, units)).astype(dtype) for _ in range(1 + (cell == "LSTM"))]


def mask_of(kind, batch=BATCH, time=TIME):
    """A mask of this kind, or None; every one but `none` also has a row without a gap."""
    lengths = np.array([time, 3, 1, 4, 2])[:batch, None]
    steps = np.arange(time)
    if kind == "none":
        return None
    if kind == "right":
        return steps < lengths
    if kind == "left":
        return steps >= time - lengths
    mask = np.random.default_rng(1).random((batch, time)) < 0.6
    mask[0] = True
    mask[:, 2] |= ~mask.any(axis=1)
    if kind == "empty row":
        mask[1] = False
    return mask


def arrays(results):
    """Whatever a layer returned or holds, as a flat list of NumPy arrays."""
    return [keras.ops.convert_to_numpy(keras.ops.copy(x)) for x in keras.tree.flatten(results)]
