"""To look at a model changes nothing of it: for other threads, for what a user put into it."""

import threading

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.cases import arrays

pytestmark = pytest.mark.backends
BACKEND = keras.backend.backend()
FEATURES, TIME, UNITS = 3, 4, 2


def inputs(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_a_thread_that_calls_meets_its_own_layer_while_others_look(library):
    start = keras.Input((TIME, FEATURES))
    layer = library.GRU(UNITS, name="gru")
    both = library.Bidirectional(library.LSTM(UNITS, name="lstm"), name="both")
    model = keras.Model(start, keras.layers.Add()([layer(start), both(start)[:, :UNITS]]))
    x, y = inputs(2, TIME, FEATURES), np.zeros((2, UNITS), "float32")
    parts = layer, both, both.forward_layer, both.backward_layer, layer.cell
    wanted = arrays([layer(x), both(x)])
    before = [dict(vars(part)) for part in parts]
    traced = {key: one["h"] for key, one in rk.trace(model, x).items()}
    looking, wrong, calls = threading.Event(), [], []

    def call():
        while not looking.is_set() or len(calls) < 5:
            found = arrays([layer(x), both(x)])
            calls.append(1)
            if [one.shape for one in found] != [one.shape for one in wanted]:
                wrong.append([one.shape for one in found])
            elif not all(np.allclose(*pair, atol=1e-6) for pair in zip(found, wanted, strict=True)):
                wrong.append("other values")

    def trace():
        found = rk.trace(model, x)
        if not all(np.allclose(found[key]["h"], h, atol=1e-6) for key, h in traced.items()):
            wrong.append("another trace")

    def flow():
        if set(rk.gradient_flow(model, x, y, "mse")) != set(traced):
            wrong.append("another flow")

    def paths():
        if len(rk.explain_path(model, x).layers) != 3:
            wrong.append("another report")

    def watched(function):
        def run():
            try:
                function()
            except Exception as error:
                wrong.append(repr(error))

        return run

    caller = threading.Thread(target=watched(call))
    lookers = [threading.Thread(target=watched(look)) for look in (trace, flow, paths)]
    for thread in (caller, *lookers):
        thread.start()
    for thread in lookers:
        thread.join()
    looking.set()
    caller.join()
    assert not wrong
    for part, kept in zip(parts, before, strict=True):
        assert set(vars(part)) == set(kept)
        assert all(vars(part)[name] is value for name, value in kept.items() if callable(value))
    assert not layer.return_sequences


def compiled(call):
    """A call as a user would compile it, where the backend has a way that keeps its graph."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(call)
    return lambda *args, **kwargs: call(*args, **kwargs)


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_a_call_that_a_user_compiled_is_looked_into_and_stays(library):
    layer = library.LSTM(UNITS, name="lstm", return_sequences=True)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer, keras.layers.Dense(1)])
    x = inputs(2, TIME, FEATURES)
    layer.call = own = compiled(layer.call)
    model(x)  # its graph is there, and would be run without a word of Python
    (wanted,) = arrays(layer(x))
    np.testing.assert_allclose(rk.trace(model, x)["lstm"]["h"], wanted, rtol=1e-5, atol=1e-6)
    flow = rk.gradient_flow(model, x, np.zeros((2, TIME, 1)), "mse")
    assert flow["lstm"].norms["h"].all()
    assert vars(layer)["call"] is own
    np.testing.assert_array_equal(arrays(layer(x))[0], wanted)


def test_a_call_compiled_by_another_thread_meanwhile_stays():
    layer = keras.layers.GRU(UNITS, name="gru")
    x = inputs(2, TIME, FEATURES)
    (wanted,) = arrays(layer(x))
    kept = []

    class Reaching(keras.Model):
        def call(self, x):
            def compile_it():
                layer.inner_loop = own
                kept.append(layer.inner_loop)

            original = layer.inner_loop

            def own(*args, **kwargs):
                return original(*args, **kwargs)

            if not kept:
                thread = threading.Thread(target=compile_it)
                thread.start()
                thread.join()
            return self.layer(x)

    model = Reaching()
    model.layer = layer
    rk.trace(model, x)
    assert vars(layer)["inner_loop"] is kept[0]
    np.testing.assert_allclose(arrays(layer(x))[0], wanted, rtol=1e-5)


def test_each_call_of_a_shared_layer_under_time_distributed_is_told():
    shared = keras.layers.GRU(FEATURES, return_sequences=True, name="gru")
    within = keras.Input((TIME, FEATURES))
    twice = keras.Model(within, shared(shared(within)), name="twice")
    many = keras.layers.TimeDistributed(twice, name="many")
    start = keras.Input((2, TIME, FEATURES))
    model = keras.Model(start, many(many(start)))
    x = inputs(2, 2, TIME, FEATURES)
    traced = rk.trace(model, x)
    assert list(traced) == ["many/twice/gru", *(f"many/twice/gru#{n}" for n in (2, 3, 4))]
    rows = x.reshape(4, TIME, FEATURES)
    for one in traced.values():
        (rows,) = arrays(shared(rows))
        np.testing.assert_allclose(one["h"], rows, rtol=1e-4, atol=1e-5)


def test_a_recurrent_layer_under_time_distributed_called_twice():
    many = keras.layers.TimeDistributed(keras.layers.GRU(FEATURES, name="gru"), name="many")
    start = keras.Input((2, TIME, FEATURES))
    again = keras.layers.Reshape((2, 1, FEATURES))(many(start))
    model = keras.Model(start, many(again))
    x = inputs(3, 2, TIME, FEATURES)
    traced = rk.trace(model, x)
    assert [(key, one.output.shape) for key, one in traced.items()] == [
        ("many/gru", (6, TIME, FEATURES)),
        ("many/gru#2", (6, 1, FEATURES)),
    ]
    last = traced["many/gru#2"]["h"][:, -1].reshape(3, 2, FEATURES)
    np.testing.assert_allclose(last, arrays(model(x))[0], rtol=1e-5, atol=1e-6)
    flow = rk.gradient_flow(model, x, np.zeros((3, 2, FEATURES)), "mse")
    assert [(key, one.fed.shape) for key, one in flow.items()] == [
        ("many/gru", (TIME,)),
        ("many/gru#2", (1,)),
    ]


class Decoder(keras.Model):
    """Reads with a layer, and steps a cell, a stack and another layer's cell by itself."""

    def __init__(self):
        super().__init__()
        self.reads = keras.layers.GRU(UNITS, return_sequences=True, name="reads")
        self.cell = rk.LSTMCell(UNITS, name="cell")
        self.stack = keras.layers.StackedRNNCells([keras.layers.GRUCell(2)] * 2, name="stack")
        self.unread = keras.layers.SimpleRNN(UNITS, name="unread")
        self.unused = keras.layers.GRUCell(UNITS, name="unused")
        self.unread.build((None, TIME, 2))
        self.unused.build((None, 2))
        self.unused.trainable = False

    def call(self, x):
        read = self.reads(x)
        parts = self.cell, self.stack, self.unread.cell
        states = [part.get_initial_state(batch_size=keras.ops.shape(x)[0]) for part in parts]
        states[2] = [states[2]] if not isinstance(states[2], list) else states[2]
        for t in range(TIME):
            shown = read[:, t]
            for index, part in enumerate(parts):
                shown, states[index] = part(shown, states[index])
        return shown


def test_a_cell_that_the_model_steps_by_itself_is_listed_with_a_note():
    model, x = Decoder(), inputs(2, TIME, FEATURES)
    model(x)
    y = np.zeros((2, UNITS), "float32")
    traced, flow = rk.trace(model, x), rk.gradient_flow(model, x, y, "mse")
    stepped = ["cell", "stack", "unread"]
    assert list(traced) == list(flow) == ["reads", *stepped]
    assert flow["reads"].norms["h"].all()
    for key in stepped:
        assert "stepped by the model itself" in traced[key].note
        assert traced[key].note in repr(traced[key])
        assert traced[key].summary.not_finite is None
        with pytest.raises(ValueError, match="stepped by the model itself"):
            traced[key]["h"]
        with pytest.raises(ValueError, match=r"trace= must hold states.*stepped by the model"):
            rk.plot.trace(traced[key])
        assert (flow[key].verdict, flow[key].norms) == ("not measured", {})
        assert f"{key}: {flow[key].note}" in str(flow)
    labels = [text.get_text() for text in rk.plot.gradient_flow(flow)[0].figure.legends[0].texts]
    assert "cell: not measured" in labels
    model.compile("sgd", "mse")
    monitor = rk.RecurrentMonitor(x, y)
    run = model.fit(x, y, callbacks=[monitor], verbose=0)
    assert list(monitor.notes) == stepped
    assert not [name for name in run.history if name.startswith(tuple(stepped))]


def test_a_model_of_stepped_cells_alone_is_listed_too():
    class Only(keras.Model):
        def __init__(self):
            super().__init__()
            self.cell = keras.layers.GRUCell(UNITS, name="cell")

        def call(self, x):
            states = [keras.ops.zeros((keras.ops.shape(x)[0], UNITS))]
            for t in range(TIME):
                shown, states = self.cell(x[:, t], states)
            return shown

    model, x = Only(), inputs(2, TIME, FEATURES)
    model(x)
    assert list(rk.trace(model, x)) == ["cell"]
    flow = rk.gradient_flow(model, x, np.zeros((2, UNITS)), "mse")
    assert list(flow) == ["cell"]
    assert flow.loss > 0
