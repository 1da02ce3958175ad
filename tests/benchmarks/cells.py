"""Cells against each other, in the same run: a forward pass and a training step.

    python tests/benchmarks/cells.py --rounds 21
    KERAS_BACKEND=jax python tests/benchmarks/cells.py --rounds 21
    KERAS_BACKEND=torch python tests/benchmarks/cells.py --rounds 21 --only own

A cell of one's own on `rk.Cell` in `rk.RNN` against the same equations by hand in
`keras.layers.RNN`, that layer against itself, and MinGRU, all steps at once and one by one, against
our GRU. Each round runs every layer once, in an order drawn anew. A figure is the median over the
rounds of the ratio of the processor time in that round, with the half of the rounds around it.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops
from recurrent import calls_for
from turns import load, machine, spread

import keras_rnnkit as rk

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")


class IndRNNCell(rk.Cell):
    state_names = ("h",)
    gate_names = ("n",)

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight((self.units,), "uniform", name="recurrent")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def step(self, x, states, training=False):
        n = ops.relu(ops.matmul(x, self.kernel) + self.recurrent * states[0] + self.bias)
        return [n], [n]


class IndRNNByHand(keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    build = IndRNNCell.build

    def call(self, x, states):
        n = ops.relu(ops.matmul(x, self.kernel) + self.recurrent * states[0] + self.bias)
        return n, [n]


class GatedCell(rk.Cell):
    """Two states and three gates, with a product of the state: as dear as a GRU."""

    state_names = ("h", "c")
    gate_names = ("f", "g", "o")

    def build(self, input_shape):
        width = 3 * self.units
        self.kernel = self.add_weight((input_shape[-1], width), name="kernel")
        self.recurrent = self.add_weight((self.units, width), "orthogonal", name="recurrent")
        self.bias = self.add_weight((width,), "zeros", name="bias")

    def step(self, x, states, training=False):
        gates, states = gated(self, x, states)
        return gates, states


class GatedByHand(IndRNNByHand):
    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = [units, units]
        self.output_size = units

    build = GatedCell.build

    def call(self, x, states):
        _, states = gated(self, x, states)
        return states[0], states


def gated(cell, x, states):
    h, c = states
    sums = ops.matmul(x, cell.kernel) + ops.matmul(h, cell.recurrent) + cell.bias
    f, g, o = ops.split(sums, 3, axis=-1)
    f, g, o = ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
    c = f * c + (1 - f) * g
    return [f, g, o], [o * ops.tanh(c), c]


def own(size):
    units = size[-1]
    for kind, by_hand in ((IndRNNCell, IndRNNByHand), (GatedCell, GatedByHand)):
        yield {
            f"{kind.__name__} by hand, keras.layers.RNN": keras.layers.RNN(by_hand(units)),
            "the same again": keras.layers.RNN(by_hand(units)),
            "on rk.Cell, rk.RNN": rk.RNN(kind(units)),
            "on rk.Cell, keras.layers.RNN": keras.layers.RNN(kind(units)),
        }


def minimal(size):
    units = size[-1]
    options = {"return_sequences": True}
    at_once = rk.RNN(rk.cells.MinGRUCell(units), **options)
    yield {
        "rk.GRU": rk.GRU(units, **options),
        "the same again": rk.GRU(units, **options),
        "rk.LSTM": rk.LSTM(units, **options),
        "MinGRU, all steps at once": at_once,
        "MinLSTM, all steps at once": rk.RNN(rk.cells.MinLSTMCell(units), **options),
        "MinGRU, step by step": keras.layers.RNN(rk.cells.MinGRUCell(units), **options),
    }


PARTS = {
    "own": ("A cell of one's own", own, [(32, 100, 14, 32), (64, 100, 64, 128)]),
    "linear": ("Linear in its state", minimal, [(64, 1000, 32, 32)]),
}


def measure(layers, size, rounds):
    """Processor seconds by layer and call: {(name, call): [one a round]}."""
    batch, steps, features, _ = size
    rng = np.random.default_rng(0)
    x = ops.convert_to_tensor(rng.normal(size=(batch, steps, features)).astype("float32"))
    calls = {}
    for name, layer in layers.items():
        layer.build(x.shape)
        forward, step, wait = calls_for(layer, x, None)
        calls[name, "forward"], calls[name, "step"] = (forward, wait), (step, wait)
    seconds = {key: [] for key in calls}
    for warm_up_then_measure in range(-2, rounds):
        for index in rng.permutation(len(calls)):
            key, (call, wait) = list(calls.items())[index]
            start = time.process_time()
            wait(call())
            if warm_up_then_measure >= 0:
                seconds[key].append(time.process_time() - start)
    return seconds


def report(title, size, seconds):
    first = next(iter(seconds))[0]
    print(f"\n{title}, {', '.join(map(str, size))}: batch, time steps, features, units\n")
    print("| layer | forward, ms | step, ms | forward, ratio | step, ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in dict.fromkeys(name for name, _ in seconds):
        row = [name]
        row += [f"{1e3 * np.median(seconds[name, call]):.1f}" for call in ("forward", "step")]
        for call in ("forward", "step"):
            row.append(spread(np.array(seconds[name, call]) / np.array(seconds[first, call])))
        print(f"| {' | '.join(row)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    print(f"{machine(*PACKAGES)}, backend {keras.backend.backend()}, {load()}")
    for title, made, sizes in (PARTS[part] for part in arguments.only):
        for size in sizes:
            for layers in made(size):
                report(title, size, measure(layers, size, arguments.rounds))
    print(f"\n{load()}")


if __name__ == "__main__":
    main()
