"""atomic_write: whole files whatever is killed, full, linked or written by many at once."""

import os
import secrets
import stat
import subprocess
import sys
import threading

import pytest

from keras_rnnkit import atomic
from keras_rnnkit.atomic import atomic_write, clear_abandoned

needs_locks = pytest.mark.skipif(
    atomic.fcntl is None, reason="Windows keeps open files from being deleted by itself"
)
KILLED = """
import os, sys, pathlib
from keras_rnnkit.atomic import atomic_write
with atomic_write(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half of ")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with atomic_write(path, "w") as file:
        file.write("zwölf")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == "zwölf".encode()
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert names(tmp_path) == ["file", "other"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    with pytest.raises(OSError, match="folder"), atomic_write(tmp_path / "folder" / "f"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"), atomic_write(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_a_name_as_long_as_a_name_may_be(tmp_path):
    path = tmp_path / ("ü" * 127)
    with atomic_write(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_links_are_replaced_and_never_written_through(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    tokens = iter(["guessed", "free"])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(tokens))
    trap = tmp_path / f"{atomic.PREFIX}{os.getpid()}-guessed{atomic.SUFFIX}"
    trap.symlink_to(victim)
    path = tmp_path / "file"
    path.symlink_to(victim)
    with atomic_write(path) as file:
        file.write(b"new")
    assert victim.read_bytes() == b"precious"
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()


@needs_locks
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
        assert run.returncode == -9
        left = [name for name in names(tmp_path) if name != "file"]
        assert len(left) == 1  # the second run cleared what the first one left
        assert path.read_bytes() == b"old"
    with atomic_write(tmp_path / "other"):
        pass
    assert names(tmp_path) == ["file", "other"]


@needs_locks
def test_only_what_nobody_owns_is_cleared(tmp_path):
    other = tmp_path / f"{atomic.PREFIX}of-mine.txt"
    other.write_bytes(b"")
    os.mkfifo(tmp_path / f"{atomic.PREFIX}fifo{atomic.SUFFIX}")
    with atomic_write(tmp_path / "a") as first:
        first.write(b"a")
        first.flush()
        with atomic_write(tmp_path / "b") as second:
            second.write(b"b")
        clear_abandoned(tmp_path / "anything")
        assert len(names(tmp_path)) == 4
    assert (tmp_path / "a").read_bytes() == b"a"
    assert (tmp_path / "b").read_bytes() == b"b"
    assert other.exists()


@needs_locks
def test_a_file_that_another_clears_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    flock, meddled = atomic.fcntl.flock, []

    def meddle(descriptor, operation):
        if not meddled:
            meddled.append(descriptor)
            clear_abandoned(tmp_path / "x")
        flock(descriptor, operation)

    monkeypatch.setattr(atomic.fcntl, "flock", meddle)
    with atomic_write(tmp_path / "x") as file:
        file.write(b"x")
    assert (tmp_path / "x").read_bytes() == b"x"
    assert names(tmp_path) == ["x"]


def test_threads_write_and_read_whole_files(tmp_path):
    path = tmp_path / "file"
    contents = {bytes([letter]) * 100_000 for letter in b"abcd"}
    errors = []

    def write(content):
        try:
            for _ in range(25):
                with atomic_write(path) as file:
                    file.write(content)
                assert path.read_bytes() in contents
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert names(tmp_path) == ["file"]
