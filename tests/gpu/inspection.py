"""What looks inside a model, and what saves it, where the layers run on a GPU."""

import tempfile
from functools import partial
from pathlib import Path

import keras
import numpy as np

import keras_rnnkit as rk
from tests import reference
from tests.gpu import machine
from tests.gpu.models import BATCH, FEATURES, FORMS, TOLERANCES, Shape, carries, inputs_of

SAVED = [
    "LSTM, layers behind each result, T unknown, holes",
    "Bidirectional LSTM",
    "stateful LSTM and GRU",
    "GloVe in front",
]


def items(cpu):
    machine.allow_tensor_float_32(True)
    shape = Shape(cpu)
    for check in (trace, gradient_flow, monitor):
        yield check.__name__, partial(check, shape)
    for name in SAVED:
        yield f"save and reload: {name}", partial(save_and_reload, FORMS[name], shape)


def model_of(shape):
    """An LSTM under a Masking layer, both directions of a GRU, and a SimpleRNN."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((shape.time, FEATURES)),
            keras.layers.Masking(),
            rk.LSTM(shape.units, return_sequences=True, name="lstm"),
            rk.Bidirectional(rk.GRU(shape.units, return_sequences=True), name="both"),
            rk.SimpleRNN(shape.units, name="simple"),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model, inputs_of(model, shape), np.ones((2 * BATCH, 1), "float32")


def trace(shape):
    """The LSTM's states and gates are those of the equations, and all others are finite."""
    model, x, _ = model_of(shape)
    traced = rk.trace(model, x, batch_size=BATCH, progress=False)
    assert len(traced) == 4, f"traced {list(traced)}"
    weights = [each.astype("float64") for each in model.get_layer("lstm").get_weights()]
    mask = (x != 0).any(axis=-1)
    right = reference.run("LSTM", weights, x.astype("float64"), mask=mask)
    found = traced["lstm"]
    differences = [
        np.abs(found[name] - wanted).max()
        for name, wanted in zip("hc", right["states"], strict=True)
    ]
    for name, wanted in right["gates"].items():
        differences.append(np.abs(found[name] - wanted)[mask].max())
    assert max(differences) <= TOLERANCES["float32"], f"differences {differences}"
    for key, one in traced.items():
        assert all(np.isfinite(state).all() for state in one.states.values()), key
    return f"{', '.join(traced)}; largest difference {max(differences):.0e}"


def gradient_flow(shape):
    """Norms for every layer and step, which are finite and reach the last step."""
    model, x, y = model_of(shape)
    flow = rk.gradient_flow(model, x, y, batch_size=BATCH, progress=False)
    keys = list(rk.trace(model, x, batch_size=BATCH, progress=False))
    last = []
    for key in keys:
        for name, norms in flow[key].norms.items():
            assert norms.shape == (shape.time,), f"{key}/{name} has shape {norms.shape}"
            assert 0 < norms.max() < np.inf, f"{key}/{name}: {norms}"
            last.append(f"{key}/{name} {norms.max():.1e}")
    return f"largest norms: {', '.join(last)}"


def monitor(shape):
    """Its keys stand in the history, and it does not stop a healthy run."""
    model, x, y = model_of(shape)
    watch = rk.RecurrentMonitor(x[:4], y[:4])
    history = model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0, callbacks=[watch]).history
    wanted = {"loss", "lstm/f_high", "lstm/half_life", "simple/n_low"}
    assert wanted <= set(history), f"the history has {sorted(history)}"
    assert not watch.message, watch.message
    return f"{len(history)} keys, half-life of the LSTM {history['lstm/half_life'][-1]:.3g}"


def save_and_reload(build, shape):
    """A reloaded model, and one that reads the weights alone, predict what the first did."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = build(shape)
    model.compile("adam", "mse")
    x = inputs_of(model, shape)
    options = {"batch_size": BATCH, "verbose": 0}
    model.fit(x, np.ones_like(model.predict(x, **options)), **options)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        whole, weights = Path(folder, "model.keras"), Path(folder, "model.weights.h5")
        model.save(whole)
        model.save_weights(weights)
        bare = build(shape)
        bare.load_weights(weights)
        for each in (model, keras.saving.load_model(whole), bare):
            if carries(model):
                rk.reset_states(each)
            found.append(each.predict(x, **options))
    differences = [float(np.abs(each - found[0]).max()) for each in found[1:]]
    # On a GPU another algorithm may be chosen for the same product, with TF32 in it.
    assert max(differences) <= 1e-3, f"differences {differences}"
    return f"largest difference {max(differences):.0e}"
