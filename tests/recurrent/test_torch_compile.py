"""torch.compile without a break, and torch.export: the layers run their loop there."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.recurrent.cases import BATCH, FEATURES, TIME, UNITS, arrays, inputs, mask_of

if keras.backend.backend() != "torch":
    pytest.skip("only torch compiles so", allow_module_level=True)

import torch

pytestmark = [
    pytest.mark.backends,
    # What torch says of the attributes that Keras's own `__call__` sets.
    pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning"),
]
EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}
LAYERS = {
    "SimpleRNN": lambda: rk.SimpleRNN(UNITS),
    "LSTM": lambda: rk.LSTM(UNITS, **EVERYTHING),
    "GRU": lambda: rk.GRU(UNITS, go_backwards=True),
    "Bidirectional": lambda: rk.Bidirectional(rk.LSTM(UNITS, **EVERYTHING)),
}


def trace_whole(model, x):
    """The model compiled, and the model exported."""
    torch._dynamo.reset()
    yield torch.compile(model, fullgraph=True, backend="aot_eager")
    yield torch.export.export(model, (x,), strict=True).module()


@pytest.fixture(scope="module", autouse=True)
def keras_can_be_traced():
    layer = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.Dense(1)])
    try:
        next(trace_whole(layer, None))(torch.ones(BATCH, TIME, FEATURES))
    except torch._dynamo.exc.Unsupported:
        pytest.skip("this Keras has no layer that torch.compile traces without a break")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_traced_whole(name, masked):
    x = inputs()
    if masked:
        x[~mask_of("holes")] = 0
    before = [keras.layers.Masking()] if masked else []
    model = keras.Sequential([keras.Input((TIME, FEATURES)), *before, LAYERS[name]()])
    x = torch.from_numpy(x)
    wanted = arrays(model(x))
    for traced in trace_whole(model, x):
        for one, other in zip(arrays(traced(x)), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_path_is_told():
    layer = rk.explain_path(rk.LSTM(UNITS)).layers[0]
    assert layer.path == "aten"
    model = keras.Sequential([keras.Input((TIME, FEATURES)), rk.LSTM(UNITS)])
    model.compile("sgd", "mse", jit_compile=True)
    (layer,) = rk.explain_path(model).layers
    assert (layer.path, [each.name for each in layer.failed]) == ("loop", ["torch.compile"])
