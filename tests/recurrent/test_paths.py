"""explain_path: what it says is what runs."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.paths import decide
from tests.recurrent import reference_kernels
from tests.recurrent.cases import arrays, inputs, mask_of

BACKEND = keras.backend.backend()
SLOW = [
    ("LSTM", {"activation": "relu"}, "activation"),
    ("LSTM", {"recurrent_activation": "hard_sigmoid"}, "recurrent_activation"),
    ("LSTM", {"unroll": True}, "unroll"),
    ("LSTM", {"recurrent_dropout": 0.5}, "recurrent_dropout"),
    ("LSTM", {"dropout": 0.5, "implementation": 1}, "dropout masks"),
    ("LSTM", {"use_cudnn": False}, "use_cudnn"),
    ("GRU", {"reset_after": False}, "reset_after"),
    ("SimpleRNN", {"activation": "sigmoid"}, "activation"),
]
FAST = [
    ("LSTM", {}),
    ("LSTM", {"use_bias": False}),
    ("LSTM", {"dropout": 0.5}),
    ("GRU", {}),
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "relu"}),
    ("LSTM", {"activation": keras.ops.tanh, "recurrent_activation": keras.ops.sigmoid}),
]
FUSED_NAME = "aten" if BACKEND == "torch" else "cudnn"


def ran(layer, training):
    reference_kernels.CALLS.clear()
    layer(inputs(), mask=mask_of("holes"), training=training)
    return bool(reference_kernels.CALLS)


@pytest.mark.backends
@pytest.mark.parametrize(("name", "options", "condition"), SLOW)
def test_each_condition_that_fails_is_named_and_keeps_the_kernel_away(
    name, options, condition, monkeypatch
):
    reference_kernels.install(monkeypatch)
    layer = getattr(rk, name)(3, **options)
    report = rk.explain_path(layer, training=True)
    (path,) = report.layers
    cell = [failed.name for failed in path.failed if failed.name != "backend"]
    assert cell == [condition]
    assert path.path == ("loop" if options.get("unroll") else kernels.current().LOOP)
    assert not ran(layer, training=True)
    assert condition in str(report)
    with pytest.raises(rk.inspection.SlowPathError, match=condition):
        rk.explain_path(layer, training=True, strict=True)


@pytest.mark.backends
@pytest.mark.parametrize(("name", "options"), FAST)
def test_where_nothing_fails_the_kernel_runs(name, options, monkeypatch):
    reference_kernels.install(monkeypatch)
    layer = getattr(rk, name)(3, **options)
    (path,) = rk.explain_path(layer, training=True).layers
    if BACKEND == "jax" and name != "LSTM":
        assert [failed.name for failed in path.failed] == ["backend"]
    else:
        assert path.failed == ()
        assert path.path == FUSED_NAME
        assert rk.explain_path(layer, training=True, strict=True)
    assert ran(layer, training=True) == path.fused


@pytest.mark.backends
def test_dropout_counts_only_in_training(monkeypatch):
    reference_kernels.install(monkeypatch)
    layer = rk.LSTM(3, recurrent_dropout=0.5)
    for training in (False, True):
        assert rk.explain_path(layer, training=training).layers[0].fused != training
        assert ran(layer, training) != training


@pytest.mark.backends
def test_forcing_a_kernel_that_cannot_run_says_why():
    layer = rk.LSTM(3, use_cudnn=True, activation="relu")
    with pytest.raises(ValueError, match=r"use_cudnn=True.*activation is relu: pass.*'tanh'"):
        layer(inputs())
    with pytest.raises(ValueError, match="`use_cudnn` must be 'auto'"):
        rk.SimpleRNN(3, use_cudnn="always")


@pytest.mark.backends
def test_without_a_gpu_the_loop_runs():
    (path,) = rk.explain_path(rk.LSTM(3), inputs()).layers
    if BACKEND == "torch":
        assert (path.path, path.failed) == ("aten", ())
    else:
        assert path.path == kernels.current().LOOP
        assert "device" in [failed.name for failed in path.failed]


BLOCK = {
    "small": ({}, {}, True),
    "states": ({"return_state_sequences": True, "dropout": 0.5, "use_bias": False}, {}, True),
    "32 units": ({"units": 32}, {"batch": 8, "features": 96}, True),
    "one feature more": ({"units": 32}, {"batch": 8, "features": 97}, False),
    "33 units": ({"units": 33}, {}, False),
    "unknown batch": ({}, {"batch": None}, False),
    "XLA": ({}, {"jit": True}, False),
    "use_cudnn": ({"use_cudnn": False}, {}, False),
    "recurrent dropout": ({"recurrent_dropout": 0.5}, {}, False),
    "activation": ({"activation": "relu"}, {}, False),
    "mixed precision": ({"dtype": "mixed_float16"}, {}, False),
    "float64": ({"dtype": "float64"}, {}, False),
}


@pytest.mark.parametrize("case", BLOCK)
def test_the_block_trains_small_lstms_of_known_batch_size(case):
    import tensorflow as tf

    options, call, expected = BLOCK[case]
    layer = rk.LSTM(**{"units": 3, **options})
    shape = (call.get("batch", 5), 6, call.get("features", 3))
    layer.build(shape)
    seen = []

    @tf.function(jit_compile=call.get("jit"))
    def train(x):
        seen.append(decide(layer, True, x).path)
        return layer(x, training=True)

    def operations():
        graph = train.get_concrete_function(tf.TensorSpec(shape, layer.compute_dtype)).graph
        functions = graph.as_graph_def().library.function
        return {node.op for function in functions for node in function.node_def}

    assert ("BlockLSTMV2" in operations()) == expected
    assert (seen[0] == "block") == expected


def test_the_report_names_the_block_and_its_condition():
    x = np.ones((8, 6, 97), "float32")
    for features, path in ((96, "block"), (97, "loop")):
        layer = rk.LSTM(32)
        (found,) = rk.explain_path(layer, x[..., :features], training=True).layers
        assert found.path == path
        assert not found.fused
        condition = found.conditions[-1]
        assert (condition.name, condition.holds) == ("block", path == "block")
        assert f"{8 * (features + 32) * 4 * 32:,} multiplications a time step" in condition.value
        assert "131,072" in condition.remedy
    # Inference keeps to the loop, which every exporter knows.
    (found,) = rk.explain_path(layer, x).layers
    assert "block" not in (found.path, found.conditions[-1].name)


def test_training_by_the_block_is_training_by_the_loop():
    x, y = inputs(), np.random.default_rng(0).normal(size=(5, 1)).astype("float32")
    found = []
    for use_cudnn in ("auto", False):
        keras.utils.set_random_seed(1)
        layers = [rk.LSTM(4, use_cudnn=use_cudnn), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input(x.shape[1:], batch_size=5), *layers])
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=5, epochs=3, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_model_is_explained_layer_by_layer_with_the_masks_it_meets():
    words = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(5, 3, mask_zero=True)(words)
    x = keras.layers.LSTM(3, return_sequences=True, name="theirs")(x)
    x = rk.Bidirectional(rk.GRU(3, return_sequences=True, name="ours"))(x)
    x = keras.layers.SimpleRNN(3, return_sequences=True, name="simple")(x)
    model = keras.Model(words, keras.layers.RNN(rk.LSTMCell(2), name="any")(x))
    values = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    report = rk.explain_path(model, values)
    assert [layer.layer for layer in report.layers] == [
        "theirs",
        "bidirectional/forward_ours",
        "bidirectional/backward_ours",
        "simple",
        "any",
    ]
    failed = {layer.layer: [c.name for c in layer.failed] for layer in report.layers}
    assert "mask" in failed["theirs"]
    assert "mask" not in failed["bidirectional/forward_ours"]
    assert failed["simple"] == failed["any"] == ["layer"]
    assert "rk.SimpleRNN" in report["simple"].failed[0].remedy
    right_padded = rk.explain_path(model, values[:, ::-1])
    assert "mask" not in [condition.name for condition in right_padded["theirs"].failed]
    with pytest.raises(KeyError, match="'nothing' is none of"):
        report["nothing"]
    model.predict(values, verbose=0)


def test_layers_inside_models_and_wrappers_are_found():
    start = keras.Input((4, 3))
    inner = keras.Model(start, rk.GRU(3, name="inner")(start))

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = {"many": keras.layers.TimeDistributed(inner)}
            self.last = rk.LSTM(2, name="last")

    assert [layer.layer for layer in rk.explain_path(Outer()).layers] == [
        "time_distributed/functional/inner",
        "last",
    ]


def test_explaining_leaves_the_layers_as_they_were():
    layer = rk.GRU(3)
    rk.explain_path(layer, inputs())
    assert "call" not in vars(layer)


def test_a_call_that_a_user_compiled_is_still_there():
    import tensorflow as tf

    layer = rk.GRU(3, stateful=True)
    layer(inputs())
    (carried,) = arrays(layer.states)
    layer.call = compiled = tf.function(layer.call)
    assert rk.explain_path(layer, inputs()).layers[0].path
    assert layer.call is compiled
    np.testing.assert_array_equal(arrays(layer.states)[0], carried)


def test_a_model_without_recurrence_is_refused():
    with pytest.raises(ValueError, match="`model_or_layer` must be or hold a recurrent layer"):
        rk.explain_path(keras.layers.Dense(3))


def test_the_kernel_keeps_xla_away(monkeypatch):
    reference_kernels.install(monkeypatch)
    model = keras.Sequential([keras.Input((4, 3)), rk.LSTM(2)])
    assert not model.layers[0].supports_jit
    model.compile("sgd", "mse", jit_compile="auto")
    assert not model.jit_compile
    assert rk.explain_path(model).layers[0].fused
    assert (
        keras.Sequential([keras.Input((4, 3)), rk.LSTM(2, use_cudnn=False)]).layers[0].supports_jit
    )


def test_the_gradient_of_a_gradient_through_the_block_is_refused_in_words():
    import tensorflow as tf

    layer, x = rk.LSTM(3), tf.ones((2, 4, 3))
    assert rk.explain_path(layer, x, training=True).layers[0].path == "block"
    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        outer.watch(x)
        inner.watch(x)
        y = layer(x, training=True)
        with pytest.raises(ValueError, match="use_cudnn=False"):
            inner.gradient(y, x)
