"""
Vanishing and exploding gradients, and what helps
=================================================

The first time step shows a value of one or minus one, and noise follows. After the last step the
model has to say which value it was. ``rk.gradient_flow`` measures how much of a gradient each layer
carries back to the first step. Then come four remedies, each with the accuracy that a model reaches
by it: orthogonal weights, a GRU whose update gate starts open, a shorter window, and, where the
gradient explodes, clipping.

::

    python examples/gradient_flow.py
    python examples/gradient_flow.py --steps 100 --epochs 20
"""

import dataclasses
import textwrap
import warnings
from pathlib import Path

import keras
import numpy as np

import keras_rnnkit as rk

# %%
# Settings
# --------

STEPS = 50  # time steps to remember over
WINDOW = 10  # time steps of the shorter window
UNITS = 32  # of each layer
SEQUENCES = 1024  # to train on
EPOCHS = 6  # of training
OUTPUT = "results"  # the folder for the figures

# sphinx_gallery_start_ignore
try:
    import command_line
except ModuleNotFoundError:  # a copy of this file alone has its settings
    pass
else:
    command_line.change(globals(), quick={"EPOCHS": 5})
# sphinx_gallery_end_ignore
folder = Path(OUTPUT)
folder.mkdir(parents=True, exist_ok=True)

# %%
# The task
# --------


def make_data(sequences, steps, seed):
    """Noise and a mark, ``(sequences, steps, 2)``; whether the value at the mark was 1."""
    rng = np.random.default_rng(seed)
    value = rng.choice([-1.0, 1.0], size=sequences)
    x = np.zeros((sequences, steps, 2), "float32")
    x[..., 0] = rng.normal(size=(sequences, steps))
    x[:, 0] = np.stack([value, np.ones(sequences)], axis=1)
    return x, (value > 0).astype("float32")[:, None]


# %%
# One run measures the gradient at the initial weights, then trains. ``factor`` is how much of the
# gradient is left from one step to the one before, and ``half-life`` how many steps halve it. A
# ``RecurrentMonitor`` watches the training and stops it at the first NaN. The accuracy is that on
# sequences that training has not seen; a guess has 50 %.


def run(name, layer, steps=STEPS, optimizer=None, prepare=None):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((steps, 2)), layer, keras.layers.Dense(1)])
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],
    )
    if prepare:
        prepare(layer)
    x, y = make_data(SEQUENCES, steps, seed=1)
    validation = make_data(512, steps, seed=2)
    flow = rk.gradient_flow(model, x[:64], y[:64], batch_size=64, progress=False)
    monitor = rk.RecurrentMonitor(x[:64], y[:64], batch_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it is printed below
        history = model.fit(
            x, y, epochs=EPOCHS, batch_size=64, validation_data=validation,
            callbacks=[monitor], verbose=0,
        ).history  # fmt: skip
    (measured,) = flow.layers.values()
    print(
        f"{name:32}{steps:6}{measured.factor:8.3f}{measured.half_life:11.1f}  "
        f"{measured.verdict:10}{history['val_accuracy'][-1]:10.0%}"
    )
    if monitor.message:
        print(textwrap.indent(textwrap.fill(monitor.message, 78), "    "))
    return dataclasses.replace(measured, layer=name)


def draw(flows, title, path):
    # Every loss starts near that of a guess, log 2.
    axes = rk.plot.gradient_flow(
        rk.inspection.GradientFlow({flow.layer: flow for flow in flows}, 0.69)
    )
    axes[0].set_title(title, fontsize="medium")
    axes[0].figure.savefig(path, dpi=110)


# %%
# Vanishing
# ---------
# With none of these initial weights does the gradient reach over 50 steps, not even with the gates
# of an LSTM or a GRU. In so short a training none learns more than a guess.

small = keras.initializers.RandomNormal(stddev=0.05, seed=1)
print(f"{'start':32}{'steps':>6}{'factor':>8}{'half-life':>11}  {'verdict':10}{'accuracy':>10}")
starts = [
    run("SimpleRNN, small weights", rk.SimpleRNN(UNITS, recurrent_initializer=small)),
    run("LSTM", rk.LSTM(UNITS)),
    run("GRU", rk.GRU(UNITS)),
]
draw(starts, "Before training: how much gets back", folder / "gradient_starts.png")

# %%
# What helps
# ----------
# Orthogonal recurrent weights (Keras's default) keep the length of what they multiply. A bias of 3
# keeps 95 % of a GRU's state at each step, since z = sigmoid(3). Over a shorter window less is
# lost. The verdict is about the gradient alone: less than a hundredth of it may be enough to learn
# from, as the first and the last of the three show.


def open_gate(layer):
    kernel, recurrent_kernel, bias = layer.get_weights()
    bias[0, :UNITS] = 3.0
    layer.set_weights([kernel, recurrent_kernel, bias])


helped = [
    run("SimpleRNN, orthogonal weights", rk.SimpleRNN(UNITS)),
    run("GRU, gate open", rk.GRU(UNITS), prepare=open_gate),
    run("GRU, shorter window", rk.GRU(UNITS), steps=WINDOW),
]

# %%
# Exploding
# ---------
# These weights lengthen what they multiply by a tenth at each step, and the loss is NaN within an
# epoch. With the gradient clipped, the same initial weights train.

growing = keras.initializers.Orthogonal(1.1, seed=1)
for name, clipnorm in (("growing weights", None), ("growing weights, clipped", 0.1)):
    layer = rk.SimpleRNN(UNITS, activation="linear", recurrent_initializer=growing)
    explodes = run(name, layer, optimizer=keras.optimizers.SGD(0.1, clipnorm=clipnorm))
draw([*helped, explodes], "What helps, and what explodes", folder / "gradient_helped.png")
