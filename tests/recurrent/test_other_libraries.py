"""Weights of TensorFlow Addons' cells and haste's layers, by their equations and their order."""

import re
from pathlib import Path

import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.cases import arrays, inputs
from tests.reference import sigmoid

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "migration.md"
FEATURES, UNITS = 3, 4


def drawn(*shapes):
    rng = np.random.default_rng(7)
    return [rng.normal(size=shape, scale=0.5).astype("float32") for shape in shapes]


def normalized(z, gamma, beta):
    centred = z - z.mean(axis=-1, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3) + beta


def addons_layer_norm(x, h, c, kernel, recurrent_kernel, bias, *norms):
    z = normalized(x @ kernel, *norms[0:2]) + normalized(h @ recurrent_kernel, *norms[2:4]) + bias
    z0, z1, z2, z3 = np.split(z, 4, axis=1)
    c = sigmoid(z1) * c + sigmoid(z0) * np.tanh(z2)
    c = normalized(c, *norms[4:6])
    return sigmoid(z3) * np.tanh(c), c


def addons_peephole(x, h, c, kernel, recurrent_kernel, bias, at_input, at_forget, at_output):
    z0, z1, z2, z3 = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    i, f = sigmoid(z0 + at_input * c), sigmoid(z1 + at_forget * c)
    c = f * c + i * np.tanh(z2)
    return sigmoid(z3 + at_output * c) * np.tanh(c), c


def haste_lstm(x, h, c, kernel, bias, zoneout=0.25):
    i, g, f, o = np.split(np.concatenate([x, h], axis=1) @ kernel + bias, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return zoneout * h + (1 - zoneout) * sigmoid(o) * np.tanh(c), c


def haste_gru(x, h, _, kernel, bias, zoneout=0.25):
    W, R, bx, br = kernel[:FEATURES], kernel[FEATURES:], *np.split(bias, 2)
    (Wz, Wr, Wg), (Rz, Rr, Rg) = np.split(x @ W + bx, 3, axis=1), np.split(h @ R + br, 3, axis=1)
    z, r = sigmoid(Wz + Rz), sigmoid(Wr + Rr)
    new = z * h + (1 - z) * np.tanh(Wg + r * Rg)
    return zoneout * h + (1 - zoneout) * new, None


WIDE = 4 * UNITS
PLAIN = [(FEATURES, WIDE), (UNITS, WIDE), (WIDE,)]
NORMS = [(WIDE,)] * 4 + [(UNITS,)] * 2
CASES = {
    "Addons' layer norm": (rk.cells.LayerNormLSTMCell, addons_layer_norm, [*PLAIN, *NORMS], None),
    "Addons' peephole": (
        rk.cells.PeepholeLSTMCell, addons_peephole, [*PLAIN, *[(UNITS,)] * 3], None,
    ),
    "haste's LSTM": (
        lambda units: rk.cells.Zoneout(rk.LSTMCell(units), (0.25, 0)),
        haste_lstm, [(FEATURES + UNITS, WIDE), (WIDE,)], "from_haste_lstm",
    ),
    "haste's GRU": (
        lambda units: rk.cells.Zoneout(rk.GRUCell(units), 0.25),
        haste_gru, [(FEATURES + UNITS, 3 * UNITS), (6 * UNITS,)], "from_haste_gru",
    ),
}  # fmt: skip


def as_the_guide_shows(name, weights):
    """The guide's own function, so that what people copy is what is held here."""
    text = GUIDE.read_text(encoding="utf-8")
    code = re.search(rf"^def {name}\(.*?(?=^\S(?!ef ))", text, re.DOTALL | re.MULTILINE)[0]
    namespace = {"np": np}
    exec(code, namespace)
    return namespace[name](*weights)


@pytest.mark.parametrize("name", CASES)
def test_their_weights_give_their_outputs(name):
    make, equations, shapes, convert = CASES[name]
    weights, x = drawn(*shapes), inputs()
    layer = rk.RNN(make(UNITS), return_sequences=True)
    layer.build(x.shape)
    layer.set_weights(as_the_guide_shows(convert, weights) if convert else weights)
    h = c = np.zeros((len(x), UNITS))
    wanted = []
    for t in range(x.shape[1]):
        h, c = equations(x[:, t], h, c, *weights)
        wanted.append(h)
    np.testing.assert_allclose(arrays(layer(x))[0], np.stack(wanted, 1), rtol=1e-5, atol=2e-6)
