"""download: a file that is whole when it has its name, whatever was killed or cut before."""

import hashlib
import http.client
import io
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import keras_rnnkit as rk
from keras_rnnkit.datasets.download import ATTEMPTS, download

ADDRESS = "https://example.org/folder/data.zip"
DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Network:
    """Answers one request after the other; what is an exception is raised."""

    def __init__(self):
        self.asked = []
        self.answers = []

    def open(self, address, timeout):
        self.asked.append(address)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)


@pytest.fixture
def network(tmp_path, monkeypatch):
    network = Network()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(urllib.request, "urlopen", network.open)
    return network


def fetch(sha256=SHA256):
    return download(ADDRESS, len(DATA), sha256, "load('{}')")


def test_it_is_fetched_once_and_kept_where_keras_keeps_its_own(network, tmp_path):
    network.answers = [DATA]
    path = fetch()
    assert path == tmp_path / "keras" / "datasets" / "data.zip"
    assert path.read_bytes() == DATA
    assert fetch() == path
    assert network.asked == [ADDRESS]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "answer",
    [
        DATA[:-1],
        DATA[: len(DATA) // 2],
        b"",
        DATA + b"more",
        DATA[:-1] + b"x",
        ConnectionResetError("reset"),
        http.client.IncompleteRead(b""),
    ],
    ids=["short", "half", "nothing", "long", "another hash", "reset", "incomplete"],
)
def test_what_is_not_whole_is_fetched_again_and_never_kept(network, answer):
    network.answers = [answer, DATA]
    path = fetch()
    assert path.read_bytes() == DATA
    assert len(network.asked) == 2
    path.unlink()
    network.answers = [answer] * ATTEMPTS
    with pytest.raises(OSError, match=r"data\.zip could not be downloaded: .*load\('data\.zip'\)"):
        fetch()
    assert list(path.parent.iterdir()) == []


def test_a_part_left_by_something_else_is_fetched_anew(network, tmp_path):
    path = tmp_path / "keras" / "datasets" / "data.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA[:1000])
    network.answers = [DATA]
    assert fetch().read_bytes() == DATA


def test_nobody_sees_a_part(network, tmp_path, monkeypatch):
    path = tmp_path / "keras" / "datasets" / "data.zip"
    seen = []

    class Watched(io.BytesIO):
        def read(self, size):
            seen.append(path.exists())
            return super().read(size)

    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: Watched(DATA))
    assert fetch().read_bytes() == DATA
    assert len(seen) > 2
    assert not any(seen)


KILLED = """
import io, os, sys, urllib.request
from keras_rnnkit.datasets.download import download

class Dies(io.BytesIO):
    def read(self, size):
        if self.tell():
            os.kill(os.getpid(), 9)
        return super().read(size)

urllib.request.urlopen = lambda address, timeout: Dies(bytes(1 << 20))
download("https://example.org/folder/data.zip", 1 << 20, None, "{}")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal 9")
def test_a_killed_download_leaves_nothing_that_the_next_does_not_clear(network, tmp_path):
    environment = {**os.environ, "KERAS_HOME": str(tmp_path / "keras")}
    run = subprocess.run(
        [sys.executable, "-c", KILLED],
        env=environment,
        cwd=Path(rk.__file__).parents[1],
        check=False,
    )
    assert run.returncode == -9
    folder = tmp_path / "keras" / "datasets"
    assert len(list(folder.iterdir())) == 1
    assert not (folder / "data.zip").exists()
    network.answers = [DATA]
    assert fetch().read_bytes() == DATA
    assert list(folder.iterdir()) == [folder / "data.zip"]


def test_a_folder_that_cannot_be_made_is_told(network, tmp_path):
    (tmp_path / "keras").write_text("a file")
    with pytest.raises(OSError, match=r"could not be downloaded.*pass its path"):
        fetch()
