"""Forecasts beyond the last row: windows of the newest rows, and rows that arrive."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest

import keras_rnnkit as rk

DAY = np.timedelta64(1, "D")
HOURS = np.datetime64("2024-03-30T00", "h") + np.arange(60)
SPEC = rk.WindowSpec(
    6,
    step=2,
    delay=3,
    horizon=2,
    horizon_step=2,
    features=["load", "promo", "hour sin"],
    targets=["load"],
    known=["promo", "hour sin", "hour cos", "week ago"],
    static=["area"],
)
RECIPES = {**rk.data.calendar("hour"), "week ago": ("load", 8)}


def clock(hours, zone="Europe/Berlin"):
    """The hours as UTC tells them, where there is a zone."""
    return hours if zone is None else [f"{hour}:00Z" for hour in hours.astype("M8[m]")]


def panel(rows=(60, 40), zone="Europe/Berlin"):
    """Hours of two shops over a change of the clock; of `promo`, rows of the future too."""
    tables = []
    for number, (shop, count) in enumerate(zip("ab", rows, strict=True)):
        random = np.random.default_rng(number)
        values = np.column_stack([random.normal(size=60), random.integers(0, 2, 60)])
        tables.append((shop, values[:count], np.full(count, 10.0 + number), HOURS[:count]))
    shops, values, area, time = zip(*tables, strict=True)
    return rk.TimeSeries(
        np.column_stack([np.concatenate(values), np.concatenate(area)]),
        names=["load", "promo", "area"],
        time=clock(np.concatenate(time), zone),
        group=np.repeat(shops, rows),
        zone=zone,
        freq="1h",
    ).with_columns(RECIPES)


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name] == pytest.approx(other[name], abs=1e-6)


@pytest.mark.parametrize("categories", [(), ("promo", "area")])
@pytest.mark.parametrize("by_group", [None, False, True])
def test_a_forecast_reads_what_the_window_reads_once_the_future_has_come(by_group, categories):
    """For every role of column: the newest window of a short record, and that of a whole one."""
    spec = replace(SPEC, categories=categories)
    whole = panel((60, 60), zone=None)
    whole = rk.TimeSeries(
        whole.values[:, :3],
        names=whole.names[:3],
        time=whole.time,
        group=np.repeat(["a", "b"], 60),
        freq="1h",
    ).with_columns(RECIPES)
    scaler = None if by_group is None else rk.Scaler(by_group=by_group).fit(whole)
    options = {"scaler": scaler, "return_index": True, "batch_size": 999}
    inputs, _, index = rk.WindowLoader(whole, spec, **options)[0]
    rows = 60 - 5  # the targets of the last window are 3 and 5 rows ahead
    at = np.flatnonzero(index["input_row"] % 60 == rows - 1)
    expected = {name: value[at] for name, value in inputs.items()}
    for kept in (slice(0, rows), slice(rows - 8, rows)):
        base = np.concatenate([np.arange(60)[kept], 60 + np.arange(60)[kept]])
        short = rk.TimeSeries(
            whole.values[base, :3],
            names=whole.names[:3],
            time=whole.time[base],
            group=np.repeat(["a", "b"], len(base) // 2),
            freq="1h",
        ).with_columns(RECIPES)
        ahead, newest = rk.forecast_windows(short, spec, known=whole)
        found, _ = rk.WindowLoader(ahead, newest, **options)[0]
        same(found, expected)
        ((tensors, _),) = rk.window_dataset(ahead, newest, **options)
        same({name: value.numpy() for name, value in tensors.items()}, expected)


def test_every_group_of_a_panel_ends_with_its_own_last_row_in_its_own_zone():
    series, plan = panel((30, 24)), panel((60, 60))
    ahead, newest = rk.forecast_windows(series, SPEC, known=plan)
    assert newest.targets == ()
    inputs, index = rk.WindowLoader(ahead, newest, return_index=True)[0]
    assert index["group"].tolist() == ["a", "b"]
    frame = rk.to_frame(np.zeros((2, 2, 1)), ahead, newest, targets=["load"], backend="pandas")
    times = [str(time)[5:16] for time in frame["time"]]
    assert times == ["03-31 10:00", "03-31 12:00", "03-31 04:00", "03-31 06:00"]
    assert frame["truth"].isna().all()
    hour = np.array([[10, 12], [4, 6]])
    assert inputs["known"][:, :, 1] == pytest.approx(np.sin(2 * np.pi * hour / 24), abs=1e-6)
    promo = [plan["promo"][[32, 34]], plan["promo"][[60 + 26, 60 + 28]]]
    assert np.array_equal(inputs["known"][:, :, 0], promo)
    assert inputs["static"].tolist() == [[10.0], [11.0]]


def test_three_lines_from_exactly_lookback_rows():
    spec = rk.WindowSpec(4, horizon=2, targets=["x"])
    series = rk.TimeSeries(np.arange(4.0), names=["x"])
    ahead, newest = rk.forecast_windows(series, spec)
    assert rk.WindowLoader(ahead, newest)[0].ravel().tolist() == [0, 1, 2, 3]
    frame = rk.to_frame([[7.0, 8.0]], ahead, newest, targets=["x"], backend="pandas")
    assert frame[["origin", "time"]].to_numpy().tolist() == [[3, 4], [3, 5]]  # counted steps
    known = replace(spec, known=["plan"])
    series = rk.TimeSeries(np.arange(8.0).reshape(4, 2), names=["x", "plan"])
    ahead, newest = rk.forecast_windows(series, known, known=[[5.0], [6.0]])
    assert rk.WindowLoader(ahead, newest)[0]["known"].ravel().tolist() == [5.0, 6.0]


FRIDAY = np.array(["2024-03-27", "2024-03-28", "2024-03-29"], "M8[D]")


@pytest.mark.parametrize(
    ("time", "freq", "expected"),
    [
        (FRIDAY, "B", ["2024-04-01", "2024-04-02", "2024-04-03"]),
        (FRIDAY + np.timedelta64(1, "D"), "B", ["2024-04-01", "2024-04-02", "2024-04-03"]),
        (FRIDAY, "1D", ["2024-03-30", "2024-03-31", "2024-04-01"]),
        (
            ["2023-11-30", "2023-12-31", "2024-01-31"],
            "month",
            ["2024-02-29", "2024-03-31", "2024-04-30"],
        ),
        (
            FRIDAY,
            lambda last, count: pd.date_range(last, periods=count + 1, freq="W-FRI")[1:],
            ["2024-04-05", "2024-04-12", "2024-04-19"],
        ),
        ([1, 2, 5], 3, [8, 11, 14]),
    ],
)
def test_times_go_on_as_freq_says(time, freq, expected):
    series = rk.TimeSeries(np.arange(3.0), names=["x"], time=time, freq="rows")
    spec = rk.WindowSpec(3, horizon=3)
    with pytest.raises(ValueError, match=r"freq= must say how times go on"):
        rk.forecast_windows(series, spec)
    ahead, newest = rk.forecast_windows(series, spec, freq=freq)
    frame = rk.to_frame(np.zeros((1, 3)), ahead, newest, targets=["x"], backend="pandas")
    assert [
        time if isinstance(time, int) else str(time)[:10] for time in frame["time"].tolist()
    ] == expected


def test_a_month_goes_on_without_freq_where_the_series_states_it():
    time = np.array(["2023-10-31", "2023-11-30", "2023-12-31", "2024-01-31"], "M8[D]")
    series = rk.TimeSeries(np.arange(4.0), names=["x"], time=time)
    ahead, newest = rk.forecast_windows(series, rk.WindowSpec(2, horizon=2))
    frame = rk.to_frame(np.zeros((1, 2)), ahead, newest, targets=["x"], backend="pandas")
    assert [str(time)[:10] for time in frame["time"]] == ["2024-02-29", "2024-03-31"]
    with pytest.raises(ValueError, match="freq= is for a series that does not state its step"):
        rk.forecast_windows(series, rk.WindowSpec(2), freq="B")


def test_a_forecast_by_the_old_way_names_the_new_one():
    series = rk.TimeSeries(np.arange(3.0), names=["x"], time=[1, 2, 5], freq="rows")
    with pytest.raises(ValueError, match=r"make the windows with forecast_windows"):
        rk.to_frame(np.zeros(2), series, rk.WindowSpec(2, targets=()), targets=["x"])
    with pytest.raises(ValueError, match=r"forecast_windows"):
        rk.WindowLoader(np.arange(4.0), rk.WindowSpec(4))


def plan(rows, shops="ab", column="promo"):
    return rk.TimeSeries(
        np.tile(np.arange(rows) + 0.0, len(shops)),
        names=[column],
        time=clock(np.tile(HOURS[:rows], len(shops))),
        group=np.repeat(list(shops), rows),
        zone="Europe/Berlin",
        freq="1h",
    )


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (None, r"known= must hold 'promo' for the 5 rows after the last"),
        (
            plan(33),
            r"known= ends 2 rows too early for group 'a': .* row 5 of them \(2024-03-31 12:00",
        ),
        (plan(60, "b"), r"known= has no row for group 'a'"),
        (plan(60, column="price"), r"known= must hold 'promo'"),
        (np.zeros((5, 1)), r"known= must have times as the series has"),
    ],
)
def test_known_columns_that_end_too_early_are_told(known, message):
    with pytest.raises(ValueError, match=message):
        rk.forecast_windows(panel((30, 24)), SPEC, known=known)


def test_known_values_and_lags_that_are_not_there_are_told():
    series = panel((30, 24))
    lost = plan(60)
    lost.values[60 + 26] = np.nan
    with pytest.raises(
        ValueError, match=r"'promo' has no value in row 3 after the last of group 'b'"
    ):
        rk.forecast_windows(series, SPEC, known=lost)
    near = series.with_columns({"before": ("load", 4)})
    spec = replace(SPEC, known=["before"])
    with pytest.raises(ValueError, match=r"a lag of 4 rows is not known 5 rows ahead"):
        rk.forecast_windows(near, replace(spec, known=["before"]))


def test_a_group_that_is_too_short_is_named_and_pad_takes_it():
    series = panel((30, 3))
    with pytest.raises(
        ValueError, match=r"group 'b' ends with 3 rows without a gap, .* reads 5\. .*pad="
    ):
        rk.forecast_windows(series, SPEC, known=plan(60))
    spec = replace(SPEC, pad=2, known=["promo"])
    ahead, newest = rk.forecast_windows(series, spec, known=plan(60))
    inputs = rk.WindowLoader(ahead, newest)[0]
    assert inputs["mask"].tolist() == [[True] * 3, [False, True, True]]


def test_rows_to_come_that_are_in_the_series_are_told_to_be_plans():
    values = np.column_stack([[1.0, 2.0, 3.0, np.nan, np.nan], np.arange(5.0)])
    series = rk.TimeSeries(values, names=["x", "plan"])
    spec = rk.WindowSpec(2, horizon=2, targets=["x"], features=["x"], known=["plan"])
    with pytest.raises(ValueError, match=r"last row has no value of 'x'\. .* pass them as known="):
        rk.forecast_windows(series, spec)
    with pytest.raises(ValueError, match=r"fill them, .* forecast_windows"):
        rk.WindowLoader(series, spec)


# ---- rows that arrive


def test_rows_that_arrive_make_the_series_that_would_have_been_read_whole():
    whole, first = panel((60, 40)), panel((50, 30))
    base = ["load", "promo", "area"]
    parts = []
    for (start, stop), old in zip([(0, 60), (60, 100)], (50, 30), strict=True):
        parts.append(np.arange(start + old, stop))
    rows = np.concatenate(parts)
    more = rk.TimeSeries(
        whole.values[rows][:, whole.columns(base)],
        names=base,
        time=clock(whole.time[rows]),
        group=np.repeat(["a", "b"], 10),
        zone="Europe/Berlin",
        freq="1h",
    )
    grown = first.append(more)
    assert grown.names == whole.names
    assert np.array_equal(grown.values, whole.values, equal_nan=True)
    assert np.array_equal(grown.time, whole.time)
    assert np.array_equal(grown.bounds, whole.bounds)
    assert grown.target_rows.tolist() == [[50, 60], [90, 100]]
    _, _, index = rk.WindowLoader(grown, replace(SPEC, known=["promo"]), return_index=True)[0]
    assert set(index["target_rows"].ravel().tolist()) <= {*range(50, 60), *range(90, 100)}


def test_rows_of_a_new_group_arrive():
    series = rk.TimeSeries([1.0, 2.0], names=["x"], group=["a", "a"])
    grown = series.append(rk.TimeSeries([5.0, 3.0], names=["x"], group=["b", "a"]))
    assert grown.groups == ("a", "b")
    assert grown["x"].tolist() == [1, 2, 3, 5]
    assert grown.target_rows.tolist() == [[2, 3], [3, 4]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rk.TimeSeries([1.0], names=["x"]), "rows= has no times, and the series has"),
        (rk.TimeSeries([1.0], names=["y"], time=[9]), "names 'x', which the series does not have"),
        (rk.TimeSeries([1.0], names=["x"], time=[3]), r"after the last row \(3\), received 3"),
        (rk.TimeSeries([1.0], names=["x"], time=[9], group=["a"]), "rows= has groups, and"),
    ],
)
def test_rows_that_do_not_follow_are_refused(rows, message):
    series = rk.TimeSeries([1.0, 2.0, 3.0], names=["x"], time=[1, 2, 3])
    with pytest.raises(ValueError, match=message):
        series.append(rows)


# ---- the recipe of the guide for a horizon longer than the trained one


def forecast_far(predict, series, spec, blocks, scaler=None):
    """As the guide has it: horizon after horizon, each from the ones before."""
    frames = []
    for _ in range(blocks):
        ahead, newest = rk.forecast_windows(series, spec)
        predicted = predict(rk.WindowLoader(ahead, newest, scaler=scaler)[0])
        frame = rk.to_frame(
            predicted, ahead, newest, scaler=scaler, targets=spec.targets, backend="pandas"
        )
        wide = frame.pivot(index=["group", "time"], columns="target", values="prediction")
        series = series.append(rk.TimeSeries(wide.reset_index(), time="time", group="group"))
        frames.append(frame)
    return pd.concat(frames)


def continue_lines(inputs):
    """Continue each column by its last difference, two rows ahead."""
    past = inputs["past"] if isinstance(inputs, dict) else inputs
    step = past[:, -1, :2] - past[:, -2, :2]
    return np.stack([past[:, -1, :2] + step, past[:, -1, :2] + 2 * step], axis=1)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_recursive_forecast_goes_on_from_its_own_values(scaled):
    time = np.concatenate([HOURS[:10], HOURS[:7]])
    line = np.concatenate([3.0 * np.arange(10), 50 - 2.0 * np.arange(7)])
    series = rk.TimeSeries(
        np.column_stack([line, 2 * line]),
        names=["x", "y"],
        time=time,
        group=np.repeat(["a", "b"], [10, 7]),
    ).with_columns({"x before": ("x", 2), **rk.data.calendar("hour")})
    scaler = rk.Scaler().fit(series) if scaled else None
    spec = rk.WindowSpec(
        3, horizon=2, targets=["x", "y"], features=["x", "y", "x before"], known=["hour sin"]
    )
    frame = forecast_far(continue_lines, series, spec, 3, scaler)
    assert len(frame) == 3 * 2 * 2 * 2
    for label, start, slope, rows in (("a", 0, 3, 10), ("b", 50, -2, 7)):
        found = frame[(frame["group"] == label) & (frame["target"] == "x")]
        ahead = np.arange(rows, rows + 6)
        assert found["prediction"].tolist() == pytest.approx(start + slope * ahead, abs=1e-3)
        assert found["time"].tolist() == pd.to_datetime(HOURS[ahead]).tolist()


@pytest.mark.parametrize("frames", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("labels", [[1, 2], ["a", "b"]])
@pytest.mark.parametrize("timed", [False, True])
def test_a_frame_with_a_group_must_become_a_series(frames, labels, timed):
    table = {"g": np.repeat(labels, 5), "x": np.arange(10.0), "plan": np.arange(10.0)}
    options = {"group": "g", "names": ["x", "plan"]}
    if timed:
        table["t"] = np.tile(np.datetime64("2024-01-01", "ns") + np.arange(5) * DAY, 2)
        options["time"] = "t"
    before, ahead, shared = (
        frames({name: column[rows] for name, column in table.items() if name not in left_out})
        for rows, left_out in (([0, 1, 2, 5, 6, 7], ""), ([3, 4, 8, 9], ""), ([3, 4], "g"))
    )
    series = rk.TimeSeries(before, **options)
    spec = rk.WindowSpec(3, horizon=2, features=["x"], targets=["x"], known=["plan"])
    with pytest.raises(ValueError, match=r"known= is a DataFrame with 'g', .* Pass TimeSeries"):
        rk.forecast_windows(series, spec, known=ahead)
    with pytest.raises(ValueError, match=r"rows= must say the group .* pass TimeSeries"):
        series.append(ahead)
    told = rk.TimeSeries(ahead, **options)
    inputs = rk.WindowLoader(*rk.forecast_windows(series, spec, known=told))[0]
    assert inputs["known"][..., 0].tolist() == [[3, 4], [8, 9]]
    assert series.append(told)["x"].tolist() == list(range(10))
    # One for all groups says nothing of them; it may hold columns of the series.
    inputs = rk.WindowLoader(*rk.forecast_windows(series, spec, known=shared))[0]
    assert inputs["known"][..., 0].tolist() == [[3, 4]] * 2


def test_a_lag_is_made_of_the_forecast_rows():
    series = rk.TimeSeries(np.arange(6.0), names=["x"]).with_columns({"before": ("x", 1)})
    grown = series.append([[60.0], [70.0]])
    assert grown["before"][-2:].tolist() == [5.0, 60.0]


def test_differencing_is_undone_exactly():
    """The recipe of the guide: a model of changes, and a sum that begins with the last value."""
    random = np.random.default_rng(0)
    values = np.round(random.normal(size=50).cumsum(), 3)
    time = np.datetime64("2024-01-01") + np.arange(50)
    series = rk.TimeSeries(values, names=["x"], time=time).with_columns({"before": ("x", 1)})
    series = series.with_columns({"change": series["x"] - series["before"]})
    spec = rk.WindowSpec(5, horizon=4, features=["change"], targets=["change"])
    _, changes = rk.WindowLoader(series, spec, batch_size=99)[0]
    frame = rk.to_frame(changes, series, spec, backend="pandas")
    origin = pd.Series(series["x"], index=pd.to_datetime(series.time))
    summed = frame.groupby("origin")["prediction"].cumsum() + origin[frame["origin"]].to_numpy()
    assert summed.to_numpy() == pytest.approx(origin[frame["time"]].to_numpy(), abs=1e-6)
