"""The check of this folder: whole where there is a GPU, rehearsed on the CPU everywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name("check.py")
NO_GPU = 2
SECTIONS = ["parity", "models", "inspection", "ratios"]


def run(*arguments, **added):
    """Run the check with the GPUs that the environment shows: the suite itself hides them."""
    command = [sys.executable, str(CHECK), *map(str, arguments)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": os.environ["RNNKIT_GPUS"], **added}
    if environment["CUDA_VISIBLE_DEVICES"] == "all":
        del environment["CUDA_VISIBLE_DEVICES"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def lines_of(found):
    """The check's own lines, after it went well."""
    assert found.returncode == 0, f"{found.stdout[-8000:]}\n{found.stderr[-4000:]}"
    return found.stdout.splitlines()


def test_a_gpu_passes_the_check():
    driver = shutil.which("nvidia-smi")
    listed = driver and subprocess.run([driver, "-L"], capture_output=True, text=True, check=False)
    if not listed or listed.returncode or not listed.stdout.strip():
        pytest.skip("no NVIDIA driver lists a GPU here: run tests/gpu/check.py where one does")
    found = run("--budget", 240)
    if found.returncode == NO_GPU:
        pytest.skip(found.stdout.splitlines()[-1])
    assert any(line.startswith("ok") for line in lines_of(found))


def test_the_check_can_be_rehearsed_on_the_cpu():
    """The head of each section: what no longer runs here would not run on a GPU."""
    lines = lines_of(run("--cpu", "--first", 2, "--budget", 600))
    for section in SECTIONS:
        assert sum(line.startswith(f"ok   {section}: ") for line in lines) == 2, lines
    assert lines[-1].startswith("8 ok, 0 failed, 0 skipped, 0 left out")


def test_the_check_stops_when_its_budget_is_spent():
    lines = lines_of(run("--cpu", "--first", 1, "--budget", 0))
    left_out = [line.split(":")[0] for line in lines if line.startswith("left out, ")]
    assert left_out == [f"left out, {section}" for section in SECTIONS]
    assert lines[-1].startswith("0 ok, 0 failed, 0 skipped, 4 left out")


def test_without_a_gpu_the_check_says_so():
    found = run("--budget", 1, CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    assert found.returncode == NO_GPU
    assert "sees no GPU here" in found.stdout.splitlines()[-1]
