"""Rows parted at their resets: which steps a kernel reads, and the same as the loop on torch."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.parts import parts_of
from tests.recurrent import reference_kernels
from tests.recurrent.autodiff import gradients, with_weights
from tests.recurrent.cases import BATCH, FEATURES, TIME, UNITS, arrays, inputs, mask_of
from tests.recurrent.test_gradients import weighted
from tests.recurrent.test_reset import EVERYTHING, RESETS

on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="only torch's kernels run over parted rows"
)


def histories(resets, mask):
    """What each step shows, in words: the state that its part began with, and the steps read."""
    batch, time = resets.shape
    found = {}
    for row in range(batch):
        history = (("state", row),)
        for t in range(time):
            if resets[row, t]:
                history = (("start", row),)
            if mask is None or mask[row, t]:
                history = (*history, row * time + t)
            found[row, t] = history
    return found


def run(parts, batch):
    """What a kernel that notes what it reads would show at each step."""
    both = [((kind, row),) for kind in ("state", "start") for row in range(batch)]
    going, outcomes = [both[at] for at in parts.begins], []
    for steps in parts.pieces:
        going = going[: len(steps)]
        for part, read in enumerate(steps):
            for step in read:
                going[part] = (*going[part], int(step))
                outcomes.append(going[part])
    shown = [*outcomes, *both]
    return {place: shown[at] for place, at in np.ndenumerate(parts.places)}


def test_every_step_shows_what_was_read_since_the_reset_before_it():
    for bits in itertools.product([False, True], repeat=12):
        resets, mask = np.reshape(bits, (2, 2, 3))
        for marks in ((resets, None), (resets, mask)):
            assert run(parts_of(*marks), 2) == histories(*marks), marks


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 1])
def test_fewer_than_twice_the_steps_are_computed_in_few_calls(share):
    rng = np.random.default_rng(0)
    resets, mask = rng.random((7, 90)) < share, rng.random((7, 90)) < 0.7
    parts = parts_of(resets, mask)
    assert run(parts, 7) == histories(resets, mask)
    assert mask.sum() <= sum(steps.size for steps in parts.pieces) < 2 * mask.sum()
    assert len(parts.pieces) <= np.log2(len(parts.begins)) + 1


def both_paths(name, **options):
    """The same layer on the kernel, over parted rows, and on the loop."""
    make = {"projection": functools.partial(rk.LSTM, projection=2)}.get(name)
    make = make or getattr(rk, name)
    pair = [make(UNITS, use_cudnn=path, **options) for path in (True, False)]
    for layer in pair:
        layer.build((BATCH, TIME, FEATURES))
        rng = np.random.default_rng(1)
        layer.set_weights([rng.normal(size=x.shape, scale=0.5) for x in layer.get_weights()])
    return pair


@on_torch
@pytest.mark.backends
@pytest.mark.parametrize("masked", ["none", "holes", "nothing"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU", "projection"])
def test_values_and_gradients_are_those_of_the_loop(name, backwards, masked, monkeypatch):
    import torch

    reference_kernels.install(monkeypatch)
    # Keras's own multiplies float64 in float32 on torch.
    monkeypatch.setattr(ops, "matmul", lambda x, y: torch.matmul(x, ops.convert_to_tensor(y)))
    mask = np.zeros((BATCH, TIME), bool) if masked == "nothing" else mask_of(masked)
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-6)):
        options = {"go_backwards": backwards, "learn_initial_state": True, "dtype": dtype}
        results = [
            values_and_gradients(layer, mask, dtype)
            for layer in both_paths(name, **options, **EVERYTHING)
        ]
        for one, other in zip(*results, strict=True):
            scale = 1 + np.abs(other).max()
            np.testing.assert_allclose(one, other, atol=tolerance * scale, rtol=tolerance)


def values_and_gradients(layer, mask, dtype):
    """What a layer returns, and the gradients of inputs, weights and given states through it."""
    rng, x, weights = np.random.default_rng(2), inputs(dtype=dtype), layer.get_weights()
    # Later parts begin with what was learned, the first ones with what is given.
    states = [rng.normal(size=(BATCH, *x.shape)).astype(dtype) for x in layer.learned_states]
    options = {"mask": mask, "reset": RESETS}
    reference_kernels.CALLS.clear()
    outputs = arrays(layer(x, initial_state=states, **options))
    assert bool(reference_kernels.CALLS) == layer.use_cudnn
    shares = [rng.normal(size=y.shape).astype(dtype) for y in outputs]

    def loss(x, *rest):
        own, initial = rest[: len(weights)], list(rest[len(weights) :])
        results = with_weights(layer, own, x, initial_state=initial, **options)
        return weighted(results, shares)

    return outputs + gradients(loss, [x, *weights, *states])


CASES = {
    "dropout": {"dropout": 0.5, "weight_dropout": 0.5, "seed": 1, **EVERYTHING},
    "stateful": {"stateful": True},
    "last states": {"return_state": True},
    "half": {"dtype": "mixed_bfloat16", **EVERYTHING},
    "zeros": {"zero_output_for_mask": True, "return_sequences": True},
}


@on_torch
@pytest.mark.backends
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_options_mean_what_they_mean_on_the_loop(name, case):
    results = []
    tolerance = 0.03 if case == "half" else 2e-6
    for path in (True, False):
        keras.utils.set_random_seed(0)
        both = rk.Bidirectional(getattr(rk, name)(UNITS, use_cudnn=path, **CASES[case]))
        calls = [
            both(inputs(seed=seed), mask=mask_of("holes"), reset=RESETS, training=True)
            for seed in (1, 2)
        ]
        carried = [layer.states or [] for layer in both.directions()]
        results.append([ops.cast(x, "float32") for x in keras.tree.flatten([calls, carried])])
    for one, other in zip(*map(arrays, results), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)


@on_torch
@pytest.mark.backends
def test_the_report_says_from_which_size_on_rows_are_parted(monkeypatch):
    kernel = kernels.current()
    x, reset = keras.Input((TIME, FEATURES)), keras.Input((TIME,), dtype="bool")
    model = keras.Model([x, reset], rk.GRU(UNITS, name="gru")(x, reset=reset))

    def path(**options):
        return rk.explain_path(model, [inputs(), RESETS], **options)["gru"]

    wanted = arrays(model([inputs(), RESETS]))
    assert (path().path, path().quickest) == ("loop", True)
    (failed,) = path().failed
    found = f"{TIME} time steps, {FEATURES} features, {BATCH} samples, 80 multiplications"
    assert (failed.name, failed.value) == ("parts", found)
    fits = (TIME, FEATURES, BATCH, BATCH * UNITS**2)
    monkeypatch.setitem(kernel.PARTED, "inference", fits)
    assert path().path == "aten"
    reference_kernels.install(monkeypatch)
    np.testing.assert_allclose(arrays(model([inputs(), RESETS])), wanted, atol=1e-6)
    assert reference_kernels.CALLS
    monkeypatch.setitem(kernel.PARTED, "training", fits)
    for at, by in enumerate((1, -1, -1, -1)):
        beyond = [size + by * (place == at) for place, size in enumerate(fits)]
        monkeypatch.setitem(kernel.PARTED, "inference", beyond)
        assert [path(training=trains).path for trains in (False, True)] == ["loop", "aten"]


@on_torch
@pytest.mark.backends
def test_an_lstm_of_which_h_alone_is_asked_is_parted_at_any_size(monkeypatch):
    monkeypatch.setitem(kernels.current().PARTED, "h of an LSTM", (TIME, FEATURES))
    reference_kernels.install(monkeypatch)
    for option in ({}, *({name: True} for name in ("return_state", "return_state_sequences"))):
        reference_kernels.CALLS.clear()
        rk.LSTM(UNITS, **option)(inputs(), reset=RESETS)
        assert bool(reference_kernels.CALLS) == (not option)


@on_torch
@pytest.mark.backends
def test_where_the_resets_are_not_known_the_loop_is_taken(monkeypatch):
    import torch

    monkeypatch.setitem(kernels.current().PARTED, "inference", (0,))
    layer = rk.GRU(UNITS, return_sequences=True)
    x, resets = (torch.from_numpy(value) for value in (inputs(), RESETS))
    wanted = layer(x, reset=resets)

    reference_kernels.install(monkeypatch)
    by_row = torch.func.vmap(lambda x, resets: layer(x[None], reset=resets[None])[0])
    torch.testing.assert_close(by_row(x, resets), wanted)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, resets: layer(x, reset=resets), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(x, resets), wanted)
    with keras.device("meta"):
        monkeypatch.setattr(torch, "empty_like", lambda x, **kwargs: x)
        assert layer(x.to("meta"), reset=resets.to("meta")).is_meta
    assert not reference_kernels.CALLS
