"""What our layers cost beside Keras's own, in the same run: the table of docs/benchmarks/gpu.md."""

import itertools
import time
import warnings
from functools import partial

import keras
import numpy as np

import keras_rnnkit as rk
from tests.benchmarks.recurrent import calls_for
from tests.gpu import machine

CELLS = ("LSTM", "GRU", "SimpleRNN")  # in order of importance
SIZES = [(128, 240, 14, 32), (256, 200, 128, 256), (64, 1000, 64, 512)]
SMALL = [(4, 9, 3, 4)]
# Where JAX's two paths are compared: (batch, steps, features), and units.
SWEEP = [(128, 240, 14), (32, 100, 14), (256, 200, 128)]
UNITS = [32, 64, 128, 256, 512]
# A measurement ends after so many rounds, or after three when so many seconds have gone.
ROUNDS, SECONDS = 15, 5.0


def items(cpu):
    machine.allow_tensor_float_32(True)
    sizes = SMALL if cpu else SIZES
    for cell in CELLS:
        for size in sizes:
            yield f"{cell} {size}", partial(row, cell, size)
        if machine.BACKEND == "torch":
            yield f"one chunk, {cell}", partial(one_chunk, cell)
        elif machine.BACKEND == "tensorflow":
            yield f"nodes of a train step, {cell}", partial(graph_nodes, cell)
        elif cell == "LSTM":
            for (batch, steps, features), units in itertools.product(SWEEP, UNITS):
                size = (4, 9, 3, units // 16) if cpu else (batch, steps, features, units)
                yield f"scan and cuDNN, LSTM {size}", partial(both_paths, size, cpu)


def measured(calls):
    """Seconds of each call, one a round; each round has an order drawn anew."""
    rng = np.random.default_rng(0)
    seconds = {key: [] for key in calls}
    for call, wait in calls.values():
        for _ in range(2):
            wait(call())
    began = time.perf_counter()
    for done in range(ROUNDS):
        if done >= 3 and time.perf_counter() - began > SECONDS:
            break
        for index in rng.permutation(len(calls)):
            key, (call, wait) = list(calls.items())[index]
            start = time.perf_counter()
            wait(call())
            seconds[key].append(time.perf_counter() - start)
    return {key: np.array(found) for key, found in seconds.items()}


def timed(layers, size):
    """Seconds of a forward pass and a training step: {(name, "forward" or "step"): rounds}.

    `layers` holds a layer and its mask by name.
    """
    batch, steps, features, _ = size
    values = np.random.default_rng(1).normal(size=(batch, steps, features)).astype("float32")
    x = keras.ops.convert_to_tensor(values)
    calls = {}
    for name, (layer, mask) in layers.items():
        layer.build(x.shape)
        forward, step, wait = calls_for(layer, x, mask)
        calls[name, "forward"], calls[name, "step"] = (forward, wait), (step, wait)
    return measured(calls)


def row(cell, size):
    """One row of the table, and our masked calls beside our plain ones."""
    keras.utils.clear_session()
    batch, steps, _, units = size
    holes = np.random.default_rng(2).random((batch, steps)) < 0.7
    ours = partial(getattr(rk, cell), units, return_sequences=True)
    layers = {
        "Keras": (getattr(keras.layers, cell)(units, return_sequences=True), None),
        "ours": (ours(), None),
        "states": (ours(return_state_sequences=True), None),
        "holes": (ours(), holes),
        "loop": (ours(use_cudnn=False), None),
    }
    seconds = timed(layers, size)

    def ratio(name, base):
        pairs = [np.median(seconds[name, c] / seconds[base, c]) for c in ("forward", "step")]
        return " / ".join(f"{each:.2f}" for each in pairs)

    base = " / ".join(f"{1e3 * np.median(seconds['Keras', c]):.3g}" for c in ("forward", "step"))
    cells = [ratio(name, "Keras") for name in list(layers)[1:]]
    line = [machine.BACKEND, ", ".join(map(str, size)), f"{cell} ({base} ms)", *cells]
    path = rk.explain_path(layers["ours"][0]).layers[0].path
    rounds = len(seconds["Keras", "step"])
    return (
        f"{path}, {rounds} rounds, masked to plain {ratio('holes', 'ours')}, states to plain "
        f"{ratio('states', 'ours')}\n| {' | '.join(line)} |"
    )


def both_paths(size, cpu):
    """JAX: seconds of the scan and of cuDNN, and which one the layer takes by itself."""
    keras.utils.clear_session()
    kernel, forced = ("scan again", "auto") if cpu else ("cudnn", True)
    layers = {
        "scan": (rk.LSTM(size[-1], return_sequences=True, use_cudnn=False), None),
        kernel: (rk.LSTM(size[-1], return_sequences=True, use_cudnn=forced), None),
    }
    seconds = timed(layers, size)
    taken = rk.explain_path(rk.LSTM(size[-1])).layers[0].path
    found = []
    for call in ("forward", "step"):
        each = {name: 1e3 * np.median(seconds[name, call]) for name in layers}
        times = ", ".join(f"{name} {time:.3g} ms" for name, time in each.items())
        found.append(f"{call}: {times}, the one taken {each[taken] / min(each.values()):.2f}")
    return f"{taken} is taken; {'; '.join(found)} of the quicker"


def one_chunk(cell):
    """torch: no call says that weights are not one contiguous chunk of memory."""
    layers = [
        getattr(rk, cell)(32, return_state_sequences=True),
        rk.Bidirectional(getattr(rk, cell)(32, return_sequences=True)),
    ]
    x = np.random.default_rng(1).normal(size=(4, 9, 3)).astype("float32")
    holes = np.random.default_rng(2).random((4, 9)) < 0.7
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for layer, mask in itertools.product(layers, (None, holes)):
            results = keras.tree.flatten(layer(x, mask=mask, training=True))
            sum(result.sum() for result in results).backward()
    told = [
        str(warning.message) for warning in caught if "contiguous chunk" in str(warning.message)
    ]
    assert not told, told[0]
    return f"no such warning among {len(caught)}"


def graph_nodes(cell):
    """TensorFlow: nodes of the graph of a whole train step, functions that it calls included."""
    import tensorflow as tf

    figures = []
    for name, library, options in (
        ("Keras", keras.layers, {}),
        ("ours", rk, {}),
        ("with state sequences", rk, {"return_state_sequences": True}),
    ):
        keras.utils.clear_session()
        start = keras.Input((240, 14))
        results = keras.tree.flatten(getattr(library, cell)(32, **options)(start))
        model = keras.Model(start, keras.layers.Dense(1)(results[-1]))
        model.compile("adam", "mse", jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        shapes = tf.TensorSpec((128, 240, 14)), tf.TensorSpec((None,) * len(model.output_shape))
        graph = tf.function(model.train_step).get_concrete_function(shapes).graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        kernels = sum(node.op.startswith("CudnnRNN") for node in nodes)
        figures.append(f"{name} {len(nodes)} ({kernels} of cuDNN)")
    return ", ".join(figures)
