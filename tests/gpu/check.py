"""What only a GPU shows, in one command that stops by itself when its seconds are spent.

    KERAS_BACKEND=torch python tests/gpu/check.py --budget 240
    KERAS_BACKEND=jax python tests/gpu/check.py --budget 240 --only parity,ratios
    KERAS_BACKEND=tensorflow python tests/gpu/check.py --budget 120 --cpu

Each line is printed as it is known. With `--cpu` the same code runs at small sizes on the CPU, for
a rehearsal. The exit status is 1 if anything failed, 2 if there is no GPU.
"""

import argparse
import importlib
import itertools
import os
import sys
import time
import traceback
from pathlib import Path
from unittest import SkipTest

STARTED = time.monotonic()
# A section's share of the seconds; what it leaves goes to those after it.
SHARES = {"parity": 0.2, "models": 0.35, "inspection": 0.1, "ratios": 0.35}
FAILED, NO_GPU = 1, 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=240, help="seconds, counted from the start")
    parser.add_argument("--only", default=",".join(SHARES), help="sections, parted by commas")
    parser.add_argument("--first", type=int, help="so many items of each section, and no more")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU, at small sizes")
    found = parser.parse_args()
    found.only = [name for name in SHARES if name in found.only.split(",")]
    if not found.only:
        parser.error(f"--only must name some of {', '.join(SHARES)}")
    return found


def prepare(cpu):
    """Set what the frameworks read when they are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    root = str(Path(__file__).resolve().parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)


def show(*words):
    print(*words, flush=True)


def run(section, title, item, counts):
    """Run one item and print its line."""
    began = time.monotonic()
    trouble = ""
    try:
        status, figures = "ok", item()
    except SkipTest as reason:
        status, figures = "skip", str(reason)
    except Exception as error:
        status, figures = "FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        trouble = traceback.format_exc()[-2500:]
    counts[status] += 1
    first, *rest = figures.split("\n")
    show(f"{status:4} {section}: {title}: {first} ({time.monotonic() - began:.1f} s)")
    for line in [*rest, *trouble.splitlines()]:
        show(line)


def main():
    options = arguments()
    prepare(options.cpu)
    from tests.gpu import machine

    for line in machine.describe():
        show(line)
    if not options.cpu and not machine.gpus():
        show(f"{machine.BACKEND} sees no GPU here: nothing was checked. --cpu rehearses without.")
        return NO_GPU
    counts, left_out = dict.fromkeys(("ok", "FAIL", "skip"), 0), []
    shares, spent = sum(SHARES[name] for name in options.only), 0.0
    for section in options.only:
        spent += SHARES[section] / shares
        items = importlib.import_module(f"tests.gpu.{section}").items(options.cpu)
        for title, item in itertools.islice(items, options.first):
            if time.monotonic() - STARTED > spent * options.budget:
                left_out.append(f"{section}: {title}")
            else:
                run(section, title, item, counts)
    for title in left_out:
        show("left out,", title)
    show(
        f"{counts['ok']} ok, {counts['FAIL']} failed, {counts['skip']} skipped, {len(left_out)} "
        f"left out for want of time; {time.monotonic() - STARTED:.0f} of {options.budget:g} s, "
        f"{machine.BACKEND} on {'the CPU' if options.cpu else 'a GPU'}"
    )
    return FAILED if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
