"""Arguments and weights survive: configs, clones, files read in a new process, Keras's layers."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.cases import (
    BATCH,
    CELLS,
    FEATURES,
    TIME,
    UNITS,
    arrays,
    inputs,
    make,
    ready,
    weights_of,
)

# Keras's own `save` converts TensorFlow's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LAYERS = [
    ("LSTM", {"use_cudnn": False, "implementation": 1, "unit_forget_bias": False}),
    ("GRU", {"use_cudnn": False, "implementation": 1, "reset_after": False}),
    ("SimpleRNN", {"use_cudnn": False, "activation": "relu"}),
]
ADDED = {
    "return_state_sequences": True,
    "stateful": True,
    "save_states": True,
    "seed": 5,
    "dropout": 0.1,
    "zero_output_for_mask": True,
    "activity_regularizer": "l2",
}


def settings(layer, options):
    found = {name: getattr(layer, name, None) for name in options if name not in {"seed"}}
    found["implementation"] = getattr(layer.cell, "implementation", None)
    found["activity_regularizer"] = type(layer.activity_regularizer)
    found["activation"] = layer.activation
    return found | {"seed": layer.cell.seed}


@pytest.mark.backends
@pytest.mark.parametrize(("name", "options"), LAYERS)
def test_every_argument_survives(name, options):
    options = {**options, **ADDED}
    layer = getattr(rk, name)(3, **options)
    wanted = settings(layer, options)
    assert wanted["seed"] == 5
    assert wanted["use_cudnn"] is False
    assert wanted["activity_regularizer"] is keras.regularizers.L2
    again = type(layer).from_config(layer.get_config())
    assert settings(again, options) == wanted
    model = keras.Sequential([keras.Input((TIME, FEATURES), batch_size=BATCH), layer])
    assert settings(keras.models.clone_model(model).layers[0], options) == wanted
    both = rk.Bidirectional(layer)
    for wrapper in (both, rk.Bidirectional.from_config(both.get_config())):
        for direction in wrapper.directions():
            kept = settings(direction, options)
            # Keras's Bidirectional sets it by `return_sequences`.
            assert kept | {"zero_output_for_mask": True} == wanted
        assert wrapper.backward_layer.go_backwards


NEW_PROCESS = """
import sys
import keras, numpy as np
import keras_rnnkit as rk
model = keras.models.load_model(sys.argv[1])
model.load_weights(sys.argv[2])
x = np.load(sys.argv[3])
np.savez(sys.argv[4], *model.predict(x, verbose=0))
print([type(layer).__module__ for layer in model.layers[1:]])
print([getattr(layer, "use_cudnn", None) for layer in model.layers])
"""


def test_a_saved_model_runs_the_same_in_a_new_process(tmp_path):
    sequences = keras.Input((TIME, FEATURES))
    options = {"return_sequences": True, "return_state_sequences": True}
    _, h, c = rk.LSTM(3, use_cudnn=False, **options)(sequences)
    both = rk.Bidirectional(rk.GRU(2, use_cudnn=False, **options))(h)
    any_cell = rk.RNN([rk.LSTMCell(2, return_state=True), keras.layers.GRUCell(2)], **options)(c)
    simple = rk.SimpleRNN(2, **options)(c)
    model = keras.Model(sequences, keras.tree.flatten([c, both, any_cell, simple]))
    x = inputs()
    wanted = model.predict(x, verbose=0)
    files = [tmp_path / name for name in ("m.keras", "m.weights.h5", "x.npy", "y.npz")]
    model.save(files[0])
    model.save_weights(files[1])
    np.save(files[2], x)
    run = subprocess.run(
        [sys.executable, "-c", NEW_PROCESS, *map(str, files)],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    modules, use_cudnn = run.stdout.splitlines()[-2:]
    assert modules.count("keras_rnnkit") == 4
    assert use_cudnn == "[None, False, None, None, 'auto']"
    with np.load(files[3]) as found:
        for one, other in zip(found.values(), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def model_around(layer):
    return keras.Sequential([keras.Input((TIME, FEATURES)), layer])


@pytest.mark.parametrize("cell", CELLS)
def test_weight_files_go_to_and_from_keras_layers(cell, tmp_path):
    x = inputs()
    pairs = [
        (make(cell), make(cell, library=keras.layers)),
        (rk.Bidirectional(make(cell)), keras.layers.Bidirectional(make(cell, keras.layers))),
        (rk.RNN(keras.layers.LSTMCell(UNITS)), keras.layers.RNN(keras.layers.LSTMCell(UNITS))),
    ]
    for pair in pairs:
        ours, theirs = (model_around(layer) for layer in pair)
        for source, target in ((ours, theirs), (theirs, ours)):
            source.set_weights(
                [np.random.default_rng(1).normal(size=w.shape) for w in source.weights]
            )
            source.save_weights(tmp_path / "any.weights.h5")
            target.set_weights([0 * w for w in target.get_weights()])
            target.load_weights(tmp_path / "any.weights.h5")
            np.testing.assert_allclose(
                arrays(target(x))[0], arrays(source(x))[0], rtol=1e-5, atol=1e-6
            )


@pytest.mark.backends
def test_weights_go_to_and_from_keras_layers_by_set_weights():
    for cell in CELLS:
        ours, theirs = ready(cell), ready(cell, library=keras.layers)
        theirs.set_weights(ours.get_weights())
        ours.set_weights(theirs.get_weights())
        for one, other in zip(ours.get_weights(), weights_of(cell), strict=True):
            np.testing.assert_array_equal(one, other)
        assert [w.path.split("/", 1)[1] for w in ours.weights] == [
            w.path.split("/", 1)[1] for w in theirs.weights
        ]
