"""Models that a step model is made of: each a function that builds one, by its name."""

import keras
import numpy as np
from keras import ops
from keras.layers import (
    ELU,
    RNN,
    Activation,
    Add,
    Average,
    AveragePooling1D,
    BatchNormalization,
    Concatenate,
    Conv1D,
    Dense,
    DepthwiseConv1D,
    Dropout,
    EinsumDense,
    Embedding,
    Flatten,
    GaussianNoise,
    LayerNormalization,
    LeakyReLU,
    Masking,
    Maximum,
    MaxPooling1D,
    Minimum,
    Multiply,
    Normalization,
    PReLU,
    RepeatVector,
    Rescaling,
    Reshape,
    RMSNormalization,
    SeparableConv1D,
    Softmax,
    SpatialDropout1D,
    StackedRNNCells,
    Subtract,
    TimeDistributed,
    UnitNormalization,
    ZeroPadding1D,
)

import keras_rnnkit as rk
from tests.recurrent.own_cells import IndRNNCell

BATCH, FEATURES = 3, 4
BOTH = (keras.layers, rk)
register = keras.saving.register_keras_serializable(package="tests")
MODELS = {}


@register
class Leaky(keras.Layer):
    """A cell that is no cell of this package: its start is not zero, its output no state."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.state_size, self.output_size = units, [units, units], units + 1

    def build(self, shape):
        self.kernel = self.add_weight((shape[-1], self.units), name="kernel")

    def call(self, inputs, states):
        slow, fast = states
        fast = ops.tanh(inputs @ self.kernel + 0.5 * fast)
        slow = 0.9 * slow + 0.1 * fast
        return ops.concatenate([slow * fast, slow[:, :1]], axis=-1), [slow, fast]

    def get_initial_state(self, batch_size=None):
        return [ops.ones((batch_size, self.units)), ops.full((batch_size, self.units), 0.3)]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class LearnedStart(rk.cells.MinGRUCell):
    """A cell whose start is a weight."""

    def build(self, shape):
        super().build(shape)
        self.start = self.add_weight((self.units,), "ones", name="start")

    def get_initial_state(self, batch_size=None):
        return [ops.broadcast_to(ops.convert_to_tensor(self.start), (batch_size, self.units))]


@register
def bent(x):
    """An activation of one's own."""
    return x * ops.sigmoid(2 * x)


def x_in(time=None, name="x", **kwargs):
    return keras.Input((time, FEATURES), name=name, **kwargs)


def model(function):
    MODELS[function.__name__.strip("_").replace("_", " ")] = function
    return function


def sequential(name, *layers, time=None, **kwargs):
    def build():
        made = [
            layer() if callable(layer) and not isinstance(layer, keras.Layer) else layer
            for layer in layers
        ]
        return keras.Sequential([x_in(time, **kwargs), *made])

    MODELS[name] = build


for library in BOTH:
    own = "rk" if library is rk else "keras"
    sequential(f"{own} SimpleRNN", lambda of=library: of.SimpleRNN(5, return_sequences=True))
    sequential(f"{own} LSTM", lambda of=library: of.LSTM(5, return_sequences=True))
    sequential(f"{own} GRU, last", lambda of=library: of.GRU(5), lambda: Dense(2))
    sequential(
        f"{own} GRU, reset before",
        lambda of=library: of.GRU(5, reset_after=False, use_bias=False, return_sequences=True),
    )
    sequential(
        f"{own} two LSTM, dropout",
        lambda of=library: of.LSTM(5, return_sequences=True, dropout=0.3, recurrent_dropout=0.2),
        lambda: Dropout(0.4),
        lambda of=library: of.LSTM(3, unit_forget_bias=False),
        lambda: Dense(1),
    )
    sequential(
        f"{own} RNN of a stack",
        lambda of=library: of.RNN([keras.layers.LSTMCell(3), rk.GRUCell(5)], return_sequences=True),
    )
    sequential(f"{own} RNN of a cell of one's own", lambda of=library: of.RNN(Leaky(3), name="rnn"))
    sequential(
        f"{own} stateful",
        lambda of=library: of.GRU(5, stateful=True, return_sequences=True),
        batch_size=BATCH,
    )
    sequential(f"{own} unrolled", lambda of=library: of.LSTM(5, unroll=True), time=7)
    sequential(
        f"{own} Masking, LSTM",
        lambda: Masking(),
        lambda of=library: of.LSTM(5, return_sequences=True),
        lambda of=library: of.GRU(3),
    )
    sequential(
        f"{own} Masking, zeros shown",
        lambda: Masking(),
        lambda of=library: of.SimpleRNN(5, return_sequences=True, zero_output_for_mask=True),
    )

CELLS = {
    "IndRNN": IndRNNCell,
    "MinGRU": rk.cells.MinGRUCell,
    "MinLSTM": rk.cells.MinLSTMCell,
    "peephole": rk.cells.PeepholeLSTMCell,
    "layer norm RNN": rk.cells.LayerNormSimpleRNNCell,
    "layer norm LSTM": rk.cells.LayerNormLSTMCell,
    "layer norm GRU": rk.cells.LayerNormGRUCell,
    "learned start": LearnedStart,
}
for name, cell in CELLS.items():
    sequential(name, lambda c=cell: Masking(), lambda c=cell: rk.RNN(c(4), return_sequences=True))

sequential(
    "cell of one's own, masked",
    lambda: Masking(),
    lambda: rk.RNN(Leaky(3), return_sequences=True),
    lambda: keras.layers.GRU(3),
)
sequential(
    "stack, masked, last",
    lambda: Masking(),
    lambda: rk.RNN([rk.GRUCell(3), rk.LSTMCell(4)]),
)
sequential(
    "states in the output",
    lambda: RNN(rk.LSTMCell(3, return_state=True), return_sequences=True),
)
sequential(
    "stack within a stack",
    lambda: RNN(StackedRNNCells([keras.layers.GRUCell(3), rk.SimpleRNNCell(4)])),
)
sequential(
    "causal convolutions",
    lambda: Conv1D(5, 3, padding="causal", activation="relu"),
    lambda: Conv1D(5, 2, padding="causal", dilation_rate=4, use_bias=False),
    lambda: Conv1D(3, 1),
)
sequential(
    "separable convolution, GRU",
    lambda: ZeroPadding1D((4, 0)),
    lambda: SeparableConv1D(5, 3, dilation_rate=2),
    lambda: rk.GRU(3),
)
sequential(
    "poolings over what was",
    lambda: ZeroPadding1D((2, 0)),
    lambda: AveragePooling1D(3, strides=1),
    lambda: ZeroPadding1D((1, 0)),
    lambda: MaxPooling1D(2, strides=1, padding="valid"),
    lambda: ZeroPadding1D((4, 0)),
    lambda: Conv1D(3, 3, dilation_rate=2),
    lambda: ZeroPadding1D((1, 0)),
    lambda: DepthwiseConv1D(2),
)
sequential(
    "norms",
    lambda: Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0]),
    lambda: BatchNormalization(),
    lambda: rk.SimpleRNN(4, return_sequences=True),
    lambda: LayerNormalization(),
    lambda: RMSNormalization(),
    lambda: UnitNormalization(),
    lambda: Rescaling(0.5, 1.0),
)
sequential(
    "activations",
    lambda: PReLU(shared_axes=[1]),
    lambda: LeakyReLU(),
    lambda: Activation("gelu"),
    lambda: GaussianNoise(0.1),
    lambda: Dense(4, activation=bent),
    lambda: ELU(),
    lambda: rk.LSTM(4, return_sequences=True, activation="relu"),
    lambda: SpatialDropout1D(0.1),
    lambda: Softmax(),
    lambda: EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d"),
)


@model
def each_step_an_image():
    x = keras.Input((7, 5, 2), name="x")
    y = TimeDistributed(Conv1D(3, 2, activation="relu"))(x)
    y = TimeDistributed(Flatten())(y)
    return keras.Model(x, TimeDistributed(Dense(2))(rk.GRU(4, return_sequences=True)(y)))


@model
def residuals():
    x = x_in()
    y = Dense(5)(x)
    for _ in range(2):
        y = Add()([y, rk.GRU(5, return_sequences=True)(LayerNormalization()(y))])
    gate = Dense(5, activation="sigmoid")(x)
    y = Multiply()([y, gate])
    y = Subtract()([Average()([y, gate]), Maximum()([Minimum()([y, gate]), gate])])
    return keras.Model(x, y)


@model
def wavenet():
    x = x_in()
    y, skips = Conv1D(4, 1)(x), []
    for rate in (1, 2, 4):
        z = Conv1D(4, 2, padding="causal", dilation_rate=rate, activation="tanh")(y)
        skips.append(z)
        y = Add()([y, Conv1D(4, 1)(z)])
    return keras.Model(x, Dense(1)(Concatenate()(skips)))


@model
def words():
    x = keras.Input((None,), name="ids")
    y = Embedding(6, 4, mask_zero=True)(x)
    return keras.Model(x, Dense(2)(rk.LSTM(5)(Dropout(0.2)(y))))


@model
def words_of_one_length_in_a_row_of_layers():
    ids = keras.Input((7,), name="ids")
    return keras.Sequential([ids, Embedding(6, 4, mask_zero=True), keras.layers.GRU(5)])


@model
def words_with_vectors():
    x = keras.Input((None,), name="ids", dtype="int32")
    vectors = {word: np.full(4, index, "float32") for index, word in enumerate("abcd")}
    y = rk.GloVeEmbedding(vectors, ["", "[UNK]", *"abcd"], dim=4)(x)
    return keras.Model(x, keras.layers.SimpleRNN(5, return_sequences=True)(y))


@model
def words_of_one_length_without_a_mask():
    x = keras.Input((7,), name="ids")
    return keras.Model(x, keras.layers.GRU(5, return_sequences=True)(Embedding(6, 4)(x)))


@model
def masks_joined():
    x, ids = x_in(), keras.Input((None,), name="ids", dtype="int32")
    a, b = Masking()(x), Embedding(6, FEATURES, mask_zero=True)(ids)
    c = Concatenate()([a, b])
    both = keras.layers.LSTM(3, return_sequences=True)(c)
    summed = rk.GRU(3)(Add()([a, b]))
    plain = rk.GRU(3)(Concatenate()([x, b]))
    return keras.Model([x, ids], [both, summed, plain])


@model
def mask_given():
    x, mask = x_in(7), keras.Input((7,), name="mask", dtype="bool")
    y = rk.LSTM(3, return_sequences=True)(x, mask=mask)
    return keras.Model([x, mask], keras.layers.GRU(4)(y, mask=ops.logical_not(mask)))


@model
def several_inputs_and_outputs():
    x, other = x_in(), keras.Input((None, 2), name="other")
    y = rk.GRU(5, return_sequences=True)(Concatenate()([x, other]))
    outputs = {"each step": Dense(1)(y), "last": Dense(2)(rk.LSTM(3)(y))}
    return keras.Model({"x": x, "other": other}, outputs)


@model
def states_returned():
    x = x_in()
    y, h, c = keras.layers.LSTM(4, return_sequences=True, return_state=True, name="first")(x)
    z, every, g = rk.GRU(3, return_state=True, return_state_sequences=True)(y)[:3]
    return keras.Model(x, [y, h, Add()([h, c]), z, every, Dense(2)(g)])


@model
def a_layer_called_twice():
    x, lstm = x_in(), rk.LSTM(FEATURES, return_sequences=True, name="shared")
    conv = Conv1D(FEATURES, 2, padding="causal")
    return keras.Model(x, lstm(conv(lstm(conv(x)))))


@model
def models_inside():
    inner = keras.Sequential(
        [x_in(), Conv1D(4, 2, padding="causal"), rk.GRU(4, return_sequences=True, name="gru")],
        name="inner",
    )
    a = x_in()
    outer = keras.Model(a, [inner(Dense(4)(inner(a))), Dense(4)(a)], name="outer")
    x = x_in()
    y, z = outer(x)
    return keras.Model(x, rk.LSTM(3)(Add()([y, z])))


@model
def masks_in_and_out_of_models_inside():
    words = keras.Sequential(
        [keras.Input((None,), name="ids"), Embedding(6, 4, mask_zero=True), Dense(4)], name="words"
    )
    inner = keras.Sequential(
        [x_in(), Dense(4), rk.GRU(4, return_sequences=True), Dropout(0.1)], name="inner"
    )
    ids = keras.Input((None,), name="ids")
    return keras.Model(ids, keras.layers.LSTM(3, return_sequences=True)(inner(words(ids))))


@model
def features_that_stay():
    x, still, one = x_in(7), keras.Input((2,), name="still"), keras.Input((1, 3), name="one")
    y = Concatenate()([x, RepeatVector(7)(Dense(3)(still))])
    y = Multiply()([rk.GRU(3, return_sequences=True)(y), one])
    y = Add()([Dense(3)(y), RepeatVector(7)(Dense(3)(still))])
    return keras.Model([x, still, one], [y, Dense(1)(Concatenate()([rk.LSTM(2)(y), still]))])


@model
def a_decoder_of_many_steps():
    x = x_in()
    y = RepeatVector(3)(rk.LSTM(4)(x))
    y = keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True))(y)
    return keras.Model(x, Reshape((3,))(TimeDistributed(Dense(1))(y)))


@model
def initial_states_as_inputs():
    x, h, c = x_in(), keras.Input((3,), name="h"), keras.Input((3,), name="c")
    y = keras.layers.LSTM(3, return_sequences=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], rk.GRU(4)(y))


@model
def initial_state_and_mask():
    x, h = x_in(), keras.Input((3,), name="h")
    return keras.Model([x, h], rk.GRU(3, return_sequences=True)(Masking()(x), initial_state=h))


@model
def resets():
    x, reset = x_in(), keras.Input((None,), name="reset", dtype="bool")
    inner = keras.Model([x, reset], rk.GRU(4, return_sequences=True)(x, reset=reset), name="inner")
    y = rk.LSTM(4, return_sequences=True, name="lstm")(Masking()(x), reset=x[..., 0] > 0.6)
    own = rk.RNN(Leaky(3), return_sequences=True)(y, reset=reset)
    last = rk.SimpleRNN(3, learn_initial_state=True, zero_output_for_mask=True)(y, reset=reset)
    return keras.Model([x, reset], [own, last, inner([x, reset])])


@model
def learned_starts_and_resets():
    x, reset = x_in(), keras.Input((None,), name="reset", dtype="bool")
    y, h, c = rk.LSTM(4, learn_initial_state=True, return_state=True, return_sequences=True,
                      name="lstm")(x, reset=reset)  # fmt: skip
    stack = rk.RNN([rk.GRUCell(3), rk.cells.Zoneout(rk.LSTMCell(4, projection=2), 0.2)],
                   learn_initial_state=True)  # fmt: skip
    return keras.Model(
        [x, reset], [y, Add()([h, c]), stack(x, None, ops.any(x != 0, -1), reset=reset)]
    )


sequential(
    "learned starts, stateful",
    lambda: Masking(),
    lambda: rk.GRU(5, learn_initial_state=True, return_sequences=True),
    lambda: rk.RNN(LearnedStart(4), learn_initial_state=True, stateful=True),
    batch_size=BATCH,
)


@model
def operations():
    x = x_in()
    y = ops.concatenate([x * 2 + 1, ops.tanh(x[..., 1:3]), ops.mean(x, -1, keepdims=True)], -1)
    y = ops.where(y > 0, y, ops.square(y) / 10) - np.full((1, 7), 0.1, "float32")
    y = ops.softmax(y, axis=-1) * ops.expand_dims(ops.max(x, axis=2), -1)
    a, b = ops.split(ops.matmul(y, np.eye(7, 4, dtype="float32")), 2, axis=-1)
    y = ops.squeeze(ops.stack([a * b], axis=0), 0)
    return keras.Model(x, [rk.GRU(3)(y), y])


def in_dtype(policy):
    def build():
        x = x_in()
        y = Conv1D(5, 2, padding="causal", dtype=policy)(x)
        y = rk.LSTM(5, return_sequences=True, dtype=policy)(BatchNormalization(dtype=policy)(y))
        y = keras.layers.GRU(4, dtype=policy)(y)
        return keras.Model(x, Dense(1, dtype=policy if policy == "float64" else "float32")(y))

    return build


POLICIES = ["mixed_float16", "mixed_bfloat16", "float64"]
# JAX has no float64 until it is told to.
for policy in POLICIES[: 2 if keras.backend.backend() == "jax" else 3]:
    MODELS[policy] = in_dtype(policy)


def ready(name):
    """The model of this name with weights that leave no symmetry for a fault to hide in."""
    made, rng = MODELS[name](), np.random.default_rng(3)
    for weight in made.weights:
        value = rng.normal(size=weight.shape, scale=0.4)
        if "variance" in weight.path:
            value = np.abs(value) + 0.5
        weight.assign(value.astype("float32"))
    if "stateful" in name:
        rk.reset_states(made)
    return made


def data(made, time, seed=5):
    """Inputs for a model, by name: words with 0 among them, and time steps of zeros."""
    rng, found = np.random.default_rng(seed), {}
    for given in made.inputs:
        if given.name == "ids":
            found["ids"] = rng.integers(0, 6, size=(BATCH, time)).astype("int32")
        elif given.name == "mask":
            found["mask"] = rng.random((BATCH, time)) < 0.6
        elif given.name == "reset":  # at step 0 and later, several in a row, none
            found["reset"] = np.zeros((BATCH, time), bool)
            found["reset"][0, [0, time // 2]] = found["reset"][1, time // 2 :][:3] = True
        elif len(given.shape) > 2 and given.name != "one":
            value = rng.normal(size=(BATCH, time, *given.shape[2:])).astype("float32")
            value[rng.random((BATCH, time)) < 0.25] = 0
            value[0, 0] = 0
            found[given.name] = value
        else:
            found[given.name] = rng.normal(size=(BATCH, *given.shape[1:])).astype("float32")
    return found
