"""Decimal text to float32, many rows at once, bit for bit as by `float()`."""

from collections.abc import Sequence

import numpy as np

_SPACE, _MINUS, _POINT, _ZERO = b" -.0"
_WIDEST = 17  # a sign, a point and 15 digits: the longest that float64 surely holds exactly
_NUMERIC = b"0123456789+-.eE "
_TENS = 10.0 ** np.arange(_WIDEST)


def parse_rows(rows: Sequence[bytes], dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Parse rows of `dim` numbers separated by single spaces.

    An integer below 10**15 over a power of ten below 10**22 is one correctly rounded division, so
    plain decimals such as `-0.24968` are read column by column for all rows together. A row with
    anything else in it (an exponent, more digits, a fault) goes through `float()`.

    Args:
        rows: One text a row, with exactly `dim - 1` spaces in it.
        dim: Numbers a row.

    Returns:
        The values, float32 `(rows, dim)`, and bool `(rows,)`: whether a row held finite numbers
        only.
    """
    text = np.frombuffer(b" " * _WIDEST + b" ".join(rows) + b" ", np.uint8)
    ends = np.flatnonzero(text == _SPACE)[_WIDEST:]
    starts = np.concatenate(([_WIDEST], ends[:-1] + 1))
    negative = text[starts] == _MINUS
    width = np.minimum(ends - starts - negative, _WIDEST + 1).astype(np.int8)
    widest = min(int(width.max()), _WIDEST)
    whole, most = (np.int32, 9) if widest <= 10 else (np.int64, 15)
    digits: np.ndarray = np.zeros(len(ends), whole)
    length = np.zeros(len(ends), np.int8)
    places = np.zeros(len(ends), np.int8)
    behind = np.zeros(len(ends), bool)  # the point
    ends -= _WIDEST
    for back in range(widest, 0, -1):
        byte = text[_WIDEST - back :].take(ends)
        byte *= width >= back
        point = byte == _POINT
        byte -= np.uint8(_ZERO)  # wraps round, so that only 0-9 stay below 10
        number = byte < 10
        digits *= np.uint8(10) - np.uint8(9) * point
        digits += byte * number
        length += number
        places += behind
        behind |= point
    plain = (length + behind == width) & (length > 0) & (length <= most)
    with np.errstate(over="ignore"):
        values = digits / _TENS[places]
        values *= np.int8(1) - np.int8(2) * negative
        matrix = values.astype(np.float32).reshape(len(rows), dim)
        good = plain.reshape(len(rows), dim).all(axis=1)
        for row in np.flatnonzero(~good).tolist():
            if rows[row].translate(None, _NUMERIC):  # `float` takes `1_0` and blanks too
                continue
            try:
                matrix[row] = [float(number) for number in rows[row].split(b" ")]
            except ValueError:
                continue
            good[row] = np.isfinite(matrix[row]).all()
    return matrix, good
