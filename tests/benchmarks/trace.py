"""What trace costs beside the plain forward pass of the same model, in the same run.

    python tests/benchmarks/trace.py --rounds 11

Two figures for each size: one batch, both calls compiled, results left where they were made; and a
whole call of `trace` over 16 batches, compilation and copies to NumPy included, beside a whole
`predict` of the same rows by the same model, compiled anew as well. Each is the median over the
rounds of the ratio in that round, by wall clock.
"""

import argparse
import os
import platform
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_rnnkit.inspection.trace import Tracer
from keras_rnnkit.recurrent import kernels

SIZES = [(128, 240, 14, 32), (32, 200, 100, 32), (64, 100, 64, 128)]
CELLS = ["SimpleRNN", "LSTM", "GRU"]


def model_of(cell, size):
    """A plain Keras model with one recurrent layer that hands on its last output."""
    _, steps, features, units = size
    layer = getattr(keras.layers, cell)(units)
    return keras.Sequential([keras.Input((steps, features)), layer])


def wait(results):
    """Return when a backend that computes ahead has computed."""
    for tensor in keras.tree.flatten(results):
        if hasattr(tensor, "block_until_ready"):
            tensor.block_until_ready()


def ratios(plain, traced, rounds):
    """Milliseconds of the plain call, and the ratio in each round after one that warms up."""
    seconds = {plain: [], traced: []}
    for _ in range(rounds + 1):
        for call in np.random.default_rng(0).permutation([plain, traced]):
            start = time.perf_counter()
            wait(call())
            seconds[call].append(time.perf_counter() - start)
    base, other = (np.array(seconds[call][1:]) for call in (plain, traced))
    return 1e3 * np.median(base), np.median(other / base)


def one_batch(model, x, rounds):
    """The compiled forward pass beside the compiled pass of `trace`."""
    variables = model.variables
    tracer = Tracer(model, x, len(x))
    values = [keras.ops.convert_to_tensor(variable) for variable in variables]
    tensor = keras.ops.convert_to_tensor(x)

    def call(values, x):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return model(x, training=False)

    forward = kernels.current().compiled(call)
    run = tracer._run
    return ratios(lambda: forward(values, tensor), lambda: run(values, tensor, None), rounds)


def whole_call(model, x, batch, rounds):
    """`predict` by a new copy of the model beside `trace`."""

    def predict():
        copy = keras.models.clone_model(model)
        return copy.predict(x, batch_size=batch, verbose=0)

    def trace():
        return list(Tracer(model, x, batch)(x, None, batch, False))

    return ratios(predict, trace, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--cells", nargs="*", default=CELLS, choices=CELLS)
    parser.add_argument("--batches", type=int, default=16, help="in a whole call")
    arguments = parser.parse_args()
    backend = keras.backend.backend()
    version = __import__(backend).__version__
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end=""
    )
    print(f"Keras {keras.__version__}, {backend} {version}, {arguments.rounds} rounds\n")
    print("| cell | batch, steps, features, units | forward, ms | trace | predict, ms | trace |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for size in SIZES:
        for cell in arguments.cells:
            keras.utils.set_random_seed(0)
            model = model_of(cell, size)
            batch, steps, features, _ = size
            rng = np.random.default_rng(0)
            x = rng.normal(size=(batch * arguments.batches, steps, features)).astype("float32")
            base, ratio = one_batch(model, x[:batch], arguments.rounds)
            whole, times = whole_call(model, x, batch, 3)
            where = ", ".join(map(str, size))
            row = f"{base:.1f} | {ratio:.2f} | {whole:.0f} | {times:.2f}"
            print(f"| {cell} | {where} | {row} |", flush=True)


if __name__ == "__main__":
    main()
