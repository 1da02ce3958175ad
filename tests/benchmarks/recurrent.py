"""Our layers against Keras's, in the same run: a forward pass and a training step.

    python tests/benchmarks/recurrent.py --rounds 15

Each round times every layer once, in an order drawn anew, so that a slow moment of the machine
falls on all alike; the figure is the median over the rounds of the ratio to Keras's layer in that
round. Keras's layer is measured against itself too: what that ratio is off 1 is noise.
"""

import argparse
import os
import platform
import time
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_rnnkit as rk

SIZES = [(128, 240, 14, 32), (32, 200, 100, 32), (64, 100, 64, 128)]
CELLS = ["SimpleRNN", "LSTM", "GRU"]
VARIANTS = ["Keras", "Keras again", "ours", "ours, state sequences"]


def layer_for(variant, cell, units):
    """The layer of a variant; all return sequences, as a layer whose states are wanted does."""
    if variant.startswith("Keras"):
        return getattr(keras.layers, cell)(units, return_sequences=True)
    sequences = variant.endswith("sequences")
    return getattr(rk, cell)(units, return_sequences=True, return_state_sequences=sequences)


def calls_for(layer, x, mask, jit_compile=False):
    """A forward pass and a training step over the layer, compiled as the backend compiles.

    With `jit_compile` TensorFlow compiles by XLA. The third function waits for the device to have
    done what a call asked of it.
    """

    def loss(results):
        return sum(keras.ops.mean(y**2) for y in keras.tree.flatten(results))

    backend = keras.backend.backend()
    variables = layer.trainable_variables
    # As arguments: a compiler computes beforehand what depends on constants alone.
    given = (x, None if mask is None else keras.ops.convert_to_tensor(mask))
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=jit_compile)
        def forward(x, mask):
            return layer(x, mask=mask)

        @tf.function(jit_compile=jit_compile)
        def step(x, mask):
            with tf.GradientTape() as tape:
                value = loss(layer(x, mask=mask, training=True))
            return tape.gradient(value, [variable.value for variable in variables])

        def wait(result):
            tf.test.experimental.sync_devices()

        return partial(forward, *given), partial(step, *given), wait
    if backend == "jax":
        import jax

        def run(weights, training, x, mask):
            with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
                return layer(x, mask=mask, training=training)

        values = [variable.value for variable in variables]
        forward = jax.jit(lambda values, *given: run(values, False, *given))
        step = jax.jit(jax.grad(lambda values, *given: loss(run(values, True, *given))))
        return (
            partial(forward, values, *given),
            partial(step, values, *given),
            jax.block_until_ready,
        )
    import torch

    def forward(x, mask):
        with torch.no_grad():
            return layer(x, mask=mask)

    def step(x, mask):
        loss(layer(x, mask=mask, training=True)).backward()

    def wait(result):
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return partial(forward, *given), partial(step, *given), wait


def measure(cell, size, masked, rounds):
    """Seconds by variant and call: {(variant, call): [one a round]}."""
    batch, steps, features, units = size
    rng = np.random.default_rng(0)
    x = keras.ops.convert_to_tensor(rng.normal(size=(batch, steps, features)).astype("float32"))
    mask = np.arange(steps) < rng.integers(steps // 2, steps, (batch, 1)) if masked else None
    calls = {}
    for variant in VARIANTS:
        layer = layer_for(variant, cell, units)
        layer.build(x.shape)
        forward, step, wait = calls_for(layer, x, mask)
        calls[variant, "forward"], calls[variant, "step"] = (forward, wait), (step, wait)
    seconds = {key: [] for key in calls}
    for warm_up_then_measure in range(-2, rounds):
        for index in rng.permutation(len(calls)):
            key, (call, wait) = list(calls.items())[index]
            start = time.perf_counter()
            wait(call())
            if warm_up_then_measure >= 0:
                seconds[key].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cells", nargs="*", default=CELLS, choices=CELLS)
    parser.add_argument("--masked", action="store_true", help="mask a part of each row's end")
    arguments = parser.parse_args()
    backend = keras.backend.backend()
    version = __import__(backend).__version__
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end=""
    )
    print(f"Keras {keras.__version__}, {backend} {version}, {arguments.rounds} rounds")
    print(f"masked: {arguments.masked}; Keras in ms, then ratios to it\n")
    print("| cell | batch, steps, features, units | call | Keras | again | ours | states |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for size in SIZES:
        for cell in arguments.cells:
            keras.utils.set_random_seed(0)
            seconds = measure(cell, size, arguments.masked, arguments.rounds)
            for call in ("forward", "step"):
                base = np.array(seconds["Keras", call])
                row = [f"{1e3 * np.median(base):.1f}"]
                for variant in VARIANTS[1:]:
                    row.append(f"{np.median(np.array(seconds[variant, call]) / base):.2f}")
                where = ", ".join(map(str, size))
                print(f"| {cell} | {where} | {call} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
