"""The windows of the package against a reference that was written from the meaning.

`RNNKIT_EXAMPLES=20000` draws that many tables and specifications afresh, instead of the usual few.
"""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

import keras_rnnkit as rk
from tests.data import reference_windows as reference
from tests.data.drawn_cases import (
    MIDNIGHT,
    at,
    cases,
    examples,
    made,
    options_of_batches,
    spec_of,
    targets_of,
)

# ---- how both sides are brought into one form


def squeezed(targets):
    """Targets of one window without their axes of length 1."""
    if len(targets) == 1:
        return squeezed_columns(targets[0])
    return tuple(squeezed_columns(cells) for cells in targets)


def squeezed_columns(cells):
    """The cells of a target row, or the cell where there is but one."""
    return cells[0] if len(cells) == 1 else cells


def expected_content(window, numbers, options, weights):
    """What the batches are to hold for a window, as nested tuples."""
    content = {"past": window.past}
    if numbers.known:
        content["known"] = window.known
    if numbers.static:
        content["static"] = window.static
    if numbers.targets:
        content["targets"] = squeezed(window.targets) if options["squeeze"] else window.targets
        if options["weighted"] or numbers.pad_targets:
            rows = len(window.target_rows) if numbers.pad_targets else 1
            every = weights if options["weighted"] else [1.0] * 1000
            content["weight"] = reference.weight_of(window, every)[:rows]
    if numbers.pad:
        content["mask"] = tuple(row != reference.OUTSIDE for row in window.input_rows)
    if options["return_index"]:
        content["input_row"] = window.input_rows[-1]
        if numbers.targets or numbers.known:
            content["target_rows"] = window.target_rows
        if window.group is not None:
            content["group"] = window.group
    return tuple(sorted(content.items()))


def as_tuples(values):
    """Nested lists as nested tuples."""
    return tuple(map(as_tuples, values)) if isinstance(values, list) else values


def contents(batch, case, options):
    """What a batch of the package holds for each of its windows, in the same form."""
    numbers = case.numbers
    batch = list(batch) if isinstance(batch, tuple) else [batch]
    inputs = batch.pop(0)
    if not isinstance(inputs, dict):
        assert not any((numbers.known, numbers.static, numbers.pad))
        inputs = {"past": inputs}
    arrays = dict(inputs)
    if numbers.targets:
        arrays["targets"] = batch.pop(0)
        if options["weighted"] or numbers.pad_targets:
            arrays["weight"] = batch.pop(0)
    for name, values in arrays.items():
        assert np.asarray(values).dtype == (bool if name == "mask" else np.float32)
    arrays = {name: np.asarray(values).tolist() for name, values in arrays.items()}
    if options["return_index"]:
        index = {name: np.asarray(values) for name, values in batch.pop(0).items()}
        row_of = np.array(case.row_of)
        arrays["input_row"] = row_of[index["input_row"]].tolist()
        if numbers.targets or numbers.known:
            rows = index["target_rows"]
            arrays["target_rows"] = np.where(rows < 0, rows, row_of[rows]).tolist()
        if case.table.group is not None:
            # TensorFlow gives text as bytes.
            labels = index["group"].tolist()
            arrays["group"] = [x.decode() if isinstance(x, bytes) else x for x in labels]
    assert not batch
    sizes = {len(values) for values in arrays.values()}
    assert len(sizes) == 1, "the parts of a batch differ in length"
    return [
        tuple(sorted((name, as_tuples(values[place])) for name, values in arrays.items()))
        for place in range(sizes.pop())
    ]


def weights_of(case):
    """A weight for each row of the table, and what says so to the package.

    They are multiples of 3, so that their means over one, two or three rows are exact.
    """
    if case.table.time is not None:
        table = [3.0 * (1 + hour % 4) for hour in case.table.time]
        return (
            table,
            lambda time: 3.0 * (1 + (time - MIDNIGHT).astype("timedelta64[h]").astype(int) % 4),
        )
    table = [3.0 * (1 + row % 4) for row in range(len(case.table))]
    return table, table


def compare(case, options, make, epochs=1):
    """Hold what is made of a case against the reference."""
    reordered = case.row_of != sorted(case.row_of)  # then a list of weights is refused
    if not case.numbers.targets or (reordered and case.table.time is None):
        options = {**options, "weighted": False}
    if case.numbers.pad_targets:
        options = {**options, "squeeze": False}
    expected = [
        expected_content(window, case.numbers, options, weights_of(case)[0])
        for window in reference.windows(case.table, case.numbers, case.missing)
    ]
    event(f"windows: {min(len(expected), 9)}")
    passed_on = {
        name: options[name] for name in ("batch_size", "shuffle", "squeeze", "return_index")
    }
    if options["weighted"]:
        passed_on["weights"] = weights_of(case)[1]
    loader = made(make, case.series, case.spec, missing=case.missing, seed=3, **passed_on)
    if not expected:
        assert loader is None, "there are windows, and there should be none"
        return
    assert loader is not None, f"no window is said to exist, and there are {len(expected)}"
    size = options["batch_size"]
    assert len(loader) == -(-len(expected) // size)
    for _ in range(epochs):
        batches = [contents(batch, case, options) for batch in all_batches(loader)]
        assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        found = [window for batch in batches for window in batch]
        if not options["shuffle"]:
            assert found == expected
        else:
            assert Counter(found) == Counter(expected)


def all_batches(loader):
    """Every batch of an epoch."""
    if hasattr(loader, "as_numpy_iterator"):
        yield from loader.as_numpy_iterator()
        return
    for place in range(len(loader)):
        yield loader[place]
    loader.epoch += 1


# ---- which windows exist, and what they hold

PLAIN = {
    "batch_size": 50,
    "shuffle": False,
    "squeeze": False,
    "return_index": False,
    "weighted": False,
}


@examples(300)
@given(cases(), options_of_batches())
def test_the_loader_gives_the_windows_that_the_meaning_gives(case, options):
    compare(case, options, rk.WindowLoader, epochs=2)


@examples(20, share=0.025)
@given(cases(), options_of_batches())
def test_the_dataset_gives_the_windows_that_the_meaning_gives(case, options):
    compare(case, options, rk.window_dataset)


@examples(60, share=0.2)
@given(cases(delays=(-6, 0)), options_of_batches())
def test_targets_may_lie_among_the_inputs(case, options):
    compare(case, options, rk.WindowLoader)


@examples(60, share=0.1)
@given(cases(policies=["error"]))
def test_a_missing_value_is_refused_where_a_window_reads_it(case):
    try:
        expected = reference.windows(case.table, case.numbers, "error")
    except reference.MissingValueReadError:
        with pytest.raises(ValueError, match="missing"):
            rk.WindowLoader(case.series, case.spec, batch_size=4, missing="error")
        return
    assume(expected)
    compare(case, PLAIN, rk.WindowLoader)


@examples(60, share=0.1)
@given(cases(part_kinds=["all"]), st.data())
def test_any_rows_may_be_made_targets(case, data):
    """Runs of rows that with_target_rows is given, side by side or apart."""
    rows = len(case.table)
    ends = sorted(data.draw(st.sets(st.integers(0, rows), min_size=2, max_size=6)))
    runs = [run for run in pairwise(ends) if data.draw(st.booleans())]
    assume(runs)
    mine = {row for start, stop in runs for row in range(start, stop)}
    inside = [False] * rows
    for row in mine:
        inside[case.row_of[row]] = True
    case.table = replace(case.table, may_be_target=inside)
    case.series = case.series.with_target_rows(runs)
    compare(case, PLAIN, rk.WindowLoader)


@examples(60, share=0.1)
@given(cases(), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
def test_shards_are_disjoint_and_together_complete(case, count, size, shuffle, drop):
    expected = [
        expected_content(window, case.numbers, PLAIN, [])
        for window in reference.windows(case.table, case.numbers, case.missing)
    ]
    assume(len(expected) >= count * size)
    seen = Counter()
    lengths = set()
    for index in range(count):
        loader = rk.WindowLoader(
            case.series,
            case.spec,
            batch_size=size,
            missing=case.missing,
            shuffle=shuffle,
            seed=5,
            shard=(count, index),
            drop_remainder=drop,
        )
        found = [window for batch in all_batches(loader) for window in contents(batch, case, PLAIN)]
        lengths.add(len(found))
        seen.update(found)
    whole = Counter(expected)
    assert len(lengths) == 1
    if drop:
        assert seen <= whole
        assert sum((whole - seen).values()) < count * size
    else:
        assert seen >= whole
        assert sum((seen - whole).values()) < count


@examples(60, share=0.1)
@given(cases(), st.integers(1, 4), st.booleans())
def test_balance_shows_each_group_equally_often(case, size, shuffle):
    expected = [
        expected_content(window, case.numbers, PLAIN, [])
        for window in reference.windows(case.table, case.numbers, case.missing)
    ]
    group_of = {
        content: window.group
        for content, window in zip(
            expected, reference.windows(case.table, case.numbers, case.missing), strict=True
        )
    }
    assume(expected)
    assume(len(group_of) == len(expected))
    loader = rk.WindowLoader(
        case.series,
        case.spec,
        batch_size=size,
        missing=case.missing,
        balance=True,
        shuffle=shuffle,
        seed=5,
    )
    for _ in range(2):
        found = [window for batch in all_batches(loader) for window in contents(batch, case, PLAIN)]
        seen = Counter(found)
        assert set(seen) <= set(expected)
        groups = Counter(group_of[window] for window in found)
        assert set(groups) == set(group_of.values())
        assert max(groups.values()) - min(groups.values()) <= 1
        assert abs(len(found) - len(expected)) < len(groups)
        for label, times in groups.items():
            own = [seen[window] for window in expected if group_of[window] == label]
            assert max(own) - min(own) <= 1
            assert sum(own) == times


@examples(60, share=0.1)
@given(cases(), st.booleans())
def test_scaled_windows_hold_the_scaled_cells(case, by_group):
    """Mean and deviation of a column, of a group or of all, taken here one cell after another."""
    names = [name for name in case.table.columns if name not in case.numbers.static]
    table = case.table
    inside = [reference.is_in_part(table, row) for row in range(len(table))]
    statistics = {}
    for label in reference.labels_in_order(table):
        for name in names:
            cells = []
            for row, cell in enumerate(table.columns[name]):
                mine = table.group is None or table.group[row] == label or not by_group
                if mine and inside[row] and not reference.is_missing(cell):
                    cells.append(cell)
            assume(cells)
            mean = sum(cells) / len(cells)
            deviation = (sum((cell - mean) ** 2 for cell in cells) / len(cells)) ** 0.5
            statistics[label, name] = mean, deviation or 1.0
    scaler = rk.Scaler(names=names, by_group=by_group).fit(case.series)

    def scaled(label, name, cell):
        mean, deviation = statistics.get((label, name), (0.0, 1.0))
        return (cell - mean) / deviation

    expected = []
    for window in reference.windows(table, case.numbers, "drop"):
        past, targets, known = (
            [[scaled(window.group, *pair) for pair in zip(roles, row, strict=True)] for row in rows]
            for roles, rows in [
                (case.numbers.features, window.past),
                (case.numbers.targets, window.targets),
                (case.numbers.known, window.known),
            ]
        )
        expected.append(flat([past, targets, known, window.static]))
    assume(expected)
    loader = rk.WindowLoader(case.series, case.spec, batch_size=50, scaler=scaler)
    found = []
    for batch in all_batches(loader):
        for content in contents(batch, case, PLAIN):
            parts = dict(content)
            order = ("past", "targets", "known", "static")
            found.append(flat([parts.get(name, ()) for name in order]))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def flat(values):
    """The numbers of nested lists, in order."""
    if not isinstance(values, list | tuple):
        return [values]
    return [number for part in values for number in flat(part)]


# ---- both ends of the record


def padded(case, data):
    """The case with windows that may begin before a segment does, or end behind it."""
    numbers = case.numbers
    rows = len(reference.input_places(0, numbers))
    horizon = len(reference.target_places(0, replace(numbers, targets=("a",))))
    pad = data.draw(st.integers(0, rows - 1))
    most = horizon - 1 if numbers.targets else 0
    case.numbers = replace(numbers, pad=pad, pad_targets=data.draw(st.integers(0, most)))
    case.spec = spec_of(case.numbers, spelt_out=case.spec.features is not None)
    event(f"pad: {pad > 0}, pad_targets: {case.numbers.pad_targets > 0}")
    return case


@examples(300)
@given(cases(delays=(-3, 4)), options_of_batches(), st.data())
def test_the_loader_pads_as_the_meaning_says(case, options, data):
    compare(padded(case, data), options, rk.WindowLoader, epochs=2)


@examples(25, share=0.025)
@given(cases(), options_of_batches(), st.data())
def test_the_dataset_pads_as_the_meaning_says(case, options, data):
    compare(padded(case, data), options, rk.window_dataset)


@examples(60, share=0.1)
@given(cases(delays=(-3, 4)), st.data())
def test_describe_counts_padded_windows(case, data):
    case = padded(case, data)
    whole = reference.candidates(case.table, case.numbers)
    kept = reference.windows(case.table, case.numbers, case.missing)
    report = rk.window_report(case.series, case.spec, missing=case.missing, batch_size=3).parts[
        "all"
    ]
    assert report.windows == len(kept)
    assert report.missing == len(whole) - len(kept)
    rows = {row for window in kept for row in window.input_rows}
    assert report.input_rows == len(rows - {reference.OUTSIDE})
    if case.numbers.targets:
        known = {
            row
            for window in kept
            for row, off in zip(window.target_rows, window.unknown, strict=True)
            if not off
        }
        assert report.target_rows == len(known)


# ---- by hand


def last_inputs(columns, numbers, **options):
    """The last input row of each window, by the package and by the reference."""
    series = rk.TimeSeries(np.column_stack(list(columns.values())), names=list(columns))
    loader = rk.WindowLoader(
        series, spec_of(numbers), batch_size=10_000, return_index=True, **options
    )
    table = reference.Table(
        columns={name: list(map(float, cells)) for name, cells in columns.items()}
    )
    expected = [window.input_rows[-1] for window in reference.windows(table, numbers, **options)]
    found = loader[0][-1]["input_row"].tolist()
    assert found == expected
    return found


def test_a_window_reads_what_the_picture_of_the_guide_shows():
    numbers = reference.Numbers(6, step=2, delay=3, horizon=2, horizon_step=2, features=("x",))
    numbers = replace(numbers, targets=("x",))
    table = reference.Table(columns={"x": [float(row) for row in range(10)]})
    (window,) = reference.windows(table, numbers)
    assert window.input_rows == (0, 2, 4)
    assert window.target_rows == (7, 9)
    assert last_inputs({"x": range(10)}, numbers) == [4]


def test_one_missing_value_costs_the_windows_that_read_it():
    numbers = reference.Numbers(720, step=6, delay=144, features=("x",), targets=("y",))
    x = [float(row) for row in range(3000)]
    whole = last_inputs({"x": x, "y": x}, numbers)
    x[1500] = float("nan")
    holed = last_inputs({"x": x, "y": range(3000)}, numbers)
    assert len(whole) - len(holed) == 120


def test_a_target_once_a_week_beside_features_of_every_day():
    weekly = [float(day) if day % 7 == 6 else float("nan") for day in range(105)]
    numbers = reference.Numbers(14, features=("x",), targets=("y",))
    assert last_inputs({"x": range(105), "y": weekly}, numbers) == list(range(19, 105, 7))


@pytest.mark.parametrize(
    ("x", "y", "numbers", "policy", "expected"),
    [
        ("123456", "-23456", {}, "drop", [0, 1, 2, 3, 4]),  # not a target where it is missing
        ("12345-", "123456", {}, "drop", [0, 1, 2, 3, 4]),  # not an input where it is missing
        ("1-3456", "123456", {"lookback": 3, "step": 2}, "drop", [2, 4]),  # a row passed over
        ("1-3-56", "123456", {"delay": 2}, "drop", [0, 2]),  # between input and target
        ("123456", "1---5-", {"delay": 0, "horizon": 2, "horizon_step": 4}, "mask", [0]),
        ("-23456", "123456", {"stride": 2}, "drop", [2, 4]),  # the count of starts goes on
        ("-23456", "123456", {"stride": 2}, "mask", [0, 2, 4]),
    ],
)
def test_only_what_is_read_decides(x, y, numbers, policy, expected):
    columns = {
        name: [float("nan") if cell == "-" else float(cell) for cell in cells]
        for name, cells in [("x", x), ("y", y)]
    }
    numbers = reference.Numbers(**{"lookback": 1, **numbers}, features=("x",), targets=("y",))
    assert last_inputs(columns, numbers, missing=policy) == expected


# ---- what is told about them


@examples(60, share=0.1)
@given(cases())
def test_describe_counts_the_windows_that_exist(case):
    whole = reference.candidates(case.table, case.numbers)
    kept = reference.windows(case.table, case.numbers, case.missing)
    report = rk.window_report(case.series, case.spec, missing=case.missing, batch_size=3).parts[
        "all"
    ]
    assert report.windows == len(kept)
    assert report.missing == len(whole) - len(kept)
    assert report.batches == -(-len(kept) // 3)
    assert report.input_rows == len({row for window in kept for row in window.input_rows})
    if case.numbers.targets:
        assert report.target_rows == len({row for window in kept for row in window.target_rows})


@examples(30, share=0.02)
@given(cases())
def test_to_frame_puts_the_truth_of_each_window_beside_it(case):
    kept = reference.windows(case.table, case.numbers, case.missing)
    assume(kept)
    assume(case.numbers.targets)
    horizon = len(kept[0].target_rows)
    shape = (len(kept), horizon, len(case.numbers.targets))
    frame = rk.to_frame(
        np.zeros(shape), case.series, case.spec, missing=case.missing, backend="pandas"
    )
    cells = [cell for window in kept for row in window.targets for cell in row]
    assert frame["truth"].tolist() == cells
    if case.table.group is not None:
        per_window = horizon * len(case.numbers.targets)
        groups = [window.group for window in kept for _ in range(per_window)]
        assert frame["group"].tolist() == groups
    if case.table.time is not None:
        times = [
            at(case.table.time[row])
            for window in kept
            for row in window.target_rows
            for _ in case.numbers.targets
        ]
        assert frame["time"].to_numpy().astype("datetime64[h]").tolist() == np.array(times).tolist()


# ---- a target at every input row


@examples(60, share=0.1)
@given(cases(delays=(1, 1)), st.integers(0, 3))
def test_a_target_for_every_input_row(case, shift):
    """The target of input row r is the row r + shift; those of a part stay in the part."""
    assume(case.numbers.targets)
    numbers = case.numbers
    length = len(reference.input_places(0, numbers))
    delays = tuple(shift - numbers.step * back for back in reversed(range(length)))
    case.numbers = replace(numbers, delay=delays)
    case.spec = rk.WindowSpec.every_step(
        numbers.lookback,
        step=numbers.step,
        shift=shift,
        stride=numbers.stride,
        features=list(numbers.features),
        targets=list(numbers.targets),
        known=list(numbers.known),
        static=list(numbers.static),
    )
    compare(case, {**PLAIN, "return_index": True}, rk.WindowLoader)


# ---- stateful batches


@examples(60, share=0.1)
@given(cases(part_kinds=["all"], delays=(-3, 3)), st.integers(1, 4))
def test_stateful_batches_show_every_window_and_say_where_a_state_begins(case, size):
    """Followed row by row: a row goes on in time, or says that it begins anew."""
    whole_steps = len(reference.input_places(0, case.numbers)) * case.numbers.step
    numbers = replace(case.numbers, stride=whole_steps)
    assume(numbers.targets)
    case.numbers, case.spec = numbers, spec_of(numbers)
    windows = reference.windows(case.table, numbers, case.missing)
    expected = [expected_content(window, numbers, PLAIN, []) for window in windows]
    assume(expected)
    # What is left out for a missing value tears the states of its neighbours apart.
    goes_on = {}
    for before, after in pairwise(windows):
        start = before.input_rows[0], after.input_rows[0]
        run = next(run for _, run in reference.segments(case.table) if start[0] in run)
        if start[1] in run and run.index(start[1]) - run.index(start[0]) == whole_steps:
            goes_on[before.input_rows] = after.input_rows
    rows_of = dict(zip(expected, [window.input_rows for window in windows], strict=True))
    assume(len(rows_of) == len(windows))
    loader = rk.WindowLoader(
        case.series,
        case.spec,
        batch_size=size,
        stateful_batches=True,
        missing=case.missing,
        return_index=True,
    )
    found, carried = [], [None] * size
    for inputs, targets, weights, index in all_batches(loader):
        assert len(targets) == size
        assert np.array_equal(np.ravel(weights) == 0, index["padding"])
        batch = contents((inputs, targets), case, PLAIN)
        for row, window in enumerate(batch):
            if index["padding"][row]:
                carried[row] = None
                continue
            found.append(window)
            if not index["begins"][row]:
                assert carried[row] is not None
                assert goes_on.get(carried[row]) == rows_of[window]
            carried[row] = rows_of[window]
    assert Counter(found) == Counter(expected)


# ---- labels cut out of windows without targets


@examples(60, share=0.1)
@given(cases(part_kinds=["all"], policies=["drop"]), st.integers(1, 7), st.integers(1, 3))
def test_check_split_sees_windows_without_targets_that_read_rows_of_another_part(case, train, val):
    assume(len(case.table) >= 4)
    try:
        split = rk.split(case.series, train=train / 10, val=val / 10)
    except ValueError:  # a part without rows
        return
    numbers = replace(case.numbers, targets=(), known=())
    spec = spec_of(numbers)
    parts = [part for part in split if part is not None]
    owned = [{case.row_of[row] for row in targets_of(part)} for part in parts]
    leaks = False
    for own in owned:
        inside = [row in own for row in range(len(case.table))]
        table = replace(case.table, may_be_target=inside)
        for window in reference.candidates(table, numbers):
            for other in owned:
                leaks = leaks or (other is not own and not other.isdisjoint(window.input_rows))
    event(f"leaks: {leaks}")
    if leaks:
        with pytest.raises(ValueError, match="read"):
            rk.check_split(split, spec=spec)
    else:
        rk.check_split(split, spec=spec)
