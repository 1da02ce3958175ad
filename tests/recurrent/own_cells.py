"""A user's own cell, the equations of further cells in NumPy, and weights for each."""

import keras
import numpy as np

import keras_rnnkit as rk
from tests.reference import sigmoid

FEATURES, UNITS = 3, 4


@keras.saving.register_keras_serializable(package="tests")
class IndRNNCell(rk.Cell):
    state_names = ("h",)
    gate_names = ("n",)

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight((self.units,), "uniform", name="recurrent")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def step(self, x, states, training=False):
        (h,) = states
        inner = self.recurrent * self.dropped(h, training)
        n = keras.ops.tanh(x @ self.kernel + inner + self.bias)
        return [n], [n]


def norm(x, gain, shift, epsilon):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * gain + shift


def ind_rnn(x, states, weights):
    kernel, recurrent, bias = weights
    n = np.tanh(x @ kernel + recurrent * states[0] + bias)
    return [n], {"n": n}


def min_gru(x, states, weights):
    z, n = np.split(x @ weights[0] + weights[1], 2, axis=-1)
    z = sigmoid(z)
    return [(1 - z) * states[0] + z * n], {"z": z, "n": n}


def min_lstm(x, states, weights):
    i, f, g = np.split(x @ weights[0] + weights[1], 3, axis=-1)
    i, f = sigmoid(i), sigmoid(f)
    return [(f * states[0] + i * g) / (f + i)], {"i": i, "f": f, "g": g}


def peephole_lstm(x, states, weights):
    kernel, recurrent, bias, see_i, see_f, see_o = weights
    h, c = states
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
    i, f, g = sigmoid(i + see_i * c), sigmoid(f + see_f * c), np.tanh(g)
    c = f * c + i * g
    o = sigmoid(o + see_o * c)
    return [o * np.tanh(c), c], {"i": i, "f": f, "g": g, "o": o}


def norm_simple_rnn(x, states, weights):
    kernel, recurrent, bias, gain = weights
    n = np.tanh(norm(x @ kernel + states[0] @ recurrent, gain, 0, 1e-5) + bias)
    return [n], {"n": n}


def norm_lstm(x, states, weights):
    kernel, recurrent, bias, *norms = weights
    h, c = states
    sums = norm(x @ kernel, *norms[:2], 1e-3) + norm(h @ recurrent, *norms[2:4], 1e-3) + bias
    i, f, g, o = np.split(sums, 4, axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = norm(f * c + i * g, *norms[4:], 1e-3)
    return [o * np.tanh(c), c], {"i": i, "f": f, "g": g, "o": o}


def norm_gru(x, states, weights):
    kernel, recurrent, (bias, recurrent_bias), *norms = weights
    (h,) = states
    x_z, x_r, x_n = np.split(norm(x @ kernel, *norms[:2], 1e-3) + bias, 3, axis=-1)
    inner = norm(h @ recurrent, *norms[2:], 1e-3) + recurrent_bias
    h_z, h_r, h_n = np.split(inner, 3, axis=-1)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    n = np.tanh(x_n + r * h_n)
    return [z * h + (1 - z) * n], {"z": z, "r": r, "n": n}


STEPS = {
    IndRNNCell: ind_rnn,
    rk.cells.MinGRUCell: min_gru,
    rk.cells.MinLSTMCell: min_lstm,
    rk.cells.PeepholeLSTMCell: peephole_lstm,
    rk.cells.LayerNormSimpleRNNCell: norm_simple_rnn,
    rk.cells.LayerNormLSTMCell: norm_lstm,
    rk.cells.LayerNormGRUCell: norm_gru,
}


def weights_of(cell, dtype="float32"):
    """Weights for a built cell that leave no symmetry for a wrong order to hide in."""
    rng = np.random.default_rng(3)
    return [rng.normal(size=w.shape, scale=0.5).astype(dtype) + 0.1 for w in cell.weights]


def run(step, weights, x, states, mask=None):
    """Every state and gate, (batch, time, units), with masked steps holding; by NumPy.

    The step is `step(x_t, states, weights) -> (states, gates)`, or a kind of cell of `STEPS`.
    """
    step = STEPS.get(step, step)
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    found, gates = [], []
    for t in range(x.shape[1]):
        new, of_step = step(x[:, t], states, weights)
        states = [np.where(mask[:, t, None], a, b) for a, b in zip(new, states, strict=True)]
        found.append(states)
        gates.append(of_step)
    sequences = [np.stack(steps, axis=1) for steps in zip(*found, strict=True)]
    return sequences, {name: np.stack([g[name] for g in gates], 1) for name in gates[0]}


def sizes_of(kind):
    return [UNITS] * len(kind.state_names)


def layer_of(kind, library=rk, cell=None, dtype=None, around=lambda cell: cell, **options):
    """A built layer around a cell of this kind with weights for it, and the weights."""
    inner = kind(UNITS, **(cell or {}), dtype=dtype)
    layer = library.RNN(around(inner), dtype=dtype, **options)
    layer.build((5, 6, FEATURES))
    weights = weights_of(inner, "float64" if dtype == "float64" else "float32")
    layer.set_weights(weights)
    return layer, weights
