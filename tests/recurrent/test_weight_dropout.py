"""`weight_dropout`: one mask a pass on the recurrent kernel, before whatever runs the sequence.

Which weights were dropped is read from the gradient, which reaches the others alone; the NumPy
equations with that kernel then give the outputs, at every step.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.autodiff import gradients, with_weights
from tests.recurrent.cases import CELLS, arrays, inputs, mask_of, states_of, weights_of
from tests.recurrent.test_gradients import DTYPE, TOLERANCE, finite_differences, weighted

BACKEND = keras.backend.backend()
RATE = 0.4
HOLDERS = ["loop", "fused", "block", "cell", "Keras's loop", "stack"]


def held(cell, holder, monkeypatch=None, **options):
    """A built layer with weights whose cell drops some of them."""
    name = cell.split()[0]
    options = {"weight_dropout": RATE, "seed": 5} | options
    options |= {"reset_after": cell == "GRU"} if name == "GRU" else {}
    if holder in ("loop", "fused", "block"):
        if holder == "fused":
            reference_kernels.install(monkeypatch)
        if holder == "block":
            reference_kernels.watch_block(monkeypatch)
        options["use_cudnn"] = {"loop": False, "fused": True, "block": "auto"}[holder]
        layer = getattr(rk, name)(4, return_sequences=True, **options)
    else:
        made = getattr(rk, f"{name}Cell")(4, **options)
        library = keras.layers if holder == "Keras's loop" else rk
        layer = library.RNN([made] if holder == "stack" else made, return_sequences=True)
    layer.build((5, 6, 3))
    layer.set_weights(weights_of(cell))
    return layer


@pytest.mark.backends
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_outputs_are_those_of_the_kernel_that_is_left(cell, holder, monkeypatch):
    if holder == "block" and (cell != "LSTM" or not kernels.current().BLOCKS):
        pytest.skip("the block trains the LSTM on TensorFlow alone")
    if holder == "fused" and (cell == "GRU reset before" or (BACKEND == "jax" and cell != "LSTM")):
        pytest.skip("no fused kernel computes this cell on this backend")
    if BACKEND == "jax" and (cell != "LSTM" or holder not in ("loop", "fused")):
        pytest.skip("each compiles for seconds there")
    layer = held(cell, holder, monkeypatch)
    x, states, mask = inputs(), states_of(cell), mask_of("right")
    initial = [states] if holder == "stack" else states
    share = np.random.default_rng(2).normal(size=(5, 6, 4)).astype("float32") * mask[..., None]
    seen = []

    def loss(*weights):
        y = with_weights(layer, weights, x, initial_state=initial, mask=mask, training=True)
        seen.append(arrays(ops.stop_gradient(y))[0] if BACKEND != "jax" else None)
        return weighted([y], [share])

    weights = weights_of(cell)
    _, gradient, _ = gradients(loss, weights)
    left = gradient != 0
    assert 0.4 < left.mean() < 0.8
    kernel = np.where(left, weights[1] / (1 - RATE), 0)
    if seen[0] is None:
        with keras.StatelessScope():
            seen[0] = arrays(layer(x, initial_state=initial, mask=mask, training=True))[0]
    wanted = reference.run(cell, [weights[0], kernel, weights[2]], x, states, mask)["outputs"]
    np.testing.assert_allclose(seen[0][mask], wanted[mask], rtol=1e-5, atol=5e-6)
    # The next pass has a mask of its own, inference and `trace` none.
    first, second = (arrays(layer(x, training=True))[0] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    plain = reference.run(cell, weights, x)["outputs"]
    np.testing.assert_allclose(arrays(layer(x))[0], plain, rtol=1e-5, atol=5e-6)
    if holder == "fused":
        (path,) = rk.explain_path(layer, x, training=True, strict=True).layers
        assert path.fused
        assert {kind for kind, _ in reference_kernels.CALLS} >= {
            layer.equations.fused_kind(layer.cell)
        }
    if holder == "loop":
        (traced,) = rk.trace(layer, x).values()
        np.testing.assert_allclose(traced["h"], plain, rtol=1e-5, atol=5e-6)


@pytest.mark.backends
@pytest.mark.parametrize("cell", ["SimpleRNN", "GRU"] if BACKEND != "jax" else ["SimpleRNN"])
def test_the_gradient_reaches_a_weight_through_the_mask(cell):
    x, states = inputs(2, 4, 3, "float64"), states_of(cell, 2, dtype="float64")
    weights = weights_of(cell, dtype="float64")
    layer = getattr(rk, cell)(4, weight_dropout=RATE, seed=5, dtype=DTYPE)
    layer.build(x.shape)

    def loss(*weights):
        return ops.sum(with_weights(layer, weights, x, initial_state=states, training=True) ** 2)

    found = gradients(loss, [w.astype(DTYPE) for w in weights])
    left = np.where(found[1] != 0, 1 / (1 - RATE), 0)
    dropped = [weights[0], weights[1] * left, weights[2]]

    def wanted():
        return np.sum(reference.run(cell, dropped, x, states)["last"][0] ** 2)

    by_kernel, by_dropped, by_bias = finite_differences(wanted, dropped)
    for one, other in zip(found, (by_kernel, by_dropped * left, by_bias), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("fused", [False, True])
def test_both_directions_drop_their_own(fused, monkeypatch):
    if fused:
        reference_kernels.install(monkeypatch)
    x = inputs()
    both = rk.Bidirectional(rk.LSTM(4, weight_dropout=RATE, seed=5), merge_mode=None)
    both(x)
    assert both.fuses(training=True, tensor=ops.convert_to_tensor(x)) == fused
    with keras.StatelessScope():
        found = arrays(both(x, training=True))
    with keras.StatelessScope():
        wanted = [arrays(layer(x, training=True))[0] for layer in both.directions()]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=5e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.backends
def test_a_model_trains_with_it_in_half_precision_and_from_a_seed():
    if BACKEND == "jax":
        pytest.skip("each compiles for seconds there")
    x, y = inputs(), np.ones((5, 4), "float32")
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        layer = rk.LSTM(4, weight_dropout=RATE, dropout=0.1, recurrent_dropout=0.1, seed=5)
        model = keras.Sequential([keras.Input((6, 3)), layer])
        model.compile("sgd", "mse", run_eagerly=BACKEND == "torch")
        model.fit(x, y, epochs=2, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    half = rk.LSTM(4, weight_dropout=RATE, dtype="mixed_float16", name="half")
    output = half(x, training=True)
    assert keras.backend.standardize_dtype(output.dtype) == "float16"
    assert np.isfinite(arrays(output)[0]).all()
    flow = rk.gradient_flow(half, x, y, "mse", training=True, progress=False)
    assert np.isfinite(flow["half"].norms["c"]).all()


@pytest.mark.parametrize("rate", [1, 1.5, -0.1, "0.1"])
def test_a_rate_that_is_none_is_refused(rate):
    for name in ("SimpleRNN", "LSTM", "GRU"):
        for make in (getattr(rk, name), getattr(rk, f"{name}Cell")):
            with pytest.raises(ValueError, match=r"`weight_dropout` must be in \[0, 1\)"):
                make(3, weight_dropout=rate)
