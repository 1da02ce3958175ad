"""Killed at any moment, a process leaves what the next one reads right and clears away."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_rnnkit as rk
from tests.robustness.examples import examples

if not hasattr(os, "fork"):
    pytest.skip("this system starts no process by fork", allow_module_level=True)

# One process that has imported everything starts one after the other: a timer that nobody handles
# kills it after a random time, with nothing of Python run on the way out.
KILLER = """
import json, os, pathlib, signal, sys, time, warnings
import numpy as np
import keras_rnnkit as rk

folder, times = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
words = [f"w{row}" for row in range(3000)]
rows = np.random.default_rng(0).normal(size=(3000, 50)).round(3)
file = folder / "vectors.txt"
file.write_text("".join(
    f"{word} {' '.join(map(str, row))}\\n" for word, row in zip(words, rows.tolist())
))

def load():
    return rk.load_vectors(file, words, cache=True)

def forked(run):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        run()
        code = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        code = 1
    os._exit(code)

expected = rows.astype(np.float32).tobytes()
start = time.perf_counter()
assert load().matrix.tobytes() == expected
took = time.perf_counter() - start

def left():
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]

def killed(moment):
    signal.setitimer(signal.ITIMER_REAL, moment)
    while True:
        for path in folder.glob("*.cache"):
            path.unlink(missing_ok=True)
        load()

def checked():
    assert load().matrix.tobytes() == expected
    assert left() == []

dead = begun = wrong = 0
for share in times:
    status = forked(lambda: killed(share * 3 * took))
    dead += os.WIFSIGNALED(status)
    begun += bool(left())
    wrong += forked(checked) != 0
print(json.dumps({"killed": dead, "left": begun, "wrong": wrong, "end": left()}))
"""


def test_caches_of_killed_processes(tmp_path):
    times = [0.01 + float(rng.random()) for rng in examples(12)]
    run = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), json.dumps(times)],
        cwd=Path(rk.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    print(told)
    assert told == {"killed": len(times), "left": told["left"], "wrong": 0, "end": []}, run.stderr
