"""
Where the gradient dies, and what helps
=======================================

A value of one or minus one comes with the first step, then noise; which it was is asked after the
last step. SimpleRNN, LSTM and GRU start on this task, and ``rk.gradient_flow`` tells how much of
a gradient each carries back to the first step. Then what helps, each beside what the model learns
with it: an orthogonal start, a GRU whose gate starts open, a shorter window, and, where the
gradient explodes instead, clipping.

::

    python examples/gradient_flow.py
    python examples/gradient_flow.py --steps 100 --epochs 20
"""

import argparse
import dataclasses
import warnings
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

UNITS = 32
SMALL = keras.initializers.RandomNormal(stddev=0.05, seed=1)
GROWING = keras.initializers.Orthogonal(1.1, seed=1)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=int, default=50, help="steps to remember over (default: %(default)s)")
    add("--window", type=int, default=20, help="steps of the short window (default: %(default)s)")
    add("--sequences", type=int, default=2048, help="to train on (default: %(default)s)")
    add("--epochs", type=int, default=10, help="of training (default: %(default)s)")
    add("--quick", action="store_true", help="a short run that shows that everything works")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs, arguments.sequences = 1, 256
    return arguments


def make_data(sequences, steps, seed):
    """Noise and a mark, `(sequences, steps, 2)`; whether the value at the mark was 1."""
    rng = np.random.default_rng(seed)
    value = rng.choice([-1.0, 1.0], size=sequences)
    x = np.zeros((sequences, steps, 2), "float32")
    x[..., 0] = rng.normal(size=(sequences, steps))
    x[:, 0] = np.stack([value, np.ones(sequences)], axis=1)
    return x, (value > 0).astype("float32")[:, None]


def build(layer, steps, optimizer):
    model = keras.Sequential([keras.Input((steps, 2)), layer, keras.layers.Dense(1)])
    model.compile(
        optimizer,
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],
    )
    return model


def open_gate(layer):
    """Let the update gate keep 95 % of the state at first: z = sigmoid(3)."""
    kernel, recurrent_kernel, bias = layer.get_weights()
    bias[0, : layer.units] = 3.0
    layer.set_weights([kernel, recurrent_kernel, bias])


def run(name, layer, arguments, steps=None, optimizer=None, prepare=None):
    """Measure a start, then train from it: its flow, and the accuracy on sequences not seen."""
    steps = steps or arguments.steps
    keras.utils.set_random_seed(1)
    model = build(layer, steps, optimizer or keras.optimizers.Adam(3e-3))
    if prepare:
        prepare(layer)
    x, y = make_data(arguments.sequences, steps, seed=1)
    validation = make_data(512, steps, seed=2)
    flow = rk.gradient_flow(model, x[:64], y[:64], batch_size=64)
    monitor = rk.RecurrentMonitor(x[:64], y[:64], batch_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # printed below
        history = model.fit(
            x,
            y,
            batch_size=64,
            epochs=arguments.epochs,
            validation_data=validation,
            callbacks=[monitor],
            verbose=0,
        ).history
    (measured,) = flow.layers.values()
    accuracy, loss = history["val_accuracy"][-1], history["loss"][-1]
    print(
        f"{name:32}{steps:6}{measured.factor:8.3f}{measured.half_life:11.1f}  "
        f"{measured.verdict:10}{loss:8.3f}{accuracy:10.0%}",
        flush=True,
    )
    if monitor.message:
        print(f"    {monitor.message}")
    return dataclasses.replace(measured, layer=name)


def draw(flows, loss, title, path):
    flow = rk.GradientFlow({each.layer: each for each in flows}, loss)
    axes = rk.plot.gradient_flow(flow)
    axes[0].set_title(title, fontsize="medium")
    axes[0].figure.savefig(path, dpi=110)


def main():
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    head = f"{'start':32}{'steps':>6}{'factor':>8}{'half-life':>11}  {'verdict':10}"
    print(f"{head}{'loss':>8}{'accuracy':>10}")

    starts = [
        run(
            "SimpleRNN, small weights", rk.SimpleRNN(UNITS, recurrent_initializer=SMALL), arguments
        ),
        run("LSTM", rk.LSTM(UNITS), arguments),
        run("GRU", rk.GRU(UNITS), arguments),
    ]
    helped = [
        run("SimpleRNN, orthogonal weights", rk.SimpleRNN(UNITS), arguments),
        run("GRU, gate open", rk.GRU(UNITS), arguments, prepare=open_gate),
        run("GRU, shorter window", rk.GRU(UNITS), arguments, steps=arguments.window),
    ]
    for name, clipnorm in (("growing weights", None), ("growing weights, clipped", 0.1)):
        layer = rk.SimpleRNN(UNITS, activation="linear", recurrent_initializer=GROWING)
        optimizer = keras.optimizers.SGD(0.1, clipnorm=clipnorm)
        growing = run(name, layer, arguments, optimizer=optimizer)

    # Every loss starts near that of a guess.
    guess = float(np.log(2))
    path = arguments.output
    draw(starts, guess, "Before training: how much gets back", path / "gradient_starts.png")
    draw([*helped, growing], guess, "What helps, and what explodes", path / "gradient_helped.png")
    print(f"\nSee {arguments.output}/: gradient_starts.png, gradient_helped.png.")
    if "agg" not in plt.get_backend().lower():
        plt.show()


if __name__ == "__main__":
    main()
