"""Wide tables to panels, against loops over their series."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import keras_rnnkit as rk

HOURS = pd.date_range("2024-01-01", periods=6, freq="h")
RATES = pd.DataFrame(
    {
        "when": HOURS,
        "late": [np.nan, np.nan, 3, 4, 5, 6],
        "whole": [1.0, 2, 3, 4, 5, 6],
        "early": [1, np.nan, 3, np.nan, np.nan, np.nan],
    }
)


@pytest.mark.parametrize("kind", ["pandas", "polars", "series", "file"])
def test_a_column_for_each_series(kind, tmp_path):
    RATES.to_csv(tmp_path / "rates.csv", index=False)
    table = {
        "pandas": lambda: RATES,
        "polars": lambda: pl.from_pandas(RATES, nan_to_null=True),
        "series": lambda: rk.TimeSeries(RATES),
        "file": lambda: rk.read_csv(tmp_path / "rates.csv"),
    }[kind]()
    panel = rk.TimeSeries.from_wide(table)
    assert panel.groups == ("late", "whole", "early")
    assert panel.names == ("value",)
    for place, name in enumerate(panel.groups):
        column = RATES.set_index("when")[name]
        column = column[column.first_valid_index() : column.last_valid_index()]
        rows = slice(*panel.bounds[place : place + 2])
        np.testing.assert_array_equal(panel["value"][rows], column)
        assert (panel.time[rows] == column.index.to_numpy()).all()
    assert panel.freq == np.timedelta64(1, "h")


def test_a_row_for_each_series():
    m5 = pd.DataFrame(
        {
            "item": ["a", "a", "b"],
            "store": [1, 2, 1],
            "d_1": [0, np.nan, 5],
            "d_2": [1, 2, 6],
            "d_3": [2, 3, np.nan],
        }
    )
    panel = rk.TimeSeries.from_wide(
        m5, series="rows", group=["item", "store"], value="sales", time=HOURS[:3]
    )
    assert panel.groups == ("a 1", "a 2", "b 1")
    assert panel["sales"].tolist() == [0, 1, 2, 2, 3, 5, 6]
    assert (panel.time == HOURS.to_numpy()[[0, 1, 2, 1, 2, 0, 1]]).all()
    counted = rk.TimeSeries.from_wide(m5, series="rows", names=["d_2", "d_3"])
    assert counted.groups == (0, 1, 2)
    assert counted.time.tolist() == [0, 1, 0, 1, 0]
    dated = m5.drop(columns="d_3").set_axis(["item", "g", "2024-01-01", "2024-01-02"], axis=1)
    dated = rk.TimeSeries.from_wide(dated, series="rows", group=["item", "g"])
    assert dated.freq == np.timedelta64(1, "D")


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (RATES, {"group": "late"}, "group= names no column where each column is a series"),
        (RATES, {"series": "row"}, "series= must be 'columns' or 'rows'"),
        (RATES, {"series": "rows", "group": "id"}, "no column 'id'"),
        (
            pd.DataFrame({"id": ["a", "a"], "d": [1, 2]}),
            {"series": "rows", "group": "id"},
            "'a' is that of two series",
        ),
        (
            pd.DataFrame({"id": ["a", "b"], "d": [1, np.nan]}),
            {"series": "rows", "group": "id"},
            "series 'b' holds no value",
        ),
        (
            pd.DataFrame({"id": ["a", None], "d": [1, 2]}),
            {"series": "rows", "group": "id"},
            "row 1 .* has no group",
        ),
        (RATES, {"series": "rows", "time": [1]}, "time= has 1 entries for 3 columns"),
    ],
)
def test_what_is_no_panel_is_refused(table, options, message):
    with pytest.raises(ValueError, match=message):
        rk.TimeSeries.from_wide(table, **options)
