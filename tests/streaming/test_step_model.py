"""Step by step, a step model gives what the whole model gives: outputs, and states."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.streaming.step_model import chunk_model
from keras_rnnkit.streaming.walk import output_names
from tests.streaming.models import BATCH, MODELS, data, ready

pytestmark = [
    pytest.mark.backends,
    # Keras says that a model inside drops a mask, and hands it on all the same.
    pytest.mark.filterwarnings(r"ignore:[\s\S]*Layer 'inner' [\s\S]* does not support masking"),
]
CLOSE = {"mixed_float16": 1e-2, "mixed_bfloat16": 6e-2}
# JAX compiles each operation for itself, so that the other backends run those of this package, and
# of Keras's own layers two.
TENSORFLOW = keras.backend.backend() == "tensorflow"
BOTH = ["keras LSTM", "keras Masking, LSTM"]
NAMES = [n for n in MODELS if TENSORFLOW or n in BOTH or not n.startswith("keras ")]
LONG = ["rk LSTM", "keras GRU, last", "keras Masking, LSTM", "peephole", "wavenet", "words"]


def numbers(x):
    return keras.ops.convert_to_numpy(x).astype("float64")


def arranged(model, inputs):
    if not isinstance(model, keras.Sequential) and isinstance(model.input, dict):
        return inputs
    given = [inputs[x.name] for x in model.inputs]
    return given if len(given) > 1 else given[0]


def named(model, outputs):
    """What a model or stream returned, by the names that a step model has for it."""
    if isinstance(outputs, dict) and not set(output_names(model)) ^ set(outputs):
        return {n: numbers(x) for n, x in outputs.items()}
    flat = keras.tree.flatten(outputs)
    return dict(zip(output_names(model), map(numbers, flat), strict=True))


def whole(model, inputs):
    return named(model, model(arranged(model, inputs)))


def static_of(inputs):
    return ["one"] if "one" in inputs else []


def stream_of(model, inputs):
    given = {name: inputs[name] for name in ("h", "c") if name in inputs}
    return rk.Stream(model, BATCH, start=given, static=static_of(inputs))


def fed(step, inputs):
    """What each step of these inputs is fed, without the states."""
    named = {n: x for n, x in inputs.items() if n not in ("h", "c")}
    timed = [n for n, x in named.items() if x.ndim == len(step.input[n].shape) + 1]
    for t in range(named[timed[0]].shape[1]):
        yield {n: x[:, t] if n in timed else x for n, x in named.items()}


def stepped(step, inputs, states):
    """The outputs of each step, and the states after each."""
    states = {n: keras.ops.convert_to_tensor(x) for n, x in states.items()}
    found, all_states = [], []
    for feed in fed(step, inputs):
        feed = {n: keras.ops.convert_to_tensor(x) for n, x in feed.items()}
        outputs = step({**feed, **states})
        states = {n: outputs.pop(f"next_{n}") for n in states}
        found.append({n: numbers(x) for n, x in outputs.items()})
        all_states.append({n: numbers(x) for n, x in states.items()})
    return found, all_states


def same_outputs(found, wanted, tolerance=1e-5):
    for name, expected in wanted.items():
        steps = [each[name] for each in found]
        each = np.stack(steps, 1) if expected.ndim > steps[0].ndim else steps[-1]
        np.testing.assert_allclose(each, expected, rtol=tolerance, atol=tolerance)


# Whose states are compared, at every step, with those that `trace` sees in the whole model.
TRACED = ["keras LSTM", "rk GRU, reset before", "rk Masking, LSTM", "peephole", "layer norm GRU"]
TRACED += ["residuals", "masks joined", "a layer called twice", "states returned"]


def traced(model, inputs):
    """Every state of the layers outside of models and stacks, as the whole model has them."""
    found = {}
    for key, seen in rk.trace(model, arranged(model, inputs)).items():
        for name, state in seen.states.items():
            found[f"{key.replace('#', '_')}_{name}"] = state
    return found


@pytest.mark.parametrize("name", NAMES)
def test_step_by_step_is_whole(name):
    model, tolerance = ready(name), CLOSE.get(name, 1e-5)
    inputs = data(model, 7)
    stream = stream_of(model, inputs)
    outputs, states = stepped(stream.step, inputs, stream.states)
    wanted = whole(model, inputs)
    same_outputs(outputs, wanted, tolerance)
    if name in TRACED:
        for state, sequence in traced(model, inputs).items():
            found = np.stack([each[state] for each in states], 1)
            np.testing.assert_allclose(found, sequence, rtol=tolerance, atol=tolerance)
    if TENSORFLOW or name in TRACED:
        chunk = chunk_model(model, static=static_of(inputs), stepwise=())
        feed = {n: keras.ops.convert_to_tensor(x) for n, x in (stream.states | inputs).items()}
        at_once = {n: numbers(x) for n, x in chunk(feed).items()}
        for each, expected in (wanted | {f"next_{n}": x for n, x in states[-1].items()}).items():
            np.testing.assert_allclose(at_once[each], expected, rtol=tolerance, atol=tolerance)
    if TENSORFLOW and model.inputs[0].shape[1] is None:
        inputs = data(model, 1, seed=6)
        start = stream_of(stream.step, inputs).states
        if "stateful" in name:
            rk.reset_states(model)
        same_outputs(stepped(stream.step, inputs, start)[0], whole(model, inputs), tolerance)


@pytest.mark.parametrize("name", LONG if TENSORFLOW else LONG[::2])
def test_two_hundred_steps_are_whole(name):
    model = ready(name)
    inputs = data(model, 200)
    stream = stream_of(model, inputs)
    outputs = [named(model, stream(feed)) for feed in fed(stream.step, inputs)]
    same_outputs(outputs, whole(model, inputs))


def test_a_quantized_model_is_stepped():
    model = ready("words")
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Dense, keras.layers.Embedding)):
            layer.quantize("int8")
    inputs = data(model, 7)
    stream = rk.Stream(model, BATCH)
    same_outputs(stepped(stream.step, inputs, stream.states)[0], whole(model, inputs))
