"""What holds of every layer whose step is known in NumPy: checks that tests of several share.

A step is `step(x_t, states, weights) -> (states, gates)`, or a kind of cell that `own_cells` knows.
"""

import os
import subprocess
import sys

import keras
import numpy as np

import keras_rnnkit as rk
from tests.recurrent.autodiff import gradients, with_weights
from tests.recurrent.cases import FEATURES, TIME, arrays, inputs, mask_of
from tests.recurrent.own_cells import run
from tests.recurrent.test_gradients import DTYPE, TOLERANCE, finite_differences, weighted

EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}


def same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


def starts(sizes, batch=5, dtype="float32"):
    rng = np.random.default_rng(11)
    return [rng.normal(size=(batch, size)).astype(dtype) for size in sizes]


def zeros(sizes):
    return [np.zeros((5, size), "float32") for size in sizes]


def shown(h, mask):
    """The output of a state: zero before the first valid step."""
    return h if mask is None else h * (np.cumsum(mask, 1) > 0)[..., None]


def check_results(layer, step, weights, sizes, mask):
    """Of a layer that returns everything: outputs, last states, states at every step."""
    x, states, mask = inputs(), starts(sizes), mask_of(mask)
    wanted, _ = run(step, weights, x, states, mask)
    found = arrays(layer(x, initial_state=states, mask=mask))
    same(found, [shown(wanted[0], mask), *(each[:, -1] for each in wanted), *wanted])


def check_trace(layer, step, weights, sizes, names, mask="holes"):
    """States and gates by name, (state names, gate names), as `trace` shows them."""
    x, mask = inputs(), mask_of(mask)
    wanted, gates = run(step, weights, x, zeros(sizes), mask)
    traced = rk.trace(layer, x, mask=mask)[layer.name]
    assert (tuple(traced.states), tuple(traced.gates)) == names
    same(traced.states.values(), wanted)
    counts = np.ones(x.shape[:2], bool) if mask is None else mask
    same([gate[counts] for gate in traced.gates.values()], [gates[n][counts] for n in names[1]])
    return traced


def check_gradients(layer, step, weights, sizes):
    """Those of the state sequences by inputs, weights and initial states."""
    x, mask = inputs(2, 4, FEATURES, "float64"), mask_of("holes")[:2, :4]
    weights, states = [w.astype("float64") for w in weights], starts(sizes, 2, "float64")
    rng, count = np.random.default_rng(2), len(weights)
    shares = [rng.normal(size=(2, 4, size)) for size in sizes]

    def wanted():
        found, _ = run(step, weights, x, states, mask)
        return sum(np.sum(a * b) for a, b in zip(found, shares, strict=True))

    def loss(x, *rest):
        tensors, initial = rest[:count], list(rest[count:])
        _, *found = with_weights(layer, tensors, x, initial_state=initial, mask=mask)
        return weighted(found, shares)

    values = [x, *weights, *states]
    found = gradients(loss, [value.astype(DTYPE) for value in values])
    for one, other in zip(found, finite_differences(wanted, values), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def check_other_ways(make, output, mask=None):
    """Backwards, in two batches and in half precision: the same outputs. The carrying layer."""
    x, counts = inputs(), np.ones((5, TIME), bool) if mask is None else mask
    turned = None if mask is None else mask[:, ::-1]
    back = make(go_backwards=True, return_sequences=True)(x[:, ::-1], mask=turned)
    same(arrays(back), [output])
    carried, found = make(stateful=True, return_sequences=True), []
    for part in (slice(0, 3), slice(3, TIME)):
        masked = None if mask is None else mask[:, part]
        found += arrays(carried(x[:, part], mask=masked))
    found = np.concatenate(found, axis=1)
    same([found[counts], found[:, -1]], [output[counts], output[:, -1]])
    half = make(dtype="mixed_float16", return_sequences=True)(x, mask=mask)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(arrays(half)[0].astype("float32"), output, atol=0.02)
    return carried


def moved_by_training(model):
    """For each weight, whether a batch of training has changed it."""
    model.compile("adam", "mse", run_eagerly=keras.backend.backend() != "jax")
    before = arrays(model.weights)
    model.fit(inputs(), np.ones((5, 1), "float32"), verbose=0)
    return [bool((a != b).any()) for a, b in zip(before, arrays(model.weights), strict=True)]


def check_saved(layers, folder, holds="True"):
    """A saved model of these layers gives the same in a new process, where `holds` is true."""
    x, sequences = inputs(), keras.Input((TIME, FEATURES))
    model = keras.Model(sequences, [layer(sequences) for layer in layers])
    np.save(folder / "x.npy", x)
    model.save(folder / "model.keras")
    program = (
        "import sys, numpy as np, keras, tests.recurrent.own_cells\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        f"assert {holds}\n"
        "y = model.predict(np.load(sys.argv[1] + '/x.npy'), verbose=0)\n"
        "np.savez(sys.argv[1] + '/y.npz', *keras.tree.flatten(y))\n"
    )
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    wanted = keras.tree.flatten(model.predict(x, verbose=0))
    with np.load(folder / "y.npz") as found:
        same(found.values(), wanted)
    return model
