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


def window_starts(numbers, parts, spec):
    """Starts of every window whose rows all lie in one segment and whose targets in one part."""
    starts = []
    for part_start, part_stop in parts:
        last = {}
        for start in range(len(numbers)):
            inputs, targets = window_rows(start, spec)
            rows = range(start, max(inputs[-1], targets[-1]) + 1)
            if rows[-1] >= len(numbers):
                break
            inside = {numbers[row] for row in rows}
            if len(inside) > 1 or None in inside:
                continue
            if not all(part_start <= row < part_stop for row in targets):
                continue
            segment = numbers[start]
            if segment not in last or start - last[segment] >= spec.stride:
                last[segment] = start
                starts.append(start)
    return sorted(starts)


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


def specs():
    return st.builds(
        rk.WindowSpec,
        st.integers(1, 6),
        step=st.integers(1, 3),
        delay=st.integers(0, 3),
        horizon=st.integers(1, 3),
        horizon_step=st.integers(1, 3),
        stride=st.integers(1, 4),
    )
