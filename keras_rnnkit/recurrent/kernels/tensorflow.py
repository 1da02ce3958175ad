"""TensorFlow: `while_loop`, and cuDNN through `CudnnRNNV3`."""

import functools
import os
import threading
from typing import Any

import tensorflow as tf

from keras_rnnkit.recurrent import masks
from keras_rnnkit.recurrent.kernels import Machine
from keras_rnnkit.recurrent.watch import returned_calls

LOOP = "loop"
HOISTS = False
FUSED_FROM_UNITS = 0
COMPILES = False
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

# Whether a gradient may be asked for through what this thread is building.
_thread = threading.local()

cudnn_rnn = tf.raw_ops.CudnnRNNV3


def scan(step: Any, states: Any, inputs: Any, keep: Any) -> Any:
    """Run a step over time in a `while_loop`; see the package's docstring."""
    length = inputs[0].shape[0]
    length = tf.shape(inputs[0])[0] if length is None else length
    read = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in inputs]
    written = [tf.TensorArray(x.dtype, length, element_shape=x.shape) for x in keep(states)]
    count = len(written)

    def body(t: Any, *carried: Any) -> Any:
        before = carried[count:]
        states = step(before, [array.read(t) for array in read])
        for state, like in zip(states, before, strict=True):
            state.set_shape(like.shape)  # a step may know less of it
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
    # Logical devices would set up the GPUs, after which their memory growth is fixed.
    return "GPU" if tf.config.get_visible_devices("GPU") else "CPU"


def is_known(tensor: Any) -> bool:
    """Whether it has a value; see the package's docstring."""
    return not tf.is_symbolic_tensor(tensor)


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
    counted = lengths
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
    forward, *backward = tf.split(outputs, directions, axis=-1)
    return (
        [forward, *(masks.reversed_rows(each, counted) for each in backward)],
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


def watched(compiled: bool) -> Any:
    """Note the calls of `CudnnRNNV3`; see the package's docstring."""
    return returned_calls(tf.raw_ops, "CudnnRNNV3")


def compiled(function: Any) -> Any:
    """The function as a graph; see the package's docstring."""

    # TensorFlow counts graphs by a function's code, and would warn of every new model; a partial
    # has no code.
    def undifferentiated(*arguments: Any) -> Any:
        try:
            _thread.differentiates = False
            return function(*arguments)
        finally:
            _thread.differentiates = True

    return tf.function(functools.partial(undifferentiated), autograph=False)


def with_gradient(function: Any, gradient: Any) -> Any:
    """The function with a gradient of its own; see the package's docstring."""

    @tf.custom_gradient
    def differentiable(*inputs: Any) -> Any:
        output = function(*inputs)
        return output, lambda upstream: gradient(inputs, output, upstream)

    def chosen(*inputs: Any) -> Any:
        # TensorFlow keeps a graph for ever in which a gradient was given.
        differentiates = getattr(_thread, "differentiates", True)
        return (differentiable if differentiates else function)(*inputs)

    return chosen


def times(product: Any, factor: Any) -> Any:
    """Multiply; see the package's docstring."""
    return tf.math.multiply_no_nan(product, factor)


def outline(function: Any, *arguments: Any) -> None:
    """Trace a function for its shapes; see the package's docstring."""
    tf.function(function, autograph=False).get_concrete_function(*arguments)


def gradients(function: Any, tensors: Any) -> tuple[Any, Any, list[Any]]:
    """Differentiate a function; see the package's docstring."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value, rest = function(tensors)
    none = tf.UnconnectedGradients.ZERO
    return value, rest, tape.gradient(value, tensors, unconnected_gradients=none)


def machine() -> Machine:
    """What TensorFlow finds on this machine; see the package's docstring."""
    gpus = tf.config.get_visible_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    build = tf.sysconfig.get_build_info()
    built_for = ""
    if build.get("is_cuda_build"):
        built_for = f"CUDA {build.get('cuda_version', '')}".rstrip()
    elif build.get("is_rocm_build"):
        built_for = "ROCm"
    return Machine(
        framework=f"TensorFlow {tf.__version__}",
        gpus=tuple(
            each.get("device_name", gpu.name) for each, gpu in zip(details, gpus, strict=True)
        ),
        built_for=built_for,
        cudnn=build.get("cudnn_version", "") if built_for else "",
        grows=all(_grows(gpu) for gpu in gpus) if gpus else None,
    )


def _grows(gpu: Any) -> bool:
    forced = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "").lower() == "true"
    return forced or bool(tf.config.experimental.get_memory_growth(gpu))


def allow_memory_growth() -> str:
    """Set memory growth on every GPU; see the package's docstring."""
    gpus = tf.config.get_visible_devices("GPU")
    try:
        for gpu in gpus:
            if not _grows(gpu):
                tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        raise RuntimeError(
            "allow_memory_growth() came too late: TensorFlow has set up its GPUs and taken their "
            "memory. Call it before the first layer or tensor (in a notebook: restart the kernel, "
            "and call it in the first cell), or set TF_FORCE_GPU_ALLOW_GROWTH=true in the "
            "environment before Python starts."
        ) from error
    if not gpus:
        return "TensorFlow sees no GPU, so there is no memory growth to set."
    return f"TensorFlow takes the memory of {len(gpus)} GPU(s) as it needs it."
