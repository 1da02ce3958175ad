"""The examples run to their end as a newcomer runs them, and show what they promise."""

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


def test_weather_forecast_runs_and_leaves_its_results(quick):
    text, files = quick("weather_forecast.py")
    assert "SYNTHETIC" in text
    table = text[text.index("MAE in degC") :].splitlines()
    errors = {line[:22].strip(): [float(cell) for cell in line.split()[-3:]] for line in table[1:4]}
    assert table[0].split()[-3:] == ["train", "val", "test"]
    assert errors["persistence"] == errors["same hour, last day"]
    assert "the two baselines coincide" in text
    assert all(0 < error < 10 for error in errors["GRU"])
    assert "Saved and reloaded: the same forecasts" in text
    assert files == {"forecast.png", "loss.png", "model.keras", "scaler.json"}


def test_gradient_flow_shows_what_dies_and_what_helps(quick):
    text, pictures = quick("gradient_flow.py")
    assert pictures == {"gradient_starts.png", "gradient_helped.png"}
    lines = [line for line in text.splitlines() if line[36:38].strip().isdigit()]
    factors = {line[:32].strip(): float(line[38:46]) for line in lines}
    assert factors["SimpleRNN, small weights"] < factors["GRU"] < factors["GRU, gate open"]
    assert factors["growing weights"] == 1.1
    assert "RecurrentMonitor stopped the run" in text


def test_recurrent_dropout_shows_the_old_formula_and_ours(quick):
    text, pictures = quick("recurrent_dropout.py")
    assert pictures == {"recurrent_dropout.png"}
    largest = {
        line.split()[0]: float(line.split()[-1]) for line in text.splitlines() if "|h|" in line
    }
    assert largest["old"] > 1e20
    assert largest["ours"] <= 1
