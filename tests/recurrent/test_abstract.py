"""JAX: whole train steps evaluated for their shapes alone, with the kernel's stand-in."""

import keras
import pytest

import keras_rnnkit as rk
from keras_rnnkit.recurrent import kernels
from tests.recurrent import reference_kernels

if keras.backend.backend() != "jax":
    pytest.skip("only JAX evaluates without values", allow_module_level=True)

import jax

pytestmark = pytest.mark.backends


def model_of(bidirectional, masked):
    """A functional model with a head behind every sequence that an LSTM returns."""
    start = keras.Input((6, 3))
    layer = rk.LSTM(
        4,
        return_sequences=True,
        return_state=True,
        return_state_sequences=True,
    )
    layer = rk.Bidirectional(layer) if bidirectional else layer
    found = layer(start, mask=start[..., 0] > 0 if masked else None)
    heads = [keras.layers.Dense(2)(result) for result in found]
    attended = keras.layers.Attention()([found[-1], found[-1]])
    return keras.Model(start, [*heads, rk.GRU(2)(found[-1]), attended[:, -1]])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_train_step_has_the_shapes_of_the_model(bidirectional, masked, monkeypatch):
    reference_kernels.install(monkeypatch)
    model = model_of(bidirectional, masked)
    model.compile("sgd", "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    x = jax.ShapeDtypeStruct((5, 6, 3), "float32")
    y = [jax.ShapeDtypeStruct((5, *out.shape[1:]), "float32") for out in model.outputs]
    found = jax.eval_shape(
        lambda weights, rest, x: model.stateless_call(weights, rest, x)[0],
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
        x,
    )
    assert [each.shape for each in found] == [each.shape for each in y]
    reference_kernels.CALLS.clear()
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    _, (weights, *_) = jax.eval_shape(
        lambda state, x, y: model.train_step(state, (x, y)), state, x, y
    )
    assert [each.shape for each in weights] == [v.shape for v in model.trainable_variables]
    assert reference_kernels.CALLS[0] == ("lstm", 2 if bidirectional else 1)


def test_below_some_units_the_scan_is_taken_for_the_quicker(monkeypatch):
    kernel = kernels.current()
    measured = kernel.FUSED_FROM_UNITS
    reference_kernels.install(monkeypatch)
    monkeypatch.setattr(kernel, "FUSED_FROM_UNITS", measured)
    paths = {units: rk.explain_path(rk.LSTM(units)).layers[0] for units in (32, 255, 256, 512)}
    assert [path.path for path in paths.values()] == ["scan", "scan", "cudnn", "cudnn"]
    assert [condition.name for condition in paths[32].failed] == ["units"]
    assert all(path.quickest for path in paths.values())
    rk.explain_path(rk.LSTM(32), strict=True)
    assert rk.explain_path(rk.LSTM(32, use_cudnn=True)).layers[0].path == "cudnn"
    assert rk.explain_path(rk.LSTM(512, use_cudnn=False)).layers[0].path == "scan"
    x = keras.ops.ones((2, 3, 4))
    for units, forced in ((32, "auto"), (32, True), (256, "auto")):
        reference_kernels.CALLS.clear()
        rk.LSTM(units, use_cudnn=forced)(x)
        assert bool(reference_kernels.CALLS) == (forced is True or units == 256)
