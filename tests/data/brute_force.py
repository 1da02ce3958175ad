"""Windows counted one by one, from the definition in the docs: slow, plain and independent."""

from hypothesis import strategies as st

import keras_rnnkit as rk


def segment_numbers(groups, times, freq, whole_rows):
    """The number of each row's segment; None for a row that is in none."""
    numbers, number = [], 0
    for row in range(len(groups)):
        if row and (groups[row] != groups[row - 1] or times[row] - times[row - 1] != freq):
            number += 1
        if not whole_rows[row]:
            number += 1
            numbers.append(None)
            number += 1
        else:
            numbers.append(number)
    return numbers


def window_rows(start, spec):
    length = -(-spec.lookback // spec.step)
    inputs = [start + k * spec.step for k in range(length)]
    targets = [inputs[-1] + spec.delay + j * spec.horizon_step for j in range(spec.horizon)]
    return inputs, targets


def window_starts(numbers, parts, spec, whole=None):
    """Starts of every window in one segment, with its targets in the parts, that reads whole rows.

    Every `stride` rows from the first start that a segment and the parts allow. Up to `pad` input
    rows may lie before the segment, and up to `pad_targets` of the last targets anywhere.
    """
    starts, first = [], {}
    for start in range(-spec.pad * spec.step, len(numbers)):
        inputs, targets = window_rows(start, spec)
        targets = targets[: spec.horizon - spec.pad_targets]
        if inputs[-1] not in range(len(numbers)):
            continue
        begin = numbers.index(numbers[inputs[-1]])
        real = [row for row in inputs if row >= begin]
        rows = range(min(real[0], targets[0]), max(inputs[-1], targets[-1]) + 1)
        if len(inputs) - len(real) > spec.pad:
            continue
        if rows[0] < 0 or rows[-1] >= len(numbers) or len({numbers[row] for row in rows}) > 1:
            continue
        judged = targets + [row for row in inputs if row > targets[-1]]
        if not all(any(a <= row < b for a, b in parts) for row in judged):
            continue
        anchor = first.setdefault(numbers[rows[0]], start)
        reads = [*real, *targets]
        if (start - anchor) % spec.stride == 0 and (whole is None or all(whole[r] for r in reads)):
            starts.append(start)
    return starts


@st.composite
def panels(draw, missing=True):
    """`(groups, times, whole_rows)` of a small panel with gaps and missing rows."""
    groups, times, whole = [], [], []
    for group in range(draw(st.integers(1, 3))):
        moment = draw(st.integers(0, 5))
        for _ in range(draw(st.integers(1, 24))):
            groups.append(group)
            times.append(moment)
            moment += draw(st.sampled_from([1] * 12 + [2, 5]))
            whole.append(not missing or draw(st.sampled_from([True] * 12 + [False])))
    return groups, times, whole


@st.composite
def specs(draw, padded=False):
    lookback, step, horizon = (draw(st.integers(1, most)) for most in (6, 3, 3))
    return rk.WindowSpec(
        lookback,
        step=step,
        delay=draw(st.integers(-8, 3)),
        horizon=horizon,
        horizon_step=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 4)),
        pad=draw(st.integers(0, -(-lookback // step) - 1)) if padded else 0,
        pad_targets=draw(st.integers(0, horizon - 1)) if padded else 0,
    )
