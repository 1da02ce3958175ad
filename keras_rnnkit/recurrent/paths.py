"""Which path a recurrent layer takes, and every condition that decided it.

`decide` is what the layers of this package themselves ask before each pass, so that
`explain_path` cannot differ from the run.
"""

from dataclasses import dataclass
from typing import Any

import keras

from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.equations import computes, equations_of, follows_from_h

FUSED = ("cudnn", "aten")
SPEED = ("units", "parts")


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
    """The path of one call of a layer.

    Attributes:
        layer: Its key, as `trace` has it: the names that lead to the layer, and `#2` at its second
            call.
        path: `"cudnn"`, `"aten"` (torch's own fused kernel on the CPU), `"block"` (TensorFlow's op
            that trains a small LSTM on the CPU), `"scan"` (JAX's `lax.scan`), `"loop"` (a time
            loop of the framework) or `"linear scan"` (all steps of a cell that is linear in its
            state, at once).
        conditions: Every condition, held or not.
        note: What could not be told, and why; empty otherwise.
    """

    layer: str
    path: str
    conditions: tuple[Condition, ...]
    note: str = ""

    @property
    def fused(self) -> bool:
        """Whether one kernel runs the whole sequence."""
        return self.path in FUSED

    @property
    def quickest(self) -> bool:
        """Whether it is the quickest path there, be it the fused kernel or a loop that beats it."""
        return all(condition.name in SPEED for condition in self.failed)

    @property
    def failed(self) -> tuple[Condition, ...]:
        """The conditions that keep the layer from its fused kernel."""
        return tuple(condition for condition in self.conditions if not condition.holds)


def decide(
    layer: Any,
    training: bool = False,
    tensor: Any = None,
    compiled: bool = False,
    cuts: tuple[Any, ...] = (),
) -> LayerPath:
    """Return the path of a layer of this package for such a call.

    Args:
        layer: SimpleRNN, LSTM or GRU of this package.
        training: Whether dropout applies.
        tensor: The input, for its device; None for where the backend places by default.
        compiled: Whether the model is compiled by XLA or torch.compile.
        cuts: The resets and the mask of a call with `reset`.
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
    conditions += cell_conditions(layer, training, dropped)
    if cuts:
        remedy = (
            "leave it out: give each part between two resets a row of its own, padded and masked"
        )
        known = kernel.PARTS and all(x is None or kernel.is_known(x) for x in cuts)
        conditions.append(Condition("reset", "given", known, remedy))
    projection = getattr(layer.cell, "projection", None)
    if projection is not None:
        remedy = "leave it out: of the kernels only torch's is known to compute it"
        conditions.append(Condition("projection", projection, kernel.PROJECTS, remedy))
    suits = all(condition.holds for condition in conditions)
    conditions.append(Condition("use_bias", layer.cell.use_bias, True, ""))
    conditions.append(Condition("mask", "any", True, ""))
    equations = equations_of(layer.cell)
    kind = None
    if equations and follows_from_h(equations):
        kind = equations.fused_kind(layer.cell)
    else:
        name = type(layer.cell).__name__
        conditions.append(Condition("cell", name, False, "no kernel computes it: use rk.RNN"))
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
        conditions.append(Condition("units", units, fused, remedy))
    if fused and cuts and layer.use_cudnn is not True:
        units = layer.cell.units
        h_alone = not (layer.return_state or layer.return_state_sequences or layer.stateful)
        found = kernel.parts_condition(kind, tensor, units, training, h_alone)
        conditions.append(Condition(*found))
        fused = conditions[-1].holds
    if kernel.BLOCKS and training and layer.use_cudnn == "auto" and suits:
        found = kernel.block_condition(
            kind, layer.compute_dtype, tensor, layer.cell.units, compiled
        )
        if found is not None:
            conditions.append(Condition(*found))
            if conditions[-1].holds:
                return LayerPath(layer.name, "block", tuple(conditions))
    return LayerPath(layer.name, path_of(layer, fused, tensor), tuple(conditions))


def path_of(layer: Any, fused: bool, tensor: Any) -> str:
    """Return the name of a layer's path, which may be a fused kernel or not."""
    kernel = kernels.current()
    if fused:
        return "cudnn" if kernel.device(tensor) == "GPU" else "aten"
    return "loop" if layer.unroll else kernel.LOOP


def cell_conditions(layer: Any, training: bool, recurrent_dropout: float) -> list[Condition]:
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
