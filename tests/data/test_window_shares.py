"""Shares of an epoch by the engine in use: read, refused where wrong, cut anew, followed."""

import json
import pickle

import keras
import numpy as np
import pytest

import keras_rnnkit as rk

pytestmark = pytest.mark.backends

BACKEND = keras.backend.backend()
ROWS = np.arange(101.0)


def loader_of(**options):
    options = {"batch_size": 8, "shuffle": True, "seed": 1, **options}
    return rk.WindowLoader(ROWS, rk.WindowSpec(1), **options)


def windows(batch):
    return np.asarray(batch[0])[:, 0, 0].astype(int).tolist()


def test_auto_is_everything_where_one_process_trains():
    assert [windows(b) for b in loader_of(shard="auto")] == [windows(b) for b in loader_of()]
    with pytest.raises(ValueError, match=r"\(count, index\) or 'auto', received 'all'"):
        loader_of(shard="all")


@pytest.mark.parametrize(("task", "share"), [("chief", (3, 0)), ("worker", (3, 2)), ("ps", None)])
def test_auto_reads_the_place_in_tf_config(task, share, monkeypatch):
    if BACKEND != "tensorflow":
        pytest.skip("TF_CONFIG is TensorFlow's")
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    if share is None:
        cluster["ps"] = ["d:1"]
    place = {"type": task, "index": 1 if task == "worker" else 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": place}))
    if share is None:
        with pytest.raises(ValueError, match=r"input_pipeline_id"):
            loader_of(shard="auto")
        return
    assert windows(loader_of(shard="auto")[0]) == windows(loader_of(shard=share)[0])
    # Who evaluates sees every window.
    place["type"] = "evaluator"
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": place}))
    assert windows(loader_of(shard="auto")[0]) == windows(loader_of()[0])


@pytest.mark.parametrize(
    "place",
    [
        {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 5}},
        {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 1}},
        {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": "one"}},
        {"cluster": {"worker": ["a:1", "b:1"]}},
        {"cluster": "a:1"},
        {"cluster": {"worker": ["a:1", "b:1"]}, "task": "worker"},
    ],
)
def test_auto_refuses_a_tf_config_that_gives_no_place(place, monkeypatch):
    if BACKEND != "tensorflow":
        pytest.skip("TF_CONFIG is TensorFlow's")
    for value in (json.dumps(place), json.dumps(place)[:-1]):  # and cut short
        monkeypatch.setenv("TF_CONFIG", value)
        with pytest.raises(ValueError, match=r"shard='auto'.*TF_CONFIG=.*\"index\": 0"):
            loader_of(shard="auto")


def test_auto_refuses_processes_that_do_not_know_of_each_other_yet(monkeypatch):
    if BACKEND == "tensorflow":
        pytest.skip("TF_CONFIG is read as it stands")
    variable, call = {
        "jax": ("KERAS_DISTRIBUTION_NUM_PROCESSES", r"distribution\.initialize\(\)"),
        "torch": ("WORLD_SIZE", r"init_process_group\(\)"),
    }[BACKEND]
    monkeypatch.setenv(variable, "2")
    with pytest.raises(ValueError, match=f"{variable}=2.*{call} first"):
        loader_of(shard="auto")


def test_shares_can_be_cut_anew_in_the_middle_of_an_epoch():
    def steps(count):
        shards = [loader_of(batch_size=24 // count, shard=(count, i)) for i in range(count)]
        return [sorted(w for s in shards for w in windows(s[k])) for k in range(4)]

    # What n workers have shown after a step is what one, or any other number, would have.
    assert steps(1) == steps(2) == steps(3) == steps(4)


class Engine:
    """A distribution of several JAX processes, of which this is one."""

    def __init__(self, processes, devices, automatic, monkeypatch):
        import jax

        monkeypatch.setattr(jax, "process_count", lambda: processes)
        monkeypatch.setattr(jax, "process_index", lambda: processes - 1)
        self.device_mesh = keras.distribution.DeviceMesh(
            (devices,), ["batch"], [f"cpu:{i}" for i in range(devices)]
        )
        self.batch_dim_name, self.auto_shard_dataset = "batch", automatic
        monkeypatch.setattr(keras.distribution, "distribution", lambda: self)


@pytest.mark.parametrize(
    ("processes", "devices", "automatic", "options", "error"),
    [
        (2, 2, False, {}, "each of 2 processes would show every window. Pass shard='auto'"),
        (2, 2, True, {"shard": "auto"}, "auto_shard_dataset = False and pass shard='auto'"),
        (2, 2, True, {}, "auto_shard_dataset = False and pass shard='auto'"),
        (2, 2, False, {"shard": "auto"}, None),
        (2, 2, False, {"shard": (1, 0)}, None),
        (4, 2, False, {"shard": "auto"}, None),  # two processes hold one replica
        (
            1,
            8,
            False,
            {},
            "4 windows cannot be parted equally among 8 devices. Pass drop_rem",
        ),
        (1, 8, False, {"drop_remainder": True}, None),
        (1, 3, False, {"drop_remainder": True}, "8 windows .* 3 devices. Pass a batch_size="),
        (2, 8, False, {"shard": "auto", "batch_size": 24}, "2 windows .* 4 devices"),
        (2, 8, False, {"shard": "auto", "batch_size": 25}, "25 windows .* 4 devices"),
    ],
)
def test_jax_is_fed_equal_parts_once(processes, devices, automatic, options, error, monkeypatch):
    if BACKEND != "jax":
        pytest.skip("keras.distribution is JAX's")
    epoch = rk.data.FitEpoch()
    Engine(processes, devices, automatic, monkeypatch)
    loader = loader_of(epoch=epoch, **options)
    if options.get("shard") == "auto":
        count = min(processes, devices)
        expected = windows(loader_of(**{**options, "shard": (count, count - 1)})[0])
        assert windows(loader[0]) == expected
    for begin in (loader.on_epoch_begin, epoch.on_train_begin):  # as fit calls them
        if error is None:
            begin()
            continue
        with pytest.raises(ValueError, match=error):
            begin()


@pytest.mark.parametrize("context", [None, "spawn"])
def test_workers_that_stay_follow_the_epoch(context):
    torch = pytest.importorskip("torch")
    if BACKEND != "torch":
        pytest.skip("DataLoader is torch's")
    loader = loader_of(epoch=rk.data.FitEpoch())
    batches = torch.utils.data.DataLoader(
        loader,
        batch_size=None,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    for number in (0, 3, 1):
        loader.epoch = number
        alone = loader_of(epoch=number)
        assert [windows(b) for b in batches] == [windows(alone[i]) for i in range(len(alone))]


def test_a_copy_counts_for_itself_and_holds_no_model():
    epoch = rk.data.FitEpoch()
    loader = loader_of(epoch=epoch)
    small = len(pickle.dumps(loader))
    model = keras.Sequential([keras.Input((1, 1)), keras.layers.Dense(50_000)])
    epoch.set_model(model)
    epoch.on_epoch_begin(2)
    assert len(pickle.dumps(loader)) == small
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.epoch == 2
    copy.epoch = 5
    epoch.on_epoch_begin(3)
    assert (loader.epoch, copy.epoch) == (3, 5)
