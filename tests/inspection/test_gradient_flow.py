"""gradient_flow and jacobian_norms: against finite differences and products made in NumPy."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.inspection.gradient_flow import judge
from tests import reference
from tests.recurrent.cases import arrays, make, weights_of

pytestmark = pytest.mark.backends
BACKEND = keras.backend.backend()
BATCH, TIME, FEATURES, UNITS = 3, 4, 2, 2
# JAX computes in float64 only when told so before Keras is imported.
DTYPE, TOLERANCE = ("float32", 1e-4) if BACKEND == "jax" else ("float64", 1e-6)
CELLS = ["SimpleRNN", "LSTM", "GRU", "GRU reset before"]


def inputs(batch=BATCH, time=TIME, features=FEATURES, seed=5):
    return np.random.default_rng(seed).normal(size=(batch, time, features))


def nudged_loss(cell, weights, x, mask, shares, at, state, unit, step):
    """Each row's loss when one unit of a state is nudged where it is made."""
    sequences = []
    for row in range(len(x)):
        states = [np.zeros(UNITS) for _ in range(1 + (cell == "LSTM"))]
        outputs, shown = [], np.zeros(UNITS)
        for t in range(x.shape[1]):
            if mask[row, t]:
                states, gates = reference.STEPS[cell](x[row, t], states, weights)
                states = [each.copy() for each in states]
                if t == at:
                    states[state][unit] += step
                    if state == 1:
                        states[0] = gates["o"] * np.tanh(states[1])
                shown = states[0]
            outputs.append(shown)
        sequences.append(outputs)
    return (np.array(sequences) * shares).sum(axis=(1, 2))


def wanted_norms(cell, weights, x, mask, shares, step=1e-6):
    """(time,) for each state: the mean norm where a step counts."""
    found = []
    for state in range(1 + (cell == "LSTM")):
        gradient = np.zeros((len(x), x.shape[1], UNITS))
        for t in range(x.shape[1]):
            for unit in range(UNITS):
                above, below = (
                    nudged_loss(cell, weights, x, mask, shares, t, state, unit, sign * step)
                    for sign in (1, -1)
                )
                gradient[:, t, unit] = (above - below) / (2 * step)
        norms = np.linalg.norm(gradient, axis=-1)
        found.append((norms * mask).sum(axis=0) / mask.sum(axis=0))
    return found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("library", [keras.layers, rk])
@pytest.mark.parametrize("cell", CELLS)
def test_norms_are_those_of_finite_differences(cell, library, masked):
    if BACKEND == "jax" and masked != (cell == "LSTM"):
        pytest.skip("one of the two for each cell: each compiles for seconds here")
    weights = weights_of(cell, FEATURES, UNITS, "float64")
    x, mask = inputs(), np.ones((BATCH, TIME), bool)
    if masked:
        mask = np.array([[True, True, False, True], [False, True, True, False], [True] * 4])
        x[~mask] = 0
    layer = make(cell, library, units=UNITS, dtype=DTYPE, return_sequences=True, name="layer")
    start = keras.Input((TIME, FEATURES), dtype=DTYPE)
    hidden = keras.layers.Masking(dtype=DTYPE)(start) if masked else start
    model = keras.Model(start, layer(hidden))
    layer.set_weights(weights)
    shares = np.random.default_rng(2).normal(size=(TIME, UNITS))

    def loss(y, prediction):
        return keras.ops.sum(prediction * keras.ops.convert_to_tensor(shares, prediction.dtype))

    found = rk.gradient_flow(model, x.astype(DTYPE), np.zeros(BATCH), loss, batch_size=BATCH)
    wanted = wanted_norms(cell, weights, x, mask, shares)
    names = ("h", "c")[: len(wanted)]
    assert tuple(found["layer"].norms) == names
    for name, norms in zip(names, wanted, strict=True):
        np.testing.assert_allclose(found["layer"].norms[name], norms, rtol=TOLERANCE, atol=1e-7)


def linear(matrix, library=keras.layers, **options):
    layer = library.SimpleRNN(len(matrix), activation="linear", name="rnn", **options)
    layer.build((None, None, FEATURES))
    kernel = np.random.default_rng(1).normal(size=(FEATURES, len(matrix)))
    layer.set_weights([kernel, matrix, np.zeros(len(matrix))])
    return layer


def matrix_of(radius, kind):
    values = np.random.default_rng(3).normal(size=(8, 8))
    if kind == "orthogonal":
        return radius * np.linalg.qr(values)[0]
    return values * radius / np.abs(np.linalg.eigvals(values)).max()


@pytest.mark.parametrize("kind", ["orthogonal", "any"])
@pytest.mark.parametrize("radius", [0.9, 1.1])
def test_a_linear_network_shows_its_spectral_radius(radius, kind):
    layer = linear(matrix_of(radius, kind))
    x = inputs(4, 150).astype("float32") / 1e3
    flow = rk.gradient_flow(layer, x, np.ones((4, 8)), "mse")
    assert flow["rnn"].factor == pytest.approx(radius, rel=0.01)
    assert flow["rnn"].verdict == ("vanishing" if radius < 1 else "exploding")
    if radius < 1 and kind == "orthogonal":
        assert flow["rnn"].half_life == pytest.approx(np.log(2) / np.log(1 / 0.9), rel=0.01)
    assert ("none" in str(flow)) == (radius > 1)


def test_what_batches_give_is_what_all_rows_give():
    model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.GRU(3, name="gru")])
    x, y = inputs(5).astype("float32"), np.ones((5, 3), "float32")
    whole = rk.gradient_flow(model, x, y, "mse", batch_size=5)
    parts = rk.gradient_flow(model, x, y, "mse", batch_size=2)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    np.testing.assert_allclose(parts["gru"].norms["h"], whole["gru"].norms["h"], rtol=1e-5)


def test_directions_stacks_and_outer_steps_have_flows_of_their_own():
    start = keras.Input((5, TIME, FEATURES))
    x = keras.layers.TimeDistributed(keras.layers.LSTM(3, name="inner"), name="many")(start)
    cells = [rk.GRUCell(3, name="one"), keras.layers.LSTMCell(2, name="two")]
    x = keras.layers.RNN(cells, return_sequences=True, name="stack")(x)
    x = rk.Bidirectional(rk.GRU(2, return_sequences=True, name="ours"), name="a")(x)
    x = keras.layers.Bidirectional(keras.layers.GRU(2, name="theirs"), name="b")(x)
    model = keras.Model(start, x)
    values = np.random.default_rng(0).normal(size=(4, 5, TIME, FEATURES)).astype("float32")
    flow = rk.gradient_flow(model, values, np.ones((4, 4), "float32"), "mse")
    assert list(flow) == [
        "many/inner",
        "stack/one",
        "stack/two",
        "a/forward_ours",
        "a/backward_ours",
        "b/forward_theirs",
        "b/backward_theirs",
    ]
    assert flow["many/inner"].norms["c"].shape == (TIME,)
    last = flow["b/forward_theirs"].norms["h"], flow["b/backward_theirs"].norms["h"]
    # The backward direction ends at the first step: the gradient comes in there.
    assert last[0].argmax() == 4
    assert last[1].argmax() == 0


def test_a_cell_of_another_kind_passes_the_gradient_on():
    class Fading(keras.Layer):
        state_size = FEATURES

        def call(self, inputs, states):
            h = 0.5 * states[0] + inputs
            return h, [h]

    for library in (keras.layers, rk):
        layer = library.RNN(Fading(), name="fading")
        x, y = inputs(time=8).astype("float32"), np.zeros((BATCH, FEATURES), "float32")
        flow = rk.gradient_flow(layer, x, y, "mse")["fading"]
        assert flow.factor == pytest.approx(0.5, rel=1e-4)
        assert flow.half_life == pytest.approx(1, rel=1e-4)


def test_the_compiled_loss_is_taken_and_the_model_left_as_it_was():
    start = keras.Input((TIME, FEATURES), batch_size=BATCH)
    hidden = keras.layers.Dropout(0.5)(start)
    hidden = keras.layers.LSTM(3, stateful=True, name="lstm", activity_regularizer="l2")(hidden)
    outputs = [keras.layers.Dense(1, name="one")(hidden), keras.layers.Dense(2, name="two")(hidden)]
    model = keras.Model(start, outputs)
    model.compile("sgd", ["mse", "mae"], metrics=[["mae"], ["mse"]])
    x, y = inputs().astype("float32"), [np.ones((BATCH, n), "float32") for n in (1, 2)]
    before = arrays(model.variables) + rk.get_states(model)["lstm"]
    flow = rk.gradient_flow(model, x, y, training=True)
    after = arrays(model.variables) + rk.get_states(model)["lstm"]
    for one, other in zip(before, after[: len(before)], strict=True):
        np.testing.assert_array_equal(one, other)
    assert flow["lstm"].norms["h"].all()
    plain = rk.gradient_flow(model, x, y)
    wanted = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)["loss"]
    assert plain.loss == pytest.approx(wanted, rel=1e-4)


def test_verdicts():
    steady = judge(np.array([1.0, 0.9, 0.8, 0.9]))
    assert steady[1:] == (np.inf, "steady")
    # The loss reads the third state from the end: the two after it get nothing.
    factor, half_life, verdict = judge(np.array([0, 0, 1, 0.1, 0.01, 0.001]))
    assert (factor, verdict) == (pytest.approx(0.1), "vanishing")
    assert half_life == pytest.approx(np.log(2) / np.log(10))
    assert judge(np.array([1.0, 1e-3, 0, 0])) == (
        pytest.approx(1e-3),
        pytest.approx(np.log(2) / np.log(1000)),
        "vanishing",
    )
    assert judge(np.array([1.0, 0.0])) == (0, 0.5, "vanishing")
    assert judge(np.zeros(3)) == (0, 0, "vanishing")
    assert judge(np.array([1.0, 10.0, np.inf]))[1:] == (np.inf, "exploding")
    assert judge(np.array([1.0, 10.0, 100.0, 1000.0]))[0] == pytest.approx(10)
    assert np.isnan(judge(np.array([1.0]))[0])


def step_jacobian(cell, x, states, weights):
    """d(states after)/d(states before) of one row, by the rules of differentiation."""
    (new, gates) = reference.STEPS[cell](x, states, weights)
    _, recurrent, bias = weights
    h = states[0]
    if cell == "SimpleRNN":
        return new, np.diag(1 - new[0] ** 2) @ recurrent.T
    if cell == "GRU":
        z, r, n = (gates[name] for name in "zrn")
        U_z, U_r, U_n = (block.T for block in np.split(recurrent, 3, axis=1))
        inner = h @ U_n.T + np.split(bias[1], 3)[2]
        d_n = np.diag(1 - n**2) @ (np.diag(r) @ U_n + np.diag(inner * r * (1 - r)) @ U_r)
        return new, np.diag(z) + np.diag((h - n) * z * (1 - z)) @ U_z + np.diag(1 - z) @ d_n
    i, f, g, o = (gates[name] for name in "ifgo")
    U_i, U_f, U_g, U_o = (block.T for block in np.split(recurrent, 4, axis=1))
    tanh_c = np.tanh(new[1])
    c_h = np.diag(states[1] * f * (1 - f)) @ U_f + np.diag(g * i * (1 - i)) @ U_i
    c_h = c_h + np.diag(i * (1 - g**2)) @ U_g
    slope = np.diag(o * (1 - tanh_c**2))
    h_h = np.diag(tanh_c * o * (1 - o)) @ U_o + slope @ c_h
    return new, np.block([[h_h, slope @ np.diag(f)], [c_h, np.diag(f)]])


@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_jacobians_are_the_product_of_the_steps(cell, norm):
    weights = weights_of(cell, FEATURES, UNITS, "float64")
    x, mask = inputs(2, 6), np.ones((2, 6), bool)
    mask[1, [0, 3, 5]] = False
    layer = make(cell, keras.layers, units=UNITS, dtype=DTYPE)
    layer.build(x.shape)
    layer.set_weights(weights)
    found = rk.jacobian_norms(layer, x.astype(DTYPE), mask=mask, norm=norm)
    for row in range(2):
        states, steps = [np.zeros(UNITS)] * (1 + (cell == "LSTM")), []
        for t in range(6):
            jacobian = np.eye(UNITS * len(states))
            if mask[row, t]:
                states, jacobian = step_jacobian(cell, x[row, t], states, weights)
            steps.append(jacobian)
        product = np.eye(len(steps[0]))
        for t in range(5, -1, -1):
            block = product[:UNITS, :UNITS]
            wanted = np.linalg.norm(block, 2 if norm == "spectral" else "fro")
            np.testing.assert_allclose(found[row, t], wanted, rtol=TOLERANCE)
            product = product @ steps[t]


def test_jacobians_of_a_layer_that_goes_backwards_and_of_one_step():
    q = matrix_of(0.9, "orthogonal")
    x = inputs(2, 5).astype("float32")
    for library in (keras.layers, rk):
        norms = rk.jacobian_norms(linear(q, library, go_backwards=True), x)
        np.testing.assert_allclose(norms, np.tile(0.9 ** np.arange(5), (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(rk.jacobian_norms(linear(q), x[:, :1]), [[1], [1]])


def test_what_cannot_be_measured_is_refused():
    layer, x = linear(matrix_of(1, "any")), inputs().astype("float32")
    with pytest.raises(ValueError, match="`loss` must be given for 'rnn', which is not compiled"):
        rk.gradient_flow(layer, x, x)
    with pytest.raises(ValueError, match="`batch_size` must be 1 or more; received 0"):
        rk.gradient_flow(layer, x, x, "mse", batch_size=0)
    with pytest.raises(ValueError, match="`sample_weight` weights the loss"):
        rk.gradient_flow(layer, x, x, "mse", sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="`norm` must be one of"):
        rk.jacobian_norms(layer, x, norm="nuclear")
    with pytest.raises(ValueError, match="`layer` must be a recurrent layer with one cell"):
        rk.jacobian_norms(keras.layers.Bidirectional(keras.layers.GRU(2)), x)
    with pytest.raises(ValueError, match="received RNN of a stack of cells"):
        rk.jacobian_norms(keras.layers.RNN([keras.layers.GRUCell(2)]), x)
    flow = rk.gradient_flow(layer, x, np.ones((BATCH, 8)), "mse")
    with pytest.raises(KeyError, match=r"'gru' is none of \['rnn'\]"):
        flow["gru"]


def test_targets_have_a_row_for_each_of_the_inputs():
    with pytest.raises(ValueError, match="received 4 in `x`, 3 in `y`"):
        rk.gradient_flow(rk.GRU(2), np.ones((4, 5, 3), "float32"), np.ones((3, 2)), "mse")


def test_a_compiled_loss_with_regularizers_is_what_evaluate_gives():
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            rk.GRU(4, kernel_regularizer="l2", name="gru"),
            keras.layers.Dense(1, kernel_regularizer="l2"),
        ]
    )
    model.compile("sgd", "mse")
    x, y = np.ones((8, 5, 3), "float32"), np.zeros((8, 1), "float32")
    flow = rk.gradient_flow(model, x, y)
    assert flow.loss == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    model.fit(x, y, callbacks=[rk.RecurrentMonitor(x[:2], y[:2])], verbose=0)


@pytest.mark.parametrize("layer", [rk.LSTM, keras.layers.LSTM])
def test_whole_numbers_as_inputs_have_the_gradients_of_the_same_floats(layer):
    x = np.random.default_rng(0).integers(0, 2, (8, 5, 3))
    y = np.ones((8, 1), "float32")
    own = layer(4, name="lstm")
    norms = []
    for dtype in ("int32", "float32"):
        inputs = keras.Input((5, 3), dtype=dtype)
        model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(own(inputs)))
        norms.append(rk.gradient_flow(model, x.astype(dtype), y, "mse")["lstm"].norms["h"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert norms[0].min() > 0


def test_a_loss_by_name_or_function_is_what_compile_makes_of_it():
    inputs = keras.Input((6,), dtype="int32")
    hidden = keras.layers.Embedding(5, 3, mask_zero=True)(inputs)
    model = keras.Model(inputs, rk.GRU(2, return_sequences=True)(hidden))
    words = np.array([[1, 2, 3, 0, 0, 0], [1, 0, 0, 0, 0, 0]], "int32")
    y = np.random.default_rng(0).normal(size=(2, 6, 2))  # float64, as NumPy makes it

    def own(y, prediction):
        return keras.ops.mean(keras.ops.square(y - prediction), axis=-1)

    for loss in ("mse", own, keras.losses.MeanSquaredError()):
        model.compile(loss=loss)
        expected = model.evaluate(words, y, verbose=0)
        assert rk.gradient_flow(model, words, y, loss).loss == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_the_model_adds_needs_no_target():
    class Added(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(keras.ops.square(x)))
            return x

    model = keras.Sequential([keras.Input((5, 3)), rk.GRU(4, name="gru"), Added()])
    model.compile("sgd")
    flow = rk.gradient_flow(model, np.ones((4, 5, 3), "float32"), None)
    assert flow["gru"].norms["h"].min() > 0
