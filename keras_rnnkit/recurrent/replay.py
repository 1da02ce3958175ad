"""States and gates recovered from inputs and hidden states, all steps at once.

A fused kernel returns h and nothing else. Every gate of a step depends on its input and the h
before it, both known by then, so one batched product gives the gates of all steps; and the LSTM's
cell state is linear in itself, `c' = f c + i g`, for which `linear_scan` is made.
"""

from typing import Any

from keras import ops

from keras_rnnkit.recurrent.equations import Equations, LSTMEquations
from keras_rnnkit.recurrent.linear_scan import linear_scan


def gates(
    equations: Equations,
    cell: Any,
    sequences: Any,
    h: Any,
    initial_h: Any,
    training: bool = False,
) -> list[Any]:
    """Return every gate at every step, in the order of `equations.gate_names`.

    Args:
        equations: The cell's, from `equations_of`.
        cell: The cell that ran, with the dropout masks it drew.
        sequences: (batch, time, features), in the order of processing.
        h: (batch, time, units), the hidden state after each step, held over masked ones.
        initial_h: (batch, units).
        training: Whether dropout applied.

    Returns:
        One (batch, time, units) for each gate. At a masked step it is what the gate would have
        been, had the step counted.
    """
    projected = equations.project(cell, sequences, training)
    return equations.gates(cell, projected, _before(h, initial_h), training)


def states(
    equations: Equations,
    cell: Any,
    sequences: Any,
    h: Any,
    initial_states: Any,
    mask: Any = None,
    training: bool = False,
) -> list[Any]:
    """Return every state at every step, in the order of `equations.state_names`.

    Args:
        equations: The cell's, from `equations_of`.
        cell: The cell that ran, with the dropout masks it drew.
        sequences: (batch, time, features), in the order of processing.
        h: (batch, time, units), the hidden state after each step, held over masked ones.
        initial_states: The states before the first step, each (batch, units).
        mask: (batch, time) or None.
        training: Whether dropout applied.

    Returns:
        One (batch, time, units) for each state; masked steps hold the state before them.
    """
    found: list[Any] = []
    if isinstance(equations, LSTMEquations):
        before = _before(h, initial_states[0])
        found = equations.gates_of_c(cell, sequences, before, training)
    return states_of(equations, found, h, initial_states, mask)


def _before(h: Any, initial_h: Any) -> Any:
    """The hidden state before each step."""
    return ops.concatenate([ops.expand_dims(initial_h, 1), h[:, :-1]], axis=1)


def states_of(
    equations: Equations, found: list[Any], h: Any, initial_states: Any, mask: Any
) -> list[Any]:
    """Return every state at every step from the gates at every step.

    Args:
        equations: The cell's, from `equations_of`.
        found: The gates at every step, in their order; the last, o, may be missing.
        h: (batch, time, units), held over masked steps.
        initial_states: The states before the first step, each (batch, units).
        mask: (batch, time) or None.
    """
    if not isinstance(equations, LSTMEquations):
        return [h]
    leak, drive = equations.leak_and_drive(found)
    if mask is not None:
        counts = ops.expand_dims(mask, -1)
        leak = ops.where(counts, leak, ops.ones_like(leak))
        drive = ops.where(counts, drive, ops.zeros_like(drive))
    return [h, linear_scan(leak, drive, initial_states[1])]
