"""The order of an epoch in NumPy: what `dataset.py` computes with TensorFlow's kernels.

An epoch has six words of 32 bits, from SplitMix64 (Steele, Lea and Flood, 2014) seeded with the
seed. Up to 65,536 windows are ordered by a number that SplitMix64 makes of each index and four
words. More of them go through two permutations, each with three words for its key: one alone knows
too few keys. In each, an index goes through eight rounds of the block cipher Simon (Beaulieu et
al., 2013) on the smallest even number of bits, and again until it falls inside the range (cycle
walking: Black and Rogaway, 2002); that is `tf.raw_ops.RandomIndexShuffle`.
"""

from functools import lru_cache
from typing import Any

import numpy as np

__all__ = [
    "GOLDEN",
    "MULTIPLIERS",
    "ROUNDS",
    "SORTED",
    "WORD",
    "WORDS",
    "epoch_tables",
    "keyed_range",
    "mixed",
    "permuted",
]

ROUNDS = 8
WORDS = 6
SORTED = 1 << 16
GOLDEN = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SIMON_C = 0xFFFFFFFC
SIMON_Z = 0x7369F885192C0EF5
WORD = 2**32 - 1
BLOCK = 8192


def mixed(state: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64, a permutation of the 64-bit numbers."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(MULTIPLIERS[0])
    state = (state ^ (state >> np.uint64(27))) * np.uint64(MULTIPLIERS[1])
    return np.asarray(state ^ (state >> np.uint64(31)))


@lru_cache(maxsize=8)
def epoch_tables(seed: int, epoch: int, count: int) -> dict[str, np.ndarray]:
    """What the order of an epoch of `count` windows depends on.

    Returns:
        `"words"`, `(6,)` int64; up to `SORTED` windows also `"order"`, `(count,)` int64: which of
        them stands at each place.
    """
    turn = np.arange(WORDS // 2, dtype=np.uint64) + np.uint64(epoch * WORDS // 2)
    numbers = mixed(mixed(np.array([seed], np.uint64)) + turn * np.uint64(GOLDEN))
    halves = np.stack([numbers & np.uint64(WORD), numbers >> np.uint64(32)], axis=1)
    tables = {"words": halves.reshape(-1).astype(np.int64)}
    if count <= SORTED:
        index = np.arange(1, count + 1, dtype=np.uint64)
        number = mixed(mixed(numbers[0] + index * np.uint64(GOLDEN)) ^ numbers[1])
        tables["order"] = np.argsort(number >> np.uint64(1), kind="stable")
    return tables


def keyed_range(count: int) -> int:
    """The largest index to pass to the kernel, for a permutation of `[0, count)`.

    At a power of two the kernel counts one bit too few and repeats an index. The range is then one
    larger, and what falls on the extra index goes through once more.
    """
    largest = count - 1
    return largest if largest & (largest - 1) else largest + 1


def permuted(place: np.ndarray, words: np.ndarray, count: int) -> np.ndarray:
    """Which of more than `SORTED` windows stands at each place of the epoch, int64."""
    block = place // BLOCK
    result = np.empty_like(place)
    for number in np.unique(block).tolist():
        here = block == number
        at = place[here] - number * BLOCK
        result[here] = _block(tuple(words.tolist()), count, number)[at]
    return result


@lru_cache(maxsize=16)
def _block(words: tuple[int, ...], count: int, number: int) -> np.ndarray:
    """The windows at some thousand neighbouring places: as fast as a few dozen."""
    place = np.arange(number * BLOCK, min((number + 1) * BLOCK, count), dtype=np.uint64)
    bits = (keyed_range(count) - 1).bit_length()
    for keys in (words[:3], words[3:]):
        cipher = _Simon(keys, bits + bits % 2)
        place = cipher(place)
        while (outside := place >= count).any():
            place[outside] = cipher(place[outside])
    return place.astype(np.int64)


class _Simon:
    """Simon's round function and key schedule on blocks of a given number of bits."""

    def __init__(self, keys: tuple[int, ...], bits: int) -> None:
        self.width = bits // 2
        self.mask = np.uint64((1 << self.width) - 1)
        self.keys: list[Any] = [np.uint64(word) & self.mask for word in keys]
        for number in range(len(keys), ROUNDS):
            z = np.uint64(SIMON_Z >> (number - 3) & 1)
            turned = self.rotate(self.keys[-1], -3) ^ self.rotate(self.keys[-1], -4)
            constant = (np.uint64(SIMON_C) & self.mask) ^ z
            self.keys.append(constant ^ self.keys[number - 3] ^ turned)

    def rotate(self, word: Any, by: int) -> Any:
        """The word rotated left by some bits."""
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
