"""What windows are worth in `fit`: windows a second and processor time, by model and batch size.

    python tests/benchmarks/fit.py            # the tables of docs/benchmarks/fit.md, 8 minutes
    python tests/benchmarks/fit.py --short    # linear and GRU, batches of 128 and 1,024
    KERAS_BACKEND=jax python tests/benchmarks/fit.py --models linear Conv1D "GRU 32"

Every source gives windows of 240 rows x 14 columns out of 420,451 rows. Sources take turns in
rounds, in an order drawn anew; a figure is the median over the rounds of the ratio to the fixed
batch in that round. Sources that Keras reads through a Python generator have a process of their
own: on TensorFlow they change the memory allocator of their whole process.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from turns import Worker, load, machine, serve, spread

FIXED, AGAIN = "fixed batch", "fixed batch again"
UNKNOWN, NUMPY = "fixed batch, size unknown", "fixed batch, NumPy"
OURS, FULL, LOADER = "window_dataset", "window_dataset, full batches", "WindowLoader"
DLPACK = "WindowLoader, DLPack"
KERAS, GENERATOR = "Keras's utility", "generator"
# In the order in which they compile: Keras runs a batch of known size by a step compiled for an
# unknown one, once it has one.
SOURCES = (FIXED, AGAIN, FULL, UNKNOWN, OURS, KERAS, NUMPY, LOADER, DLPACK, GENERATOR)
PYTHON = (NUMPY, LOADER, DLPACK, GENERATOR)
MODELS = ("linear", "Conv1D", "GRU 32", "LSTM 128")
BATCHES = (128, 1024, 4096)
# A turn shows so many batches before its clock starts, and then goes on for so many seconds.
WARM_UP, SECONDS = 2, 0.4
# On a CPU a step takes seconds, and the tensors of a pass 6 GB.
TOO_LARGE = ("LSTM 128", 4096)


class Turns:
    """The sources and the model of one process."""

    def __init__(self):
        import windows

        self.windows, self.data = windows, windows.make_rows()
        self.made = {}

    def answer(self, model, batch, source, steps=0):
        """Train for some steps; without their number, get ready and say how many fill a turn."""
        import keras

        if self.made.get("for") != (model, batch):
            keras.utils.clear_session(free_memory=True)
            keras.utils.set_random_seed(0)
            self.made, self.model = {"for": (model, batch)}, network(model)
        if steps:
            return self.fit(source, steps)
        self.made[source] = self.source(source, batch)
        self.fit(source, 1)  # compiles
        seconds, _ = self.fit(source, 2)
        return int(np.clip(SECONDS / seconds, 2, 400))

    def fit(self, source, steps):
        """Seconds and processor seconds of a step."""
        clock = self.clock(steps)
        made = self.made[source]
        self.model.fit(
            made() if source == GENERATOR else made,
            steps_per_epoch=WARM_UP + steps,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        return clock.taken

    def clock(self, steps):
        import keras

        class Clock(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch + 1 in (WARM_UP, WARM_UP + steps):
                    float(logs["loss"])  # waits for the step
                    now = time.perf_counter(), time.process_time()
                    if batch + 1 > WARM_UP:
                        self.taken = [(b - a) / steps for a, b in zip(self.began, now, strict=True)]
                    self.began = now

        return Clock()

    def source(self, name, batch):
        import keras

        import keras_rnnkit as rk

        windows, data = self.windows, self.data
        options = {**windows.OPTIONS, "batch_size": batch, "squeeze": True}
        if name in (FIXED, AGAIN, UNKNOWN, NUMPY):
            fixed = rk.WindowLoader(data, windows.SPEC, **options)[0]
            found = repeated(fixed, on_device=name != NUMPY)
            return found.map(of_unknown_size) if name == UNKNOWN else found
        if name in (OURS, FULL):
            found = rk.window_dataset(data, windows.SPEC, drop_remainder=name == FULL, **options)
            return found.repeat() if keras.backend.backend() == "tensorflow" else found
        if name == LOADER:
            return rk.WindowLoader(data, windows.SPEC, **options)
        if name == DLPACK:
            return in_place(rk.WindowLoader(data, windows.SPEC, **options))
        if name == KERAS:
            return windows.keras_dataset(data, batch).repeat()
        return lambda: windows.generator(data, batch)


def of_unknown_size(*batch):
    """The same tensors, their first axis not known beforehand, as where a last batch is smaller."""
    import tensorflow as tf

    return tuple(tf.compat.v1.placeholder_with_default(x, (None, *x.shape[1:])) for x in batch)


def repeated(batch, on_device):
    """One batch again and again: as a dataset on TensorFlow, else as a `PyDataset`."""
    import keras

    if on_device and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors(batch).repeat()
    if on_device:
        batch = tuple(keras.ops.convert_to_tensor(each) for each in batch)

    class Fixed(keras.utils.PyDataset):
        def __len__(self):
            return 1_000_000

        def __getitem__(self, index):
            return batch

    return Fixed()


def in_place(loader):
    """A loader's batches as tensors of JAX or torch that use the memory of its arrays."""
    import keras

    if keras.backend.backend() == "jax":
        from jax.dlpack import from_dlpack
    else:
        from torch import from_dlpack

    class InPlace(keras.utils.PyDataset):
        def __len__(self):
            return len(loader)

        def __getitem__(self, index):
            return tuple(from_dlpack(each) for each in loader[index])

    return InPlace()


def network(name):
    """A compiled model of this name."""
    import keras

    layers = keras.layers
    bodies = {
        "linear": lambda: [layers.Flatten()],
        # Of Chollet's book, chapter on time series.
        "Conv1D": lambda: [
            layers.Conv1D(8, 24, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(8, 12, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(8, 6, activation="relu"),
            layers.GlobalAveragePooling1D(),
        ],
        "GRU 32": lambda: [layers.GRU(32)],
        "LSTM 128": lambda: [layers.LSTM(128)],
    }
    model = keras.Sequential([keras.Input((240, 14)), *bodies[name](), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def rounds_of(workers, model, batch, budget):
    """Seconds and processor seconds a step: {source: one pair a round}."""
    began = time.perf_counter()
    steps = {}
    for source, worker in workers.items():
        steps[source] = worker.turn(model=model, batch=batch, source=source)
    rng = np.random.default_rng(0)
    taken = {source: [] for source in workers}
    while len(taken[FIXED]) < 3 or time.perf_counter() - began < budget:
        for source in rng.permutation(list(workers)):
            question = {"model": model, "batch": batch, "source": source, "steps": steps[source]}
            taken[source].append(workers[source].turn(**question))
    return {source: np.array(pairs) for source, pairs in taken.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="two models and batch sizes")
    parser.add_argument("--models", nargs="*", choices=MODELS)
    parser.add_argument("--batches", nargs="*", type=int)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(Turns().answer)
        return
    models = options.models or (("linear", "GRU 32") if options.short else MODELS)
    batches = options.batches or (BATCHES[:2] if options.short else BATCHES)
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    processes = [Worker(__file__, name) for name in ("datasets", "python")]
    absent = (NUMPY, DLPACK) if backend == "tensorflow" else (UNKNOWN,)
    workers = {source: processes[source in PYTHON] for source in SOURCES if source not in absent}
    cells = [(m, b) for m in models for b in batches if (m, b) != TOO_LARGE]
    minutes = 2 if options.short else options.minutes
    print(f"{machine('keras', backend, 'numpy')}; {load()}\n")
    print("Windows a second on the fixed batch; for each other source, the ratio to it: the median")
    print("over the rounds (and the half of them around it).\n")
    others = [source for source in workers if source != FIXED]
    print(f"| model | batch | rounds | {FIXED} | {' | '.join(others)} | ours / Keras's |")
    print(f"| --- | ---: | ---: | ---: |{' ---: |' * (len(others) + 1)}")
    processor = []
    for model, batch in cells:
        taken = rounds_of(workers, model, batch, 60 * minutes / len(cells) - 1)
        speed = {source: batch / pairs[:, 0] for source, pairs in taken.items()}
        row = [model, f"{batch:,}", str(len(speed[FIXED])), f"{np.median(speed[FIXED]):,.0f}"]
        row += [spread(speed[source] / speed[FIXED]) for source in others]
        row.append(spread(speed[OURS] / speed[KERAS]))
        print(f"| {' | '.join(row)} |", flush=True)
        used = [f"{1e6 * np.median(taken[source][:, 1]) / batch:.1f}" for source in workers]
        processor.append(f"| {model} | {batch:,} | {' | '.join(used)} |")
    print("\nProcessor time of a window in microseconds, the model's part included.\n")
    print(f"| model | batch | {' | '.join(workers)} |")
    print(f"| --- | ---: |{' ---: |' * len(workers)}")
    print("\n".join(processor))
    print(f"\n{load()} at the end")
    for process in processes:
        process.close()


if __name__ == "__main__":
    main()
