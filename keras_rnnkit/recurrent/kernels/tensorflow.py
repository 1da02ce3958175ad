"""TensorFlow: `while_loop`, and cuDNN through `CudnnRNNV3`."""

from typing import Any

import tensorflow as tf

LOOP = "loop"
HOISTS = False
COMPILES = False
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

cudnn_rnn = tf.raw_ops.CudnnRNNV3


def scan(step: Any, states: Any, inputs: Any, keep: Any) -> Any:
    """Run a step over time in a `while_loop`; see the package's docstring."""
    length = inputs[0].shape[0]
    length = tf.shape(inputs[0])[0] if length is None else length
    read = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in inputs]
    written = [tf.TensorArray(x.dtype, length, element_shape=x.shape) for x in keep(states)]
    count = len(written)

    def body(t: Any, *carried: Any) -> Any:
        states = step(carried[count:], [array.read(t) for array in read])
        arrays = [a.write(t, x) for a, x in zip(carried[:count], keep(states), strict=True)]
        return (t + 1, *arrays, *states)

    result = tf.while_loop(
        lambda t, *_: t < length,
        body,
        (tf.constant(0), *written, *states),
        maximum_iterations=length,
        # With TensorFlow's default of 10 a step is up to a tenth slower.
        parallel_iterations=32,
        swap_memory=True,
    )
    return list(result[1 + count :]), [array.stack() for array in result[1 : 1 + count]]


def device(tensor: Any) -> str:
    """GPU or CPU; see the package's docstring."""
    placed = getattr(tensor, "device", None)
    if isinstance(placed, str) and placed:
        return "GPU" if "GPU" in placed.upper() else "CPU"
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def fused_conditions(
    kind: str, dtype: str, tensor: Any, compiled: bool
) -> list[tuple[str, Any, bool, str]]:
    """What cuDNN needs of the machine and the input."""
    where = device(tensor)
    cuda_build = bool(tf.sysconfig.get_build_info().get("is_cuda_build"))
    return [
        ("backend", "tensorflow", True, ""),
        (
            "dtype",
            dtype,
            dtype in {"float16", "float32", "float64"},
            'use dtype="float32", "float64" or "mixed_float16"',
        ),
        ("device", where, where == "GPU", "run on an NVIDIA GPU that TensorFlow can see"),
        (
            "CUDA build",
            cuda_build,
            cuda_build,
            "install a TensorFlow built for CUDA: pip install 'tensorflow[and-cuda]'",
        ),
        ("XLA", compiled, not compiled, "pass jit_compile=False: XLA has no cuDNN op"),
    ]


def fused(kind: str, sequence: Any, states: Any, weights: Any, lengths: Any) -> Any:
    """Run cuDNN over right-padded rows; see the package's docstring."""
    directions = len(weights)
    if lengths is None:
        lengths = tf.fill([tf.shape(sequence)[0]], tf.shape(sequence)[1])
    initial = [tf.stack(direction, axis=1) for direction in zip(*states, strict=True)]
    outputs, h, c, _, _ = cudnn_rnn(
        input=sequence,
        input_h=initial[0],
        input_c=initial[1] if kind == "lstm" else tf.zeros([], sequence.dtype),
        params=opaque_parameters(weights, GATES[kind]),
        sequence_lengths=lengths,
        rnn_mode=kind,
        direction="bidirectional" if directions == 2 else "unidirectional",
        is_training=True,
        time_major=False,
    )
    last = [h, c] if kind == "lstm" else [h]
    return (
        tf.split(outputs, directions, axis=-1),
        [[state[:, d] for state in last] for d in range(directions)],
    )


def opaque_parameters(weights: Any, gates: int) -> Any:
    """Lay the weights out as cuDNN reads them: matrices by gate, transposed, then biases."""
    matrices, biases = [], []
    for kernel, recurrent_kernel, *bias in weights:
        for matrix in (kernel, recurrent_kernel):
            blocks = tf.split(matrix, gates, axis=1)
            matrices += [tf.reshape(tf.transpose(block), [-1]) for block in blocks]
        biases += bias
    return tf.concat([*matrices, *biases], axis=0)


def compiled(function: Any) -> Any:
    """The function as a graph; see the package's docstring."""
    return tf.function(function, autograph=False)
