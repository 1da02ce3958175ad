"""What cannot run a step at a time is refused, with the layer, why, and what to use."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.layers import (
    LSTM,
    Activation,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    EinsumDense,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GroupNormalization,
    Lambda,
    LayerNormalization,
    MultiHeadAttention,
    Permute,
    PReLU,
    Reshape,
    Softmax,
    TimeDistributed,
    UpSampling1D,
    ZeroPadding1D,
)

import keras_rnnkit as rk
from keras_rnnkit.streaming import rules

TIME, FEATURES = 6, 4


class Own(keras.layers.Dense):
    """Unknown: a kind that is known, with a `call` of its own."""

    def call(self, inputs):
        return super().call(inputs) + 1


class Mean(keras.layers.LSTM):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        return 2 * super().call(sequences, initial_state, mask, training)


class Start(keras.layers.GRU):
    def get_initial_state(self, batch_size):
        return [ops.ones((batch_size, self.units))]


class AlwaysDropped(Dropout):
    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


def over_time(x):
    return x - ops.mean(x, axis=1, keepdims=True)


LAYERS = {
    "Bidirectional": (lambda: Bidirectional(LSTM(3), name="it"), "from its end", "one direction"),
    "ours": (lambda: rk.Bidirectional(rk.GRU(3), name="it"), "from its end", "one direction"),
    "backwards": (lambda: rk.GRU(3, go_backwards=True, name="it"), "begins with the last", "False"),
    "own RNN": (lambda: Mean(3, return_sequences=True, name="it"), "of its own", r"RNN\(cell\)"),
    "own start": (lambda: Start(3, name="it"), "`get_initial_state` of its own", "rk.RNN"),
    "always dropped": (
        lambda: AlwaysDropped(0.5, name="it"),
        "not known",
        r"stepwise=\[AlwaysDropped\]",
    ),
    "mean": (lambda: GlobalAveragePooling1D(name="it"), "all of time", "return_sequences=False"),
    "max": (lambda: GlobalMaxPooling1D(name="it"), "all of time", "return_sequences=False"),
    "Flatten": (lambda: Flatten(name="it"), "joins the time steps", "return_sequences=False"),
    "Reshape": (lambda: Reshape((3, 8), name="it"), "another", "TimeDistributed"),
    "Permute": (lambda: Permute((2, 1), name="it"), "time axis", "Leave time"),
    "same": (lambda: Conv1D(2, 3, padding="same", name="it"), 'padding="same"', 'padding="causal"'),
    "valid": (lambda: Conv1D(2, 3, name="it"), 'padding="valid"', 'padding="causal"'),
    "stride": (
        lambda: Conv1D(2, 3, strides=2, padding="causal", name="it"),
        "strides=2",
        "strides=1",
    ),
    "pooling": (
        lambda: AveragePooling1D(3, strides=1, name="it"),
        "valid",
        r"ZeroPadding1D\(\(2, 0\)\)",
    ),
    "padding behind": (lambda: ZeroPadding1D((0, 1), name="it"), "at the end", "start alone"),
    "upsampling": (lambda: UpSampling1D(name="it"), "number of time steps", "Leave it out"),
    "norm of time": (lambda: LayerNormalization(axis=1, name="it"), "over time", "axis=-1"),
    "batch norm of time": (lambda: BatchNormalization(axis=1, name="it"), "over time", "axis=-1"),
    "softmax of time": (lambda: Softmax(axis=1, name="it"), "over time", "axis=-1"),
    "group norm": (lambda: GroupNormalization(2, name="it"), "over time", "LayerNormalization"),
    "weights by step": (lambda: PReLU(name="it"), "each time step", r"shared_axes=\[1\]"),
    "einsum": (
        lambda: EinsumDense("abc,bd->adc", (TIME, FEATURES), name="it"),
        "mixes",
        "Dense",
    ),
    "activation": (lambda: Activation(over_time, name="it"), "'over_time'", "each number"),
    "Dense's": (lambda: Dense(3, activation=over_time, name="it"), "'over_time'", "each number"),
    "Lambda": (lambda: Lambda(over_time, name="it"), "nothing is known", "stepwise"),
    "unknown": (lambda: Own(3, name="it"), "not known", r"stepwise=\[Own\]"),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_refused_by_name(kind):
    make, why, remedy = LAYERS[kind]
    x = keras.Input((TIME, FEATURES), name="x")
    model = keras.Model(x, make()(x))
    with pytest.raises(ValueError, match=f"layer 'it' .*{why}.*{remedy}"):
        rk.step_model(model)


def attention(x):
    return MultiHeadAttention(2, 2, name="it")(x, x)


def not_padding_alone(x):
    return Dense(2, name="it")(ZeroPadding1D((2, 0))(x))


def what_is_not_known_yet(x):
    y, h = rk.GRU(4, return_sequences=True, return_state=True)(x)
    return y * ops.expand_dims(h, 1)


def encoder_and_decoder(x):
    _, h = rk.GRU(4, return_state=True)(x)
    return rk.GRU(4, return_sequences=True, name="it")(x, initial_state=h)


GRAPHS = {
    "attention": (attention, "layer 'it' .*reads every time step.*recurrent"),
    "padding that nothing takes in": (not_padding_alone, "layer 'it' .*ZeroPadding1D"),
    "noise": (lambda x: Dropout(0.5, name="it")(x, training=True), "layer 'it' .*training=True"),
    "the last state": (what_is_not_known_yet, "Multiply.*after the last one only"),
    "decoder": (encoder_and_decoder, "layer 'it' .*initial states.*keras.Input"),
    "a constant reset": (
        lambda x: rk.GRU(3, name="it")(x, reset=np.ones((1, TIME), bool)),
        "layer 'it' .*a mask or reset without them",
    ),
    "reversed": (lambda x: x[:, ::-1], "GetItem.*some of the time steps"),
    "cut": (lambda x: rk.GRU(3)(x[:, 2:]), "GetItem.*some of the time steps"),
    "shifted": (lambda x: ops.roll(x, 1, axis=1), "Roll.*over time"),
    "cumulated": (lambda x: ops.cumsum(x, axis=1), "Cumsum.*over time"),
    "mean": (lambda x: ops.mean(x, axis=1), "Mean.*over time"),
    "all": (lambda x: ops.max(x), "Max.*over time"),
    "joined": (lambda x: ops.concatenate([x, x], axis=1), "Concatenate.*over time"),
    "weighed": (lambda x: x * np.ones((TIME, 1), "float32"), "Multiply.*axis of length 1"),
    "limits": (lambda x: ops.clip(x, np.zeros((TIME, 1), "float32"), 9), "Clip.*not known"),
    "turned": (lambda x: ops.transpose(x, (0, 2, 1)), "Transpose.*not known"),
    "Dense over time": (lambda x: Dense(2, name="it")(x[..., 0]), "layer 'it' .*which is time"),
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_is_refused(kind):
    make, message = GRAPHS[kind]
    x = keras.Input((TIME, FEATURES), name="x")
    with pytest.raises(ValueError, match=message):
        rk.step_model(keras.Model(x, make(x)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.gru = rk.GRU(3)

    def call(self, x):
        return self.gru(x)


class Functional(keras.Model):
    def call(self, x):
        return super().call(x) + 1


def test_a_model_without_a_graph_is_refused():
    x = keras.Input((TIME, FEATURES))
    with pytest.raises(ValueError, match=r"Sequential or functional; .*Subclassed"):
        rk.step_model(Subclassed())
    with pytest.raises(ValueError, match=r"Sequential or functional; .*Functional"):
        rk.step_model(Functional(x, rk.GRU(3)(x)))
    with pytest.raises(ValueError, match="must be built"):
        rk.step_model(keras.Sequential([rk.GRU(3)]))
    with pytest.raises(ValueError, match="must be a Keras model; received GRU"):
        rk.step_model(rk.GRU(3))
    with pytest.raises(ValueError, match="an input with a time axis"):
        rk.step_model(keras.Sequential([keras.Input((3,)), Dense(2)]))
    inside = keras.Sequential([x, rk.GRU(3, return_sequences=True), Subclassed()])
    with pytest.raises(ValueError, match=r"Sequential or functional; .*Subclassed"):
        rk.step_model(inside)
    rows = keras.Input((TIME, 5, 2))
    with pytest.raises(ValueError, match=r"layer 'it' .*`call` of its own"):
        rk.step_model(keras.Model(rows, keras.layers.ConvLSTM1D(2, 2, name="it")(rows)))
    images = keras.Input((TIME, 5, 2), batch_size=2)
    carried = TimeDistributed(keras.layers.LSTM(2, stateful=True), name="it")(images)
    with pytest.raises(ValueError, match=r"layer 'it' .*stateful"):
        rk.step_model(keras.Model(images, carried))


def test_states_of_an_input_that_is_used_elsewhere_are_refused():
    x, h = keras.Input((TIME, FEATURES)), keras.Input((3,), name="h")
    y = rk.GRU(3)(x, initial_state=h)
    with pytest.raises(ValueError, match="'h', and uses it elsewhere"):
        rk.step_model(keras.Model([x, h], [y, Dense(1)(h)]))


def test_a_layer_may_be_said_to_act_on_each_time_step():
    x = keras.Input((TIME, FEATURES), name="x")
    own = Own(3, name="it")
    model = keras.Model(x, rk.GRU(2, return_sequences=True)(Lambda(lambda y: 2 * y)(own(x))))
    inputs = np.random.default_rng(0).normal(size=(1, TIME, FEATURES)).astype("float32")
    stream = rk.Stream(model, stepwise=[own, Lambda])
    found = np.stack([stream(inputs[:, t]) for t in range(TIME)], 1)
    np.testing.assert_allclose(found, model.predict(inputs, verbose=0), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="layer 'it'"):
        rk.step_model(model, stepwise=[Lambda])


def test_words_that_stay_are_static_by_name():
    x, kind = keras.Input((TIME, FEATURES), name="x"), keras.Input((2,), dtype="int32", name="kind")
    still = Flatten()(Embedding(5, 3)(kind))
    model = keras.Model([x, kind], Dense(2)(keras.layers.Concatenate()([rk.GRU(3)(x), still])))
    with pytest.raises(ValueError, match="Flatten"):
        rk.step_model(model)
    step = rk.step_model(model, static=["kind"])
    assert tuple(step.input["kind"].shape) == (None, 2)


def by_lower_name():
    return {name.replace("_", ""): getattr(ops, name) for name in dir(ops) if name[0] != "_"}


def test_operations_that_are_taken_for_elementwise_are():
    """Each of them, where Keras has it, gives for one time step what it gives for all."""
    rng, functions, tried = np.random.default_rng(0), by_lower_name(), 0
    x, y = (rng.uniform(0.1, 0.9, size=(2, 5, 3)).astype("float32") for _ in range(2))
    extra = {"clip": (0.2, 0.6), "cast": ("float16",), "where": (x, y), "threshold": (0.5, 0.1)}
    for name in rules.ELEMENTWISE_OPS & set(functions):
        function = functions[name]
        first = x > 0.5 if name in ("where", "logicalnot") else x
        for others in (extra.get(name, ()), (y,), ()):
            try:
                whole = ops.convert_to_numpy(function(first, *others))
            except (TypeError, ValueError):
                continue
            parts = [o[:, 1:2] if isinstance(o, np.ndarray) else o for o in others]
            one = ops.convert_to_numpy(function(first[:, 1:2], *parts))
            np.testing.assert_allclose(one, whole[:, 1:2], rtol=1e-5, err_msg=name)
            tried += 1
            break
    assert tried > 60


@pytest.mark.parametrize("batch_size", [0, "2", 2.0, True])
def test_a_batch_size_that_is_none_is_refused(batch_size):
    model = keras.Sequential([keras.Input((TIME, FEATURES)), rk.GRU(2)])
    for made in (rk.step_model, rk.Stream):
        with pytest.raises(ValueError, match="`batch_size` must be a whole number from 1 on"):
            made(model, batch_size=batch_size)


@pytest.mark.parametrize("static", ["x", ["nope"]])
def test_static_names_inputs(static):
    model = keras.Sequential([keras.Input((TIME, FEATURES), name="x"), rk.GRU(2)])
    with pytest.raises(ValueError, match=r"`static` must be a list of names .*\['x'\]; received"):
        rk.step_model(model, static=static)
