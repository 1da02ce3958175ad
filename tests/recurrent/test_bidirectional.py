"""Bidirectional: both directions' states in the input's time order, on both paths."""

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.cases import (
    BATCH,
    FEATURES,
    MASKS,
    TIME,
    UNITS,
    arrays,
    inputs,
    make,
    mask_of,
    states_of,
    weights_of,
)


def both(cell, merge_mode="concat", **kwargs):
    layer = rk.Bidirectional(make(cell, **kwargs), merge_mode=merge_mode)
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([*weights_of(cell, seed=3), *weights_of(cell, seed=4)])
    return layer


@pytest.mark.backends
@pytest.mark.parametrize("path", ["fused", "loop"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_both_directions_are_those_of_the_equations(cell, mask, path, monkeypatch):
    if path == "fused" and keras.backend.backend() == "jax" and cell != "LSTM":
        pytest.skip("no fused kernel computes this cell on this backend")
    reference_kernels.install(monkeypatch)
    x, mask = inputs(), mask_of(mask)
    states = [states_of(cell, seed=11), states_of(cell, seed=12)]
    layer = both(
        cell,
        return_sequences=True,
        return_state=True,
        return_state_sequences=True,
        use_cudnn=path == "fused",
    )
    runs = [
        reference.run(cell, weights_of(cell, seed=3 + d), x, states[d], mask, d == 1, True)
        for d in range(2)
    ]
    output = np.concatenate([runs[0]["outputs"], runs[1]["outputs"][:, ::-1]], axis=-1)
    expected = [
        output,
        *runs[0]["last"],
        *runs[1]["last"],
        *runs[0]["states"],
        *(sequence[:, ::-1] for sequence in runs[1]["states"]),
    ]
    found = arrays(layer(x, initial_state=[*states[0], *states[1]], mask=mask))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    calls = [2]
    if keras.backend.backend() == "torch" and mask is not None:
        calls = [1, 1]  # its dense kernel would begin the backward direction in the padding
    assert [directions for _, directions in reference_kernels.CALLS] == calls * (path == "fused")


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_merging_is_keras_merging(merge_mode, sequences):
    x, mask = inputs(), mask_of("right")
    options = {"return_sequences": sequences, "return_state": True}
    ours = rk.Bidirectional(rk.LSTM(UNITS, **options), merge_mode=merge_mode)
    theirs = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, **options), merge_mode=merge_mode)
    wanted = arrays(theirs(x, mask=mask))
    ours.build(x.shape)
    ours.set_weights(arrays(theirs.weights))
    for one, other in zip(arrays(ours(x, mask=mask)), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


@pytest.mark.backends
@pytest.mark.parametrize("merge_mode", ["concat", None])
def test_a_functional_model_knows_every_shape_and_mask(merge_mode):
    words = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(5, FEATURES, mask_zero=True)(words)
    layer = rk.Bidirectional(
        rk.LSTM(UNITS, return_sequences=True, return_state=True, return_state_sequences=True),
        merge_mode=merge_mode,
    )
    results = keras.tree.flatten(layer(vectors))
    following = rk.GRU(3)(results[0])
    model = keras.Model(words, [*results, following])
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    found = model.predict(x, verbose=0)
    for tensor, value in zip(model.outputs, found, strict=True):
        assert tensor.shape[-1] == value.shape[-1]
        assert len(tensor.shape) == value.ndim
    np.testing.assert_array_equal(found[0][1, 1:], 0)
    shorter = model.predict(x[:, :2], verbose=0)
    np.testing.assert_allclose(found[-1], shorter[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.backends
def test_dropout_is_drawn_for_each_direction():
    layer = both("GRU", dropout=0.5, use_cudnn="auto")
    assert not layer.fuses(training=True)
    x = inputs()
    first, second = arrays([layer(x, training=True), layer(x, training=True)])
    assert np.abs(first - second).max() > 1e-3


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="same `return_state_sequences`"):
        rk.Bidirectional(
            rk.GRU(3, return_state_sequences=True),
            backward_layer=rk.GRU(3, go_backwards=True),
        )
    with pytest.raises(ValueError, match="as many for the backward layer; received 1"):
        rk.Bidirectional(rk.GRU(3))(inputs(), initial_state=[np.zeros((BATCH, 3), "float32")])
    with pytest.raises(ValueError, match="expected ndim=3"):
        rk.Bidirectional(rk.GRU(3))(inputs()[:, 0])


@pytest.mark.backends
@pytest.mark.parametrize("cell", [rk.LSTM, lambda *a, **k: rk.RNN(rk.GRUCell(*a), **k)])
def test_keras_own_is_refused_around_state_sequences_and_nothing_else(cell, tmp_path):
    def layer(name="any", sequences=True, **options):
        return cell(3, name=name, return_state_sequences=sequences, **options)

    x = inputs()
    theirs = keras.layers.Bidirectional
    for wrapped in (
        lambda: theirs(layer(return_sequences=True)),
        lambda: theirs(layer(return_state=True), merge_mode=None),
        lambda: theirs(layer("forward_x"), backward_layer=layer("y", go_backwards=True)),
        lambda: theirs.from_config(theirs(layer()).get_config()),
    ):
        for call in (lambda both: both(x), lambda both: both(keras.Input(x.shape[1:]))):
            with pytest.raises(ValueError, match=r"wrong axis of\. Use rk\.Bidirectional"):
                call(wrapped())
    theirs(layer(sequences=False, return_sequences=True))(x)
    ours = rk.Bidirectional(layer("forward_x", return_sequences=True))
    kept = rk.Bidirectional(
        layer("forward_x"), backward_layer=layer("backward_x", go_backwards=True)
    )
    start = keras.Input(x.shape[1:])
    alone = layer("backward_x", go_backwards=True)
    results = [ours(start), kept(start), alone(start), layer("forward_y")(start)]
    model = keras.Model(start, keras.tree.flatten(results))
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    for one, other in zip(arrays(again(x)), arrays(model(x)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.backends
def test_what_is_set_later_is_set_in_both_directions():
    """Else `return_sequences` turned the axis of the units."""
    later, early = rk.Bidirectional(make("LSTM")), both("LSTM", return_sequences=True)
    later.return_sequences = True
    later.stateful = True
    later.build((BATCH, TIME, FEATURES))
    later.set_weights(early.get_weights())
    x = inputs()
    np.testing.assert_allclose(*arrays([later(x), early(x)]), rtol=1e-6)
    assert all(state.any() for layer in later.directions() for state in arrays(layer.states))
    with pytest.raises(ValueError, match=r"`stateful` of 'forward_.*before the layer is built"):
        early.stateful = True
