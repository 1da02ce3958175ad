"""JAX: `lax.scan` over inputs taken in beforehand, and cuDNN's LSTM."""

from typing import Any

import jax
import jax.experimental.rnn
import jax.numpy as jnp

LOOP = "scan"
HOISTS = True
COMPILES = True

cudnn_lstm = jax.experimental.rnn.lstm


def scan(step: Any, states: Any, inputs: Any, keep: Any) -> Any:
    """Run a step over time in `lax.scan`; see the package's docstring."""

    def body(states: Any, inputs_t: Any) -> Any:
        states = step(states, inputs_t)
        return states, list(keep(states))

    return jax.lax.scan(body, list(states), list(inputs))


def device(tensor: Any) -> str:
    """GPU or CPU; see the package's docstring."""
    return "GPU" if jax.default_backend() == "gpu" else "CPU"


def fused_conditions(
    kind: str, dtype: str, tensor: Any, compiled: bool
) -> list[tuple[str, Any, bool, str]]:
    """What `jax.experimental.rnn.lstm` needs of the machine and the input."""
    where = device(tensor)
    return [
        ("backend", "jax", kind == "lstm", "JAX has a cuDNN kernel for the LSTM alone"),
        (
            "dtype",
            dtype,
            dtype == "float32",
            'use dtype="float32"',
        ),
        ("device", where, where == "GPU", "run on an NVIDIA GPU that JAX can see"),
        ("XLA", compiled, True, ""),
    ]


def fused(kind: str, sequence: Any, states: Any, weights: Any, lengths: Any) -> Any:
    """Run cuDNN's LSTM over right-padded rows; see the package's docstring."""
    directions = len(weights)
    if lengths is None:
        lengths = jnp.full(sequence.shape[:1], sequence.shape[1])
    h, c = (jnp.stack(direction) for direction in zip(*states, strict=True))
    matrices = [matrix.T.ravel() for w in weights for matrix in w[:2]]
    biases = [bias for w in weights for bias in w[2:]]
    outputs, h, c = cudnn_lstm(
        sequence,
        h,
        c,
        jnp.concatenate([*matrices, *biases]),
        jnp.asarray(lengths, "int32"),
        input_size=sequence.shape[-1],
        hidden_size=h.shape[-1],
        num_layers=1,
        dropout=0.0,
        bidirectional=directions == 2,
    )
    return (
        jnp.split(outputs, directions, axis=-1),
        [[h[d], c[d]] for d in range(directions)],
    )


def compiled(function: Any) -> Any:
    """The function under `jax.jit`; see the package's docstring."""
    return jax.jit(function)
