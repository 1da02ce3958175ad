"""Packing and unpacking any mask, against a list built row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array
from keras import ops

import keras_rnnkit as rk
from keras_rnnkit.recurrent import masks

pytestmark = pytest.mark.backends


def any_mask():
    # One shape: JAX compiles each new one.
    return any_array(bool, (3, 5))


def sequence_for(mask):
    return np.arange(1.0, mask.size + 1, dtype="float32").reshape(*mask.shape, 1)


@given(any_mask())
def test_pack_moves_valid_steps_left_in_order(mask):
    sequence = sequence_for(mask)
    packed = masks.pack(ops.convert_to_tensor(sequence), ops.convert_to_tensor(mask))
    for row, valid, found, length in zip(
        sequence,
        mask,
        ops.convert_to_numpy(packed.sequence),
        ops.convert_to_numpy(packed.lengths),
        strict=True,
    ):
        np.testing.assert_array_equal(found, [*row[valid], *row[~valid]])
        assert length == max(1, valid.sum())


@given(any_mask())
def test_unpack_puts_back_and_holds(mask):
    sequence = sequence_for(mask)
    packed = masks.pack(ops.convert_to_tensor(sequence), ops.convert_to_tensor(mask))
    initial = -np.ones((len(mask), 1), "float32")
    found = masks.unpack(packed.sequence, ops.convert_to_tensor(initial), packed.counts)
    wanted = np.zeros_like(sequence)
    for b, t in np.ndindex(mask.shape):
        before = [step for step in range(t + 1) if mask[b, step]]
        wanted[b, t] = sequence[b, before[-1]] if before else initial[b]
    np.testing.assert_array_equal(ops.convert_to_numpy(found), wanted)


@given(any_mask(), st.booleans())
def test_the_last_output_is_the_output_at_the_last_step(mask, zero):
    sequence = ops.convert_to_tensor(sequence_for(mask))
    mask = ops.convert_to_tensor(mask)
    shown = ops.convert_to_numpy(masks.shown(sequence, mask, zero))
    last = ops.convert_to_numpy(masks.last_shown(sequence[:, -1], mask, zero))
    np.testing.assert_array_equal(shown[:, -1], last)


def test_masks_come_in_every_form_keras_gives():
    mask = ops.convert_to_tensor(np.array([[True, False]]))
    for given_as in ([mask], ops.expand_dims(mask, -1), ops.cast(mask, "int32")):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(masks.as_mask(given_as)), [[True, False]]
        )


@pytest.mark.parametrize("shape", [(2, 4), (2, 6), (5,), (3, 5)])
@pytest.mark.parametrize("make", [lambda: rk.LSTM(3), lambda: rk.RNN(rk.GRUCell(3))])
def test_a_mask_that_does_not_fit_is_refused(make, shape):
    with pytest.raises(ValueError, match=r"must have shape \(batch, time\), \(2, 5\) here"):
        make()(np.ones((2, 5, 3), "float32"), mask=np.ones(shape, bool))


def test_one_row_of_a_mask_stands_for_all():
    x, row = np.ones((2, 5, 3), "float32"), np.array([[True, True, False, True, False]])
    layer = rk.GRU(3)
    expected = ops.convert_to_numpy(layer(x, mask=np.repeat(row, 2, axis=0)))
    assert ops.convert_to_numpy(layer(x, mask=row)) == pytest.approx(expected)


def test_a_batch_without_rows_under_a_mask():
    x, mask = np.ones((0, 5, 3), "float32"), np.ones((0, 5), bool)
    assert tuple(rk.LSTM(3)(x, mask=mask).shape) == (0, 3)
    assert tuple(rk.Bidirectional(rk.GRU(3))(x, mask=mask).shape) == (0, 6)
