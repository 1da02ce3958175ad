"""explain_path: the path of every call of a model's recurrent layers, and what decided it.

The path of a layer of this library is that of `paths.decide`. What Keras's own layers decide
differs between versions of Keras. So their path is found by watching which kernels they call, and
the conditions only say why. If nothing is called, rules are used instead.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import keras
from keras import ops, tree

from keras_rnnkit.inspection import passes
from keras_rnnkit.recurrent import kernels, masks
from keras_rnnkit.recurrent.paths import Condition, LayerPath, cell_conditions, decide, path_of
from keras_rnnkit.versions import holds

STEPPED = "stepped by the model itself: a step is a call of its own, and no fused kernel takes one"
# The versions of Keras without a kernel for a layer; before 3.15 that of torch's LSTM fails, or its
# result is thrown away, and a loop runs.
LACKS = {
    ("jax", "GRU"): "keras",
    ("jax", "LSTM"): "keras<3.14",
    ("torch", "GRU"): "keras<3.14",
    ("torch", "LSTM"): "keras<3.15",
}
NOT_MET = "not reached by this call: reported as without inputs"


class SlowPathError(ValueError):
    """A layer is kept from its fused kernel; the message says which, why, and the remedy."""


@dataclass(frozen=True)
class PathReport:
    """The paths of a model's recurrent layers; prints as a table.

    Attributes:
        backend: The Keras backend.
        layers: One `LayerPath` for each call of a recurrent layer, in the order in which they run;
            then those that were not called, in the order of the model.

    >>> import keras_rnnkit as rk
    >>> report = rk.explain_path(rk.LSTM(4, activation="relu"))
    >>> report.layers[0].failed[0].name
    'activation'
    """

    backend: str
    layers: tuple[LayerPath, ...]

    def __getitem__(self, name: str) -> LayerPath:
        """Return the path of the layer with this key."""
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
            if layer.note:
                rows.append((*head, "note", "", "", layer.note))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]
            )
            for row in rows
        ]
        return "\n".join([f"backend: {self.backend}", *(line.rstrip() for line in lines)])


def explain_path(
    model_or_layer: Any,
    inputs: Any = None,
    *,
    mask: Any = None,
    training: bool = False,
    strict: bool = False,
) -> PathReport:
    """Say which path each recurrent layer takes, of Keras or of this library, and why.

    Args:
        model_or_layer: A model, or a layer; every recurrent layer inside is reported, and every
            cell that the model steps by itself, with a note.
        inputs: Inputs of the model. It is called with them, and the report is about that call: a
            layer that is called twice comes twice, as `"lstm"` and `"lstm#2"`, each with its device
            and mask. The model stays as it is, with the states that it carries. Without inputs,
            the default device of the backend and `mask` are assumed for all layers.
        mask: (batch, time), for a layer called with a mask.
        training: Whether the call is one of training, with dropout.
        strict: Whether it is an error if something keeps a layer from its fused kernel. A loop that
            was measured to be faster than the kernel is no error.

    Returns:
        A `PathReport`; print it for a table.

    Raises:
        SlowPathError: If `strict` and something keeps a layer from its fused kernel.
        ValueError: If there is no recurrent layer, or `model_or_layer` is a cell.

    >>> import keras
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential([keras.Input((5, 3)), rk.LSTM(4, activation="relu", name="slow")])
    >>> report = rk.explain_path(model)
    >>> report["slow"].failed[0].name, report["slow"].failed[0].remedy
    ('activation', "pass activation='tanh'")
    """
    passes.require_rows(model_or_layer, 1)
    sites = passes.sites(model_or_layer)
    compiled = bool(getattr(model_or_layer, "jit_compile", False))
    found: dict[str, LayerPath] = {}
    if inputs is not None:
        found = _watch(model_or_layer, inputs, mask, training, compiled)
    for site in sites:
        if site.key in found:
            continue
        if site.is_cell:
            found[site.key] = _stepped(site.key)
        else:
            path = _told(site.layer, training, mask, compiled)
            note = "" if inputs is None else NOT_MET
            found[site.key] = replace(path, layer=site.key, note=note)
    report = PathReport(keras.backend.backend(), tuple(found.values()))
    slow = [layer for layer in report.layers if not layer.quickest]
    if strict and slow:
        raise SlowPathError(
            f"{', '.join(repr(layer.layer) for layer in slow)} would not run a fused kernel; "
            f"received backend {report.backend!r}. Change what is marked `no`:\n{report}"
        )
    return report


def default_paths() -> PathReport:
    """Say which path SimpleRNN, LSTM and GRU of this library and of Keras take by default.

    The report names them `rk.LSTM`, `keras.layers.LSTM` and so on. Nothing is run for it, and no
    LSTM or GRU made: Keras sets up the GPUs when one is, after which TensorFlow's memory growth is
    fixed.
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
        found.append(_keras_path(theirs, False, None, None, False))
    return PathReport(keras.backend.backend(), tuple(found))


def _watch(
    root: Any, inputs: Any, mask: Any, training: bool, compiled: bool
) -> dict[str, LayerPath]:
    """Make a call, and return the path of each pass that is made in it, by its key."""
    inputs = tree.map_structure(ops.convert_to_tensor, inputs)
    passes.build(root, inputs)
    found: dict[str, LayerPath] = {}

    def note(met: passes.Met) -> Any:
        settled = met.settled
        with kernels.current().watched(compiled) as called:
            result = getattr(type(met.layer), met.method)(met.layer, *met.arguments)
        if met.method == "run":
            trains, sequences = settled.training, settled.sequences
            path = _told(met.layer, trains, None, compiled, sequences, settled.cuts)
        else:
            sequences, _, its_mask, _ = met.arguments
            trains = settled.training
            path = _keras_path(met.layer, trains, its_mask, sequences, compiled, bool(called))
        # Of the outer steps of a TimeDistributed, one that is kept from its kernel.
        if met.key not in found or found[met.key].quickest:
            found[met.key] = replace(path, layer=met.key)
        return result

    call = {"training": training} if mask is None else {"training": training, "mask": mask}
    with keras.StatelessScope(), passes.intercepted(root, note) as stepped:
        root(inputs, **call)
    return found | {key: _stepped(key) for key in stepped}


def _stepped(key: str) -> LayerPath:
    return LayerPath(key, "loop", (), STEPPED)


def _told(
    layer: Any,
    training: bool,
    mask: Any,
    compiled: bool,
    tensor: Any = None,
    cuts: tuple[Any, ...] = (),
) -> LayerPath:
    """The path of a layer that is not called."""
    if hasattr(layer, "run_fused"):
        return decide(layer, training, tensor, compiled, cuts)
    if getattr(layer, "linear", False):
        known = Condition("cell", f"{type(layer.cell).__name__}, linear in its state", True, "")
        path = "linear scan" if layer.at_once else path_of(layer, False, tensor)
        return LayerPath(layer.name, path, (known,))
    return _keras_path(layer, training, mask, tensor, compiled)


def _keras_path(
    layer: Any,
    training: bool,
    mask: Any,
    tensor: Any,
    compiled: bool,
    ran: bool | None = None,
) -> LayerPath:
    """The path of one of Keras's own layers: whether a kernel `ran`, else by Keras's rules."""
    backend = keras.backend.backend()
    name = type(layer).__name__
    if not hasattr(layer, "use_cudnn"):
        reason = Condition("layer", name, False, f"Keras has no kernel for it: use rk.{name}")
        if type(layer) is keras.layers.RNN or not hasattr(layer, "units"):
            reason = Condition(
                "layer", name, False, "use SimpleRNN, LSTM or GRU: RNN runs any cell"
            )
        return LayerPath(layer.name, path_of(layer, False, tensor), (reason,))
    cell = layer.cell
    kind = "GRU" if isinstance(cell, keras.layers.GRUCell) else "LSTM"
    conditions = [
        Condition(
            "use_cudnn", layer.use_cudnn, layer.use_cudnn is not False, 'pass "auto" or True'
        ),
        # Keras asks whether the layer has recurrent dropout, not whether this call applies it.
        *cell_conditions(layer, training, cell.recurrent_dropout),
        Condition("use_bias", cell.use_bias, bool(cell.use_bias), "pass use_bias=True"),
        _mask_condition(backend, mask),
    ]
    lacks = (backend, kind) in LACKS and holds(LACKS[backend, kind])
    remedy = "use the layer of this package"
    if backend == "jax" and kind == "GRU":
        remedy = "JAX has a cuDNN kernel for the LSTM alone"
    conditions.append(Condition("backend", backend, not lacks, remedy))
    kernel = kernels.current()
    device = kernel.device(tensor)
    conditions.append(Condition("device", device, device == "GPU", "run on an NVIDIA GPU"))
    heeded = compiled and not (backend == "torch" and holds("keras<3.15"))
    compilation = kernel.fused_conditions("lstm", layer.compute_dtype, tensor, heeded)[-1]
    conditions.append(Condition(*compilation))
    fused = all(condition.holds for condition in conditions)
    if ran:
        conditions = [replace(condition, holds=True) for condition in conditions]
    elif fused and ran is not None:
        remedy = f"Keras {keras.__version__} ran a loop all the same: use the layer of this package"
        conditions.append(Condition("kernel", "none was called", False, remedy))
    fused = fused if ran is None else ran
    return LayerPath(layer.name, path_of(layer, fused, tensor), tuple(conditions))


def _mask_condition(backend: str, mask: Any) -> Condition:
    if mask is None or all(m is None for m in tree.flatten(mask)):
        return Condition("mask", "none", True, "")
    if backend != "tensorflow":
        return Condition("mask", "given", False, "use the layer of this package: any mask is fast")
    mask = masks.as_mask(ops.convert_to_tensor(tree.flatten(mask)[0]))
    valid = ops.convert_to_numpy(mask)
    padded = bool((valid[:, :-1] >= valid[:, 1:]).all() and valid[:, 0].all())
    return Condition(
        "mask",
        "right-padded" if padded else "left, with holes, or a sample without a step",
        padded,
        "pad on the right, or use the layer of this package: Keras's falls back when eager and "
        "fails in fit()",
    )
