"""
Forecast the weather
====================

A GRU forecasts the temperature 24 hours ahead, from a CSV file or from made-up weather, next to two
common-sense baselines::

    python examples/weather_forecast.py
    python examples/weather_forecast.py --csv jena_climate_2009_2016.csv
    python examples/weather_forecast.py --csv ETTh1.csv --time date --target OT

Durations are a number and d, h or min ("5d", "24h", "10min"), or a number of rows ("120").
"""

import argparse
import re
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

UNITS = {"d": np.timedelta64(1, "D"), "h": np.timedelta64(1, "h"), "min": np.timedelta64(1, "m")}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--csv", type=Path, help="a CSV file with a column of times (default: made-up weather)")
    add("--time", nargs="+", help="column of times, or columns (default: the one of dates)")
    add("--time-format", help="strptime format of the times, where it is not a usual one")
    add("--freq", help="time from row to row; 'rows': none is missing (default: the commonest)")
    add("--target", default="T (degC)", help="column to forecast (default: %(default)s)")
    add("--columns", nargs="+", help="columns to forecast from (default: all)")
    add("--lookback", default="5d", help="duration the GRU looks back (default: %(default)s)")
    add("--step", default="1h", help="duration between two rows it reads (default: %(default)s)")
    add("--ahead", default="24h", help="duration to look ahead (default: %(default)s)")
    add("--batch-size", type=int, default=256, help="windows in a batch (default: %(default)s)")
    add("--units", type=int, default=32, help="width of the GRU (default: %(default)s)")
    add("--epochs", type=int, default=20, help="epochs at most (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    add("--quick", action="store_true", help="a short run that shows that everything works")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs = min(arguments.epochs, 2)
    if arguments.columns and arguments.target not in arguments.columns:
        arguments.columns.append(arguments.target)
    return arguments


def read(arguments):
    if arguments.csv is None:
        print("Data: SYNTHETIC weather, made up and measured nowhere. Yours: --csv FILE.\n")
        return rk.synthetic_weather(days=90 if arguments.quick else 730)
    print(f"Data: {arguments.csv}\n")
    # Weather stations write -9999 where they have no value, and some rows twice.
    series = rk.read_csv(
        arguments.csv,
        time=arguments.time,
        time_format=arguments.time_format,
        freq=arguments.freq,
        names=arguments.columns,
        missing=[-9999],
        sort=True,
        duplicates="first",
    )
    if series.time is None:
        raise SystemExit(f"{arguments.csv} has no column of dates: name one with --time.")
    return series


def count_rows(name, duration, freq):
    """A duration such as "24h" in rows, at least one; a bare number is rows already."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(d|h|min)?", duration)
    if match is None:
        raise SystemExit(f"--{name}: expected a duration such as 5d, 24h or 10min: {duration!r}")
    if match[2] is None:
        return max(1, int(match[1]))
    if not isinstance(freq, np.timedelta64) or np.datetime_data(freq.dtype)[0] in "MY":
        raise SystemExit(f"--{name}: pass a number of rows; the rows are {freq} apart.")
    exact = float(match[1]) * (UNITS[match[2]] / freq)
    rows = max(1, round(exact))
    if rows != exact:
        print(f"Note: {name} {duration} is not a number of whole rows; taking {rows}.")
    return rows


def choose_windows(arguments, series, train):
    series.columns([arguments.target], what="--target")
    step, lookback, ahead = (
        count_rows(name, getattr(arguments, name), series.freq)
        for name in ("step", "lookback", "ahead")
    )
    # Half of the training rows at least shall remain as targets.
    longest = int(np.diff(train.target_rows).sum()) // 2 - ahead
    if longest < step:
        raise SystemExit(
            f"{len(series):,} rows are too few to look {arguments.ahead} ahead: shorten --ahead."
        )
    if lookback > longest:
        lookback = longest
        print(f"Note: the record is short; looking back {lookback:,} rows, not more.")
    # Windows that start between two steps would differ little from their neighbours.
    return rk.WindowSpec(
        lookback,
        step=step,
        delay=ahead,
        stride=step,
        features=arguments.columns,
        targets=[arguments.target],
    )


def build_model(spec, names, units):
    """A GRU that predicts how far the target will have moved from its last value.

    It starts from persistence, as its last layer starts at zero, and learns what to add. It sees
    each value, and how far that is from the last one of the window, so that what it learns about
    changes still holds at a level that it has not seen in training.
    """
    window = keras.Input((spec.length, len(names)))
    now = window[:, -1:, :]
    hidden = keras.layers.Concatenate()([window, window - now])
    hidden = keras.layers.GRU(units, dropout=0.2)(hidden)
    change = keras.layers.Dense(1, kernel_initializer="zeros")(hidden)
    target = names.index(spec.targets[0])
    return keras.Model(window, now[:, 0, target : target + 1] + change)


def train_model(model, train, val, spec, scaler, arguments):
    options = {"batch_size": arguments.batch_size, "scaler": scaler, "squeeze": True}
    model.compile("adam", "mae")
    stop = keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)
    history = model.fit(
        rk.window_dataset(train, spec, shuffle=True, seed=arguments.seed, **options),
        validation_data=rk.window_dataset(val, spec, **options),
        epochs=arguments.epochs,
        callbacks=[stop],
        shuffle=False,  # the dataset shuffles itself
        verbose=2,
    )
    return history.history


def predict(model, part, spec, scaler):
    """The forecast of every window of a part in the units of the file, `(windows,)`."""
    windows = rk.window_dataset(part, spec, batch_size=1024, scaler=scaler)
    forecast = model.predict(windows, verbose=0)
    return scaler.inverse_transform(forecast[:, 0], spec.targets[0])


def find_rows(part, spec):
    """The last input row and the target row of every window of a part, `(windows,)` each."""
    windows = rk.window_dataset(part, spec, batch_size=1024, return_index=True)
    rows = [(index["input_row"], index["target_rows"][:, 0]) for _, _, index in windows]
    return (np.concatenate(column) for column in zip(*rows, strict=True))


def rows_to_same_hour(series, spec):
    """Rows from the last input row back to the target's hour of the day; None without one."""
    if (
        not isinstance(series.freq, np.timedelta64)
        or np.datetime_data(series.freq.dtype)[0] in "MY"
    ):
        return None
    day = UNITS["d"] / series.freq
    back = -spec.delay % day
    return int(back) if day.is_integer() and back <= spec.last_input else None


def compare(model, series, parts, spec, scaler):
    """The truth and each forecast of each part: `{part: {name: (windows,)}}`."""
    column = series[spec.targets[0]]
    back = rows_to_same_hour(series, spec)
    results = {}
    for name, part in parts.items():
        last, ahead = find_rows(part, spec)
        results[name] = {"time": series.time[ahead], "truth": column[ahead]}
        results[name]["persistence"] = column[last]
        if back is not None:
            results[name]["same hour, last day"] = column[last - back]
        results[name]["GRU"] = predict(model, part, spec, scaler)
    return results


def print_table(results, unit, same_hour_is_last):
    names = [name for name in results["test"] if name not in ("time", "truth")]
    print(f"\n{f'MAE in {unit}':<22}" + "".join(f"{part:>9}" for part in results))
    for name in names:
        errors = [np.abs(part[name] - part["truth"]).mean() for part in results.values()]
        print(f"{name:<22}" + "".join(f"{error:9.3f}" for error in errors))
    print(f"{'windows':<22}" + "".join(f"{len(part['truth']):9,}" for part in results.values()))
    if same_hour_is_last:
        print("The last value is itself one of the same hour, so the two baselines coincide.")


def draw_loss(history, scale, persistence, unit, path):
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.axhline(persistence, color="#56B4E9", ls=":", label="persistence, validation")
    scaled = {name: np.multiply(values, scale) for name, values in history.items()}
    rk.plot.history(scaled, "loss", ax=axes)
    axes.set(ylabel=f"MAE ({unit})", title="Loss")
    figure.savefig(path, dpi=110)


def draw_forecast(test, target, ahead, source, path):
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    shown = {name: test[name] for name in ("time", "truth", "GRU", "persistence")}
    rk.plot.forecast(shown, last=336, ax=axes)  # two weeks of hours
    axes.set(ylabel=target, title=f"{target}, {ahead} ahead: the end of the test part ({source})")
    figure.savefig(path, dpi=110)


def show_same_after_reload(forecast, test, spec, folder):
    model = keras.models.load_model(folder / "model.keras")
    scaler = rk.Scaler.load(folder / "scaler.json")
    again = predict(model, test, spec, scaler)
    np.testing.assert_allclose(again, forecast, rtol=1e-4, atol=1e-4)
    difference = np.abs(again - forecast).max()
    print(f"Saved and reloaded: the same forecasts (largest difference {difference:.1e}).")


def main():
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)

    series = read(arguments)
    print(series, "\n")
    train, val, test = rk.split(series, train=0.7, val=0.15)
    scaler = rk.Scaler().fit(train)
    spec = choose_windows(arguments, series, train)
    names = spec.roles(series.names).features
    model = build_model(spec, names, arguments.units)
    history = train_model(model, train, val, spec, scaler, arguments)

    parts = {"train": train, "val": val, "test": test}
    results = compare(model, series, parts, spec, scaler)
    in_brackets = re.search(r"\((.+)\)$", arguments.target)
    unit = in_brackets[1] if in_brackets else f"units of {arguments.target}"
    print_table(results, unit, rows_to_same_hour(series, spec) == 0)

    scale = scaler.scale[0, scaler.columns.index(arguments.target)]
    persistence = np.abs(results["val"]["persistence"] - results["val"]["truth"]).mean()
    draw_loss(history, scale, persistence, unit, arguments.output / "loss.png")
    source = arguments.csv.name if arguments.csv else "synthetic weather"
    path = arguments.output / "forecast.png"
    draw_forecast(results["test"], arguments.target, arguments.ahead, source, path)

    model.save(arguments.output / "model.keras")
    scaler.save(arguments.output / "scaler.json")
    show_same_after_reload(results["test"]["GRU"], test, spec, arguments.output)
    print(f"See {arguments.output}/: forecast.png, loss.png, model.keras, scaler.json.")


if __name__ == "__main__":
    main()
