"""
The loss of twenty digits
=========================

A GRU of Keras 2 with ``recurrent_dropout`` could report a training loss of twenty digits while its
validation loss looked sane. Dropout multiplied the state by 0 or 1 / (1 - p), as it must on the way
into the gates, but the same product was also what the update gate kept: each step multiplied a unit
by up to 1 / (1 - p), and 240 steps with p = 0.2 make that 1.8e23. Here the old formula is written
out as a cell of a few lines, beside ``rk.GRU``, where dropout acts on the way into the gates alone.

::

    python examples/recurrent_dropout.py
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

UNITS = 32
# Okabe and Ito's colours, which colour-blind readers can tell apart.
OLD, NEW, BOUND = "#D55E00", "#0072B2", "#777777"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=int, default=240, help="of a sequence (default: %(default)s)")
    add("--rate", type=float, default=0.2, help="of recurrent dropout (default: %(default)s)")
    add("--epochs", type=int, default=3, help="of training (default: %(default)s)")
    add("--sequences", type=int, default=1024, help="to train on (default: %(default)s)")
    add("--quick", action="store_true", help="a short run that shows that everything works")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs, arguments.sequences = 1, 128
    return arguments


@keras.saving.register_keras_serializable(package="examples")
class OldGRUCell(keras.layers.GRUCell):
    """Keras 2's formula: the dropped state h * m goes into the gates, and is what z keeps.

    h' = z * (h * m) + (1 - z) * n, where m is 0 or 1 / (1 - p), the same at every step.
    """

    def call(self, inputs, states, training=False):
        h = states[0] if isinstance(states, (list, tuple)) else states
        if training:
            masks = self.get_recurrent_dropout_mask(h)
            h = h * (masks[0] if isinstance(masks, list) else masks)
        return super().call(inputs, [h], training=False)


def layers(rate):
    """The old layer and ours, with the same weights once built."""
    cell = OldGRUCell(UNITS, recurrent_dropout=rate, seed=1)
    old = keras.layers.RNN(cell, return_sequences=True, name="old")
    return old, rk.GRU(UNITS, recurrent_dropout=rate, return_sequences=True, seed=1, name="ours")


def make_data(sequences, steps, seed):
    """Slow noise, `(sequences, steps, 1)`, and its next value."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(sequences, steps + 1))
    for t in range(1, steps + 1):
        noise[:, t] = 0.9 * noise[:, t - 1] + 0.44 * noise[:, t]
    series = noise.astype("float32")
    return series[:, :-1, None], series[:, -1:]


def largest_states(layer, x):
    """The largest state at each step of a training pass, `(time,)`."""
    h = keras.ops.convert_to_numpy(layer(x, training=True))
    return np.abs(h).max(axis=(0, 2))


def train(layer, arguments):
    """Losses of an epoch with dropout, and of validation without."""
    last = keras.layers.Lambda(lambda h: h[:, -1])
    model = keras.Sequential(
        [keras.Input((arguments.steps, 1)), layer, last, keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.RMSprop(1e-3), "mae")
    history = model.fit(
        *make_data(arguments.sequences, arguments.steps, seed=1),
        batch_size=128,
        epochs=arguments.epochs,
        validation_data=make_data(256, arguments.steps, seed=2),
        verbose=0,
    ).history
    return history["loss"], history["val_loss"]


def draw(states, rate, path):
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    steps = np.arange(1, len(states["old"]) + 1)
    bound = (1 - rate) ** -steps.astype(float)
    label = f"1 / (1 - {rate:g}) to the power of the step"
    axes.plot(steps, bound, color=BOUND, ls=":", label=label)
    axes.plot(steps, states["old"], color=OLD, ls="--", lw=1.8, label="Keras 2's formula")
    axes.plot(steps, states["ours"], color=NEW, lw=1.8, label="rk.GRU")
    axes.set(yscale="log", xlabel="time step", ylabel="largest |h|")
    axes.set_title("A state under recurrent dropout, its update gate open", fontsize="medium")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main():
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(1)
    old, ours = layers(arguments.rate)
    x, _ = make_data(64, arguments.steps, seed=3)
    for layer in (old, ours):
        layer.build(x.shape)
    # A unit that remembers: its update gate is open, z = sigmoid(8), nearly 1.
    start = old.get_weights()
    opened = [weight.copy() for weight in start]
    opened[2][0, :UNITS] = 8.0
    for layer in (old, ours):
        layer.set_weights(opened)
    states = {"old": largest_states(old, x), "ours": largest_states(ours, x)}
    for layer in (old, ours):
        layer.set_weights(start)
    growth = (1 - arguments.rate) ** -arguments.steps
    print(f"1 / (1 - {arguments.rate:g}) to the power of {arguments.steps}: {growth:.1e}")
    for name, largest in states.items():
        print(f"{name:5} largest |h| after {arguments.steps} steps, gate open: {largest[-1]:.3g}")

    print(f"\n{'MAE':5} {'epoch':>6} {'training':>24} {'validation':>12}")
    for name, layer in (("old", old), ("ours", ours)):
        for epoch, (loss, validation) in enumerate(zip(*train(layer, arguments), strict=True)):
            print(f"{name:5} {epoch + 1:6} {loss:24,.3f} {validation:12.3f}")
    draw(states, arguments.rate, arguments.output / "recurrent_dropout.png")
    print(f"\nSee {arguments.output}/: recurrent_dropout.png.")


if __name__ == "__main__":
    main()
