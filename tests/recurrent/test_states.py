"""States carried from batch to batch: for a layer, for a model, in training, on disk."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.cases import BATCH, CELLS, FEATURES, TIME, UNITS, arrays, inputs, make

pytestmark = pytest.mark.backends


def model_of(*layers, batch=BATCH):
    return keras.Sequential([keras.Input((TIME, FEATURES), batch_size=batch), *layers])


@pytest.mark.parametrize("cell", CELLS if keras.backend.backend() == "tensorflow" else ["LSTM"])
def test_predict_and_fit_carry_states(cell):
    """Keras loses them on JAX, where variables that the model does not list are not kept."""
    model = model_of(make(cell, stateful=True, name="one"), keras.layers.Dense(1))
    x = inputs()
    first = model.predict(x, batch_size=BATCH, verbose=0)
    second = model.predict(x, batch_size=BATCH, verbose=0)
    assert np.abs(first - second).max() > 1e-5
    rk.reset_states(model)
    np.testing.assert_allclose(model.predict(x, batch_size=BATCH, verbose=0), first, rtol=1e-5)
    rk.reset_states(model)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((BATCH, 1)), batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    assert np.abs(rk.get_states(model)["one"][0]).max() > 1e-3


def test_a_smaller_last_batch_keeps_its_number_of_rows():
    """Keras on TensorFlow pads it: `predict` of 7 rows in batches of 5 gives 10."""
    model = model_of(rk.GRU(UNITS, stateful=True, name="gru"))
    x = inputs(7)
    plain = model_of(rk.GRU(UNITS), batch=None)
    plain.set_weights(arrays(model.weights))
    found = model.predict(x, batch_size=BATCH, verbose=0)
    assert found.shape == (7, UNITS)
    states = rk.get_states(model)["gru"][0]
    alone = arrays(plain.layers[0](x))[0]
    np.testing.assert_allclose(found[:BATCH], alone[:BATCH], rtol=1e-5, atol=1e-6)
    # Rows 5 and 6 went on from rows 0 and 1; the rest stayed as the first batch left them.
    carried = arrays(plain.layers[0](x[BATCH:], initial_state=[alone[:2]]))[0]
    np.testing.assert_allclose(found[BATCH:], carried, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(states, [*carried, *alone[2:BATCH]], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="at most 5 rows"):
        model.layers[0](inputs(6))


def test_states_of_a_whole_model_are_read_set_and_reset():
    model = model_of(
        rk.LSTM(3, stateful=True, return_sequences=True, name="ours"),
        rk.Bidirectional(rk.GRU(2, stateful=True, return_sequences=True, name="both")),
        rk.RNN([rk.GRUCell(2), rk.LSTMCell(3)], stateful=True, name="stack"),
    )
    model(inputs())
    states = rk.get_states(model)
    assert {name: [a.shape[1] for a in values] for name, values in states.items()} == {
        "ours": [3, 3],
        "forward_both": [2],
        "backward_both": [2],
        "stack": [2, 3, 3],
    }
    after = arrays(model(inputs()))[0]
    rk.set_states(model, states)
    np.testing.assert_allclose(arrays(model(inputs()))[0], after, rtol=1e-5, atol=1e-6)
    rk.reset_states(model, samples=[0, 2])
    for values in rk.get_states(model).values():
        for value in values:
            assert not value[[0, 2]].any()
            assert value[[1, 3, 4]].any(axis=1).all()
    rk.reset_states(model, samples=np.arange(BATCH) != 1)
    assert not rk.get_states(model)["stack"][2][3].any()
    rk.set_states(model, {"ours": [np.ones(3), np.full((1, 3), 2.0)]})
    np.testing.assert_array_equal(
        rk.get_states(model)["ours"], [np.ones((5, 3)), np.full((5, 3), 2)]
    )
    rk.reset_states(model)
    assert not any(value.any() for values in rk.get_states(model).values() for value in values)


@pytest.mark.parametrize("library", [rk, keras.layers])
def test_a_layer_resets_rows_of_its_own(library):
    layer = rk.Bidirectional(library.LSTM(3, stateful=True))
    layer(inputs())
    layer.reset_state(samples=[1])
    for state in arrays(layer.states):
        assert not state[1].any()
        assert state[0].any()


def test_mistakes_are_named():
    model = model_of(rk.LSTM(3, stateful=True, name="lstm"))
    for states, message in (
        ({"gru": []}, r"must name stateful layers of the model, \['lstm'\]; received 'gru'"),
        ({"lstm": [np.ones(3)]}, "must hold 2 arrays; received 1"),
        ({"lstm": [np.ones(3), np.ones((2, 3))]}, r"must have shape \(5, 3\).*received \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            rk.set_states(model, states)
    with pytest.raises(ValueError, match="holds none\\. Pass stateful=True"):
        rk.get_states(model_of(rk.LSTM(3)))
    with pytest.raises(ValueError, match="no states before it is built"):
        rk.get_states(rk.LSTM(3, stateful=True))
    with pytest.raises(ValueError, match="stateful=False"):
        rk.LSTM(3, save_states=True)
    with pytest.raises(ValueError, match="stateful=False"):
        rk.LSTM(3).save_states = True


@pytest.mark.parametrize("make", [lambda: rk.LSTM(3), lambda: rk.RNN([rk.GRUCell(2)])])
def test_stateful_is_set_before_the_layer_is_built_or_not_at_all(make):
    late, early = make(), make()
    late(inputs())
    with pytest.raises(ValueError, match=r"`stateful` of .*must be set before the layer is built"):
        late.stateful = True
    late(inputs())
    early.stateful = True
    early(inputs())
    assert all(state.any() for state in arrays(early.states))
    early.stateful = False
    early.stateful = True


REPLICAS = """
import keras, numpy as np, tensorflow as tf
import keras_rnnkit as rk
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    for wrap in (lambda layer: layer, rk.Bidirectional):
        for save_states in (False, True):
            layer = wrap(rk.GRU(2, stateful=True, save_states=save_states))
            try:
                model = keras.Sequential([keras.Input((5, 3), batch_size=2), layer])
                rk.reset_states(model)
                print("built")
                rk.get_states(model)
            except ValueError as error:
                print(error)
"""


def test_states_that_replicas_hold_apart_are_not_saved_in_part():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow mirrors variables")
    # A program of its own, since logical devices are set before TensorFlow starts.
    run = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [line.split(" is on 2 replicas")[0] for line in run.stdout.splitlines()]
    assert [line if line == "built" else "refused" for line in lines] == [
        "built",
        "refused",
        "refused",
    ] * 2


@pytest.mark.parametrize("wrap", [lambda layer: layer, rk.Bidirectional])
def test_a_layer_in_time_distributed_is_called_twice(wrap):
    outer = keras.layers.TimeDistributed(wrap(make("LSTM")))
    long, short = (np.stack([inputs(time=t, seed=s) for s in (1, 2)], 1) for t in (TIME, 3))
    starts = [keras.Input(x.shape[1:]) for x in (long, short)]
    model = keras.Model(starts, [outer(start) for start in starts])
    for found, x in zip(model([long, short]), (long, short), strict=True):
        for step in range(2):
            wanted = outer.layer(x[:, step])
            np.testing.assert_allclose(*arrays([found[:, step], wanted]), rtol=1e-5, atol=1e-6)


# Keras's own `save` converts TensorFlow's variables in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_states_are_saved_when_asked(tmp_path):
    for save_states in (False, True):
        options = {"stateful": True, "save_states": save_states}
        model = model_of(rk.LSTM(3, name="lstm", **options))
        model(inputs())
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        saved = rk.get_states(model)["lstm"] if save_states else np.zeros((2, BATCH, 3))
        np.testing.assert_array_equal(rk.get_states(again)["lstm"], saved)
        np.testing.assert_array_equal(*arrays([again.weights[0], model.weights[0]]))


def test_rows_that_do_not_fit_leave_every_state():
    model = keras.Sequential(
        [keras.Input((5, 3), batch_size=4), rk.GRU(2, stateful=True, name="gru")]
    )
    rk.set_states(model, {"gru": [np.ones(2)]})
    for rows in ([], np.zeros(4, bool)):
        rk.reset_states(model, samples=rows)
        assert rk.get_states(model)["gru"][0].sum() == 8
    for rows in ([4], [True, False], ["a"], [0.5]):
        with pytest.raises(ValueError, match=r"`samples` must be indices below 4, .* received"):
            rk.reset_states(model, samples=rows)
    rk.reset_states(model, samples=[-1])
    assert rk.get_states(model)["gru"][0].sum() == 6
    with pytest.raises(ValueError, match="`states` must be a dict"):
        rk.set_states(model, [np.ones(2)])
    for call in (rk.get_states, rk.reset_states, rk.explain_path, rk.doctor):
        with pytest.raises(ValueError, match="a Keras model or layer; received str"):
            call("model.keras")


@pytest.mark.parametrize("layers", [rk, keras.layers])
def test_to_look_at_the_path_is_not_to_go_on(layers):
    x = np.ones((4, 5, 3), "float32")
    model = keras.Sequential([layers.GRU(2, stateful=True, name="gru")])
    rk.explain_path(model, x)
    assert not rk.get_states(model)["gru"][0].any()
    rk.set_states(model, {"gru": [np.full(2, 0.5)]})
    rk.explain_path(model, x)
    assert (rk.get_states(model)["gru"][0] == 0.5).all()


class Ends(keras.Model):
    """Puts back, inside `call`, the rows whose sequence ends with the batch."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        layer.build((BATCH, TIME, FEATURES))

    def build(self, shapes):
        pass

    def call(self, inputs):
        outputs = self.layer(inputs[0])
        rk.reset_states(self, samples=inputs[1])
        return outputs


@pytest.mark.parametrize("library", [rk, keras.layers])
@pytest.mark.parametrize("rows", ["booleans", "indices"])
def test_rows_are_put_back_inside_compiled_code(rows, library):
    # Keras's own layer loses its states on JAX, and is not the one to keep them.
    cell = keras.layers.LSTMCell(3)
    model = Ends(rk.LSTM(3, stateful=True) if library is rk else rk.RNN(cell, stateful=True))
    ended = np.array([True, False, True, False, False])
    chosen = ended if rows == "booleans" else np.array([0, 2, -5, 0, 2], "int32")
    model.predict([inputs(), chosen], batch_size=BATCH, verbose=0)
    (states,) = rk.get_states(model).values()
    for state in states:
        assert not state[ended].any()
        assert state[~ended].any(axis=1).all()
    model.compile("sgd", "mse")
    model.fit([inputs(), chosen], np.zeros((BATCH, 3)), batch_size=BATCH, verbose=0, shuffle=False)
    for state in next(iter(rk.get_states(model).values())):
        assert not state[ended].any()
        assert state[~ended].any(axis=1).all()


class Fresh(keras.Model):
    """Begins anew with every batch, and says what it carries then."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        layer.build((BATCH, TIME, FEATURES))

    def build(self, shapes):
        pass

    def call(self, inputs):
        self.layer.reset_state()
        (carried, *_), *_ = rk.get_states(self).values()
        outputs = self.layer(inputs)
        return outputs, carried


@pytest.mark.parametrize("wrap", [lambda layer: layer, rk.Bidirectional])
def test_a_layer_begins_anew_inside_compiled_code(wrap):
    model = Fresh(wrap(rk.GRU(3, stateful=True)))
    found = [model.predict(inputs(), batch_size=BATCH, verbose=0) for _ in range(2)]
    np.testing.assert_allclose(*(outputs for outputs, _ in found), rtol=1e-6)
    assert not any(np.any(carried) for _, carried in found)


class FromOne(keras.layers.GRUCell):
    def get_initial_state(self, batch_size=None):
        return [keras.ops.ones((batch_size, self.units))]


def test_back_to_the_start_is_what_the_cell_begins_with():
    layer = rk.RNN(FromOne(2), stateful=True)
    layer(inputs())
    layer.reset_state(samples=[1])
    (state,) = arrays(layer.states)
    np.testing.assert_array_equal(state[1], 1)
    assert (state[[0, 2, 3, 4]] != 1).all()
    rk.reset_states(layer)
    np.testing.assert_array_equal(arrays(layer.states)[0], 1)
