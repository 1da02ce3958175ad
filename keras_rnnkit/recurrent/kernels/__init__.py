"""Fused kernels and time loops: the only code that names a backend, one file for each.

Every file defines

    LOOP              the name that a time loop goes by in a report: "loop" or "scan"
    COMPILES          whether a layer that would run the fused kernel may be compiled (by XLA, or by
                      torch.compile, where it runs the loop instead)
    BLOCKS            whether there is a kernel for the training of small LSTMs on a CPU; only then
                      are `block_condition` and `block` there
    CHUNKS            whether on a CPU, too, a linear recurrence is quicker in chunks than by step
    PROJECTS          whether the fused LSTM takes a projection
    FUSED_FROM_UNITS  units from which the fused kernel was measured to be no slower than the loop
    scan(step, states, inputs, keep) -> (last_states, kept)
                      run `step(states, inputs_t) -> states` over the first axis of each input,
                      stacking `keep(states)` of each step
    device(tensor) -> "GPU" or "CPU"
                      where the tensor lies; where the backend would put it, when None or symbolic
    hoists(tensor)    whether it is quicker, on the tensor's device, to project all inputs before
                      the loop
    is_known(tensor)  whether it has a value; not so in code that is being compiled
    fused_conditions(kind, dtype, tensor, compiled) -> list of (name, value, holds, remedy)
                      what the fused kernel needs of this machine and this input; the last one is
                      about compilation
    fused(kind, sequence, states, weights, lengths) -> (outputs, last_states)
                      run it
    block_condition(kind, dtype, tensor, units, compiled) -> (name, value, holds, remedy)
                      the condition that decides whether the block runs; None where it cannot
    block(sequence, states, weights) -> state sequences
                      run it: each state at each step, (batch, time, units), for what `fused` takes
                      of one direction
    watched(compiled) -> context manager of a list
                      one entry for each fused kernel that code other than this package's calls in
                      this thread, and whose result it keeps; `compiled` as in fused_conditions
    compiled(function) -> function
                      the same function of nested tensors, compiled where that pays, with no
                      gradient through it
    with_gradient(function, gradient) -> function
                      the same function of tensors with a gradient of its own: what its inputs
                      receive is `gradient(inputs, output, upstream)`
    times(product, factor)
                      their product, zero where the factor is zero, were the product infinite
    outline(function, *arguments)
                      run the function to learn shapes, without computing anything if the backend
                      can do so
    gradients(function, tensors) -> (value, rest, gradients)
                      call `function(tensors) -> (value, rest)` and differentiate the scalar by each
                      tensor; zeros where it does not depend on one
    machine() -> Machine
                      what the framework finds on this machine; where the framework can tell
                      without it (TensorFlow and torch), the GPUs are not set up
    allow_memory_growth() -> str
                      let the framework take GPU memory as it needs it; return what was done

`fused` takes one entry of `states` and `weights` for each direction (two: the second runs from the
last valid step to the first). `states` holds (batch, units) tensors, `weights` the tensors of
`Equations.fused_weights`, `lengths` the valid steps of each row, at least 1, or None when all
count. `outputs` has one (batch, time, units) for each direction, in its own order of processing;
past a row's length it may be anything. `last_states` has one list for each direction; with
`lengths`, a state that the kernel does not give at the end of a row is None.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Machine:
    """What a framework finds on a machine.

    Attributes:
        framework: Its name and version.
        gpus: The names of the GPUs that it sees.
        built_for: `"CUDA 12.5"`, or empty where it is built or installed for the CPU alone.
        cudnn: The version of cuDNN; empty where there is none, `"unknown"` where it cannot tell.
        grows: Whether GPU memory is taken as it is needed, rather than all at once; None without a
            GPU.
    """

    framework: str
    gpus: tuple[str, ...]
    built_for: str
    cudnn: str
    grows: bool | None


def current() -> Any:
    """Return the kernels of the backend that Keras runs on.

    Kept once imported: torch.compile traces no import.
    """
    backend = keras.backend.backend()
    if backend not in _imported:
        _imported[backend] = importlib.import_module(f"{__name__}.{backend}")
    return _imported[backend]


_imported: dict[str, Any] = {}


def unrolled(step: Any, states: Any, inputs: Any, keep: Any) -> Any:
    """`scan` as unrolled code: for `unroll=True`, and where the framework has no loop."""
    kept = []
    for t in range(inputs[0].shape[0]):
        states = step(states, [x[t] for x in inputs])
        kept.append(keep(states))
    return states, [keras.ops.stack(sequence) for sequence in zip(*kept, strict=True)]
