"""synthetic_weather: synthetic weather with the columns and the physics of the Jena record."""

import numpy as np

from keras_rnnkit.data import TimeSeries
from keras_rnnkit.datasets.jena_climate import COLUMNS

__all__ = ["synthetic_weather"]

START = np.datetime64("2001-01-01T00:00", "s")
ROWS_PER_HOUR = 6
ROWS_PER_DAY = 24 * ROWS_PER_HOUR
LATITUDE = np.deg2rad(50.93)
DAYS_PER_FAULT = 150
WARM_UP_DAYS = 40


def synthetic_weather(days: int = 730, seed: int = 0) -> TimeSeries:
    r"""Synthetic weather every 10 minutes, with the columns of `jena_climate`.

    It is for trying things out without a download. The error of a model on it says nothing about
    real weather.

    The sun's height over Jena gives the yearly and daily cycles. Fronts are autocorrelated noise:
    a flow from the south lowers the pressure and turns the wind first, and warms the air over the
    next day or two, so that the past helps to predict the next day. Clouds dampen the daily cycle.
    The dew point follows the night's temperature, from which the humidity's own daily cycle comes.
    A recording pauses for some hours, or loses its wind, once in 150 days each.

    The other columns are computed from temperature `T`, pressure `p` and relative humidity `rh`:

    .. math::
        VP_{max} &= 6.1094 \exp(17.625 T / (243.04 + T)) \quad \text{mbar (Magnus formula)} \\
        VP_{act} &= VP_{max} \, rh / 100, \qquad VP_{def} = VP_{max} - VP_{act} \\
        T_{dew} &= 243.04 \, l / (17.625 - l), \qquad l = \ln(VP_{act} / 6.1094) \\
        T_{pot} &= (T + 273.15) (1000 / p)^{0.2857} \\
        sh &= 622 \, VP_{act} / (p - 0.378 \, VP_{act}), \qquad H2OC = 1000 \, VP_{act} / p \\
        \rho &= 10^5 (p - 0.378 \, VP_{act}) / (287.05 (T + 273.15))

    Args:
        days: length of the record.
        seed: the same seed and length give the same record.

    Returns:
        A `TimeSeries` of float64, `(144 * days without the pauses, 14)`, from 1 January 2001,
        values rounded to 0.01 as in the Jena record.

    Raises:
        ValueError: `days` is not a whole number of at least 1.

    Source:
        Magnus formula: Alduchov and Eskridge, Improved Magnus form approximation of saturation
        vapor pressure, J. Appl. Meteor. 35 (1996). Moist air: Wallace and Hobbs, Atmospheric
        Science (2006), chapter 3.

    Example:
        >>> import keras_rnnkit as rk
        >>> weather = rk.datasets.synthetic_weather(days=30)
        >>> weather.values.shape
        (4320, 14)
        >>> weather.names[:3]
        ('p (mbar)', 'T (degC)', 'Tpot (K)')
    """
    if isinstance(days, bool) or not isinstance(days, (int, np.integer)) or days < 1:
        raise ValueError(f"days= must be a whole number of at least 1, received {days!r}.")
    random = np.random.default_rng(seed)
    warm_up = WARM_UP_DAYS * ROWS_PER_DAY
    rows = days * ROWS_PER_DAY
    day = np.arange(-warm_up, rows) / ROWS_PER_DAY
    columns = _derive(**_observe(day, random))
    values = np.stack([columns[name][warm_up:] for name in COLUMNS], axis=1).round(2)
    values[:, COLUMNS.index("wd (deg)")] %= 360
    time = START + np.arange(rows) * np.timedelta64(600, "s")
    wind = [COLUMNS.index(name) for name in ("wv (m/s)", "max. wv (m/s)")]
    for start, stop in _faults(days, random):
        values[start:stop, wind] = np.nan
    keep = np.ones(rows, dtype=bool)
    for start, stop in _faults(days, random):
        keep[start:stop] = False
    return TimeSeries(values[keep], names=COLUMNS, time=time[keep], freq="10min")


def _low_pass(values: np.ndarray, hours: float) -> np.ndarray:
    """Each value as an exponentially weighted mean of those before it, `hours` back on average.

    A recursive filter by its transfer function, `(1 - a) / (1 - a exp(-i w))`. The rows are treated
    as periodic; the warm-up hides the seam.
    """
    keep = np.exp(-1 / (hours * ROWS_PER_HOUR))
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(values)))
    return np.fft.irfft(np.fft.rfft(values) * (1 - keep) / (1 - keep * turn), len(values))


def _noise(random: np.random.Generator, rows: int, *hours: float) -> np.ndarray:
    """Noise of unit variance that is correlated over these hours, `(rows,)`."""
    noise = random.standard_normal(rows)
    for tau in hours:
        noise = _low_pass(noise, tau)
    return noise / noise.std()


def _sun(day: np.ndarray) -> np.ndarray:
    """Sine of the sun's height, 0 by night, `(rows,)`."""
    declination = np.deg2rad(-23.44) * np.cos(2 * np.pi * (day + 10) / 365.25)
    hour_angle = 2 * np.pi * (day % 1 - 0.5)
    height = np.sin(LATITUDE) * np.sin(declination) + np.cos(LATITUDE) * np.cos(
        declination
    ) * np.cos(hour_angle)
    return np.maximum(height, 0)


def _observe(day: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """What the instruments would measure themselves, each `(rows,)`."""
    rows = len(day)
    southerly = _noise(random, rows, 30, 8)
    westerly = _noise(random, rows, 40, 8)
    high = -0.6 * southerly + 0.8 * _noise(random, rows, 60, 10)
    air_mass = _low_pass(southerly, 30)
    air_mass = 5.5 * air_mass / air_mass.std()
    clouds = 1 / (1 + np.exp(1.6 * high - _noise(random, rows, 10, 1)))

    sun = _sun(day) * (1 - 0.7 * clouds)
    warmth = 17 * _low_pass(sun, 3.5)
    season = 6 - 6.5 * np.cos(2 * np.pi * (day - 25) / 365.25)
    night = season + air_mass + 1.5 * (clouds - 0.5)
    temperature = night + warmth + 0.2 * _noise(random, rows, 0.5)
    depression = np.logaddexp(0, 1.2 * _noise(random, rows, 20, 3) + 0.8 * high)
    dew_point = night + 0.45 * _low_pass(warmth, 36) - 2.5 * depression
    humidity = 100 * _saturation(dew_point) / _saturation(temperature)

    gusty = 0.5 + 1.2 * _low_pass(sun, 1)
    east = 0.8 + 1.3 * westerly + gusty * _noise(random, rows, 0.5)
    north = 0.5 + 1.6 * southerly + gusty * _noise(random, rows, 0.5)
    wind = np.hypot(east, north)
    return {
        "p": (989 + 8 * high).round(2),
        "T": temperature.round(2),
        "rh": np.clip(humidity, 12, 100).round(2),
        "wv": wind,
        "gust": wind * (1.3 + 0.15 * np.abs(random.standard_normal(rows))) + 0.3 * gusty,
        # A wind is named after where it comes from.
        "wd": np.rad2deg(np.arctan2(-east, -north)) % 360,
    }


def _saturation(temperature: np.ndarray) -> np.ndarray:
    """Saturation vapour pressure over water in mbar, from degrees Celsius."""
    return 6.1094 * np.exp(17.625 * temperature / (243.04 + temperature))


def _derive(
    p: np.ndarray, T: np.ndarray, rh: np.ndarray, wv: np.ndarray, gust: np.ndarray, wd: np.ndarray
) -> dict[str, np.ndarray]:
    """All columns of the record, by name."""
    most = _saturation(T)
    vapour = most * (rh / 100)
    logarithm = np.log(vapour / 6.1094)
    kelvin = T + 273.15
    return {
        "p (mbar)": p,
        "T (degC)": T,
        "Tpot (K)": kelvin * (1000 / p) ** 0.2857,
        "Tdew (degC)": 243.04 * logarithm / (17.625 - logarithm),
        "rh (%)": rh,
        "VPmax (mbar)": most,
        "VPact (mbar)": vapour,
        "VPdef (mbar)": most - vapour,
        "sh (g/kg)": 622 * vapour / (p - 0.378 * vapour),
        "H2OC (mmol/mol)": 1000 * vapour / p,
        "rho (g/m**3)": 1e5 * (p - 0.378 * vapour) / (287.05 * kelvin),
        "wv (m/s)": wv,
        "max. wv (m/s)": gust,
        "wd (deg)": wd,
    }


def _faults(days: int, random: np.random.Generator) -> np.ndarray:
    """Rows `[start, stop)` of some hours each, once in `DAYS_PER_FAULT` days, `(faults, 2)`."""
    number = days // DAYS_PER_FAULT
    starts = random.integers(0, days * ROWS_PER_DAY, number)
    return np.stack([starts, starts + random.integers(1, 12 * ROWS_PER_HOUR, number)], axis=1)
