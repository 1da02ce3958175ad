"""to_frame: every prediction beside its truth, with group, time and step, in real units."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings

import keras_rnnkit as rk
from tests.data.brute_force import panels, segment_numbers, specs, window_rows, window_starts

HOUR = np.timedelta64(1, "h")


def true_targets(series, spec, **options):
    """The targets of every window, in order."""
    loader = rk.WindowLoader(series, spec, batch_size=16, **options)
    return np.concatenate([loader[number][1] for number in range(len(loader))])


def weather(rows=60):
    """A panel of two places, hourly, with a gap and a missing value."""
    generator = np.random.default_rng(0)
    values = generator.normal([5, 990, 3], [2, 8, 1], size=(rows, 3)).astype(np.float32)
    values[20, 2] = np.nan
    time = np.datetime64("2024-01-30T00", "s") + np.arange(rows) * HOUR
    time[45:] += 5 * HOUR
    return rk.TimeSeries(
        values, names=["T", "p", "v"], time=time, group=np.repeat(["west", "east"], rows // 2)
    )


@settings(max_examples=100)
@given(panel=panels(), spec=specs())
def test_every_row_equals_the_brute_force_list(panel, spec):
    groups, times, whole = panel
    values = np.arange(2.0 * len(groups)).reshape(-1, 2)
    values[~np.array(whole), 1] = np.nan
    numbers = segment_numbers(groups, times, 1, [True] * len(groups))
    starts = window_starts(numbers, [(0, len(groups))], spec, whole)
    if not starts:
        return
    series = rk.TimeSeries(values, time=times, group=groups, freq=1)
    frame = rk.to_frame(true_targets(series, spec), series, spec, backend="polars")
    expected = []
    for start in starts:
        inputs, targets = window_rows(start, spec)
        for step, row in enumerate(targets, 1):
            for column, name in enumerate(("0", "1")):
                value = values[row, column]
                origin = times[inputs[-1]]
                expected.append((groups[row], origin, times[row], step, name, value, value))
    assert frame.columns == ["group", "origin", "time", "step", "target", "prediction", "truth"]
    assert frame.rows() == expected


@pytest.mark.parametrize("by_group", [None, False, True])
@pytest.mark.parametrize("targets", [["v"], ["v", "T"]])
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("squeeze", [False, True])
def test_true_targets_come_back_as_the_truth(by_group, targets, horizon, squeeze):
    series = weather()
    scaler = None if by_group is None else rk.Scaler(by_group=by_group).fit(series)
    spec = rk.WindowSpec(6, step=2, delay=2, horizon=horizon, horizon_step=2, targets=targets)
    predictions = true_targets(series, spec, scaler=scaler, squeeze=squeeze)
    frame = rk.to_frame(predictions, series, spec, scaler=scaler, backend="pandas")
    assert len(frame) == len(predictions) * horizon * len(targets)
    assert frame["prediction"].to_numpy() == pytest.approx(frame["truth"].to_numpy(), abs=1e-5)
    rows = pd.DataFrame(series.values.astype(np.float64), columns=list(series.names))
    rows["time"], rows["group"] = series.time, np.repeat(["west", "east"], 30)
    looked_up = frame.merge(rows, on=["group", "time"], how="left")
    for name in targets:
        of_target = looked_up[looked_up["target"] == name]
        assert len(of_target) == len(predictions) * horizon
        assert (of_target["truth"] == of_target[name]).all()
    ahead = (frame["time"] - frame["origin"]) / pd.Timedelta("1h")
    assert (ahead == 2 + 2 * (frame["step"] - 1)).all()


@pytest.mark.parametrize("backend", ["pandas", "polars", "pyarrow", None])
def test_libraries(backend):
    series = weather()
    spec = rk.WindowSpec(4, targets=["T"])
    frame = rk.to_frame(true_targets(series, spec), series, spec, backend=backend)
    assert type(frame).__module__.split(".")[0] == (backend or "pandas")
    columns = pd.DataFrame(frame.to_pydict()) if backend == "pyarrow" else frame
    assert columns["group"][0] == "west"
    assert columns["origin"][0] == pd.Timestamp("2024-01-30T03")
    assert columns["time"][0] == pd.Timestamp("2024-01-30T04")
    assert columns["truth"][0] == float(series["T"][4])


def test_masked_windows_are_all_there():
    series = weather()
    spec = rk.WindowSpec(4, targets=["T"])
    masked = true_targets(series, spec, missing="mask")
    assert len(masked) > len(true_targets(series, spec))
    frame = rk.to_frame(masked, series, spec, missing="mask", backend="pandas")
    assert (frame["prediction"] == frame["truth"]).all()
    with pytest.raises(ValueError, match="predictions= must have shape"):
        rk.to_frame(masked, series, spec)


def test_a_part_of_a_split():
    series = rk.TimeSeries(np.arange(100.0), names=["x"])
    parts = rk.split(series, train=0.7, val=0.2)
    spec = rk.WindowSpec(10, horizon=2)
    frame = rk.to_frame(true_targets(parts.val, spec), parts.val, spec, backend="pandas")
    assert frame["time"].min() == 70
    assert frame["time"].max() == 89
    assert (frame["truth"] == frame["time"]).all()


@pytest.mark.parametrize("targets", [["x"], ["x", "y"], ()])
def test_the_truth_of_another_part_and_of_weight_0_is_missing(targets):
    values = np.column_stack([np.arange(40.0), np.arange(40.0)])
    values[25, 1] = np.nan  # y is unknown in row 25, whose weight is then 0 for x too
    series = rk.TimeSeries(values, names=["x", "y"])
    val = rk.split(series, train=0.5, val=0.25).val
    spec = rk.WindowSpec(
        4, horizon=6, pad_targets=5 if targets else 0, features=["x"], targets=targets
    )
    batches = rk.WindowLoader(val, spec, batch_size=99)
    shape = (len(batches[0] if not targets else batches[0][0]), 6, max(len(targets), 1))
    frame = rk.to_frame(np.zeros(shape), val, spec, targets=targets or ["x"], backend="pandas")
    rows = frame["time"].to_numpy()
    known = (rows >= 20) & (rows < 30) & ((rows != 25) | ("y" not in targets))
    assert rows.max() == (34 if targets else 35)
    np.testing.assert_array_equal(frame["truth"], np.where(known, rows, np.nan))
    if targets:
        weights = batches[0][2]
        assert (frame["truth"].notna() == np.repeat(weights.ravel() > 0, len(targets))).all()


def future(time, *, lookback=2, horizon=3, **options):
    """The last window's frame where the series' rows end at its origin."""
    series = rk.TimeSeries(np.arange(float(len(time))), names=["x"], time=time, **options)
    spec = rk.WindowSpec(lookback, horizon=horizon, targets=())
    windows = len(time) - lookback + 1
    return rk.to_frame(
        np.ones((windows, horizon)), series, spec, targets=["x"], backend="pandas"
    ).tail(horizon)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ([10, 12, 14], [16, 18, 20]),
        (["2024-01-01T22", "2024-01-01T23"], ["2024-01-02T00", "2024-01-02T01", "2024-01-02T02"]),
        (
            ["2023-11-01", "2023-12-01", "2024-01-01"],
            ["2024-02-01", "2024-03-01", "2024-04-01"],
        ),
        (
            ["2023-10-31", "2023-11-30", "2023-12-31", "2024-01-31"],
            ["2024-02-29", "2024-03-31", "2024-04-30"],
        ),
        (
            ["2023-12-31T06", "2024-01-31T06", "2024-02-29T06"],
            ["2024-03-31T06", "2024-04-30T06", "2024-05-31T06"],
        ),
        (
            ["2023-11-28", "2023-12-28", "2024-01-28", "2024-02-28"],
            ["2024-03-28", "2024-04-28", "2024-05-28"],
        ),
        (
            ["2022-03-01", "2023-03-01", "2024-03-01"],
            ["2025-03-01", "2026-03-01", "2027-03-01"],
        ),
    ],
)
def test_times_are_counted_on_behind_the_last_row(time, expected):
    frame = future(time)
    if isinstance(time[0], str):
        expected = np.array(expected, "datetime64[s]")
    assert (frame["time"].to_numpy() == expected).all()
    assert frame["truth"].isna().all()
    assert frame["step"].tolist() == [1, 2, 3]


def test_the_future_behind_a_gap_is_not_read_from_behind_it():
    series = rk.TimeSeries(np.arange(6.0), names=["x"], time=[0, 1, 2, 10, 11, 12])
    spec = rk.WindowSpec(2, horizon=2, targets=())
    frame = rk.to_frame(np.zeros((4, 2)), series, spec, targets=["x"], backend="pandas")
    assert frame["origin"].tolist() == [1, 1, 2, 2, 11, 11, 12, 12]
    assert frame["time"].tolist() == [2, 3, 3, 4, 12, 13, 13, 14]
    truth = frame["truth"].tolist()
    assert [truth[0], truth[4]] == [2, 5]
    assert np.isnan([truth[i] for i in (1, 2, 3, 5, 6, 7)]).all()


def test_future_windows_with_a_plan():
    """Known columns reach into the future, whose rows lack the column to predict."""
    values = np.column_stack([np.arange(10.0), np.arange(10.0) % 7])
    values[8:, 0] = np.nan
    series = rk.TimeSeries(values, names=["load", "weekday"])
    spec = rk.WindowSpec(4, horizon=2, features=["load"], targets=(), known=["weekday"])
    frame = rk.to_frame(np.zeros((5, 2)), series, spec, targets=["load"], backend="pandas")
    assert frame["time"].tolist() == [4, 5, 5, 6, 6, 7, 7, 8, 8, 9]
    assert frame["truth"].tolist()[:7] == [4, 5, 5, 6, 6, 7, 7]
    assert frame["truth"][7:].isna().all()


def test_the_future_needs_a_step():
    with pytest.raises(ValueError, match="targets lie after the last row, and the series has"):
        future([1, 5, 7], freq="rows")


SERIES = rk.TimeSeries(np.arange(20.0).reshape(10, 2), names=["x", "y"])


@pytest.mark.parametrize(
    ("shape", "spec", "options", "message"),
    [
        ((5, 1), rk.WindowSpec(4, targets=["x"]), {}, r"must have shape \(6, 1, 1\) .* \(5, 1\)"),
        ((), rk.WindowSpec(4, targets=["x"]), {}, r"received \(\)"),
        ((12,), rk.WindowSpec(4), {}, r"shape \(6, 1, 2\) .* received \(12,\)"),
        ((6, 2, 2), rk.WindowSpec(4), {}, r"received \(6, 2, 2\)"),
        ((4, 2, 3), rk.WindowSpec(4, horizon=3), {}, r"shape \(4, 3, 2\) .* received \(4, 2, 3\)"),
        ((4, 6), rk.WindowSpec(4, horizon=3), {}, r"received \(4, 6\). Predict every window once"),
        ((7,), rk.WindowSpec(4, targets=()), {}, "targets= must name the predicted columns"),
        ((7,), rk.WindowSpec(4, targets=()), {"targets": ["z"]}, "targets= names 'z', which"),
        ((6, 2), rk.WindowSpec(4), {"backend": "dask"}, "backend= must be one of pandas, polars"),
    ],
)
def test_wrong_input_is_refused(shape, spec, options, message):
    with pytest.raises(ValueError, match=message):
        rk.to_frame(np.zeros(shape), SERIES, spec, **options)


def test_without_a_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install pandas"):
        rk.to_frame(np.zeros((6, 2)), SERIES, rk.WindowSpec(4))


def test_polars_keeps_the_types():
    spec = rk.WindowSpec(4, targets=["T"])
    series = weather()
    frame = rk.to_frame(true_targets(series, spec), series, spec, backend="polars")
    assert frame.schema["time"] == pl.Datetime
    assert frame.schema["group"] == pl.String
    assert frame.schema["step"] == pl.Int64


@pytest.mark.parametrize("by_group", [None, False, True])
@pytest.mark.parametrize("targets", [["v"], ["v", "T"]])
def test_quantiles_stand_beside_each_other(by_group, targets):
    series = weather()
    scaler = None if by_group is None else rk.Scaler(by_group=by_group).fit(series)
    spec = rk.WindowSpec(6, horizon=3, targets=targets)
    truth = true_targets(series, spec, scaler=scaler)
    predictions = np.stack([truth - 1, truth, truth + 2], axis=-1)
    levels = [0.1, 0.5, 0.9]
    for shown in (predictions, predictions.squeeze()):
        frame = rk.to_frame(shown, series, spec, scaler=scaler, quantiles=levels, backend="pandas")
        assert "prediction" not in frame
        assert frame["q0.5"].to_numpy() == pytest.approx(frame["truth"].to_numpy(), abs=1e-4)
        spread = np.array([1.0] * len(frame))
        if scaler is not None:
            at = series.groups.index if by_group else lambda group: 0
            spread = np.array(
                [
                    scaler.scale[at(group), scaler.columns.index(name)]
                    for group, name in zip(frame["group"], frame["target"], strict=True)
                ]
            )
        assert (frame["q0.5"] - frame["q0.1"]).to_numpy() == pytest.approx(spread, abs=1e-4)
        assert (frame["q0.9"] - frame["q0.5"]).to_numpy() == pytest.approx(2 * spread, abs=1e-4)


@pytest.mark.parametrize(
    ("quantiles", "message"),
    [
        ([0.1, 1.0], "must lie between 0 and 1"),
        ([], "must lie between 0 and 1"),
        ([0.9, 0.1], "must increase"),
        ([0.1, 0.5], r"a last axis of 2 for quantiles=\[0.1, 0.5\], received \(4, 1, 3\)"),
    ],
)
def test_quantiles_that_do_not_fit_are_refused(quantiles, message):
    with pytest.raises(ValueError, match=message):
        rk.to_frame(np.zeros((4, 1, 3)), np.arange(7.0), rk.WindowSpec(3), quantiles=quantiles)
