"""Which permutation each epoch of `fit` shows under TensorFlow's strategies; test_window_epochs.py.

A program of its own, since logical devices are set before TensorFlow starts.
"""

import keras
import numpy as np

import keras_rnnkit as rk
from tests.data.test_window_epochs import epochs_of


def main():
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for strategy in (
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        tf.distribute.OneDeviceStrategy("CPU:0"),
    ):
        for make in (rk.window_dataset, rk.WindowLoader):
            for first in (0, 2, rk.data.FitEpoch()):
                with strategy.scope():
                    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
                    expected = [2, 3, 4] if first else [0, 1, 2]
                    shown = epochs_of(make, model, first, expected[0] if first != 2 else 0)
                assert shown == expected, (strategy, make, first, shown)
    print("every strategy shows the same orders", np.__name__)


if __name__ == "__main__":
    main()
