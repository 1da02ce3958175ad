"""torch: its own fused kernels, which run cuDNN on a GPU and ATen's code on the CPU."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from keras_rnnkit.recurrent import masks
from keras_rnnkit.recurrent.kernels import Machine, unrolled
from keras_rnnkit.recurrent.watch import replace_method

LOOP = "loop"
FUSED_FROM_UNITS = 0
BLOCKS = False
CHUNKS = False
PROJECTS = True
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


def hoists(tensor: Any) -> bool:
    """Always; see the package's docstring."""
    return True


def is_known(tensor: Any) -> bool:
    """Whether it has a value; see the package's docstring."""
    return not torch.compiler.is_compiling()


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
    """Run torch's kernel over right-padded rows; see the package's docstring.

    For samples of different lengths torch needs a packed sequence, which is several times slower
    and waits for the GPU. So the kernel runs over the padding too. Nothing that it computes there
    reaches a valid step: forward, the padding comes last; backward, each sample is reversed by
    itself.
    """
    if lengths is None:
        outputs, last = _dense(kind, sequence, states, weights)
        return [outputs[0], *(torch.flip(each, [1]) for each in outputs[1:])], last
    found = []
    for direction, (initial, matrices) in enumerate(zip(states, weights, strict=True)):
        rows = masks.reversed_rows(sequence, lengths) if direction else sequence
        (outputs,), _ = _dense(kind, rows, [initial], [matrices])
        found.append(outputs)
    return found, [[None] * len(each) for each in states]


def _dense(kind: str, sequence: Any, states: Any, weights: Any) -> Any:
    """Run every step of every row: outputs in the order of the input, and the last states."""
    directions = len(weights)
    initial = [torch.stack(direction).contiguous() for direction in zip(*states, strict=True)]
    with contextlib.ExitStack() as undo:
        if len(weights[0]) > 4:
            # torch warns that oneDNN has no projection, and takes its own kernel.
            undo.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "LSTM with projections")
        outputs, *last = KERNELS[kind](
            sequence,
            tuple(initial) if kind == "lstm" else initial[0],
            one_chunk(weights),
            True,  # with biases
            1,  # layer
            0.0,  # dropout between layers
            torch.is_grad_enabled(),
            directions == 2,
            True,  # batch first
        )
    return (
        list(torch.chunk(outputs, directions, dim=-1)),
        [[state[d] for state in last] for d in range(directions)],
    )


def one_chunk(weights: Any) -> list[Any]:
    """Lay the weights side by side as cuDNN does: every matrix transposed, then every bias.

    Otherwise torch copies them together at each call, and warns. For each direction torch takes
    kernel, recurrent kernel, both biases, and the projection's kernel if there is one.
    """
    matrices, vectors = (0, 1, *range(4, len(weights[0]))), (2, 3)
    places = [
        (way, at) for group in (matrices, vectors) for way in range(len(weights)) for at in group
    ]
    parts = [weights[way][at].T if at in matrices else weights[way][at] for way, at in places]
    chunk = torch.cat([part.reshape(-1) for part in parts])
    views = torch.split(chunk, [part.numel() for part in parts])
    shaped = {
        place: view.view(part.shape) for place, view, part in zip(places, views, parts, strict=True)
    }
    return [shaped[place] for place in sorted(shaped)]


class _Watch(torch.overrides.TorchFunctionMode):
    """Records the kernels whose results are used: Keras 3.14 discards its LSTM's, and loops."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        if name in KERNELS:
            self.kept.append(name)
        elif name == "matmul":
            self.kept.clear()
        return result


@contextlib.contextmanager
def watched(compiled: bool) -> Iterator[list[str]]:
    """Note the kernels that torch is asked for; see the package's docstring."""
    with contextlib.ExitStack() as undo:
        if compiled:  # which is what Keras asks
            replace_method(undo, torch.compiler, "is_compiling", lambda: True)
        yield undo.enter_context(_Watch()).kept


def compiled(function: Any) -> Any:
    """The function without a record for gradients; see the package's docstring."""
    return torch.no_grad()(function)


def with_gradient(function: Any, gradient: Any) -> Any:
    """The function with a gradient of its own; see the package's docstring."""

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, *inputs: Any) -> Any:
            output = function(*inputs)
            context.save_for_backward(*inputs, output)
            return output

        @staticmethod
        def backward(context: Any, upstream: Any) -> Any:
            *inputs, output = context.saved_tensors
            return gradient(inputs, output, upstream)

    return Differentiable.apply


def times(product: Any, factor: Any) -> Any:
    """Multiply; see the package's docstring."""
    return torch.where(factor == 0, 0.0, product * factor)


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
    """Return that there is nothing to set; see the package's docstring."""
    return "PyTorch takes GPU memory as it needs it, so there is nothing to set."
