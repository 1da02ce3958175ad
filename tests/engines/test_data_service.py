"""Windows through the tf.data service: exact, or refused with a remedy."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.data import dataset as module

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "engines.md").read_text(encoding="utf-8")
ROWS = np.arange(24.0)


@pytest.fixture(scope="module")
def served():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the service is TensorFlow's")
    import tensorflow as tf

    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    target = dispatcher.target
    config = service.WorkerConfig(target.removeprefix("grpc://"), dispatcher_timeout_ms=1000)
    workers = [service.WorkerServer(config) for _ in range(2)]

    def through(policy="DYNAMIC", **options):
        dataset = rk.window_dataset(ROWS, rk.WindowSpec(1, targets=()), batch_size=4, **options)
        way = service.distribute(getattr(service.ShardingPolicy, policy), target)
        return dataset.apply(way)

    yield through
    del workers, dispatcher


def test_each_window_comes_once_of_several_workers(served):
    for _ in range(2):
        shown = np.concatenate([x.numpy().ravel() for x in served()])
        assert np.array_equal(np.sort(shown), ROWS)


@pytest.mark.parametrize("policy", ["OFF", "DYNAMIC"])
def test_an_order_that_workers_cannot_know_is_refused(served, policy):
    words = r"pass shuffle=False and ShardingPolicy\.DYNAMIC"
    if policy == "DYNAMIC":  # a worker that is left without a part may be the first to fail
        words += "|expected to contain 6 elements"
    with pytest.raises(Exception, match=words):
        next(iter(served(policy, shuffle=True)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_that_one_message_cannot_hold_are_refused_before_they_are_sent(
    served, shuffle, monkeypatch
):
    monkeypatch.setattr(module, "MESSAGE_BYTES", 90)
    with pytest.raises(Exception, match=r"at most 2 GB: use shard= without the service"):
        served(shuffle=shuffle)
    # Here they are as good as any others.
    dataset = rk.window_dataset(ROWS, rk.WindowSpec(1, targets=()), shuffle=shuffle)
    assert np.array_equal(np.sort(next(iter(dataset)).numpy().ravel()), ROWS)


@pytest.mark.parametrize("server", ["worker", "dispatcher"])
def test_a_pass_is_whole_or_says_so_after_a_death(server, tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the service is TensorFlow's")
    import tensorflow as tf

    from tests.engines import served

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    servers = []
    if server == "worker":
        servers.append(tf.data.experimental.service.DispatchServer())
        target = servers[0].target
    else:
        target = f"grpc://127.0.0.1:{port}"
    # The server, with a client in the middle of its pass.
    doomed = subprocess.Popen(
        [sys.executable, served.__file__, server, target, str(port), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert doomed.stdout.readline() == b"serving\n"
        if server == "dispatcher":
            servers.append(served.started("worker", target, 0, tmp_path))
        assert doomed.stdout.readline() == b"reading\n"
        dataset = served.dataset_of(target)
        shown = []
        try:
            for number, x in enumerate(dataset):
                shown += x.numpy().ravel().tolist()
                if number == 20:
                    doomed.kill()
                    assert doomed.wait() == -9
                    servers.append(served.started(server, target, port, tmp_path))
        except tf.errors.FailedPreconditionError as error:
            assert server == "worker"
            told = re.search(
                r"Input dataset was expected to contain \d+ elements but contained only", str(error)
            )
            assert re.sub(r"\d+", "...", told[0]) in GUIDE
            assert len(shown) < served.WINDOWS
        else:
            assert len(shown) == served.WINDOWS
        assert len(set(shown)) == len(shown)
        # The client that died begins anew.
        again = [value for x in dataset for value in x.numpy().ravel().tolist()]
        assert sorted(again) == list(range(served.WINDOWS))
    finally:
        doomed.kill()
        doomed.communicate()
        del servers[:]


def test_states_do_not_change_their_replica(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("strategies are TensorFlow's")
    import tensorflow as tf

    class Three:
        num_replicas_in_sync = 3
        cluster_resolver = None

    def read(data):
        data.on_epoch_begin()

    monkeypatch.setattr(tf.distribute, "get_strategy", Three)
    spec = rk.WindowSpec(2, stride=2)
    for make in (rk.window_dataset, rk.WindowLoader):
        with pytest.raises(ValueError, match=r"batch_size=4 .* 3 replicas, .* a multiple"):
            read(make(ROWS, spec, batch_size=4, stateful_batches=True))
        assert len(make(ROWS, spec, batch_size=3, stateful_batches=True)) == 4


def test_the_program_of_the_guide(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the service is TensorFlow's")
    program = ROOT / "docs" / "guides" / "engines" / "data_service.py"
    values = np.random.default_rng(0).normal(size=(400, 2))
    hours = np.datetime64("2016-07-01T00", "h") + np.arange(400).astype("timedelta64[h]")
    lines = [f"{hour}:00:00,{a},{b}\n" for hour, (a, b) in zip(hours, values, strict=True)]
    (tmp_path / "table.csv").write_text("date,HUFL,OT\n" + "".join(lines))
    ran = subprocess.run(
        [sys.executable, str(program), "table.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    served, alone = (line.split()[-1] for line in ran.stdout.splitlines()[-2:])
    assert float(served) == pytest.approx(float(alone), rel=1e-3)
