"""The graph of a model, gone through once more with one time step in place of all of them."""

import re
from typing import Any

import keras
from keras import ops, tree

from keras_rnnkit.recurrent.equations import equations_of
from keras_rnnkit.recurrent.rnn import RecurrentLayer
from keras_rnnkit.streaming import rules
from keras_rnnkit.streaming.rules import NotPerStep
from keras_rnnkit.streaming.state_layers import (
    RecurrentChunk,
    RecurrentStep,
    StateLayer,
    WindowStep,
    WithMask,
    shown_state,
)

NEXT = "next_"  # before the name of a state, the name of the output that it becomes
STATIC, SO_FAR = "static", "so far"  # the kinds of tensors without a time axis


class Walk:
    """One pass over the graph of a model, or of a model inside it.

    A tensor is of one of three kinds: with time steps, on an axis that is known; one that holds for
    the whole sequence so far; or one that has nothing to do with time. Whatever is computed from
    the last two alone is computed as in the model.

    Args:
        model: A Sequential or functional model.
        whole: Whether to take any number of time steps, by the fast path of each layer.
        batch_size: Of the inputs; None for any.
        static: Names of inputs without a time axis.
        stepwise: Layers, or their classes, that are said to act on each time step by itself.
    """

    def __init__(
        self, model: Any, *, whole: bool, batch_size: int | None, static: Any, stepwise: Any
    ) -> None:
        require_graph(model)
        self.root = model
        self.options = {
            "whole": whole,
            "batch_size": batch_size,
            "static": static,
            "stepwise": stepwise,
        }
        self.whole, self.batch_size = whole, batch_size
        self.static, self.stepwise = static, tuple(stepwise)
        self.kinds: dict[int, tuple[Any, Any]] = {}  # with the tensor, which keeps its id its own
        self.padded: dict[int, int] = {}
        self.repeated: set[int] = set()
        self.steps: dict[Any, Any] = {}  # a layer -> what takes its step
        self.inputs: dict[str, Any] = {}
        self.used: set[int] = set()
        self.states: dict[str, tuple[Any, Any]] = {}  # name -> before, after
        self.calls: list[tuple[StateLayer, list[str]]] = []

    def model(self) -> keras.Model:
        """Return the model of a step, or of any number of them."""
        names = input_names(self.root)
        sequences = []
        for name, given in zip(names, self.root.inputs, strict=True):
            kind = self.kind_of_input(given)
            features = given.shape[2:] if kind == 1 else given.shape[1:]
            time = (None,) if kind == 1 and self.whole else ()
            shape = (self.batch_size, *time, *features)
            tensor = keras.Input(batch_shape=shape, dtype=given.dtype, name=name)
            self.inputs[name] = tensor
            if kind == 1 and not self.whole:
                tensor = ops.expand_dims(tensor, 1)
            sequences.append(self.mark(tensor, kind))
        if not any(self.axis(tensor) == 1 for tensor in sequences):
            shapes = [tuple(x.shape) for x in self.root.inputs]
            raise ValueError(
                f"`model` must have an input with a time axis; the inputs of {self.root.name!r} "
                f"have the shapes {shapes}. Give it (batch, time, features), or numbers of words, "
                '(batch, time), by keras.Input((time,), dtype="int32").'
            )
        found = self.through(self.root, sequences)
        if twice := [
            n for n in self.states if n in self.inputs and id(self.inputs[n]) in self.used
        ]:
            raise ValueError(
                f"`model` takes the initial states of a layer from the input {twice[0]!r}, and "
                "uses it elsewhere too. Give the states an input of their own."
            )
        outputs: dict[str, Any] = {}
        for name, tensor in zip(output_names(self.root), found, strict=True):
            if self.axis(tensor) == 1 and not self.whole:
                tensor = ops.squeeze(tensor, 1) if tensor.shape[1] == 1 else tensor[:, 0]
            outputs[unique(name, [*outputs, *self.inputs])] = tensor
        before = {name: state for name, (state, _) in self.states.items()}
        after = {NEXT + name: state for name, (_, state) in self.states.items()}
        for layer, names in self.calls:
            layer.calls.append(names)
        return keras.Model(self.inputs | before, outputs | after, name=self.root.name)

    def kind_of_input(self, given: Any) -> Any:
        """Return on which axis an input of the model has its time steps, or that it has none."""
        rank = len(given.shape)
        if given.name in self.static or rank < 2:
            return STATIC
        if rank > 2 or given.shape[1] is None:
            return 1
        embedded = any(
            isinstance(layer, keras.layers.Embedding) and layer.input is given
            for layer in self.root.layers
        )
        whole_numbers = given.dtype == "bool" or keras.backend.is_int_dtype(given.dtype)
        return 1 if given.shape[1] > 1 and (embedded or whole_numbers) else STATIC

    def mark(self, tensor: Any, kind: Any) -> Any:
        """Note of which kind a tensor is."""
        self.kinds[id(tensor)] = tensor, kind
        return tensor

    def axis(self, tensor: Any) -> int | None:
        """Return on which axis a tensor has its time steps; None where it has none."""
        kind = self.kinds.get(id(tensor), (None, STATIC))[1]
        return kind if isinstance(kind, int) else None

    def so_far(self, tensor: Any) -> bool:
        """Whether a tensor holds for the sequence so far."""
        return self.kinds.get(id(tensor), (None, STATIC))[1] == SO_FAR

    def through(self, model: Any, inputs: list[Any]) -> list[Any]:
        """Put other inputs through the graph of a model; return its outputs, flat."""
        found: list[Any] = []
        end = _End()
        graph = keras.Model(model.inputs, end(list(model.outputs)))

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if operation is end:
                found.extend(args[0])
                return _End()(list(inputs))  # what the clone is made of, which nothing needs
            return self.call(operation, *args, **kwargs)

        keras.models.clone_model(
            graph,
            input_tensors=list(inputs),
            clone_function=lambda operation: operation,
            call_function=call,
        )
        return found

    def call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a layer or operation of the graph on one step."""
        tensors = _tensors((args, kwargs))
        try:
            if any(id(x) in self.padded for x in tensors):
                if isinstance(operation, rules.WINDOWED):
                    return self.windowed(operation, args[0])
                raise NotPerStep(
                    "is given a sequence that ZeroPadding1D has lengthened",
                    "Put the padding before a convolution or pooling that takes it all in",
                )
            if rules.known(operation, rules.NO_OPS) and not kwargs.get("training"):
                return args[0]
            if all(self.axis(x) is None for x in tensors):
                return self.as_it_is(operation, args, kwargs)
            if isinstance(operation, keras.Layer):
                return self.layer(operation, args, kwargs)
            self.require_not_so_far(tensors)
            self.used.update(map(id, tensors))
            time = rules.time_axis_after(operation, args, kwargs, self.axis)
            return self.results(operation(*args, **kwargs), time)
        except NotPerStep as why:
            reason, remedy = why.args
            what = "layer" if isinstance(operation, keras.Layer) else "operation"
            raise ValueError(
                f"`model` cannot run a step at a time: the {what} {operation.name!r} "
                f"({type(operation).__name__}) {reason}. {remedy}."
            ) from None

    def results(self, results: Any, kind: Any) -> Any:
        """Mark what a layer or operation returned."""
        for tensor in _tensors(results):
            self.mark(tensor, kind)
            timed = isinstance(kind, int) and not self.whole
            if timed and (len(tensor.shape) <= kind or tensor.shape[kind] not in (1, None)):
                raise NotPerStep(
                    f"makes a result of shape {tuple(tensor.shape)} of one time step",
                    "Let it hand on (batch, 1, ...)",
                )
        return results

    def require_not_so_far(self, tensors: list[Any]) -> None:
        """Refuse what joins time steps with what the model knows at their end only."""
        if any(map(self.so_far, tensors)):
            raise NotPerStep(
                "joins each time step with what is known after the last one only",
                "Leave it out, or make a step model of each part",
            )

    def as_it_is(self, operation: Any, args: Any, kwargs: Any) -> Any:
        """Call what has to do with no time step."""
        tensors = _tensors((args, kwargs))
        if isinstance(operation, keras.Layer):
            rules.require_no_carried_states(operation)
        self.used.update(map(id, tensors))
        kind = SO_FAR if any(map(self.so_far, tensors)) else STATIC
        results = self.results(operation(*args, **kwargs), kind)
        if kind == STATIC and isinstance(operation, keras.layers.RepeatVector):
            self.repeated.add(id(results))
        return results

    def layer(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """Call a layer on inputs that have time steps."""
        if isinstance(layer, keras.layers.RNN) and not self.is_stepwise(layer):
            return self.recurrent(layer, *args, **kwargs)
        self.require_not_so_far(_tensors((args, kwargs)))
        self.used.update(map(id, _tensors((args, kwargs))))
        if self.is_stepwise(layer):
            return self.results(layer(*args, **kwargs), 1)
        if kwargs.get("training"):
            raise NotPerStep("is called with training=True", "Leave that out")
        if isinstance(layer, keras.Model):
            return self.inside(layer, args)
        inputs = _tensors(args)
        if any(self.axis(x) not in (1, None) for x in inputs):
            raise NotPerStep("is given time on another axis than 1", "Leave time after the batch")
        if rules.known(layer, (keras.layers.ZeroPadding1D,)):
            if layer.padding[1]:
                raise NotPerStep("adds time steps at the end", "Pad the start alone")
            padded = self.mark(keras.layers.Identity(name=layer.name)(args[0]), 1)
            self.padded[id(padded)] = layer.padding[0]
            return padded
        if rules.known(layer, rules.WINDOWED):
            return self.windowed(layer, args[0])
        args = tree.map_structure(lambda x: self.over_time(x, inputs), args)
        rules.require_per_step(layer, _tensors(args))
        return self.results(layer(*args, **kwargs), 1)

    def is_stepwise(self, layer: Any) -> bool:
        """Whether a layer was said to act on each time step by itself."""
        return any(
            isinstance(layer, one) if isinstance(one, type) else layer is one
            for one in self.stepwise
        )

    def over_time(self, tensor: Any, inputs: list[Any]) -> Any:
        """Return a tensor without time steps as one that is the same at each."""
        if not isinstance(tensor, keras.KerasTensor) or self.axis(tensor) is not None:
            return tensor
        if id(tensor) not in self.repeated and (len(tensor.shape) < 3 or tensor.shape[1] != 1):
            raise NotPerStep(
                f"joins time steps with a tensor of shape {tuple(tensor.shape)} that has none",
                "Put a RepeatVector before it, or give it an axis of length 1",
            )
        sequence = next(x for x in inputs if self.axis(x) is not None)
        ones = ops.ones_like(sequence[..., :1], dtype=tensor.dtype)
        return self.mark(tensor[:, :1] * ones, 1)

    def recurrent(
        self,
        layer: Any,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: Any = False,
        sequences_mask: Any = None,
        reset: Any = None,
    ) -> Any:
        """Call a recurrent layer by its cell; the arguments are those of its own `call`."""
        rules.require_known_pass(layer)
        if layer.go_backwards:
            raise NotPerStep(
                "has go_backwards=True: it begins with the last time step", "Use go_backwards=False"
            )
        if training:
            raise NotPerStep("is called with training=True", "Leave that out")
        if any(x is not None and self.axis(x) != 1 for x in (sequences, mask, reset)):
            raise NotPerStep(
                "is given time steps on another axis than 1, or a mask or reset without them",
                "Give it (batch, time, features), and a mask or reset (batch, time)",
            )
        if mask is None and (initial_state is None or isinstance(layer, RecurrentLayer)):
            mask = mask_of(sequences)  # for `sequences_mask`, which is that of all time steps
        given = self.given_states(initial_state)
        each = getattr(layer, "return_state_sequences", False)
        returns = ["sequence" if layer.return_sequences else "last"]
        returns += ["states"] * layer.return_state + ["state sequences"] * each
        zero = layer.zero_output_for_mask
        learned = getattr(layer, "learned_states", [])
        from_zeros = not given and not learned and shown_state(layer.cell) is not None
        holds = mask is not None and not zero and not from_zeros
        if layer not in self.steps:
            kind: Any = RecurrentChunk if self.whole else RecurrentStep
            self.steps[layer] = kind(
                layer if self.whole else layer.cell,
                returns=returns,
                zero_output_for_mask=zero,
                holds_output=holds,
                learn_initial_state=bool(learned),
                name=layer.name,
                dtype=layer.dtype_policy,
            )
            self.steps[layer].learned_states = learned
        step = self.steps[layer]
        if step.holds_output != holds:
            raise NotPerStep("is called with a mask and without", "Use two layers, or one way")
        names = ["output"] * holds + state_names(layer.cell)
        before = self.state_inputs(layer.name, names, step.starts(1), step, given)
        marks = {n: x for n, x in {"mask": mask, "reset": reset}.items() if x is not None}
        found = step(sequences, before, **marks)
        results = found[: len(found) - len(before)]
        self.hand_on(found[len(results) :])
        count = len(state_names(layer.cell))
        kinds = [1 if layer.return_sequences else SO_FAR]
        kinds += [SO_FAR] * count * layer.return_state + [1] * count * each
        for tensor, kind in zip(results, kinds, strict=True):
            self.mark(tensor, kind)
        return results

    def given_states(self, initial_state: Any) -> list[str]:
        """Return the names of the inputs that initial states are, or refuse them."""
        tensors = _tensors(initial_state)
        names = {id(tensor): name for name, tensor in self.inputs.items()}
        if any(id(x) not in names or self.axis(x) is not None for x in tensors):
            raise NotPerStep(
                "is given initial states that the model computes",
                "Let it take them as inputs, keras.Input((units,)), and compute them by a model of "
                "their own, such as the encoder, before the first step",
            )
        return [names[id(x)] for x in tensors]

    def windowed(self, layer: Any, sequences: Any) -> Any:
        """Call a causal convolution or pooling, which reads the inputs before too."""
        if not rules.known(layer, rules.WINDOWED):
            rules.require_per_step(layer, [sequences])
        rules.require_causal(layer, self.padded.get(id(sequences), 0))
        steps = rules.window_of(layer)
        if not steps:
            return self.results(layer(sequences), 1)
        if layer not in self.steps:
            self.steps[layer] = WindowStep(
                layer, steps=steps, name=layer.name, dtype=layer.dtype_policy
            )
            self.steps[layer].build(sequences.shape)
        step = self.steps[layer]
        before = self.state_inputs(layer.name, ["inputs"], step.starts(1), step)
        results, after = step(sequences, before)
        self.hand_on([after])
        return self.mark(results, 1)

    def inside(self, model: Any, args: Any) -> Any:
        """Call a model inside by a step model of its own, which a later call shares."""
        given = args[0]
        given = [given[x.name] for x in model.inputs] if isinstance(given, dict) else _tensors(args)
        masks = [mask_of(x) for x in given]
        if model not in self.steps:
            walk = Walk(model, **self.options)
            inputs = [_input_like(x) for x in given]
            masked = [x if x is None else _input_like(x) for x in masks]
            found = walk.through(
                model,
                [
                    walk.mark(x if m is None else WithMask()([x, m]), self.kinds[id(like)][1])
                    for x, m, like in zip(inputs, masked, given, strict=True)
                ],
            )
            states = list(walk.states.values())
            step = keras.Model(
                [*inputs, *_tensors(masked), *(before for before, _ in states)],
                [*found, *_tensors([mask_of(x) for x in found]), *(after for _, after in states)],
                name=model.name,
            )
            self.steps[model] = walk, step, found, masked
        walk, step, found, masked = self.steps[model]
        if [x is None for x in masks] != [x is None for x in masked]:
            raise NotPerStep("is called with a mask and without", "Use two models, or one way")
        before = self.state_inputs(
            model.name, list(walk.states), [before for before, _ in walk.states.values()], None
        )
        full = dict(zip(walk.states, (x.name for x in before), strict=True))
        self.calls += [(layer, [full[name] for name in names]) for layer, names in walk.calls]
        # A copy has no mask attached, for which the model inside would warn.
        given = [x if m is None else ops.copy(x) for x, m in zip(given, masks, strict=True)]
        results = step([*given, *_tensors(masks), *before])
        results = list(results) if isinstance(results, (list, tuple)) else [results]
        self.hand_on(results[len(results) - len(before) :], list(full.values()))
        new_masks = results[len(found) :]
        for index, like in enumerate(found):
            kind = walk.kinds[id(like)][1]
            if mask_of(like) is not None:
                mask = self.mark(new_masks.pop(0), kind)
                results[index] = WithMask()([results[index], mask])
            self.mark(results[index], kind)
        return results[: len(found)]

    def state_inputs(
        self, prefix: str, names: list[str], like: Any, layer: Any, given: Any = ()
    ) -> list[Any]:
        """Make an input for each state of a call of a layer; a given one is there."""
        prefix = plain(prefix)
        taken, base, count = {*self.states, *self.inputs}, prefix, 1
        while not taken.isdisjoint(f"{prefix}_{name}" for name in names):
            count += 1
            prefix = f"{base}_{count}"
        wanted = [f"{prefix}_{name}" for name in names]
        wanted[len(names) - len(given) :] = given
        found = []
        for name, state in zip(wanted, like, strict=True):
            if name in self.inputs:
                layer.given.append(name)
                found.append(self.inputs[name])
            else:
                shape = (self.batch_size, *state.shape[1:])
                dtype = keras.backend.standardize_dtype(state.dtype)
                found.append(keras.Input(batch_shape=shape, dtype=dtype, name=name))
            self.states[name] = found[-1], None
        if layer is not None:
            self.calls.append((layer, wanted))
        return found

    def hand_on(self, after: Any, names: Any = None) -> None:
        """Note what the states of the last call have become."""
        names = self.calls[-1][1] if names is None else names
        for name, state in zip(names, after, strict=True):
            self.states[name] = self.states[name][0], state


class _End(keras.layers.Layer):
    """Where all outputs of a graph end, so that it is met last."""

    def compute_mask(self, *_: Any) -> None:
        """Take masks in without a warning."""

    def call(self, outputs: Any) -> Any:
        """Return one of them."""
        return outputs[0]


def mask_of(tensor: Any) -> Any:
    """Return the mask that Keras has attached to a tensor; None where there is none."""
    return getattr(tensor, "_keras_mask", None)


def _input_like(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)


def _tensors(nested: Any) -> list[Any]:
    return [x for x in tree.flatten(nested) if isinstance(x, keras.KerasTensor)]


def require_graph(model: Any) -> None:
    """Refuse a model whose layers are called by code of its own."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a Keras model; received {type(model).__name__}. Put a layer into "
            "keras.Sequential([keras.Input((time, features)), layer]); load a file by "
            "keras.saving.load_model."
        )
    some = keras.Input((1,))
    functional = type(keras.Model(some, keras.layers.Identity()(some))).call
    if type(model).call not in (functional, keras.Sequential.call):
        raise ValueError(
            f"`model` must be Sequential or functional; {model.name!r} is a "
            f"{type(model).__name__}, with a `call` that only its code knows. Build the same "
            "layers by keras.Model(inputs, outputs), or take those inside that are functional."
        )
    if not (model.built and model.inputs):
        raise ValueError(
            f"`model` must be built; {model.name!r} is not. Call it once, or begin it with "
            "keras.Input((time, features))."
        )


def input_names(model: Any) -> list[str]:
    """Return a name for each input: its own, or `inputs` where Keras has numbered it."""
    found: list[str] = []
    for given in model.inputs:
        own = re.sub(r"^keras_tensor(_\d+)?$|^input_layer(_\d+)?$", "inputs", given.name)
        found.append(unique(plain(own), found))
    return found


def output_names(model: Any) -> list[str]:
    """Return a name for each output: that of the layer that it comes from, or its key in a dict."""
    if isinstance(model, keras.Sequential):
        names = [model.layers[-1].name]
    elif isinstance(model.output, dict):
        names = ["_".join(map(str, path)) for path, _ in tree.flatten_with_path(model.output)]
    else:
        names = list(model.output_names)
    found: list[str] = []
    for name in names:
        found.append(unique(plain(name), found))
    return found


def plain(name: str) -> str:
    """Return a name that every format of exported models leaves as it is."""
    return re.sub(r"\W", "_", name)


def unique(name: str, taken: list[str]) -> str:
    """Return the name, numbered where it is taken."""
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found


def state_names(cell: Any) -> list[str]:
    """Return a name for each state of a cell: the cell's own, numbered in a stack."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [
            f"{index}_{name}" for index, one in enumerate(cell.cells) for name in state_names(one)
        ]
    names = getattr(cell, "state_names", None) or getattr(equations_of(cell), "state_names", None)
    if names:
        return list(names)
    count = len(tree.flatten(cell.state_size))
    return ["state"] if count == 1 else [f"state_{index}" for index in range(count)]
