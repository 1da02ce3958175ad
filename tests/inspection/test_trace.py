"""trace: against the equations in NumPy, and against the model's own outputs."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests import reference
from tests.recurrent.cases import (
    BATCH,
    CELLS,
    FEATURES,
    MASKS,
    TIME,
    UNITS,
    arrays,
    inputs,
    mask_of,
    ready,
    weights_of,
)

pytestmark = pytest.mark.backends


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def equal_reference(traced, wanted, backwards=False):
    order = slice(None, None, -1) if backwards else slice(None)
    for name, sequence in zip(traced.states, wanted["states"], strict=True):
        close(traced[name], sequence[:, order])
    assert list(traced.gates) == list(wanted["gates"])
    for name, sequence in wanted["gates"].items():
        gate, sequence = traced[name], sequence[:, order]
        if traced.mask is not None:
            assert np.isnan(gate[~traced.mask]).all()
            gate, sequence = gate[traced.mask], sequence[traced.mask]
        close(gate, sequence)
    close(traced.output, wanted["outputs"][:, order])


@pytest.mark.parametrize("library", [keras.layers, rk], ids=["Keras", "ours"])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("cell", CELLS)
def test_states_and_gates_are_those_of_the_equations(cell, kind, library):
    layer, mask = ready(cell, library=library, name="layer"), mask_of(kind)
    traced = rk.trace(layer, inputs(), mask=mask, batch_size=3)["layer"]
    assert traced.kind == cell.split()[0]
    assert (traced.mask is None) == (mask is None)
    equal_reference(traced, reference.run(cell, weights_of(cell), inputs(), mask=mask))


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_time_is_the_inputs_when_the_layer_goes_backwards(library):
    mask = mask_of("right")
    layer = ready("LSTM", library=library, name="layer", go_backwards=True)
    traced = rk.trace(layer, inputs(), mask=mask)["layer"]
    np.testing.assert_array_equal(traced.mask, mask)
    wanted = reference.run("LSTM", weights_of("LSTM"), inputs(), mask=mask, backwards=True)
    equal_reference(traced, wanted, backwards=True)


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_both_directions(library):
    both = library.Bidirectional(library.GRU(UNITS, name="gru", return_sequences=True))
    both.build((BATCH, TIME, FEATURES))
    traced = rk.trace(both, inputs())
    assert list(traced) == ["forward_gru", "backward_gru"]
    for (key, found), backwards in zip(traced.items(), (False, True), strict=True):
        weights = arrays(getattr(both, f"{key.split('_')[0]}_layer").weights)
        wanted = reference.run("GRU", weights, inputs(), backwards=backwards)
        equal_reference(found, wanted, backwards)
    (output,) = arrays(both(inputs()))
    close(np.concatenate([each.output for each in traced.values()], axis=-1), output)


@pytest.mark.parametrize("kind", ["none", "holes"])
@pytest.mark.parametrize("library", [keras.layers, rk])
def test_each_cell_of_a_stack(library, kind):
    cells = [library.LSTMCell(UNITS, name="one"), library.GRUCell(3, name="two")]
    layer = library.RNN(cells, return_sequences=True, name="stack")
    layer.build((BATCH, TIME, FEATURES))
    mask = mask_of(kind)
    traced = rk.trace(layer, inputs(), mask=mask)
    assert list(traced) == ["stack/one", "stack/two"]
    weights = arrays(layer.weights)
    first = reference.run("LSTM", weights[:3], inputs(), mask=mask)
    equal_reference(traced["stack/one"], first)
    second = reference.run("GRU", weights[3:], first["outputs"], mask=mask)
    equal_reference(traced["stack/two"], second)


class Leaky(keras.Layer):
    """Two states of different widths, and an output that is neither of them."""

    state_size = (2, 3)
    output_size = 2

    def call(self, inputs, states):
        slow, fast = states
        fast = 0.5 * fast + inputs
        slow = 0.9 * slow + keras.ops.mean(fast, axis=-1, keepdims=True)
        return 2 * slow, [slow, fast]


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_a_cell_of_another_kind_shows_its_states_and_a_note(library):
    layer = library.RNN(Leaky(), name="mine")
    traced = rk.trace(layer, inputs())["mine"]
    assert traced.kind == "Leaky"
    assert traced.note == "gates unknown: Leaky is not a cell this library knows"
    assert traced.gates == {}
    fast, slow = np.zeros((BATCH, FEATURES), "float32"), np.zeros((BATCH, 2), "float32")
    for t in range(TIME):
        fast = 0.5 * fast + inputs()[:, t]
        slow = 0.9 * slow + fast.mean(axis=-1, keepdims=True)
        close(traced["h"][:, t], slow)
        close(traced["state_1"][:, t], fast)
        close(traced.output[:, t], 2 * slow)
    with pytest.raises(ValueError, match=r"one of \['h', 'state_1'\] \(gates unknown.*'f'"):
        traced["f"]


def test_a_cell_that_returns_its_states_is_known():
    cell = rk.LSTMCell(UNITS, return_state=True)
    layer = keras.layers.RNN(cell, name="layer")
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights(weights_of("LSTM"))
    traced = rk.trace(layer, inputs())["layer"]
    wanted = reference.run("LSTM", weights_of("LSTM"), inputs())
    close(traced["c"], wanted["states"][1])
    close(traced["o"], wanted["gates"]["o"])
    close(traced.output, np.concatenate([wanted["outputs"], *wanted["states"]], axis=-1))


def test_given_initial_states_count():
    start = [np.full((BATCH, UNITS), value, "float32") for value in (0.3, -0.7)]
    x, *given = keras.Input((TIME, FEATURES)), keras.Input((UNITS,)), keras.Input((UNITS,))
    layer = keras.layers.LSTM(UNITS, name="lstm")
    model = keras.Model([x, *given], layer(x, initial_state=given))
    layer.set_weights(weights_of("LSTM"))
    traced = rk.trace(model, [inputs(), *start], batch_size=2)["lstm"]
    equal_reference(traced, reference.run("LSTM", weights_of("LSTM"), inputs(), start))


def test_layers_inside_models_wrappers_and_lists_are_named_by_their_way():
    start = keras.Input((TIME, FEATURES))
    inner = keras.Sequential([keras.layers.GRU(3, name="gru", return_sequences=True)], name="inner")

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [inner, keras.layers.LSTM(2, name="last")]
            self.unused = keras.layers.LSTM(2, name="unused")
            self.unused.build((None, TIME, FEATURES))

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    model = Outer()
    model(inputs())
    assert list(rk.trace(model, inputs())) == ["inner/gru", "last"]
    shared = keras.layers.GRU(FEATURES, name="gru", return_sequences=True)
    twice = keras.Model(start, shared(shared(start)))
    traced = rk.trace(twice, inputs())
    assert list(traced) == ["gru", "gru#2"]
    close(traced["gru#2"].output, twice.predict(inputs(), verbose=0))


def test_outer_steps_of_a_time_distributed_layer_are_rows():
    x = inputs(6, 4 * TIME).reshape(6, 4, TIME, FEATURES)
    start = keras.Input(x.shape[1:])
    many = keras.layers.TimeDistributed(keras.layers.GRU(UNITS, name="gru"), name="many")
    model = keras.Model(start, many(start))
    traced = rk.trace(model, x, batch_size=4)["many/gru"]
    assert traced.output.shape == (24, TIME, UNITS)
    last = traced["h"][:, -1].reshape(6, 4, UNITS)
    close(last, model.predict(x, verbose=0))


def test_batches_follow_each_other_and_a_stateful_model_stays_as_it_was():
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES), batch_size=2),
            keras.layers.LSTM(UNITS, stateful=True, return_sequences=True, name="lstm"),
            rk.GRU(UNITS, stateful=True, name="gru"),
        ]
    )
    x = inputs(4)
    model.predict(inputs(2), batch_size=2, verbose=0)
    before, weights = rk.get_states(model), arrays(model.variables)
    traced = rk.trace(model, x, batch_size=2)
    for name, states in rk.get_states(model).items():
        for one, other in zip(states, before[name], strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(arrays(model.variables), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    whole = np.concatenate([x[:2], x[2:]], axis=1)
    lstm = arrays(model.layers[0].weights)
    wanted = reference.run("LSTM", lstm, whole, [state.copy() for state in before["lstm"]])
    split = np.concatenate([wanted["states"][1][:, :TIME], wanted["states"][1][:, TIME:]])
    close(traced["lstm"]["c"], split)


def test_the_model_is_left_as_it_was():
    class Noise(keras.Layer):
        def __init__(self):
            super().__init__()
            self.seeds = keras.random.SeedGenerator(1)

        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)

    layers = [keras.Input((TIME, FEATURES)), Noise(), keras.layers.LSTM(3)]
    layers.append(keras.layers.RepeatVector(2))
    layers.append(keras.layers.Bidirectional(rk.GRU(3)))
    layers.append(keras.layers.RepeatVector(2))
    layers.append(rk.Bidirectional(rk.GRU(3)))
    model = keras.Sequential(layers)
    (seed,) = arrays(layers[1].seeds.state)
    rk.trace(model, inputs())
    np.testing.assert_array_equal(arrays(layers[1].seeds.state)[0], seed)
    both = *layers[-1].directions(), layers[4].forward_layer, layers[2]
    for layer in (*model.layers, *both):
        assert not {"call", "run", "inner_loop", "fuses"} & set(vars(layer)), layer.name
    assert layers[2].use_cudnn == layers[4].forward_layer.use_cudnn == "auto"
    assert not layers[2].return_sequences


def test_a_model_of_plain_keras_from_another_process(tmp_path):
    code = f"""
import keras
keras.utils.set_random_seed(1)
words = keras.Input((6,), dtype="int32")
x = keras.layers.Embedding(9, 3, mask_zero=True)(words)
x = keras.layers.LSTM(4, return_sequences=True, name="lstm",
    bias_initializer=keras.initializers.RandomNormal(stddev=0.5))(x)
model = keras.Model(words, keras.layers.GRU(2, name="gru")(x))
model.save({str(tmp_path / "model.keras")!r})
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    model = keras.models.load_model(tmp_path / "model.keras")
    words = np.random.default_rng(0).integers(0, 9, (BATCH, TIME))
    words[:, 0] = 1
    traced = rk.trace(model, words)
    vectors, lstm = (arrays(model.get_layer(index=index).weights) for index in (1, -2))
    wanted = reference.run("LSTM", lstm, vectors[0][words], mask=words != 0)
    equal_reference(traced["lstm"], wanted)
    own = keras.Model(model.input, model.get_layer("lstm").output)
    close(traced["lstm"].output, own.predict(words, verbose=0))
    close(traced["gru"]["h"][:, -1], model.predict(words, verbose=0))


def test_a_half_precision_model():
    layer = keras.layers.LSTM(UNITS, dtype="mixed_bfloat16", name="lstm")
    traced = rk.trace(layer, inputs())["lstm"]
    assert traced["c"].dtype == "float32"
    close(traced["h"][:, -1], arrays(keras.ops.cast(layer(inputs()), "float32"))[0])


def test_what_stands_out():
    layer = keras.layers.LSTM(3, name="lstm")
    layer.build((2, 4, 1))
    kernel, recurrent_kernel, bias = np.zeros((1, 12)), np.zeros((3, 12)), np.zeros(12)
    bias[0:2], bias[9] = 20, -50  # unit 0: never let out; unit 1: input gate open
    kernel[0, 6:9] = 1
    layer.set_weights([kernel, recurrent_kernel, bias])
    x = np.ones((2, 4, 1), "float32")
    x[1, :, 0] = 0
    traced = rk.trace(layer, x)["lstm"]
    assert traced.summary.saturation["i"] == (0, pytest.approx(2 / 3))
    assert traced.summary.saturation["o"] == (pytest.approx(1 / 3), 0)
    assert traced.summary.dead == (0,)
    assert traced.summary.frozen == ()
    assert traced.summary.not_finite is None
    assert "dead units: 1 of 3 (0)" in repr(traced)
    steady = keras.layers.SimpleRNN(2, name="steady")
    steady.build((2, 4, 1))
    steady.set_weights([np.zeros((1, 2)), np.zeros((2, 2)), np.array([1.0, 0.0])])
    summary = rk.trace(steady, x)["steady"].summary
    assert (summary.dead, summary.frozen) == ((1,), (0,))


def test_the_first_nan_is_found_by_step_row_and_unit():
    x = inputs()
    x[3, 2] = np.nan
    layer = ready("GRU", name="gru")
    found = rk.trace(layer, x)["gru"].summary.not_finite
    assert (found.name, found.step, found.row, found.unit) == ("z", 2, 3, 0)
    assert "nan in z, unit 0, step 2, row 3" in repr(rk.trace(layer, x)["gru"])
    masked = np.ones((BATCH, TIME), bool)
    masked[3, 2:] = False
    assert rk.trace(layer, x, mask=masked)["gru"].summary.not_finite is None


def test_what_cannot_be_traced_is_refused():
    with pytest.raises(ValueError, match="`model_or_layer` must be or hold a recurrent layer"):
        rk.trace(keras.layers.Dense(3, name="dense"), inputs())
    with pytest.raises(ValueError, match="`batch_size` must be 1 or more; received 0"):
        rk.trace(ready("GRU"), inputs(), batch_size=0)

    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.gru = keras.layers.GRU(2, name="gru")
            self.gru.build((None, TIME, FEATURES))

        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"holds \['gru'\] and its call reaches none"):
        rk.trace(Idle(), inputs())


@pytest.mark.parametrize(
    ("root", "inputs", "message"),
    [
        ("model.keras", np.ones((2, 5, 3)), "must be a Keras model or layer; received str"),
        (None, [[1, 2], [3]], "`inputs` must be an array with samples on the first axis"),
        (None, np.ones((0, 5, 3)), "1 or more; received 0 in `inputs`"),
        (None, np.float32(1), "`inputs` must be an array"),
    ],
)
def test_what_has_no_rows_is_refused(root, inputs, message):
    with pytest.raises(ValueError, match=message):
        rk.trace(rk.GRU(2) if root is None else root, inputs)


def test_a_mask_has_a_row_for_each_of_the_inputs():
    with pytest.raises(ValueError, match="received 2 in `inputs`, 3 in `mask`"):
        rk.trace(rk.GRU(2), np.ones((2, 5, 3), "float32"), mask=np.ones((3, 5), bool))
