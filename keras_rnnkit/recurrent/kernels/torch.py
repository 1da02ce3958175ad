"""torch: its own fused kernels, which run cuDNN on a GPU and ATen's code on the CPU."""

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from keras_rnnkit.recurrent.kernels import Machine, unrolled

LOOP = "loop"
HOISTS = True
COMPILES = True

scan = unrolled
KERNELS = {
    "lstm": torch._VF.lstm,  # noqa: SLF001  torch.nn.LSTM itself calls it so; there is no other name
    "gru": torch._VF.gru,  # noqa: SLF001
    "rnn_tanh": torch._VF.rnn_tanh,  # noqa: SLF001
    "rnn_relu": torch._VF.rnn_relu,  # noqa: SLF001
}


def device(tensor: Any) -> str:
    """GPU or CPU; see the package's docstring."""
    cuda = tensor.is_cuda if isinstance(tensor, torch.Tensor) else torch.cuda.is_available()
    return "GPU" if cuda else "CPU"


def fused_conditions(
    kind: str, dtype: str, tensor: Any, compiled: bool
) -> list[tuple[str, Any, bool, str]]:
    """What torch's kernels need: they run on every device, but are opaque to a trace."""
    compiled = compiled or torch.jit.is_tracing() or torch.compiler.is_compiling()
    floats = {"float16", "bfloat16", "float32", "float64"}
    return [
        ("backend", "torch", True, ""),
        ("dtype", dtype, dtype in floats, "use a floating dtype"),
        ("device", device(tensor), True, ""),
        ("torch.compile", compiled, not compiled, "run it outside torch.compile and torch.jit"),
    ]


def fused(kind: str, sequence: Any, states: Any, weights: Any, lengths: Any) -> Any:
    """Run torch's kernel over right-padded rows; see the package's docstring."""
    directions = len(weights)
    time = sequence.shape[1]
    parameters = [
        parameter
        for kernel, recurrent_kernel, *biases in weights
        for parameter in (kernel.T.contiguous(), recurrent_kernel.T.contiguous(), *biases)
    ]
    initial = [torch.stack(direction).contiguous() for direction in zip(*states, strict=True)]
    options = (parameters, True, 1, 0.0, torch.is_grad_enabled(), directions == 2)
    hx = tuple(initial) if kind == "lstm" else initial[0]
    if lengths is None or not len(sequence):  # nothing to pack
        outputs, *last = KERNELS[kind](sequence, hx, *options, True)
    else:
        # The lengths go to the CPU, as torch asks: one wait for the GPU a call.
        packed = pack_padded_sequence(
            sequence, lengths.to("cpu", torch.int64), batch_first=True, enforce_sorted=False
        )
        order, back = packed.sorted_indices, packed.unsorted_indices
        initial = [state[:, order].contiguous() for state in initial]
        hx = tuple(initial) if kind == "lstm" else initial[0]
        data, *last = KERNELS[kind](packed.data, packed.batch_sizes, hx, *options)
        last = [state[:, back] for state in last]
        outputs, _ = pad_packed_sequence(
            PackedSequence(data, packed.batch_sizes, order, back),
            batch_first=True,
            total_length=time,
        )
    return (
        list(torch.chunk(outputs, directions, dim=-1)),
        [[state[d] for state in last] for d in range(directions)],
    )


def compiled(function: Any) -> Any:
    """The function without a record for gradients; see the package's docstring."""
    return torch.no_grad()(function)


def outline(function: Any, *arguments: Any) -> None:
    """Call a function for its shapes; see the package's docstring."""
    with torch.no_grad():
        function(*arguments)


def gradients(function: Any, tensors: Any) -> tuple[Any, Any, list[Any]]:
    """Differentiate a function; see the package's docstring."""
    with torch.enable_grad():
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        value, rest = function(tensors)
        found = torch.autograd.grad(value, tensors, allow_unused=True, materialize_grads=True)
    return value.detach(), rest, list(found)


def machine() -> Machine:
    """What torch finds on this machine; see the package's docstring."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else ""
    if torch.version.hip:
        built_for = f"ROCm {torch.version.hip}"
    version = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return Machine(
        framework=f"PyTorch {torch.__version__}",
        gpus=tuple(torch.cuda.get_device_name(gpu) for gpu in range(count)),
        built_for=built_for,
        cudnn=_dotted(version) if version else "",
        grows=True if count else None,
    )


def _dotted(version: int) -> str:
    """91002 -> 9.10.2; until 8.9, 8902 -> 8.9.2."""
    scale = 10_000 if version >= 90_000 else 1000
    return f"{version // scale}.{version % scale // 100}.{version % 100}"


def allow_memory_growth() -> str:
    """Say that torch needs no telling; see the package's docstring."""
    return "PyTorch takes GPU memory as it needs it, so there is nothing to set."
