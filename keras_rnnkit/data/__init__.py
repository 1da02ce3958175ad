"""Time series, windows over them, splits and scaling."""

from keras_rnnkit.data.calendar import calendar
from keras_rnnkit.data.categories import Categories
from keras_rnnkit.data.dataset import window_dataset
from keras_rnnkit.data.epochs import FitEpoch
from keras_rnnkit.data.frame import to_frame
from keras_rnnkit.data.future import forecast_windows
from keras_rnnkit.data.loader import WindowLoader
from keras_rnnkit.data.read_csv import read_csv
from keras_rnnkit.data.read_parquet import read_parquet
from keras_rnnkit.data.report import PartReport, WindowReport, window_report
from keras_rnnkit.data.resample import resample
from keras_rnnkit.data.scale import Scaler
from keras_rnnkit.data.series import TimeSeries
from keras_rnnkit.data.spec import WindowSpec
from keras_rnnkit.data.split import Split, check_split, rolling_splits, split

__all__ = [
    "Categories",
    "FitEpoch",
    "PartReport",
    "Scaler",
    "Split",
    "TimeSeries",
    "WindowLoader",
    "WindowReport",
    "WindowSpec",
    "calendar",
    "check_split",
    "forecast_windows",
    "read_csv",
    "read_parquet",
    "resample",
    "rolling_splits",
    "split",
    "to_frame",
    "window_dataset",
    "window_report",
]
