"""Replay: gates and states after the fact, against the equations, with their dropout masks."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_rnnkit.recurrent import replay
from keras_rnnkit.recurrent.equations import equations_of
from tests import reference
from tests.recurrent import reference_kernels
from tests.recurrent.cases import (
    CELLS,
    arrays,
    inputs,
    mask_of,
    ready,
    states_of,
    weights_of,
)

pytestmark = pytest.mark.backends


@pytest.mark.parametrize("mask", ["none", "holes", "empty row"])
@pytest.mark.parametrize("cell", CELLS)
def test_replay_finds_every_state_and_gate_of_keras_cell(cell, mask):
    x, states, mask = inputs(), states_of(cell), mask_of(mask)
    wanted = reference.run(cell, weights_of(cell), x, states, mask)
    layer = ready(cell, library=keras.layers)
    equations = equations_of(layer.cell)
    x, h, *initial = (ops.convert_to_tensor(a) for a in (x, wanted["states"][0], *states))
    valid = None if mask is None else ops.convert_to_tensor(mask)
    found = replay.states(equations, layer.cell, x, h, initial, valid)
    gates, again = replay.gates_and_states(equations, layer.cell, x, [h], initial, valid)
    for states in (found, again):
        for one, other in zip(arrays(states), wanted["states"], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    for one, name in zip(arrays(gates), equations.gate_names, strict=True):
        np.testing.assert_allclose(one, wanted["gates"][name], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("rates", [{"dropout": 0.4}, {"dropout": 0.4, "implementation": 1}])
def test_replay_applies_the_masks_of_the_forward_pass(rates, monkeypatch):
    """Recorded in the loop or recovered after the kernel, c is the same under dropout."""
    reference_kernels.install(monkeypatch)
    x = inputs()
    found = []
    for use_cudnn in (False, "auto"):
        layer = ready("LSTM", seed=3, return_state_sequences=True, use_cudnn=use_cudnn, **rates)
        found.append(arrays(layer(x, training=True)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    # One mask a gate is no kernel's business: the layer sees that and loops.
    assert bool(reference_kernels.CALLS) == ("implementation" not in rates)
