"""Parsing many decimals at once gives the bits that parsing one by one gives."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_rnnkit.embedding.decimals import parse_rows

plain = st.from_regex(r"\A-?[0-9]{0,9}\.?[0-9]{1,9}\Z")
printed = st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr)
formats = st.sampled_from(["%.5g", "%.6f", "%.3e", "%d", "%+.2f", "%.17g"])
shown = st.builds(lambda f, x: f % x, formats, st.floats(-1e6, 1e6))


def bits(values):
    return np.asarray(values, dtype="float32").view(np.uint32)


@given(
    st.integers(1, 5).flatmap(
        lambda dim: st.lists(
            st.lists(plain | printed | shown, min_size=dim, max_size=dim), min_size=1
        )
    )
)
@example([["-0", "-.5"], ["5.", "0000000000000000.1"]])
@example([["123456789012345", "-1234567890.12345"], ["99999.99999", "1234567890"]])
@example([["9999999999", "1.0"], ["16777217", "0.1000000014901161193847656"]])
def test_same_bits_as_numpy(rows):
    matrix, good = parse_rows([" ".join(row).encode() for row in rows], len(rows[0]))
    expected = np.array([np.asarray(row, dtype="float32") for row in rows])
    assert good.all()
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(bits(matrix), bits(expected))


@pytest.mark.parametrize(
    "text", ["", "-", ".", "1.2.3", "--1", "1-2", "abc", "0x1", "nan", "inf", "1e39", "1,5", "é"]
)
def test_what_is_no_finite_number_is_told_apart(text):
    rows = [f"1 {text} 2".encode(), b"3 4 5"]
    matrix, good = parse_rows(rows, 3)
    assert good.tolist() == [False, True]
    assert matrix[1].tolist() == [3, 4, 5]
