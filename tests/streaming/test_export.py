"""Exported files of step models, run beside the model, and those of whole models."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rnnkit as rk

BACKEND = keras.backend.backend()
STEPS, BATCH = 12, 2
layers = keras.layers

only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="converts TensorFlow's graphs")
quiet_converters = pytest.mark.filterwarnings(
    # TensorFlow's, tf2onnx's and torch's own, while they convert.
    r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning",
    "ignore:In the future `np.object` will be defined:FutureWarning",
    "ignore:.*treespec, LeafSpec.*:FutureWarning",
    "ignore:.*does not need to be run on this value:UserWarning",
    "ignore:.*enable_xla.*:DeprecationWarning",
    "ignore:.*native_serialization.*:DeprecationWarning",
    "ignore:The feature will be removed. Please remove usage:DeprecationWarning",
    "ignore:No complete tensor found in the group:UserWarning",
)


def sensors(plain=False):
    x = keras.Input((None, 3), name="x")
    normalize = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
    scaled = x if plain else normalize(x)
    local = layers.Conv1D(4, 3, dilation_rate=2, padding="causal", name="conv")(scaled)
    lstm = rk.LSTM(4, return_sequences=True, learn_initial_state=True, name="lstm")
    hidden = lstm(local, reset=x[..., 0] > 0.5)
    hidden = layers.Add()([hidden, local])
    hidden = hidden if plain else layers.LayerNormalization()(hidden)
    stack = [rk.GRUCell(3), layers.SimpleRNNCell(5)]
    hidden = layers.RNN(stack, return_sequences=True, name="stack")(hidden)
    each = layers.Dense(2, activation="softmax", name="each")(hidden)
    last = layers.Dense(1, name="last")(layers.GRU(4, name="gru")(hidden))
    return keras.Model(x, [each, last])


def plain_sensors():
    return sensors(plain=True)


def words():
    x = keras.Input((None,), dtype="int32", name="x")
    vectors = layers.Embedding(9, 4, mask_zero=True)(x)
    return keras.Model(x, layers.Dense(1, name="last")(rk.GRU(4, name="gru")(vectors)))


class Case:
    """A model, its step model, and what the model itself gives for a sequence."""

    def __init__(self, make):
        self.whole = make()
        random = np.random.default_rng(0)
        for variable in self.whole.trainable_variables:  # the biases too
            variable.assign(random.normal(scale=0.5, size=variable.shape))
        self.step = rk.step_model(self.whole)
        if make is words:
            self.x = random.integers(0, 9, (BATCH, STEPS)).astype("int32")
            self.x[:, 0] = 3  # Keras's mask of an empty sequence differs from loop to loop
        else:
            self.x = random.normal(size=(BATCH, STEPS, 3)).astype("float32")
        stream = rk.Stream(self.whole, BATCH)
        self.start = stream.states
        stream.warm_up(self.x)
        self.states = stream.states
        outputs = self.whole.predict(self.x, verbose=0)
        self.outputs = dict(zip(self.whole.output_names, keras.tree.flatten(outputs), strict=True))

    def check(self, call, atol=1e-5):
        """Step through the sequence by a function of named arrays that returns such."""
        states, each = dict(self.start), []
        for t in range(STEPS):
            found = {name: np.asarray(value) for name, value in call(self.feed(t, states)).items()}
            states = {name: found.pop(f"next_{name}") for name in states}
            each.append(found.pop("each", None))
        assert set(found) == {"last"}
        np.testing.assert_allclose(found["last"], self.outputs["last"], atol=atol)
        if "each" in self.outputs:
            np.testing.assert_allclose(np.stack(each, 1), self.outputs["each"], atol=atol)
        for name, state in self.states.items():
            np.testing.assert_allclose(states[name], state, atol=atol, err_msg=name)

    def feed(self, t, states):
        return {"x": self.x[:, t], **states}


@pytest.fixture(params=[sensors, words], ids=lambda make: make.__name__)
def case(request):
    return Case(request.param)


def run_python(code, folder, **environment):
    """Run code in a process of its own, in a folder."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


STEP_THROUGH = """
arrays = dict(np.load("start.npz"))
x = arrays.pop("x")
for t in range(x.shape[1]):
    found = {name: np.asarray(y) for name, y in call({"x": x[:, t], **arrays}).items()}
    arrays = {name: found["next_" + name] for name in arrays}
np.savez("found.npz", **found)
"""
KERAS_FILE = f"""
import keras, numpy as np
import keras_rnnkit
call = keras.saving.load_model("step.keras").predict_on_batch
{STEP_THROUGH}
"""
SAVED_MODEL = f"""
import sys
import numpy as np, tensorflow as tf
signature = tf.saved_model.load("step").signatures["serving_default"]
def call(feed):
    return signature(**{{name: tf.constant(x) for name, x in feed.items()}})
{STEP_THROUGH}
assert "keras_rnnkit" not in sys.modules
"""


@pytest.mark.backends
@pytest.mark.parametrize("code", [KERAS_FILE, SAVED_MODEL], ids=["keras", "saved model"])
def test_a_file_runs_in_a_new_process(code, tmp_path):
    if code is SAVED_MODEL and BACKEND != "tensorflow":
        pytest.skip("other backends make it through jax2tf, or not at all")
    case = Case(sensors)
    case.step.save(tmp_path / "step.keras")
    if code is SAVED_MODEL:
        case.step.export(tmp_path / "step", format="tf_saved_model", verbose=False)
    np.savez(tmp_path / "start.npz", x=case.x, **case.start)
    run_python(code, tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_allclose(found["each"], case.outputs["each"][:, -1], atol=1e-5)
        for name, state in case.states.items():
            np.testing.assert_allclose(found[f"next_{name}"], state, atol=1e-5, err_msg=name)


def interpreter(content):
    """A TFLite interpreter: LiteRT's, where it is installed."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_content=content)
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated")
        return tf.lite.Interpreter(model_content=content)


def converter(model, folder):
    """TensorFlow's converter to TFLite, held to its builtin operations."""
    import tensorflow as tf

    model.export(folder, format="tf_saved_model", verbose=False)
    made = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return made


@only_tensorflow
def test_tflite_needs_builtin_operations_alone(case, tmp_path):
    run = interpreter(converter(case.step, tmp_path / "step").convert()).get_signature_runner()
    case.check(lambda feed: run(**feed))


@only_tensorflow
@quiet_converters
@pytest.mark.parametrize(("kind", "most"), [("dynamic range", 0.01), ("int8", 0.08)])
def test_quantised_tflite_stays_near_over_200_steps(kind, most, tmp_path):
    import tensorflow as tf

    x = layers.Input((None, 3), name="x")
    step = rk.step_model(keras.Model(x, layers.Dense(1, name="y")(rk.GRU(32, name="gru")(x))))
    random = np.random.default_rng(0)
    for variable in step.trainable_variables:  # the error is another with other weights
        if "kernel" in variable.path:
            variable.assign(random.normal(scale=0.2, size=variable.shape))
    made = converter(step, tmp_path / "step")
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    # What is asked lies in the range of what was seen, at whose ends int8 cuts off.
    seen, asked = random.uniform(-1, 1, size=(2, 200, 1, 3)).astype("float32")
    seen[0], seen[1] = -1, 1
    if kind == "int8":

        def representative():
            stream = rk.Stream(step)
            for x in seen:
                yield {"x": x, **stream.states}
                stream(x)

        made.representative_dataset = representative
        made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        made.inference_input_type = made.inference_output_type = tf.int8
    content = made.convert()
    run = interpreter(content).get_signature_runner()
    given, handed = run.get_input_details(), run.get_output_details()
    dtype = np.int8 if kind == "int8" else np.float32
    assert {x["dtype"] for x in [*given.values(), *handed.values()]} == {dtype}

    stream = rk.Stream(step)
    states, errors = stream.states, []
    for x in asked:
        found = run(**{name: quantise(y, given[name]) for name, y in ({"x": x} | states).items()})
        found = {name: dequantise(y, handed[name]) for name, y in found.items()}
        errors.append(np.abs(found["y"] - stream(x)).item())
        states = {name: found[f"next_{name}"] for name in states}
        np.testing.assert_allclose(states["gru_h"], stream.states["gru_h"], atol=most)
    assert 0 < max(errors) < most
    assert len(content) < 4 * sum(np.prod(w.shape) for w in step.weights)


def quantise(value, detail):
    """Floats as the integers that an input of an interpreter takes."""
    scale, zero = detail["quantization"]
    if not scale:
        return value
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(value / scale) + zero, limits.min, limits.max).astype(detail["dtype"])


def dequantise(value, detail):
    """The floats that an output of an interpreter stands for."""
    scale, zero = detail["quantization"]
    return ((value.astype("float32") - zero) * scale) if scale else value


@only_tensorflow
def test_a_step_in_tflite_leaves_no_memory_behind(tmp_path):
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads the memory of a process from /proc")
    x = layers.Input((None, 3), name="x")
    step = rk.step_model(keras.Model(x, layers.Dense(1, name="y")(rk.GRU(8, name="gru")(x))))
    content = converter(step, tmp_path / "step").convert()
    assert len(content) < 16_000
    run = interpreter(content).get_signature_runner()
    x, state = np.ones((1, 3), "float32"), np.zeros((1, 8), "float32")
    pages = []
    for t in range(100_000):
        state = run(x=x, gru_h=state)["next_gru_h"]
        if t in (10_000, 99_999):
            pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
    stream = rk.Stream(step)
    stream.states = {"gru_h": state}
    stream(x[:1])
    np.testing.assert_allclose(stream.states["gru_h"], state, atol=1e-5)  # a fixed point
    assert pages[1] - pages[0] < 250  # 1 MB; a kilobyte a step would be 90 MB


CONVERTERS = {"tensorflow": "tf2onnx", "torch": "onnxscript", "jax": "jax2onnx"}


@pytest.mark.backends
@pytest.mark.filterwarnings("ignore")  # torch's trace turns any that is an error into another
@pytest.mark.parametrize("make", [sensors, plain_sensors, words])
def test_onnx_runs_on_its_own(make, tmp_path):
    if make is sensors and BACKEND == "tensorflow":
        pytest.skip("Keras's export makes inputs of what its Normalization holds")
    if make is sensors and BACKEND == "torch":
        pytest.skip("torch's export knows no LayerNormalization of an open batch")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip(CONVERTERS.get(BACKEND, "onnx"))
    case = Case(make)
    case.step.export(tmp_path / "step.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "step.onnx")
    assert {x.name for x in session.get_inputs()} == {"x", *case.start}
    names = sorted(case.step.output)
    if BACKEND == "tensorflow":  # the others leave the outputs' names out, and keep this order
        assert [y.name for y in session.get_outputs()] == names
    case.check(lambda feed: dict(zip(names, session.run(None, feed), strict=True)))


@pytest.mark.backends
@pytest.mark.skipif(BACKEND != "torch", reason="torch's own")
@quiet_converters
def test_torch_export_takes_any_batch(case, tmp_path):
    import torch

    batch = torch.export.Dim("batch")
    feed = {name: torch.tensor(x) for name, x in case.feed(0, case.start).items()}
    feed = {name: torch.cat([x, x]) for name, x in feed.items()}
    shapes = {name: {0: batch} for name in feed}
    program = torch.export.export(case.step.eval(), (feed,), dynamic_shapes=((shapes,),))
    torch.export.save(program, tmp_path / "step.pt2")
    run = torch.export.load(tmp_path / "step.pt2").module()

    def call(feed):
        found = run({name: torch.tensor(x) for name, x in feed.items()})
        return {name: y.detach().numpy() for name, y in found.items()}

    case.check(call)


@pytest.mark.backends
@pytest.mark.skipif(BACKEND != "jax", reason="JAX's own")
def test_jax_export_takes_any_batch(case):
    import jax

    (batch,) = jax.export.symbolic_shape("batch")
    specs = {x.name: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for x in case.step.inputs}
    made = jax.export.export(jax.jit(lambda feed: case.step(feed, training=False)))(specs)
    case.check(jax.export.deserialize(made.serialize()).call)


@pytest.mark.backends
@pytest.mark.skipif(BACKEND != "jax", reason="TensorFlow's is run in a process of its own")
@quiet_converters
def test_jax_makes_a_saved_model(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    case = Case(sensors)
    case.step.export(tmp_path / "step", format="tf_saved_model", verbose=False)
    run = tensorflow.saved_model.load(tmp_path / "step").signatures["serving_default"]
    case.check(lambda feed: run(**{name: tensorflow.constant(x) for name, x in feed.items()}))


@only_tensorflow
@quiet_converters
@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_a_whole_model_converts_with_an_open_batch(kind, tmp_path):
    head = [layers.Masking(), getattr(rk, kind)(4), layers.Dense(1)]
    model = keras.Sequential([keras.Input((STEPS, 3), name="x"), *head])
    x = np.random.default_rng(0).normal(size=(5, STEPS, 3)).astype("float32")
    expected = model.predict(x, verbose=0)
    run = interpreter(converter(model, tmp_path / "model").convert()).get_signature_runner()
    (found,) = run(x=x).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    (found,) = runtime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": x})
    np.testing.assert_allclose(found, expected, atol=1e-5)
