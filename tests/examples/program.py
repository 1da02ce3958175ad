"""Runs an example as a newcomer does: in a process and a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_example(name, folder, *options, **more):
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::UserWarning"},
        capture_output=True,
        check=False,
        encoding="utf-8",
        **more,
    )
