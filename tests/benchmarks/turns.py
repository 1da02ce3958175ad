"""Processes that take turns: each works when it is asked, and the others wait meanwhile."""

import contextlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np


class Worker:
    """A process that runs a script with `--worker NAME`, and answers questions over its pipes."""

    def __init__(self, script, name, **environment):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, script, "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def ask(self, **question):
        """Send a question without waiting for its answer."""
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """Wait for the answer to what was asked."""
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the process of {self.name} ended: {self.process.wait()}")
        return json.loads(line)

    def turn(self, **question):
        """Ask, and wait."""
        self.ask(**question)
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(answer):
    """Answer each question on standard input; what else is printed goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            print(json.dumps(answer(**json.loads(line))), file=sys.__stdout__, flush=True)


def spread(ratios):
    """The median of the rounds' ratios, and the half of them around it."""
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def machine(*packages):
    """The processor, and the versions of Python and of the packages that are installed."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    found = [f"{model}, {os.cpu_count()} cores", f"Python {platform.python_version()}"]
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return ", ".join(found)


def load():
    """What else the machine had to do: runnable processes, averaged over a minute."""
    return f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
