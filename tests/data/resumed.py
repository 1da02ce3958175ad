"""A training that may be killed: `python resumed.py KIND FOLDER KILL`; test_window_epochs.py.

It leaves its weights in `FOLDER/weights.npz`. With KILL it ends itself in the middle of an epoch.
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import keras_rnnkit as rk


class Kill(keras.callbacks.Callback):
    """What `kill -9` does, in the fourth batch of the third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 3):
            os.kill(os.getpid(), signal.SIGKILL)


def main(kind, folder, kill):
    callbacks = [Kill()] if kill == "kill" else []
    keras.utils.set_random_seed(3)
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    make = rk.window_dataset if kind == "dataset" else rk.WindowLoader
    epoch = rk.data.FitEpoch()
    data = make(
        rows,
        rk.WindowSpec(6, targets=["1"]),
        batch_size=16,
        shuffle=True,
        seed=5,
        squeeze=True,
        epoch=epoch,
    )
    model = keras.Sequential([keras.Input((6, 2)), keras.layers.GRU(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    backup = keras.callbacks.BackupAndRestore(folder / "backup")
    model.fit(data, epochs=4, shuffle=False, verbose=0, callbacks=[backup, epoch, *callbacks])
    np.savez(folder / "weights.npz", *model.get_weights())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
