"""The options of window_dataset, WindowLoader and window_report: one list that everyone sees."""

import inspect

import numpy as np
import pytest

import keras_rnnkit as rk

TAKERS = [rk.window_dataset, rk.WindowLoader, rk.window_report]


@pytest.mark.parametrize("taker", TAKERS)
def test_the_signature_shows_every_option_with_its_type_and_default(taker):
    options = list(inspect.signature(taker).parameters.values())
    assert [option.name for option in options[:3]] == ["series", "spec", "batch_size"]
    assert not any(option.kind is option.VAR_KEYWORD for option in options)
    shown = {option.name: option.default for option in options}
    assert shown["batch_size"] == 32
    assert shown["missing"] == "drop"
    assert all(option.annotation is not option.empty for option in options)
    documented = rk.window_dataset.__doc__
    assert [name for name in shown if f" {name}:" not in documented] == []


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("shufle", r"shufle= is no option. Did you mean shuffle=\? There are: batch_size, "),
        ("workers", r"workers= is no option. There are: batch_size, "),
    ],
)
def test_an_option_that_does_not_exist_is_refused(taker, option, message):
    for lookback in (2, 20):  # with windows and without one
        with pytest.raises(TypeError, match=message):
            taker(np.arange(10.0), rk.WindowSpec(lookback), **{option: True})


def test_mypy_sees_the_options(tmp_path):
    api = pytest.importorskip("mypy.api")
    program = tmp_path / "program.py"
    program.write_text(
        "import keras_rnnkit as rk\n"
        "spec = rk.WindowSpec(4)\n"
        "rk.window_dataset([1.0], spec, batch_size=4, shufle=True)\n"
        "rk.WindowLoader([1.0], spec, shufle=True)\n"
        "rk.window_report([1.0], spec, shuffle=True, missing='drop')\n"
        "rk.window_report([1.0], spec, missing='dorp')\n"
        "loader: rk.WindowLoader = rk.WindowLoader([1.0], spec=spec)\n"
    )
    flags = ["--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary"]
    told, _, _ = api.run([*flags, f"--cache-dir={tmp_path}", str(program)])
    lines = [line.split(":", 1)[1] for line in told.splitlines() if ": error:" in line]
    assert [int(line.split(":")[0]) for line in lines] == [3, 4, 6], told
    assert "shufle" in lines[0]
