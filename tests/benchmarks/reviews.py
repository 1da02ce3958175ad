"""Reading the reviews of a folder, against a bare loop over the same files.

python tests/benchmarks/reviews.py --archive aclImdb_v1.tar.gz

The archive is unpacked to a temporary folder; every pass finds the files in the page cache.
"""

import argparse
import os
import platform
import tarfile
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_rnnkit as rk


def read_bytes(paths):
    """The bare loop: open each file, read its bytes, keep nothing."""
    for path in paths:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib's own cost is not reading
            file.read()


def read_text(paths):
    """What people write: pathlib, a list of texts."""
    return [Path(path).read_text(encoding="utf-8") for path in paths]


def ours(root):
    return rk.datasets.imdb_reviews(root, val=0)


def timed(call, *arguments):
    wall, cpu = time.perf_counter(), time.process_time()
    call(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def machine():
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Keras {keras.__version__}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="a .tar.gz of the reviews")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(options.archive) as archive:
            archive.extractall(name, filter="data")
        train = next(Path(name).rglob("train/pos")).parents[1]
        paths = [str(path) for path in train.glob("*/*/*.txt")]
        size = sum(Path(path).stat().st_size for path in paths)
        print(f"{len(paths):,} files, {size / 1e6:.1f} MB, medians of {options.repeat} rounds")
        rounds = {
            "bare loop over the bytes": (read_bytes, paths),
            "pathlib read_text": (read_text, paths),
            "imdb_reviews, the folder": (ours, train),
            "imdb_reviews, the archive": (ours, options.archive),
        }
        seconds = {name: [] for name in rounds}
        for _ in range(options.repeat):
            for name, (call, *arguments) in rounds.items():
                seconds[name].append(timed(call, *arguments))
    middle = {name: np.median(times, axis=0) for name, times in seconds.items()}
    bare = middle["bare loop over the bytes"]
    print(f"{'':28}{'wall s':>8}{'CPU s':>8}{'wall against bare':>19}{'CPU against bare':>18}")
    for name, (wall, cpu) in middle.items():
        print(f"{name:28}{wall:8.3f}{cpu:8.3f}{wall / bare[0]:18.2f}x{cpu / bare[1]:17.2f}x")


if __name__ == "__main__":
    main()
