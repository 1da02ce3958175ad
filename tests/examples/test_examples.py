"""The examples run to their end as a newcomer runs them, and show what they promise."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def quick(run_example, tmp_path):
    """A function of an example's name: what a short run prints, and the files that it leaves."""

    def run(name):
        text = run_example(name, "--quick", "--output", "out")
        files = list((tmp_path / "out").iterdir())
        for path in files:
            assert path.suffix != ".png" or path.read_bytes().startswith(b"\x89PNG")
        return text, {path.name for path in files}

    return run


def test_weather_forecast_beats_persistence(quick):
    text, files = quick("weather_forecast.py")
    assert "SYNTHETIC" in text
    table = text[text.index("MAE in degC") :].splitlines()
    errors = {line[:22].strip(): [float(cell) for cell in line.split()[-3:]] for line in table[1:4]}
    assert table[0].split()[-3:] == ["train", "val", "test"]
    assert errors["persistence"] == errors["same hour, last day"]
    assert all(map(float.__lt__, errors["GRU"], errors["persistence"]))
    assert "Saved and reloaded: the same forecasts" in text
    assert files == {"forecast.png", "loss.png", "model.keras", "scaler.json"}


def test_weather_forecast_reads_a_file_of_ones_own(run_example):
    hours = pd.date_range("2024-01-01", periods=900, freq="h")
    wave = np.sin(np.arange(900) / 4).round(3)
    table = pd.DataFrame(
        {"date": hours, "OT": wave, "load": -wave, "day": hours.strftime("%d.%m.")}
    )
    table.drop(columns="day").to_csv("own.csv", index=False)
    options = ["--csv", "own.csv", "--time", "date", "--target", "OT", "--lookback", "12h"]
    text = run_example("weather_forecast.py", *options, "--epochs", "1", "--ahead", "2h")
    assert "MAE in units of OT" in text
    assert "same hour, last day" not in text  # 22 hours back, which the window does not reach


def test_gradient_flow_shows_what_dies_and_what_helps(quick):
    text, pictures = quick("gradient_flow.py")
    assert pictures == {"gradient_starts.png", "gradient_helped.png"}
    lines = [line for line in text.splitlines() if line[36:38].strip().isdigit()]
    factors = {line[:32].strip(): float(line[38:46]) for line in lines}
    accuracy = {line[:32].strip(): float(line.split()[-1].rstrip("%")) for line in lines}
    assert factors["SimpleRNN, small weights"] < factors["GRU"] < factors["GRU, gate open"]
    assert factors["growing weights"] == 1.1
    assert "RecurrentMonitor stopped training" in text
    for name in ("SimpleRNN, small weights", "LSTM", "GRU", "growing weights"):
        assert accuracy[name] < 60, name
    for name in (
        "SimpleRNN, orthogonal weights",
        "GRU, gate open",
        "GRU, shorter window",
        "growing weights, clipped",
    ):
        assert accuracy[name] > 70, name


def test_recurrent_dropout_shows_the_old_formula_and_ours(quick):
    text, pictures = quick("recurrent_dropout.py")
    assert pictures == {"recurrent_dropout.png"}
    lines = [line.split() for line in text.splitlines()]
    largest = {line[0]: float(line[-1]) for line in lines if "|h|" in line}
    assert largest["old"] > 1e18
    assert largest["ours"] <= 1
    losses = {
        line[0]: line[2:] for line in lines if line[:1] in (["old"], ["ours"]) and len(line) == 4
    }
    assert float(losses["old"][0].replace(",", "")) > 1e15
    assert all(float(loss) < 2 for loss in (losses["old"][1], *losses["ours"]))


def test_real_time_agrees_with_the_whole_model_and_meets_a_gap(quick):
    text, files = quick("real_time.py")
    assert "in:  ['gru_h', 'weather']" in text or "in:  ['weather', 'gru_h']" in text
    assert "out: ['next_gru_h', 'temperature']" in text
    assert text.count("the states go back to the start") == 1
    assert float(text.split("largest difference: ")[1].split()[0]) < 1e-3
    assert files == {"real_time.png", "step", "step.keras", "step.tflite"}


def test_shop_forecast_forecasts_every_shop_of_a_panel(quick, tmp_path):
    text, files = quick("shop_forecast.py")
    assert "GENERATED" in text
    table = text[text.index("MAE of the last 14 days") :].splitlines()
    naive, gru = ([float(cell) for cell in line.split()[-2:]] for line in table[1:3])
    assert table[1].startswith("same weekday, last week")
    assert all(map(float.__lt__, gru, naive))
    assert files == {"forecast.csv", "forecast.png", "ids.json", "model.keras"}
    frame = pd.read_csv(tmp_path / "out" / "forecast.csv")
    assert (
        frame.groupby("group")["time"].agg(["min", "max", "size"]).to_numpy().tolist()
        == [["2024-07-01", "2024-07-14", 14]] * 24
    )
    assert (frame["sales"] > 0).all()


def test_shop_forecast_reads_a_file_of_ones_own(run_example, tmp_path):
    days = pd.date_range("2024-01-01", periods=74)
    random = np.random.default_rng(0)
    shops = []
    for name, first in (("north", 0), ("south", 48)):
        sales = random.poisson(50, 74).astype(float)
        sales[60:] = np.nan
        rows = {"date": days, "store": name, "sold": sales, "advert": days.day % 9 == 0}
        shops.append(pd.DataFrame(rows)[first:])
    table = pd.concat(shops).assign(advert=lambda frame: frame["advert"].astype(int))
    options = ["--csv", "sales.csv", "--time", "date", "--group", "store", "--target", "sold"]
    options += ["--known", "advert", "--epochs", "1", "--output", "out"]
    table.to_csv("sales.csv", index=False)
    run_example("shop_forecast.py", *options)
    frame = pd.read_csv(tmp_path / "out" / "forecast.csv")
    assert frame.groupby("group")["time"].min().to_dict() == dict.fromkeys(
        ["north", "south"], "2024-03-01"
    )
    table[:-1].to_csv("sales.csv", index=False)
    with pytest.raises(ValueError, match="known= ends 1 row too early for group 'south'"):
        run_example("shop_forecast.py", *options)
