"""Which epoch a dataset or loader is in, for the order of its windows."""

import os
from collections.abc import Callable
from multiprocessing import RawValue
from multiprocessing.context import get_spawning_popen
from typing import Any

import keras

__all__ = ["BROKEN_OFF", "EpochCounter", "FitEpoch", "SharedCounter"]

# A pass that was broken off before so many batches was a look at the data, as Keras takes before it
# trains, and no epoch. What reads ahead of a look reads fewer.
BROKEN_OFF = 16


class EpochCounter:
    """What holds the number of the current epoch.

    Attributes:
        number: from 0.
    """

    number: int = 0


class SharedCounter(EpochCounter):
    """A counter that a data loader's worker processes read too, however long they live.

    A process that sets the number counts for itself from then on, as a copy of the counter does.
    """

    def __init__(self, number: int = 0) -> None:
        self._cell = RawValue("q", number)
        self._owner = os.getpid()

    @property
    def number(self) -> int:
        """The epoch under way, from 0."""
        return int(self._cell.value)

    @number.setter
    def number(self, number: int) -> None:
        if os.getpid() != self._owner:
            self._cell, self._owner = RawValue("q", number), os.getpid()
        self._cell.value = number

    def __getstate__(self) -> dict[str, Any]:
        """The shared number for a process that is being started, else the number as it stands."""
        return self.__dict__ if get_spawning_popen() else {"number": self.number}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "number" in state:
            self.__init__(state["number"])  # type: ignore[misc]
        else:
            self.__dict__.update(state)


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
        >>> epoch = rk.data.FitEpoch()
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
        self._told: list[tuple[EpochCounter, Callable[[], None]]] = []

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: a worker process has no use for the model."""
        return {"number": self.number}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.number = state["number"]

    def tell(self, counter: EpochCounter, check: Callable[[], None]) -> None:
        """Set the counter at the beginning of each epoch from now on; `check` before training."""
        self._told.append((counter, check))

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse batches that the engine would part a second time, not at all or unequally."""
        for _, check in self._told:
            check()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Take the number of the epoch that `fit` begins."""
        self.number = epoch
        for counter, _ in self._told:
            counter.number = epoch
