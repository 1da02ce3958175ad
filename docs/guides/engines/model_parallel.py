"""JAX, one process, several devices: keras.distribution.ModelParallel and fit.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python model_parallel.py ETTh1.csv
"""

import os
import sys

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras

import keras_rnnkit as rk

if jax.device_count() % 2:
    sys.exit(f"{jax.device_count()} devices cannot be parted in twos: set XLA_FLAGS as above")
mesh = keras.distribution.DeviceMesh((jax.device_count() // 2, 2), ["batch", "model"])
layout = keras.distribution.LayoutMap(mesh)
layout["gru/.*kernel"] = (None, "model")  # (inputs or units, gates x units), recurrent_kernel too
layout["gru/.*bias"] = (None, "model")  # (2, gates x units); of LSTM and SimpleRNN ("model",)
layout["dense/kernel"] = ("model", None)
distribution = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
keras.distribution.set_distribution(distribution)
keras.utils.set_random_seed(1)

train, val, test = rk.split(rk.read_csv(sys.argv[1]), train=0.7, val=0.15)
epoch = rk.data.FitEpoch()
loader = rk.WindowLoader(
    train,
    rk.WindowSpec(lookback=24, targets=["OT"]),
    batch_size=64,
    shuffle=True,
    seed=1,
    epoch=epoch,
    scaler=rk.Scaler().fit(train),
    drop_remainder=True,
    squeeze=True,
)
inputs = keras.Input((24, len(train.names)))
model = keras.Model(inputs, keras.layers.Dense(1, name="dense")(rk.GRU(8, name="gru")(inputs)))
model.compile("adam", "mse")
print({weight.path: weight.value.sharding.spec for weight in model.weights})
callbacks = [keras.callbacks.BackupAndRestore("backup"), epoch]
model.fit(loader, epochs=3, shuffle=False, verbose=2, callbacks=callbacks)
model.save("model.keras")
