"""A server of the tf.data service that is to be killed, with a client; see test_data_service.py.

`python served.py KIND TARGET PORT FOLDER` says "serving", and "reading" when its client has begun.
"""

import sys

import numpy as np
import tensorflow as tf

import keras_rnnkit as rk

WINDOWS, BATCH = 4000, 4
service = tf.data.experimental.service


def started(kind, target, port, folder):
    """A dispatcher or worker at this port of the loopback, in this process."""
    if kind == "dispatcher":
        return service.DispatchServer(
            service.DispatcherConfig(port, work_dir=str(folder), fault_tolerant_mode=True)
        )
    config = service.WorkerConfig(
        target.removeprefix("grpc://"),
        worker_address="localhost:%port%",
        port=port,
        heartbeat_interval_ms=500,
        dispatcher_timeout_ms=1000,
    )
    return service.WorkerServer(config)


def dataset_of(target):
    """Windows through the service, as the program of the guide reads them."""
    dataset = rk.window_dataset(np.arange(WINDOWS), rk.WindowSpec(1, targets=()), batch_size=BATCH)
    way = service.distribute(service.ShardingPolicy.DYNAMIC, target)
    return dataset.apply(way).apply(tf.data.experimental.assert_cardinality(len(dataset)))


def main(kind, target, port, folder):
    server = started(kind, target, int(port), folder)
    print("serving", flush=True)
    client = iter(dataset_of(target))
    next(client)
    print("reading", flush=True)
    sys.stdin.read()
    del client, server


if __name__ == "__main__":
    main(*sys.argv[1:])
