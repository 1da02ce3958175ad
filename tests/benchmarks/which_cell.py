"""Which cell: four questions put to the same cells, with three seeds each.

    python tests/benchmarks/which_cell.py --weather ETTh1.csv --reviews imdb_train20k_val5k.tar.gz

- **adding**: two of `T` numbers are marked, and their sum is asked for. How many training steps
  until the error on 500 other samples is below 0.01? Guessing the mean has 0.167.
- **characters**: the next character of film reviews, in bits, on reviews left out.
- **weather**: the oil temperature 24 hours on from the last four days, mean absolute error in
  degrees, on the last fifth of the record.
- **seconds**: processor time of a training step by the number of time steps, all in one process
  and in turns.

Every figure is the median of the seeds, with the lowest and the highest. `--minutes` is what the
adding problem may take; a cell that has no time left there is left out, and the table says so.
"""

import argparse
import os
import sys
import tarfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from cells import measure
from turns import load, machine

import keras_rnnkit as rk

SEEDS = (0, 1, 2)
QUESTIONS = ("seconds", "weather", "characters", "adding")
CELLS = {
    "SimpleRNN": lambda units, **options: rk.SimpleRNN(units, **options),
    "GRU": lambda units, **options: rk.GRU(units, **options),
    "LSTM": lambda units, **options: rk.LSTM(units, **options),
    "LayerNormLSTM": lambda units, **options: rk.RNN(rk.cells.LayerNormLSTMCell(units), **options),
    "MinGRU": lambda units, **options: rk.RNN(rk.cells.MinGRUCell(units), **options),
    "MinLSTM": lambda units, **options: rk.RNN(rk.cells.MinLSTMCell(units), **options),
}
NAMES = [*CELLS, "MinGRU, two layers"]
FOR_ADDING = ["SimpleRNN", "MinGRU", "MinGRU, two layers", "GRU", "LSTM"]
MOST = {100: 1500, 400: 1000, 1000: 1000}  # training steps at each length of the adding problem


def layers_for(name, units, **options):
    """The recurrent layers of a name; of two, the lower one hands on every step."""
    kind, *several = name.split(", ")
    lower = [CELLS[kind](units, return_sequences=True)] if several else []
    return [*lower, CELLS[kind](units, **options)]


def spread(values, digits):
    """The median, and the lowest and the highest in brackets; infinite is never."""
    shown = ["never" if np.isinf(v) else f"{v:,.{digits}f}" for v in sorted(values)]
    if len(set(shown)) == 1:
        return shown[0]
    return f"{shown[len(shown) // 2]} ({shown[0]} to {shown[-1]})"


def adding(length, batch, seed):
    rng = np.random.default_rng(seed)
    x = np.zeros((batch, length, 2), "float32")
    x[..., 0] = rng.random((batch, length))
    first, second = rng.integers(0, length // 2, batch), rng.integers(length // 2, length, batch)
    rows = np.arange(batch)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, x[rows, first, :1] + x[rows, second, :1]


def solve(name, length, seed, most, deadline):
    """Training steps until it is solved, infinite after `most`, None where time is up."""
    keras.utils.set_random_seed(seed)
    layers = [*layers_for(name, 32), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((length, 2)), *layers])
    model.compile(keras.optimizers.Adam(5e-3, clipnorm=1), "mse")
    held_out = adding(length, 500, 10**6)
    for step in range(0, most, 50):
        if time.monotonic() > deadline:
            return None
        x, y = adding(length, 50 * 32, 1000 * seed + step)
        model.fit(x, y, batch_size=32, verbose=0, shuffle=False)
        if model.evaluate(*held_out, batch_size=250, verbose=0) < 0.01:
            return step + 50
    return np.inf


def report_adding(names, most, minutes):
    print("\n## adding: training steps until solved\n")
    print("32 units, 32 samples a step, Adam at 0.005\n")
    heads = (f"{length} time steps, at most {steps:,}" for length, steps in most.items())
    print("| cell | " + " | ".join(heads) + " |")
    print("| --- |" + " ---: |" * len(most))
    end = time.monotonic() + 60 * minutes
    rows = {name: [] for name in names}
    for at, length in enumerate(most):
        share = time.monotonic() + (end - time.monotonic()) / (len(most) - at)
        for index, name in enumerate(names):
            deadline = time.monotonic() + (share - time.monotonic()) / (len(names) - index)
            found = [solve(name, length, seed, most[length], deadline) for seed in SEEDS]
            known = [each for each in found if each is not None]
            cell = spread(known, 0) if known else "no time"
            rows[name].append(cell + (f", {len(known)} seeds" if 0 < len(known) < 3 else ""))
            print(f"{name}, {length} time steps: {found}", file=sys.stderr, flush=True)
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def text_of(archive, characters):
    """Lower-case reviews, one after the other, in letters and the commonest signs."""
    kept = "abcdefghijklmnopqrstuvwxyz .,'!?-\n"
    found, size = [], 0
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile() and member.name.endswith(".txt") and "train" in member.name:
                text = packed.extractfile(member).read().decode("utf-8").lower()
                text = text.replace("<br />", " ")
                found.append("".join(c for c in text if c in kept) + "\n")
                size += len(found[-1])
            if size > characters:
                break
    return np.array([kept.index(c) for c in "".join(found)[:characters]]), len(kept)


def bits(name, codes, size, seed):
    keras.utils.set_random_seed(seed)
    length = 100
    count = (len(codes) - 1) // length
    x = codes[: count * length].reshape(count, length)
    y = codes[1 : count * length + 1].reshape(count, length)
    cut = count * 9 // 10
    model = keras.Sequential([
        keras.Input((length,), dtype="int32"),
        keras.layers.Embedding(size, 32),
        *layers_for(name, 64, return_sequences=True),
        keras.layers.Dense(size, activation="softmax"),
    ])  # fmt: skip
    model.compile(keras.optimizers.Adam(5e-3, clipnorm=1), "sparse_categorical_crossentropy")
    model.fit(x[:cut], y[:cut], batch_size=64, epochs=4, verbose=0)
    return model.evaluate(x[cut:], y[cut:], batch_size=256, verbose=0) / np.log(2)


def report_characters(names, archive):
    codes, size = text_of(archive, 300_000)
    train = np.bincount(codes, minlength=size) / len(codes)
    order_0 = -(train[train > 0] * np.log2(train[train > 0])).sum()
    print("\n## characters: bits a character on reviews left out\n")
    print(f"{len(codes):,} characters, {size} kinds, 64 units, windows of 100, 4 epochs; by their ")
    print(f"frequencies alone {order_0:.2f} bits\n")
    print("| cell | bits |\n| --- | ---: |")
    for name in names:
        print(f"| {name} | {spread([bits(name, codes, size, s) for s in SEEDS], 3)} |", flush=True)


def hourly(path):
    """Series and parts, a scaler of the training part, and windows of four days for the next."""
    series = rk.read_csv(path)
    train, _, test = parts = rk.split(series, train=0.7, val=0.1)
    spec = rk.WindowSpec(96, delay=24, targets=["OT"])
    return parts, rk.Scaler().fit(train), spec, test


def degrees(name, parts, scaler, spec, seed):
    """Mean absolute error of three epochs' training on the test part."""
    keras.utils.set_random_seed(seed)
    options = {"batch_size": 128, "scaler": scaler, "squeeze": True}
    train = rk.window_dataset(parts[0], spec, shuffle=True, seed=seed, **options)
    test = rk.window_dataset(parts[2], spec, **options)
    layers = [*layers_for(name, 32), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input(train.element_spec[0].shape[1:]), *layers])
    model.compile(keras.optimizers.Adam(3e-3, clipnorm=1), "mae")
    model.fit(train, epochs=3, shuffle=False, verbose=0)
    found = model.predict(test, verbose=0).ravel()
    wanted = np.concatenate([y for _, y in test.as_numpy_iterator()]).ravel()
    found, wanted = (scaler.inverse_transform(each, "OT") for each in (found, wanted))
    return np.abs(found - wanted).mean()


def report_weather(names, path):
    parts, scaler, spec, test = hourly(path)
    windows = rk.window_dataset(test, spec, batch_size=512, squeeze=True)
    column = list(test.names).index("OT")
    pairs = [(x[:, -1, column], y) for x, y in windows.as_numpy_iterator()]
    last = np.mean(np.concatenate([np.abs(x - np.ravel(y)) for x, y in pairs]))
    print("\n## weather: mean absolute error 24 hours on, in degrees\n")
    print(f"96 hours of 7 columns, 32 units, 3 epochs; the value now has {last:.2f}\n")
    print("| cell | degrees |\n| --- | ---: |")
    for name in names:
        found = [degrees(name, parts, scaler, spec, seed) for seed in SEEDS]
        print(f"| {name} | {spread(found, 2)} |", flush=True)


def report_seconds(names):
    print("\n## seconds: milliseconds of a training step, 32 samples, 16 features, 32 units\n")
    lengths = (100, 400, 1000, 4000)
    print("| cell | " + " | ".join(f"{length} time steps" for length in lengths) + " |")
    print("| --- |" + " ---: |" * len(lengths))
    rows = {}
    for length in lengths:
        layers = {name: layers_for(name, 32)[-1] for name in names}
        stepped = rk.cells.MinGRUCell(32)
        layers["MinGRU, step by step"] = keras.layers.RNN(stepped)
        seconds = measure(layers, (32, length, 16, 32), 7)
        for name in layers:
            middle = 1e3 * np.median(seconds[name, "step"])
            rows.setdefault(name, []).append(f"{middle:.1f}")
    for name, found in rows.items():
        print(f"| {name} | {' | '.join(found)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weather", help="ETTh1.csv")
    parser.add_argument("--reviews", help="an archive of the reviews")
    parser.add_argument("--minutes", type=float, default=12, help="of the adding problem")
    parser.add_argument("--only", nargs="*", default=QUESTIONS, choices=QUESTIONS)
    parser.add_argument("--lengths", nargs="*", type=int, default=list(MOST), choices=list(MOST))
    arguments = parser.parse_args()
    packages = ("keras", keras.backend.backend(), "numpy")
    print(f"{machine(*packages)}, backend {keras.backend.backend()}, {load()}")
    chosen = arguments.only
    if "seconds" in chosen:
        report_seconds(list(CELLS))
    if "weather" in chosen and arguments.weather:
        report_weather(NAMES, arguments.weather)
    if "characters" in chosen and arguments.reviews:
        report_characters(NAMES, arguments.reviews)
    if "adding" in chosen:
        most = {length: MOST[length] for length in arguments.lengths}
        report_adding(FOR_ADDING, most, arguments.minutes)
    print(f"\n{load()}")


if __name__ == "__main__":
    main()
