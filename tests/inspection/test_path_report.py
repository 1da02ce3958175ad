"""explain_path tells each call by what runs in it, on whatever version of Keras is installed."""

import warnings

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests.recurrent.cases import arrays

pytestmark = pytest.mark.backends
BACKEND = keras.backend.backend()
BATCH, TIME, FEATURES, UNITS = 2, 4, 3, 2
MASKS = {
    "right-padded": [[True, True, True, True], [True, True, False, False]],
    "left-padded": [[True, True, True, True], [False, True, True, True]],
}
OPTIONS = [
    {},
    {"use_bias": False},
    {"activation": "relu"},
    {"recurrent_activation": "hard_sigmoid"},
    {"unroll": True},
    {"recurrent_dropout": 0.1},
    {"use_cudnn": False},
    {"go_backwards": True},
]
CASES = [
    *((name, options, "none") for name in ("LSTM", "GRU") for options in OPTIONS),
    *((name, {}, mask) for name in ("LSTM", "GRU") for mask in MASKS),
    ("GRU", {"reset_after": False}, "none"),
]


def inputs(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.fixture
def gpu(monkeypatch):
    """Believe in a GPU; what runs in cuDNN's place shows by 100 added to what it returns."""
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: "GPU")
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def cudnn(*, input, input_h, **arguments):  # noqa: A002
            y = tf.fill((*input.shape[:2], input_h.shape[-1]), 100.0)
            return y, input_h + 100, input_h + 100, None, None

        monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", cudnn)
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["GPU:0"])
    elif BACKEND == "jax":
        import jax
        import jax.experimental.rnn

        def cudnn(x, h, c, *args, hidden_size, bidirectional, **arguments):
            y = jax.numpy.full((*x.shape[:2], hidden_size * (1 + bidirectional)), 100.0)
            return y, h + 100, c + 100

        monkeypatch.setattr(jax.experimental.rnn, "lstm", cudnn)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    else:
        import torch

        def marked(own):
            return lambda *args: tuple(result + 100 for result in own(*args))

        for name in ("lstm", "gru"):
            own = marked(getattr(torch._VF, name))
            monkeypatch.setattr(torch._VF, name, own, raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
        # A tensor that says it lies on the GPU, and stays where it is.
        to, zeros, cuda = torch.Tensor.to, torch.zeros, torch.device("cuda:0")
        monkeypatch.setattr(torch, "zeros", lambda *size, device=None, **of: zeros(*size, **of))
        monkeypatch.setattr(torch.Tensor, "device", property(lambda tensor: cuda), raising=False)
        monkeypatch.setattr(
            torch.Tensor,
            "to",
            lambda tensor, where, *args: tensor if where == cuda else to(tensor, where, *args),
        )


def kernel_runs(layer, *args, **kwargs):
    """Whether Keras's layer goes on with what a kernel returned."""
    return bool((abs(arrays(layer(*args, **kwargs))[0]) > 50).any())


@pytest.mark.parametrize(("name", "options", "mask"), CASES)
def test_keras_layers_take_the_path_that_is_told(name, options, mask, gpu):
    layer = getattr(keras.layers, name)(
        UNITS, kernel_initializer="zeros", recurrent_initializer="zeros", **options
    )
    mask = np.array(MASKS[mask]) if mask in MASKS else None
    x = inputs(BATCH, TIME, FEATURES)
    runs = kernel_runs(layer, x, mask=mask)
    for told in (rk.explain_path(layer, mask=mask), rk.explain_path(layer, x, mask=mask)):
        (path,) = told.layers
        assert path.fused == runs
        assert bool(path.failed) != runs


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_the_directions_of_keras_are_told_as_they_run(name, gpu):
    layer = keras.layers.Bidirectional(getattr(keras.layers, name)(UNITS))
    x = inputs(BATCH, TIME, FEATURES)
    layer.build(x.shape)
    runs = kernel_runs(layer, x)
    assert {path.fused for path in rk.explain_path(layer, x).layers} == {runs}


@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing for a GPU that is not there")
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_a_model_that_asks_for_xla_is_told_as_it_predicts(name, gpu):
    layer = getattr(keras.layers, name)(UNITS)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layer])
    with warnings.catch_warnings():  # Keras warns where it takes XLA back
        warnings.simplefilter("ignore")
        model.compile(jit_compile=True)
    x = inputs(BATCH, TIME, FEATURES)
    runs = bool((model.predict(x, verbose=0) > 50).any())
    assert rk.explain_path(model, x).layers[0].fused == runs


@pytest.mark.skipif(BACKEND != "torch", reason="Keras asks torch alone whether it compiles")
def test_keras_layers_are_asked_as_torch_compile_asks_them(gpu, monkeypatch):
    import torch

    model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.GRU(UNITS)])
    model.compile(jit_compile=True)
    x = inputs(BATCH, TIME, FEATURES)
    told = rk.explain_path(model, x).layers[0].fused
    assert rk.explain_path(model).layers[0].fused == told
    assert not torch.compiler.is_compiling()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert kernel_runs(model, x) == told


@pytest.mark.parametrize("library", [keras.layers, rk])
def test_every_call_of_a_layer_is_told_under_the_key_that_trace_has(library):
    short, long = keras.Input((TIME, FEATURES)), keras.Input((6, FEATURES))
    masked = keras.layers.Masking()(long)
    lstm = library.LSTM(UNITS, name="lstm")
    both = library.Bidirectional(library.GRU(UNITS, name="gru"), name="both")
    many = keras.layers.TimeDistributed(library.LSTM(UNITS, name="inner"), name="many")
    frames = keras.ops.expand_dims(short, 1)
    outputs = [lstm(short), lstm(masked), both(short), both(long), many(frames), many(frames)]
    model = keras.Model([short, long], outputs)
    x = [inputs(BATCH, TIME, FEATURES), inputs(BATCH, 6, FEATURES)]
    x[1][0, :2] = 0
    report = rk.explain_path(model, x)
    assert [path.layer for path in report.layers] == list(rk.trace(model, x))
    assert {"lstm", "lstm#2", "both/forward_gru#2", "many/inner#2"} <= set(rk.trace(model, x))
    failed = {path.layer: [condition.name for condition in path.failed] for path in report.layers}
    by_mask = ["mask" in failed[key] for key in ("lstm", "lstm#2")]
    assert sum(by_mask) == (library is keras.layers)
    without = [path.layer for path in rk.explain_path(model).layers]
    assert without == ["lstm", "both/forward_gru", "both/backward_gru", "many/inner"]


class Decoder(keras.Model):
    """Steps a cell of its own, and the cell of a layer that it never calls."""

    def __init__(self):
        super().__init__(name="decoder")
        self.encoder = rk.GRU(UNITS, name="encoder")
        self.cell = keras.layers.GRUCell(UNITS, name="cell")
        self.held = rk.GRU(UNITS, name="held")
        self.spare = keras.layers.LSTM(UNITS, name="spare")

    def build(self, shape):
        for layer in (self.encoder, self.held):
            layer.build(shape)
        self.cell.build((shape[0], shape[2]))

    def call(self, x):
        h = g = self.encoder(x)
        for t in range(2):
            _, (h,) = self.cell(x[:, t], [h])
            _, (g,) = self.held.cell(x[:, t], [g])
        return h + g


def test_a_cell_that_the_model_steps_is_listed_with_a_note_by_every_tool():
    model, x = Decoder(), inputs(BATCH, TIME, FEATURES)
    y = np.zeros((BATCH, UNITS), "float32")
    model.compile("sgd", "mse")
    monitor = rk.RecurrentMonitor(x, y)
    model.fit(x, y, verbose=0, callbacks=[monitor])
    report = rk.explain_path(model, x)
    stepped = {"cell", "held"}
    notes = [
        {path.layer: path.note for path in report.layers},
        {key: one.note for key, one in rk.trace(model, x).items()},
        {key: one.note for key, one in rk.gradient_flow(model, x, y).items()},
        monitor.notes,
    ]
    for found in notes:
        assert {key for key, note in found.items() if "stepped by the model itself" in note} == (
            stepped
        )
    assert "stepped by the model itself" in str(report)
    assert {"cell", "held"} <= {finding.subject for finding in rk.doctor(model, x).findings}
    assert "not reached" in report["spare"].note
    assert report["spare"].conditions
    assert not report["encoder"].note
    assert "stepped by the model itself" in rk.explain_path(model)["cell"].note


def test_what_is_told_leaves_the_model_as_it_was():
    layer = keras.layers.LSTM(UNITS, stateful=True)
    model = keras.Sequential(
        [keras.Input((TIME, FEATURES), batch_size=BATCH), layer, keras.layers.Dropout(0.5)]
    )
    x = inputs(BATCH, TIME, FEATURES)
    model(x)
    before = arrays([*layer.states, *model.variables])
    rk.explain_path(model, x, training=True)
    for one, other in zip(arrays([*layer.states, *model.variables]), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_cell_alone_is_refused():
    with pytest.raises(ValueError, match=r"received the cell .* takes one step"):
        rk.explain_path(rk.LSTMCell(UNITS))
