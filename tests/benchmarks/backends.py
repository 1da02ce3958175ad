"""Recurrent layers on TensorFlow, JAX and torch: Keras's, ours, and those of the framework itself.

    python tests/benchmarks/backends.py             # the tables of docs/benchmarks/backends.md
    python tests/benchmarks/backends.py --masked    # the same under a mask
    python tests/benchmarks/backends.py --choices   # unroll, XLA and threads
    python tests/benchmarks/backends.py --short     # two sizes of the LSTM, two minutes

Each backend has a process of its own, and the processes take turns: in each round every layer runs
once, in an order drawn anew. A time is the median over the rounds, a ratio the median over the
rounds of the ratio in that round. A training step is a pass and its gradient by the weights,
compiled as the backend compiles: `tf.function`, `jax.jit`, nothing on torch.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from turns import Worker, load, machine, serve, spread

# batch, steps, features, units
SIZES = [
    (32, 50, 8, 16),
    (128, 240, 14, 32),
    (32, 1000, 14, 32),
    (64, 100, 64, 128),
    (32, 100, 128, 256),
]
CELLS = ("LSTM", "GRU", "SimpleRNN")
CALLS = ("forward", "step")
KERAS, OURS, STATES = "Keras", "ours", "ours, states"
BARE = {"torch": "torch.nn", "jax": "flax.nnx"}
BACKENDS = ("tensorflow", "jax", "torch")
# Of each size: what else is tried with the LSTM, and in which process.
CHOICES = {
    "tensorflow": ["Keras", "Keras, unroll", "Keras, XLA", "ours", "ours, XLA"],
    "tensorflow, 1 thread": ["Keras", "ours"],
    "jax": ["Keras", "Keras, unroll", "ours"],
    "jax, 1 thread": ["Keras", "ours"],
    "torch": ["Keras", "ours", "torch.nn"],
    "torch, 1 thread": ["ours", "torch.nn"],
}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
# `unroll` compiles for minutes beyond so many steps.
UNROLLED_STEPS = 50


class Turns:
    """The layers of one process."""

    def __init__(self):
        self.calls, self.about = {}, None

    def answer(self, variant, cell, size, masked, call=None, repeats=1):
        """Seconds of one call; without a call, get ready and say how often to repeat each.

        None where this process has no such layer.
        """
        if self.about != (cell, size, masked):
            self.calls, self.about = {}, (cell, size, masked)
        if call is None:
            made = self.calls_of(variant, cell, size, masked)
            if made is None:
                return None
            *both, wait = made
            self.calls[variant] = {name: (one, wait) for name, one in zip(CALLS, both, strict=True)}
            return {name: self.repeats(variant, name) for name in CALLS}
        return self.seconds(variant, call, repeats)

    def repeats(self, variant, call):
        """As many as make a turn long enough for the clock."""
        self.seconds(variant, call, 1)
        return int(np.clip(0.004 / self.seconds(variant, call, 1), 1, 50))

    def seconds(self, variant, call, repeats):
        function, wait = self.calls[variant][call]
        start = time.perf_counter()
        for _ in range(repeats):
            result = function()
        wait(result)
        return (time.perf_counter() - start) / repeats

    def calls_of(self, variant, cell, size, masked):
        import keras
        from recurrent import calls_for

        import keras_rnnkit as rk

        batch, steps, features, units = size
        rng = np.random.default_rng(0)
        x = keras.ops.convert_to_tensor(rng.normal(size=(batch, steps, features)).astype("float32"))
        mask = np.arange(steps) < rng.integers(steps // 2, steps, (batch, 1)) if masked else None
        if variant == "torch.nn":
            return torch_calls(cell, x, units)
        if variant == "flax.nnx":
            return nnx_calls(cell, x, units)
        library = rk if variant.startswith("ours") else keras.layers
        options = {"return_state_sequences": True} if variant == STATES else {}
        if variant.endswith("unroll"):
            if steps > UNROLLED_STEPS:
                return None
            options["unroll"] = True
        layer = getattr(library, cell)(units, return_sequences=True, **options)
        layer.build(x.shape)
        return calls_for(layer, x, mask, jit_compile=variant.endswith("XLA"))


def torch_calls(cell, x, units):
    """`torch.nn`'s layer, which has two biases and no mask."""
    import torch

    name = {"SimpleRNN": "RNN"}.get(cell, cell)
    layer = getattr(torch.nn, name)(x.shape[-1], units, batch_first=True)

    def forward():
        with torch.no_grad():
            return layer(x)

    def step():
        (layer(x)[0] ** 2).mean().backward()

    return forward, step, lambda result: None


def nnx_calls(cell, x, units):
    """The `nnx` cell of flax in its `RNN`, where flax is installed."""
    import jax

    try:
        from flax import nnx
    except ImportError:
        return None
    name = {"SimpleRNN": "SimpleCell", "LSTM": "OptimizedLSTMCell"}.get(cell, f"{cell}Cell")
    rngs = nnx.Rngs(0)
    layer = nnx.RNN(getattr(nnx, name)(x.shape[-1], units, rngs=rngs), rngs=rngs)
    graph, weights, rest = nnx.split(layer, nnx.Param, ...)

    def run(weights, x):
        return nnx.merge(graph, weights, rest)(x)

    forward = jax.jit(run)
    step = jax.jit(jax.grad(lambda weights, x: (run(weights, x) ** 2).mean()))
    return lambda: forward(weights, x), lambda: step(weights, x), jax.block_until_ready


def rounds_of(columns, cell, size, masked, budget, most):
    """Seconds: {(process, variant, call): one a round}."""
    began = time.perf_counter()
    about = {"cell": cell, "size": size, "masked": masked}
    repeats = {}
    # Compiled side by side, and measured one at a time.
    for number in range(max(map(len, columns.values()))):
        asked = [(w, v[number]) for w, v in columns.items() if number < len(v)]
        for worker, variant in asked:
            worker.ask(variant=variant, **about)
        for worker, variant in asked:
            for call, count in (worker.answer() or {}).items():
                repeats[worker, variant, call] = count
    rng = np.random.default_rng(0)
    seconds = {key: [] for key in repeats}
    for done in range(most):
        if done >= 3 and time.perf_counter() - began > budget:
            break
        for index in rng.permutation(len(repeats)):
            worker, variant, call = key = list(repeats)[index]
            question = {"variant": variant, "call": call, "repeats": repeats[key], **about}
            seconds[key].append(worker.turn(**question))
    return {(w.name, *rest): np.array(found) for (w, *rest), found in seconds.items()}


def report(columns, cells, sizes, masked, minutes, most):
    """Measure, and print the two tables; gives back the seconds by cell and size."""
    names = [(worker.name, variant) for worker, variants in columns.items() for variant in variants]
    found = {}
    for cell in cells:
        for size in sizes:
            budget = 60 * minutes / (len(cells) * len(sizes)) - 1
            found[cell, size] = rounds_of(columns, cell, size, masked, budget, most)
    names = [name for name in names if any((*name, "step") in each for each in found.values())]
    print("Milliseconds, forward / training step.\n")
    heads = [f"{process}: {variant}" for process, variant in names]
    print(f"| cell | batch, steps, features, units | rounds | {' | '.join(heads)} |")
    print(f"| --- | --- | ---: |{' ---: |' * len(names)}")
    for (cell, size), seconds in found.items():
        row = [
            " / ".join(f"{1e3 * np.median(seconds[(*name, call)]):.1f}" for call in CALLS)
            if (*name, "step") in seconds
            else "-"
            for name in names
        ]
        count = len(next(iter(seconds.values())))
        print(f"| {cell} | {', '.join(map(str, size))} | {count} | {' | '.join(row)} |")
    print("\nA training step as a ratio to Keras's on the same backend (and half of the rounds).\n")
    others = [name for name in names if name[1] != KERAS]
    heads = [f"{process}: {variant}" for process, variant in others]
    print(f"| cell | batch, steps, features, units | {' | '.join(heads)} |")
    print(f"| --- | --- |{' ---: |' * len(others)}")
    for (cell, size), seconds in found.items():
        row = []
        for process, variant in others:
            base = seconds.get((process, KERAS, "step"))
            own = seconds.get((process, variant, "step"))
            row.append("-" if own is None or base is None else spread(own / base))
        print(f"| {cell} | {', '.join(map(str, size))} | {' | '.join(row)} |")
    return found


def draw(found, path):
    """A training step by size and layer, one panel a cell; shapes tell them apart, not colours."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": "backends", "svg.fonttype": "none"})
    cells = list(dict.fromkeys(cell for cell, _ in found))
    names = list(dict.fromkeys(key[:2] for seconds in found.values() for key in seconds))
    marks = {"tensorflow": "o", "jax": "s", "torch": "^"}
    figure, axes = plt.subplots(
        1, len(cells), figsize=(3.4 * len(cells), 3.6), sharey=True, layout="constrained"
    )
    for axis, cell in zip(np.atleast_1d(axes), cells, strict=True):
        sizes = [size for each, size in found if each == cell]
        for process, variant in names:
            values = [
                1e3 * np.median(found[cell, size].get((process, variant, "step"), [np.nan]))
                for size in sizes
            ]
            filled = {KERAS: "black", OURS: "white", STATES: "silver"}.get(variant, "none")
            axis.plot(
                values,
                np.arange(len(sizes)) + 0.22 * (BACKENDS.index(process) - 1),
                "x" if filled == "none" else marks[process],
                color="black",
                markerfacecolor=filled,
                linestyle="none",
                label=f"{process}: {variant}",
            )
        axis.set(title=cell, xscale="log", xlabel="training step, ms")
        axis.set_yticks(range(len(sizes)), [", ".join(map(str, size)) for size in sizes])
        axis.invert_yaxis()
        axis.grid(axis="x", which="both", color="gainsboro", linewidth=0.5)
    np.atleast_1d(axes)[0].set_ylabel("batch, steps, features, units")
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="the LSTM at two sizes")
    parser.add_argument("--masked", action="store_true", help="mask a part of each row's end")
    parser.add_argument("--choices", action="store_true", help="unroll, XLA, threads: the LSTM")
    parser.add_argument("--backends", nargs="*", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--cells", nargs="*", choices=CELLS)
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--rounds", type=int, default=21, help="at most")
    parser.add_argument("--chart", type=Path, help="where to draw the training steps, an SVG file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(Turns().answer)
        return
    one_cell = options.short or options.choices
    cells = options.cells or (CELLS[:1] if one_cell else CELLS)
    sizes = SIZES[:4:3] if options.short else SIZES
    if options.choices:
        columns = {name: list(variants) for name, variants in CHOICES.items()}
    else:
        columns = {name: [KERAS, OURS, STATES] for name in BACKENDS}
        for name, bare in BARE.items():
            columns[name] += [bare] * (not options.masked)
    workers = {}
    for name, variants in columns.items():
        backend = name.split(",")[0]
        if backend in options.backends:
            threads = ONE_THREAD if "," in name else {}
            workers[Worker(__file__, name, KERAS_BACKEND=backend, **threads)] = variants
    print(f"{machine('keras', 'tensorflow', 'jax', 'torch', 'flax', 'numpy')}; {load()}")
    print(f"masked: {options.masked}\n", flush=True)
    minutes = 2 if options.short else options.minutes
    found = report(workers, cells, sizes, options.masked, minutes, options.rounds)
    if options.chart:
        draw(found, options.chart)
    print(f"\n{load()} at the end")
    for worker in workers:
        worker.close()


if __name__ == "__main__":
    main()
