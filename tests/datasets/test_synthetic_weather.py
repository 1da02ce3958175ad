"""synthetic_weather: the physics among its columns, its cycles, its faults, its seed."""

import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.datasets.jena_climate import COLUMNS


@pytest.fixture(scope="module")
def weather():
    return rk.datasets.synthetic_weather()


def test_has_the_columns_of_the_record_every_ten_minutes(weather):
    assert weather.names == COLUMNS
    assert weather.freq == np.timedelta64(10, "m")
    assert weather.time[0] == np.datetime64("2001-01-01T00:00")
    assert weather.time[-1] == np.datetime64("2002-12-31T23:50")


def test_vapour_pressures_fit_temperature_and_humidity(weather, magnus):
    np.testing.assert_allclose(weather["VPmax (mbar)"], magnus(weather["T (degC)"]), atol=0.0051)
    actual = magnus(weather["T (degC)"]) * weather["rh (%)"] / 100
    np.testing.assert_allclose(weather["VPact (mbar)"], actual, atol=0.0051)
    deficit = weather["VPmax (mbar)"] - weather["VPact (mbar)"]
    np.testing.assert_allclose(weather["VPdef (mbar)"], deficit, atol=0.0151)
    assert weather["VPdef (mbar)"].min() >= 0
    np.testing.assert_allclose(magnus(weather["Tdew (degC)"]), actual, atol=0.02)


def test_columns_of_moist_air_fit_each_other(weather, moist_air):
    for name, expected in moist_air(weather).items():
        np.testing.assert_allclose(weather[name], expected, rtol=2e-3, atol=0.02, err_msg=name)


def test_values_are_possible(weather):
    ranges = {
        "p (mbar)": (930, 1050),
        "T (degC)": (-35, 42),
        "rh (%)": (5, 100),
        "wv (m/s)": (0, 25),
        "wd (deg)": (0, 359.995),
    }
    for name, (low, high) in ranges.items():
        values = weather[name][np.isfinite(weather[name])]
        assert low <= values.min() < values.max() <= high, name
    assert (weather["Tdew (degC)"] <= weather["T (degC)"] + 0.01).all()
    wind, gust = weather["wv (m/s)"], weather["max. wv (m/s)"]
    assert (gust >= wind)[np.isfinite(wind)].all()


def test_has_seasons_days_and_fronts(weather):
    temperature = weather["T (degC)"]
    month = weather.time.astype("M8[M]").astype(int) % 12
    hour = weather.time.astype("M8[h]").astype(int) % 24
    monthly = [temperature[month == m].mean() for m in range(12)]
    assert np.argmax(monthly) in (5, 6, 7)
    assert max(monthly) - min(monthly) > 10
    summer = np.isin(month, (5, 6, 7))
    hourly = [temperature[summer & (hour == h)].mean() for h in range(24)]
    assert np.argmax(hourly) in range(13, 17)
    assert np.argmin(hourly) in range(2, 6)
    daily = [temperature[start : start + 144].mean() for start in range(0, len(weather), 144)]
    changes = np.diff(daily)
    assert 1 < np.abs(changes).mean() < 4
    assert np.corrcoef(changes[1:], changes[:-1])[0, 1] > 0.1


def test_pauses_and_loses_its_wind_now_and_then(weather):
    pauses = len(weather.segments()) - 1
    assert 1 <= pauses <= 4
    assert not len(weather.missing_rows([n for n in COLUMNS if "wv" not in n]))
    lost = weather.missing_rows(["wv (m/s)"])
    assert 0 < len(lost) < 0.01 * len(weather)
    np.testing.assert_array_equal(lost, weather.missing_rows(["max. wv (m/s)"]))
    assert not (weather.values == -9999).any()


def test_same_seed_gives_the_same_record_and_another_seed_another():
    first, again = (
        rk.datasets.synthetic_weather(days=200, seed=3),
        rk.datasets.synthetic_weather(days=200, seed=3),
    )
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.time, again.time)
    other = rk.datasets.synthetic_weather(days=200, seed=4)["T (degC)"]
    assert np.corrcoef(first["T (degC)"][:10000], other[:10000])[0, 1] < 0.99


def test_one_day_is_enough():
    assert rk.datasets.synthetic_weather(days=1).values.shape == (144, 14)


@pytest.mark.parametrize("days", [0, -3, 1.5, True, "30"])
def test_refuses_lengths_that_are_none(days):
    with pytest.raises(ValueError, match="days= must be a whole number of at least 1"):
        rk.datasets.synthetic_weather(days=days)
