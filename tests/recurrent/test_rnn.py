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
