"""
Forecast a panel of shops
=========================

One model forecasts the next two weeks of every shop. The id of a shop is a static covariate and
goes to an ``Embedding``. Promotions and the weekday are known ahead. Shops that opened days ago are
trained and forecast with the others, by windows that begin before their record does::

    python examples/shop_forecast.py
    python examples/shop_forecast.py --csv sales.csv --time day --group shop --target sales \
        --known promo
"""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

# %%
# Settings
# --------
# A file has a row for each shop and day. The rows of the next two weeks have no sales yet; they
# hold what is known ahead.

CSV = None  # a CSV file; without one, the shops are generated
TIME = "day"  # its column of days
GROUP = "shop"  # its column that tells the shops apart
TARGET = "sales"  # the column to forecast
KNOWN = ["promo"]  # columns that are known ahead
SHOPS = 60  # so many are generated
HORIZON = 14  # days to forecast
LOOKBACK = 28  # days to look back
EPOCHS = 12  # of training
SEED = 0  # of weights and order
OUTPUT = "results"  # the folder for the forecast, the figure and the model

# sphinx_gallery_start_ignore
try:
    import command_line
except ModuleNotFoundError:  # a copy of this file alone has its settings
    pass
else:
    command_line.change(globals(), quick={"EPOCHS": 5, "SHOPS": 24})
# sphinx_gallery_end_ignore
keras.utils.set_random_seed(SEED)
folder = Path(OUTPUT)
folder.mkdir(parents=True, exist_ok=True)

# %%
# Data
# ----
# Of the generated shops, every third has opened within the last five weeks.


def generate_shops(shops):
    random = np.random.default_rng(0)
    last, parts = np.datetime64("2024-06-30"), []
    for number in range(shops):
        rows = int(random.integers(5, 35)) if number % 3 == 2 else 300
        days = last + np.arange(1 - rows, HORIZON + 1).astype("m8[D]")
        promo = random.random(len(days)) < 0.15
        weekday = 1 + 0.4 * np.sin(2 * np.pi * (days.astype(int) + number % 2) / 7)
        level = random.lognormal(4, 0.7) * (1 + 0.6 * promo) * weekday
        sales = np.round(level * random.lognormal(0, 0.1, len(days)))
        sales[days > last] = np.nan  # the days to come
        parts.append((np.repeat(f"shop {number:02d}", len(days)), days, sales, promo))
    group, time, sales, promo = (np.concatenate(column) for column in zip(*parts, strict=True))
    values = np.column_stack([sales, promo])
    return rk.TimeSeries(values, names=["sales", "promo"], time=time, group=group)


if CSV is None:
    print("Data: GENERATED shops. For a file of yours set CSV (--csv FILE).\n")
    table = generate_shops(SHOPS)
else:
    table = rk.read_csv(CSV, time=TIME, group=GROUP, names=[TARGET, *KNOWN], sort=True)
print(table)

# %%
# The past of a shop ends with its last row that has sales.

known = np.append(np.isfinite(table[TARGET]), False)
lasts = [
    start + np.flatnonzero(known[start:stop]).max(initial=-1)
    for start, stop in zip(table.bounds[:-1], table.bounds[1:], strict=True)
]
kept = np.arange(len(table)) <= np.repeat(lasts, np.diff(table.bounds))
series = rk.TimeSeries(
    table.values[kept],
    names=table.names,
    time=table.time[kept],
    group=np.array(table.groups)[table.group_of(np.flatnonzero(kept))],
    freq=table.freq,
)

# %%
# The last two weeks are the validation part. Sales are forecast on a logarithmic scale, on which
# shops of any size are alike. A shop that opened after the training part gets the id 0, for labels
# that were not seen.

end = series.time.max() + np.timedelta64(1, "D")
train, val, _ = rk.split(series, train=str(end - np.timedelta64(HORIZON, "D")), val=str(end))
seen = {series.groups[at] for at in series.group_of(train.target_rows[:, 0])}
ids = rk.data.Categories().fit(sorted(seen))


def add_columns(part):
    codes = dict(zip(part.groups, ids.encode(part.groups).tolist(), strict=True))
    return part.with_columns(
        {"log": np.log1p(part[TARGET]), **rk.data.calendar("weekday"), "id": codes},
        in_order=True,  # the logarithms are those of the part's own rows
    )


series, train, val = map(add_columns, (series, train, val))

# %%
# Windows
# -------
# Four weeks of the past, and two weeks of what is known ahead. ``pad`` lets a window begin before
# the record of a shop does, and ``pad_targets`` lets it end after the last day.

ahead = [*KNOWN, *rk.data.calendar("weekday")]
spec = rk.WindowSpec(
    LOOKBACK,
    horizon=HORIZON,
    pad=LOOKBACK - 2,
    pad_targets=HORIZON - 1,
    features=["log", *ahead],
    targets=["log"],
    known=ahead,
    static=["id"],
    categories=["id"],
)
scaler = rk.Scaler(names=["log"]).fit(train)
options = {"scaler": scaler, "batch_size": 64}
print(rk.window_report(train, spec, **options))

# %%
# Model
# -----
# One GRU reads the past. Its last state and the id of the shop are joined to each of the days
# ahead, over which a second GRU runs.

past = keras.Input((spec.length, len(spec.features)), name="past")
mask = keras.Input((spec.length,), dtype="bool", name="mask")
future = keras.Input((HORIZON, len(ahead)), name="known")
shop = keras.Input((1,), dtype="int32", name="static_categories")
state = rk.GRU(48)(past, mask=mask)
state = keras.layers.Concatenate()([state, keras.layers.Embedding(ids.size, 4)(shop[:, 0])])
steps = keras.layers.Concatenate()([keras.layers.RepeatVector(HORIZON)(state), future])
steps = rk.GRU(48, return_sequences=True)(steps)
inputs = {"past": past, "mask": mask, "known": future, "static_categories": shop}
model = keras.Model(inputs, keras.layers.Dense(1)(steps))
model.compile(keras.optimizers.Adam(3e-3), "mae")
windows = rk.window_dataset(train, spec, shuffle=True, seed=SEED, **options)
history = model.fit(windows, epochs=EPOCHS, shuffle=False, verbose=2)

# %%
# Is it better than last week?
# ----------------------------
# The baseline forecasts for each day what was sold on the same weekday of the last known week. The
# table has one column for shops with a long history and one for those with a short one.

whole = replace(spec, pad_targets=0)
index = [parts[-1] for parts in rk.window_dataset(val, whole, **options, return_index=True)]
last = np.concatenate([part["input_row"] for part in index])
rows = np.concatenate([part["target_rows"] for part in index])
forecast = model.predict(rk.window_dataset(val, whole, **options), verbose=0)
frame = rk.to_frame(forecast, val, whole, scaler=scaler, backend="pandas")
forecast = np.expm1(frame["prediction"].to_numpy()).reshape(rows.shape)
truth = val[TARGET][rows]
before = rows - 7 * (1 + (rows - last[:, None] - 1) // 7)
first = val.bounds[val.group_of(last)][:, None]
naive = val[TARGET][np.where(before >= first, before, last[:, None])]
short = (last[:, None] - first < spec.length - 1)[:, 0]
print(f"{'MAE of the last 14 days':<26}{'long':>9}{'short':>9}   history")
for name, values in (("same weekday, last week", naive), ("GRU", forecast)):
    error = np.abs(values - truth).mean(axis=1)
    parts = [error[part].mean() if part.any() else np.nan for part in (~short, short)]
    print(f"{name:<26}" + "".join(f"{value:9.2f}" for value in parts))
print(f"{'shops':<26}{(~short).sum():9d}{short.sum():9d}")

# %%
# The forecast
# ------------
# ``forecast_windows`` gives the window that ends with the last row of each shop. ``to_frame`` turns
# the forecasts into a table with shops and days.

newest, newest_spec = rk.forecast_windows(series, spec, known=table)
forecast = model.predict(rk.window_dataset(newest, newest_spec, **options), verbose=0)
frame = rk.to_frame(forecast, newest, newest_spec, scaler=scaler, targets=["log"], backend="pandas")
frame[TARGET] = np.expm1(frame["prediction"])
frame = frame[["group", "time", TARGET]]
frame.to_csv(folder / "forecast.csv", index=False)
ids.save(folder / "ids.json")
model.save(folder / "model.keras")
print(frame.head(3).to_string(index=False))

# %%

figure, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained", sharex=True)
for label, axis in zip(list(series.groups)[:6], axes.flat, strict=False):
    at = list(series.groups).index(label)
    shown = slice(max(series.bounds[at], series.bounds[at + 1] - 56), series.bounds[at + 1])
    axis.plot(series.time[shown], series[TARGET][shown], color="#999999", label="sold")
    own = frame[frame["group"] == label]
    axis.plot(own["time"], own[TARGET], color="#0072B2", label="forecast")
    axis.set_title(str(label))
    axis.tick_params(axis="x", rotation=30)
axes.flat[0].legend()
figure.savefig(folder / "forecast.png", dpi=110)
