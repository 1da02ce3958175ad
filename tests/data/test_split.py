"""split, rolling_splits and check_split: target rows are disjoint, and a leak is named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import keras_rnnkit as rk
from keras_rnnkit.data.batches import find_windows, resolve
from tests.data.brute_force import panels


def rows(part):
    return {row for start, stop in part.target_rows for row in range(start, stop)}


@given(
    panel=panels(missing=False),
    train=st.floats(0.2, 0.6),
    val=st.floats(0.1, 0.3),
    embargo=st.integers(0, 3),
)
def test_no_target_row_of_one_part_is_one_of_another(panel, train, val, embargo):
    groups, times, _ = panel
    series = rk.TimeSeries(np.arange(float(len(groups))), time=times, group=groups, freq=1)
    try:
        parts = rk.split(series, train=train, val=val, embargo=embargo)
    except ValueError:
        reject()
    named = [part for part in parts if part is not None]
    for position, part in enumerate(named):
        for later in named[position + 1 :]:
            assert not rows(part) & rows(later)
            for group in set(groups):
                mine = [series.time[r] for r in rows(part) if groups[r] == group]
                theirs = [series.time[r] for r in rows(later) if groups[r] == group]
                assert not mine or not theirs or max(mine) < min(theirs)
        windows = find_windows(part, resolve(part, rk.WindowSpec(2, horizon=2)), "drop")
        targets = rk.WindowSpec(2, horizon=2).target_rows(windows.starts())
        assert set(targets.ravel().tolist()) <= rows(part)
    # Without groups to share the times, the shares are those of the rows.
    if len(set(groups)) == 1 and not embargo:
        assert len(rows(named[0])) == round(train * len(groups))


def test_a_panel_is_cut_at_one_time_in_every_group():
    time = np.concatenate([np.arange(100), np.arange(50, 100), np.arange(90, 100)])
    group = np.repeat(["a", "b", "c"], [100, 50, 10])
    series = rk.TimeSeries(np.zeros(160), time=time, group=group)
    train, val, test = rk.split(series, train=0.7, val=0.2)
    latest = max(series.time[row] for row in rows(train))
    assert latest < min(series.time[row] for row in rows(val))
    assert max(series.time[row] for row in rows(val)) < min(series.time[row] for row in rows(test))
    assert len(rows(train)) == pytest.approx(0.7 * 160, abs=3)


def test_windows_borrow_earlier_rows_as_inputs_only():
    train, val, _ = rk.split(np.arange(100.0), train=0.7, val=0.3)
    spec = rk.WindowSpec(10)
    starts = find_windows(val, resolve(val, spec), "drop").starts()
    assert spec.input_rows(starts).min() == 60
    assert spec.target_rows(starts).min() == 70
    starts = find_windows(train, resolve(train, spec), "drop").starts()
    assert spec.target_rows(starts).max() == 69


def test_by_time_and_by_group():
    time = np.datetime64("2024-01-01") + np.arange(60)
    series = rk.TimeSeries(np.zeros(60), time=time)
    train, val, test = rk.split(series, train="2024-02-01", val="2024-02-15")
    assert (len(rows(train)), len(rows(val)), len(rows(test))) == (31, 14, 15)
    train, val, test = rk.split(np.zeros(60), train=30, val=40, test=55)
    assert (len(rows(train)), len(rows(val)), len(rows(test))) == (30, 10, 15)
    panel = rk.TimeSeries(np.zeros(60), group=np.repeat(["a", "b", "c"], 20))
    train, val, test = rk.split(panel, train=["c"], val=["a"])
    assert rows(train) == set(range(40, 60))
    assert rows(test) == set(range(20, 40))


@pytest.mark.parametrize(
    "cuts", [{"train": 0.5}, {"train": 30}, {"train": "2024-01-31"}, {"train": ["a"]}]
)
def test_two_parts_where_no_validation_is_asked_for(cuts):
    series = np.zeros(60)
    if cuts["train"] == "2024-01-31":
        series = rk.TimeSeries(series, time=np.datetime64("2024-01-01", "D") + np.arange(60))
    elif cuts["train"] == ["a"]:
        series = rk.TimeSeries(series, group=np.repeat(["a", "b"], 30))
    train, val, test = rk.split(series, **cuts)
    assert (rows(train), val, rows(test)) == (set(range(30)), None, set(range(30, 60)))
    assert rows(rk.split(series, **cuts, embargo=4).test) == (
        set(range(30, 60)) if cuts["train"] == ["a"] else set(range(34, 60))
    )


def test_embargo_keeps_rows_out_of_every_part():
    train, val, test = rk.split(np.zeros(100), train=0.6, val=0.2, embargo=5)
    assert train.target_rows.tolist() == [[0, 60]]
    assert val.target_rows.tolist() == [[65, 80]]
    assert test.target_rows.tolist() == [[85, 100]]


def test_a_part_can_be_split_again():
    train, _, _ = rk.split(np.zeros(100), train=0.8, val=0.2)
    inner, tune, rest = rk.split(train, train=0.75, val=0.25)
    assert inner.target_rows.tolist() == [[0, 60]]
    assert tune.target_rows.tolist() == [[60, 80]]
    assert rest is None


def test_rolling_splits_move_the_origin():
    folds = list(rk.rolling_splits(np.zeros(100), folds=3, val=0.1, train=0.5, embargo=2))
    assert [fold.train.target_rows.tolist() for fold in folds] == [
        [[20, 68]],
        [[30, 78]],
        [[40, 88]],
    ]
    assert [fold.val.target_rows.tolist() for fold in folds] == [
        [[70, 80]],
        [[80, 90]],
        [[90, 100]],
    ]
    with pytest.raises(ValueError, match="must leave rows to train on"):
        list(rk.rolling_splits(np.zeros(100), folds=5, val=0.2))
    with pytest.raises(ValueError, match="folds= must be a whole number"):
        list(rk.rolling_splits(np.zeros(100), folds=0, val=0.2))


def test_what_is_no_spec_is_refused():
    with pytest.raises(TypeError, match="spec= must be a WindowSpec, received int"):
        rk.check_split([rk.TimeSeries(np.zeros(9))], spec=3)


def test_a_leak_is_named():
    series = rk.TimeSeries(np.zeros(100), time=np.datetime64("2024-01-01") + np.arange(100))
    early, late = series.with_target_rows([[0, 60]]), series.with_target_rows([[50, 100]])
    with pytest.raises(
        ValueError, match=r"train and val share 10 target rows: rows 50 to 59 \(2024"
    ):
        rk.check_split([early, late])
    with pytest.raises(ValueError, match=r"train has target rows .* after target rows of val"):
        rk.check_split([series.with_target_rows([[60, 100]]), series.with_target_rows([[0, 60]])])
    with pytest.raises(ValueError, match="parts of different series"):
        rk.check_split([early, rk.TimeSeries(np.zeros(5))])
    parts = rk.split(series, train=0.7, val=0.3)
    rk.check_split(parts, scaler=rk.Scaler().fit(parts.train))
    with pytest.raises(
        ValueError, match=r"the scaler was fitted on val: they share 30 target rows"
    ):
        rk.check_split(parts, scaler=rk.Scaler().fit(series))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0.8, "val": 0.4}, "add up to at most 1, received 0.8 \\+ 0.4"),
        ({"train": 1.5, "val": 0.4}, "train= must be a share between 0 and 1, received 1.5"),
        ({"train": 0.001, "val": 0.4}, "train= leaves no row for the train part"),
        ({"train": 0.5, "val": "2024-01-01"}, "must be of one kind"),
        ({"train": "2024-01-01", "val": "2024-02-01"}, "received '2024-01-01'"),
        ({"train": ["a"], "val": ["b"]}, "has no groups to split by"),
        ({"train": 30, "val": 20}, "val= must end after the part before it, received 20"),
        ({"train": 0.5, "val": 0.1, "embargo": -1}, "embargo= must be a number of rows"),
        ({"train": 0.5, "val": 0.1, "embargo": 40}, "val= leaves no row .* with embargo=40"),
        ({"train": None, "val": 0.1}, "train= must be a share such as 0.7"),
    ],
)
def test_wrong_splits_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rk.split(np.zeros(100), **arguments)


def test_an_unknown_group_is_named():
    panel = rk.TimeSeries(np.zeros(4), group=["a", "a", "b", "b"])
    with pytest.raises(
        ValueError, match=r"val= names 'z', which is no group of the series: 'a', 'b'"
    ):
        rk.split(panel, train=["a"], val=["z"])


def test_a_group_named_twice_counts_once():
    series = rk.TimeSeries(np.arange(12.0), group=list("aaaabbbbcccc"))
    for labels in (["a", "a", "b"], ("b", "a"), {"a", "b"}, np.array(list("aaab"))):
        train = rk.split(series, train=labels, val=["c"]).train
        assert train.target_rows.tolist() in ([[0, 4], [4, 8]], [[0, 8]])
    labels = pd.Series(list("aaaabbbb"))
    for each in (labels, labels.unique()):
        assert rk.split(series, train=each, val=["c"]).test is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1, "val": 0.96}, "no row is left for train of 10 rows, with val=0.96"),
        ({"folds": 2, "val": 0.04}, "fold 1 of 2: no row is left for val"),
        ({"folds": 2, "val": 0.2, "embargo": 6}, "no row is left for train .* embargo=6"),
        ({"folds": 2, "val": "x"}, "val= must be a share such as 0.1, received 'x'"),
    ],
)
def test_a_fold_without_rows_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        list(rk.rolling_splits(np.arange(10.0), **options))
