"""Time zones against datetime: what the clock shows, days and months counted on it, and frames."""

import datetime as dt
import pickle
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_rnnkit as rk
from keras_rnnkit.data.times import as_times
from keras_rnnkit.data.zones import as_zone, from_local, to_local, zone_name

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "UTC")
MOMENTS = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1))


def array(moments):
    return np.array([moment.replace(tzinfo=None) for moment in moments], "datetime64[us]")


@given(moments=st.lists(MOMENTS, min_size=1, max_size=20), name=st.sampled_from(ZONES))
def test_both_ways_equal_datetime(moments, name):
    zone = ZoneInfo(name)
    there = [moment.replace(tzinfo=dt.UTC).astimezone(zone) for moment in moments]
    assert (to_local(array(moments), zone) == array(there)).all()
    back = [moment.replace(tzinfo=zone).astimezone(dt.UTC) for moment in moments]
    assert (from_local(array(moments), zone) == array(back)).all()


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_around_a_change_of_clock(unit):
    zone = ZoneInfo("Europe/Berlin")
    for day in ("2024-03-31", "2024-10-27"):
        minutes = np.datetime64(day, unit) + np.arange(-180, 480) * np.timedelta64(1, "m")
        moments = [moment.item() for moment in minutes.astype("datetime64[us]")]
        there = [moment.replace(tzinfo=dt.UTC).astimezone(zone) for moment in moments]
        assert (to_local(minutes, zone) == array(there)).all()
        back = [moment.replace(tzinfo=zone).astimezone(dt.UTC) for moment in moments]
        assert (from_local(minutes, zone) == array(back)).all()
        assert to_local(minutes, zone).dtype == from_local(minutes, zone).dtype == minutes.dtype


def test_names_of_zones():
    for name in (*ZONES, "UTC+02:00", "UTC-05:30"):
        assert zone_name(as_zone(name)) == name
    assert as_zone("+0200") == dt.timezone(dt.timedelta(hours=2))
    with pytest.raises(ValueError, match="zone= names no time zone: 'Berlin'"):
        as_zone("Berlin")
    with pytest.raises(ValueError, match=r"zone= must be a name such as .* received 5"):
        as_zone(5)


def days(first, count, zone="Europe/Berlin", **options):
    """A row at each midnight of a place."""
    index = pd.date_range(first, periods=count, freq=options.pop("freq", "D"), tz=zone)
    frame = pd.DataFrame({"when": index, "T": np.arange(count) * 1.5})
    return frame, rk.TimeSeries(frame, **options)


def frames(frame):
    return frame, pl.from_pandas(frame), pa.Table.from_pandas(frame, preserve_index=False)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Etc/GMT-3"])
def test_every_kind_of_aware_input_keeps_its_zone(zone):
    frame, _ = days("2024-03-20", 20, zone)
    utc = frame["when"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    index = pd.DatetimeIndex(frame["when"])
    sources = [
        *({"values": each} for each in frames(frame)),
        {"values": frame.set_index("when")},
        {"values": frame["T"].to_numpy(), "time": frame["when"]},
        {"values": frame["T"].to_numpy(), "time": index},
        {"values": frame["T"].to_numpy(), "time": list(index.to_pydatetime())},
        {"values": frame["T"].to_numpy(), "time": pl.Series(frame["when"])},
    ]
    for source in sources:
        series = rk.TimeSeries(**source)
        assert (series.time == utc).all()
        assert zone_name(series.zone) == zone
        local = frame["when"].dt.tz_localize(None).to_numpy()
        assert (series.local_time == local).all()
        assert len(series.segments()) == 1
        assert f"{zone}, a row every 1 D, 0 gaps" in repr(series)


def test_times_without_a_zone_stay_naive():
    series = rk.TimeSeries(np.arange(3.0), time=["2024-01-01", "2024-01-02", "2024-01-03"])
    assert series.zone is None
    assert series.local_time is series.time
    assert rk.TimeSeries(np.arange(3.0)).local_time is None


def test_days_and_months_are_counted_in_the_zone():
    _, daily = days("2024-01-01", 366)
    assert daily.freq == np.timedelta64(1, "D")
    assert len(daily.segments()) == 1
    _, weekly = days("2024-01-01", 60, freq="W")
    assert len(weekly.segments()) == 1
    # In UTC the first of a month begins on the last of the one before, in New York never.
    for zone in ("Europe/Berlin", "America/New_York"):
        _, monthly = days("2024-01-01", 40, zone=zone, freq="MS")
        assert "a row every 1 month, 0 gaps" in repr(monthly)
        _, lacking = days("2024-01-01", 40, zone=zone, freq="MS")
        kept = [*range(20), *range(21, 40)]
        lacking = rk.TimeSeries(np.arange(39.0), time=pd.DatetimeIndex(_["when"])[kept])
        assert lacking.segments().tolist() == [[0, 20], [20, 39]]
    # Steps in hours are time that goes by: a day of 23 hours is a gap to them.
    assert len(days("2024-03-25", 14, freq="D")[1].segments()) == 1
    frame, _ = days("2024-03-25", 14)
    assert len(rk.TimeSeries(frame, freq="24h").segments()) == 2
    assert len(rk.TimeSeries(frame, freq=dt.timedelta(days=1)).segments()) == 1
    hourly = days("2024-10-20", 24 * 14, freq="h")[1]
    assert len(hourly.segments()) == 1
    assert hourly.freq == np.timedelta64(1, "h")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles"])
def test_a_split_by_date_cuts_at_local_midnight(zone):
    frame, series = days("2024-10-20", 24 * 20, zone=zone, freq="h")
    parts = rk.split(series, train="2024-10-27", val="2024-11-04")
    begins = [frame["when"][part.target_rows[0, 0]] for part in parts]
    assert [str(begin)[:16] for begin in begins] == [
        "2024-10-20 00:00",
        "2024-10-27 00:00",
        "2024-11-04 00:00",
    ]
    report = rk.window_report(parts, rk.WindowSpec(3))
    assert report.parts["val"].first_target == "2024-10-27 00:00:00"
    assert report.parts["train"].last_target == "2024-10-26 23:00:00"
    assert f"times: {zone}" in str(report)
    aware = dt.datetime(2024, 10, 27, 12, tzinfo=dt.UTC)
    noon = rk.split(series, train=aware, val="2024-11-04").val.target_rows[0, 0]
    assert frame["when"][noon] == pd.Timestamp(aware)
    with pytest.raises(ValueError, match=r"rows 168 to 360 \(2024-10-27 00:00:00 to"):
        rk.check_split([parts.val, parts.val])


def test_a_moment_with_a_zone_does_not_cut_times_without_one():
    series = rk.TimeSeries(np.arange(9.0), time=np.datetime64("2024-01-01") + np.arange(9))
    with pytest.raises(ValueError, match=r"train= is of the zone UTC .* of none"):
        rk.split(series, train="2024-01-04T00:00Z", val="2024-01-06")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("backend", ["pandas", "polars", "pyarrow"])
def test_a_frame_of_predictions_joins_the_frame_of_the_user(backend, zone):
    frame, series = days("2024-03-20", 20, zone)
    spec = rk.WindowSpec(3, horizon=2)
    made = rk.to_frame(np.zeros((16, 2)), series, spec, backend=backend)
    if backend == "pyarrow":
        assert str(made.schema.field("time").type.tz) == zone
        joined = made.join(frames(frame)[2].rename_columns(["time", "T"]), "time").to_pandas()
    elif backend == "polars":
        # The first polars of all joins times of one unit alone.
        unit = made.schema["time"].time_unit
        own = frames(frame)[1].with_columns(pl.col("when").dt.cast_time_unit(unit))
        joined = made.join(own, left_on="time", right_on="when").to_pandas()
    else:
        joined = made.merge(frame, left_on="time", right_on="when")
    assert len(joined) == 32
    assert (joined["truth"] == joined["T"]).all()


def test_what_lies_ahead_is_counted_on_the_calendar():
    spec = rk.WindowSpec(3, horizon=3, targets=())
    frame, series = days("2024-03-20", 11)  # up to the day before the clock changes
    made = rk.to_frame(np.zeros((9, 3)), series, spec, targets=["T"], backend="pandas")
    ahead = made[made["origin"] == frame["when"].iloc[-1]]["time"].dt.strftime("%m-%d %H:%M")
    assert ahead.tolist() == ["03-31 00:00", "04-01 00:00", "04-02 00:00"]
    frame, series = days("2023-08-01", 8, freq="MS")
    made = rk.to_frame(np.zeros((6, 3)), series, spec, targets=["T"], backend="pandas")
    ahead = made[made["origin"] == frame["when"].iloc[-1]]["time"].dt.strftime("%m-%d %H:%M")
    assert ahead.tolist() == ["04-01 00:00", "05-01 00:00", "06-01 00:00"]


@pytest.mark.parametrize(
    ("backend", "zone"), [("pandas", "UTC+02:00"), ("polars", "UTC"), ("pyarrow", "+02:00")]
)
def test_a_frame_in_a_fixed_offset(backend, zone):
    time = [f"2024-01-{day:02}T00:00+02:00" for day in range(1, 9)]
    series = rk.TimeSeries(np.arange(8.0), time=time)
    assert zone_name(series.zone) == "UTC+02:00"
    made = rk.to_frame(np.zeros((5, 1)), series, rk.WindowSpec(3), backend=backend)
    of_column = {
        "pandas": lambda: str(made["time"].dt.tz),
        "polars": lambda: made.schema["time"].time_zone,
        "pyarrow": lambda: made.schema.field("time").type.tz,
    }
    assert of_column[backend]() == zone


def test_offsets_that_change_need_the_name_of_the_place():
    time = ["2024-03-30T00:00+01:00", "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"]
    with pytest.raises(
        ValueError, match=r"several offsets or zones \(UTC\+01:00, UTC\+02:00\).* zone="
    ):
        rk.TimeSeries(np.arange(3.0), time=time)
    series = rk.TimeSeries(np.arange(3.0), time=time, zone="Europe/Berlin")
    assert len(series.segments()) == 1
    assert rk.TimeSeries(np.arange(3.0), time=time, zone="UTC").local_time[0] == np.datetime64(
        "2024-03-29T23:00"
    )


def test_a_zone_for_times_that_tell_none():
    # What the clock shows ...
    text = ["2024-03-30", "2024-03-31", "2024-04-01"]
    for time in (text, np.array(text, "datetime64[s]")):
        series = rk.TimeSeries(np.arange(3.0), time=time, zone="Europe/Berlin")
        assert (series.local_time == np.array(text, "datetime64[s]")).all()
        assert series.time[2] == np.datetime64("2024-03-31T22:00")
    # ... but for seconds since 1970, which are counted in UTC.
    unix = as_times([0, 3600], time_format="unix", zone="Europe/Berlin")
    assert unix.values[0] == np.datetime64("1970-01-01")
    # The hour that comes twice is never read as one that came once.
    twice = [f"2024-10-27T{clock}" for clock in ("01:00", "02:00", "02:00", "03:00")]
    with pytest.raises(ValueError, match=r"row 2 \(2024-10-27 02:00:00\) has the time of the row"):
        rk.TimeSeries(np.arange(4.0), time=twice, zone="Europe/Berlin")
    with pytest.raises(ValueError, match="zone= needs dates, and time= holds whole numbers"):
        rk.TimeSeries([1.0, 2.0], time=[1, 2], zone="UTC")
    with pytest.raises(ValueError, match="zone= needs time="):
        rk.TimeSeries([1.0, 2.0], zone="UTC")


def test_local_times_of_an_hour_that_comes_twice_are_told_so():
    clock = np.array(["2024-10-27T02:00", "2024-10-27T02:30"] * 2, "datetime64[m]")
    with pytest.raises(ValueError, match=r"clocks are set back there.* with their offsets"):
        rk.TimeSeries(np.arange(4.0), time=clock, zone="Europe/Berlin")


def test_a_csv_file_keeps_its_zone(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("t,x\n2024-03-31T00:00+01:00,1\n2024-04-01T00:00+02:00,2\n")
    with pytest.raises(ValueError, match="column 't': the times are of several offsets"):
        rk.read_csv(path)
    for sort in (False, True):
        series = rk.read_csv(path, zone="Europe/Berlin", sort=sort)
        assert zone_name(series.zone) == "Europe/Berlin"
        assert series.local_time[1] == np.datetime64("2024-04-01")
    path.write_text("x\n1\n2\n")
    with pytest.raises(ValueError, match=r"zone= needs times, and .* has no column of them"):
        rk.read_csv(path, zone="UTC")


def test_views_and_pickles_keep_the_zone():
    _, series = days("2024-03-20", 20)
    for each in (
        series.with_target_rows([[0, 5]]),
        series.with_values(series.values + 1),
        pickle.loads(pickle.dumps(series)),
    ):
        assert each.zone == series.zone
        assert (each.time == series.time).all()


def test_weights_by_time_see_the_clock_of_the_place():
    _, series = days("2024-03-20", 48, freq="h")

    def night(time):
        return (time.astype("datetime64[h]").astype(int) % 24 < 6).astype(float)

    dataset = rk.WindowLoader(series, rk.WindowSpec(1), batch_size=99, weights=night)
    assert dataset[0][2].ravel().tolist() == [float(row % 24 < 6) for row in range(1, 48)]


@pytest.mark.parametrize("first", [True, False])
def test_rows_with_and_without_a_zone_are_refused(first):
    moments = [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)]
    with pytest.raises(ValueError, match=r"expected a date and time .* in row 1"):
        as_times(moments if first else [moments[1], moments[0]])


def test_nanoseconds_are_not_cut_off():
    index = pd.DatetimeIndex(["2024-01-01T00:00:00.000000001"], tz="Europe/Berlin")
    assert as_times(index).values[0] == np.datetime64("2023-12-31T23:00:00.000000001")
    with pytest.raises(ValueError, match=r"time: row 0 .* counts nanoseconds"):
        as_times(list(index))


@pytest.mark.parametrize("order", ["one series", "group by group", "time by time"])
@pytest.mark.parametrize(
    ("zone", "first", "step"),
    [
        ("Europe/Berlin", "2024-10-26 20:00", "15min"),
        ("Europe/Berlin", "2024-10-26 20:00", "1h"),
        ("America/New_York", "2024-11-03 00:00", "30min"),
        ("Australia/Lord_Howe", "2024-04-06 10:00", "10min"),
    ],
)
def test_an_hour_that_comes_twice_is_read_in_the_order_of_the_file(
    tmp_path, zone, first, step, order
):
    utc = pd.date_range(first, periods=60, freq=step)
    local = utc.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    assert local.duplicated().any()
    rows = [(f"{when:%Y-%m-%d %H:%M}", store) for when in local for store in "ba"]
    if order == "one series":
        rows = rows[::2]
    elif order == "group by group":
        rows = sorted(rows, key=lambda row: row[1] == "a")
    path = tmp_path / "rows.csv"
    path.write_text("t,g,x\n" + "".join(f"{when},{store},1\n" for when, store in rows))
    group = {"drop": "g"} if order == "one series" else {"group": "g"}
    series = rk.read_csv(path, zone=zone, **group)
    expected = np.tile(utc.to_numpy(), len(rows) // 60)
    assert (series.time == expected).all()


@pytest.mark.parametrize(
    ("text", "options", "row", "what"),
    [
        ("27 01:00,27 02:00,27 02:30,27 02:00,27 03:00", {}, 3, "02:00:00, .*comes twice"),
        ("27 01:00,27 02:00,27 02:00,27 03:00", {"sort": True}, 2, "02:00:00, .*comes twice"),
        ("27 02:00,27 02:00,27 02:00", {}, 1, "02:00:00, .*comes twice"),
        ("27 02:30,27 02:00,27 03:00", {}, 1, "02:00:00, .*comes twice"),
        ("03-31 01:30,03-31 02:30,03-31 03:00", {}, 1, "02:30:00, .*is left out"),
        ("03-31 02:00,03-31 03:00,03-31 04:00", {"sort": True}, 0, "02:00:00, .*is left out"),
    ],
)
def test_times_that_the_change_of_clocks_makes_doubtful_are_named(
    tmp_path, text, options, row, what
):
    path = tmp_path / "rows.csv"
    times = [f"2024-10-{each}" if each[2] == " " else f"2024-{each}" for each in text.split(",")]
    path.write_text("t,x\n" + "".join(f"{when},1\n" for when in times))
    message = rf"row {row} \(counted from 0\) holds .*{what} there.* leave out zone="
    with pytest.raises(ValueError, match=message):
        rk.read_csv(path, zone="Europe/Berlin", **options)
    if len(set(times)) == len(times) and times == sorted(times):
        assert len(rk.read_csv(path, zone="UTC").time) == len(times)


def test_rows_of_several_groups_are_not_one_hour_that_comes_twice(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("t,g,x\n2024-10-27 02:00,a,1\n2024-10-27 02:00,b,1\n")
    series = rk.read_csv(path, group="g", zone="Europe/Berlin")
    assert series.time[0] == series.time[1] == np.datetime64("2024-10-27T00:00")
