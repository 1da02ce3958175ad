"""step_model: a model of one time step, its states going in and coming out."""

from __future__ import annotations  # short names of types in help and signatures

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras

from keras_rnnkit.recurrent.arguments import flag
from keras_rnnkit.streaming.walk import Walk, require_graph


def step_model(
    model: keras.Model,
    *,
    copy: bool = False,
    batch_size: int | None = None,
    static: Sequence[str] = (),
    stepwise: Sequence[Any] = (),
) -> keras.Model:
    """Make a model that takes one time step and the states, and hands on the new states.

    Called once for each time step of a sequence, with the states that the call before handed on, it
    gives what `model` gives at that step, as far as rounding allows. An output that `model` has for
    the whole sequence only, such as that of a layer which returns its last step, is that of the
    sequence so far. A masked step leaves the states of recurrent layers as they were. It acts as
    in inference: nothing is dropped.

    What comes after the last step of a sequence, or from inputs that do not change with time, is
    computed anew at each step as `model` computes it, a decoder of many steps included. Several
    inputs with time axes go forward together, a step of each at each call.

    Args:
        model: A trained Sequential or functional model, or one loaded from a file, with layers of
            Keras or of this package. Its recurrent layers may be of any kind but those that begin
            at the end, and stateful ones begin anew; between them may stand what acts on each time
            step by itself, and causal convolutions and poolings.
        copy: Whether the step model has variables of its own, with the values that those of
            `model` have now. Else they are the same variables.
        batch_size: How many sequences run side by side; None leaves it open.
        static: Names of inputs that do not change with time, which go in whole at each step. Inputs
            (batch, features) of floats are so anyway; whole numbers (batch, time), such as those
            of words, are not.
        stepwise: Layers, or classes of layers, that act on each time step by itself, where that is
            not known of their kind. They are called on one time step, (batch, 1, features).

    Returns:
        A `keras.Model` that can be saved and exported. Its inputs are a dict: each input of
        `model` by name, (batch, features), or (batch,) for numbers of words; and each state,
        (batch, units). Its outputs are a dict too: each output of `model`, (batch, features), by
        the name of the layer that it comes from; and each state after the step, by its name after
        `next_`. A state is named after its layer and what the cell calls it, `lstm_h` and `lstm_c`;
        `lstm_2_h` at the layer's second call; `encoder_lstm_h` in a model inside; `rnn_0_h` for
        the first cell of a stack; `conv1d_inputs` for the inputs that a convolution still reads,
        (batch, steps, features), the oldest first; and `rnn_output` where a masked step shows the
        output before, and that is no state. An input of `model` that gives a layer's initial
        states is that layer's state; one that gives a `reset` (batch, time) goes in as (batch,).
        States have the dtype that their layer computes in. Those before the first step, learned
        ones too, are `rk.Stream(step).states`; `Stream` also keeps them.

    Raises:
        ValueError: If a layer or operation needs time steps that are to come, or is not known to
            act on each by itself; if the model is subclassed or not built, or has no input with a
            time axis; if `batch_size` is no positive whole number, `copy` no boolean, or
            `static` names no input.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> model = keras.Sequential(
    ...     [keras.Input((5, 3), name="x"), rk.GRU(4, name="gru"), keras.layers.Dense(1, name="y")]
    ... )
    >>> step = rk.step_model(model)
    >>> x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    >>> state = np.zeros((2, 4), "float32")
    >>> for t in range(5):
    ...     found = step.predict_on_batch({"x": x[:, t], "gru_h": state})
    ...     state = found["next_gru_h"]
    >>> bool(np.allclose(found["y"], model.predict(x, verbose=0), atol=1e-5))
    True
    """
    require_batch_size(batch_size)
    flag("copy", copy)
    require_graph(model)
    names = [given.name for given in model.inputs]
    if isinstance(static, str) or not set(static) <= set(names):
        raise ValueError(
            f"`static` must be a list of names of the model's inputs, {names}; received {static!r}."
        )
    found = Walk(
        model, whole=False, batch_size=batch_size, static=static, stepwise=stepwise
    ).model()
    if copy:
        weights = found.get_weights()
        found = keras.models.model_from_json(found.to_json())
        found.set_weights(weights)
    found(found.input)  # Keras exports to ONNX only what was called
    return found


def require_batch_size(batch_size: Any) -> None:
    """Refuse a number of sequences that is none; None stands for any."""
    whole = isinstance(batch_size, Integral) and not isinstance(batch_size, bool)
    if batch_size is not None and (not whole or batch_size < 1):
        raise ValueError(
            f"`batch_size` must be a whole number from 1 on; received {batch_size!r}. Give how "
            "many sequences run side by side."
        )


def chunk_model(model: keras.Model, *, static: Any, stepwise: Any) -> keras.Model:
    """Make the same of any number of time steps at once, each layer on its own fast path."""
    return Walk(model, whole=True, batch_size=None, static=static, stepwise=stepwise).model()
