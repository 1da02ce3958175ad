"""Runs an example as a newcomer does, in a folder of its own but in this process.

A new one would take seconds to import the framework again.
"""

import io
import runpy
import sys
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """A function of an example's name, its options and what it is given to read: what it prints."""

    def run(name, *options, given=""):
        monkeypatch.setattr(sys, "argv", [name, *options])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        capsys.readouterr()
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")  # as Python does for a script
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for a process that the example starts
    yield run
    plt.close("all")
