"""The states that stateful layers carry: read, set and reset for a whole model."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.recurrent import kernels
from keras_rnnkit.recurrent.paths import recurrent_layers


def get_states(model: Any) -> dict[str, list[np.ndarray]]:
    """Return the states that a model's stateful layers carry.

    Args:
        model: A model, or a layer; Keras's own stateful layers count too.

    Returns:
        For each stateful layer, by name, one (batch, units) array a state, in the order of
        `return_state`; a stack of cells gives them flat. In code that is being compiled, tensors.

    Raises:
        ValueError: If no layer is stateful, one is not built, two have the same name, or the states
            are on several replicas of a strategy.

    >>> import keras
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential(
    ...     [keras.Input((5, 3), batch_size=2), rk.LSTM(4, stateful=True, name="lstm")]
    ... )
    >>> [state.shape for state in rk.get_states(model)["lstm"]]
    [(2, 4), (2, 4)]
    """
    return {
        name: [value_of(variable) for variable in variables]
        for name, variables in _carried(model).items()
    }


def set_states(model: Any, states: dict[str, Any]) -> None:
    """Set the states that a model's stateful layers carry.

    Args:
        model: A model, or a layer.
        states: As `get_states` returns them; layers left out keep theirs. A single row, (1, units)
            or (units,), stands for every sample.

    Raises:
        ValueError: If a name, a number of states or a shape does not fit.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential(
    ...     [keras.Input((5, 3), batch_size=2), rk.GRU(4, stateful=True, name="gru")]
    ... )
    >>> rk.set_states(model, {"gru": [np.ones(4)]})
    >>> rk.get_states(model)["gru"][0][1]
    array([1., 1., 1., 1.], dtype=float32)
    """
    carried = _carried(model)
    if not isinstance(states, dict):
        raise ValueError(
            f"`states` must be a dict, layer name -> arrays, as `get_states` returns it; received "
            f"{type(states).__name__}."
        )
    fitted = []
    for name, values in states.items():
        if name not in carried:
            raise ValueError(
                f"`states` must name stateful layers of the model, {sorted(carried)}; received "
                f"{name!r}. Take the names from `get_states`."
            )
        if len(values) != len(carried[name]):
            raise ValueError(
                f"`states` of {name!r} must hold {len(carried[name])} arrays; received "
                f"{len(values)}. Give one a state, in the order of `get_states`."
            )
        for variable, value in zip(carried[name], values, strict=True):
            shape, found = tuple(variable.shape), np.shape(value)
            if found not in {shape, (1, *shape[1:]), shape[1:]}:
                raise ValueError(
                    f"`states` of {name!r} must have shape {shape}, or one row {shape[1:]}; "
                    f"received {found}. Give one row a sample of the batch."
                )
            fitted.append((variable, np.broadcast_to(np.asarray(value), shape)))
    for variable, value in fitted:
        variable.assign(value)


def reset_states(model: Any, samples: Any = None) -> None:
    """Put the states that a model's stateful layers carry back to what their cells begin with.

    In a `call` or a `train_step` that is compiled too.

    Args:
        model: A model, or a layer.
        samples: Indices or booleans of the samples whose sequence has ended, tensors too; all when
            None.

    Raises:
        ValueError: If `samples` does not fit the batch, if no layer is stateful, one is not built,
            or two have the same name.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential(
    ...     [keras.Input((5, 3), batch_size=2), rk.GRU(4, stateful=True, name="gru")]
    ... )
    >>> rk.set_states(model, {"gru": [np.ones(4)]})
    >>> rk.reset_states(model, samples=[0])
    >>> rk.get_states(model)["gru"][0].sum(axis=1)
    array([0., 4.], dtype=float32)
    """
    layers = [layer for layer in recurrent_layers(model) if layer.stateful]
    for variables in _carried(model).values():
        if samples is not None:
            _chosen(samples, variables[0].shape[0])  # all or none
    for layer in layers:
        put_back(layer, samples)


def value_of(variable: keras.Variable) -> Any:
    """Return a variable's value: a copy as an array, or a tensor in code that is being compiled.

    The copy is made of a tensor, since NumPy 2 deprecates how Keras converts its variables.

    Raises:
        ValueError: If each replica of a strategy has its own.
    """
    replicas = getattr(variable.value, "values", ())  # as tf.distribute.DistributedValues has them
    if isinstance(replicas, tuple) and len(replicas) > 1:
        raise ValueError(
            f"{variable.path!r} is on {len(replicas)} replicas, each of which carries the states "
            "of its own samples: no array and no file holds them all. Pass save_states=False, or "
            "use one replica."
        )
    value = ops.copy(variable)
    is_known = kernels.current().is_known(value)
    return np.array(ops.convert_to_numpy(value)) if is_known else value


def put_back(layer: Any, samples: Any = None) -> None:
    """Set the carried states of a layer to the cell's initial ones, for some samples or for all.

    Args:
        layer: A recurrent layer, Keras's own or one of these.
        samples: Indices or booleans of the samples; all when None.
    """
    carried = tree.flatten(layer.states or [])
    if not carried:
        return
    chosen = None if samples is None else _chosen(samples, carried[0].shape[0])
    starts = tree.flatten(layer.get_initial_state(carried[0].shape[0]))
    for variable, start in zip(carried, starts, strict=True):
        start = ops.cast(start, variable.dtype)
        if chosen is not None:
            of_sample = ops.reshape(chosen, (-1, *[1] * (len(variable.shape) - 1)))
            start = ops.where(of_sample, start, ops.convert_to_tensor(variable))
        variable.assign(start)


def _chosen(samples: Any, batch: int) -> Any:
    """Return indices or booleans as one boolean for each sample."""
    if ops.is_tensor(samples) and not kernels.current().is_known(samples):
        if keras.backend.standardize_dtype(samples.dtype) == "bool":
            fits = tuple(samples.shape) == (batch,)
        else:
            fits = len(samples.shape) == 1
            samples = ops.any(ops.expand_dims(samples, 1) % batch == ops.arange(batch), axis=0)
    else:
        given = np.asarray(ops.convert_to_numpy(samples) if ops.is_tensor(samples) else samples)
        if given.dtype == bool:
            fits = given.shape == (batch,)
        else:
            whole = not given.size or given.dtype.kind in "iu"
            fits = whole and bool(((-batch <= given) & (given < batch)).all())
        if fits and given.dtype != bool:
            given = np.isin(np.arange(batch), given % batch)
        samples = given
    if not fits:
        raise ValueError(
            f"`samples` must be indices below {batch}, the samples of the batch, or a boolean for "
            f"each of them; received {samples!r}."
        )
    return ops.convert_to_tensor(samples, "bool")


def _carried(model: Any) -> dict[str, list[keras.Variable]]:
    carried: dict[str, list[keras.Variable]] = {}
    for layer in recurrent_layers(model):
        if not layer.stateful:
            continue
        if layer.states is None:
            raise ValueError(
                f"`model` holds the stateful layer {layer.name!r}, which has no states before it "
                "is built. Call the model once, or give it a keras.Input(..., batch_size=...)."
            )
        if layer.name in carried:
            raise ValueError(
                f"`model` holds two stateful layers named {layer.name!r}, so that a name does not "
                "say which. Name them apart."
            )
        carried[layer.name] = tree.flatten(layer.states)
    if not carried:
        raise ValueError(
            f"`model` must hold a stateful layer; {model.name!r} holds none. Pass stateful=True "
            "to the layers whose states are to be carried from batch to batch."
        )
    return carried
