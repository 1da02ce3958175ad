"""Rows parted at their resets, for a kernel that cannot go back to the start on its way.

Each part, from a reset to the next, becomes a row of its own. Their lengths differ widely, so the
kernel runs over them in pieces, the longest first: whenever half of the parts, or a little less,
have ended, the next piece takes those that go on, from their states at its end. So fewer than
twice the steps that count are computed, in as many calls as the number of parts can be halved.

The index arithmetic alone, in NumPy: the number of parts decides the shapes.
"""

from typing import NamedTuple

import numpy as np


class Parts(NamedTuple):
    """Where the parts of rows come from, and where their outcomes go.

    Attributes:
        begins: (parts,), the longest part first: which of the states of all rows, followed by the
            starts of all rows, are those before its first step.
        pieces: For each piece, (parts that go on, steps of the piece): which of the batch x time
            steps they read. A part that ends on the way repeats its last step.
        places: (batch, time): where what each step shows stands in the outcomes of all pieces, one
            (part, step) behind the other, followed by the states and the starts of all rows.
    """

    begins: np.ndarray
    pieces: list[np.ndarray]
    places: np.ndarray


def parts_of(resets: np.ndarray, mask: np.ndarray | None) -> Parts:
    """Part rows at their resets, without the masked steps.

    Args:
        resets: (batch, time) booleans, true where a part begins.
        mask: (batch, time) booleans, true where a step counts; None where all do.
    """
    batch, time = resets.shape
    begins = resets.copy()
    begins[:, 0] = True
    first = np.flatnonzero(begins)
    begins_with = first // time + batch * resets.flat[first]
    part = np.cumsum(begins) - 1  # of each step
    counts = np.ones_like(resets) if mask is None else mask
    # Were there no step at all, the weights would have no gradient.
    steps = np.flatnonzero(counts) if counts.any() else np.zeros(1, int)
    lengths = np.bincount(part[steps], minlength=len(first))
    skipped = np.cumsum(lengths) - lengths  # steps that count before each part
    longest_first = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    pieces, size, done, going = [], 0, 0, longest_first
    outcomes = np.empty_like(steps)
    while len(going):
        until = lengths[going[len(going) // 2]]
        at, ends = np.arange(done, until), lengths[going, None]
        read = skipped[going, None] + np.minimum(at, ends - 1)
        outcomes[read[at < ends]] = size + np.flatnonzero(at < ends)
        pieces.append(steps[read])
        size, done, going = size + read.size, until, going[lengths[going] > until]
    so_far = np.cumsum(counts)
    shown = np.where(so_far > skipped[part], outcomes[so_far - 1], size + begins_with[part])
    return Parts(begins_with[longest_first], pieces, shown.reshape(batch, time))
