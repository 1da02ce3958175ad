"""The examples run to their end as a newcomer runs them, and show what they promise."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_example(name, tmp_path):
    """What a short run of an example prints, and the files it leaves."""
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / name, "--quick", "--output", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::UserWarning"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    files = list((tmp_path / "out").iterdir())
    for path in files:
        assert path.suffix != ".png" or path.read_bytes().startswith(b"\x89PNG")
    return run.stdout, {path.name for path in files}


def test_weather_forecast_runs_and_leaves_its_results(tmp_path):
    text, files = run_example("weather_forecast.py", tmp_path)
    assert "SYNTHETIC" in text
    table = text[text.index("MAE in degC") :].splitlines()
    errors = {line[:22].strip(): [float(cell) for cell in line.split()[-3:]] for line in table[1:4]}
    assert table[0].split()[-3:] == ["train", "val", "test"]
    assert errors["persistence"] == errors["same hour, last day"]
    assert "the two baselines coincide" in text
    assert all(0 < error < 10 for error in errors["GRU"])
    assert "Saved and reloaded: the same forecasts" in text
    assert files == {"forecast.png", "loss.png", "model.keras", "scaler.json"}


def test_gradient_flow_shows_what_dies_and_what_helps(tmp_path):
    text, pictures = run_example("gradient_flow.py", tmp_path)
    assert pictures == {"gradient_starts.png", "gradient_helped.png"}
    lines = [line for line in text.splitlines() if line[36:38].strip().isdigit()]
    factors = {line[:32].strip(): float(line[38:46]) for line in lines}
    assert factors["SimpleRNN, small weights"] < factors["GRU"] < factors["GRU, gate open"]
    assert factors["growing weights"] == 1.1
    assert "RecurrentMonitor stopped the run" in text


def test_recurrent_dropout_shows_the_old_formula_and_ours(tmp_path):
    text, pictures = run_example("recurrent_dropout.py", tmp_path)
    assert pictures == {"recurrent_dropout.png"}
    largest = {
        line.split()[0]: float(line.split()[-1]) for line in text.splitlines() if "|h|" in line
    }
    assert largest["old"] > 1e20
    assert largest["ours"] <= 1
