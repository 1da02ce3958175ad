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
FUSED_FROM_UNITS = 0
BLOCKS = True
CHUNKS = True
PROJECTS = False
# Units, and multiplications in a time step, up to which a training step of the block takes at most
# 0.77 of the loop's time: docs/benchmarks/backends.md.
BLOCK_UNITS, BLOCK_PRODUCTS = 32, 2**17
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


def hoists(tensor: Any) -> bool:
    """Never; see the package's docstring."""
    return False


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


def block_condition(
    kind: str | None, dtype: str, tensor: Any, units: int, compiled: bool
) -> tuple[str, Any, bool, str] | None:
    """What decides whether the block trains; see the package's docstring."""
    if kind != "lstm" or dtype != "float32" or tensor is None or device(tensor) != "CPU":
        return None
    if compiled or within_xla():
        return None
    rows, _, features = tensor.shape
    holds = False
    found = f"{units} units, batch not known beforehand"
    if rows is not None:
        products = rows * (features + units) * 4 * units
        found = f"{units} units, {products:,} multiplications a time step"
        holds = units <= BLOCK_UNITS and products <= BLOCK_PRODUCTS
    remedy = (
        f"nothing: the block trains up to {BLOCK_UNITS} units and {BLOCK_PRODUCTS:,} "
        "multiplications (batch x (features + units) x 4 units) of a batch of known size"
    )
    return "block", found, holds, remedy


def within_xla() -> bool:
    """Whether what is being traced is to be compiled by XLA.

    TensorFlow does not say so, but marks a branch to be lowered where XLA is not to have it.
    """
    if tf.executing_eagerly():
        return False
    branch = tf.function(lambda x: tf.cond(x, lambda: 1, lambda: 2), autograph=False)
    graph = branch.get_concrete_function(tf.TensorSpec((), tf.bool)).graph
    (operation,) = (each for each in graph.get_operations() if each.type.endswith("If"))
    try:
        operation.get_attr("_lower_using_switch_merge")
    except ValueError:
        return True
    return False


def block(sequence: Any, states: Any, weights: Any) -> list[Any]:
    """Run TensorFlow's LSTM in one op, for small ones; see the package's docstring."""
    kernel, recurrent_kernel, bias, _ = weights
    found = _block(
        tf.transpose(sequence, (1, 0, 2)), *states, tf.concat([kernel, recurrent_kernel], 0), bias
    )
    by_row = [tf.transpose(each, (1, 0, 2)) for each in found]
    shape = (*sequence.shape[:2], states[0].shape[-1])
    return [tf.ensure_shape(each, shape) for each in by_row]


# One function for all shapes, with a graph of its own, where TensorFlow heeds which gradient is to
# be taken: a tape looks it up by the op's name. `tf.custom_gradient` keeps each graph for ever.
@tf.function(
    autograph=False,
    input_signature=[tf.TensorSpec([None] * rank) for rank in (3, 2, 2, 2, 1)],
)
def _block(sequence: Any, h: Any, c: Any, weights: Any, bias: Any) -> Any:
    peephole = tf.zeros(tf.shape(c)[1:])
    with sequence.graph.gradient_override_map({"BlockLSTMV2": "KerasRNNKitBlockLSTM"}):
        run = tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.cast(tf.shape(sequence)[0], tf.int64),
            x=sequence,
            cs_prev=c,
            h_prev=h,
            w=weights,
            wci=peephole,
            wcf=peephole,
            wco=peephole,
            b=bias,
        )
    return run.h, run.cs


@tf.RegisterGradient("KerasRNNKitBlockLSTM")
def _block_gradient(op: Any, *upstream: Any) -> Any:
    """The gradient of the block. TensorFlow registers that of an earlier op, which is wrong."""
    names = ("seq_len_max", "x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b")
    outputs = zip(("i", "cs", "f", "o", "ci", "co", "h"), op.outputs, strict=True)
    with upstream[6].graph.gradient_override_map({"BlockLSTMGradV2": "KerasRNNKitNoGradient"}):
        found = tf.raw_ops.BlockLSTMGradV2(
            **dict(zip(names, op.inputs, strict=True)),
            **dict(outputs),
            cs_grad=upstream[1],
            h_grad=upstream[6],
            use_peephole=False,
        )
    return [None, *found]


@tf.RegisterGradient("KerasRNNKitNoGradient")
def _no_second_gradient(op: Any, *upstream: Any) -> Any:
    raise ValueError(
        "An LSTM that trains by TensorFlow's op for small ones (path 'block') has no gradient of "
        "its gradient. Pass use_cudnn=False to the layer, which takes the loop."
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
