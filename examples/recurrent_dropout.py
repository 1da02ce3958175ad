"""
The loss of twenty digits
=========================

A GRU of Keras 2 with ``recurrent_dropout`` could report a training loss of twenty digits while its
validation loss looked sane. Here the old formula is written out as a cell of a few lines, beside
``rk.GRU``, where dropout acts on the way into the gates alone.

::

    python examples/recurrent_dropout.py --steps 120
"""

from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

# %%
# Settings
# --------

STEPS = 240  # of a sequence
RATE = 0.2  # of recurrent dropout
UNITS = 32  # of the GRU
SEQUENCES = 512  # to train on
EPOCHS = 3  # of training
OUTPUT = "results"  # the folder for the figure

# sphinx_gallery_start_ignore
try:
    import command_line
except ModuleNotFoundError:  # a copy of this file alone has its settings
    pass
else:
    command_line.change(globals(), quick={"SEQUENCES": 256, "EPOCHS": 2})
# sphinx_gallery_end_ignore
keras.utils.set_random_seed(1)
folder = Path(OUTPUT)
folder.mkdir(parents=True, exist_ok=True)

# %%
# The old formula
# ---------------
# Dropout multiplied the state by 0 or 1 / (1 - p), as it must on the way into the gates. But the
# same product was also what the update gate kept: h' = z (h m) + (1 - z) n, with one mask m for all
# steps. Each step multiplied a unit by up to 1 / (1 - p).


@keras.saving.register_keras_serializable(package="examples")
class OldGRUCell(keras.layers.GRUCell):
    def call(self, inputs, states, training=False):
        h = states[0] if isinstance(states, (list, tuple)) else states
        if training:
            masks = self.get_recurrent_dropout_mask(h)
            h = h * (masks[0] if isinstance(masks, list) else masks)
        return super().call(inputs, [h], training=False)


growth = (1 - RATE) ** -STEPS
print(f"1 / (1 - {RATE:g}) to the power of {STEPS}: {growth:.1e}")

# %%
# Both layers begin with the same weights, and with an update gate that keeps 95 % of the state at
# each step, z = sigmoid(3), as that of a GRU that has learned to remember.

old = keras.layers.RNN(
    OldGRUCell(UNITS, recurrent_dropout=RATE, seed=1), return_sequences=True, name="old"
)
ours = rk.GRU(UNITS, recurrent_dropout=RATE, return_sequences=True, seed=1, name="ours")
for layer in (old, ours):
    layer.build((None, STEPS, 1))
start = old.get_weights()
start[2][0, :UNITS] = 3.0
for layer in (old, ours):
    layer.set_weights(start)

# %%
# The state
# ---------
# The largest state at each step of a training pass. With the old formula it grows without bound;
# the dotted line is what the formula allows.


def slow_noise(sequences, seed):
    """Slow noise, ``(sequences, steps, 1)``, and its next value."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(sequences, STEPS + 1))
    for t in range(1, STEPS + 1):
        noise[:, t] = 0.9 * noise[:, t - 1] + 0.44 * noise[:, t]
    noise = noise.astype("float32")
    return noise[:, :-1, None], noise[:, -1:]


x, _ = slow_noise(64, seed=3)
largest = {}
for layer in (old, ours):
    h = keras.ops.convert_to_numpy(layer(x, training=True))
    largest[layer.name] = np.abs(h).max(axis=(0, 2))
    print(f"{layer.name:5} largest |h| after {STEPS} steps: {largest[layer.name][-1]:.3g}")

figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
steps = np.arange(1, STEPS + 1)
bound = (1 - RATE) ** -steps.astype(float)
axes.plot(
    steps, bound, color="#777777", ls=":", label=f"1 / (1 - {RATE:g}) to the power of the step"
)
axes.plot(steps, largest["old"], color="#D55E00", ls="--", lw=1.8, label="Keras 2's formula")
axes.plot(steps, largest["ours"], color="#0072B2", lw=1.8, label="rk.GRU")
axes.set(yscale="log", xlabel="time step", ylabel="largest |h|")
axes.set_title("A state under recurrent dropout, its update gate open", fontsize="medium")
axes.legend(fontsize="small")
figure.savefig(folder / "recurrent_dropout.png", dpi=110)

# %%
# The loss
# --------
# Training has dropout, validation has none. So the old formula shows a training loss of twenty
# digits beside a validation loss that looks sane, and its weights do not learn from such gradients:
# to guess the mean has a validation loss of 0.8. ``rk.GRU`` learns under the same dropout.


def train(layer):
    """Losses of training, with dropout, and of validation, without dropout."""
    last = keras.layers.Lambda(lambda h: h[:, -1])
    model = keras.Sequential([keras.Input((STEPS, 1)), layer, last, keras.layers.Dense(1)])
    model.compile(keras.optimizers.RMSprop(0.01), "mae")
    data, validation = slow_noise(SEQUENCES, seed=1), slow_noise(256, seed=2)
    history = model.fit(
        *data, batch_size=16, epochs=EPOCHS, validation_data=validation, verbose=0
    ).history
    return zip(history["loss"], history["val_loss"], strict=True)


print(f"{'MAE':5} {'epoch':>6} {'training':>32} {'validation':>12}")
for layer in (old, ours):
    for epoch, (loss, validation) in enumerate(train(layer), 1):
        print(f"{layer.name:5} {epoch:6} {loss:32,.3f} {validation:12.3f}")
