"""The permutation of an epoch in NumPy: what TensorFlow's kernels compute, without TensorFlow.

An index goes through four rounds of the block cipher Simon (Beaulieu et al., 2013) on the smallest
even number of bits, at least 16, and again until it falls inside the range (cycle walking: Black
and Rogaway, 2002). The key of an epoch comes from Philox 4x32-10 (Salmon et al., 2011).
"""

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
    width = max(bits + bits % 2, 16) // 2
    mask = np.uint64((1 << width) - 1)

    def rotate(word: Any, by: int) -> Any:
        turned = (word << np.uint64(by)) | (word >> np.uint64(width - by))
        return turned & mask

    keys: list[Any] = [np.uint64(word) & mask for word in (SHUFFLE, key & WORD, 0)]
    for number in range(3, ROUNDS):
        z = np.uint64(SIMON_Z >> (number - 3) & 1)
        turned = rotate(keys[-1], width - 3) ^ rotate(keys[-1], width - 4)
        keys.append((np.uint64(SIMON_C) & mask) ^ z ^ keys[number - 3] ^ turned)
    result = index.astype(np.uint64)
    outside = np.arange(len(result))
    while outside.size:
        value = result[outside]
        left, right = value >> np.uint64(width) & mask, value & mask
        for even, odd in zip(keys[::2], keys[1::2], strict=True):
            left = left ^ (rotate(right, 1) & rotate(right, 8)) ^ rotate(right, 2) ^ even
            right = right ^ (rotate(left, 1) & rotate(left, 8)) ^ rotate(left, 2) ^ odd
        value = (left << np.uint64(width)) | right
        result[outside] = value
        outside = outside[value > np.uint64(largest)]
    return result.astype(np.int64)
