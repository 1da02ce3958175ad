"""Stream: the states of a step model from call to call, for people who do not export it."""

from __future__ import annotations  # short names of types in help and signatures

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_rnnkit.archives import unpacking
from keras_rnnkit.atomic import atomic_write
from keras_rnnkit.streaming.state_layers import given_states, start_states, state_layers
from keras_rnnkit.streaming.step_model import chunk_model, require_batch_size, step_model
from keras_rnnkit.streaming.walk import NEXT


class Stream:
    """Runs a model a time step at a time and keeps its states from call to call.

    It begins with what the model begins with: zeros, what a cell begins with, or the trained states
    of `learn_initial_state=True`. A new stream has them in `states`, for a step model in a file as
    well, which takes them as inputs.

    Args:
        model: A trained model, as `step_model` takes it, or a step model.
        batch_size: How many sequences run side by side, one a row.
        start: States to begin with, by name, for those whose start the model takes as an input.
        static: See `step_model`.
        stepwise: See `step_model`.

    Attributes:
        step: The step model.

    Raises:
        ValueError: As `step_model` does, or if a state, a name or a shape does not fit.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential([keras.Input((5, 3)), rk.GRU(4, name="gru")])
    >>> x = np.ones((1, 5, 3), "float32")
    >>> stream = rk.Stream(model)
    >>> for step in x.swapaxes(0, 1):
    ...     y = stream(step)
    >>> bool(np.allclose(y, model.predict(x, verbose=0), atol=1e-5))
    True
    >>> stream.states["gru_h"].shape
    (1, 4)
    """

    def __init__(
        self,
        model: keras.Model,
        batch_size: int = 1,
        *,
        start: Mapping[str, Any] | None = None,
        static: Sequence[str] = (),
        stepwise: Sequence[Any] = (),
    ) -> None:
        self._whole: Any = None
        self._chunk: Any = None
        if hasattr(model, "layers") and state_layers(model):
            self.step = model
        else:
            options: dict[str, Any] = {"static": static, "stepwise": stepwise}
            self.step = step_model(model, **options)
            self._whole = model, options
        require_batch_size(batch_size)
        given = given_states(self.step)
        start = dict(start or {})
        if missing := [name for name in given if name not in start]:
            raise ValueError(
                f"`start` must give the states {missing}, which the model takes as inputs; "
                f"received {list(start)}. Pass start={{{missing[0]!r}: ...}}, one row a sequence."
            )
        self._rows = batch_size
        self._states = start_states(self.step, batch_size)
        self._states = self._fitted(self._states | start)
        self._given = {name: self._states[name] for name in start}

    @property
    def states(self) -> dict[str, np.ndarray]:
        """The states by name, one row a sequence, (batch, ...)."""
        return {name: state.copy() for name, state in self._states.items()}

    @states.setter
    def states(self, states: Mapping[str, Any]) -> None:
        self._states = self._fitted(self._states | dict(states))

    def __call__(self, inputs: Any) -> Any:
        """Take one time step.

        Args:
            inputs: (batch, features), or (batch,) for numbers of words; a dict of such arrays by
                name where the model has several inputs.

        Returns:
            The model's output at this step, (batch, ...); a dict by name for several.
        """
        return self._run(self.step, inputs)

    def warm_up(self, history: Any) -> Any:
        """Take many time steps at once, by the fast path of the whole model.

        Args:
            history: (batch, time, features), as the model takes it; several as in a call.

        Returns:
            The model's output: (batch, time, ...), or (batch, ...) where it has one for all.

        Raises:
            ValueError: If the stream was made from a step model, which knows one step alone.
        """
        if self._whole is None:
            raise ValueError(
                "`warm_up` needs the whole model, and this stream was made from a step model. Make "
                "rk.Stream(model) of the model itself, or take the history step by step."
            )
        if self._chunk is None:
            model, options = self._whole
            self._chunk = chunk_model(model, **options)
        return self._run(self._chunk, history)

    def _run(self, model: Any, inputs: Any) -> Any:
        names = [x.name for x in model.inputs if x.name not in self._states]
        if isinstance(inputs, Mapping):
            feed = dict(inputs)
        elif len(names) == 1:
            feed = {names[0]: inputs}
        else:
            raise ValueError(
                f"`inputs` must be a dict with the inputs {names}; received "
                f"{type(inputs).__name__}."
            )
        if set(feed) != set(names):
            raise ValueError(f"`inputs` must give {names}; received {list(feed)}.")
        shapes = {x.name: tuple(x.shape) for x in model.inputs}
        for name, value in feed.items():
            feed[name] = value = _array(value)
            wanted = (self._rows, *shapes[name][1:])
            fits = len(wanted) == value.ndim and all(
                a is None or a == b for a, b in zip(wanted, value.shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"`inputs` {name!r} must have shape {wanted}; received {value.shape}. Give one "
                    "row for each sequence of the stream, "
                    + ("and one time step." if model is self.step else "and all time steps.")
                )
        found = model.predict_on_batch({**feed, **self._states})
        self._states = {name: np.asarray(found.pop(NEXT + name)) for name in self._states}
        return next(iter(found.values())) if len(found) == 1 else found

    def reset(self, samples: Any = None) -> None:
        """Put the states back to those before the first step, learned ones as they are now.

        Args:
            samples: Indices or booleans of those to put back; all when None.
        """
        start = start_states(self.step, self._rows) | self._given
        if samples is None:
            self._states = start
            return
        count = self._rows
        samples = np.asarray(samples)
        fits = (
            samples.shape == (count,)
            if samples.dtype == bool
            else samples.dtype.kind in "iu" and ((-count <= samples) & (samples < count)).all()
        )
        if samples.size and not fits:
            raise ValueError(
                f"`samples` must be indices below {count}, the sequences of the stream, or a "
                f"boolean for each of them; received {samples.tolist()!r}."
            )
        states = self.states
        for name, state in states.items():
            if samples.size:
                state[samples] = start[name][samples]
        self._states = states

    def save(self, path: str | PathLike[str]) -> None:
        """Write the states to a NumPy `.npz` file, whole or not at all."""
        with atomic_write(Path(path)) as file:
            plain: dict[str, Any] = {name: _plain(x) for name, x in self._states.items()}
            np.savez(file, **plain)

    def load(self, path: str | PathLike[str]) -> None:
        """Read the states that `save` wrote.

        Raises:
            ValueError: If the file holds other states, or other numbers of sequences or units.
        """
        path = Path(path)
        with path.open("rb") as raw, unpacking(path.name), np.load(raw) as file:
            states = dict(file)
        if missing := set(self._states) - set(states):
            raise ValueError(
                f"{path.name} holds the states {sorted(states)}, and not {sorted(missing)}. "
                "Load what `save` of a stream of the same model wrote."
            )
        self._states = self._fitted(states)

    def _fitted(self, states: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The states as arrays of the stream's shapes and dtypes, or what is wrong with them."""
        if unknown := set(states) - set(self._states):
            raise ValueError(
                f"`states` must name states of the model, {list(self._states)}; received "
                f"{sorted(unknown)}."
            )
        fitted = {}
        for name, before in self._states.items():
            value = _array(states[name])
            if value.shape not in {before.shape, (1, *before.shape[1:]), before.shape[1:]}:
                raise ValueError(
                    f"`states` {name!r} must have shape {before.shape}; received {value.shape}. "
                    "Give one row for each sequence of the stream."
                )
            fitted[name] = np.broadcast_to(value, before.shape).astype(before.dtype)
        return fitted


def _array(value: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(value) if ops.is_tensor(value) else value)


def _plain(state: np.ndarray) -> np.ndarray:
    """A dtype that a file of NumPy's can hold."""
    return state.astype("float32") if state.dtype.kind == "V" else state
