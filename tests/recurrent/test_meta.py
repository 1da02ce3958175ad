"""torch's `meta` device: a tensor made elsewhere, a copy to the CPU or a wait for it raises there.

Nothing is computed, so what passes here is free of the faults that only a GPU shows.
"""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels

if keras.backend.backend() != "torch":
    pytest.skip("only torch has a device without data", allow_module_level=True)

import torch

pytestmark = pytest.mark.backends
BATCH, TIME, FEATURES, UNITS = 2, 9, 3, 4
LAYERS = {
    "LSTM": rk.LSTM,
    "GRU": rk.GRU,
    "SimpleRNN": rk.SimpleRNN,
    "projection": lambda units, **kwargs: rk.LSTM(units, projection=2, **kwargs),
    "Bidirectional": lambda units, **kwargs: rk.Bidirectional(rk.LSTM(units, **kwargs)),
}
CASES = {
    "plain": {},
    "states": {"return_state_sequences": True},
    "last states": {"return_state": True},
    "everything": {
        "return_sequences": True,
        "return_state": True,
        "return_state_sequences": True,
    },
    "dropout": {"dropout": 0.5, "weight_dropout": 0.5, "return_state_sequences": True},
    "stateful": {"stateful": True},
    "stateful with states": {"stateful": True, "return_state_sequences": True},
    "float16": {"dtype": "mixed_float16", "return_state_sequences": True},
    "bfloat16": {"dtype": "mixed_bfloat16", "return_state_sequences": True},
    "loop": {"use_cudnn": False, "return_state_sequences": True},
    "loop with recurrent dropout": {"recurrent_dropout": 0.5, "return_state_sequences": True},
}


@pytest.fixture
def elsewhere(monkeypatch):
    """Make the device without data the one that Keras computes on, in the place of a GPU."""
    made = torch.empty_like

    def empty_like(x, *args, **kwargs):
        # Keras puts an empty tensor in the place of each that lies there, which ends its gradient.
        return x if x.is_meta and kwargs == {"device": "meta"} else made(x, *args, **kwargs)

    monkeypatch.setattr(torch, "empty_like", empty_like)
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: "GPU")
    with keras.device("meta"):
        yield


def test_the_device_shows_a_fault(elsewhere):
    x = keras.ops.ones((2, 3))
    with pytest.raises((RuntimeError, NotImplementedError)):
        x + torch.zeros(3)
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.max().item()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LAYERS)
def test_forward_and_backward_stay_on_the_device(name, case, masked, elsewhere):
    layer = LAYERS[name](UNITS, **CASES[case])
    x = torch.empty((BATCH, TIME, FEATURES), device="meta", requires_grad=True)
    mask = torch.ones((BATCH, TIME), dtype=torch.bool, device="meta") if masked else None
    results = keras.tree.flatten(layer(x, mask=mask, training=True))
    assert {str(result.device) for result in results} == {"meta"}
    sum(result.float().sum() for result in results).backward()
    assert x.grad is not None
    for variable in layer.trainable_variables:
        assert variable.value.grad.device.type == "meta", variable.path


@pytest.mark.parametrize("masked", [False, True])
def test_any_cell_stays_on_the_device(masked, elsewhere):
    cells = [rk.GRUCell(3, dropout=0.5, recurrent_dropout=0.5), keras.layers.LSTMCell(4)]
    layer = rk.RNN(cells, return_sequences=True, return_state=True, return_state_sequences=True)
    x = torch.empty((BATCH, TIME, FEATURES), device="meta", requires_grad=True)
    mask = torch.ones((BATCH, TIME), dtype=torch.bool, device="meta") if masked else None
    results = keras.tree.flatten(layer(x, mask=mask, training=True))
    sum(result.sum() for result in results).backward()
    assert {str(result.device) for result in (*results, x.grad)} == {"meta"}


@pytest.mark.parametrize("case", ["everything", "dropout", "stateful", "bfloat16"])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "Bidirectional"])
def test_rows_parted_at_resets_stay_on_the_device(name, case, elsewhere, monkeypatch):
    values = np.arange(BATCH * TIME).reshape(BATCH, TIME) % 4 == 1
    monkeypatch.setattr(kernels.current(), "is_known", lambda tensor: True)
    monkeypatch.setattr(keras.ops, "convert_to_numpy", lambda tensor: values)
    layer = LAYERS[name](UNITS, use_cudnn=True, **CASES[case])
    x = torch.empty((BATCH, TIME, FEATURES), device="meta", requires_grad=True)
    marks = torch.ones((BATCH, TIME), dtype=torch.bool, device="meta")
    results = keras.tree.flatten(layer(x, mask=marks, reset=marks, training=True))
    sum(result.float().sum() for result in results).backward()
    assert {str(result.device) for result in (*results, x.grad)} == {"meta"}


@pytest.mark.parametrize("options", [{}, {"freeze_found": True}, {"trainable": True}])
def test_word_vectors_stay_on_the_device(options, elsewhere):
    layer = rk.GloVeEmbedding({"a": [1.0, 2.0], "b": [3.0, 4.0]}, ["a", "b", "c"], **options)
    rows = layer(torch.zeros((BATCH, TIME), dtype=torch.int32, device="meta"))
    assert str(rows.device) == "meta"
    if options:
        rows.sum().backward()


def test_weights_lie_side_by_side_in_memory_as_cudnn_wants_them():
    """Every matrix of every direction, then every bias: else torch compacts them at each call."""
    rng = np.random.default_rng(0)
    weights = [
        [
            torch.tensor(rng.normal(size=shape), requires_grad=True)
            for shape in ((3, 16), (4, 16), (16,), (16,))
        ]
        for _ in range(2)
    ]
    found = kernels.current().one_chunk(weights)
    start = found[0].untyped_storage().data_ptr()
    assert all(each.untyped_storage().data_ptr() == start for each in found)
    assert found[0].untyped_storage().nbytes() == 8 * sum(each.numel() for each in found)
    size = 8
    matrices = [found[at] for at in (0, 1, 4, 5)]
    biases = [found[at] for at in (2, 3, 6, 7)]
    place = start
    for each in (*matrices, *biases):
        assert each.is_contiguous()
        assert each.data_ptr() == place
        place += size * each.numel()
    for (kernel, recurrent, bias, other), at in zip(weights, (0, 4), strict=True):
        for one, wanted in zip(
            found[at : at + 4], (kernel.T, recurrent.T, bias, other), strict=True
        ):
            assert torch.equal(one, wanted)
    sum((each**2).sum() for each in found).backward()
    for each in (tensor for direction in weights for tensor in direction):
        torch.testing.assert_close(each.grad, 2 * each.detach())
