"""TensorFlow, one process, several devices: MirroredStrategy and fit.

python mirrored.py ETTh1.csv
"""

import sys

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)

import keras
import tensorflow as tf

import keras_rnnkit as rk

if not tf.config.list_physical_devices("GPU"):  # two devices, to try it without any
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy([d.name for d in tf.config.list_logical_devices()])
keras.utils.set_random_seed(1)

train, val, test = rk.split(rk.read_csv(sys.argv[1]), train=0.7, val=0.15)
epoch = rk.data.FitEpoch()
dataset = rk.window_dataset(
    train,
    rk.WindowSpec(lookback=24, targets=["OT"]),
    batch_size=64,  # of all devices together
    shuffle=True,
    seed=1,
    epoch=epoch,
    scaler=rk.Scaler().fit(train),
    drop_remainder=True,  # a part for each device, all of one size
    squeeze=True,
)
with strategy.scope():
    inputs = keras.Input((24, len(train.names)))
    model = keras.Model(inputs, keras.layers.Dense(1)(rk.GRU(8)(inputs)))
    model.compile("adam", "mse")
callbacks = [keras.callbacks.BackupAndRestore("backup"), epoch]
model.fit(dataset, epochs=3, shuffle=False, verbose=2, callbacks=callbacks)
model.save("model.keras")
