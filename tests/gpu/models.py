"""Every form of model in `predict`, `evaluate`, `fit` and `train_on_batch`."""

import tempfile
from functools import partial
from pathlib import Path

import keras
import numpy as np

import keras_rnnkit as rk
from tests.gpu import machine
from tests.recurrent.heads import HEADS

BATCH, FEATURES = 8, 6
WORDS = ["", "[UNK]", *(f"word{index}" for index in range(18))]
# Behind every result; the others, which are slower to build, stand behind the last one, c or h.
SIMPLE = ("Dense", "pooling", "slice")
# Keras's own LSTM refuses a mask with holes on TensorFlow; a part of unknown length has no size.
NEED_ALL_KNOWN = ("Keras's LSTM", "Flatten of a part")


class Shape:
    """Steps and units: small on the CPU; on JAX as many units as its kernel is taken from."""

    def __init__(self, cpu):
        self.time = 6 if cpu else 40
        self.units = 4 if cpu else 256 if machine.BACKEND == "jax" else 32


def sequential(*layers):
    """Build a Sequential model of (batch, time, features) from these layers and a Dense one."""

    def build(shape):
        made = [layer(shape) for layer in layers]
        start = keras.Input((shape.time, FEATURES))
        return keras.Sequential([start, *made, keras.layers.Dense(1)])

    return build


def layer(kind, **options):
    return lambda shape: getattr(rk, kind)(shape.units, **options)


def bidirectional(kind, **options):
    return lambda shape: rk.Bidirectional(getattr(rk, kind)(shape.units, **options))


EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}


def functional(kind, known):
    """Build a model with layers behind each result.

    Either batch and time are known and all steps count, or neither is and the mask has holes.
    """

    def build(shape):
        time, batch = (shape.time, BATCH) if known else (None, None)
        start = keras.Input((time, FEATURES), batch_size=batch)
        x = start if known else keras.layers.Masking()(start)
        *wrapper, cell = kind.split()
        found = (bidirectional if wrapper else layer)(cell, **EVERYTHING)(shape)(x)
        sequences = [each for each in found if len(each.shape) == 3]
        ends = [each for each in found if len(each.shape) == 2]
        for name, head in HEADS.items():
            if known or name not in NEED_ALL_KNOWN:
                behind = sequences if name in SIMPLE else sequences[-1:]
                ends += [y if len(y.shape) == 2 else y[:, -1] for y in map(head, behind)]
        return keras.Model(start, keras.layers.Dense(1)(keras.layers.Concatenate()(ends)))

    return build


def encoder_and_decoder(shape):
    start = keras.Input((None, FEATURES))
    _, *states = rk.LSTM(shape.units, return_state=True)(start)
    found = rk.LSTM(shape.units, return_sequences=True)(start, initial_state=states)
    return keras.Model(start, keras.layers.TimeDistributed(keras.layers.Dense(1))(found))


def stateful(shape):
    start = keras.Input((shape.time, FEATURES), batch_size=BATCH)
    layers = [
        rk.LSTM(shape.units, stateful=True, return_sequences=True),
        rk.GRU(shape.units, stateful=True),
    ]
    return keras.Sequential([start, *layers, keras.layers.Dense(1)])


def time_distributed(shape):
    start = keras.Input((3, shape.time, FEATURES))
    inner = keras.layers.TimeDistributed(rk.LSTM(shape.units))
    return keras.Sequential([start, inner, rk.GRU(shape.units), keras.layers.Dense(1)])


def stacked_cells(shape):
    cells = [rk.LSTMCell(shape.units), rk.GRUCell(shape.units)]
    return sequential(lambda shape: rk.RNN(cells))(shape)


def glove_in_front(shape):
    """Word vectors from a file made on the spot, and the mask of their padding."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "vectors.txt")
        rng = np.random.default_rng(3)
        lines = [" ".join([word, *map(str, rng.normal(size=4).round(3))]) for word in WORDS[2:]]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        start = keras.Input((shape.time,), dtype="int32")
        x = rk.GloVeEmbedding(file, WORDS, trainable=True)(start)
        _, h, c = rk.LSTM(shape.units, return_state_sequences=True)(x)
        both = keras.layers.Concatenate()([h, c])
        return keras.Model(start, keras.layers.Dense(1)(rk.GRU(shape.units)(both)))


SEQUENCES = {"return_sequences": True}
FORMS = {
    "Sequential LSTM": sequential(layer("LSTM")),
    "LSTM, layers behind each result, T known": functional("LSTM", True),
    "LSTM, layers behind each result, T unknown, holes": functional("LSTM", False),
    "stateful LSTM and GRU": stateful,
    "Bidirectional LSTM": sequential(bidirectional("LSTM")),
    "LSTM, GRU, SimpleRNN in a stack": sequential(
        layer("LSTM", **SEQUENCES), layer("GRU", **SEQUENCES), layer("SimpleRNN")
    ),
    "GloVe in front": glove_in_front,
    "dropout": sequential(
        layer("LSTM", dropout=0.3, **SEQUENCES),
        bidirectional("GRU", dropout=0.3, **SEQUENCES),
        layer("SimpleRNN", dropout=0.3, recurrent_dropout=0.3),
    ),
    "TimeDistributed LSTM": time_distributed,
    "encoder and decoder": encoder_and_decoder,
    "mixed_float16": functional("LSTM", True),
    "mixed_bfloat16": functional("LSTM", True),
    "Sequential GRU": sequential(layer("GRU")),
    "Sequential SimpleRNN": sequential(layer("SimpleRNN")),
    "Bidirectional GRU": sequential(bidirectional("GRU")),
    "Bidirectional SimpleRNN": sequential(bidirectional("SimpleRNN")),
    "stacked cells": stacked_cells,
    **{
        f"{kind}, layers behind each result, T {'known' if known else 'unknown, holes'}": (
            functional(kind, known)
        )
        for kind in ("GRU", "SimpleRNN", "Bidirectional LSTM", "Bidirectional GRU")
        for known in (True, False)
    },
    "mixed_float16 Bidirectional": functional("Bidirectional LSTM", False),
    "mixed_bfloat16 Bidirectional": functional("Bidirectional LSTM", False),
}
# Half precision keeps 11 or 8 bits; TF32 11, and compiled code may add in another order.
TOLERANCES = {"float32": 5e-3, "mixed_float16": 2e-2, "mixed_bfloat16": 1e-1}


def items(cpu):
    machine.allow_tensor_float_32(True)
    for name, build in FORMS.items():
        yield name, partial(exercise, name, build, Shape(cpu), cpu)


def exercise(name, build, shape, cpu):
    """Run a model in every mode: finite, as when it is called, and every weight moves."""
    policy = name.split()[0] if name.startswith("mixed") else "float32"
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build(shape)
        return in_every_mode(model, inputs_of(model, shape), policy, must_fuse(name, cpu))
    finally:
        keras.config.set_dtype_policy(before)


def must_fuse(name, cpu):
    """Whether every layer, ours and Keras's, must run cuDNN's kernel."""
    if cpu or machine.BACKEND == "jax" or name == "stacked cells":
        return False
    # TensorFlow's op knows no bfloat16.
    return machine.BACKEND != "tensorflow" or "bfloat16" not in name


def inputs_of(model, shape):
    """Two batches for a model; a third of the steps, or words, are padding at any place."""
    rng = np.random.default_rng(2)
    axes = [axis or shape.time for axis in model.input_shape[1:]]
    if model.inputs[0].dtype == "int32":
        x = rng.integers(1, len(WORDS), (2 * BATCH, *axes)).astype("int32")
        x[rng.random(x.shape) < 0.3] = 0
    else:
        x = rng.normal(size=(2 * BATCH, *axes)).astype("float32")
        x[rng.random(x.shape[:-1]) < 0.3] = 0
    x[:, -1] = x[:, -1] + (x[:, -1] == 0).astype(x.dtype)
    return x


def carries(model):
    """Whether a layer carries its states from batch to batch."""
    return any(one.stateful for one in model.layers if isinstance(one, keras.layers.RNN))


def in_every_mode(model, x, policy, fused):
    model.compile("adam", "mse")
    paths = [one.path for one in rk.explain_path(model, strict=fused).layers]
    options = {"batch_size": BATCH, "verbose": 0}
    found = model.predict(x, **options)
    if carries(model):
        rk.reset_states(model)
    called = keras.ops.convert_to_numpy(keras.ops.cast(model(x[:BATCH]), "float32"))
    difference = float(np.abs(found[:BATCH] - called).max())
    assert found.shape == (len(x), *called.shape[1:]), f"predict returned {found.shape}"
    assert difference <= TOLERANCES[policy], f"predict is {difference:.1e} off the model called"
    y = np.random.default_rng(4).normal(size=found.shape).astype("float32")
    before = [keras.ops.convert_to_numpy(keras.ops.copy(v)) for v in model.trainable_variables]
    losses = model.fit(x, y, epochs=3, shuffle=False, **options).history["loss"]
    losses += [float(model.train_on_batch(x[:BATCH], y[:BATCH])), model.evaluate(x, y, **options)]
    assert np.isfinite([*losses, found.sum()]).all(), f"losses {losses}"
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(keras.ops.convert_to_numpy(keras.ops.copy(variable)), old)
    ]
    assert not still, f"training left {still} as they were"
    counted = {path: paths.count(path) for path in sorted(set(paths))}
    return f"paths {counted}, difference {difference:.0e}, losses {losses[0]:.3f}, {losses[-1]:.3f}"
