"""jena_climate: the record from a CSV, a zip or a download, with its faults put right."""

import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.datasets.jena_climate import ADDRESS, COLUMNS

EXTRACT = Path(__file__).parents[2].parent / "shared" / "data" / "jena_2009_first4000.csv"
HEADER = ",".join(f'"{name}"' for name in ("Date Time", *COLUMNS))


def row(clock, temperature, wind=1.0, gust=2.0):
    cells = [990.0, temperature, 265.4, -8.9, 93.3, 3.33, 3.11, 0.22, 1.94, 3.12, 1307.75]
    return ",".join(map(str, (f"01.01.2009 {clock}", *cells, wind, gust, 152.3)))


@pytest.fixture
def record(tmp_path):
    """A small record with each fault of the real one: doubled, out of order, no wind, no end."""
    path = tmp_path / "jena_climate_2009_2016.csv"
    rows = [
        row("00:10:00", -8.0),
        row("00:20:00", -8.1, wind=-9999.0),
        row("00:40:00", -8.3, gust=-9999.0),
        row("00:30:00", -8.2),
        row("00:30:00", -80.0),
        row("01:00:00", -8.5),
    ]
    path.write_text("\n".join([HEADER, *rows, "", ""]), encoding="utf-8")
    return path


@pytest.fixture
def archive(record, tmp_path):
    """The record in a zip, packed as the public one is."""
    path = tmp_path / "jena_climate_2009_2016.csv.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.write(record, record.name)
        file.writestr(f"__MACOSX/._{record.name}", b"\x00\x05\x16\x07")
    return path


def check(series):
    assert series.names == COLUMNS
    assert series.values.dtype == np.float64
    minutes = (series.time - np.datetime64("2009-01-01T00:00")) / np.timedelta64(1, "m")
    assert minutes.tolist() == [10, 20, 30, 40, 60]
    assert series["T (degC)"].tolist() == [-8.0, -8.1, -8.2, -8.3, -8.5]
    np.testing.assert_array_equal(series["wv (m/s)"], [1, np.nan, 1, 1, 1])
    np.testing.assert_array_equal(series["max. wv (m/s)"], [2, 2, 2, np.nan, 2])
    assert series.freq == np.timedelta64(10, "m")
    assert series.segments().tolist() == [[0, 4], [4, 5]]


def test_reads_the_csv(record):
    check(rk.datasets.jena_climate(record))
    check(rk.datasets.jena_climate(str(record)))


def test_reads_the_zip(archive):
    check(rk.datasets.jena_climate(archive))


def test_downloads_from_the_public_address(archive, monkeypatch):
    asked = []

    def download(*arguments):
        asked.append(arguments[:2])
        return archive

    monkeypatch.setattr(sys.modules[rk.datasets.jena_climate.__module__], "download", download)
    check(rk.datasets.jena_climate())
    assert asked == [(ADDRESS, 13_568_290)]


def test_failed_download_says_how_to_pass_a_path(tmp_path, monkeypatch):
    def refuse(address, timeout):
        raise urllib.error.URLError("404 -- Not Found")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(OSError, match=r"404.*pass its path, jena_climate\('jena_climate_2009"):
        rk.datasets.jena_climate()


def test_reads_an_extract_without_the_wind(tmp_path):
    path = tmp_path / "extract.csv"
    path.write_text("Date Time,T (degC)\n01.01.2009 00:10:00,-9999\n01.01.2009 00:20:00,1\n")
    assert rk.datasets.jena_climate(path)["T (degC)"].tolist() == [-9999, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,T\n2024-01-01,1\n", "no column 'Date Time'"),
        ("Date Time,price\n01.01.2009 00:10:00,1\n", "it has columns 'price'"),
        ("Date Time,T (degC)\n2009-01-01 00:10,1\n", "expected format '%d.%m.%Y %H:%M:%S'"),
        ("", "is empty"),
    ],
)
def test_refuses_another_file(tmp_path, text, message):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)other\.csv cannot be read as the Jena.*{message}"):
        rk.datasets.jena_climate(path)


def test_refuses_a_zip_of_several_tables_and_a_file_that_is_no_zip(tmp_path):
    path = tmp_path / "several.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.csv", HEADER)
        file.writestr("b.csv", HEADER)
    with pytest.raises(ValueError, match="holds 2 files, expected one"):
        rk.datasets.jena_climate(path)
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="is not a complete archive"):
        rk.datasets.jena_climate(path)


@pytest.mark.parametrize("name", ["none.csv", "none.zip"])
def test_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        rk.datasets.jena_climate(tmp_path / name)


@pytest.mark.skipif(not EXTRACT.exists(), reason=f"the extract of the record is not at {EXTRACT}")
def test_real_extract_obeys_the_physics_of_the_synthetic_one(magnus, moist_air):
    weather = rk.datasets.jena_climate(EXTRACT)
    assert weather.names == COLUMNS[:11]
    assert len(weather.segments()) == 1
    assert (weather.values != -9999).all()
    np.testing.assert_allclose(
        weather["VPmax (mbar)"], magnus(weather["T (degC)"]), rtol=0.015, atol=0.01
    )
    vapour = weather["VPmax (mbar)"] * weather["rh (%)"] / 100
    np.testing.assert_allclose(weather["VPact (mbar)"], vapour, atol=0.01)
    for name, expected in moist_air(weather).items():
        np.testing.assert_allclose(weather[name], expected, rtol=2e-3, atol=0.02, err_msg=name)
