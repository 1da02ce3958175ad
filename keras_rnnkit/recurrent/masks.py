"""Any mask to the right-padded form that fused kernels take, and back.

A mask is (batch, time), true where a step is valid. `pack` moves the valid steps of each sample to
the left, in their order. The kernel runs over these steps only. `unpack` puts each result back at
its step and repeats it over the masked steps that follow. The rules for masked steps are:

- a state is the state after the last valid step before, or the initial state;
- an output is the output of the last valid step before, and zero before the first valid step;
- with `zero_output_for_mask` the output is zero at every masked step.
"""

from typing import Any, NamedTuple

from keras import ops, tree


class Packed(NamedTuple):
    """A right-padded sequence, with the counts that undo the packing.

    Attributes:
        sequence: (batch, time, features), the valid steps of each sample first.
        lengths: (batch,) int32, at least 1, as kernels require, even without a valid step.
        counts: (batch, time) int32, how many valid steps lie at or before each step.
    """

    sequence: Any
    lengths: Any
    counts: Any


def as_mask(mask: Any) -> Any:
    """Return the mask as (batch, time) booleans: Keras may nest it, or give it more axes."""
    first = tree.flatten(mask)[0]
    # Nested by Keras, or a list of numbers.
    mask = ops.cast(first if getattr(first, "ndim", 0) else ops.convert_to_tensor(mask), "bool")
    return mask if mask.ndim == 2 else ops.any(mask, axis=tuple(range(2, mask.ndim)))


def count_steps(mask: Any) -> Any:
    """Return how many valid steps lie at or before each step: (batch, time) int32."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1)


def gather(sequence: Any, steps: Any) -> Any:
    """Return `sequence[b, steps[b, t]]`: (batch, time, features) from (batch, any, features)."""
    rows, length = ops.shape(sequence)[0], ops.shape(sequence)[1]
    flat = ops.reshape(sequence, (-1, sequence.shape[-1]))
    return ops.take(flat, steps + ops.expand_dims(ops.arange(rows) * length, 1), axis=0)


def pack(sequence: Any, mask: Any) -> Packed:
    """Move the valid steps of each sample to the left, in order, and the masked ones after them."""
    length = ops.shape(sequence)[1]
    steps = ops.arange(length, dtype="int32")
    # Distinct keys make the sort stable on every backend: valid steps first, by time.
    order = ops.argsort(ops.where(mask, steps, steps + length), axis=1)
    counts = count_steps(mask)
    packed = gather(sequence, ops.cast(order, "int32"))
    return Packed(packed, ops.maximum(counts[:, -1], 1), counts)


def zeroed(sequence: Any, mask: Any) -> Any:
    """Return the sequence, (batch, time, ...), with zeros at masked steps."""
    return where(mask, sequence, ops.zeros_like(sequence))


def reversed_rows(sequence: Any, lengths: Any) -> Any:
    """Return the first `lengths` steps of each sample in reverse order, the rest unchanged.

    Args:
        sequence: (batch, time, features).
        lengths: (batch,) int32, or None if all steps are valid.
    """
    if lengths is None:
        return ops.flip(sequence, axis=1)
    steps = ops.arange(ops.shape(sequence)[1], dtype="int32")
    ends = ops.expand_dims(lengths, 1)
    return gather(sequence, ops.where(steps < ends, ends - 1 - steps, steps))


def unpack(sequence: Any, initial: Any, counts: Any) -> Any:
    """Put a kernel's results for packed steps back at the original steps.

    Args:
        sequence: (batch, time, units), one result for each packed step.
        initial: (batch, units), the result before the first valid step.
        counts: The `counts` that `pack` returned.
    """
    return gather(ops.concatenate([ops.expand_dims(initial, 1), sequence], axis=1), counts)


def shown(outputs: Any, mask: Any, zero_output_for_mask: bool) -> Any:
    """Return the outputs by the rules for masked steps; see the docstring of this module.

    Args:
        outputs: (batch, time, ...), repeated over masked steps.
        mask: (batch, time).
        zero_output_for_mask: Keras's argument.
    """
    visible = mask if zero_output_for_mask else count_steps(mask) > 0
    return where(visible, outputs, ops.zeros_like(outputs))


def last_shown(output: Any, mask: Any, zero_output_for_mask: bool) -> Any:
    """Return the last step of `shown`, from the output repeated there: (batch, ...)."""
    visible = mask[:, -1] if zero_output_for_mask else ops.any(mask, axis=1)
    return where(visible, output, ops.zeros_like(output))


def restarted(states: Any, start: Any, resets: Any) -> Any:
    """Return states before one step or every step, with `start` where `resets` is true.

    Args:
        states: (batch, ...) with `resets` (batch, 1), or (batch, time, ...) with (batch, time).
        start: (batch, ...), the initial states.
        resets: Booleans.
    """
    start = ops.cast(start, states.dtype)
    start = ops.expand_dims(start, 1) if states.ndim > start.ndim else start
    return where(resets, start, states)


def where(condition: Any, kept: Any, other: Any) -> Any:
    """`ops.where` for a condition without the last axes."""
    for _ in range(kept.ndim - condition.ndim):
        condition = ops.expand_dims(condition, -1)
    return ops.where(condition, kept, other)
