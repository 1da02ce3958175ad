"""The physics that the columns of a weather record obey, written out once more."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def magnus():
    """Saturation vapour pressure in mbar over water, from degrees Celsius."""
    return lambda celsius: 6.1094 * np.exp(17.625 * celsius / (celsius + 243.04))


@pytest.fixture(scope="session")
def moist_air():
    """What pressure, temperature and vapour pressure of a record say of its other columns."""

    def columns(weather):
        vapour, kelvin = weather["VPact (mbar)"], weather["T (degC)"] + 273.15
        pressure = weather["p (mbar)"]
        mixing = 621.97 * vapour / (pressure - vapour)
        dry, wet = pressure - vapour, vapour
        return {
            "Tpot (K)": kelvin * (1000 / pressure) ** (287.05 / 1004.7),
            "sh (g/kg)": mixing / (1 + mixing / 1000),
            "H2OC (mmol/mol)": 1000 * vapour / pressure,
            "rho (g/m**3)": 1e5 * (dry / 287.05 + wet / 461.5) / kelvin,
        }

    return columns
