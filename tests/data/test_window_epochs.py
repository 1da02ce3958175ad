"""Which order each epoch shows: under fit, after a look at the data, after a kill."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.data.permute import epoch_tables

pytestmark = pytest.mark.backends

HERE = Path(__file__).parent
WINDOWS, BATCH = 100, 10
MAKERS = [rk.window_dataset, rk.WindowLoader]


class Losses(keras.callbacks.Callback):
    """The loss of each batch, by epoch: it tells the batch, since the model always says 0."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append([])

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.seen[-1].append(float(logs["loss"]))


def number_of(losses):
    """Which epoch of the seed these are the batches of."""
    for epoch in range(12):
        order = epoch_tables(1, epoch, WINDOWS)["order"]
        if np.allclose(order.reshape(-1, BATCH).mean(axis=1) + 1, losses, rtol=1e-5):
            return epoch
    return None


def made(make, epoch=0, **options):
    return make(
        np.arange(WINDOWS + 1.0),
        rk.WindowSpec(1),
        batch_size=BATCH,
        shuffle=True,
        seed=1,
        epoch=epoch,
        **options,
    )


def epochs_of(make, model, epoch=0, initial=0):
    """Which epochs of the seed three epochs of `fit` show."""
    data = made(make, epoch)
    model.compile(keras.optimizers.SGD(0.0), "mae")
    model.layers[-1].kernel_initializer = keras.initializers.Zeros()
    losses = Losses()
    told = [epoch] if isinstance(epoch, rk.data.FitEpoch) else []
    model.fit(
        data,
        initial_epoch=initial,
        epochs=initial + 3,
        shuffle=False,
        verbose=0,
        callbacks=[losses, *told],
    )
    return [number_of(seen) for seen in losses.seen]


def plain_model(built):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    if built:
        model.layers[-1].kernel_initializer = keras.initializers.Zeros()
        model.build((None, 1, 1))
    return model


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("make", MAKERS)
def test_fit_shows_the_epochs_of_the_seed(make, built):
    assert epochs_of(make, plain_model(built)) == [0, 1, 2]
    assert epochs_of(make, plain_model(built), epoch=2) == [2, 3, 4]
    assert epochs_of(make, plain_model(built), epoch=rk.data.FitEpoch(), initial=4) == [4, 5, 6]


def test_strategies_show_the_epochs_of_the_seed():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("strategies are TensorFlow's")
    run = subprocess.run(
        [sys.executable, "-m", "tests.data.under_strategies"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parents[1],
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "the same orders" in run.stdout


@pytest.mark.parametrize("kind", ["dataset", "loader"])
def test_a_killed_training_ends_with_the_weights_of_one_that_ran_through(kind, tmp_path):
    if kind == "dataset" and keras.backend.backend() != "tensorflow":
        pytest.skip("the loader is for the other backends")

    def train(folder, kill):
        folder.mkdir(exist_ok=True)
        program = [sys.executable, str(HERE / "resumed.py"), kind, str(folder), kill]
        return subprocess.run(
            program, capture_output=True, text=True, check=False, cwd=HERE.parents[1]
        )

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run = train(whole, "run")
    assert run.returncode == 0, run.stderr[-2000:]
    assert train(broken, "kill").returncode == -9
    assert (broken / "backup").exists()
    assert not (broken / "weights.npz").exists()
    run = train(broken, "run")
    assert run.returncode == 0, run.stderr[-2000:]
    expected, found = (np.load(folder / "weights.npz") for folder in (whole, broken))
    assert expected.files
    for name in expected.files:
        assert np.array_equal(expected[name], found[name])


def first_batch(data):
    inputs, _ = next(iter(data))
    return np.asarray(inputs)[:, 0, 0].astype(int).tolist()


def test_a_pass_that_is_broken_off_at_once_is_no_epoch():
    data = made(rk.window_dataset)
    orders = [epoch_tables(1, epoch, WINDOWS)["order"][:BATCH].tolist() for epoch in range(4)]
    assert first_batch(data) == first_batch(data) == orders[0]
    list(data)
    assert first_batch(data) == orders[1]
    long = rk.window_dataset(np.arange(101.0), rk.WindowSpec(1), batch_size=1, shuffle=True, seed=1)
    for epoch in range(3):
        # Part of an epoch, batch by batch, as `.take(n)` shows it: another one each time.
        assert [first_batch([batch])[0] for batch in long.take(20)] == epoch_tables(1, epoch, 100)[
            "order"
        ][:20].tolist()


def test_keras_calls_move_the_loader_on_only_after_an_epoch():
    loader = made(rk.WindowLoader)
    loader.on_epoch_end()  # reset, before anything was read
    loader.on_epoch_begin()
    loader[0]
    loader.on_epoch_end()  # after a look at the first batch
    assert loader.epoch == 0
    loader.on_epoch_begin()
    for number in range(len(loader)):
        loader[number]
    loader.on_epoch_end()
    assert loader.epoch == 1
    loader.epoch = 7
    order = epoch_tables(1, 7, WINDOWS)["order"][:BATCH].tolist()
    assert loader[0][0][:, 0, 0].astype(int).tolist() == order


def test_one_callback_serves_several():
    epoch = rk.data.FitEpoch()
    loaders = [made(rk.WindowLoader, epoch), made(rk.WindowLoader, epoch, shard=(2, 1))]
    epoch.on_epoch_begin(5)
    assert [loader.epoch for loader in loaders] == [5, 5]
    assert made(rk.WindowLoader, epoch).epoch == 5
    for wrong in (-1, 1.0, True, "2"):
        with pytest.raises(ValueError, match="epoch= must be a whole number of at least 0"):
            made(rk.WindowLoader, wrong)
