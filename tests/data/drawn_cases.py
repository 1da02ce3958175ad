"""Tables, specifications and parts of splits as Hypothesis draws them, for tests of the windows.

`RNNKIT_EXAMPLES=20000` draws that many examples afresh, instead of the usual few.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import assume, settings
from hypothesis import strategies as st

import keras_rnnkit as rk
from tests.data import reference_windows as reference

EXAMPLES = int(os.environ.get("RNNKIT_EXAMPLES", "0"))
COLUMNS = "abcd"
ROLES = ["feature", "target", "both", "known", "known feature", "static", "unused"]
PART_KINDS = ("all", "times", "groups", "shares")
MIDNIGHT = np.datetime64("2024-01-01T00", "h")


def at(hour):
    """The time so many hours after the first midnight."""
    return MIDNIGHT + np.timedelta64(hour, "h")


def examples(usual, share=1.0):
    """So many examples as a rule; with RNNKIT_EXAMPLES that share of them, drawn afresh."""
    if not EXAMPLES:
        return settings(max_examples=usual)
    return settings(max_examples=max(usual, int(share * EXAMPLES)), derandomize=False)


@dataclass
class Case:
    """A table as the reference reads it, and the same as the package is given it."""

    table: reference.Table
    numbers: reference.Numbers
    series: rk.TimeSeries
    spec: rk.WindowSpec
    row_of: list[int]  # row of the series -> row of the table
    missing: str


def interleaved(rows):
    """One of each list in turn, until all of them are empty."""
    rows = [list(group) for group in rows]
    mixed = []
    while any(rows):
        for group in rows:
            if group:
                mixed.append(group.pop(0))
    return mixed


@st.composite
def roles_of_columns(draw):
    """Columns, their roles for Numbers, and whether features and targets are to be spelt out."""
    first = draw(st.sampled_from(["feature", "both"]))  # at least one column is read as input
    roles = [first, *draw(st.lists(st.sampled_from(ROLES), max_size=3))]
    spelt_out = draw(st.booleans())
    if not spelt_out:  # then every column that has no other role is both
        roles = [role if role in ("known", "static") else "both" for role in roles]

    def named(*kinds):
        return tuple(name for name, role in zip(COLUMNS, roles, strict=False) if role in kinds)

    named_by_role = {
        "features": named("feature", "both", "known feature"),
        "targets": named("target", "both"),
        "known": named("known", "known feature"),
        "static": named("static"),
    }
    return COLUMNS[: len(roles)], named_by_role, spelt_out


@st.composite
def numbers_of_spec(draw, delays=(0, 4), **roles):
    """Numbers of a window, small enough that several fit into a dozen rows."""
    numbers = reference.Numbers(
        lookback=draw(st.integers(1, 5)),
        step=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 3)),
        **roles,
    )
    if draw(st.integers(0, 4)) == 4:
        several = st.lists(st.integers(*delays), min_size=1, max_size=3, unique=True)
        return replace(numbers, delay=tuple(draw(several.map(sorted))))
    return replace(
        numbers,
        delay=draw(st.integers(*delays)),
        horizon=draw(st.integers(1, 3)),
        horizon_step=draw(st.integers(1, 3)),
    )


@st.composite
def tables(draw, columns, static, holes=4):
    """Rows of one series or of a panel, with gaps in time and missing cells."""
    sizes = draw(st.lists(st.integers(1, 14), min_size=1, max_size=3))
    kinds = [[None]] if len(sizes) == 1 else []
    kinds += [[30, 10, 20], ["m", "z", "a"]]
    labels = draw(st.sampled_from(kinds))
    timed = draw(st.booleans())
    time, group, first = [], [], 0
    rows_of = []
    for size, label in zip(sizes, labels, strict=False):
        rows_of.append(list(range(first, first + size)))
        first += size
        group += [label] * size
        hour = draw(st.integers(0, 5)) if timed else 0
        longer = st.dictionaries(st.integers(1, 13), st.integers(2, 4), max_size=2)
        gaps = draw(longer) if timed else {}
        for place in range(size):
            if place:
                hour += gaps.get(place, 1)
            time.append(hour)
    order = interleaved(rows_of) if draw(st.booleans()) else list(range(first))
    group = [group[row] for row in order]
    time = [time[row] for row in order]

    cells = {
        name: [float(10 * row + place) for row in range(1, first + 1)]
        for place, name in enumerate(columns)
    }
    for name in static:
        value = {label: float(place) for place, label in enumerate(dict.fromkeys(group), start=1)}
        cells[name] = [1000 * value[label] + ord(name) for label in group]
    unknown = draw(st.sampled_from([float("nan"), float("inf"), float("-inf")]))
    for row, name in draw(
        st.lists(st.tuples(st.integers(0, first - 1), st.sampled_from(columns)), max_size=holes)
    ):
        if name in static:  # the value of a static column belongs to the whole group
            for other in range(first):
                if group[other] == group[row]:
                    cells[name][other] = unknown
        else:
            cells[name][row] = unknown
    for name in columns:
        assume(any(np.isfinite(cells[name])))  # TimeSeries refuses a column without any number
    return reference.Table(
        columns=cells,
        group=None if group[0] is None else group,
        time=time if timed else None,
    )


def series_of(table, *, sentinel=False):
    """The table as a TimeSeries, and which row of the table each of its rows is."""
    values = np.column_stack(list(table.columns.values()))
    if sentinel:
        values = np.where(np.isfinite(values), values, -9999.0)
    series = rk.TimeSeries(
        values,
        names=list(table.columns),
        group=None if table.group is None else np.array(table.group),
        time=None if table.time is None else MIDNIGHT + np.array(table.time),
        freq=None if table.time is None else "1h",
        na_values=[-9999.0] if sentinel else (),
    )
    row_of = []
    for label in reference.labels_in_order(table):
        row_of += reference.rows_of_group(table, label)
    return series, row_of


def spec_of(numbers, *, spelt_out=True):
    """The same numbers as a WindowSpec."""
    chosen = {
        "known": list(numbers.known),
        "static": list(numbers.static),
        "pad": numbers.pad,
        "pad_targets": numbers.pad_targets,
    }
    if spelt_out:
        chosen |= {"features": list(numbers.features), "targets": list(numbers.targets)}
    if isinstance(numbers.delay, tuple):
        chosen |= {"delay": list(numbers.delay)}
    else:
        chosen |= {
            "delay": numbers.delay,
            "horizon": numbers.horizon,
            "horizon_step": numbers.horizon_step,
        }
    return rk.WindowSpec(numbers.lookback, step=numbers.step, stride=numbers.stride, **chosen)


@st.composite
def parts(draw, table, series, row_of, allowed):
    """One part of a split: the table with the rows that may be targets, and the part."""
    kinds = ["all"]
    if table.time is not None and len(set(table.time)) >= 2:
        kinds.append("times")
    if table.group is not None and len(set(table.group)) >= 2:
        kinds.append("groups")
    if len(table) >= 2:
        kinds.append("shares")
    kind = draw(st.sampled_from([kind for kind in kinds if kind in allowed]))
    if kind == "all":
        return table, series
    which = draw(st.sampled_from(["train", "val", "test"]))
    if kind == "times":
        moments = sorted(set(table.time))
        first = draw(st.integers(1, len(moments) - 1))
        second = draw(st.integers(first + 1, len(moments)))
        begin, end = moments[first], [*moments, moments[-1] + 1][second]
        split = rk.split(series, train=str(at(begin)), val=str(at(end)))
        inside = {
            "train": [time < begin for time in table.time],
            "val": [begin <= time < end for time in table.time],
            "test": [end <= time for time in table.time],
        }[which]
    elif kind == "groups":
        shown = draw(st.permutations(reference.labels_in_order(table)))
        split = rk.split(series, train=shown[:1], val=shown[1:2])
        mine = {"train": shown[:1], "val": shown[1:2], "test": shown[2:]}[which]
        inside = [label in mine for label in table.group]
    elif table.group is None:
        first = draw(st.integers(1, len(table) - 1))
        second = draw(st.integers(first + 1, len(table)))
        split = rk.split(series, train=first / len(table), val=(second - first) / len(table))
        begin, end = {"train": (0, first), "val": (first, second), "test": (second, len(table))}[
            which
        ]
        inside = [begin <= row < end for row in range(len(table))]
    else:  # at which time shares of a panel are cut is told by the parts
        embargo = draw(st.integers(0, 1))
        try:
            split = rk.split(series, train=0.5, val=0.3, embargo=embargo)
        except ValueError:  # a part without rows
            return table, series
        part = getattr(split, which)
        mine = [] if part is None else targets_of(part)
        inside = [False] * len(table)
        for row in mine:
            inside[row_of[row]] = True
    if not any(inside):
        return table, series
    return replace(table, may_be_target=inside), getattr(split, which)


def targets_of(part):
    """Rows of a series that may be targets in a part of it."""
    return [row for start, stop in part.target_rows.tolist() for row in range(start, stop)]


@st.composite
def cases(draw, delays=(0, 4), policies=("drop", "mask"), part_kinds=PART_KINDS, **choices):
    """A table, a specification, a policy and a part of a split."""
    columns, roles, spelt_out = draw(roles_of_columns())
    numbers = draw(numbers_of_spec(delays, **roles))
    table = draw(tables(columns, numbers.static, **choices))
    series, row_of = series_of(table, sentinel=draw(st.booleans()))
    table, series = draw(parts(table, series, row_of, part_kinds))
    missing = draw(st.sampled_from(policies))
    return Case(table, numbers, series, spec_of(numbers, spelt_out=spelt_out), row_of, missing)


@st.composite
def options_of_batches(draw):
    """Options that change how the windows are dealt out, and not what they are."""
    return {
        "batch_size": draw(st.integers(1, 6)),
        "shuffle": draw(st.booleans()),
        "squeeze": draw(st.booleans()),
        "return_index": draw(st.booleans()),
        "weighted": draw(st.booleans()),
    }


def made(make, series, spec, **options):
    """What a maker of batches makes of a series; None where it says that no window exists."""
    try:
        return make(series, spec, **options)
    except ValueError as error:
        if "no window" in str(error).lower():
            return None
        raise
