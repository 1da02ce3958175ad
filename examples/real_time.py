"""
Real time
=========

A GRU is trained on windows of weather and then used on a stream, one row at a time. Each row that
arrives gives a forecast of the next one. Calling the model on the last window again would repeat
the work of all its rows.

::

    python examples/real_time.py --days 120
"""

import time
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

# %%
# Settings
# --------

DAYS = 60  # of weather, a row every ten minutes
WINDOW = 144  # rows of a window: a day
UNITS = 16  # of the GRU
EPOCHS = 3  # of training
STREAM = 300  # rows that arrive one by one
OUTPUT = "results"  # the folder for the figure and the models

# sphinx_gallery_start_ignore
try:
    import command_line
except ModuleNotFoundError:  # a copy of this file alone has its settings
    pass
else:
    command_line.change(globals(), quick={"DAYS": 30, "EPOCHS": 2, "STREAM": 200})
# sphinx_gallery_end_ignore
keras.utils.set_random_seed(0)
folder = Path(OUTPUT)
folder.mkdir(parents=True, exist_ok=True)
TARGET = "T (degC)"

# %%
# Train on windows
# ----------------
# The scaling is part of the model, which takes and returns real units, so that the exported model
# needs no scaler beside it. The model forecasts by how much the temperature will change.

weather = rk.datasets.synthetic_weather(days=DAYS)
train, _, test = rk.split(weather, train=0.8)
scaler = rk.Scaler().fit(train)
spec = rk.WindowSpec(WINDOW, stride=6, targets=[TARGET])
windows = rk.window_dataset(train, spec, batch_size=64, shuffle=True, seed=0)

names = list(weather.names)
rows = keras.Input((None, len(names)), name="weather")
scaled = scaler.as_layer(names)(rows)
hidden = rk.GRU(UNITS, return_sequences=True, name="gru")(scaled)
each = keras.layers.Dense(1, name="change")(hidden)
now = rows[..., names.index(TARGET) : names.index(TARGET) + 1]
forecasts = keras.layers.Add(name="temperature")([now, each])
model = keras.Model(rows, forecasts)
last = keras.Model(rows, forecasts[:, -1])
last.compile(keras.optimizers.Adam(0.003), "mae")
history = last.fit(windows, epochs=EPOCHS, shuffle=False, verbose=0)
print(f"mean absolute error in training: {history.history['loss'][-1]:.3f} degC")

# %%
# A model of one row
# ------------------
# Its inputs are one row and the states, its outputs the forecast and the new states.

step = rk.step_model(model, batch_size=1)
print("in: ", [tensor.name for tensor in step.inputs])
print("out:", sorted(step.output))
step.save(folder / "step.keras")

# %%
# For a small device
# ------------------
# TFLite runs it with its built-in operations alone. ONNX takes one line, ``step.export("step.onnx",
# format="onnx")``, and needs ``tf2onnx``. The guide on real time shows how to run each.

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    step.export(folder / "step", format="tf_saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "step"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content = converter.convert()
    (folder / "step.tflite").write_bytes(content)
    print(f"step.tflite: {len(content):,} bytes")

# %%
# A stream, with a gap
# --------------------
# ``warm_up`` reads the first window at once. After a gap, more than ten minutes between two rows,
# the states are out of date. So they are reset, and there is no forecast until as many rows have
# arrived as a training window has.

first = test.target_rows[0, 0]
stream_rows = weather.values[first : first + WINDOW + STREAM].astype("float32")
times = weather.time[first : first + WINDOW + STREAM]
keep = np.ones(len(times), bool)
keep[WINDOW + 20 : WINDOW + 30] = False  # a sensor that was silent
stream_rows, times = stream_rows[keep], times[keep]

stream = rk.Stream(model)
stream.warm_up(stream_rows[None, :WINDOW])
seen, found = WINDOW, []
for before, at, row in zip(times[WINDOW - 1 :], times[WINDOW:], stream_rows[WINDOW:], strict=False):
    if at - before > np.timedelta64(10, "m"):
        print(f"a gap before {at}: the states go back to the start")
        stream.reset()
        seen = 0
    seen += 1
    value = stream(row[None]).item()
    found.append(value if seen >= WINDOW else np.nan)
found = np.array(found)

# %%
# It agrees with the whole model
# ------------------------------
# Before the gap, the forecasts are those of the whole model on all rows so far.

before_gap = WINDOW + 20
whole = model.predict(stream_rows[None, :before_gap], verbose=0)[0, WINDOW:, 0]
print(f"largest difference: {np.abs(whole - found[:20]).max():.1e} degC")
assert np.allclose(whole, found[:20], atol=1e-3)

# %%
# What a forecast costs
# ---------------------
# One call of the step model, and one call of the whole model on the last window. TFLite and
# ``onnxruntime`` are quicker by far: the benchmarks have their figures.

window = stream_rows[None, :WINDOW]


def milliseconds(call, times=20):
    call()
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begun) / times * 1000


by_window = milliseconds(lambda: model.predict_on_batch(window))
by_step = milliseconds(lambda: stream(stream_rows[:1]))
print(f"the window again: {by_window:.2f} ms; one step: {by_step:.2f} ms")

# %%
# The forecasts
# -------------
# After the gap there is no forecast for a day.

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
shown = slice(WINDOW, WINDOW + len(found))
ax.plot(times[shown], stream_rows[shown, names.index(TARGET)], color="black", label="measured")
ax.plot(times[shown] + np.timedelta64(10, "m"), found, color="#D55E00", ls="--", label="forecast")
ax.set_ylabel(TARGET)
ax.legend(frameon=False)
figure.savefig(folder / "real_time.png", dpi=120)
