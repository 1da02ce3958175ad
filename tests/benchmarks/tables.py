"""Reading text tables beside pandas, in time and memory, and one that is larger than memory.

python tests/benchmarks/tables.py [--turns 3] [--stored-rows 2000000]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BLOCK = 50_000
SIZES = ((420_551, 15), (2_000_000, 10))  # the first as the Jena record
PEER = """
import pandas as pd
def run(path):
    frame = pd.read_csv(path)
    frame["Date Time"] = pd.to_datetime(frame["Date Time"], format=FORMAT)
    return frame
"""
OURS = """
import keras_rnnkit as rk
import pandas as pd
def run(path):
    return rk.read_csv(path)
"""
STORED = """
import keras_rnnkit as rk
import pandas as pd
def run(path):
    return rk.read_csv(path, store=path + ".npy")
"""
DATASET = """
import keras_rnnkit as rk
def run(path):
    begun = time.perf_counter()
    series = rk.TimeSeries.open(path + ".npy")
    opened = time.perf_counter() - begun
    spec = rk.WindowSpec(48, targets=["c0"])
    dataset = rk.window_dataset(series, spec, batch_size=256, shuffle=True, seed=0)
    for _ in dataset.take(100):
        pass
    return opened
"""
CHILD = """
import sys, time
FORMAT = sys.argv[2]
{code}
print("ready", flush=True)
sys.stdin.readline()
begun, busy = time.perf_counter(), time.process_time()
result = run(sys.argv[1])
took, busy = time.perf_counter() - begun, time.process_time() - busy
print(took, busy, result if isinstance(result, float) else 0.0, flush=True)
sys.stdin.readline()
"""


def write_table(path, rows, columns, time_format):
    """Numbers of two digits behind the point, a row every 10 minutes."""
    generator = np.random.default_rng(0)
    values = np.round(generator.normal(10, 50, (BLOCK, columns - 1)), 2).tolist()
    cells = [",".join(map(str, row)) + "\n" for row in values]
    begin = np.datetime64("2009-01-01T00:10:00")
    with path.open("w", encoding="utf-8") as file:
        file.write("Date Time," + ",".join(f"c{column}" for column in range(columns - 1)) + "\n")
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            times = begin + (start + np.arange(count)) * np.timedelta64(10, "m")
            texts = (moment.strftime(time_format) for moment in times.tolist())
            file.writelines(f"{t},{row}" for t, row in zip(texts, cells, strict=False))


def anonymous(process):
    """Megabytes of memory that a process holds and no file backs."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("RssAnon")), "_ 0")
    return int(line.split()[1]) / 1024


def measure(code, path, time_format):
    """Seconds, those of the processor, megabytes above those before and in all, and the result."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(code=code), str(path), time_format],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert child.stdout.readline() == "ready\n"
    before = peak = anonymous(child.pid)
    child.stdin.write("\n")
    child.stdin.flush()
    os.set_blocking(child.stdout.fileno(), False)
    while not (line := child.stdout.readline()):
        assert child.poll() is None, "the child ended"
        peak = max(peak, anonymous(child.pid))
        time.sleep(0.004)
    took, busy, result = map(float, line.split())
    child.communicate("\n")
    return took, busy, peak - before, peak, result


def compare(folder, turns):
    print(
        "least of the turns; pandas, ours and their ratio: seconds | of the processor | megabytes"
    )
    for rows, columns in SIZES:
        for time_format in ("%d.%m.%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S"):
            path = folder / "table.csv"
            write_table(path, rows, columns, time_format)
            found = {code: [] for code in (PEER, OURS)}
            for _ in range(turns):
                for code, each in found.items():
                    each.append(measure(code, path, time_format)[:3])
            least = [[min(values) for values in zip(*each, strict=True)] for each in found.values()]
            shown = (f"{a:.2f} {b:.2f} {b / a:.2f}" for a, b in zip(*least, strict=True))
            print(f"{rows:,} x {columns}, {time_format}: {' | '.join(shown)}", flush=True)
            path.unlink()


def stored(folder, rows):
    path, time_format = folder / "large.csv", "%Y-%m-%d %H:%M:%S"
    write_table(path, rows, 10, time_format)
    took, _, _, peak, _ = measure(STORED, path, time_format)
    print(
        f"\n{rows:,} x 10, {path.stat().st_size / 1e9:.2f} GB of text, to a map: {took:.0f} s,",
        end="",
    )
    print(f" {peak:.0f} MB of anonymous memory at the peak, with all that is imported")
    took, _, _, peak, opened = measure(DATASET, path, time_format)
    print(f"opened again in {opened * 1000:.0f} ms; with 100 batches of 256 windows of it", end="")
    print(f" {took:.1f} s, {peak:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="of each reader (default: 3)")
    parser.add_argument("--stored-rows", type=int, default=2_000_000, help="(default: 2,000,000)")
    arguments = parser.parse_args()
    import pandas as pd

    versions = {"Python": platform.python_version(), "NumPy": np.__version__}
    versions["pandas"] = pd.__version__
    print(json.dumps({**versions, "cores": os.cpu_count(), "machine": platform.processor()}))
    with tempfile.TemporaryDirectory() as folder:
        if arguments.turns:
            compare(Path(folder), arguments.turns)
        if arguments.stored_rows:
            stored(Path(folder), arguments.stored_rows)


if __name__ == "__main__":
    main()
