"""JAX: `lax.scan`, on a GPU over inputs projected beforehand, and cuDNN's LSTM."""

import os
import warnings
from importlib import metadata
from typing import Any

import jax
import jax.experimental.rnn
import jax.numpy as jnp

from keras_rnnkit.recurrent import masks
from keras_rnnkit.recurrent.kernels import Machine
from keras_rnnkit.recurrent.watch import returned_calls

LOOP = "scan"
# On an H200 the scan took 0.36 of cuDNN's time forward and 0.74 of it in training at 32 units
# (128 x 240 x 14); at 256 units (256 x 200 x 128) they were level.
FUSED_FROM_UNITS = 256
BLOCKS = False
CHUNKS = False
PROJECTS = False
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


def hoists(tensor: Any) -> bool:
    """On a GPU: on a CPU, XLA makes one pass of both products of a step."""
    return device(tensor) == "GPU"


def is_known(tensor: Any) -> bool:
    """Whether it has a value; see the package's docstring."""
    return not isinstance(tensor, jax.core.Tracer)


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
    counted = lengths
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
    forward, *backward = jnp.split(outputs, directions, axis=-1)
    return (
        [forward, *(masks.reversed_rows(each, counted) for each in backward)],
        [[h[d], c[d]] for d in range(directions)],
    )


def watched(compiled: bool) -> Any:
    """Note the calls of `lstm`; see the package's docstring."""
    return returned_calls(jax.experimental.rnn, "lstm")


def compiled(function: Any) -> Any:
    """The function under `jax.jit`; see the package's docstring."""
    return jax.jit(function)


def with_gradient(function: Any, gradient: Any) -> Any:
    """The function with a gradient of its own; see the package's docstring."""
    differentiable = jax.custom_vjp(function)

    def forward(*inputs: Any) -> Any:
        output = function(*inputs)
        return output, (inputs, output)

    differentiable.defvjp(forward, lambda kept, upstream: gradient(*kept, upstream))
    return differentiable


def times(product: Any, factor: Any) -> Any:
    """Multiply; see the package's docstring."""
    return jnp.where(factor == 0, 0.0, product * factor)


def outline(function: Any, *arguments: Any) -> None:
    """Trace a function for its shapes; see the package's docstring."""
    jax.eval_shape(function, *arguments)


def gradients(function: Any, tensors: Any) -> tuple[Any, Any, list[Any]]:
    """Differentiate a function; see the package's docstring."""
    (value, rest), found = jax.value_and_grad(function, has_aux=True)(list(tensors))
    return value, rest, found


def machine() -> Machine:
    """What JAX finds on this machine; see the package's docstring. JAX sets up its devices."""
    gpus = jax.devices() if jax.default_backend() == "gpu" else []
    cuda = [major for major in ("12", "13") if _version(f"jax-cuda{major}-plugin")]
    cudnn = [version for major in cuda if (version := _version(f"nvidia-cudnn-cu{major}"))]
    return Machine(
        framework=f"JAX {jax.__version__}",
        gpus=tuple(gpu.device_kind for gpu in gpus),
        built_for=f"CUDA {cuda[0]}" if cuda else "",
        # JAX may use one that is installed with the system, and does not say which.
        cudnn=cudnn[0] if cudnn else "unknown" if gpus else "",
        grows=_grows() if gpus else None,
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _grows() -> bool:
    preallocates = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true").lower()
    platform = os.environ.get("XLA_PYTHON_CLIENT_ALLOCATOR", "").lower() == "platform"
    return platform or preallocates in ("false", "0")


def allow_memory_growth() -> str:
    """Return how to set it, since a running Python cannot; see the package's docstring."""
    if jax.default_backend() != "gpu":
        return "JAX sees no GPU, so there is no memory growth to set."
    if _grows():
        return "JAX takes GPU memory as it needs it."
    advice = (
        "JAX has set aside three quarters of the GPU's memory, which cannot be changed any more: "
        "set XLA_PYTHON_CLIENT_PREALLOCATE=false in the environment before Python starts."
    )
    warnings.warn(advice, stacklevel=3)
    return advice
