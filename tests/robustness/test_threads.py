"""Threads and processes that share a cache, and files that are replaced while they are read."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import keras_rnnkit as rk
from tests.robustness.examples import examples

WORDS = [f"w{row}" for row in range(200)]


def text_of(value):
    return "".join(f"{word} {value} {row}\n" for row, word in enumerate(WORDS))


def matrix_of(value):
    return np.array([[value, row] for row in range(len(WORDS))], np.float32).tobytes()


def load(path):
    return rk.load_vectors(path, WORDS, cache=True).matrix.tobytes()


def test_threads_that_share_a_cache(tmp_path):
    path = tmp_path / "vectors.txt"
    with ThreadPoolExecutor(8) as pool:
        for value, _ in enumerate(examples(10)):
            path.write_text(text_of(value))
            assert set(pool.map(load, [path] * 24)) == {matrix_of(value)}
    assert not list(tmp_path.glob("*.part"))


PROCESS = """
import pathlib, sys
import numpy as np, keras_rnnkit as rk

file, words = pathlib.Path(sys.argv[1]), sys.argv[2].split()
for _ in range(20):
    for cache in file.parent.glob("*.cache"):
        cache.unlink(missing_ok=True)
    matrix = rk.load_vectors(file, words, cache=True).matrix
    assert matrix[:, 0].tolist() == [5] * len(words), matrix
    assert matrix[:, 1].tolist() == list(range(len(words))), matrix
"""


def test_processes_that_share_a_cache(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(text_of(5))
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", PROCESS]
    runs = [
        subprocess.Popen(
            [*command, str(path), " ".join(WORDS)],
            cwd=Path(rk.__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for run in runs:
        _, error = run.communicate()
        assert run.returncode == 0, error
    assert load(path) == matrix_of(5)
    assert not list(tmp_path.glob("*.part"))


def test_a_file_replaced_while_others_read_it(tmp_path):
    """Each reads one whole state of the file, and none is kept under the key of another."""
    path, beside = tmp_path / "vectors.txt", tmp_path / "beside"
    path.write_text(text_of(0))
    with ThreadPoolExecutor(2) as pool:
        for value, rng in enumerate(examples(30), 1):
            value %= 10  # files of one size
            beside.write_text(text_of(value))
            if rng.random() < 0.5:  # and of one time
                status = path.stat()
                os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
            reading = [pool.submit(load, path) for _ in range(2)]
            beside.replace(path)
            assert {read.result() for read in reading} <= {matrix_of(old) for old in range(10)}
            assert load(path) == matrix_of(value)
            assert load(path) == matrix_of(value)
