"""States and gates recovered from inputs and hidden states, all steps at once.

A fused kernel returns h and nothing else. Every gate of a step depends on its input and the h
before it, both known by then, so one batched product gives the gates of all steps; and the LSTM's
cell state is linear in itself, `c' = f c + i g`: cheap to step through, and on a GPU open to an
associative scan.
"""

from typing import Any

from keras import ops

from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.equations import Equations, LSTMEquations


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


def linear_scan(leak: Any, drive: Any, initial: Any) -> Any:
    """Return every `c[t] = leak[t] * c[t-1] + drive[t]`: (batch, time, units).

    Args:
        leak: (batch, time, units).
        drive: (batch, time, units).
        initial: (batch, units), `c` before the first step.
    """
    # A GPU waits at each step; a CPU is done with it sooner than with the rounds of a scan.
    on_gpu = kernels.current().device(leak) == "GPU"
    return (associative_scan if on_gpu else stepping_scan)(leak, drive, initial)


def stepping_scan(leak: Any, drive: Any, initial: Any) -> Any:
    """`linear_scan` one step after the other."""

    def step(states: Any, inputs_t: Any) -> Any:
        return [inputs_t[0] * states[0] + inputs_t[1]]

    by_time = [ops.transpose(x, (1, 0, 2)) for x in (leak, drive)]
    _, (c,) = kernels.current().scan(step, [initial], by_time, list)
    return ops.transpose(c, (1, 0, 2))


def associative_scan(leak: Any, drive: Any, initial: Any) -> Any:
    """`linear_scan` in O(log time) rounds.

    Pairs `(a, b)` standing for `c -> a c + b` compose to pairs (Blelloch, 1990).
    """
    if leak.shape[1] is not None:
        leak, drive = ops.associative_scan(_compose, (leak, drive), axis=1)
    else:
        leak, drive = _doubling_scan(leak, drive)
    return leak * ops.expand_dims(initial, 1) + drive


def _compose(first: Any, second: Any) -> Any:
    return first[0] * second[0], first[1] * second[0] + second[1]


def _doubling_scan(leak: Any, drive: Any) -> Any:
    """Scan over a length known only at run time, which `ops.associative_scan` does not take.

    Round k composes each step with the one 2^k before it (Hillis and Steele, 1986).
    """
    length = ops.shape(leak)[1]
    steps = ops.arange(length)

    def double(shift: Any, leak: Any, drive: Any) -> Any:
        earlier = ops.maximum(steps - shift, 0)
        inside = ops.reshape(steps >= shift, (1, -1, 1))
        first = (
            ops.where(inside, ops.take(leak, earlier, axis=1), ops.ones_like(leak)),
            ops.where(inside, ops.take(drive, earlier, axis=1), ops.zeros_like(drive)),
        )
        return 2 * shift, *_compose(first, (leak, drive))

    _, leak, drive = ops.while_loop(
        lambda shift, *_: shift < length, double, (ops.convert_to_tensor(1, "int32"), leak, drive)
    )
    return leak, drive
