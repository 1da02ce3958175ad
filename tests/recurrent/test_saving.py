"""Arguments and weights survive: configs, clones, files read in a new process, Keras's layers."""

import json
import os
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests import reference
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
    found = {name: getattr(layer, name, None) for name in options if name != "seed"}
    found["implementation"] = getattr(layer.cell, "implementation", None)
    found["activity_regularizer"] = type(layer.output_regularizer)
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


def keras_2_config(cell, name, **options):
    """A layer as TensorFlow 2.9 wrote it."""
    config = {
        "name": name,
        "trainable": True,
        "dtype": "float32",
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "time_major": False,
        "units": UNITS,
        "activation": "tanh",
        "use_bias": True,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "recurrent_initializer": {
            "class_name": "Orthogonal",
            "config": {"gain": 1.0, "seed": None},
        },
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.25}},
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}},
        "recurrent_constraint": None,
        "bias_constraint": None,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
    }
    if cell == "SimpleRNN":
        del config["time_major"]
    else:
        config |= {"recurrent_activation": "sigmoid", "implementation": 1}
    if cell == "LSTM":
        config["unit_forget_bias"] = True
    elif cell.startswith("GRU"):
        config["reset_after"] = cell == "GRU"
    return {"class_name": cell.split()[0], "config": config | options}


def write_keras_2(path, cell, both, **options):
    """A whole model of one layer in an .h5 file of Keras 2; return its weights."""
    layer = keras_2_config(cell, "inner", **options)
    names, weights = ["outer/inner"], weights_of(cell)
    if both:
        config = {"name": "outer", "trainable": True, "dtype": "float32"}
        config |= {"layer": layer, "merge_mode": "concat"}
        layer = {"class_name": "Bidirectional", "config": config}
        names, weights = ["outer/forward", "outer/backward"], weights + weights_of(cell, seed=9)
    entry = {"batch_input_shape": [None, TIME, FEATURES], "dtype": "float32"}
    entry |= {"sparse": False, "ragged": False, "name": "input_1"}
    layers = [{"class_name": "InputLayer", "config": entry}, layer]
    model = {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}
    paths = [f"{n}/{w}:0" for n in names for w in ("kernel", "recurrent_kernel", "bias")]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model)
        groups = file.create_group("model_weights")
        for attributes in (file.attrs, groups.attrs):
            attributes.update({"keras_version": "2.9.0", "backend": "tensorflow"})
        groups.attrs["layer_names"] = [layer["config"]["name"].encode()]
        group = groups.create_group(layer["config"]["name"])
        group.attrs["weight_names"] = [each.encode() for each in paths]
        for name, value in zip(paths, weights, strict=True):
            group.create_dataset(name, data=value)
    return weights


OURS = {kind: getattr(rk, kind) for kind in ("SimpleRNN", "LSTM", "GRU", "Bidirectional")}


@pytest.mark.backends
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_whole_model_of_keras_2(cell, both, tmp_path):
    path = tmp_path / "old.h5"
    weights = write_keras_2(path, cell, both)
    model = keras.models.load_model(path, custom_objects=OURS)
    layer = model.layers[-1]
    assert type(layer) is (rk.Bidirectional if both else OURS[cell.split()[0]])
    inner = layer.forward_layer if both else layer
    assert isinstance(inner, OURS[cell.split()[0]])
    assert inner.cell.kernel_regularizer.l2 == pytest.approx(0.25)
    assert inner.cell.kernel_constraint.max_value == 2
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    x = inputs()
    found = arrays(model(x))[0]
    wanted = reference.run(cell, weights[:3], x)["outputs"][:, -1]
    np.testing.assert_allclose(found[:, :UNITS], wanted, rtol=1e-5, atol=2e-6)


def test_time_first_is_refused(tmp_path):
    write_keras_2(tmp_path / "old.h5", "LSTM", False, time_major=True)
    with pytest.raises(ValueError, match=r"received time_major=True\. Transpose"):
        keras.models.load_model(tmp_path / "old.h5", custom_objects=OURS)
