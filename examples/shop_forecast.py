"""
Forecast a panel of shops
=========================

One GRU forecasts the next two weeks of every shop: a static id goes to an ``Embedding``, promotions
and the weekday are known ahead, and shops that opened days ago are trained and forecast with the
others, by windows that begin before their record does::

    python examples/shop_forecast.py
    python examples/shop_forecast.py --csv sales.csv --time day --group shop --target sales \
        --known promo

A file has a row for each shop and day. The rows to come have no sales yet; they hold what is known
ahead, for two weeks behind the last day. It needs pandas.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

HORIZON = 14


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--csv", type=Path, help="a CSV file (default: generated shops)")
    add("--time", default="day", help="column of days (default: %(default)s)")
    add("--group", default="shop", help="column that tells the shops apart (default: %(default)s)")
    add("--target", default="sales", help="column to forecast (default: %(default)s)")
    add("--known", nargs="*", default=["promo"], help="columns known ahead (default: promo)")
    add("--lookback", type=int, default=28, help="days to look back (default: %(default)s)")
    add("--epochs", type=int, default=30, help="epochs at most (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    add("--quick", action="store_true", help="a short run that shows that everything works")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs = min(arguments.epochs, 2)
    return arguments


def generate_shops(shops):
    """GENERATED shops, of which every third has opened within the last five weeks."""
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


def read(arguments):
    """All rows: those that have been, and those to come."""
    if arguments.csv is None:
        print("Data: GENERATED shops, which sell nowhere. Yours: --csv FILE.\n")
        return generate_shops(12 if arguments.quick else 60)
    print(f"Data: {arguments.csv}\n")
    names = [arguments.target, *arguments.known]
    return rk.read_csv(
        arguments.csv, time=arguments.time, group=arguments.group, names=names, sort=True
    )


def rows_that_have_been(table, target):
    """The rows up to the last one of each shop that has a value of the target."""
    known = np.append(np.isfinite(table[target]), False)
    lasts = [
        start + np.flatnonzero(known[start:stop]).max(initial=-1)
        for start, stop in zip(table.bounds[:-1], table.bounds[1:], strict=True)
    ]
    kept = np.arange(len(table)) <= np.repeat(lasts, np.diff(table.bounds))
    return rk.TimeSeries(
        table.values[kept],
        names=table.names,
        time=table.time[kept],
        group=np.array(table.groups)[table.group_of(np.flatnonzero(kept))],
        freq=table.freq,
    )


def add_columns(series, target, ids):
    """Sales on a logarithmic scale, on which shops of any size are alike, weekday and id."""
    codes = dict(zip(series.groups, ids.encode(series.groups).tolist(), strict=True))
    return series.with_columns(
        {"log": np.log1p(series[target]), **rk.calendar("weekday"), "id": codes}
    )


def build_model(spec, ids):
    known, features = len(spec.known), len(spec.features)
    past = keras.Input((spec.length, features), name="past")
    mask = keras.Input((spec.length,), dtype="bool", name="mask")
    ahead = keras.Input((HORIZON, known), name="known")
    shop = keras.Input((1,), dtype="int32", name="static_categories")
    state = rk.GRU(48)(past, mask=mask)
    state = keras.layers.Concatenate()([state, keras.layers.Embedding(ids.size, 4)(shop[:, 0])])
    steps = keras.layers.Concatenate()([keras.layers.RepeatVector(HORIZON)(state), ahead])
    steps = rk.GRU(48, return_sequences=True)(steps)
    inputs = {"past": past, "mask": mask, "known": ahead, "static_categories": shop}
    model = keras.Model(inputs, keras.layers.Dense(1)(steps))
    model.compile(keras.optimizers.Adam(3e-3), "mae")
    return model


def compare(model, val, spec, options, target):
    """The mean absolute error of the last two weeks, of the model and of a week before."""
    windows = rk.window_dataset(val, spec, **options, return_index=True)
    index = [parts[-1] for parts in windows]
    last = np.concatenate([part["input_row"] for part in index])
    rows = np.concatenate([part["target_rows"] for part in index])
    plain = rk.window_dataset(val, spec, **options)
    frame = rk.to_frame(
        model.predict(plain, verbose=0), val, spec, scaler=options["scaler"], backend="pandas"
    )
    forecast = np.expm1(frame["prediction"].to_numpy()).reshape(rows.shape)
    truth = val[target][rows]
    before = rows - 7 * (1 + (rows - last[:, None] - 1) // 7)  # the weekday, in the last week seen
    first = val.bounds[val.group_of(last)][:, None]
    naive = val[target][np.where(before >= first, before, last[:, None])]
    short = (last[:, None] - first < spec.length - 1)[:, 0]
    print(f"{'MAE of the last 14 days':<26}{'long':>9}{'short':>9}   history")
    for name, values in (("same weekday, last week", naive), ("GRU", forecast)):
        error = np.abs(values - truth).mean(axis=1)
        parts = [error[part].mean() if part.any() else np.nan for part in (~short, short)]
        print(f"{name:<26}" + "".join(f"{value:9.2f}" for value in parts))
    print(f"{'shops':<26}{(~short).sum():9d}{short.sum():9d}\n")


def draw(series, frame, target, path):
    """The last days of a few shops and their forecasts."""
    groups = list(series.groups)[:6]
    figure, axes = plt.subplots(2, 3, figsize=(11, 5), layout="constrained", sharex=True)
    for label, axis in zip(groups, axes.flat, strict=False):
        at = list(series.groups).index(label)
        rows = slice(max(series.bounds[at], series.bounds[at + 1] - 56), series.bounds[at + 1])
        axis.plot(series.time[rows], series[target][rows], color="#999999", label="sold")
        own = frame[frame["group"] == label]
        axis.plot(own["time"], own[target], color="#0072B2", label="forecast")
        axis.set_title(str(label))
        axis.tick_params(axis="x", rotation=30)
    axes.flat[0].legend()
    figure.savefig(path, dpi=110)


def main():
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    target = arguments.target

    table = read(arguments)
    series = rows_that_have_been(table, target)
    end = series.time.max() + np.timedelta64(1, "D")
    train, val, _ = rk.split(series, train=str(end - np.timedelta64(HORIZON, "D")), val=str(end))
    seen = {series.groups[at] for at in series.group_of(train.target_rows[:, 0])}
    ids = rk.Categories().fit(sorted(seen))  # a shop that opened later is unseen
    series, train, val = (add_columns(part, target, ids) for part in (series, train, val))
    print(series, "\n")

    known = [*arguments.known, *rk.calendar("weekday")]
    spec = rk.WindowSpec(
        arguments.lookback,
        horizon=HORIZON,
        pad=arguments.lookback - 2,
        pad_targets=HORIZON - 1,
        features=["log", *known],
        targets=["log"],
        known=known,
        static=["id"],
        categories=["id"],
    )
    print(rk.describe(train, spec), "\n")
    options = {"scaler": rk.Scaler(names=["log"]).fit(train), "batch_size": 64}
    model = build_model(spec, ids)
    windows = rk.window_dataset(train, spec, shuffle=True, seed=arguments.seed, **options)
    model.fit(windows, epochs=arguments.epochs, shuffle=False, verbose=2)
    compare(model, val, replace(spec, pad_targets=0), options, target)

    # The forecast: three lines.
    ahead, newest = rk.forecast_windows(series, spec, known=table)
    forecast = model.predict(rk.window_dataset(ahead, newest, **options), verbose=0)
    frame = rk.to_frame(
        forecast, ahead, newest, scaler=options["scaler"], targets=["log"], backend="pandas"
    )
    frame[target] = np.expm1(frame["prediction"])
    frame = frame[["group", "time", target]]
    frame.to_csv(arguments.output / "forecast.csv", index=False)
    draw(series, frame, target, arguments.output / "forecast.png")
    ids.save(arguments.output / "ids.json")
    model.save(arguments.output / "model.keras")
    print(frame.head(3).to_string(index=False))
    print(f"See {arguments.output}/: forecast.csv, forecast.png, ids.json, model.keras.")


if __name__ == "__main__":
    main()
