"""jena_climate: the Jena weather record, from a file or a download, as a TimeSeries."""

from os import PathLike

from keras_rnnkit.data import TimeSeries, read_csv
from keras_rnnkit.datasets.download import download

__all__ = ["COLUMNS", "jena_climate"]

ADDRESS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/jena_climate_2009_2016.csv.zip"
)
BYTES = 13_568_290
COLUMNS = (
    "p (mbar)",
    "T (degC)",
    "Tpot (K)",
    "Tdew (degC)",
    "rh (%)",
    "VPmax (mbar)",
    "VPact (mbar)",
    "VPdef (mbar)",
    "sh (g/kg)",
    "H2OC (mmol/mol)",
    "rho (g/m**3)",
    "wv (m/s)",
    "max. wv (m/s)",
    "wd (deg)",
)
SENTINELS = {"wv (m/s)": -9999.0, "max. wv (m/s)": -9999.0}


def jena_climate(path: str | PathLike[str] | None = None) -> TimeSeries:
    r"""The Jena weather record: 14 quantities every 10 minutes from 2009 to 2016.

    Columns are named with their units as in the file: air pressure `p (mbar)`, temperature
    `T (degC)`, potential temperature `Tpot (K)`, dew point `Tdew (degC)`, relative humidity
    `rh (%)`, saturation, actual and deficit of vapour pressure `VPmax`, `VPact`, `VPdef (mbar)`,
    specific humidity `sh (g/kg)`, water vapour concentration `H2OC (mmol/mol)`, air density
    `rho (g/m**3)`, wind speed `wv (m/s)`, gusts `max. wv (m/s)` and direction `wd (deg)`.

    Rows are sorted, and of rows with the same time the first is kept. A wind speed of -9999, which
    stands for none, is a missing value.

    Args:
        path: the CSV file or its zip; an extract with some of the columns is enough. Default: the
            public copy (13 MB), downloaded once, checked, and stored where Keras stores its own
            data: in `datasets` of `KERAS_HOME` or of `~/.keras`.

    Returns:
        A `TimeSeries` of float64, `(rows, columns)`; about 420,000 rows for the whole record.

    Raises:
        FileNotFoundError: no such file.
        OSError: the download failed.
        ValueError: the file is not part of the Jena record.

    Source:
        Max Planck Institute for Biogeochemistry, Jena, weather station;
        https://www.bgc-jena.mpg.de/wetter/.

    Example:
        >>> import pathlib, tempfile
        >>> import keras_rnnkit as rk
        >>> path = pathlib.Path(tempfile.mkdtemp(), "jena.csv")
        >>> rows = "Date Time,T (degC)", "01.01.2009 00:10:00,-8.02", "01.01.2009 00:20:00,-8.41"
        >>> _ = path.write_text("\n".join(rows))
        >>> rk.datasets.jena_climate(path)
        TimeSeries: 2 rows x 1 column
          time     2009-01-01 00:10:00 to 2009-01-01 00:20:00, a row every 10 min, 0 gaps
          missing  none
          columns  T (degC)
    """
    if path is None:
        call = "jena_climate('{}'); or take synthetic_weather(), which needs no download"
        path = download(ADDRESS, BYTES, None, call)
    try:
        series = read_csv(
            path,
            time="Date Time",
            time_format="%d.%m.%Y %H:%M:%S",
            freq="10min",
            sort=True,
            duplicates="first",
        )
        unknown = [name for name in series.names if name not in COLUMNS]
        if unknown:
            raise ValueError(
                f"it has columns {', '.join(map(repr, unknown))}, "
                f"and those of the record are: {', '.join(map(repr, COLUMNS))}."
            )
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as the Jena weather record: {error} "
            "(read_csv reads any other CSV file.)"
        ) from error
    return TimeSeries(
        series.values,
        names=series.names,
        time=series.time,
        freq=series.freq,
        na_values={name: SENTINELS[name] for name in SENTINELS if name in series.names},
    )
