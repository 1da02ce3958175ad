"""What the parts of a split may see of each other, and what a scaler may see of them."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

import keras_rnnkit as rk
from tests.data import reference_windows as reference
from tests.data.drawn_cases import (
    at,
    examples,
    made,
    numbers_of_spec,
    roles_of_columns,
    series_of,
    spec_of,
    tables,
    targets_of,
)


@st.composite
def splits(draw, delays=(0, 4)):
    """A table, a specification, and the parts that a split by time or by shares makes."""
    columns, roles, _ = draw(roles_of_columns())
    numbers = draw(numbers_of_spec(delays, **roles))
    table = draw(tables(columns, numbers.static))
    series, row_of = series_of(table)
    embargo = draw(st.integers(0, 2))
    if table.time is not None and draw(st.booleans()):
        first = draw(st.integers(min(table.time), max(table.time) + 1))
        second = draw(st.integers(first, max(table.time) + 2))
        cuts = {"train": str(at(first)), "val": str(at(second))}
    else:
        train = draw(st.sampled_from([0.2, 0.3, 0.5, 0.6, 0.7]))
        cuts = {"train": train, "val": draw(st.sampled_from([0.1, 0.2, 0.3]))}
    try:
        split = rk.split(series, **cuts, embargo=embargo)
    except ValueError:  # a part without rows is refused; what is left is what is tested
        assume(False)
    return table, numbers, row_of, embargo, [part for part in split if part is not None]


def hour_of(table, row_of, row):
    """When a row of the series is: its time, or its place in its group."""
    row = row_of[row]
    if table.time is not None:
        return table.time[row]
    label = None if table.group is None else table.group[row]
    return reference.rows_of_group(table, label).index(row)


@examples(200, share=0.25)
@given(splits())
def test_no_row_is_a_target_of_two_parts_and_they_follow_each_other_in_time(drawn):
    table, _, row_of, embargo, parts = drawn
    event(f"parts: {len(parts)}")
    rows = [targets_of(part) for part in parts]
    assert max(Counter(row for part in rows for row in part).values()) == 1
    for before, after in pairwise(rows):
        if table.time is not None or table.group is None:
            last = max(hour_of(table, row_of, row) for row in before)
            assert last < min(hour_of(table, row_of, row) for row in after)
        for label in reference.labels_in_order(table):
            mine = [table.group is None or table.group[row] == label for row in row_of]
            ends = [row for row in before if mine[row]]
            starts = [row for row in after if mine[row]]
            if ends and starts:
                assert min(starts) - max(ends) > embargo


@examples(200, share=0.25)
@given(splits())
def test_a_split_leaves_no_row_out_but_for_the_embargo(drawn):
    table, _, _, embargo, parts = drawn
    covered = len({row for part in parts for row in targets_of(part)})
    groups = len(reference.labels_in_order(table))
    assert len(table) - covered <= 2 * embargo * groups


@examples(150, share=0.25)
@given(splits())
def test_training_windows_read_nothing_from_the_first_validation_target_on(drawn):
    train_reads_nothing_of_validation(drawn)


@examples(150, share=0.25)
@given(splits(delays=(-6, 0)))
def test_nor_do_those_whose_targets_lie_among_their_inputs(drawn):
    train_reads_nothing_of_validation(drawn)


def train_reads_nothing_of_validation(drawn):
    """Look for each cell of the training windows, and of their targets, in the table."""
    table, numbers, row_of, _, parts = drawn
    if len(parts) == 1 or (table.time is None and table.group is not None):
        return  # rows of different groups have no common time
    first = min(hour_of(table, row_of, row) for row in targets_of(parts[1]))
    hours = {
        cell: hour_of(table, row_of, row_of.index(row))
        for name, cells in table.columns.items()
        if name not in numbers.static
        for row, cell in enumerate(cells)
    }
    loader = made(rk.WindowLoader, parts[0], spec_of(numbers), batch_size=50)
    if loader is None:
        return
    event("there are windows")
    for place in range(len(loader)):
        batch = loader[place] if numbers.targets else (loader[place],)
        inputs = batch[0] if isinstance(batch[0], dict) else {"past": batch[0]}
        for name, values in {**inputs, "targets": batch[1] if numbers.targets else []}.items():
            if name == "static":
                continue
            for cell in np.ravel(values).tolist():
                assert hours[cell] < first


@examples(100, share=0.1)
@given(splits(), st.data())
def test_the_targets_of_windows_are_targets_of_their_part(drawn, data):
    table, numbers, row_of, _, parts = drawn
    if not numbers.targets:
        return
    which = data.draw(st.integers(0, len(parts) - 1))
    allowed = {row_of[row] for row in targets_of(parts[which])}
    row_with = {
        cell: row
        for name in numbers.targets
        for row, cell in enumerate(table.columns[name])
        if math.isfinite(cell)
    }
    loader = made(rk.WindowLoader, parts[which], spec_of(numbers), batch_size=50, missing="mask")
    if loader is None:
        return
    event("there are windows")
    for place in range(len(loader)):
        for cell in np.ravel(loader[place][1]).tolist():
            assert row_with[cell] in allowed


BACKTESTS = st.fixed_dictionaries(
    {
        "rows": st.integers(10, 40),
        "folds": st.integers(1, 4),
        "val": st.sampled_from([0.1, 0.15, 0.2]),
        "train": st.sampled_from([None, 0.2, 0.4]),
    }
)


@examples(60, share=0.1)
@given(BACKTESTS)
def test_backtests_validate_on_the_last_rows_one_fold_after_the_other(backtest):
    validate_in_a_row(backtest, embargo=0)


@examples(60, share=0.1)
@given(BACKTESTS, st.integers(1, 2))
def test_they_do_so_with_an_embargo_too(backtest, embargo):
    validate_in_a_row(backtest, embargo)


@pytest.mark.parametrize(("rows", "val", "folds"), [(30, 0.05, 2), (15, 0.15, 3), (35, 0.15, 3)])
def test_no_row_is_validated_twice(rows, val, folds):
    validate_in_a_row({"rows": rows, "val": val, "folds": folds, "train": None}, embargo=0)


def validate_in_a_row(backtest, embargo):
    """Validation parts are shares of the rows, without a gap, and end with the last row."""
    rows, val = backtest["rows"], backtest["val"]
    options = {name: backtest[name] for name in ("folds", "val", "train")}
    try:
        folds = list(rk.rolling_splits(np.arange(float(rows)), **options, embargo=embargo))
    except ValueError:  # no row is left to train on
        return
    assert len(folds) == backtest["folds"]
    validated = []
    for split in folds:
        learnt, held_out = targets_of(split.train), targets_of(split.val)
        assert split.test is None
        assert min(held_out) - max(learnt) > embargo
        assert abs(len(held_out) - val * rows) <= 1
        validated += held_out
    assert validated == list(range(rows - len(validated), rows))


# ---- scalers


@st.composite
def panels(draw):
    """Groups with whole-number or text labels in any order, and real measurements."""
    labels = draw(
        st.one_of(
            st.lists(st.integers(-3, 4000), min_size=1, max_size=4, unique=True),
            st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=4, unique=True),
        )
    )
    sizes = [draw(st.integers(2, 6)) for _ in labels]
    rows = [label for label, size in zip(labels, sizes, strict=True) for _ in range(size)]
    order = draw(st.permutations(range(len(rows)))) if draw(st.booleans()) else range(len(rows))
    group = [rows[row] for row in order]
    cell = st.floats(-1000, 1000, width=32)
    values = draw(st.lists(st.tuples(cell, cell), min_size=len(rows), max_size=len(rows)))
    # A level for each group keeps their statistics apart, and no measurement whole.
    levels = {label: 500.25 * place for place, label in enumerate(sorted(labels, key=str))}
    table = [
        [a + levels[label] + 0.125, b - 0.375] for (a, b), label in zip(values, group, strict=True)
    ]
    return np.array(table), group


@examples(60, share=0.1)
@given(panels(), st.booleans())
def test_inverse_transform_gives_back_what_each_group_had(panel, by_group):
    values, group = panel
    series = rk.TimeSeries(values, names=["x", "y"], group=np.array(group))
    scaler = rk.Scaler(names=["x", "y"], by_group=by_group).fit(series)
    scaled = scaler.transform(series)
    labels = [series.groups[place] for place in series.group_of(np.arange(len(series))).tolist()]
    back = scaler.inverse_transform(scaled.values, ["x", "y"], groups=labels if by_group else None)
    np.testing.assert_allclose(back, series.values, rtol=1e-4, atol=1e-2)
    for label in set(group):  # each row under its own label, as it was given
        given_rows = values[[row for row, other in enumerate(group) if other == label]]
        mine = [row for row, other in enumerate(labels) if other == label]
        np.testing.assert_allclose(back[mine], given_rows, rtol=1e-4, atol=1e-2)
        alone = scaler.inverse_transform(
            scaled.values[mine], ["x", "y"], groups=[label] * len(mine) if by_group else None
        )
        np.testing.assert_allclose(alone, given_rows, rtol=1e-4, atol=1e-2)


@examples(60, share=0.1)
@given(panels(), st.booleans())
def test_the_group_that_a_window_tells_is_the_group_that_scales_it_back(panel, shuffle):
    values, group = panel
    series = rk.TimeSeries(values, names=["x", "y"], group=np.array(group))
    scaler = rk.Scaler(names=["x", "y"], by_group=True).fit(series)
    loader = rk.WindowLoader(
        series,
        rk.WindowSpec(1, features=["x"], targets=["x", "y"]),
        batch_size=3,
        scaler=scaler,
        return_index=True,
        shuffle=shuffle,
        seed=1,
    )
    for place in range(len(loader)):
        _, targets, index = loader[place]
        back = scaler.inverse_transform(targets, ["x", "y"], groups=index["group"])
        truth = series.values[index["target_rows"]]
        np.testing.assert_allclose(back, truth, rtol=1e-4, atol=1e-2)


@examples(100, share=0.1)
@given(splits(), st.booleans())
def test_statistics_come_from_training_rows_alone(drawn, by_group):
    table, numbers, row_of, _, parts = drawn
    names = [name for name in table.columns if name not in numbers.static]
    train = parts[0]
    rows = targets_of(train)
    labels = reference.labels_in_order(table)
    expected = []
    for label in labels if by_group else [None]:
        for name in names:
            cells = []
            for row in rows:
                row = row_of[row]
                mine = not by_group or table.group is None or table.group[row] == label
                if mine and not reference.is_missing(table.columns[name][row]):
                    cells.append(table.columns[name][row])
            assume(cells)
            mean = sum(cells) / len(cells)
            deviation = (sum((cell - mean) ** 2 for cell in cells) / len(cells)) ** 0.5
            expected.append((mean, deviation or 1.0))
    scaler = rk.Scaler(names=names, by_group=by_group).fit(train)
    order = [list(scaler.columns).index(name) for name in names]
    found = np.stack([scaler.mean[:, order], scaler.scale[:, order]], axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    changed = np.array(train.values)
    others = [row for row in range(len(table)) if row not in set(rows)]
    changed[others] = -1e6
    again = rk.Scaler(names=names, by_group=by_group).fit(train.with_values(changed, in_order=True))
    assert np.array_equal(again.mean, scaler.mean)
    assert np.array_equal(again.scale, scaler.scale)


# ---- shares of a single series


@pytest.mark.parametrize("rows", [10, 100])
def test_shares_are_shares_of_the_rows(rows):
    for train in range(1, 9):
        for val in range(1, 10 - train):
            split = rk.split(np.arange(float(rows)), train=train / 10, val=val / 10)
            sizes = [0 if part is None else len(targets_of(part)) for part in split]
            assert sizes == [rows * train // 10, rows * val // 10, rows * (10 - train - val) // 10]
