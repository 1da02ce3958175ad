"""Every cell, mask, direction, path, dtype and mode against the equations in NumPy, and Keras."""

import inspect

import keras
import numpy as np
import pytest

from keras_rnnkit.recurrent import kernels
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.autodiff import compiled
from tests.recurrent.cases import (
    BATCH,
    CELLS,
    FEATURES,
    MASKS,
    TIME,
    UNITS,
    arrays,
    inputs,
    make,
    mask_of,
    ready,
    states_of,
    weights_of,
)

pytestmark = pytest.mark.backends
EVERYTHING = {"return_sequences": True, "return_state": True, "return_state_sequences": True}


@pytest.fixture(params=["loop", "fused", "block"])
def path(request, monkeypatch):
    """The loop by `use_cudnn=False`, the kernel (or a stand-in) by True, the block in training."""
    if request.param != "block":
        reference_kernels.install(monkeypatch)
    elif kernels.current().BLOCKS:
        reference_kernels.watch_block(monkeypatch)
    return request.param


def skip_without_kernel(cell, path):
    kinds = {"LSTM"} if keras.backend.backend() == "jax" else {"SimpleRNN", "LSTM", "GRU"}
    if path == "fused" and cell not in kinds:
        pytest.skip("no fused kernel computes this cell on this backend")
    if path == "block" and (cell != "LSTM" or not kernels.current().BLOCKS):
        pytest.skip("the block trains the LSTM on TensorFlow alone")


def on(path):
    """Arguments of a layer, and of its call, that lead to the path."""
    use_cudnn = {"loop": False, "fused": True, "block": "auto"}[path]
    return {"use_cudnn": use_cudnn, **EVERYTHING}, {"training": path == "block"}


def assert_close(found, wanted, rtol=1e-5, atol=2e-6):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_result_is_that_of_the_equations(cell, mask, backwards, path):
    skip_without_kernel(cell, path)
    x, states, mask = inputs(), states_of(cell), mask_of(mask)
    options, call = on(path)
    for zero in (False, True):
        layer = ready(cell, go_backwards=backwards, zero_output_for_mask=zero, **options)
        wanted = reference.run(cell, weights_of(cell), x, states, mask, backwards, zero)
        found = arrays(layer(x, mask=mask, initial_state=states, **call))
        assert_close(found, [wanted["outputs"], *wanted["last"], *wanted["states"]])
        layer.return_sequences = layer.return_state_sequences = False
        found = arrays(layer(x, mask=mask, initial_state=states, **call))
        assert_close(found, [wanted["outputs"][:, -1], *wanted["last"]])
    assert bool(reference_kernels.CALLS) == (path != "loop")


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell", CELLS)
def test_results_are_those_of_keras_layer(cell, mask, backwards):
    x, mask = inputs(), mask_of(mask)
    for sequences in (False, True):
        options = {
            "return_sequences": sequences,
            "return_state": True,
            "go_backwards": backwards,
            "zero_output_for_mask": sequences,
        }
        ours, theirs = ready(cell, **options), ready(cell, library=keras.layers, **options)
        assert_close(arrays(ours(x, mask=mask)), arrays(theirs(x, mask=mask)))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell", CELLS)
def test_stateful_batches_continue_one_another(cell, mask, path):
    skip_without_kernel(cell, path)
    x, mask = inputs(), mask_of(mask)
    options, call = on(path)
    layer = ready(cell, stateful=True, **options)
    whole = reference.run(cell, weights_of(cell), x, mask=mask)
    halves = [slice(0, 2), slice(2, TIME)]
    found = [
        arrays(layer(x[:, half], mask=None if mask is None else mask[:, half], **call))
        for half in halves
    ]
    count = len(whole["states"])
    for index in range(count):
        sequence = np.concatenate([results[1 + count + index] for results in found], axis=1)
        np.testing.assert_allclose(sequence, whole["states"][index], rtol=1e-5, atol=2e-6)
    assert_close(arrays(layer.states), whole["last"])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell", CELLS)
def test_mixed_precision_is_close_to_the_equations(cell, mask, policy):
    # 6 steps of products rounded to 11 or 8 bits: a few units in the last place of values near 1.
    tolerance = 0.01 if policy == "mixed_float16" else 0.06
    x, mask = inputs(), mask_of(mask)
    layer = ready(cell, dtype=policy, **EVERYTHING)
    wanted = reference.run(cell, weights_of(cell), x, mask=mask)
    results = keras.tree.flatten(layer(x, mask=mask))
    assert {keras.backend.standardize_dtype(r.dtype) for r in results} == {policy[6:]}
    found = [keras.ops.convert_to_numpy(keras.ops.cast(r, "float32")) for r in results]
    assert_close(found, [wanted["outputs"], *wanted["last"], *wanted["states"]], atol=tolerance)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_gives_what_eager_gives(cell, mask, jit, training):
    if training and (cell != "LSTM" or not kernels.current().BLOCKS):
        pytest.skip("training takes the path of inference")
    x, states, mask = inputs(), states_of(cell), mask_of(mask)
    layer = ready(cell, **EVERYTHING)
    options = {"mask": mask, "training": training}
    function = compiled(lambda x, *states: layer(x, initial_state=list(states), **options), jit)
    if function is None:
        pytest.skip("this backend has no such mode")
    wanted = reference.run(cell, weights_of(cell), x, states, mask)
    found = arrays(function(x, *states))
    assert_close(found, [wanted["outputs"], *wanted["last"], *wanted["states"]])


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_the_kernel_stands_in_a_graph(cell, monkeypatch):
    skip_without_kernel(cell, "fused")
    reference_kernels.install(monkeypatch)
    x, states, mask = inputs(), states_of(cell), mask_of("empty row")
    layer = ready(cell, use_cudnn=True, **EVERYTHING)
    function = compiled(
        lambda x, mask, *states: layer(x, initial_state=list(states), mask=mask),
        jit=keras.backend.backend() == "jax",
    )
    if function is None:
        pytest.skip("this backend has no graph that its kernel may stand in")
    wanted = reference.run(cell, weights_of(cell), x, states, mask)
    found = arrays(function(x, mask, *states))
    assert_close(found, [wanted["outputs"], *wanted["last"], *wanted["states"]])


@pytest.mark.parametrize("cell", CELLS)
def test_unrolled_gives_what_the_loop_gives(cell):
    x, mask = inputs(), mask_of("holes")
    wanted = reference.run(cell, weights_of(cell), x, mask=mask, backwards=True)
    layer = ready(cell, unroll=True, go_backwards=True, **EVERYTHING)
    found = arrays(layer(x, mask=mask))
    assert_close(found, [wanted["outputs"], *wanted["last"], *wanted["states"]])


@pytest.mark.parametrize("cell", CELLS)
def test_unknown_batch_and_time(cell, path):
    if path == "block":
        pytest.skip("the block asks for a known batch size")
    skip_without_kernel(cell, path)
    sequences = keras.Input((None, FEATURES))
    mask = keras.Input((None,), dtype="bool")
    layer = make(cell, **on(path)[0])
    results = layer(sequences, mask=mask)
    assert {result.shape for result in results} == {(None, None, UNITS), (None, UNITS)}
    layer.set_weights(weights_of(cell))
    if keras.backend.backend() == "tensorflow" and path == "fused":
        # The stand-in needs the shape that cuDNN finds out at run time: look at the graph alone.
        return
    model = keras.Model([sequences, mask], results)
    for batch, time in ((BATCH, TIME), (2, 3)):
        x, valid = inputs(batch, time), mask_of("holes", batch, time)
        wanted = reference.run(cell, weights_of(cell), x, mask=valid)
        found = arrays(model.predict([x, valid], verbose=0))
        assert_close(found, [wanted["outputs"], *wanted["last"], *wanted["states"]])


def test_one_row_of_states_stands_for_every_sample():
    x, (h, c) = inputs(), states_of("LSTM")
    layer = ready("LSTM", return_state=True)
    tiled = [np.tile(state[:1], (BATCH, 1)) for state in (h, c)]
    wanted = arrays(layer(x, initial_state=tiled))
    assert_close(arrays(layer(x, initial_state=[h[:1], c[0]])), wanted)


def test_six_functions_at_most_lie_between_a_call_and_its_equation():
    """What a reader walks through; the frames are counted where the equation calls `activation`."""
    frames = []

    def activation(x):
        modules = [frame.frame.f_globals["__name__"] for frame in inspect.stack()]
        frames.append(sum(name.startswith("keras_rnnkit.") for name in modules))
        return keras.ops.tanh(x)

    ready("LSTM", activation=activation)(inputs())
    assert frames
    assert max(frames) - 2 <= 6  # less `__call__` and the equation itself
