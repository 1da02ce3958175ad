"""What TensorFlow and Keras can and cannot do with several replicas; see test_engines.py.

A program of its own for each of two workers, each with two devices to try MirroredStrategy too.
"""

import itertools
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_rnnkit as rk

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "engines.md").read_text(encoding="utf-8")
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
WORKERS = tf.distribute.MultiWorkerMirroredStrategy()
WORKER = WORKERS.cluster_resolver.task_id
REPLICAS = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
WINDOWS, BATCH = 96, 16


def dataset_of(**options):
    options = {"batch_size": BATCH, "shuffle": True, "seed": 1, "drop_remainder": True, **options}
    return rk.window_dataset(np.arange(WINDOWS + 1.0), rk.WindowSpec(1), squeeze=True, **options)


def windows(*parts):
    return np.concatenate(parts).ravel().astype(int).tolist()


def a_distributed_iterator_cannot_be_saved_and_its_steps_can_be_skipped(strategy, count, worker):
    epoch = rk.data.FitEpoch()
    dataset = dataset_of(epoch=epoch)

    def shown(dataset, stop=None):
        epoch.on_epoch_begin(3)
        shares = iter(strategy.experimental_distribute_dataset(dataset))
        with pytest.raises(ValueError, match="trackable object") as told:
            tf.train.Checkpoint(iterator=shares)
        words = str(told.value).split(" (")[0]
        assert words in GUIDE.replace("\n", " "), words
        return [
            windows(*strategy.experimental_local_results(x))
            for x, _ in itertools.islice(shares, stop)
        ]

    alone = [windows(x) for x, _ in dataset_of(epoch=3)]
    assert sorted(itertools.chain(*alone)) == list(range(WINDOWS))
    own = slice(worker * BATCH // count, (worker + 1) * BATCH // count)
    assert shown(dataset, stop=2) + shown(dataset.skip(2)) == [batch[own] for batch in alone]


def an_iterator_of_the_own_share_is_saved_and_restored_exactly():
    dataset = dataset_of(shard="auto", batch_size=BATCH // 2, epoch=3)
    iterator = iter(dataset)
    before = [next(iterator)[0] for _ in range(2)]
    path = tf.train.Checkpoint(iterator=iterator).save(f"place-{WORKER}")
    expected = [windows(x) for x, _ in iterator]
    resumed = iter(dataset)
    tf.train.Checkpoint(iterator=resumed).restore(path)
    after = [x for x, _ in resumed]
    assert [windows(x) for x in after] == expected

    @tf.function
    def total(x):
        return WORKERS.reduce("SUM", WORKERS.run(tf.reduce_sum, args=(x,)), axis=None)

    # What all workers train on is the whole epoch.
    assert sum(float(total(x)) for x in before + after) == sum(range(WINDOWS))


def fit_fails_with_the_words_of_the_guide():
    with WORKERS.scope():
        model = keras.Sequential([keras.Input((1, 1)), keras.layers.GRU(1)])
        model.compile("sgd", "mse")
    begin, end = "Attempt to convert a value (PerReplica:", ") with an unsupported type"
    with pytest.raises(ValueError, match=re.escape(begin)) as told:
        model.fit(dataset_of(), shuffle=False, verbose=0)
    assert end in str(told.value)
    assert f"`ValueError: {begin}{{...}}{end}`" in GUIDE
    assert f'"{begin} ...{end}"' in GUIDE


if __name__ == "__main__":
    for place in ((WORKERS, 2, WORKER), (REPLICAS, 1, 0)):
        a_distributed_iterator_cannot_be_saved_and_its_steps_can_be_skipped(*place)
    an_iterator_of_the_own_share_is_saved_and_restored_exactly()
    fit_fails_with_the_words_of_the_guide()
