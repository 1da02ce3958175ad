"""Which path a recurrent layer takes, and every condition that decided it.

`decide` is what the layers of this package themselves ask before each pass, so that the report
cannot differ from the run. Keras's own layers decide by rules of their own, which
`explain_path` states for them.
"""

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import keras
from keras import ops, tree

from keras_rnnkit.recurrent import kernels, masks
from keras_rnnkit.recurrent.equations import computes, equations_of
from keras_rnnkit.recurrent.watch import looking, replace_method

FUSED = ("cudnn", "aten")
SPEED = "units"


class SlowPathError(ValueError):
    """A layer is kept from its fused kernel; the message says which, why, and the remedy."""


@dataclass(frozen=True)
class Condition:
    """One thing that the fused kernel asks for.

    Attributes:
        name: What is asked about, such as `"activation"`.
        value: What was found.
        holds: Whether it is as the kernel needs it.
        remedy: What to change when it is not.
    """

    name: str
    value: Any
    holds: bool
    remedy: str


@dataclass(frozen=True)
class LayerPath:
    """The path of one layer.

    Attributes:
        layer: The layer's name.
        path: `"cudnn"`, `"aten"` (torch's own fused kernel on the CPU), `"block"` (TensorFlow's op
            that trains a small LSTM on the CPU), `"scan"` (JAX's `lax.scan`) or `"loop"` (a time
            loop of the framework).
        conditions: Every condition, held or not.
    """

    layer: str
    path: str
    conditions: tuple[Condition, ...]

    @property
    def fused(self) -> bool:
        """Whether one kernel runs the whole sequence."""
        return self.path in FUSED

    @property
    def quickest(self) -> bool:
        """Whether it is the quickest path there, be it the fused kernel or a loop that beats it."""
        return all(condition.name == SPEED for condition in self.failed)

    @property
    def failed(self) -> tuple[Condition, ...]:
        """The conditions that keep the layer from its fused kernel."""
        return tuple(condition for condition in self.conditions if not condition.holds)


@dataclass(frozen=True)
class PathReport:
    """The paths of a model's recurrent layers; prints as a table.

    Attributes:
        backend: The Keras backend.
        layers: One `LayerPath` a recurrent layer, in the model's order.

    >>> import keras_rnnkit as rk
    >>> report = rk.explain_path(rk.LSTM(4, activation="relu"))
    >>> report.layers[0].failed[0].name
    'activation'
    """

    backend: str
    layers: tuple[LayerPath, ...]

    def __getitem__(self, name: str) -> LayerPath:
        """Return the layer of this name."""
        for layer in self.layers:
            if layer.layer == name:
                return layer
        raise KeyError(f"{name!r} is none of {[layer.layer for layer in self.layers]}")

    def __str__(self) -> str:
        rows = [("layer", "path", "condition", "value", "", "remedy")]
        for layer in self.layers:
            head = (layer.layer, layer.path)
            for condition in layer.conditions:
                mark = ("", "") if condition.holds else ("no", condition.remedy)
                rows.append((*head, condition.name, str(condition.value), *mark))
                head = ("", "")
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]
            )
            for row in rows
        ]
        return "\n".join([f"backend: {self.backend}", *(line.rstrip() for line in lines)])


def decide(
    layer: Any, training: bool = False, tensor: Any = None, compiled: bool = False
) -> LayerPath:
    """Return the path of a layer of this package for such a call.

    Args:
        layer: SimpleRNN, LSTM or GRU of this package.
        training: Whether dropout applies.
        tensor: The input, for its device; None for where the backend places by default.
        compiled: Whether the model is compiled by XLA or torch.compile.
    """
    kernel = kernels.current()
    conditions = [
        Condition(
            "use_cudnn",
            layer.use_cudnn,
            layer.use_cudnn is not False,
            'pass use_cudnn="auto" or True',
        )
    ]
    dropped = layer.cell.recurrent_dropout if training else 0.0
    conditions += _cell_conditions(layer, training, dropped)
    suits = all(condition.holds for condition in conditions)
    conditions.append(Condition("use_bias", layer.cell.use_bias, True, ""))
    conditions.append(Condition("mask", "any", True, ""))
    kind = equations_of(layer.cell).fused_kind(layer.cell)  # type: ignore[union-attr]
    found = kernel.fused_conditions(kind, layer.compute_dtype, tensor, compiled)
    conditions += [Condition(*condition) for condition in found]
    fused = all(condition.holds for condition in conditions)
    if fused and kernel.FUSED_FROM_UNITS and layer.use_cudnn is not True:
        units = layer.cell.units
        fused = units >= kernel.FUSED_FROM_UNITS
        remedy = (
            f"nothing: below {kernel.FUSED_FROM_UNITS} units {kernel.LOOP} is quicker; "
            "use_cudnn=True takes the kernel all the same"
        )
        conditions.append(Condition(SPEED, units, fused, remedy))
    if kernel.BLOCKS and training and layer.use_cudnn == "auto" and suits:
        found = kernel.block_condition(
            kind, layer.compute_dtype, tensor, layer.cell.units, compiled
        )
        if found is not None:
            conditions.append(Condition(*found))
            if conditions[-1].holds:
                return LayerPath(layer.name, "block", tuple(conditions))
    return LayerPath(layer.name, _path(layer, fused, tensor), tuple(conditions))


def _path(layer: Any, fused: bool, tensor: Any) -> str:
    kernel = kernels.current()
    if fused:
        return "cudnn" if kernel.device(tensor) == "GPU" else "aten"
    return "loop" if layer.unroll else kernel.LOOP


def _cell_conditions(layer: Any, training: bool, recurrent_dropout: float) -> list[Condition]:
    """What the equations must be for a kernel to compute them."""
    cell = layer.cell
    simple = isinstance(cell, keras.layers.SimpleRNNCell)
    allowed = ("tanh", "relu") if simple else ("tanh",)
    conditions = [_activation("activation", cell.activation, allowed)]
    if not simple:
        conditions.append(
            _activation("recurrent_activation", cell.recurrent_activation, ("sigmoid",))
        )
    if isinstance(cell, keras.layers.GRUCell):
        conditions.append(
            Condition(
                "reset_after", cell.reset_after, bool(cell.reset_after), "pass reset_after=True"
            )
        )
    conditions.append(Condition("unroll", layer.unroll, not layer.unroll, "pass unroll=False"))
    remedy = "pass recurrent_dropout=0, or dropout"
    conditions.append(
        Condition("recurrent_dropout", recurrent_dropout, not recurrent_dropout, remedy)
    )
    by_gate = bool(training and cell.dropout and getattr(cell, "implementation", 2) == 1)
    return [
        *conditions,
        Condition(
            "dropout masks",
            "one a gate" if by_gate else "one for all gates",
            not by_gate,
            "pass implementation=2",
        ),
    ]


def _activation(argument: str, function: Any, allowed: tuple[str, ...]) -> Condition:
    name = getattr(function, "__name__", str(function))
    holds = any(computes(function, each) for each in allowed)
    return Condition(argument, name, holds, f"pass {argument}={allowed[0]!r}")


def explain_path(
    model_or_layer: Any,
    inputs: Any = None,
    *,
    mask: Any = None,
    training: bool = False,
    strict: bool = False,
) -> PathReport:
    """Say which path each recurrent layer takes, Keras's own or ours, and what decided it.

    Args:
        model_or_layer: A model, or a layer; every recurrent layer inside is reported.
        inputs: What to call it with. The call is made, and each layer's device and mask are those
            it met; the states that stateful layers carry stay as they were. Without it, the
            backend's default device and `mask` are taken for all.
        mask: (batch, time), for a layer called with a mask.
        training: Whether the call trains: dropout takes part.
        strict: Whether a layer that something keeps from its fused kernel is an error. A loop that
            was measured to be quicker than the kernel is none.

    Returns:
        A `PathReport`; print it for a table.

    Raises:
        SlowPathError: If `strict` and something keeps a layer from its fused kernel.
        ValueError: If there is no recurrent layer.

    >>> import keras
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential([keras.Input((5, 3)), rk.LSTM(4, activation="relu", name="slow")])
    >>> report = rk.explain_path(model)
    >>> report["slow"].failed[0].name, report["slow"].failed[0].remedy
    ('activation', "pass activation='tanh'")
    """
    layers = recurrent_layers(model_or_layer)
    if not layers:
        raise ValueError(
            f"`model_or_layer` must be or hold a recurrent layer; {model_or_layer.name!r} holds "
            "none. Pass a model with a SimpleRNN, LSTM, GRU or RNN layer."
        )
    met = {id(layer): (None, mask, training) for layer in layers}
    if inputs is not None:
        call = {"training": training} if mask is None else {"training": training, "mask": mask}
        met.update(_observe(layers, lambda: model_or_layer(inputs, **call)))
    compiled = bool(getattr(model_or_layer, "jit_compile", False))
    found = []
    for layer in layers:
        tensor, its_mask, trains = met[id(layer)]
        ours = hasattr(layer, "run_fused")
        found.append(
            decide(layer, trains, tensor, compiled)
            if ours
            else _keras_path(layer, trains, tensor, compiled, its_mask)
        )
    report = PathReport(keras.backend.backend(), tuple(found))
    slow = [layer for layer in report.layers if not layer.quickest]
    if strict and slow:
        raise SlowPathError(
            f"{', '.join(repr(layer.layer) for layer in slow)} would not run a fused kernel; "
            f"received backend {report.backend!r}. Change what is marked `no`:\n{report}"
        )
    return report


def default_paths() -> PathReport:
    """Say which path SimpleRNN, LSTM and GRU take with their default arguments, ours and Keras's.

    The report names them `rk.LSTM`, `keras.layers.LSTM` and so on. No LSTM or GRU is made for it:
    Keras sets up the GPUs when one is, after which TensorFlow's memory growth is fixed.
    """
    found = []
    with keras.StatelessScope(initialize_variables=False):
        simple = keras.layers.SimpleRNN(1, name="keras.layers.SimpleRNN")
        # So wide that no loop is quicker than a kernel.
        cells = [simple.cell, keras.layers.LSTMCell(1024), keras.layers.GRUCell(1024)]
    for cell in cells:
        name = type(cell).__name__.removesuffix("Cell")
        like = {
            "cell": cell,
            "unroll": False,
            "use_cudnn": "auto",
            "compute_dtype": cell.compute_dtype,
        }
        found.append(decide(SimpleNamespace(name=f"rk.{name}", **like)))
        theirs = SimpleNamespace(name=f"keras.layers.{name}", **like)
        theirs = simple if cell is simple.cell else theirs
        found.append(_keras_path(theirs, False, None, False, None))
    return PathReport(keras.backend.backend(), tuple(found))


def _observe(layers: list[Any], call: Any) -> dict[int, Any]:
    """Make a call and note the sequences, mask and training that each layer meets in it.

    What stateful layers carry stays as it was: to look is not to go on.
    """
    met: dict[int, Any] = {}

    def observing(layer: Any, own: Any) -> Any:
        def observed(sequences: Any, *args: Any, **kwargs: Any) -> Any:
            mask = kwargs.get("mask")
            if mask is None:
                mask = kwargs.get("sequences_mask")
            met[id(layer)] = (sequences, mask, bool(kwargs.get("training")))
            return own(sequences, *args, **kwargs)

        return observed

    with looking, contextlib.ExitStack() as undo:
        for layer in layers:
            replace_method(undo, layer, "call", observing(layer, layer.call))
        if all(layer.built for layer in layers):
            undo.enter_context(keras.StatelessScope())
            call()
        else:
            _build_by(layers, call)
    return met


def _build_by(layers: list[Any], call: Any) -> None:
    """Make a call that gives layers their weights, and put back what it left in their states."""

    def carried() -> list[Any]:
        stateful = [layer.states for layer in layers if layer.stateful]
        return [v for v in tree.flatten(stateful) if isinstance(v, keras.Variable)]

    before = {id(variable): ops.copy(variable) for variable in carried()}
    try:
        call()
    finally:
        for variable in carried():
            variable.assign(before.get(id(variable), ops.zeros(variable.shape)))


def _keras_path(layer: Any, training: bool, tensor: Any, compiled: bool, mask: Any) -> LayerPath:
    """The path of one of Keras's own layers, by Keras's rules for this backend."""
    backend = keras.backend.backend()
    if not hasattr(layer, "use_cudnn"):
        name = type(layer).__name__
        reason = Condition("layer", name, False, f"Keras has no kernel for it: use rk.{name}")
        if type(layer) is keras.layers.RNN or not hasattr(layer, "units"):
            reason = Condition(
                "layer", name, False, "use SimpleRNN, LSTM or GRU: RNN runs any cell"
            )
        return LayerPath(layer.name, _path(layer, False, tensor), (reason,))
    cell = layer.cell
    conditions = [
        Condition(
            "use_cudnn", layer.use_cudnn, layer.use_cudnn is not False, 'pass "auto" or True'
        ),
        # Keras asks whether the layer has recurrent dropout, not whether this call applies it.
        *_cell_conditions(layer, training, cell.recurrent_dropout),
        Condition("use_bias", cell.use_bias, bool(cell.use_bias), "pass use_bias=True"),
        _keras_mask_condition(backend, mask),
    ]
    if backend == "jax" and isinstance(cell, keras.layers.GRUCell):
        remedy = "JAX has a cuDNN kernel for the LSTM alone"
        conditions.append(Condition("backend", backend, False, remedy))
    kernel = kernels.current()
    device = kernel.device(tensor)
    conditions.append(Condition("device", device, device == "GPU", "run on an NVIDIA GPU"))
    compilation = kernel.fused_conditions("lstm", layer.compute_dtype, tensor, compiled)[-1]
    conditions.append(Condition(*compilation))
    fused = all(condition.holds for condition in conditions)
    return LayerPath(layer.name, _path(layer, fused, tensor), tuple(conditions))


def _keras_mask_condition(backend: str, mask: Any) -> Condition:
    if mask is None or all(m is None for m in tree.flatten(mask)):
        return Condition("mask", "none", True, "")
    if backend != "tensorflow":
        return Condition("mask", "given", False, "use the layer of this package: any mask is fast")
    mask = masks.as_mask(ops.convert_to_tensor(tree.flatten(mask)[0]))
    valid = ops.convert_to_numpy(mask)
    padded = bool((valid[:, :-1] >= valid[:, 1:]).all() and valid[:, 0].all())
    return Condition(
        "mask",
        "right-padded" if padded else "left, with holes, or a row without a step",
        padded,
        "pad on the right, or use the layer of this package: Keras's falls back when eager and "
        "fails in fit()",
    )


def recurrent_layers(root: Any) -> list[Any]:
    """Return every recurrent layer inside a model or layer, in the order it holds them."""
    return [layer for _, layer in named_layers(root) if isinstance(layer, keras.layers.RNN)]


def named_layers(root: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Return every layer inside a model or layer with the names that lead to it.

    The root's own name is left out of the names of what it holds; cells of a recurrent layer are
    not gone into.
    """
    if not isinstance(root, keras.Layer):
        raise ValueError(
            f"expected a Keras model or layer; received {type(root).__name__} {root!r:.60}. "
            "Load a file with keras.saving.load_model first."
        )
    found: list[tuple[tuple[str, ...], Any]] = []
    seen: set[int] = set()

    def visit(value: Any, above: tuple[str, ...]) -> None:
        if isinstance(value, (list, tuple)):
            for each in value:
                visit(each, above)
        elif isinstance(value, dict):
            visit(list(value.values()), above)
        elif isinstance(value, keras.Layer) and id(value) not in seen:
            seen.add(id(value))
            names = (*above, value.name)
            found.append((names, value))
            if not isinstance(value, keras.layers.RNN):
                inside = () if value is root else names
                visit([getattr(value, "layers", ()), *vars(value).values()], inside)

    visit(root, ())
    return found
