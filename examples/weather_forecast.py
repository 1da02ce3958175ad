"""
Forecast the weather
====================

A GRU forecasts the temperature 24 hours ahead, from a CSV file or from synthetic weather, next to
two common-sense baselines. On the command line each setting is an option::

    python examples/weather_forecast.py
    python examples/weather_forecast.py --csv jena_climate_2009_2016.csv
    python examples/weather_forecast.py --csv ETTh1.csv --time date --target OT
"""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import keras_rnnkit as rk

# %%
# Settings
# --------
# Name a file of your own here, and the column to forecast. Durations are written as in pandas.

CSV = None  # a CSV file with a column of times; without one, the weather is synthetic
TIME = None  # the column of times, where it is not the only one of dates
TARGET = "T (degC)"  # the column to forecast
LOOKBACK = "5D"  # how far the GRU looks back
STEP = "1h"  # from one time step that it reads to the next
AHEAD = "24h"  # how far it looks ahead
UNITS = 32  # of the GRU
DAYS = 730  # of synthetic weather
EPOCHS = 12  # at most
SEED = 0  # of weights and order
OUTPUT = "results"  # the folder for figures, the model and the scaler

# sphinx_gallery_start_ignore
try:
    import command_line
except ModuleNotFoundError:  # a copy of this file alone has its settings
    pass
else:
    command_line.change(globals(), quick={"DAYS": 365, "EPOCHS": 4, "UNITS": 16})
# sphinx_gallery_end_ignore
keras.utils.set_random_seed(SEED)
folder = Path(OUTPUT)
folder.mkdir(parents=True, exist_ok=True)

# %%
# Data
# ----
# Weather stations write -9999 where they have no value, and some rows twice.

if CSV is None:
    print("Data: SYNTHETIC weather, made by a formula. For a file of yours set CSV (--csv FILE).\n")
    series = rk.datasets.synthetic_weather(days=DAYS)
else:
    series = rk.read_csv(CSV, time=TIME, na_values=[-9999], sort=True, duplicates="first")
print(series)

# %%
# The parts follow each other in time, and the scaler knows the training part alone.

train, val, test = rk.split(series, train=0.7, val=0.15)
scaler = rk.Scaler().fit(train)

# %%
# Windows
# -------
# A window has the last five days, one row an hour. Its target is the temperature a day after its
# last row. ``window_report`` counts the windows of each part, and why others are left out.


def rows(duration):
    """A duration in rows of the series, at least one."""
    return max(1, round(pd.Timedelta(duration) / pd.Timedelta(series.freq)))


spec = rk.WindowSpec(
    rows(LOOKBACK), step=rows(STEP), delay=rows(AHEAD), stride=2 * rows(STEP), targets=[TARGET]
)
options = {"batch_size": 64, "scaler": scaler, "squeeze": True}
print(rk.window_report((parts := rk.data.Split(train, val, test)), spec, **options))

# %%
# Model
# -----
# The GRU predicts how far the target will move from its last value. It begins as persistence,
# because its last layer begins at zero. Beside each value it reads the difference from the last
# value of the window, so that what it learns about changes holds at other levels too.

names = spec.roles(series.names).features
column = names.index(TARGET)
window = keras.Input((spec.length, len(names)))
now = window[:, -1:, :]
hidden = keras.layers.Concatenate()([window, window - now])
hidden = rk.GRU(UNITS, dropout=0.2, name="gru")(hidden)
change = keras.layers.Dense(1, kernel_initializer="zeros")(hidden)
model = keras.Model(window, now[:, 0, column : column + 1] + change)
model.compile(keras.optimizers.Adam(3e-3), "mae")

history = model.fit(
    rk.window_dataset(train, spec, shuffle=True, seed=SEED, **options),
    validation_data=rk.window_dataset(val, spec, **options),
    epochs=EPOCHS,
    callbacks=[keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)],
    shuffle=False,  # the dataset shuffles itself
    verbose=2,
)

# %%
# Is it better than common sense?
# -------------------------------
# Persistence forecasts that the temperature stays as it is. The other baseline forecasts the
# temperature at the same hour of the last known day. A day ahead, both are the same forecast. A
# model that does not beat them has learned nothing of use.


def compare(part, model, scaler):
    """The truth, the baselines and the forecast of each window of a part, in the file's units."""
    index = [index for *_, index in rk.window_dataset(part, spec, return_index=True)]
    last = np.concatenate([each["input_row"] for each in index])
    ahead = np.concatenate([each["target_rows"][:, 0] for each in index])
    forecast = model.predict(rk.window_dataset(part, spec, **options), verbose=0)[:, 0]
    value = series[TARGET]
    found = {"truth": value[ahead], "persistence": value[last]}
    day = rows("1D")
    back = -spec.delay % day
    if back < spec.lookback:
        found["same hour, last day"] = value[last - back]
    found["GRU"] = scaler.inverse_transform(forecast, TARGET)
    return found if series.time is None else {"time": series.time[ahead], **found}


def error(found, name):
    return np.abs(found[name] - found["truth"]).mean()


results = {name: compare(part, model, scaler) for name, part in parts._asdict().items()}
unit = TARGET[TARGET.find("(") + 1 : -1] if TARGET.endswith(")") else f"units of {TARGET}"
print(f"{f'MAE in {unit}':<22}" + "".join(f"{part:>9}" for part in results))
for name in results["test"]:
    if name not in ("time", "truth"):
        errors = (error(found, name) for found in results.values())
        print(f"{name:<22}" + "".join(f"{each:9.3f}" for each in errors))
gain = 1 - error(results["test"], "GRU") / error(results["test"], "persistence")
print(f"On the test part the GRU is {gain:.0%} better than persistence.")

# %%
# Figures
# -------
# The loss of each epoch, in the units of the target, and the last two weeks of the test part.

scale = scaler.scale[0, scaler.columns.index(TARGET)]
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
level = error(results["val"], "persistence")
axes.axhline(level, color="#56B4E9", ls=":", label="persistence, validation")
losses = {name: np.multiply(values, scale) for name, values in history.history.items()}
rk.plot.history(losses, "loss", ax=axes)
axes.set(ylabel=f"MAE ({unit})", title="Loss")
figure.savefig(folder / "loss.png", dpi=110)

# %%

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
shown = {name: results["test"][name] for name in ("time", "truth", "GRU", "persistence")}
rk.plot.forecast(shown, last=168, ax=axes)
axes.set(ylabel=TARGET, title=f"{AHEAD} ahead: the last two weeks of the test part")
figure.savefig(folder / "forecast.png", dpi=110)

# %%
# Saved and reloaded
# ------------------
# A forecast in a new process needs the model and the scaler.

model.save(folder / "model.keras")
scaler.save(folder / "scaler.json")
reloaded = keras.models.load_model(folder / "model.keras"), rk.Scaler.load(folder / "scaler.json")
again = compare(test, *reloaded)["GRU"]
np.testing.assert_allclose(again, results["test"]["GRU"], rtol=1e-4, atol=1e-4)
print(f"Saved and reloaded: the same forecasts. See {OUTPUT}/.")
