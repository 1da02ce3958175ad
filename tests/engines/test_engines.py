"""The programs of the guide to engines, run over loopback: every cell of its table."""

import atexit
import functools
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rnnkit as rk

pytestmark = pytest.mark.backends

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "engines.md"
PROGRAMS = ROOT / "docs" / "guides" / "engines"
BACKEND = keras.backend.backend()
BATCHES, BATCH, LOOKBACK, EPOCHS = 6, 64, 24, 3
# Program -> its backend, how many processes train together, and what a survivor says of a death.
ENGINES = {
    "mirrored": ("tensorflow", 1, None),
    "multi_worker": ("tensorflow", 2, "UnavailableError|unavailable|Connection reset|peer"),
    "data_parallel": ("jax", 2, "Gloo|another task died"),
    "model_parallel": ("jax", 1, None),
    "torch_ddp": ("torch", 2, "Connection (closed|reset) by peer|Connection reset"),
}
REFUSED = {
    "multi_worker": "the workers have done [2 0] epochs: give all the backup of one",
    "data_parallel": "these processes have a backup: [0]. Give all that of one",
}
LIMIT = 240  # seconds for what takes ten on a quiet machine


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(rank, ports):
    """What each engine reads its cluster from."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "OMP_NUM_THREADS": "1",
    }
    count = len(ports)
    if count == 1:
        return environment
    addresses = [f"127.0.0.1:{port}" for port in ports]
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    return environment | {
        "TF_CONFIG": json.dumps(task),
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(ports[0]),
        "WORLD_SIZE": str(count),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }


def run(program, folder, count, kill=0, refused=None):
    """Return codes and outputs of the processes; the last of them is killed, if one is.

    All of them must end well, or with the words `refused`.
    """
    folder.mkdir(exist_ok=True)
    ports = [free_port() for _ in range(count)]
    started = []
    for rank in range(count):
        variables = environment(rank, ports)
        if program == "model_parallel":
            variables["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
        command = [sys.executable, str(Path(__file__).with_name("record.py"))]
        command += [str(PROGRAMS / f"{program}.py"), str(table()), f"notes-{rank}"]
        command += [str(kill if rank == count - 1 else 0)]
        output = (folder / f"output-{rank}").open("w+")
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
        started.append((process, output))
    try:
        end = time.monotonic() + LIMIT
        said = ENGINES.get(program, (None, 1, None))[2]
        started[-1][0].wait(LIMIT)
        for process, output in started[:-1]:
            while process.poll() is None and time.monotonic() < end:
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    # What is left of a cluster may wait for minutes after it has said why.
                    if kill and re.search(said, Path(output.name).read_text()):
                        break
    finally:
        for process, _ in started:
            process.kill()
            process.wait()
    results = []
    for process, output in started:
        output.close()
        results.append((process.returncode, Path(output.name).read_text()))
    if not kill:
        for code, text in results:
            assert code == (1 if refused else 0), text[-3000:]
            assert not refused or refused in text, text[-3000:]
    return results


@functools.cache
def scratch():
    folder = Path(tempfile.mkdtemp(prefix="engines-"))
    atexit.register(shutil.rmtree, folder)
    return folder


@functools.cache
def table():
    """A file like ETTh1.csv, whose training part has just as many windows as fill its batches."""
    rows = round((BATCHES * BATCH + LOOKBACK) / 0.7)
    values = np.random.default_rng(0).normal(size=(rows, 2)).cumsum(axis=0) / 10
    hours = np.datetime64("2016-07-01T00", "h") + np.arange(rows).astype("timedelta64[h]")
    path = scratch() / "table.csv"
    lines = [
        f"{str(hour).replace('T', ' ')}:00:00,{load:.6f},{oil:.6f}\n"
        for hour, (load, oil) in zip(hours, values, strict=True)
    ]
    path.write_text("date,HUFL,OT\n" + "".join(lines))
    return path


@functools.cache
def whole(program, count):
    folder = scratch() / f"{program}-{count}"
    run(program, folder, count)
    return folder


@functools.cache
def broken(program):
    """The folder of a training that was killed in its last epoch, and what the others said."""
    folder = scratch() / f"{program}-broken"
    results = run(program, folder, ENGINES[program][1], kill=(EPOCHS - 1) * BATCHES + 4)
    assert results[-1][0] == -9
    assert not list(folder.glob("*.keras"))
    return folder, results


def gone_on(program, name, count):
    """The folder where `count` processes ended the killed training, by its last epoch alone."""
    folder = shutil.copytree(broken(program)[0], scratch() / f"{program}-{name}")
    for notes in folder.glob("notes-*"):
        notes.unlink()
    run(program, folder, count)
    together = []
    for rank in range(count):
        lines = (folder / f"notes-{rank}").read_text().splitlines()
        assert BATCHES <= len(lines) < EPOCHS * BATCHES  # Keras may have looked at some before
        together += " ".join(lines[-BATCHES:]).split()
    last = shown(whole(program, ENGINES[program][1]), ENGINES[program][1])[-1]
    assert sorted(together) == sorted(itertools.chain(*last))
    return folder


def weights(folder):
    return [
        keras.saving.load_model(path, compile=False).get_weights()
        for path in sorted(folder.glob("*.keras"))
    ]


def assert_close(found, expected, tolerance):
    assert found
    for model in found:
        for ours, theirs in zip(model, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def shown(folder, count):
    """Windows by epoch and process, as `record.py` noted them."""
    epochs = []
    notes = [(folder / f"notes-{rank}").read_text().splitlines() for rank in range(count)]
    # Under a strategy, Keras looks at a few batches before it trains.
    notes = [lines[-EPOCHS * BATCHES :] for lines in notes]
    for epoch in range(EPOCHS):
        parts = [lines[epoch * BATCHES : (epoch + 1) * BATCHES] for lines in notes]
        epochs.append([" ".join(part).split() for part in parts])
    return epochs


def every_window():
    train = rk.split(rk.read_csv(table()), train=0.7, val=0.15).train
    spec = rk.WindowSpec(LOOKBACK, targets=["OT"])
    loader = rk.WindowLoader(train, spec, batch_size=1, scaler=rk.Scaler().fit(train))
    return {loader[i][0][0, -1].tobytes().hex() for i in range(len(loader))}


def weights_equal_one_process(program):
    count = ENGINES[program][1]
    # One process of the program for several is the reference of its backend.
    reference = {"mirrored": "multi_worker", "model_parallel": "data_parallel"}
    (expected,) = weights(whole(reference.get(program, program), 1))
    assert_close(weights(whole(program, count)), expected, 2e-5)


def windows_are_disjoint_and_complete(program):
    count = ENGINES[program][1]
    for parts in shown(whole(program, count), count):
        together = [window for part in parts for window in part]
        assert len(together) == BATCHES * BATCH
        assert set(together) == every_window()


def each_epoch_is_in_a_new_order(program):
    count = ENGINES[program][1]
    orders = shown(whole(program, count), count)
    for first, second in itertools.pairwise(orders):
        for before, after in zip(first, second, strict=True):
            assert before != after


def a_killed_training_resumes_exactly(program):
    count, said = ENGINES[program][1:]
    folder, results = broken(program)
    for _, text in results[:-1]:
        assert re.search(said, text), text[-3000:]
    again = gone_on(program, "again", count)
    for found, expected in zip(weights(again), weights(whole(program, count)), strict=True):
        assert_close([found], expected, 0)
    if count > 1:  # and with another number of workers
        alone = gone_on(program, "alone", 1)
        assert_close(weights(alone)[:1], weights(whole(program, count))[0], 2e-5)
    if program in REFUSED:  # a worker that has no backup would begin with other weights
        partial = shutil.copytree(folder, scratch() / f"{program}-partial")
        shutil.rmtree(partial / "backup-1")
        run(program, partial, count, refused=REFUSED[program])


CELLS = {
    "weights": weights_equal_one_process,
    "windows": windows_are_disjoint_and_complete,
    "order": each_epoch_is_in_a_new_order,
    "resume": a_killed_training_resumes_exactly,
}


def test_the_table_says_what_is_held_here():
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines if ".py` |" in line]
    held = {row[0].strip("`").removesuffix(".py"): row[1:] for row in rows}
    for program in ENGINES:
        assert held.pop(program) == ["yes"] * len(CELLS)
    assert set(held) == {"data_service"}  # test_data_service.py
    assert {path.stem for path in PROGRAMS.glob("*.py")} == {*ENGINES, "data_service"}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("program", ENGINES)
def test_a_cell_of_the_table(program, name):
    if ENGINES[program][0] != BACKEND:
        pytest.skip(f"an engine of {ENGINES[program][0]}")
    CELLS[name](program)


@pytest.mark.parametrize("program", [*ENGINES, "data_service"])
def test_a_program_without_its_file_tells_its_usage(program):
    if BACKEND != "tensorflow":
        pytest.skip("it is told before a backend is loaded")
    for arguments in ([], ["--help"]):
        command = [sys.executable, str(PROGRAMS / f"{program}.py"), *arguments]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert told.returncode == 1
        assert f"{program}.py ETTh1.csv" in told.stderr


def test_devices_that_a_mesh_cannot_part_are_told(tmp_path):
    if BACKEND != "jax":
        pytest.skip("an engine of jax")
    command = [sys.executable, str(PROGRAMS / "model_parallel.py"), str(table())]
    told = subprocess.run(
        command, env=environment(0, [0]), capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert told.returncode == 1
    assert told.stderr.endswith("1 devices cannot be parted in twos: set XLA_FLAGS as above\n")


def test_what_tensorflow_cannot_do_under_a_strategy_and_what_can_be_done_instead():
    if BACKEND != "tensorflow":
        pytest.skip("strategies are TensorFlow's")
    run(Path(__file__).with_name("two_workers"), scratch() / "two_workers", 2)
