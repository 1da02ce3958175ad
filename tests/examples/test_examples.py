"""The examples run to their end as a newcomer runs them, and show what they promise."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_weather_forecast_runs_and_leaves_its_results(tmp_path):
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "weather_forecast.py", "--quick", "--output", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::UserWarning"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "SYNTHETIC" in run.stdout
    table = run.stdout[run.stdout.index("MAE in degC") :].splitlines()
    errors = {line[:22].strip(): [float(cell) for cell in line.split()[-3:]] for line in table[1:4]}
    assert table[0].split()[-3:] == ["train", "val", "test"]
    assert errors["persistence"] == errors["same hour, last day"]
    assert "the two baselines coincide" in run.stdout
    assert all(0 < error < 10 for error in errors["GRU"])
    assert "Saved and reloaded: the same forecasts" in run.stdout
    for name in ("loss.png", "forecast.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "forecast.png",
        "loss.png",
        "model.keras",
        "scaler.json",
    }
