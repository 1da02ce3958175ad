"""States and gates recovered from inputs and hidden states, all steps at once.

A fused kernel returns only h. Every gate of a step depends on the input and on the h before it.
Both are known after the kernel has run, so one batched product gives the gates of all steps. The
LSTM's cell state is linear in itself, `c' = f c + i g`, so that `linear_scan` computes it.
"""

from typing import Any

from keras import ops

from keras_rnnkit.recurrent.equations import Equations, LSTMEquations
from keras_rnnkit.recurrent.linear_scan import linear_scan


def states(
    equations: type[Equations],
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
        h: (batch, time, units), the hidden state after each step, repeated over masked steps.
        initial_states: The states before the first step, each (batch, units).
        mask: (batch, time) or None.
        training: Whether dropout applied.

    Returns:
        One (batch, time, units) for each state; masked steps hold the state before them.
    """
    if not issubclass(equations, LSTMEquations):
        return [h]
    before = _before(h, initial_states[0])
    leak, drive = equations.leak_and_drive(cell, sequences, before, training)
    return [h, recurrence(leak, drive, initial_states[1], mask)]


def gates_and_states(
    equations: type[Equations],
    cell: Any,
    sequences: Any,
    known: list[Any],
    initial_states: Any,
    mask: Any = None,
    restarted: Any = None,
) -> tuple[list[Any], list[Any]]:
    """Return every gate at every step, in the order of `equations.gate_names`, and every state.

    Args:
        equations: As in `states`.
        cell: As in `states`.
        sequences: As in `states`.
        known: Every state at every step, repeated over masked steps. Or h alone, for equations of
            which `follows_from_h` is true.
        initial_states: As in `states`.
        mask: As in `states`.
        restarted: A function that applies resets to the states before every step, or None. With
            resets every state must be known.

    Returns:
        One (batch, time, units) for each gate, at a masked step as if the step were valid; and the
        states as `states` returns them.
    """
    before = [_before(x, start) for x, start in zip(known, initial_states, strict=False)]
    # From a c of zero, `f c + i g` is i g.
    lead = ops.shape(known[0])[:2]
    unknown = initial_states[len(known) :]
    before += [ops.zeros((*lead, start.shape[-1]), start.dtype) for start in unknown]
    before = before if restarted is None else restarted(before)
    gates, made = equations.step(cell, equations.project(cell, sequences), before)
    if len(known) == len(made):
        return gates, known
    return gates, [*known, recurrence(gates[1], made[1], initial_states[1], mask)]


def _before(h: Any, initial_h: Any) -> Any:
    """The hidden state before each step."""
    return ops.concatenate([ops.expand_dims(initial_h, 1), h[:, :-1]], axis=1)


def recurrence(
    leak: Any, drive: Any, initial: Any, mask: Any, resets: Any = None, start: Any = None
) -> Any:
    """`c' = leak c + drive` at every valid step, and the previous c at masked steps.

    Where `resets`, (batch, time), is true, `start` replaces the c before the step.
    """
    if mask is not None:
        counts = ops.expand_dims(mask, -1)
        leak = ops.where(counts, leak, ops.ones_like(leak))
        drive = ops.where(counts, drive, ops.zeros_like(drive))
    if resets is not None:
        begins, start = ops.expand_dims(resets, -1), ops.expand_dims(start, 1)
        drive = ops.where(begins, leak * ops.cast(start, leak.dtype) + drive, drive)
        leak = ops.where(begins, ops.zeros_like(leak), leak)
    return linear_scan(leak, drive, initial)
