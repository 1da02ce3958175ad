"""Time series, windows over them, splits and scaling."""

from keras_rnnkit.data.dataset import window_dataset
from keras_rnnkit.data.loader import WindowLoader
from keras_rnnkit.data.read_csv import read_csv
from keras_rnnkit.data.scale import Scaler
from keras_rnnkit.data.series import TimeSeries
from keras_rnnkit.data.spec import WindowSpec
from keras_rnnkit.data.split import Split, check_split, rolling_splits, split

__all__ = [
    "Scaler",
    "Split",
    "TimeSeries",
    "WindowLoader",
    "WindowSpec",
    "check_split",
    "read_csv",
    "rolling_splits",
    "split",
    "window_dataset",
]
