"""WindowLoader on every backend: the order of tf.data without TensorFlow, and training with it."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk

pytestmark = pytest.mark.backends


@pytest.mark.parametrize("windows", [1, 2, 3, 100, 65_536, 65_537, 65_538, 70_000])
def test_every_epoch_is_a_permutation(windows):
    loader = rk.WindowLoader(
        np.arange(windows, dtype=np.float32),
        rk.WindowSpec(1, targets=()),
        batch_size=4096,
        shuffle=True,
        seed=1,
    )
    orders = []
    for _ in range(2):
        orders.append(np.concatenate([loader[i][:, 0, 0] for i in range(len(loader))]))
        assert np.array_equal(np.sort(orders[-1]), np.arange(windows))
        loader.epoch += 1
    if windows >= 100:
        assert not np.array_equal(*orders)


def test_a_model_trains_on_it_and_each_epoch_is_reshuffled():
    series = rk.TimeSeries(np.sin(np.arange(300) / 5), names=["x"])
    loader = rk.WindowLoader(series, rk.WindowSpec(16), batch_size=32, shuffle=True, seed=0)
    inputs = keras.Input((16, 1))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GRU(4)(inputs)))
    model.compile("adam", "mse")
    before = loader[0][0].copy()
    history = model.fit(loader, epochs=3, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert loader.epoch == 3
    assert not np.array_equal(loader[0][0], before)
    ordered = rk.WindowLoader(series, rk.WindowSpec(16), batch_size=32)
    assert model.predict(ordered, verbose=0).shape == (284, 1)


def test_it_serves_every_role():
    values = np.column_stack([np.arange(40.0), np.arange(40.0) % 7, np.full(40, 2.0)])
    series = rk.TimeSeries(values, names=["load", "weekday", "size"])
    spec = rk.WindowSpec(4, horizon=3, targets=["load"], known=["weekday"], static=["size"])
    loader = rk.WindowLoader(series, spec, batch_size=8, weights=np.ones(40), return_index=True)
    inputs, targets, weights, index = loader[0]
    assert {name: part.shape for name, part in inputs.items()} == {
        "past": (8, 4, 1),
        "known": (8, 3, 1),
        "static": (8, 1),
    }
    assert all(part.dtype == np.float32 for part in inputs.values())
    assert np.array_equal(targets[:, :, 0], values[index["target_rows"], 0])
    assert weights.tolist() == [[1.0]] * 8
    with pytest.raises(IndexError, match="batch 5 of 5"):
        loader[5]
    with pytest.raises(IndexError):
        loader[-1]


def test_it_refuses_what_the_dataset_refuses():
    with pytest.raises(ValueError, match="the longest series has 9"):
        rk.WindowLoader(np.arange(9.0), rk.WindowSpec(10), batch_size=2)


def test_a_file_cut_while_mapped_is_refused_at_the_next_batch(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((100_000, 4), dtype=np.float32))
    loader = rk.WindowLoader(np.load(path, mmap_mode="r"), rk.WindowSpec(4), batch_size=8)
    assert loader[0][0].shape == (8, 4, 4)
    with path.open("r+b") as file:
        file.truncate(8192)
    with pytest.raises(ValueError, match="has been cut to 8,192 bytes"):
        loader[len(loader) - 1]


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("squeeze", [False, True])
def test_weights_weigh_windows_in_every_shape(targets, horizon, squeeze):
    random = np.random.default_rng(0)
    rows, weights = random.random((40, 2)), random.random(40)
    spec = rk.WindowSpec(4, horizon=horizon, targets=["0", "1"][:targets])
    options = {"batch_size": 3, "weights": weights, "squeeze": squeeze, "drop_remainder": True}
    loader = rk.WindowLoader(rows, spec, **options)
    given = [loader[i] for i in range(len(loader))]
    shape = given[0][1].shape[1:]
    inputs = keras.Input((4, 2))
    flat = keras.layers.Dense(int(np.prod(shape)), kernel_initializer="zeros")(
        keras.layers.Flatten()(inputs)
    )
    model = keras.Model(inputs, keras.layers.Reshape(shape or (1,))(flat))
    model.compile(loss="mse")
    expected = np.mean([(y.reshape(3, -1) ** 2).mean(axis=1) @ w.ravel() / 3 for _, y, w in given])
    assert model.evaluate(loader, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_each_epoch_of_fit_shows_every_window():
    seen = []

    class Noted(rk.WindowLoader):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            seen.append((self.epoch, batch[1].ravel()))
            return batch

    loader = Noted(np.arange(50.0), rk.WindowSpec(1), batch_size=10, shuffle=True, seed=0)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mae")
    model.fit(loader, epochs=3, shuffle=False, verbose=0)
    assert loader.epoch == 3
    for epoch in range(3):
        shown = np.concatenate([targets for at, targets in seen if at == epoch])
        assert set(shown.tolist()) == set(range(1, 50))
