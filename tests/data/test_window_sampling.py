"""Windows drawn in proportion to a weight."""

from collections import Counter

import numpy as np
import pytest

import keras_rnnkit as rk

SPEC = rk.WindowSpec(3, horizon=2, targets=["x"])


def weights_of(rows):
    weights = np.random.default_rng(0).exponential(size=rows)
    weights[10:30] = 0
    return weights


def drawn(windows):
    """Last input rows of an epoch, in order."""
    if isinstance(windows, rk.WindowLoader):
        batches = [windows[number] for number in range(len(windows))]
        windows.epoch += 1
    else:
        batches = list(windows.as_numpy_iterator())
    return np.concatenate([index["input_row"] for _, _, index in batches]).tolist()


@pytest.mark.parametrize("rows", [40, 3000])
@pytest.mark.parametrize("shard", [None, (2, 0)])
def test_a_window_comes_up_as_often_as_its_weight_says(rows, shard):
    series = rk.TimeSeries(np.arange(float(rows)), names=["x"])
    weights = weights_of(rows)
    options = {"sampling": weights, "shuffle": True, "seed": 3, "return_index": True}
    loader = rk.WindowLoader(series, SPEC, shard=shard, batch_size=7, **options)
    dataset = rk.window_dataset(series, SPEC, shard=shard, batch_size=7, **options)
    windows = range(2, rows - 2)  # by their last input rows
    of_window = np.array([weights[row + 1 : row + 3].mean() for row in windows])
    share = dict(zip(windows, len(windows) * of_window / of_window.sum(), strict=True))
    epochs = [drawn(loader) for _ in range(2)]
    assert epochs == [drawn(dataset) for _ in range(2)]
    assert epochs[0] != epochs[1]
    if shard is None:
        for epoch in epochs:
            assert len(epoch) == len(windows)
            assert epoch != sorted(epoch)
            times = Counter(epoch)
            assert all(abs(times[row] - share[row]) < 1 + 1e-6 for row in windows)
            assert not set(range(12, 27)) & set(times)


def test_a_function_of_times_draws_without_targets():
    hours = np.datetime64("2024-01-01T00", "h") + np.arange(48)
    series = rk.TimeSeries(np.arange(48.0), names=["x"], time=hours)
    noon = rk.WindowLoader(
        series,
        rk.WindowSpec(2, targets=()),
        sampling=lambda time: time.astype("M8[h]").astype(int) % 24 == 12,
        shuffle=True,
        batch_size=99,
    )
    assert set(noon[0][:, -1, 0].tolist()) == {12.0, 36.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle": False}, "it needs shuffle=True"),
        ({"balance": True}, "does not go with balance="),
        ({"sampling": np.zeros(20)}, "gives every window the weight 0"),
        ({"sampling": -np.ones(20)}, "sampling= must be finite and not negative"),
        ({"sampling": np.ones(3)}, "sampling= must hold one weight for each of 20 rows"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rk.WindowLoader(
            np.arange(20.0),
            rk.WindowSpec(3),
            **{"shuffle": True, "sampling": np.ones(20), **options},
        )
