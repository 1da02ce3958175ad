"""Stateful batches: every window once, each row in time order, and told where a row begins anew."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_rnnkit as rk

pytestmark = pytest.mark.backends


def panel(sizes):
    group = np.repeat(np.arange(len(sizes)), sizes)
    return rk.TimeSeries(np.arange(float(sum(sizes))), names=["x"], group=group)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    batch_size=st.integers(1, 5),
    holes=st.sets(st.integers(0, 239), max_size=3),
)
def test_every_window_comes_up_once_and_each_row_goes_on(sizes, batch_size, holes):
    series = panel(sizes)
    values = series.values.copy()
    values[[row for row in holes if row < len(series)]] = np.nan
    if not np.isfinite(values).any():
        return
    series = series.with_values(values)
    spec = rk.WindowSpec(3, stride=3)
    options = {"batch_size": batch_size, "return_index": True}
    try:
        plain = rk.WindowLoader(series, spec, **options)
    except ValueError:
        return
    expected = [row for batch in plain for row in batch[2]["input_row"].tolist()]
    loader = rk.WindowLoader(series, spec, stateful_batches=True, **options)
    assert len(loader) == -(-len(expected) // batch_size)
    shown, before, groups = [], None, None
    for number, (inputs, targets, weights, index) in enumerate(loader):
        assert inputs.shape == (batch_size, 3, 1)
        assert np.isfinite(inputs).all()
        assert np.isfinite(targets).all()
        assert np.array_equal(weights[:, 0] == 0, index["padding"])
        shown += index["input_row"][~index["padding"]].tolist()
        for row in np.flatnonzero(~index["padding"]):
            goes_on = number > 0 and inputs[row, 0, 0] == before[row, -1, 0] + 1
            goes_on = goes_on and index["group"][row] == groups[row]
            assert index["begins"][row] == (not goes_on)
        before, groups = inputs, index["group"]
    assert sorted(shown) == expected
    part = rk.window_report(series, spec, batch_size=batch_size, stateful_batches=True).parts["all"]
    assert part.padding == len(loader) * batch_size - len(expected)
    assert part.begins == sum(int(index["begins"].sum()) for *_, index in loader)


def test_no_series_is_left_out():
    for sizes, batch_size in (([600, 100], 2), ([100] * 12, 4)):
        loader = rk.WindowLoader(
            panel(sizes),
            rk.WindowSpec(10, stride=10),
            batch_size=batch_size,
            stateful_batches=True,
            return_index=True,
        )
        counts = np.zeros(len(sizes), int)
        for *_, index in loader:
            counts += np.bincount(index["group"][~index["padding"]], minlength=len(sizes))
        assert counts.tolist() == [(size - 1) // 10 for size in sizes]


def test_describe_tells_of_them():
    report = rk.window_report(
        panel([70, 30]), rk.WindowSpec(5, stride=5), batch_size=4, stateful_batches=True
    )
    lines = [line.split() for line in str(report).splitlines()]
    assert ["rows", "of", "weight", "0", "2"] in lines
    assert ["rows", "to", "reset", "5"] in lines
    assert "weight 0" not in str(rk.window_report(panel([70, 30]), rk.WindowSpec(5, stride=5)))


def test_options_that_do_not_go_with_them_are_refused():
    series = panel([100])
    with pytest.raises(ValueError, match="stride=10"):
        rk.WindowLoader(series, rk.WindowSpec(10), batch_size=4, stateful_batches=True)
    with pytest.raises(ValueError, match="shuffle="):
        rk.WindowLoader(
            series, rk.WindowSpec(10, stride=10), batch_size=4, stateful_batches=True, shuffle=True
        )


def test_weights_of_rows_and_of_padding_multiply():
    spec = rk.WindowSpec(5, stride=5)
    loader = rk.WindowLoader(
        panel([70, 30]), spec, batch_size=4, stateful_batches=True, weights=np.full(100, 0.5)
    )
    shown = np.concatenate([weights[:, 0] for *_, weights in loader])
    assert sorted(shown.tolist()) == [0, 0] + [0.5] * 18


def test_the_states_in_fit_are_those_of_each_series_alone():
    random = np.random.default_rng(0)
    series = rk.TimeSeries(
        random.normal(size=150).astype("float32"), group=np.repeat(["a", "b", "c"], [70, 30, 50])
    )
    spec = rk.WindowSpec(5, stride=5)
    options = {"batch_size": 3, "stateful_batches": True, "squeeze": True}
    loader = rk.WindowLoader(series, spec, **options)
    marked = rk.WindowLoader(series, spec, return_index=True, **options)
    begins = [index["begins"] for *_, index in marked]
    states = []

    class ResetRows(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if begins[batch].any():
                if keras.backend.backend() == "jax":
                    self.model.jax_state_sync()
                rk.reset_states(self.model, samples=begins[batch])

        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            states.append(rk.get_states(self.model)["gru"][0].copy())

    model = keras.Sequential(
        [
            keras.Input((5, 1), batch_size=3),
            rk.GRU(4, stateful=True, name="gru"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(loader, epochs=2, shuffle=False, verbose=0, callbacks=[ResetRows()])
    alone = rk.GRU(4)
    alone.build((None, None, 1))
    alone.set_weights(model.layers[0].get_weights()[:3])
    assert sum(marks.sum() for marks in begins) == 4
    for row in range(3):
        past = []
        for number in range(len(loader)):
            inputs, _, weights = loader[number]
            past = [] if begins[number][row] else past
            past.append(inputs[row])
            if not weights[row, 0]:
                continue
            expected = keras.ops.convert_to_numpy(alone(np.concatenate(past)[np.newaxis]))[0]
            for epoch in range(2):
                found = states[epoch * len(loader) + number][row]
                assert found == pytest.approx(expected, abs=1e-5)
