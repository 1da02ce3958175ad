"""RecurrentMonitor: what it logs is what trace and gradient_flow say, and NaN stops the run."""

import csv

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.cases import arrays

pytestmark = pytest.mark.backends
ROWS, TIME, FEATURES = 16, 6, 3


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, TIME, FEATURES)).astype("float32")
    return x, x.mean(axis=(1, 2), keepdims=True)[:, 0]


def model_of():
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            keras.layers.LSTM(4, name="lstm", return_sequences=True),
            rk.Bidirectional(rk.GRU(3, name="gru"), name="both"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def test_history_and_csv_hold_what_the_tools_say(tmp_path):
    x, y = data()
    model = model_of()
    monitor = rk.RecurrentMonitor(x[:4], y[:4])
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    run = model.fit(x, y, epochs=2, batch_size=8, callbacks=[monitor, log], verbose=0)
    assert monitor.message == ""
    flow = rk.gradient_flow(model, x[:4], y[:4])
    traced = rk.trace(model, x[:4])
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = set()
    for layer in ("lstm", "both/forward_gru", "both/backward_gru"):
        wanted = {"half_life": flow[layer].half_life, "factor": flow[layer].factor}
        for gate, (low, high) in traced[layer].summary.saturation.items():
            wanted |= {f"{gate}_low": low, f"{gate}_high": high}
        for name, value in wanted.items():
            key = f"{layer}/{name}"
            keys.add(key)
            assert run.history[key][-1] == pytest.approx(value, rel=1e-4)
            assert len(run.history[key]) == 2
            assert float(rows[1][key]) == pytest.approx(run.history[key][1])
    assert keys == {key for key in run.history if "/" in key}


def test_training_goes_as_it_goes_without_the_monitor():
    x, y = data()
    trained = []
    for watched in (False, True):
        keras.utils.set_random_seed(3)
        model = model_of()
        callbacks = [rk.RecurrentMonitor(x[:4], y[:4])] if watched else []
        model.fit(x, y, epochs=2, batch_size=8, callbacks=callbacks, verbose=0)
        trained.append(arrays(model.variables))
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_without_targets_there_is_no_gradient():
    x, y = data()
    run = model_of().fit(x, y, callbacks=[rk.RecurrentMonitor(x[:4])], verbose=0)
    assert {key.split("/")[-1] for key in run.history if key.startswith("lstm/")} == {
        f"{gate}_{end}" for gate in "ifgo" for end in ("low", "high")
    }


def test_a_nan_in_the_inputs_stops_the_run_at_its_batch_and_is_named():
    x, y = data()
    watched = x[:4].copy()
    watched[2, 3, 0] = np.nan
    x[9] = np.nan
    monitor = rk.RecurrentMonitor(watched)
    with pytest.warns(RuntimeWarning, match="stopped training"):
        run = model_of().fit(
            x, y, epochs=5, batch_size=4, shuffle=False, callbacks=[monitor], verbose=0
        )
    assert len(run.history["loss"]) == 1
    assert "the loss was nan in batch 2" in monitor.message
    # By then the weights are NaN too.
    assert "nan in i, unit 0, step 0, row 0 of 'lstm'" in monitor.message
    assert "11 of 11 weights are not finite" in monitor.message


def test_a_state_that_is_not_finite_stops_the_run_at_the_epochs_end():
    x, y = data()
    watched = x[:4].copy()
    watched[2, 3, 0] = np.nan
    monitor = rk.RecurrentMonitor(watched, y[:4])
    with pytest.warns(RuntimeWarning, match="a state was not finite after epoch 1"):
        run = model_of().fit(x, y, epochs=5, callbacks=[monitor], verbose=0)
    assert len(run.history["loss"]) == 1
    assert "nan in i, unit 0, step 3, row 2 of 'lstm'" in monitor.message


def test_a_loss_that_is_nan_of_itself_is_told_from_a_state():
    x, y = data()
    y[0] = np.inf
    model = model_of()
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile("sgd", "mse")
    with pytest.warns(RuntimeWarning, match="every state of the monitored samples is finite"):
        model.fit(x, y, callbacks=[rk.RecurrentMonitor(x[:4])], verbose=0)


def test_rows_that_do_not_fit_each_other_are_refused_when_training_starts():
    x, y = data()
    with pytest.raises(ValueError, match="received 4 in `x`, 3 in `y`"):
        model_of().fit(x, y, callbacks=[rk.RecurrentMonitor(x[:4], y[:3])], verbose=0)
