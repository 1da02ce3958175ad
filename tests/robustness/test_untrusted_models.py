"""Loading a model that somebody crafted reads and writes nothing but that model."""

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_rnnkit as rk
from tests.robustness.examples import examples

WORDS = ["", "[UNK]", "the", "cat"]
ROWS = {"the": [0.5, -1.0], "cat": [0.25, 2.0]}


class Watch:
    """Notes whatever the process does with a path of these, and does not let it."""

    def __init__(self):
        self.traps = ()
        self.touched = []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.traps and event.startswith(("open", "os.", "shutil.", "subprocess.")):
            for argument in arguments:
                text = os.fsdecode(argument) if isinstance(argument, bytes) else str(argument)
                if text.startswith(self.traps):
                    self.touched.append((event, text))
                    raise PermissionError(f"{event} {text}")


@pytest.fixture(scope="module")
def watch():
    return Watch()


def crafted(plain, path, change):
    """`plain` with the entries of its embedding's config changed."""
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(path, "w") as other:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "config.json":
                config = json.loads(data)
                (layer,) = (
                    entry
                    for entry in config["config"]["layers"]
                    if entry["class_name"] == "GloVeEmbedding"
                )
                change(layer)
                data = json.dumps(config)
            other.writestr(name, data)


def entries(**changed):
    return lambda layer: layer["config"].update(changed)


def unbuilt(**changed):
    """Without what Keras builds a layer from, so that it is built when it is called."""

    def change(layer):
        layer["config"].update(changed)
        del layer["build_config"]

    return change


ATTACKS = {
    "words as a list": lambda trap, made: entries(vocabulary=WORDS, file=trap, cache=made),
    "words as a dict": lambda trap, made: entries(
        vocabulary={word: row for row, word in enumerate(WORDS)}, file=trap, cache=made
    ),
    "built when called": lambda trap, made: unbuilt(vocabulary=WORDS, file=trap, cache=made),
    "words by path": lambda trap, made: entries(vocabulary=trap, file=trap, cache=made),
    "words by path, unbuilt": lambda trap, made: unbuilt(vocabulary=trap, file=trap, cache=made),
    "no rows": lambda trap, made: unbuilt(vocabulary=trap, input_dim=None, file=trap),
    "a cache alone": lambda trap, made: unbuilt(vocabulary=WORDS, cache=made),
    "words of a matrix": lambda trap, made: unbuilt(vocabulary=WORDS, file=trap, words=trap),
    "counts": lambda trap, made: unbuilt(vocabulary=WORDS, counts=trap, num_words=3, oov=trap),
    "no dimension": lambda trap, made: unbuilt(vocabulary=WORDS, file=trap, dim=None),
    "trained apart": lambda trap, made: unbuilt(
        vocabulary=WORDS, file=trap, cache=made, freeze_found=True, free_rows=2
    ),
    "quantized": lambda trap, made: unbuilt(
        vocabulary=WORDS, file=trap, cache=made, dtype="int8_from_float32"
    ),
}


@pytest.fixture
def model():
    inputs = layers.Input((3,), dtype="int32")
    outputs = layers.LSTM(2)(rk.GloVeEmbedding(ROWS, WORDS)(inputs))
    return keras.Model(inputs, outputs)


# Keras warns where the weights of a crafted model do not fit its config.
@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.backends
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_crafted_model_opens_and_makes_nothing(tmp_path, watch, model, attack):
    trap, made = str(tmp_path / "trap"), str(tmp_path / "made")
    Path(trap).write_text("the 7 7\ncat 7 7\n")
    model.save(tmp_path / "plain.keras")
    path = tmp_path / "crafted.keras"
    crafted(tmp_path / "plain.keras", path, ATTACKS[attack](trap, made))
    watch.touched.clear()
    watch.traps = (trap, made)
    try:
        with contextlib.suppress(ValueError, TypeError):  # refused, which is as good
            use(path, tmp_path / "again.keras")
    finally:
        watch.traps = ()
    assert watch.touched == []
    assert not Path(made).exists()


def use(path, other):
    """What is done with a model that came from somebody: load it, look at it, copy it, run it."""
    model = keras.saving.load_model(path, safe_mode=True)
    (layer,) = (layer for layer in model.layers if isinstance(layer, rk.GloVeEmbedding))
    with contextlib.suppress(ValueError):  # the words are not known
        assert layer.vocabulary == tuple(WORDS)
    model.predict(np.zeros((1, 3), "int32"), verbose=0)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    clone.save(other)
    keras.saving.load_model(other)
    keras.models.model_from_json(model.to_json())
    layer.get_config()
    repr(layer.coverage)


def test_a_config_with_anything_in_it_opens_and_makes_nothing(tmp_path, watch, model):
    trap, made = str(tmp_path / "trap"), str(tmp_path / "made")
    Path(trap).write_text("the 7 7\ncat 7 7\n")
    model.save(tmp_path / "plain.keras")
    path = tmp_path / "crafted.keras"
    values = [
        trap,
        made,
        WORDS,
        dict.fromkeys(WORDS, 1),
        None,
        0,
        -1,
        2,
        0.5,
        True,
        [],
        [trap],
        "x",
    ]
    names = [*rk.GloVeEmbedding(ROWS, WORDS).get_config(), "num_words", "oov_token", "lora_rank"]
    for rng in examples(12):
        changed = {
            names[rng.integers(len(names))]: values[rng.integers(len(values))]
            for _ in range(rng.integers(1, 6))
        }
        change = unbuilt if rng.random() < 0.5 else entries
        if rng.random() < 0.5:
            changed = {"vocabulary": WORDS, "file": trap, "cache": made, **changed}
        crafted(tmp_path / "plain.keras", path, change(**changed))
        watch.touched.clear()
        watch.traps = (trap, made)
        try:
            # Keras refuses what makes no sense with errors of many kinds.
            with contextlib.suppress(Exception):
                use(path, tmp_path / "again.keras")
        finally:
            watch.traps = ()
        assert watch.touched == [], changed
        assert not Path(made).exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_named_by_a_model_hangs_nobody(tmp_path, model):
    """The same without the watch, in a process that can be given up."""
    os.mkfifo(tmp_path / "pipe")
    model.save(tmp_path / "plain.keras")
    path = tmp_path / "crafted.keras"
    pipe = str(tmp_path / "pipe")
    crafted(tmp_path / "plain.keras", path, unbuilt(vocabulary=WORDS, file=pipe, cache=True))
    code = "import sys, keras, keras_rnnkit; print(keras.saving.load_model(sys.argv[1]).name)"
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(rk.__file__).parents[1],
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_the_watch_sees_what_it_is_there_for(tmp_path, watch):
    """The layer that reads, made by its user, is caught by the same means."""
    trap, made = str(tmp_path / "trap"), str(tmp_path / "made")
    Path(trap).write_text("the 7 7\ncat 7 7\n")
    for options in ({"file": trap}, {"file": ROWS, "vocabulary": trap}):
        watch.touched.clear()
        watch.traps = (trap, made)
        try:
            with pytest.raises(PermissionError):
                rk.GloVeEmbedding(**{"vocabulary": WORDS, "cache": made, **options}).build()
        finally:
            watch.traps = ()
        assert watch.touched[0][0] == "open"
