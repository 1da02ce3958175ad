"""The states that stateful layers carry: read, set and reset for a whole model."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_rnnkit.recurrent.paths import recurrent_layers


def get_states(model: Any) -> dict[str, list[np.ndarray]]:
    """Return the states that a model's stateful layers carry.

    Args:
        model: A model, or a layer; Keras's own stateful layers count too.

    Returns:
        For each stateful layer, by name, one (batch, units) array a state, in the order of
        `return_state`; a stack of cells gives them flat.

    Raises:
        ValueError: If no layer is stateful, one is not built, or two have the same name.

    >>> import keras
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential(
    ...     [keras.Input((5, 3), batch_size=2), rk.LSTM(4, stateful=True, name="lstm")]
    ... )
    >>> [state.shape for state in rk.get_states(model)["lstm"]]
    [(2, 4), (2, 4)]
    """
    return {
        name: [as_array(variable) for variable in variables]
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


def reset_states(model: Any, rows: Any = None) -> None:
    """Put the states that a model's stateful layers carry back to the start.

    Args:
        model: A model, or a layer.
        rows: Indices or booleans of the samples whose sequence has ended; all when None.

    Raises:
        ValueError: If no layer is stateful, one is not built, or two have the same name.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential(
    ...     [keras.Input((5, 3), batch_size=2), rk.GRU(4, stateful=True, name="gru")]
    ... )
    >>> rk.set_states(model, {"gru": [np.ones(4)]})
    >>> rk.reset_states(model, rows=[0])
    >>> rk.get_states(model)["gru"][0].sum(axis=1)
    array([0., 4.], dtype=float32)
    """
    carried = [variable for variables in _carried(model).values() for variable in variables]
    for variable in carried:
        _chosen(variable, rows)  # all or none
    for variable in carried:
        zero_rows(variable, rows)


def as_array(variable: keras.Variable) -> np.ndarray:
    """Return a variable's value as an array of its own.

    By way of a tensor: what Keras does with its own variables NumPy 2 deprecates.
    """
    return np.array(ops.convert_to_numpy(ops.copy(variable)))


def zero_rows(variable: keras.Variable, rows: Any = None) -> None:
    """Set rows of a carried state to zero; all when None."""
    value = as_array(variable)
    value[_chosen(variable, rows)] = 0
    variable.assign(value)


def _chosen(variable: keras.Variable, rows: Any) -> Any:
    """Rows as an index of a carried state."""
    if rows is None:
        return slice(None)
    chosen, batch = np.asarray(rows), variable.shape[0]
    if not chosen.size:
        return slice(0)
    if chosen.dtype == bool:
        fits = chosen.shape == (batch,)
    else:
        fits = chosen.dtype.kind in "iu" and ((-batch <= chosen) & (chosen < batch)).all()
    if not fits:
        raise ValueError(
            f"`rows` must be indices below {batch}, the samples of the batch, or a boolean for "
            f"each of them; received {rows!r}."
        )
    return chosen


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
