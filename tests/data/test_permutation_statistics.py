"""Whether the orders of the epochs are as if drawn at random.

`RNNKIT_EXAMPLES` of 10,000 or more looks at 10,000 epochs of each size, instead of some hundreds.
"""

import math
import random

import numpy as np
import pytest

import keras_rnnkit as rk
from tests.data.drawn_cases import EXAMPLES

SIZES = [3, 16, 1000, 65_536, 420_451]
EPOCHS = 10_000 if EXAMPLES >= 10_000 else 600
BINS = 16


def tail(statistic, degrees):
    """How likely a chi-square statistic of at least this is (Wilson and Hilferty, 1931)."""
    spread = 2 / (9 * degrees)
    deviate = ((statistic / degrees) ** (1 / 3) - 1 + spread) / math.sqrt(spread)
    return math.erfc(deviate / math.sqrt(2)) / 2


def chi_square(counts, expected):
    """The sum of the squared differences, each by what was expected."""
    return float((np.square(counts - expected) / expected).sum())


def counted_windows(size, batch_size, **options):
    """A loader whose windows hold their own number."""
    return rk.WindowLoader(
        np.arange(float(size)),
        rk.WindowSpec(1, targets=()),
        batch_size=batch_size,
        shuffle=True,
        **options,
    )


@pytest.fixture(scope="module")
def drawn():
    """For each size, the windows at some places of each epoch: all of them, or a run of 64.

    `drawn(size)` gives the places `(epochs,)` of the first of them and the windows `(epochs, run)`.
    """
    kept = {}

    def draw(size):
        if size not in kept:
            run = min(size, 1000) if size <= 1000 else 64
            loader = counted_windows(size, run, seed=11)
            whole_runs = size // run
            chooser = random.Random(size)
            places, windows = [], []
            for _ in range(EPOCHS):
                batch = chooser.randrange(whole_runs)
                places.append(batch * run)
                windows.append(loader[batch][:, 0, 0].astype(np.int64))
                loader.epoch += 1
            kept[size] = np.array(places), np.array(windows)
        return kept[size]

    return draw


def first_places(size, epochs, **options):
    """The windows at the first places of each of so many epochs."""
    loader = counted_windows(size, min(size, 64), **options)
    orders = []
    for _ in range(epochs):
        orders.append(tuple(loader[0][:, 0, 0].astype(int).tolist()))
        loader.epoch += 1
    return orders


def distinct_that_exist(size, epochs):
    """How many orders there are to tell apart."""
    return min(epochs, math.factorial(size)) if size < 20 else epochs


@pytest.mark.parametrize("size", SIZES)
def test_no_two_epochs_have_one_order(size):
    orders = first_places(size, EPOCHS, seed=3)
    assert len(set(orders)) == distinct_that_exist(size, EPOCHS)


@pytest.mark.parametrize("size", SIZES)
def test_no_two_seeds_have_one_order(size):
    seeds = 600
    orders = {first_places(size, 1, seed=seed)[0] for seed in range(seeds)}
    assert len(orders) == distinct_that_exist(size, seeds)


@pytest.mark.parametrize("size", [1, 2, 3, 16, 255, 256, 257, 1000])
def test_every_epoch_is_a_permutation(size):
    loader = counted_windows(size, size, seed=2)
    for _ in range(20):
        assert sorted(loader[0][:, 0, 0].tolist()) == list(range(size))
        loader.epoch += 1


@pytest.mark.parametrize("size", SIZES)
def test_each_window_stands_at_each_place_equally_often(size, drawn):
    places, windows = drawn(size)
    epochs = len(windows)
    if windows.shape[1] == size:
        counts = np.zeros((size, size))
        for order in windows:
            counts[order, np.arange(size)] += 1
        # Rows and columns of a permutation matrix sum to 1, so its entries vary together: the
        # statistic times (n - 1) / n has (n - 1)^2 degrees of freedom.
        statistic = chi_square(counts, epochs / size) * (size - 1) / size
        degrees = (size - 1) ** 2
    else:
        at = places * BINS // size
        which = windows * BINS // size
        counts = np.zeros((BINS, BINS))
        np.add.at(counts, (np.repeat(at, windows.shape[1]), which.ravel()), 1)
        share = np.bincount(np.arange(size) * BINS // size) / size
        statistic = chi_square(counts, counts.sum(1)[:, None] * share)
        degrees = BINS * (BINS - 1)
    assert tail(statistic, degrees) > 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_a_window_says_nothing_of_the_one_that_follows_it(size, drawn):
    _, windows = drawn(size)
    chooser = np.random.default_rng(size)
    epochs, run = windows.shape
    first = chooser.integers(0, run - 1, epochs)  # one pair an epoch: pairs of one share windows
    before = windows[np.arange(epochs), first]
    after = windows[np.arange(epochs), first + 1]
    bins = min(size, BINS)
    counts = np.zeros((bins, bins))
    np.add.at(counts, (before * bins // size, after * bins // size), 1)
    many = np.bincount(np.arange(size) * bins // size).astype(float)
    pairs = many[:, None] * many - np.diag(many)  # no window follows itself
    expected = epochs * pairs / pairs.sum()
    exist = pairs > 0
    assert not counts[~exist].any()
    assert tail(chi_square(counts[exist], expected[exist]), exist.sum() - 1) > 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_an_epoch_says_nothing_of_the_next(size):
    loader = counted_windows(size, min(size, 64), seed=23)
    windows = []
    for _ in range(EPOCHS):
        windows.append(loader[0][0, 0, 0].astype(int))
        loader.epoch += 1
    bins = min(size, BINS)
    which = np.array(windows) * bins // size
    counts = np.zeros((bins, bins))
    np.add.at(counts, (which[:-1], which[1:]), 1)
    share = np.bincount(np.arange(size) * bins // size) / size
    expected = (EPOCHS - 1) * share[:, None] * share
    assert tail(chi_square(counts, expected), bins * bins - 1) > 1e-4


@pytest.mark.parametrize("size", [*SIZES, 65_535, 65_537, 131_072])
def test_numpy_and_tensorflow_have_the_same_orders(size):
    spec = rk.WindowSpec(1, targets=())
    options = {"batch_size": min(size, 8192), "shuffle": True, "seed": 5}
    rows = np.arange(float(size))
    dataset = rk.window_dataset(rows, spec, **options)
    loader = rk.WindowLoader(rows, spec, **options)
    for _ in range(2):
        for place, batch in enumerate(dataset.as_numpy_iterator()):
            assert np.array_equal(batch, loader[place])
        assert place == len(loader) - 1
        loader.epoch += 1
