"""How many examples a fuzzer tries: few in a run of all tests, as many as asked for in a long one.

`RNNKIT_EXAMPLES=6000 python -m pytest tests/robustness/test_damaged_caches.py` tries 6,000.
"""

import os

import numpy as np


def examples(usual):
    """A seeded generator for each example."""
    number = int(os.environ.get("RNNKIT_EXAMPLES", usual))
    return (np.random.default_rng([17, index]) for index in range(number))


def damage(data, rng):
    """A file's bytes, damaged in one of the ways in which files are."""
    data = bytearray(data)
    at = int(rng.integers(len(data)))
    length = int(rng.integers(1, max(2, len(data) // 4)))
    match rng.integers(8):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            for place in rng.integers(len(data), size=int(rng.integers(2, 6))):
                data[place] = int(rng.integers(256))
        case 2:
            del data[at:]
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = rng.bytes(length)
        case 5:
            data[at : at + length] = bytes(len(data[at : at + length]))
        case 6:
            data += rng.bytes(length)
        case 7:
            other = int(rng.integers(len(data)))
            data[at : at + length] = data[other : other + length]
    return bytes(data)


def outcome(path, read):
    """What reading a file gives; None where it is refused by a message that names it."""
    try:
        return read()
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return None
