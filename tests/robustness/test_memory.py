"""Memory: nothing is kept of what was deleted, and a small file claims no more than it holds."""

import gzip
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import keras_rnnkit as rk
from tests.robustness.examples import examples

RESIDENT = """
import gc, json, os, sys
import keras, numpy as np
import keras_rnnkit as rk

def resident():
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
"""

DATASETS = """
def once(seed):
    values = np.full((524_288, 16), seed, np.float32)
    spec = rk.WindowSpec(lookback=48, step=2, delay=1)
    dataset = rk.window_dataset(values, spec, batch_size=32, seed=seed)
    inputs, targets = next(iter(dataset))
    assert float(np.asarray(inputs).max()) == seed

once(0)
first = resident()
grown = []
for seed in range(1, 41):
    once(seed)
    grown.append(resident() - first)
print(json.dumps(grown))
"""

TRACES = """
model = keras.Sequential([keras.Input((20, 4)), rk.GRU(8, return_sequences=True), rk.LSTM(8)])
inputs = np.ones((16, 20, 4), np.float32)
for _ in range(5):
    rk.trace(model, inputs)
first = resident()
grown = []
for _ in range(int(sys.argv[1])):
    rk.trace(model, inputs)
    grown.append(resident() - first)
print(json.dumps(grown))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells it this way")
@pytest.mark.parametrize("code", [DATASETS, TRACES], ids=["40 datasets of 32 MB", "traces"])
def test_nothing_is_kept_of_what_was_deleted(code):
    run = subprocess.run(
        [sys.executable, "-c", RESIDENT + code, str(len(list(examples(50))))],
        cwd=Path(rk.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    grown = json.loads(run.stdout.splitlines()[-1])
    assert max(grown) < 64, grown


def test_a_line_of_a_small_archive_is_not_read_whole(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"date,x\n2024-01-01," + b"1" * 150_000_000, 1))
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"rows\.csv\.gz has a line longer than"):
            rk.read_csv(path)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()
