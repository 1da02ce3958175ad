"""Every argument is seen: by `inspect.signature`, which help and editors read, and by mypy."""

import inspect
import os
import pathlib
import subprocess
import sys

import keras
import pytest

import keras_rnnkit as rk

OF_A_LAYER = {
    "return_state_sequences", "save_states", "learn_initial_state", "name", "dtype", "trainable",
}  # fmt: skip
OF_A_CELL = {"name", "dtype", "trainable"}
ADDED = {
    "SimpleRNN": {*OF_A_LAYER, "zero_output_for_mask", "use_cudnn", "weight_dropout"},
    "LSTM": {
        *OF_A_LAYER, "zero_output_for_mask", "implementation", "projection", "weight_dropout",
    },
    "GRU": {*OF_A_LAYER, "zero_output_for_mask", "implementation", "weight_dropout"},
    "RNN": {*OF_A_LAYER, "activity_regularizer"},
    "Bidirectional": {"name", "dtype", "trainable"},
    "SimpleRNNCell": {"return_state", "weight_dropout", *OF_A_CELL},
    "LSTMCell": {"return_state", "implementation", "projection", "weight_dropout", *OF_A_CELL},
    "GRUCell": {"return_state", "implementation", "weight_dropout", *OF_A_CELL},
}  # fmt: skip


def parameters(of):
    found = inspect.signature(of).parameters.values()
    return [p for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD]


@pytest.mark.parametrize("name", ADDED)
def test_a_signature_begins_with_that_of_keras_and_names_what_is_added(name):
    theirs, ours = parameters(getattr(keras.layers, name)), parameters(getattr(rk, name))
    first, rest = ours[: len(theirs)], ours[len(theirs) :]
    assert [(p.name, p.default) for p in first] == [(p.name, p.default) for p in theirs]
    assert {p.name for p in rest} == ADDED[name]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest)
    assert all(p.annotation is not inspect.Parameter.empty for p in ours)


@pytest.mark.parametrize("name", ADDED)
def test_each_argument_reaches_the_configuration(name):
    """An argument that the explicit signature named and did not hand on would be lost here."""
    cls = getattr(rk, name)
    values = {
        "units": 3, "cell": rk.GRUCell(3), "layer": rk.GRU(3), "merge_mode": "sum",
        "activation": "relu", "recurrent_activation": "tanh", "dropout": 0.25,
        "recurrent_dropout": 0.5, "seed": 7, "implementation": 1, "name": "named",
        "dtype": "float16", "activity_regularizer": "l2", "use_cudnn": False,
        "projection": 2, "weight_dropout": 0.25,
    }  # fmt: skip
    for of in ("kernel", "recurrent", "bias"):
        values |= {f"{of}_initializer": "ones", f"{of}_regularizer": "l1"}
        values |= {f"{of}_constraint": "unit_norm"}
    taken = [p for p in parameters(cls) if p.name not in {"weights", "backward_layer"}]
    passed = {p.name: values.get(p.name, not p.default) for p in taken}
    config, default = cls(**passed).get_config(), cls(*[values[p.name] for p in taken[:1]])
    default = default.get_config()
    unchanged = {n for n in passed if n in default and config[n] == default[n]}
    assert unchanged <= {"units", "cell", "layer"}
    assert set(passed) - set(config) == set()


def test_the_layer_of_vectors_names_every_option_of_the_reader():
    layer, reader = (
        inspect.signature(of).parameters for of in (rk.GloVeEmbedding, rk.load_vectors)
    )
    for name, option in reader.items():
        assert (layer[name].default, layer[name].kind) == (option.default, option.kind), name


def test_what_is_returned_is_written():
    assert inspect.signature(rk.window_report).return_annotation.__name__ == "WindowReport"
    assert inspect.signature(rk.window_dataset).return_annotation is not None
    functions = [value for value in map(vars(rk).get, rk.__all__) if inspect.isfunction(value)]
    assert len(functions) > 15
    for each in functions:
        assert inspect.signature(each).return_annotation is not inspect.Parameter.empty, each


def test_pyright_flags_wrong_calls_and_no_right_one():
    """As for mypy: an ignored error that is none is one."""
    pytest.importorskip("pyright", reason="pip install 'keras-rnnkit[lint]'")
    calls = pathlib.Path(__file__).with_name("typed_calls.py")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, calls]
    run = subprocess.run(command, capture_output=True, text=True, cwd=calls.parents[1])
    assert run.returncode == 0, run.stdout + run.stderr


def test_mypy_flags_wrong_calls_and_no_right_one():
    """A wrong call that mypy lets pass leaves its `type: ignore` unused, which is an error."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    calls = pathlib.Path(__file__).with_name("typed_calls.py")
    root = calls.parents[1]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", root / "pyproject.toml", calls],
        capture_output=True, text=True, cwd=root, env={**os.environ, "MYPYPATH": str(root)},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
