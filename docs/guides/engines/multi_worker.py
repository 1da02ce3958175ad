"""TensorFlow, several processes: MultiWorkerMirroredStrategy and a loop with strategy.run.

TF_CONFIG='{"cluster": {"worker": ["127.0.0.1:4001", "127.0.0.1:4002"]},
    "task": {"type": "worker", "index": 0}}' python multi_worker.py ETTh1.csv
and the same with "index": 1. Without TF_CONFIG one process trains alone.
"""

import sys

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)

import keras
import tensorflow as tf

import keras_rnnkit as rk

strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before anything else of TensorFlow
worker = strategy.cluster_resolver.task_id or 0
keras.utils.set_random_seed(1)

BATCH = 64  # of all workers together
train, val, test = rk.split(rk.read_csv(sys.argv[1]), train=0.7, val=0.15)
epoch = rk.data.FitEpoch()
dataset = rk.window_dataset(
    train,
    rk.WindowSpec(lookback=24, targets=["OT"]),
    batch_size=BATCH,
    shuffle=True,
    seed=1,
    epoch=epoch,
    scaler=rk.Scaler().fit(train),
    drop_remainder=True,
    squeeze=True,
)
shares = strategy.experimental_distribute_dataset(dataset)  # parts each batch among the workers
with strategy.scope():
    inputs = keras.Input((24, len(train.names)))
    model = keras.Model(inputs, keras.layers.Dense(1)(rk.GRU(8)(inputs)))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    done = tf.Variable(0)


def step(x, y):
    with tf.GradientTape() as tape:
        errors = tf.square(model(x, training=True)[:, 0] - y)
        loss = tf.reduce_sum(errors) / BATCH
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@tf.function
def distributed(x, y):
    return strategy.reduce("SUM", strategy.run(step, args=(x, y)), axis=None)


checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, done=done)
manager = tf.train.CheckpointManager(checkpoint, f"backup-{worker}", max_to_keep=1)
manager.restore_or_initialize()
epochs = strategy.gather(strategy.run(lambda: done[tf.newaxis]), axis=0).numpy()
if len(set(epochs)) > 1:
    sys.exit(f"the workers have done {epochs} epochs: give all the backup of one of them")
for number in range(int(done.numpy()), 3):
    epoch.on_epoch_begin(number)  # what fit would tell it
    losses = [float(distributed(x, y)) for x, y in shares]
    print(f"epoch {number + 1}: loss {sum(losses) / len(losses):.4f}")
    done.assign(number + 1)
    manager.save()
if worker == 0:
    model.save("model.keras")
tf.io.gfile.rmtree(f"backup-{worker}")
