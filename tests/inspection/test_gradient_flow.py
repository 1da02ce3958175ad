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


FED = {"last": slice(-1, None), "every": slice(None), "first": slice(0, 1)}


def fed_loss(steps):
    """The sum over some steps alone of what the layer shows."""

    def loss(y, prediction):
        return keras.ops.sum(prediction[:, FED[steps]])

    return loss


@pytest.mark.parametrize("steps", FED)
@pytest.mark.parametrize("radius", [0.9, 1.0, 1.1])
def test_the_verdict_is_on_what_is_carried_wherever_the_loss_feeds(radius, steps):
    layer = linear(matrix_of(radius, "orthogonal"), return_sequences=True)
    x = inputs(4, 60).astype("float32") / 1e3
    flow = rk.gradient_flow(layer, x, np.zeros(4), fed_loss(steps))["rnn"]
    np.testing.assert_allclose(flow.carried, radius ** np.arange(59.0, -1, -1), rtol=1e-4)
    assert flow.factor == pytest.approx(radius, rel=1e-4)
    assert flow.verdict == {0.9: "vanishing", 1.0: "steady", 1.1: "exploding"}[radius]
    if radius < 1:
        assert flow.half_life == pytest.approx(np.log(2) / np.log(1 / radius), rel=1e-3)
    else:
        assert flow.half_life == np.inf
    fed = np.zeros(60)
    fed[FED[steps]] = np.sqrt(8)
    np.testing.assert_allclose(flow.fed, fed, rtol=1e-5)
    # What arrives is what was fed at this step and, carried, at each later one.
    matrix = matrix_of(radius, "orthogonal")
    arrives, wanted = np.zeros(8), []
    for t in range(59, -1, -1):
        arrives = arrives @ matrix.T + fed[t] / np.sqrt(8)
        wanted.append(np.linalg.norm(arrives))
    np.testing.assert_allclose(flow.norms["h"], wanted[::-1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("radius", [0.9, 1.1])
def test_any_matrix_shows_its_spectral_radius(radius):
    layer = linear(matrix_of(radius, "any"))
    x = inputs(4, 150).astype("float32") / 1e3
    flow = rk.gradient_flow(layer, x, np.ones((4, 8)), "mse")
    assert flow["rnn"].factor == pytest.approx(radius, rel=0.01)
    assert flow["rnn"].verdict == ("vanishing" if radius < 1 else "exploding")
    assert ("none" in str(flow)) == (radius > 1)
    assert "step 149" in str(flow)


def carried_by_differences(cell, weights, x, mask, step=1e-6):
    """The mean over the rows of |ds_T/ds_t| / sqrt(n), by nudging each state as it is handed on."""
    count = UNITS * (1 + (cell == "LSTM"))

    def last(row, at, nudge):
        states = [np.zeros(UNITS) for _ in range(count // UNITS)]
        for t in range(x.shape[1]):
            if mask[row, t]:
                states, _ = reference.STEPS[cell](x[row, t], states, weights)
            if t == at:
                states = [s + n for s, n in zip(states, np.split(nudge, len(states)), strict=True)]
        return np.concatenate(states)

    norms = np.zeros(x.shape[:2])
    for row, at in np.ndindex(*norms.shape):
        columns = [
            (last(row, at, unit) - last(row, at, -unit)) / (2 * step)
            for unit in step * np.eye(count)
        ]
        norms[row, at] = np.linalg.norm(columns) / np.sqrt(count)
    return (norms * mask).sum(axis=0) / mask.sum(axis=0)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_what_is_carried_is_that_of_finite_differences(cell, backwards):
    if BACKEND == "jax" and backwards != (cell == "LSTM"):
        pytest.skip("one of the two for each cell: each compiles for seconds here")
    weights = weights_of(cell, FEATURES, UNITS, "float64")
    x = inputs()
    mask = np.array([[True, True, False, True], [False, True, True, False], [True] * 4])
    x[~mask] = 0
    library = rk if backwards else keras.layers
    options = {"go_backwards": backwards, "return_sequences": True}
    layer = make(cell, library, units=UNITS, dtype=DTYPE, name="layer", **options)
    start = keras.Input((TIME, FEATURES), dtype=DTYPE)
    model = keras.Model(start, layer(keras.layers.Masking(dtype=DTYPE)(start)))
    layer.set_weights(weights)
    found = rk.gradient_flow(model, x.astype(DTYPE), np.zeros(BATCH), fed_loss("every"))["layer"]
    order = slice(None, None, -1 if backwards else 1)
    wanted = carried_by_differences(cell, weights, x[:, order], mask[:, order])[order]
    np.testing.assert_allclose(found.carried, wanted, rtol=TOLERANCE)
    rows = rk.jacobian_norms(layer, x.astype(DTYPE), mask=mask, norm="frobenius")
    count = UNITS * (1 + (cell == "LSTM"))
    exact = (rows * mask).sum(axis=0) / mask.sum(axis=0) / np.sqrt(count)
    np.testing.assert_allclose(found.carried, exact, rtol=TOLERANCE)
    if library is rk or BACKEND != "jax":  # where Keras shows the state before at a masked step
        fed = np.zeros(mask.shape)
        for row, steps in enumerate(mask[:, order]):
            shown = None
            for t, counts in enumerate(steps):
                shown = t if counts else shown
                if shown is not None:
                    fed[row, shown] += np.sqrt(UNITS)
        wanted = (fed.sum(axis=0) / mask[:, order].sum(axis=0))[order]
        np.testing.assert_allclose(found.fed, wanted, rtol=TOLERANCE)


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_a_backward_direction_vanishes_though_most_is_fed_at_its_first_step(library):
    start = keras.Input((40, 3))
    lower = library.LSTM(6, return_sequences=True, name="lower")
    both = library.Bidirectional(lower, name="both")
    hidden = library.LSTM(6, name="upper")(both(start))
    model = keras.Model(start, keras.layers.Dense(1)(hidden))
    x = np.random.default_rng(0).normal(size=(16, 40, 3)).astype("float32")
    flow = rk.gradient_flow(model, x, np.ones((16, 1)), "mse")
    for direction, first in (("forward", 0), ("backward", -1)):
        found = flow[f"both/{direction}_lower"]
        assert (found.fed > 0).all()
        assert found.fed.argmax() > 30  # the last step of one, the first of the other
        assert found.verdict == "vanishing"
        rows = rk.jacobian_norms(getattr(both, f"{direction}_layer"), x, norm="frobenius")
        exact = rows.mean(axis=0) / np.sqrt(12)
        assert exact[first] < 1e-2
        # An estimate: two directions of twelve for each row.
        np.testing.assert_allclose(found.carried, exact, rtol=0.35)
    # As one would read it off what arrives, the backward direction grows.
    arrives = flow["both/backward_lower"].norms["h"]
    assert arrives[-1] > 100 * arrives[0]
    assert "all 40 steps" in str(flow)


def test_last_states_that_are_read_are_fed_at_the_last_step():
    start = keras.Input((TIME, FEATURES))
    _, h, c = rk.LSTM(3, return_state=True, name="encoder")(start)
    model = keras.Model(start, keras.layers.Dense(1)(keras.layers.Add()([h, c])))
    x = inputs().astype("float32")
    flow = rk.gradient_flow(model, x, np.ones((BATCH, 1)), "mse")["encoder"]
    assert np.flatnonzero(flow.fed).tolist() == [TIME - 1]
    assert flow.fed[-1] == pytest.approx(flow.norms["h"][-1])


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
    factor, half_life, verdict = judge(np.array([1, 0.1, 0.01, 0.001]))
    assert (factor, verdict) == (pytest.approx(0.1), "vanishing")
    assert half_life == pytest.approx(np.log(2) / np.log(10))
    assert judge(np.array([1.0, 1e-3, 0, 0])) == (
        pytest.approx(1e-3),
        pytest.approx(np.log(2) / np.log(1000)),
        "vanishing",
    )
    assert judge(np.array([1.0, 0.0])) == (0, 0.5, "vanishing")
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
            wanted = np.linalg.norm(product, 2 if norm == "spectral" else "fro")
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
    with pytest.raises(ValueError, match="`layer` must be a recurrent layer; received Bidirec"):
        rk.jacobian_norms(keras.layers.Bidirectional(keras.layers.GRU(2)), x)
    with pytest.raises(ValueError, match=r"received GRUCell.*keras.layers.RNN\(cell\)"):
        rk.jacobian_norms(keras.layers.GRUCell(2), x)
    with pytest.raises(ValueError, match="received the cell 'one', which takes one step"):
        rk.gradient_flow(keras.layers.GRUCell(2, name="one"), x, x, "mse")
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


def two_heads():
    start = keras.Input((5, 3))
    hidden = rk.GRU(2, name="gru")(start)
    heads = {name: keras.layers.Dense(1, name=name)(hidden) for name in ("a", "b")}
    return keras.Model(start, heads)


def test_a_loss_that_is_none_is_refused_in_words():
    x, y = np.ones((4, 5, 3), "float32"), np.ones((4, 1), "float32")
    targets = {"a": y, "b": y}
    for loss in ({"a": "mse", "b": "mse"}, ["mse", "mse"], "msee", 3):
        with pytest.raises(ValueError, match=r"`loss` must be the name of a loss, .* leave"):
            rk.gradient_flow(two_heads(), x, targets, loss)
    with pytest.raises(ValueError, match="has several outputs, and `loss` must be"):
        rk.gradient_flow(two_heads(), x, targets, "mse")
    own = rk.gradient_flow(two_heads(), x, targets, lambda y, p: keras.ops.sum(p["a"]))
    assert own["gru"].norms["h"].shape == (5,)


def test_targets_that_are_missing_are_asked_for():
    x = np.ones((4, 5, 3), "float32")
    model = keras.Sequential([keras.Input((5, 3)), rk.GRU(1, name="gru")])
    with pytest.raises(ValueError, match="`y` must hold the targets that the loss reads"):
        rk.gradient_flow(model, x, None, "mse")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`y` must hold the targets that the loss reads"):
        rk.gradient_flow(model, x, None)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("library", [keras.layers, rk])
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM"])
def test_half_precision_loses_no_gradient(cell, library, policy):
    if BACKEND == "jax" and (cell == "LSTM") != (library is rk):
        pytest.skip("one library for each cell: each compiles for seconds here")
    weights = weights_of(cell, FEATURES, 4)
    x = inputs(4, 60).astype("float32")
    flows = []
    for dtype in ("float32", policy):
        layer = make(cell, library, units=4, name="layer", dtype=dtype)
        layer.build(x.shape)
        layer.set_weights([weights[0], 0.4 * weights[1], weights[2]])
        flows.append(rk.gradient_flow(layer, x, np.ones((4, 4)), "mse")["layer"])
    single, half = flows
    assert (half.note, half.verdict) == ("", single.verdict)
    assert single.norms["h"][0] < 1e-8  # nothing would be left of it in float16
    assert half.factor == pytest.approx(single.factor, rel=0.01)
    close = {"rtol": 0.5 if policy == "mixed_bfloat16" else 0.1, "atol": 1e-30}
    np.testing.assert_allclose(half.norms["h"], single.norms["h"], **close)
    np.testing.assert_allclose(half.carried, single.carried, **close)


class Nested(keras.layers.Layer):
    """States [h, [slow, pair]], the last of rank 3; ds'/ds is the same at every step."""

    state_size = (2, (3, 4))
    output_size = 2

    def get_initial_state(self, batch_size=None):
        shapes = (2,), (3,), (2, 2)
        h, slow, pair = (keras.ops.zeros((batch_size, *shape)) for shape in shapes)
        return [h, [slow, pair]]

    def call(self, inputs, states):
        h, (slow, pair) = states
        h = 0.5 * h + inputs
        slow = 0.9 * slow + keras.ops.mean(h, axis=-1, keepdims=True)
        return h, [h, [slow, 0.1 * pair]]


def nested_jacobian():
    """By h, slow and pair, in this order."""
    jacobian = np.diag([0.5] * 2 + [0.9] * 3 + [0.1] * 4)
    jacobian[2:5, :2] = 0.25
    return jacobian


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_nested_states_and_states_of_a_higher_rank(library):
    layer = library.RNN(Nested(), return_sequences=True, name="nested")
    x = inputs(2, 5).astype("float32")
    traced = rk.trace(layer, x)["nested"]
    assert {name: state.shape[2:] for name, state in traced.states.items()} == {
        "h": (2,),
        "state_1": (3,),
        "state_2": (2, 2),
    }
    h, slow = np.zeros((2, 2)), np.zeros((2, 3))
    for t in range(5):
        h = 0.5 * h + x[:, t]
        slow = 0.9 * slow + h.mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(traced["h"][:, t], h, rtol=1e-5)
        np.testing.assert_allclose(traced["state_1"][:, t], slow, rtol=1e-5)
    powers = [np.linalg.matrix_power(nested_jacobian(), lag) for lag in range(4, -1, -1)]
    for norm, order in (("spectral", 2), ("frobenius", "fro")):
        wanted = [[np.linalg.norm(power, order) for power in powers]] * 2
        np.testing.assert_allclose(rk.jacobian_norms(layer, x, norm=norm), wanted, rtol=1e-5)
    loss = fed_loss("last")
    flow = rk.gradient_flow(layer, x, np.zeros(2), loss)["nested"]
    assert list(flow.norms) == ["h", "state_1", "state_2"]
    gradient = np.sqrt(2) * 0.5 ** np.arange(4.0, -1, -1)
    np.testing.assert_allclose(flow.norms["h"], gradient, rtol=1e-5)
    assert not flow.norms["state_1"].any()  # the loss does not read it
    many = rk.gradient_flow(layer, np.tile(x, (128, 1, 1)), np.zeros(256), loss, batch_size=256)
    exact = [np.linalg.norm(power) / 3 for power in powers]
    np.testing.assert_allclose(many["nested"].carried, exact, rtol=0.15)  # of the mean square


def test_every_tool_looks_into_a_convolution():
    """No weight leads back and the forget gate is open, so that c is carried whole."""
    cell = keras.layers.ConvLSTM1D(2, 1, padding="same", name="conv").cell
    layer = rk.RNN(cell, name="conv", return_state_sequences=True)
    start = keras.Input((5, 3, 2))
    output, *_, c = layer(start)
    model = keras.Model(start, keras.layers.Dense(1)(keras.layers.Flatten()(output)))
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 2)).astype("float32")
    bias = np.repeat([0.0, 20.0, 0.0, 0.0], 2)
    layer.set_weights([*layer.get_weights()[:1], np.zeros((1, 2, 8)), bias])
    traced = rk.trace(model, x)["conv"]
    wanted = keras.ops.convert_to_numpy(keras.Model(start, c)(x))
    np.testing.assert_allclose(traced.states["state_1"], wanted, rtol=1e-5)
    h, c = (traced.states[name][:, -1] for name in ("h", "state_1"))
    dh_by_dc = h / np.tanh(c) * (1 - np.tanh(c) ** 2)
    norms = np.sqrt(1 + (dh_by_dc**2).max(axis=(1, 2)))
    wanted = np.stack([*[norms] * 4, np.ones(2)], axis=1)
    np.testing.assert_allclose(rk.jacobian_norms(layer, x), wanted, rtol=1e-4)
    monitor = rk.RecurrentMonitor(x, np.zeros((2, 1)))
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((2, 1)), verbose=0, callbacks=[monitor])
    *carried, last = rk.gradient_flow(model, x, np.zeros((2, 1)))["conv"].norms["state_1"]
    np.testing.assert_allclose(carried, carried[:1] * 4, rtol=1e-2)
    assert carried[0] > last == 0  # the loss reads h alone


def test_a_stack_has_the_product_of_all_its_states():
    cells = [keras.layers.LSTMCell(2), rk.GRUCell(3)]
    layer = keras.layers.RNN(cells, name="stack")
    x = inputs(2, 3).astype("float32")
    found = rk.jacobian_norms(layer, x, norm="frobenius")
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[:, -1], np.sqrt(7), rtol=1e-6)
    states = [state for one in rk.trace(layer, x).values() for state in one.states.values()]
    widths = [2, 2, 3]

    def last(row, nudge):
        h, c, top = np.split(nudge, np.cumsum(widths)[:-1])
        given = [[states[0][row, 1] + h, states[1][row, 1] + c], [states[2][row, 1] + top]]
        given = [[np.float32(each)[None] for each in cell] for cell in given]
        _, new = layer.cell(x[row : row + 1, 2], given)
        return np.concatenate([part[0] for part in arrays(new)])

    step = 1e-2
    for row in range(2):
        columns = [
            (last(row, unit) - last(row, -unit)) / (2 * step) for unit in step * np.eye(sum(widths))
        ]
        np.testing.assert_allclose(found[row, 1], np.linalg.norm(columns), rtol=1e-3)


def test_convolutional_states():
    layer = keras.layers.ConvLSTM2D(2, 2, padding="same", name="conv", return_sequences=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 3, 1)).astype("float32")
    traced = rk.trace(layer, x)["conv"]
    np.testing.assert_allclose(traced["h"], arrays(layer(x))[0], rtol=1e-5, atol=1e-6)
    assert (traced["state_1"].shape, traced.gates) == ((2, 3, 3, 3, 2), {})
    flow = rk.gradient_flow(layer, x, np.zeros(2), fed_loss("last"))["conv"]
    assert flow.fed == pytest.approx([0, 0, np.sqrt(18)])
    norms = rk.jacobian_norms(layer, x, norm="frobenius")
    np.testing.assert_allclose(norms[:, -1], 6, rtol=1e-6)  # 2 states of 3 x 3 x 2
    assert flow.carried[0] == pytest.approx(norms[:, 0].mean() / 6, rel=0.5)
    with pytest.raises(
        ValueError, match=r"trace= must hold sequences of shape \(batch, time, units"
    ):
        rk.plot.trace(traced)
    y = np.zeros((2, 3, 3, 3, 2), "float32")
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile("sgd", "mse")
    monitor = rk.RecurrentMonitor(x, y)
    run = model.fit(x, y, callbacks=[monitor], verbose=0)
    assert {"conv/half_life", "conv/factor"} <= set(run.history)
    assert "gates unknown" in monitor.notes["conv"]


@pytest.mark.backends
def test_a_cell_that_forgets_carries_nothing():
    """torch refuses to differentiate by what no state is made from."""

    class Forgets(rk.Cell):
        state_names = ("h",)

        def step(self, x, states, training=False):
            return [], [x]

    norms = rk.jacobian_norms(rk.RNN(Forgets(3)), np.ones((2, 4, 3), "float32"), progress=False)
    np.testing.assert_array_equal(norms, [[0, 0, 0, 1]] * 2)
