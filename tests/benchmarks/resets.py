"""Rows parted at their resets, for the fused kernel, against the loop, in the same run, on torch.

    OMP_NUM_THREADS=1 python tests/benchmarks/resets.py --rounds 7

One reset a row, one in 25 time steps or one in 4, at random places. `use_cudnn=True` parts the rows
at any size, where `"auto"` does so from and up to the sizes that were measured to gain. Each round
runs both once, in an order drawn anew. A figure is the median over the rounds of the ratio of the
processor time in that round, with the half of the rounds around it.
"""

import argparse
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from recurrent import CELLS, calls_for
from turns import load, machine, spread

import keras_rnnkit as rk

SIZES = ["32,50,8,16", "32,200,14,32", "64,100,64,128", "32,1000,14,32"]
KINDS = {"one a row": None, "every 25 steps": 25, "every 4 steps": 4}


@dataclass
class WithResets:
    """A layer as `calls_for` calls it."""

    layer: Any
    resets: Any

    @property
    def trainable_variables(self):
        return self.layer.trainable_variables

    def __call__(self, x, **options):
        return self.layer(x, reset=self.resets, **options)


def measure(cell, size, every, states, rounds):
    """Processor seconds by path and call: {(path, call): [one a round]}."""
    rng = np.random.default_rng(0)
    batch, steps, features, units = size
    x = keras.ops.convert_to_tensor(rng.normal(size=(batch, steps, features)).astype("float32"))
    resets = np.zeros((batch, steps), bool)
    resets[np.arange(batch), rng.integers(1, steps, batch)] = True
    if every is not None:
        resets = rng.random((batch, steps)) < 1 / every
    resets, calls = keras.ops.convert_to_tensor(resets), {}
    options = {"return_sequences": True, "return_state_sequences": states}
    for path in (False, True):
        layer = getattr(rk, cell)(units, use_cudnn=path, **options)
        layer.build(x.shape)
        forward, step, _ = calls_for(WithResets(layer, resets), x, None)
        calls[path, "forward"], calls[path, "step"] = forward, step
    seconds = {key: [] for key in calls}
    for warm_up_then_measure in range(-1, rounds):
        for index in rng.permutation(len(calls)):
            key, call = list(calls.items())[index]
            start = time.process_time()
            call()
            if warm_up_then_measure >= 0:
                seconds[key].append(time.process_time() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="batch,steps,features,units")
    parser.add_argument("--cells", nargs="*", default=CELLS, choices=CELLS)
    parser.add_argument("--resets", nargs="*", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    print(f"{machine('keras', 'torch', 'numpy')}, {load()}\n")
    print("| size | resets | cell | loop, ms | forward | step | states, forward | states, step |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for size in arguments.sizes:
        for kind in arguments.resets:
            for cell in arguments.cells:
                found = partial(measure, cell, [int(x) for x in size.split(",")], KINDS[kind])
                row = [size, kind, cell]
                for states in (False, True):
                    seconds = {k: np.array(v) for k, v in found(states, arguments.rounds).items()}
                    if not states:
                        loop = [1e3 * np.median(seconds[False, c]) for c in ("forward", "step")]
                        row.append("{:.1f}, {:.1f}".format(*loop))
                    row += [
                        spread(seconds[True, c] / seconds[False, c]) for c in ("forward", "step")
                    ]
                print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{load()}")


if __name__ == "__main__":
    main()
