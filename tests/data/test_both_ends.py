"""Windows at both ends of the record: those that begin before it, and those that end behind it."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk


def short_panel():
    """Three series of 3, 8 and 5 rows."""
    return rk.TimeSeries(np.arange(16.0), names=["x"], group=np.repeat(["a", "b", "c"], [3, 8, 5]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pad": 4}, "pad= must leave a window one of its 4 input rows: at most 3, received 4"),
        ({"pad": 9, "step": 2}, "one of its 2 input rows: at most 1, received 9"),
        ({"pad": -1}, "pad= must be at least 0"),
        ({"pad": True}, "pad= must be a whole number of rows"),
        ({"horizon": 3, "pad_targets": 3}, "pad_targets= must leave a window one of its 3 target"),
        ({"horizon": 3, "pad_targets": 1, "targets": ()}, "pad_targets= needs targets"),
    ],
)
def test_what_does_not_fit_a_window_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rk.WindowSpec(4, **arguments)


def test_squeezed_targets_are_refused_where_rows_have_weights():
    spec = rk.WindowSpec(4, horizon=3, pad_targets=2)
    with pytest.raises(ValueError, match="squeeze=True does not go with pad_targets="):
        rk.WindowLoader(np.arange(20.0), spec, squeeze=True)


def test_a_series_too_short_is_told_of_pad():
    with pytest.raises(ValueError, match=r"Shorten the window, or pass pad= to WindowSpec"):
        rk.WindowLoader(np.arange(5.0), rk.WindowSpec(8))


@pytest.mark.parametrize("scaled", [None, False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_missing_steps_are_zero_after_scaling_too(scaled, mapped, tmp_path):
    series = short_panel()
    if mapped:
        np.save(tmp_path / "rows.npy", series.values.astype(np.float32))
        group = np.repeat(series.groups, np.diff(series.bounds))
        series = rk.TimeSeries(tmp_path / "rows.npy", names=["x"], group=group)
    scaler = None if scaled is None else rk.Scaler(by_group=scaled).fit(series)
    spec = rk.WindowSpec(4, pad=3, horizon=3, pad_targets=2)
    options = {"batch_size": 50, "scaler": scaler, "return_index": True}
    loader = rk.WindowLoader(series, spec, **options)
    (dataset,) = rk.window_dataset(series, spec, **options)
    inputs, targets, weights, index = loader[0]
    assert index["group"].tolist() == ["a"] * 2 + ["b"] * 7 + ["c"] * 4
    assert np.array_equal(
        inputs["past"][~inputs["mask"]], np.zeros((~inputs["mask"]).sum())[:, None]
    )
    assert inputs["mask"].sum(axis=1).tolist() == [1, 2, 1, 2, 3, 4, 4, 4, 4, 1, 2, 3, 4]
    values = series.values if scaler is None else scaler.transform(series).values
    rows = index["target_rows"]
    assert np.array_equal(weights == 0, rows < 0)
    assert targets[..., 0] == pytest.approx(np.where(rows < 0, 0, values[rows, 0]), abs=1e-6)
    rows = index["input_row"][:, None] + np.arange(-3, 1)
    expected = np.where(inputs["mask"], values[np.maximum(rows, 0), 0], 0)
    assert inputs["past"][..., 0] == pytest.approx(expected, abs=1e-6)
    for name in inputs:
        assert np.array_equal(dataset[0][name], inputs[name])
    for given, same in zip(dataset[1:3], (targets, weights), strict=True):
        assert np.array_equal(given, same)


@pytest.mark.backends
@pytest.mark.parametrize("layer", [rk.GRU, rk.LSTM, rk.SimpleRNN])
def test_a_model_sees_the_real_steps_alone(layer):
    """The same forecast for a padded window as for its real rows alone."""
    keras.utils.set_random_seed(0)
    past, mask = keras.Input((4, 1), name="past"), keras.Input((4,), dtype="bool", name="mask")
    output = layer(3)(past, mask=mask)
    model = keras.Model({"past": past, "mask": mask}, output)
    loader = rk.WindowLoader(short_panel(), rk.WindowSpec(4, pad=3), batch_size=50)
    inputs, _ = loader[0]
    padded = keras.ops.convert_to_numpy(model(inputs))
    for row, real in enumerate(inputs["mask"]):
        alone = model.layers[-1](inputs["past"][row : row + 1, real])
        alone = keras.ops.convert_to_numpy(alone)
        assert padded[row] == pytest.approx(alone[0], abs=1e-6)


def test_unknown_targets_move_no_weight():
    """A training step on a partly known horizon moves the model as its known rows do."""
    spec = rk.WindowSpec(2, horizon=3, pad_targets=2, stride=9)
    inputs, targets, weights = rk.WindowLoader(np.arange(3.0), spec)[0]
    assert weights.tolist() == [[1, 0, 0]]
    moved = []
    for other in (targets, targets + 100 * (weights == 0)[..., None]):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2, 1)), rk.GRU(2, return_sequences=True)])
        model.add(keras.layers.Lambda(lambda h: keras.ops.concatenate([h, h], 1)[:, :3, :1]))
        model.compile("sgd", "mse")
        model.train_on_batch(inputs, other, weights)
        moved.append([np.asarray(weight) for weight in model.weights])
    for one, same in zip(*moved, strict=True):
        assert np.array_equal(one, same)


def test_a_split_keeps_targets_of_another_part_out_of_a_partly_known_horizon():
    parts = rk.split(np.arange(20.0), train=0.5, val=0.5)
    spec = rk.WindowSpec(3, horizon=4, pad_targets=3, pad=2)
    for part in parts[:2]:
        (_, targets, weights, index) = rk.WindowLoader(part, spec, return_index=True)[0]
        low, high = part.target_rows[0]
        rows = index["target_rows"]
        mine = (rows >= low) & (rows < high)
        assert np.array_equal(weights > 0, mine)
        assert np.array_equal(targets[..., 0], np.where(mine, rows, 0))


def test_check_split_counts_the_rows_that_padded_windows_read():
    parts = rk.split(np.arange(12.0), train=0.5, val=0.5)
    spec = rk.WindowSpec(4, pad=3, targets=())
    with pytest.raises(ValueError, match=r"windows of val read 3 target rows of train"):
        rk.check_split(parts, spec=spec)
