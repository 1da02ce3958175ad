"""Which epoch a dataset or loader is in, for the order of its windows."""

from typing import Any

import keras

__all__ = ["BROKEN_OFF", "EpochCounter", "FitEpoch"]

# A pass that was broken off before so many batches was a look at the data, as Keras takes before it
# trains, and no epoch. What reads ahead of a look reads fewer.
BROKEN_OFF = 16


class EpochCounter:
    """What holds the number of the current epoch.

    Attributes:
        number: from 0.
    """

    number: int = 0


class FitEpoch(keras.callbacks.Callback):
    """A callback that makes datasets and loaders follow the epochs of `fit`.

    Pass it to `window_dataset` or `WindowLoader` as `epoch=`, and to `fit` as a callback. The order
    of an epoch then depends on the shuffle seed and on the number of the epoch in `fit`: it is the
    same after an interruption, with `initial_epoch=`, and under every strategy. One callback may
    serve several datasets.

    Attributes:
        number: the current epoch of `fit`, from 0.

    Example:
        If it is killed and started again, this training ends with the weights of an uninterrupted
        one:

        >>> import keras
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> epoch = rk.FitEpoch()
        >>> loader = rk.WindowLoader(
        ...     np.arange(50.0), rk.WindowSpec(4), batch_size=8, shuffle=True, seed=1, epoch=epoch
        ... )
        >>> model = keras.Sequential([keras.Input((4, 1)), keras.layers.GRU(2)])
        >>> model.compile("adam", "mse")
        >>> callbacks = [keras.callbacks.BackupAndRestore("backup"), epoch]
        >>> history = model.fit(loader, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
        >>> epoch.number
        2
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self._counters: list[EpochCounter] = []

    def tell(self, counter: EpochCounter) -> None:
        """Set the counter at the beginning of each epoch from now on."""
        self._counters.append(counter)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Take the number of the epoch that `fit` begins."""
        self.number = epoch
        for counter in self._counters:
            counter.number = epoch
