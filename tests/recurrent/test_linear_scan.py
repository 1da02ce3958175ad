"""The linear recurrence: values, gradients and shapes, in both ways that it is computed."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_rnnkit.recurrent import kernels, linear_scan
from tests.recurrent.autodiff import gradients

pytestmark = pytest.mark.backends
BACKEND = keras.backend.backend()
DTYPE = "float32" if BACKEND == "jax" else "float64"  # JAX has float64 only on request


def loop(leak, drive, initial):
    c, found = initial, []
    for t in range(leak.shape[1]):
        c = leak[:, t] * c + drive[:, t]
        found.append(c)
    return np.stack(found, axis=1)


def drawn(time, dtype="float32", batch=3, units=2, seed=0):
    rng = np.random.default_rng(seed)
    leak = rng.uniform(size=(batch, time, units))
    leak[rng.random(leak.shape) < 0.1] = 0
    leak[rng.random(leak.shape) < 0.2] = 1
    drive = rng.normal(size=(batch, time, units))
    return [x.astype(dtype) for x in (leak, drive, rng.normal(size=(batch, units)))]


def scanned(values, device, monkeypatch):
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: device)
    return ops.convert_to_numpy(linear_scan.linear_scan(*map(ops.convert_to_tensor, values)))


@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_every_length_is_the_loop(device, monkeypatch):
    lengths = [*range(1, 131), 1000]
    if device == "CPU" or BACKEND == "jax":  # which compiles for a second at each length
        lengths = [1, 2, 7, 8, 9, 16, 63, 64, 65, 67, 130, 1000]
    for time in lengths:
        values = drawn(time, seed=time)
        wanted = loop(*(value.astype("float64") for value in values))
        np.testing.assert_allclose(
            scanned(values, device, monkeypatch), wanted, rtol=1e-5, atol=2e-6, err_msg=str(time)
        )


@pytest.mark.parametrize("device", ["CPU", "GPU"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype, device, monkeypatch):
    """1,000 steps of 1/1024 make about 1; a sum in half precision stops far below."""
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: device)
    leak, drive = ops.ones((1, 1000, 1), dtype), ops.full((1, 1000, 1), 1 / 1024, dtype)
    c = linear_scan.linear_scan(leak, drive, ops.full((1, 1), 8.0, dtype))
    assert keras.backend.standardize_dtype(c.dtype) == dtype
    last = ops.convert_to_numpy(ops.cast(c, "float32"))[0, -1, 0]
    assert last == pytest.approx(8 + 1000 / 1024, rel=1e-2 if dtype == "bfloat16" else 1e-3)


OVERFLOWS = {
    # The product of the leaks is infinite, and no state is.
    "leaks of ten before the first drive": (
        lambda: (np.full((1, 300, 1), 10.0), np.eye(1, 300, 290)[..., None], np.zeros((1, 1)))
    ),
    "huge leaks, then one of zero": (
        lambda: (
            np.where(np.arange(300) % 4 == 3, 0.0, 1e15)[None, :, None],
            np.where(np.arange(300) % 4 == 3, 1e-30, 0.0)[None, :, None],
            np.zeros((1, 1)),
        )
    ),
    "a tiny state grown": (
        lambda: (np.full((1, 200, 1), 2.0), np.zeros((1, 200, 1)), np.full((1, 1), 1e-37))
    ),
    # Its inverse is infinite.
    "leaks of a thousandth": (
        lambda: (np.full((1, 300, 1), 1e-3), np.ones((1, 300, 1)), np.ones((1, 1)))
    ),
    "a state that does become infinite": (
        lambda: (np.full((1, 300, 1), 10.0), np.zeros((1, 300, 1)), np.ones((1, 1)))
    ),
}


@pytest.mark.parametrize("device", ["CPU", "GPU"])
@pytest.mark.parametrize("case", OVERFLOWS)
def test_a_product_of_leaks_may_overflow(case, device, monkeypatch):
    values = [value.astype("float32") for value in OVERFLOWS[case]()]
    with np.errstate(over="ignore"):
        wanted = loop(*values)
    np.testing.assert_allclose(scanned(values, device, monkeypatch), wanted, rtol=1e-5)


def weighted(share, *tensors):
    return ops.sum(linear_scan.linear_scan(*tensors) * ops.convert_to_tensor(share))


@pytest.mark.parametrize("device", ["CPU", "GPU"])
@pytest.mark.parametrize("time", [1, 5, 8, 9, 70])
def test_gradients_are_finite_differences(time, device, monkeypatch):
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: device)
    values = drawn(time, "float64", batch=1)
    share = np.random.default_rng(1).normal(size=values[1].shape)
    found = gradients(
        functools.partial(weighted, share.astype(DTYPE)), [value.astype(DTYPE) for value in values]
    )
    # The sum is linear in each entry, so that a difference of any width is exact.
    for value, gradient in zip(values, found, strict=True):
        for index in np.ndindex(value.shape):
            kept = value[index]
            value[index] = kept + 1
            above = np.sum(loop(*values) * share)
            value[index] = kept - 1
            below = np.sum(loop(*values) * share)
            value[index] = kept
            tolerance = 1e-4 if DTYPE == "float32" else 1e-9
            assert gradient[index] == pytest.approx((above - below) / 2, rel=tolerance, abs=1e-5)


@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_the_gradient_has_a_gradient(device, monkeypatch):
    """Against JAX's and torch's own rules for a plain loop, or TensorFlow's for another scan."""
    monkeypatch.setattr(kernels.current(), "device", lambda tensor: device)
    values = [ops.convert_to_tensor(value) for value in drawn(11, DTYPE)]

    def plain(leak, drive, c):
        found = []
        for t in range(leak.shape[1]):
            c = leak[:, t] * c + drive[:, t]
            found.append(c)
        return ops.stack(found, axis=1)

    found, wanted = (second_gradient(scan, values) for scan in (linear_scan.linear_scan, plain))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def second_gradient(scan, values):
    """Of the squared gradient of a sum of cubes."""

    def cubes(*tensors):
        return ops.sum(scan(*tensors) ** 3)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(values)
            with tf.GradientTape() as inner:
                inner.watch(values)
                loss = cubes(*values)
            total = sum(ops.sum(g**2) for g in inner.gradient(loss, values))
        found = outer.gradient(total, values)
    elif BACKEND == "jax":
        import jax

        def total(tensors):
            return sum(ops.sum(g**2) for g in jax.grad(lambda t: cubes(*t))(tensors))

        found = jax.grad(total)(values)
    else:
        import torch

        tensors = [value.detach().requires_grad_() for value in values]
        first = torch.autograd.grad(cubes(*tensors), tensors, create_graph=True)
        found = torch.autograd.grad(sum((g**2).sum() for g in first), tensors)
    return [ops.convert_to_numpy(gradient) for gradient in found]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow traces unknown lengths")
@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_lengths_and_batches_known_only_at_run_time(device, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(kernels.current(), "device", lambda tensor: device)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 2)),
            tf.TensorSpec((None, None, 2)),
            tf.TensorSpec((None, 2)),
        ]
    )
    def both(leak, drive, initial):
        with tf.GradientTape() as tape:
            tape.watch([leak, drive, initial])
            c = linear_scan.linear_scan(leak, drive, initial)
            assert c.shape.as_list() == [None, None, 2]
            total = tf.reduce_sum(c**2)
        return c, tape.gradient(total, [leak, drive, initial])

    for time in (1, 8, 65, 513, 1100):
        values = drawn(time)
        c, found = both(*map(tf.constant, values))
        np.testing.assert_allclose(c, loop(*values), rtol=1e-5, atol=2e-6)
        wanted = gradients(lambda *tensors: ops.sum(linear_scan.linear_scan(*tensors) ** 2), values)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a graph keeps the shapes it was traced with")
@pytest.mark.parametrize("device", ["CPU", "GPU"])
@pytest.mark.parametrize("shape", [(4, 30, 2), (None, 30, 2), (4, None, 2), (None, None, 2)])
def test_a_graph_knows_every_axis_that_its_inputs_know(shape, device, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(kernels.current(), "device", lambda tensor: device)
    traced = tf.function(linear_scan.linear_scan).get_concrete_function(
        tf.TensorSpec(shape), tf.TensorSpec(shape), tf.TensorSpec((shape[0], 2))
    )
    assert tuple(traced.structured_outputs.shape) == shape
