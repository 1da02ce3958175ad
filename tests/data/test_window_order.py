"""The orders of epochs: how many there are, how evenly they spread, and NumPy's are TensorFlow's.

`RNNKIT_EPOCHS=10000` takes that many epochs of each size, instead of the usual few.
"""

import os

import numpy as np
import pytest

from keras_rnnkit.data.permute import SORTED, epoch_tables, permuted

EPOCHS = int(os.environ.get("RNNKIT_EPOCHS", "0"))


def order(windows, epoch, seed=1, places=None):
    """The windows at the first places of an epoch."""
    places = np.arange(windows if places is None else places)
    tables = epoch_tables(seed, epoch, windows)
    if windows <= SORTED:
        return tables["order"][places]
    return permuted(places, tables["words"], windows)


def unlikely(observed, expected, freedom):
    """By how many standard deviations chi-square exceeds what chance gives (Wilson-Hilferty)."""
    ratio = ((observed - expected) ** 2 / expected).sum() / freedom
    part = 2 / (9 * freedom)
    return (ratio ** (1 / 3) - (1 - part)) / part**0.5


@pytest.mark.parametrize(
    ("windows", "epochs"), [(16, 3000), (1000, 1500), (65_536, 300), (420_451, 300)]
)
def test_every_epoch_has_an_order_of_its_own(windows, epochs):
    epochs = EPOCHS or epochs
    shown = {order(windows, epoch, places=min(windows, 64)).tobytes() for epoch in range(epochs)}
    assert len(shown) == epochs


@pytest.mark.parametrize("windows", [3, 1000, 420_451])
def test_seeds_are_as_good_as_epochs(windows):
    shown = {order(windows, 0, seed, min(windows, 64)).tobytes() for seed in range(300)}
    assert len(shown) == min(300, 6 if windows == 3 else 300)


def test_the_six_orders_of_three_windows_are_equally_frequent():
    shown = [tuple(order(3, epoch)) for epoch in range(EPOCHS or 3000)]
    counts = np.unique(shown, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert unlikely(counts, len(shown) / 6, 5) < 3.72  # p > 1e-4


@pytest.mark.parametrize(
    ("windows", "epochs"), [(16, 3000), (1000, 500), (65_536, 30), (420_451, 8)]
)
def test_windows_and_neighbours_are_spread_evenly(windows, epochs):
    bins = 16
    index = np.arange(windows) * bins // windows
    sizes = np.bincount(index).astype(float)
    places, pairs = np.zeros((2, bins, bins))
    for epoch in range(epochs):
        shown = index[order(windows, epoch)]
        assert np.array_equal(np.bincount(shown), sizes)
        np.add.at(places, (index, shown), 1)
        np.add.at(pairs, (shown[:-1], shown[1:]), 1)
    freedom = (bins - 1) ** 2
    even = np.outer(sizes, sizes)
    assert unlikely(places, even * places.sum() / even.sum(), freedom) < 3.72
    # No window follows itself.
    even -= np.diag(sizes)
    likely = even > 0
    expected = even[likely] * pairs.sum() / even.sum()
    assert unlikely(pairs[likely], expected, freedom - bins * (windows == bins)) < 3.72


def test_tensorflow_computes_the_same_orders():
    tf = pytest.importorskip("tensorflow")
    from keras_rnnkit.data.dataset import TensorOps, _epoch_tables

    ops = TensorOps(tf)
    sizes = [1, 2, 3, 4, 16, 1000, 65_535, 65_536, 65_537, 65_538, 2**17, 2**20 + 1, 2**31, 2**40]
    for windows in sizes:
        for seed, epoch in ((12345678901, 3), (0, 0), (2**63 - 1, 10**6)):
            mine = epoch_tables(seed, epoch, windows)
            with tf.device("CPU:0"):
                theirs = _epoch_tables(tf, seed, tf.constant(epoch, tf.int64), windows)
                assert np.array_equal(mine["words"], theirs["words"])
                if windows <= SORTED:
                    assert np.array_equal(mine["order"], theirs["order"])
                    continue
                places = np.unique(np.linspace(0, windows - 1, 50).astype(np.int64))
                shown = ops.permuted(places, theirs["words"], windows)
            assert np.array_equal(permuted(places, mine["words"], windows), shown), windows


def test_the_words_are_those_of_splitmix():
    """Computed once with a plain SplitMix64 on Python's integers."""

    def splitmix(state):
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        return state ^ (state >> 31)

    for seed, epoch in ((0, 0), (7, 1), (2**63 - 1, 10**6)):
        base = splitmix(seed)
        expected = []
        for turn in range(3):
            number = splitmix((base + (3 * epoch + turn) * 0x9E3779B97F4A7C15) % 2**64)
            expected += [number % 2**32, number >> 32]
        assert epoch_tables(seed, epoch, 10)["words"].tolist() == expected
