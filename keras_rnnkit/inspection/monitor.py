"""RecurrentMonitor: gradients and gates at the end of each epoch of training."""

import math
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_rnnkit.inspection import passes
from keras_rnnkit.inspection.gradient_flow import FlowGauge
from keras_rnnkit.inspection.trace import Trace, Tracer


class RecurrentMonitor(keras.callbacks.Callback):
    """Logs gates and gradients of recurrent layers, and stops training at the first NaN.

    At the end of each epoch, on the same samples, it adds to the logs for every recurrent layer,
    under the keys of `trace`:

    - `gru/z_low`, `gru/z_high`: the share of each gate's values below 0.1 and above 0.9 in
      magnitude;
    - `gru/half_life`: the number of steps back after which half of a gradient is left, inf if it
      never halves; `gru/factor`: the factor of each step; see `gradient_flow`. Only with `y`.

    `History` and the progress bar show them. A callback that reads logs, such as `CSVLogger`,
    `TensorBoard` or an `EarlyStopping` on one of these keys, must come after this one in the list.

    If the loss of a batch, or a state at the end of an epoch, is NaN or infinite, training stops
    with a `RuntimeWarning` that names the layer, the unit and the time step; `message` keeps it.
    Reading the loss of each batch keeps the backend from running ahead, as with Keras's
    `TerminateOnNaN`.

    Args:
        x: Inputs of a few samples, as the model takes them.
        y: Their targets, for the gradient of the compiled loss; without them, none is measured.
        batch_size: Samples in a batch.

    Attributes:
        message: Why training was stopped, or "".
        notes: By key, what could not be measured of a layer, and why, since the end of the first
            epoch: the gates of a cell of another kind, or a cell that the model steps by itself.

    Raises:
        ValueError: When training starts, if the model holds no recurrent layer.

    >>> import keras
    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> x, y = np.ones((8, 5, 3), "float32"), np.ones((8, 4), "float32")
    >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.GRU(4, name="gru")])
    >>> model.compile("sgd", "mse")
    >>> run = model.fit(x, y, callbacks=[rk.RecurrentMonitor(x[:2], y[:2])], verbose=0)
    >>> list(run.history)
    ['loss', 'gru/z_low', 'gru/z_high', 'gru/r_low', 'gru/r_high', 'gru/n_low', 'gru/n_high',
     'gru/half_life', 'gru/factor']
    """

    def __init__(self, x: Any, y: Any = None, *, batch_size: int = 32) -> None:
        super().__init__()
        self.message = ""
        self.notes: dict[str, str] = {}
        self._x, self._y, self._batch_size = x, y, batch_size
        self._tracer: Tracer | None = None
        self._gauge: FlowGauge | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Prepare for this model."""
        self.message, self.notes = "", {}
        self._tracer = self._gauge = None
        passes.require_rows(self.model, self._batch_size, x=self._x, y=self._y)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop training if the loss is not finite."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss) and not self.message:
            self._stop(f"the loss was {loss} in batch {batch}", self._trace())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add to the logs; stop training if a state is not finite."""
        logs = {} if logs is None else logs
        traced = self._trace()
        flow: Any = {}
        if self._y is not None:
            if self._gauge is None:
                self._gauge = FlowGauge(self.model, self._x, self._y, None, self._batch_size)
            flow = self._gauge(self._x, self._y, None, self._batch_size, False)
        for key, one in traced.items():
            for gate, (low, high) in one.summary.saturation.items():
                logs[f"{key}/{gate}_low"], logs[f"{key}/{gate}_high"] = float(low), float(high)
            if one.note:
                self.notes[key] = one.note
            if key in flow and flow[key].norms:
                logs[f"{key}/half_life"], logs[f"{key}/factor"] = (
                    flow[key].half_life,
                    flow[key].factor,
                )
        if not self.message and any(one.summary.not_finite for one in traced.values()):
            self._stop(f"a state was not finite after epoch {epoch + 1}", traced)

    def _trace(self) -> dict[str, Trace]:
        model = self.model
        if self._tracer is None:
            self._tracer = Tracer(model, self._x, self._batch_size)
        return self._tracer(self._x, None, self._batch_size, False)

    def _stop(self, occasion: str, traced: dict[str, Trace]) -> None:
        """Stop training, and say where the first NaN is in the samples."""
        bad = [(key, one.summary.not_finite) for key, one in traced.items()]
        where = next((f"{found} of {key!r}" for key, found in bad if found), None)
        if where is None:
            where = (
                "every state of the rows that are watched is finite, so look at the targets, the "
                "loss and the layers after the recurrent ones"
            )
        else:
            where = f"the first, in the order of the layers, is {where}"
        weights = self.model.trainable_variables
        spoilt = [
            weight.path
            for weight in weights
            if not np.isfinite(ops.convert_to_numpy(ops.copy(weight))).all()
        ]
        if spoilt:
            where += f"; {len(spoilt)} of {len(weights)} weights are not finite, {spoilt[0]} first"
        self.message = (
            f"RecurrentMonitor stopped the run: {occasion}; {where}. Try a smaller "
            "learning rate or clipnorm=1.0 in the optimizer, and look for NaN in the inputs."
        )
        self.model.stop_training = True
        warnings.warn(self.message, RuntimeWarning, stacklevel=3)
