"""JAX, one or several processes: keras.distribution.DataParallel and fit.

KERAS_DISTRIBUTION_JOB_ADDRESSES=127.0.0.1:4001 KERAS_DISTRIBUTION_NUM_PROCESSES=2 \
    KERAS_DISTRIBUTION_PROCESS_ID=0 python data_parallel.py ETTh1.csv
and the same with PROCESS_ID=1. Without these variables one process trains alone.
"""

import os
import sys
from pathlib import Path

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

import keras_rnnkit as rk

if "KERAS_DISTRIBUTION_JOB_ADDRESSES" in os.environ:
    keras.distribution.initialize()  # before anything else of JAX
distribution = keras.distribution.DataParallel(auto_shard_dataset=False)  # shard= parts them
keras.distribution.set_distribution(distribution)
keras.utils.set_random_seed(1)

train, val, test = rk.split(rk.read_csv(sys.argv[1]), train=0.7, val=0.15)
epoch = rk.data.FitEpoch()
loader = rk.WindowLoader(
    train,
    rk.WindowSpec(lookback=24, targets=["OT"]),
    batch_size=64 // jax.process_count(),  # of this process
    shuffle=True,
    seed=1,
    epoch=epoch,
    shard="auto",
    scaler=rk.Scaler().fit(train),
    drop_remainder=True,
    squeeze=True,
)
inputs = keras.Input((24, len(train.names)))
model = keras.Model(inputs, keras.layers.Dense(1)(rk.GRU(8)(inputs)))
model.compile("adam", "mse")
folder = f"backup-{jax.process_index()}"
here = multihost_utils.process_allgather(np.array(Path(folder).exists()))
if here.any() and not here.all():
    sys.exit(f"these processes have a backup: {np.flatnonzero(here)}. Give all that of one of them")
backup = keras.callbacks.BackupAndRestore(folder)


def meet(epoch, logs):
    """Wait for the others, before and after the backup; fails if they are in another epoch."""
    multihost_utils.sync_global_devices(f"epoch {epoch + 1}")


together = keras.callbacks.LambdaCallback(on_epoch_begin=meet, on_epoch_end=meet)
callbacks = [together, backup, together, epoch]
model.fit(loader, epochs=3, shuffle=False, verbose=2, callbacks=callbacks)
model.save(f"model-{jax.process_index()}.keras")  # by all: Keras talks to the others as it saves
