"""The linear recurrence `c[t] = leak[t] * c[t-1] + drive[t]`, with a gradient of its own.

A loop computes one time step after the other. Here the steps are cut into chunks, which are
computed side by side (Blelloch, Prefix sums and their applications, 1990):

1. The steps of a chunk are composed into one step of the same kind, from the state before the chunk
   to the state after it.
2. These composed steps are scanned in the same way, which gives the state before each chunk.
3. From there all chunks compute their steps at the same time.

A GPU takes many small chunks. A CPU takes few long ones, on TensorFlow only: JAX and torch use a
loop there, and so does TensorFlow if the length is known only at run time.

The gradient is the same recurrence run the other way: with `g[t] = dc[t] + leak[t+1] * g[t+1]`,
`d drive[t] = g[t]` and `d leak[t] = g[t] * c[t-1]`.
"""

import functools
import math
import operator
from typing import Any

import keras
from keras import ops

from keras_rnnkit.recurrent import kernels

CHUNK = 8  # on a GPU
CHUNKS = range(16, 65)  # on a CPU, by which a length is divided without a rest if it can be
# Of a length known only at run time 8 * 8 * 8 steps are scanned at once, and so many after so many.
LEVELS_OF_UNKNOWN_LENGTH = 3


def linear_scan(leak: Any, drive: Any, initial: Any) -> Any:
    """Return every `c[t] = leak[t] * c[t-1] + drive[t]`.

    Args:
        leak: (batch, time, units).
        drive: (batch, time, units).
        initial: (batch, units), `c` before the first step.

    Returns:
        (batch, time, units), in the dtype of `drive`; half precision is computed in float32.
    """
    dtype = keras.backend.standardize_dtype(drive.dtype)
    if dtype in ("float16", "bfloat16"):
        leak, drive, initial = (ops.cast(x, "float32") for x in (leak, drive, initial))
    return ops.cast(_recurrence(reverse=False)(leak, drive, initial), dtype)


@functools.cache
def _recurrence(reverse: bool) -> Any:
    """The recurrence in one direction of time, with its gradient."""
    return kernels.current().with_gradient(
        functools.partial(_scan, reverse=reverse), functools.partial(_gradient, reverse=reverse)
    )


def _scan(leak: Any, drive: Any, initial: Any, reverse: bool) -> Any:
    """The recurrence in one direction of time, in the quickest way for the device."""
    kernel, length = kernels.current(), leak.shape[1]
    if kernel.device(leak) == "GPU":
        return scan_in_chunks(leak, drive, initial, reverse)
    if not kernel.CHUNKS or length is None:
        return scan_by_step(leak, drive, initial, reverse)
    return scan_in_chunks(leak, drive, initial, reverse, chunk_of=on_cpu)


def _gradient(inputs: Any, c: Any, upstream: Any, reverse: bool) -> tuple[Any, Any, Any]:
    """The gradients of leak, drive and initial, from that of c."""
    leak, _, initial = inputs
    none = ops.zeros_like(initial)
    g = _recurrence(not reverse)(_before(leak, none, not reverse), upstream, none)
    first = -1 if reverse else 0
    return g * _before(c, initial, reverse), g, leak[:, first] * g[:, first]


def scan_by_step(leak: Any, drive: Any, initial: Any, reverse: bool = False) -> Any:
    """`linear_scan` one step after the other."""

    def step(states: Any, inputs_t: Any) -> Any:
        return [inputs_t[0] * states[0] + inputs_t[1]]

    by_time = [ops.transpose(x, (1, 0, 2)) for x in (leak, drive)]
    if reverse:
        by_time = [ops.flip(x, axis=0) for x in by_time]
    _, (c,) = kernels.current().scan(step, [initial], by_time, list)
    return ops.transpose(ops.flip(c, axis=0) if reverse else c, (1, 0, 2))


def on_gpu(length: int | None) -> int:
    """How many steps a chunk holds on a GPU, whatever the length."""
    return CHUNK


def on_cpu(length: int) -> int:
    """How many steps a chunk holds on a CPU: some root of the length, or all if it is short."""
    if length < CHUNKS.stop:
        return length
    divisors = [each for each in CHUNKS if length % each == 0]
    return min(divisors, key=lambda each: abs(each - math.sqrt(length)), default=32)


def scan_in_chunks(
    leak: Any,
    drive: Any,
    initial: Any,
    reverse: bool = False,
    level: int = 0,
    chunk_of: Any = on_gpu,
) -> Any:
    """`linear_scan` in some `5 * chunk` operations for each factor of `chunk` in the length."""
    length = leak.shape[1]
    if length is None and level == LEVELS_OF_UNKNOWN_LENGTH:
        return scan_by_step(leak, drive, initial, reverse)
    chunk = chunk_of(length)
    if length is not None and length <= chunk:
        pairs = _in_order(leak, drive, length, 1, reverse)
        return _joined(_steps(pairs, initial, composed=level > 0), 1, reverse)
    rows, steps, units = shape = ops.shape(leak)
    count = -1 if length is None else -(-length // chunk)
    padding = ((0, 0), (0, -steps % chunk), (0, 0))
    whole = length is not None and length % chunk == 0
    leak, drive = (
        ops.reshape(x if whole else ops.pad(x, padding), (rows, count, chunk, units))
        for x in (leak, drive)
    )
    pairs = _in_order(leak, drive, chunk, 2, reverse)
    after = scan_in_chunks(*_composed(pairs), initial, reverse, level + 1, chunk_of)
    c = _joined(_steps(pairs, _before(after, initial, reverse), composed=level > 0), 2, reverse)
    c = ops.reshape(c, (rows, -1, units))
    return ops.reshape(c if whole else c[:, :steps], shape)


def _in_order(leak: Any, drive: Any, length: int, axis: int, reverse: bool) -> list[Any]:
    """Pairs `(leak, drive)` in the order of processing, cut from an axis of this length."""
    pairs = list(zip(*(ops.unstack(x, length, axis) for x in (leak, drive)), strict=True))
    return pairs[::-1] if reverse else pairs


def _joined(found: list[Any], axis: int, reverse: bool) -> Any:
    return ops.stack(found[::-1] if reverse else found, axis)


def _steps(pairs: list[Any], c: Any, composed: bool) -> list[Any]:
    """Each state after these steps from the one before the first."""
    times = kernels.current().times if composed else operator.mul
    found = []
    for leak, drive in pairs:
        c = times(leak, c) + drive
        found.append(c)
    return found


def _composed(pairs: list[Any]) -> tuple[Any, Any]:
    """The one step that these steps are composed into."""
    # A product of leaks may become infinite where no state ever does.
    times = kernels.current().times
    leak, drive = pairs[0]
    for next_leak, next_drive in pairs[1:]:
        leak = times(leak, next_leak)
        drive = next_leak * drive + next_drive
    return leak, drive


def _before(c: Any, initial: Any, reverse: bool) -> Any:
    """The value before each step, in the order of processing."""
    initial = ops.expand_dims(initial, 1)
    return ops.concatenate([c[:, 1:], initial] if reverse else [initial, c[:, :-1]], axis=1)
