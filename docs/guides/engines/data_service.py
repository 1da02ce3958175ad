"""TensorFlow, windows from other processes: the tf.data service, for windows in their order.

python data_service.py ETTh1.csv
"""

import sys

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)

import keras
import tensorflow as tf

import keras_rnnkit as rk

service = tf.data.experimental.service
# On a cluster these run as processes of their own, and `target` is grpc://HOST:PORT.
dispatcher = service.DispatchServer()
address = dispatcher.target.removeprefix("grpc://")
config = service.WorkerConfig(address, dispatcher_timeout_ms=1000)
workers = [service.WorkerServer(config) for _ in range(2)]

keras.utils.set_random_seed(1)
train, val, test = rk.split(rk.read_csv(sys.argv[1]), train=0.7, val=0.15)
dataset = rk.window_dataset(
    val,
    rk.WindowSpec(lookback=24, targets=["OT"]),
    batch_size=64,
    scaler=rk.Scaler().fit(train),
    squeeze=True,
)
served = dataset.apply(
    service.distribute(service.ShardingPolicy.DYNAMIC, dispatcher.target)  # each batch once
)
# The batches that a worker takes along when it dies would be missing in silence.
served = served.apply(tf.data.experimental.assert_cardinality(len(dataset)))
inputs = keras.Input((24, len(train.names)))
model = keras.Model(inputs, keras.layers.Dense(1)(rk.GRU(8)(inputs)))
model.compile(loss="mse")
print(f"validation loss {model.evaluate(served, verbose=0):.4f}")
print(f"without the service {model.evaluate(dataset, verbose=0):.4f}")
