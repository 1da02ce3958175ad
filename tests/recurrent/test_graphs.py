"""Graphs with the real cuDNN op: tracing needs no GPU, only running does.

What a kernel's stand-in cannot show stands here: the static shapes behind each result, and that a
whole train step can be built from them.
"""

import itertools

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests.recurrent import reference_kernels
from tests.recurrent.heads import HEADS

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow builds graphs of the cuDNN op", allow_module_level=True)

import tensorflow as tf

UNITS, FEATURES, BATCH, TIME = 4, 3, 2, 6
LAYERS = {
    "LSTM": rk.LSTM,
    "GRU": rk.GRU,
    "SimpleRNN": rk.SimpleRNN,
    "Bidirectional LSTM": lambda units, **kwargs: rk.Bidirectional(rk.LSTM(units, **kwargs)),
    "Bidirectional GRU": lambda units, **kwargs: rk.Bidirectional(rk.GRU(units, **kwargs)),
}


@pytest.fixture
def gpu(monkeypatch):
    """Believe in a GPU, with the real op: what is traced could run on one."""
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: "GPU")


def make(name):
    """A layer that returns all that it can."""
    return LAYERS[name](
        UNITS, return_sequences=True, return_state=True, return_state_sequences=True
    )


def model_of(name, batch, time, masked=False):
    """A functional model with every head behind every sequence that a layer returns."""
    start = keras.Input((time, FEATURES), batch_size=batch)
    found = make(name)(start, mask=start[..., 0] > 0 if masked else None)
    sequences = [result for result in found if len(result.shape) == 3]
    assert len(sequences) >= 2
    heads = [head(result) for head in HEADS.values() for result in sequences]
    return keras.Model(start, [*heads, *(x for x in found if len(x.shape) == 2)])


def ops_of(function):
    """Names of the operations in a graph and the functions that it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


SHAPES = list(itertools.product((BATCH, None), (TIME, None)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_train_step_can_be_traced_behind_every_result(name, gpu):
    for batch, time in [(BATCH, TIME), (None, None)] if name == "LSTM" else [(None, None)]:
        keras.utils.clear_session()
        model = model_of(name, batch, time)
        model.compile("sgd", "mse", jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        inputs = tf.TensorSpec((batch, time, FEATURES))
        targets = [tf.TensorSpec((None,) * len(y.shape)) for y in model.outputs]
        traced = tf.function(model.train_step).get_concrete_function((inputs, targets))
        assert {"CudnnRNNV3", "CudnnRNNBackpropV3"} <= ops_of(traced)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_graph_with_the_kernel_knows_every_axis_that_the_loop_knows(
    name, shape, masked, monkeypatch
):
    found = {}
    for device in ("CPU", "GPU"):
        monkeypatch.setattr(kernels.current(), "device", lambda tensor, device=device: device)
        layer = make(name)
        layer.build((*shape, FEATURES))

        def call(x, layer=layer):
            return layer(x, mask=x[..., 0] > 0 if masked else None)

        traced = tf.function(call).get_concrete_function(tf.TensorSpec((*shape, FEATURES)))
        assert ("CudnnRNNV3" in ops_of(traced)) == (device == "GPU")
        found[device] = [tuple(y.shape) for y in traced.structured_outputs]
    assert found["GPU"] == found["CPU"]
    assert all(None not in axes[-1:] and axes[0] == shape[0] for axes in found["GPU"])


@pytest.mark.parametrize(
    ("name", "time"), [("LSTM", TIME), ("LSTM", None), ("Bidirectional GRU", None)]
)
def test_the_models_run(name, time, monkeypatch):
    """In the stand-in's arithmetic: `fit` and `predict` as a user calls them."""
    found = {}
    x = np.random.default_rng(0).normal(size=(5, TIME, FEATURES)).astype("float32")
    for path in ("loop", "kernel"):
        keras.utils.clear_session()
        keras.utils.set_random_seed(3)
        reference_kernels.CALLS.clear()
        if path == "kernel":
            reference_kernels.install(monkeypatch)
        model = model_of(name, None, time, masked=True)
        model.compile("sgd", "mse", jit_compile=False)
        targets = [np.ones(y.shape, "float32") for y in model.predict(x, verbose=0)]
        model.fit(x, targets, batch_size=5, verbose=0)
        found[path] = [*model.predict(x, verbose=0), *model.get_weights()]
        assert bool(reference_kernels.CALLS) == (path == "kernel")
    for one, other in zip(found["kernel"], found["loop"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
