"""The permutation of an epoch in NumPy: what TensorFlow's kernels compute, without TensorFlow.

An index goes through four rounds of the block cipher Simon (Beaulieu et al., 2013) on the smallest
even number of bits, at least 16, and again until it falls inside the range (cycle walking: Black
and Rogaway, 2002). The key of an epoch comes from Philox 4x32-10 (Salmon et al., 2011).
"""

from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["KEY_STREAM", "ROUNDS", "SHUFFLE", "epoch_key", "index_shuffle"]

KEY_STREAM = 0x5EED
SHUFFLE = 0x1DEA
ROUNDS = 4
SIMON_C = 0xFFFFFFFC
SIMON_Z = 0x7369F885192C0EF5
PHILOX_M = (0xD2511F53, 0xCD9E8D57)
PHILOX_W = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
SMALLEST_BLOCK = 16
BLOCK = 8192


def _philox(seed: int, stream: int, sample: int) -> int:
    """Number `sample` of the sequence of 32-bit numbers of a seed and a stream."""
    block = sample // 4
    counter = [block & WORD, block >> 32, stream & WORD, (stream >> 32) & WORD]
    key = [seed & WORD, (seed >> 32) & WORD]
    for _ in range(10):
        low, high = counter[0] * PHILOX_M[0], counter[2] * PHILOX_M[1]
        counter = [
            (high >> 32) ^ counter[1] ^ key[0],
            high & WORD,
            (low >> 32) ^ counter[3] ^ key[1],
            low & WORD,
        ]
        key = [(word + step) & WORD for word, step in zip(key, PHILOX_W, strict=True)]
    return counter[sample % 4]


@lru_cache(maxsize=16)
def epoch_key(seed: int, epoch: int) -> int:
    """The key of an epoch, counted from 0: what the dataset of keys in `dataset.py` draws."""
    first = _philox(seed, KEY_STREAM, 2 * epoch)
    second = _philox(seed, KEY_STREAM, 2 * epoch + 1)
    return _philox(first, second, 0)


def index_shuffle(index: np.ndarray, key: int, largest: int) -> np.ndarray:
    """Where each index stands in the key's permutation of `[0, largest]`, int64.

    The same numbers as `tf.raw_ops.RandomIndexShuffle` with seed `[SHUFFLE, key, 0]`.
    """
    if largest == 0:
        return np.zeros_like(index)
    bits = int(np.ceil(np.log2(largest)))
    if bits <= SMALLEST_BLOCK:
        return _table(key, largest)[index]
    block = index // BLOCK
    result = np.empty_like(index)
    for number in np.unique(block).tolist():
        here = block == number
        result[here] = _block(key, largest, number)[index[here] - number * BLOCK]
    return result


@lru_cache(maxsize=16)
def _block(key: int, largest: int, number: int) -> np.ndarray:
    """Where some thousand neighbouring indices stand: as quick as a few dozen."""
    bits = int(np.ceil(np.log2(largest)))
    cipher = _Simon(key, bits + bits % 2)
    stop = min((number + 1) * BLOCK, largest + 1)
    result = cipher(np.arange(number * BLOCK, stop, dtype=np.uint64))
    while (outside := result > largest).any():
        result[outside] = cipher(result[outside])
    return result.astype(np.int64)


@lru_cache(maxsize=4)
def _table(key: int, largest: int) -> np.ndarray:
    """The whole permutation of a small range, where a walk may take thousands of steps."""
    image = _Simon(key, SMALLEST_BLOCK)(np.arange(1 << SMALLEST_BLOCK, dtype=np.uint64))
    after = image.astype(np.int64)
    # Each round doubles the steps that a walk has gone, until all that began inside end there.
    while (after[: largest + 1] > largest).any():
        after = np.where(after > largest, after[after], after)
    return after[: largest + 1]


class _Simon:
    """Simon's round function and key schedule on blocks of a given number of bits."""

    def __init__(self, key: int, bits: int) -> None:
        self.width = bits // 2
        self.mask = np.uint64((1 << self.width) - 1)
        self.keys: list[Any] = [np.uint64(word) & self.mask for word in (SHUFFLE, key & WORD, 0)]
        for number in range(3, ROUNDS):
            z = np.uint64(SIMON_Z >> (number - 3) & 1)
            turned = self.rotate(self.keys[-1], -3) ^ self.rotate(self.keys[-1], -4)
            constant = (np.uint64(SIMON_C) & self.mask) ^ z
            self.keys.append(constant ^ self.keys[number - 3] ^ turned)

    def rotate(self, word: Any, by: int) -> Any:
        """The word turned left by so many bits."""
        by %= self.width
        return ((word << np.uint64(by)) | (word >> np.uint64(self.width - by))) & self.mask

    def mix(self, word: Any) -> Any:
        """Simon's round function."""
        return (self.rotate(word, 1) & self.rotate(word, 8)) ^ self.rotate(word, 2)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        left, right = block >> np.uint64(self.width) & self.mask, block & self.mask
        for even, odd in zip(self.keys[::2], self.keys[1::2], strict=True):
            left = left ^ self.mix(right) ^ even
            right = right ^ self.mix(left) ^ odd
        return np.asarray((left << np.uint64(self.width)) | right)
