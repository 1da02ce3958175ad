"""Tables written to a mapped file: what they hold, and what is left of a process that is killed."""

import gzip
import importlib
import json
import os
import pickle
import subprocess
import sys
import time as clock

import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.data import tables, text_table

TEXT = "g,t,x,y\n" + "".join(
    f"{'ba'[row % 2]},2024-01-{1 + row // 2:02},{row}.5,{'' if row % 3 else row}\n"
    for row in range(40)
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(TEXT)
    return path


def same(one, other):
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.bounds, other.bounds)
    np.testing.assert_array_equal(one.segments(), other.segments())
    assert (one.time is None) == (other.time is None)
    assert one.time is None or (one.time == other.time).all()
    assert (one.names, one.groups, one.freq) == (other.names, other.groups, other.freq)
    assert str(one.zone) == str(other.zone)


@pytest.mark.parametrize("rows", [7, 1 << 16])
@pytest.mark.parametrize(
    "options",
    [
        {"group": "g"},
        {"group": "g", "sort": True},
        {"names": ["x"], "duplicates": "last", "zone": "Europe/Berlin"},
        {"names": ["x", "y"], "drop": "g", "sort": True, "duplicates": "first", "na_values": 4.5},
        {"time": [], "names": ["x"], "drop": ["g", "t"]},
    ],
)
def test_a_map_gives_what_memory_gives(options, rows, table, tmp_path, monkeypatch):
    memory = rk.read_csv(table, **options)
    monkeypatch.setattr(text_table, "CHUNK_ROWS", rows)
    mapped = rk.read_csv(table, store=tmp_path / "rows.npy", **options)
    same(mapped, memory)
    same(rk.TimeSeries.open(tmp_path / "rows.npy"), memory)
    same(pickle.loads(pickle.dumps(mapped)), memory)
    assert isinstance(mapped.values, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), memory.values)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "rows.npy"]


def test_windows_on_a_stored_table(table, tmp_path):
    spec = rk.WindowSpec(3, targets=["x"], features=["x"])
    given = [
        rk.WindowLoader(rk.read_csv(table, group="g", store=store), spec, batch_size=99)[0]
        for store in (None, tmp_path / "rows.npy")
    ]
    for mine, theirs in zip(*given, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_parquet_and_packed_text(table, tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.read_csv(table, parse_dates=["t"])
    frame.to_parquet(tmp_path / "rows.parquet")
    memory = rk.read_csv(table, group="g")
    same(rk.read_parquet(tmp_path / "rows.parquet", group="g", store=tmp_path / "a.npy"), memory)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    same(rk.read_csv(packed, group="g", store=tmp_path / "b.npy"), memory)


def test_a_file_is_read_again_where_it_or_the_question_is_another(table, tmp_path, monkeypatch):
    store = tmp_path / "rows.npy"
    rk.read_csv(table, group="g", store=store)
    built = []
    build = tables.build_series
    module = importlib.import_module("keras_rnnkit.data.read_csv")
    monkeypatch.setattr(module, "build_series", lambda *a: built.append(1) or build(*a))
    rk.read_csv(table, group="g", store=store)
    assert not built
    rk.read_csv(table, names=["x"], group="g", store=store)
    assert len(built) == 1
    table.write_text(TEXT + "a,2024-02-01,1,1\n")
    with pytest.raises(ValueError, match=r"rows\.csv, which has changed since: read that again"):
        rk.TimeSeries.open(store)
    assert len(rk.read_csv(table, names=["x"], group="g", store=store)) == 41
    assert len(built) == 2
    table.unlink()
    assert len(rk.TimeSeries.open(store)) == 41


def test_what_is_no_stored_table_is_refused(table, tmp_path):
    store = tmp_path / "rows.npy"
    rk.read_csv(table, group="g", store=store)
    whole = store.read_bytes()
    for broken in (whole[:-1], whole[: len(whole) // 2], whole[:100], b""):
        store.write_bytes(broken)
        with pytest.raises(
            ValueError, match="is not a complete file that read_csv or read_parquet"
        ):
            rk.TimeSeries.open(store)
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        rk.TimeSeries.open(tmp_path / "none.npy")
    with pytest.raises(ValueError, match="store= names the table itself"):
        rk.read_csv(table, store=table)
    with pytest.raises(FileNotFoundError, match="folder that does not exist"):
        rk.read_csv(table, store=tmp_path / "none" / "rows.npy")
    store.write_bytes(b"old")
    table.write_text(TEXT + "a,2024-02-01,soon,1\n")
    with pytest.raises(ValueError, match="line 42, column 'x'"):
        rk.read_csv(table, group="g", store=store)
    assert store.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "rows.npy"]


KILLED = """
import json, os, signal, sys
import keras_rnnkit as rk

table, store, moments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
dead = 0
for moment in moments:
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_REAL, moment)  # which nobody handles
        while True:
            rk.read_csv(table, group="g", store=store)
            os.utime(table)
    dead += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if os.path.exists(store):
        series = rk.TimeSeries(store)
        assert series.values.sum() == float(sys.argv[4])
print(dead)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system starts no process by fork")
def test_a_killed_process_leaves_a_whole_file_or_none(table, tmp_path):
    rows = 30_000
    table.write_text("g,x\n" + "".join(f"{row // 10_000},{row}\n" for row in range(rows)))
    store = tmp_path / "rows.npy"
    begun = clock.perf_counter()
    rk.read_csv(table, group="g", store=store)
    took = clock.perf_counter() - begun
    store.unlink()
    moments = [took * share / 8 for share in range(1, 17)]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, table, store, json.dumps(moments), str(sum(range(rows)))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.splitlines()[-1]) == len(moments)
    # The next writer clears what the killed ones left.
    rk.read_csv(table, group="g", store=store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "rows.npy"]
    assert len(rk.TimeSeries.open(store)) == rows
