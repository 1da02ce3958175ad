"""RNN: any cell, stacks, users' own cells; what it records and what it says when it cannot."""

import keras
import numpy as np
import pytest
from keras import ops

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
    states_of,
    weights_of,
)

pytestmark = pytest.mark.backends
FULL = keras.backend.backend() == "tensorflow"
EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}


@keras.saving.register_keras_serializable(package="test_rnn")
class Average(keras.Layer):
    """A user's cell: the running mean, whose output is wider than, and not among, its states."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, 1]
        self.output_size = 2 * units

    def call(self, inputs, states):
        total, count = states
        total, count = total + inputs, count + 1
        mean = total / count
        return keras.ops.concatenate([mean, -mean], axis=-1), [total, count]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def keras_cell(cell):
    options = {"reset_after": cell == "GRU"} if cell.startswith("GRU") else {}
    return getattr(keras.layers, cell.split()[0] + "Cell")(UNITS, **options)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell", CELLS if FULL else ["LSTM"])
def test_keras_cells_are_recorded(cell, mask):
    backwards = mask in {"left", "holes"}
    x, states, mask = inputs(), states_of(cell), mask_of(mask)
    layer = rk.RNN(keras_cell(cell), go_backwards=backwards, **EVERYTHING)
    layer.build(x.shape)
    layer.set_weights(weights_of(cell))
    wanted = reference.run(cell, weights_of(cell), x, states, mask, backwards)
    found = arrays(layer(x, initial_state=states, mask=mask))
    expected = [wanted["outputs"], *wanted["last"], *wanted["states"]]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("mask", ["none", "left", "empty row"])
def test_a_cell_whose_output_is_no_state(mask, zero, unroll):
    x, mask = inputs(), mask_of(mask)
    valid = np.ones((BATCH, TIME), bool) if mask is None else mask
    total = np.cumsum(np.where(valid[..., None], x, 0), axis=1)
    count = np.cumsum(valid, axis=1)[..., None].astype("float32")
    mean = total / np.maximum(count, 1)
    output = np.concatenate([mean, -mean], axis=-1)
    output = np.where(valid[..., None] | (not zero), output, 0)
    layer = rk.RNN(Average(FEATURES), zero_output_for_mask=zero, unroll=unroll, **EVERYTHING)
    found = arrays(layer(x, mask=mask))
    for one, other in zip(found, [output, total[:, -1], count[:, -1], total, count], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    last = rk.RNN(Average(FEATURES), zero_output_for_mask=zero, unroll=unroll)
    np.testing.assert_allclose(arrays(last(x, mask=mask))[0], output[:, -1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_a_stack_nests_its_states_as_its_cells_do(masked):
    x, mask = inputs(), mask_of("holes" if masked else "none")
    cells = [keras.layers.GRUCell(3), rk.LSTMCell(UNITS)]
    layer = rk.RNN(cells, **EVERYTHING)
    shapes = keras.tree.map_structure(lambda t: tuple(t.shape), layer(x, mask=mask))
    over_time = [(BATCH, TIME, 3)], [(BATCH, TIME, UNITS)] * 2
    at_end = [(BATCH, 3)], [(BATCH, UNITS)] * 2
    assert keras.tree.flatten(shapes) == keras.tree.flatten(
        [(BATCH, TIME, UNITS), *at_end, *over_time]
    )
    first = rk.RNN(cells[0], return_sequences=True)
    second = rk.RNN(cells[1], **EVERYTHING)
    wanted = second(first(x, mask=mask), mask=mask)
    found = layer(x, mask=mask)
    for one, other in zip(
        arrays([found[0], found[-1]]), arrays([wanted[0], wanted[-2:]]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    single = rk.RNN([rk.LSTMCell(UNITS)], return_state_sequences=True)
    assert [tuple(t.shape) for t in keras.tree.flatten(single(x))[1:]] == [(BATCH, TIME, UNITS)] * 2


def test_a_functional_model_knows_every_shape():
    sequences = keras.Input((None, FEATURES))
    results = rk.RNN([rk.GRUCell(3), rk.LSTMCell(UNITS)], **EVERYTHING)(sequences)
    model = keras.Model(sequences, keras.tree.flatten(results))
    assert [tensor.shape[-1] for tensor in model.outputs] == [
        UNITS,
        3,
        UNITS,
        UNITS,
        3,
        UNITS,
        UNITS,
    ]
    for time in (2, 5):
        found = model.predict(inputs(3, time), verbose=0)
        assert found[-1].shape == (3, time, UNITS)


def test_cells_without_what_a_cell_needs_are_refused():
    class NoSize(keras.Layer):
        def call(self, inputs, states):
            return inputs, states

    with pytest.raises(ValueError, match=r"`cell` must have.*without `state_size`"):
        rk.RNN(NoSize())
    with pytest.raises(ValueError, match="without `call`"):
        rk.RNN([rk.GRUCell(3), object()])


@pytest.mark.backends
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: rk.LSTM(3, **options),
        lambda **options: rk.RNN(rk.GRUCell(3), **options),
        lambda **options: rk.Bidirectional(rk.GRU(3, **options)),
    ],
)
@pytest.mark.parametrize("return_state", [False, True])
def test_states_of_every_step_are_no_activity_to_regularize(make, return_state):
    options = {"return_sequences": True, "return_state": return_state, "activity_regularizer": "l2"}
    penalties = []
    for sequences in (False, True):
        keras.utils.set_random_seed(0)
        layer = make(return_state_sequences=sequences, **options)
        layer = type(layer).from_config(layer.get_config())
        layer(inputs())
        penalties.append(sum(ops.convert_to_numpy(loss) for loss in layer.losses))
    assert penalties[0] > 0
    assert np.isclose(*penalties)


@pytest.mark.backends
def test_a_mask_may_be_a_list():
    layer, mask = rk.GRU(3), mask_of("holes")
    (listed,), (given,) = (arrays(layer(inputs(), mask=m)) for m in (mask.tolist(), mask))
    assert np.array_equal(listed, given)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float64"])
def test_inputs_of_any_dtype_are_taken(dtype):
    x = np.random.default_rng(0).integers(0, 2, (2, 5, 3))
    for make in (rk.LSTM, rk.GRU, rk.SimpleRNN):
        layer = make(4, autocast=False)
        expected = ops.convert_to_numpy(layer(x.astype("float32")))
        found = ops.convert_to_numpy(layer(x.astype(dtype)))
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_stack_may_have_its_policy_layer_by_layer():
    policy = "mixed_bfloat16"
    cells = [keras.layers.LSTMCell(4, dtype=policy), keras.layers.GRUCell(3, dtype=policy)]
    x, mask = np.ones((2, 5, 3), "float32"), np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 1]], bool)
    layer = rk.RNN(cells, dtype=policy, return_state_sequences=True)
    for each in (None, mask):
        output, *_ = layer(x, mask=each)
        assert tuple(output.shape) == (2, 3)


class Nested(keras.layers.Layer):
    """States [h, [count, square]], the last of rank 3; they stand in state_size if `sized`."""

    output_size = FEATURES

    def __init__(self, own_start, **kwargs):
        super().__init__(**kwargs)
        self.state_size = [FEATURES, [1, FEATURES]]
        if own_start:
            self.get_initial_state = self.start

    def start(self, batch_size):
        zeros = keras.ops.zeros
        return [zeros((batch_size, FEATURES)), [zeros((batch_size, 1)), zeros((batch_size, 2, 2))]]

    def call(self, inputs, states):
        h, (count, square) = states
        h = 0.5 * h + inputs
        outer = square + h[:, :1, None] if len(square.shape) == 3 else square + h
        return 2 * h, [h, [count + 1, outer]]


def nested_reference(x, mask, own_start):
    """Outputs, then every state at every step, by hand."""
    h, count = np.zeros((BATCH, FEATURES)), np.zeros((BATCH, 1))
    square = np.zeros((BATCH, 2, 2) if own_start else (BATCH, FEATURES))
    found, output = [], np.zeros((BATCH, FEATURES))
    for t in range(TIME):
        valid = mask[:, t, None]
        new = 0.5 * h + x[:, t]
        h, output = np.where(valid, new, h), np.where(valid, 2 * new, output)
        count = count + valid
        added = new[:, :1, None] if own_start else new
        square = square + added * valid.reshape(-1, *[1] * (square.ndim - 1))
        found.append((output, h, count, square))
    return [np.stack(each, axis=1) for each in zip(*found, strict=True)]


@pytest.mark.parametrize("own_start", [True, False])
@pytest.mark.parametrize("options", [{}, {"unroll": True}, {"stateful": True}])
@pytest.mark.parametrize("kind", ["none", "left", "empty row"])
def test_states_of_any_nest_and_rank(kind, options, own_start):
    x, mask = inputs(), mask_of(kind)
    valid = np.ones((BATCH, TIME), bool) if mask is None else mask
    layer = rk.RNN(Nested(own_start), **EVERYTHING, **options)
    results = layer(x, mask=mask)
    output, *states = nested_reference(x, valid, own_start)
    expected = [output, *(state[:, -1] for state in states), *states]
    for one, other in zip(arrays(results), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert [type(part) for part in results[1:3]] == [type(part) for part in results[3:]]
    shapes = [tuple(each.shape) for each in keras.tree.flatten(results)]
    symbolic = layer(keras.KerasTensor(x.shape), mask=mask)
    assert [each.shape for each in keras.tree.flatten(symbolic)] == shapes
    if mask is not None:
        masks_out = layer.compute_mask(x, ops.convert_to_tensor(mask))
        assert [each is None for each in masks_out] == [False, *[True] * 3, *[False] * 3]
    if options == {"stateful": True}:
        for one, other in zip(arrays(layer.states), states, strict=True):
            np.testing.assert_allclose(one, other[:, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["ConvLSTM1D", "ConvLSTM2D"])
def test_a_convolution_in_the_cell(name, masked):
    make = getattr(keras.layers, name)
    space = (4,) * (int(name[-2]))
    options = {"padding": "same", "return_sequences": True}
    theirs = make(2, 3, return_state=True, **options)
    x = np.random.default_rng(0).normal(size=(BATCH, TIME, *space, 3)).astype("float32")
    start = keras.Input(x.shape[1:])
    layer = rk.RNN(make(2, 3, **options).cell, **EVERYTHING)
    model = keras.Model(start, layer(start))
    assert [each.shape for each in model.outputs] == [
        (None, *lead, *space, 2) for lead in ((TIME,), (), (), (TIME,), (TIME,))
    ]
    theirs.build(x.shape)
    layer.set_weights(theirs.get_weights())
    mask = mask_of("right") if masked else None
    found = arrays(layer(x, mask=mask))
    for length in range(1, TIME + 1):  # each state sequence, by Keras's layer on every prefix
        rows = np.ones(BATCH, bool) if mask is None else mask[:, length - 1]
        output, *last = arrays(theirs(x[rows, :length]))
        for one, other in zip(found[3:], last, strict=True):
            np.testing.assert_allclose(one[rows, length - 1], other, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[0][rows, length - 1], output[:, -1], rtol=1e-4, atol=1e-5)


def test_several_inputs_are_refused():
    x = inputs()
    for layer in (rk.RNN(rk.LSTMCell(3)), rk.GRU(3), rk.Bidirectional(rk.GRU(3))):
        for given in ([x, x], [keras.Input((TIME, 3)), keras.Input((TIME, 3))]):
            with pytest.raises(ValueError, match=r"must be one array or tensor.*received a list"):
                layer(given)
