"""Windows a second: window_dataset and WindowLoader beside their peers, in one run.

    python tests/benchmarks/windows.py                # the table of docs/benchmarks/windows.md
    python tests/benchmarks/windows.py --quick        # a tenth of it
    python tests/benchmarks/windows.py --processes    # two processes at once beside one

Every peer shows the same windows: 420,451 x 14 float32, lookback 1440, step 6 (240 rows), target
144 rows ahead, batches of 128, shuffled. Peers take turns, each turn in a process of its own, since
`from_generator` changes the memory allocator of its whole process; a row gives the median of them.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from turns import Worker, serve, spread

import keras_rnnkit as rk

ROWS, COLUMNS = 420_451, 14
LOOKBACK, STEP, DELAY, BATCH = 1440, 6, 144, 128
LENGTH = LOOKBACK // STEP
SPEC = rk.WindowSpec(LOOKBACK, step=STEP, delay=DELAY, targets=["1"])
OPTIONS = {"batch_size": BATCH, "shuffle": True, "seed": 1}


def make_rows(rows=ROWS, columns=COLUMNS):
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def seconds_a_window(batches, count):
    """Seconds a window over `count` batches, after a twentieth of them to warm up."""
    iterator = iter(batches)
    for _ in range(1 + count // 20):
        next(iterator)
    windows, start = 0, time.perf_counter()
    for _ in range(count):
        windows += len(next(iterator)[0])
    return (time.perf_counter() - start) / windows


def generator(data, batch=BATCH):
    """The generator of Chollet's book, as readers copy it."""
    first, last = LOOKBACK, len(data) - DELAY - 1
    random = np.random.default_rng(0)
    while True:
        rows = random.integers(first, last, size=batch)
        samples = np.zeros((batch, LENGTH, data.shape[-1]), np.float32)
        targets = np.zeros(batch, np.float32)
        for position, row in enumerate(rows):
            indices = range(row - LOOKBACK, row, STEP)
            samples[position] = data[indices]
            targets[position] = data[row + DELAY][1]
        yield samples, targets


def from_generator(data):
    signature = (
        tf.TensorSpec((BATCH, LENGTH, COLUMNS), tf.float32),
        tf.TensorSpec((BATCH,), tf.float32),
    )
    return tf.data.Dataset.from_generator(lambda: generator(data), output_signature=signature)


def keras_dataset(data, batch=BATCH):
    reach = (LENGTH - 1) * STEP + DELAY
    return keras.utils.timeseries_dataset_from_array(
        data[:-DELAY],
        data[reach:, 1],
        sequence_length=LENGTH,
        sampling_rate=STEP,
        batch_size=batch,
        shuffle=True,
        seed=1,
    )


def copying(data):
    """A pipeline that copies one batch of this size and does nothing else."""
    batch = tf.constant(data[: BATCH * LENGTH].reshape(BATCH, LENGTH, COLUMNS))
    targets = tf.zeros((BATCH, 1, 1))

    def copy(_):
        return tf.raw_ops.DeepCopy(x=batch), tf.raw_ops.DeepCopy(x=targets)

    return (
        tf.data.Dataset.range(100_000)
        .map(copy, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def window_dataset(data):
    return rk.window_dataset(data, SPEC, **OPTIONS)


def loader_batches(data):
    loader = rk.WindowLoader(data, SPEC, **OPTIONS)
    return (loader[number] for number in range(len(loader)))


PEERS = {
    "window_dataset": (window_dataset, 3000),
    "copy of one batch, tf.data": (copying, 3000),
    "timeseries_dataset_from_array": (keras_dataset, 150),
    "Python generator, from_generator": (from_generator, 150),
    "WindowLoader": (loader_batches, 3000),
    "Python generator, alone": (generator, 150),
}


def throughput(turns, scale):
    times = {name: [] for name in PEERS}
    for _ in range(turns):
        for name, (_, count) in PEERS.items():
            run = in_process("--peer", name, "--count", max(10, int(count * scale)))
            times[name].append(run["seconds"])
    return {name: median(taken) * 1e6 for name, taken in times.items()}


class Sharing:
    """One of several processes that work at the same time."""

    def __init__(self):
        self.data = make_rows()

    def answer(self, peer, count):
        """Seconds a window."""
        return seconds_a_window(PEERS[peer][0](self.data), count)


def by_processes(rounds=11, count=1000):
    """Windows a second of two processes at once, as a ratio to one alone; they take turns."""
    workers = [Worker(__file__, str(number)) for number in range(2)]
    print("| peer | one process, windows a second | two at once, each | two / one |")
    print("| --- | ---: | ---: | ---: |")
    for peer in ("window_dataset", "WindowLoader"):
        speed = {1: [], 2: []}
        for number in range(-1, rounds):
            for processes in sorted(speed, reverse=number % 2):
                for worker in workers[:processes]:
                    worker.ask(peer=peer, count=count)
                taken = [worker.answer() for worker in workers[:processes]]
                if number >= 0:
                    speed[processes].append(sum(1 / seconds for seconds in taken))
        one, two = np.array(speed[1]), np.array(speed[2])
        print(
            f"| {peer} | {np.median(one):,.0f} | {np.median(two) / 2:,.0f} | {spread(two / one)} |"
        )
    for worker in workers:
        worker.close()


def lengths(scale):
    """Microseconds a window at several lengths, and with twenty times the rows."""
    table = {}
    for rows in (ROWS, 8_400_000):
        data = make_rows(rows, COLUMNS)
        for length in (1, 24, 240, 1440):
            spec = rk.WindowSpec(length, delay=DELAY, targets=["1"])
            dataset = rk.window_dataset(data, spec, **OPTIONS)
            count = max(20, int(scale * 200_000 / (length + 100)))
            count = min(count, len(dataset) - 2)
            table[f"{rows:,}", length] = seconds_a_window(dataset, count) * 1e6
    return table


def waiting(scale):
    """Seconds a step of `fit` on one cached batch, on batches made beforehand, on the dataset.

    And the share of its time that `fit` spends asking for batches. All give full batches: Keras's
    step is slower where the batch axis is unknown. The least of the turns counts, since whatever
    else the machine does adds to a turn, and on two cores a turn of any kind may run the step's two
    branches one after the other.
    """
    data = make_rows()
    steps = max(20, int(60 * scale))
    dataset = rk.window_dataset(data, SPEC, drop_remainder=True, **OPTIONS).take(steps)
    batch = next(iter(dataset))
    cached = tf.data.Dataset.from_tensors(batch).repeat(steps)
    made = tuple(map(tf.stack, zip(*dataset, strict=True)))
    ready = tf.data.Dataset.from_tensor_slices(made)
    sources = {"cached": cached, "ready": ready, "dataset": dataset}
    inputs = keras.Input((LENGTH, COLUMNS))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GRU(32)(inputs)))
    model.compile("adam", "mae")
    model.fit(cached.take(5), shuffle=False, verbose=0)
    blocked = [profiled(model, dataset) for _ in range(5)]
    taken = {name: [] for name in sources}
    for _ in range(16):
        for name, source in sources.items():
            start = time.perf_counter()
            model.fit(source, shuffle=False, verbose=0)
            taken[name].append((time.perf_counter() - start) / steps)
    return {name: min(each) for name, each in taken.items()}, median(blocked)


def profiled(model, dataset):
    """Share of the time of `fit` in which it asks for its next batch, by TensorFlow's profiler."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, options)
        start = time.perf_counter()
        model.fit(dataset, shuffle=False, verbose=0)
        whole = time.perf_counter() - start
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    asked = [
        event.duration_ps * 1e-12
        for plane in space.planes
        for line in plane.lines
        for event in line.events
        if plane.event_metadata[event.metadata_id].name.startswith("IteratorGetNextOp")
    ]
    if len(asked) < len(dataset):
        sys.exit(f"the profile names {len(asked)} requests for {len(dataset)} batches")
    return sum(asked) / whole


def private_bytes():
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    return 0


def memory(kind, folder, rows):
    """First batch and memory above the data, in a fresh process."""
    path = Path(folder) / "rows.npy"
    data = make_rows(rows) if kind == "array" else np.load(path, mmap_mode="r")
    warm = np.zeros((300, 2), np.float32)
    next(iter(rk.window_dataset(warm, rk.WindowSpec(4), batch_size=8)))
    before = private_bytes()
    start = time.perf_counter()
    dataset = window_dataset(data)
    iterator = iter(dataset)
    next(iterator)
    first = time.perf_counter() - start
    for _ in range(300):
        next(iterator)
    held = private_bytes() - before
    return {"first_batch": first, "above": held / data.nbytes, "bytes": data.nbytes}


def limited(folder, limit_mb):
    """Every window of a file ten times larger than the memory that the process may take."""
    data = np.load(Path(folder) / "large.npy", mmap_mode="r")
    warm = np.zeros((300, 2), np.float32)
    next(iter(rk.window_dataset(warm, rk.WindowSpec(4), batch_size=8)))
    # Memory that no file backs, from here on: what the data may cost.
    current = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmData:")
    )
    limit = current + limit_mb * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        np.ones(2 * limit_mb * 2**20, np.uint8)
        refused = False
    except MemoryError:
        refused = True
    dataset = window_dataset(data)
    start, windows = time.perf_counter(), 0
    for inputs, _ in dataset.take(2000):
        windows += len(inputs)
    taken = (time.perf_counter() - start) / windows
    return {"ratio": data.nbytes / (limit_mb * 2**20), "refused": refused, "us": taken * 1e6}


def in_process(*arguments):
    run = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed:\n{run.stderr[-3000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the windows")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--processes", action="store_true", help="two at once beside one")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--memory", choices=("array", "map"), help=argparse.SUPPRESS)
    parser.add_argument("--limited", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(Sharing().answer)
        return
    if options.peer:
        batches = PEERS[options.peer][0](make_rows())
        print(json.dumps({"seconds": seconds_a_window(batches, options.count)}))
        return
    if options.memory:
        print(json.dumps(memory(options.memory, options.folder, options.rows)))
        return
    if options.limited:
        print(json.dumps(limited(options.folder, options.limited)))
        return
    scale = 0.1 if options.quick else 1.0
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
    print(
        f"{ROWS:,} x {COLUMNS} float32, lookback {LOOKBACK}, step {STEP}, delay {DELAY}, "
        f"batch {BATCH}, shuffled; medians of {options.turns} turns\n"
    )
    if options.processes:
        by_processes()
        return
    speed = throughput(options.turns, scale)
    ours, loader = speed["window_dataset"], speed["WindowLoader"]
    print(f"{'':34}{'us/window':>10}{'windows/s':>12}{'window_dataset':>16}{'WindowLoader':>14}")
    for name, taken in speed.items():
        ratios = f"{taken / ours:15.2f}x{taken / loader:13.2f}x"
        print(f"{name:34}{taken:10.2f}{1e6 / taken:12,.0f}{ratios}")
    print("\nus/window by length (step 1) and rows")
    table = lengths(scale)
    for (rows, length), taken in table.items():
        print(f"{rows:>12} rows, n = {length:5}: {taken:8.2f}")
    step, blocked = waiting(scale)
    wait = 1 - step["cached"] / step["dataset"]
    print(
        f"\nfit, GRU(32): {step['dataset'] * 1e3:.1f} ms a step on the dataset, "
        f"{step['cached'] * 1e3:.1f} ms on one cached batch: {max(0, wait):.1%} waiting for data; "
        f"{step['ready'] * 1e3:.1f} ms on batches made beforehand\n"
        f"profiler: {blocked:.2%} of fit's time goes by in requests for the next batch"
    )
    with tempfile.TemporaryDirectory() as folder:
        for rows in (ROWS, 8_400_000):
            np.save(Path(folder) / "rows.npy", make_rows(rows))
            for kind in ("array", "map"):
                runs = [
                    in_process("--memory", kind, "--folder", folder, "--rows", rows)
                    for _ in range(options.turns)
                ]
                first = median(run["first_batch"] for run in runs)
                above = sorted(run["above"] for run in runs)
                print(
                    f"{kind:5}: first batch after {first:.2f} s, memory above the data "
                    f"{median(above):.3f}x ({above[0]:.3f} to {above[-1]:.3f}) of "
                    f"{runs[0]['bytes'] / 1e6:.0f} MB"
                )
        large = np.lib.format.open_memmap(
            Path(folder) / "large.npy", "w+", np.float32, (24_000_000, COLUMNS)
        )
        for start in range(0, len(large), 1_000_000):
            large[start : start + 1_000_000] = make_rows(1_000_000)
        del large
        run = in_process("--limited", 128, "--folder", folder)
        print(
            f"larger than memory: a file {run['ratio']:.1f}x the 128 MB that may be taken "
            f"(more is {'refused' if run['refused'] else 'NOT REFUSED'}): {run['us']:.1f} us/window"
        )


if __name__ == "__main__":
    main()
