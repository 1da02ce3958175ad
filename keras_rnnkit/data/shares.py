"""Which share of an epoch this process takes: read off the engine that trains, and checked."""

import os
from typing import Any

import keras

from keras_rnnkit.data.order import Order

__all__ = ["check_share", "own_share"]


def own_share() -> tuple[int, int]:
    """`(count, index)`: how many processes share an epoch, and which of them this one is.

    On TensorFlow the cluster of the strategy in scope or of `TF_CONFIG`; on JAX the processes of
    `jax.distributed`, of which those that hold one replica of a `ModelParallel` count as one; on
    torch the ranks of `torch.distributed`. `(1, 0)` where one process trains alone.

    Raises:
        ValueError: the engine has not been started, or gives this process no fixed place.
    """
    read = {"tensorflow": _task, "jax": _process, "torch": _rank}.get(keras.backend.backend())
    return read() if read else (1, 0)


def check_share(order: Order, shared: bool, loader: bool) -> None:
    """Refuse batches that the engine would part a second time, not at all or unequally.

    Args:
        order: of the batches.
        shared: whether `shard` was given.
        loader: whether they come from a `WindowLoader`.

    Raises:
        ValueError: says what to pass.
    """
    if keras.backend.backend() == "tensorflow":
        _check_replicas(order)
    distribution = keras.distribution.distribution()
    if distribution is None or keras.backend.backend() != "jax":
        return
    import jax

    replicas = _replicas(distribution)
    count = min(replicas, jax.process_count())
    by_keras = count > 1 and distribution.auto_shard_dataset
    if by_keras and (shared or loader):
        raise ValueError(
            f"auto_shard_dataset=True: Keras would part among {count} processes what shard= has "
            "parted, and of a WindowLoader give them unequal numbers of batches. Set "
            "distribution.auto_shard_dataset = False and pass shard='auto'."
        )
    if count > 1 and not by_keras and not shared:
        raise ValueError(
            f"shard=None: each of {count} processes would show every window. Pass shard='auto', or "
            "shard=(1, 0) if that is meant."
        )
    # A batch is parted among these devices; what Keras parts must fill its processes besides.
    devices = replicas if by_keras else replicas // count
    last = order.batch_sizes[-1]
    for size in order.batch_sizes:
        if size % devices or (by_keras and size < order.batch_size):
            advice = "a batch_size= that is a multiple of them"
            if size == last < order.batch_size:
                advice = f"drop_remainder=True, or {advice} and leaves no part of a batch"
            raise ValueError(
                f"a batch of {size} windows cannot be parted equally among {devices} devices"
                f"{f' of {count} processes' * by_keras}. Pass {advice}."
            )


def _check_replicas(order: Order) -> None:
    """Refuse stateful batches whose rows would change the replica that holds their state."""
    import tensorflow as tf

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if order.lanes and order.batch_size % replicas:
        raise ValueError(
            f"stateful_batches=True: batch_size={order.batch_size} rows cannot be parted equally "
            f"among {replicas} replicas, each of which keeps the states of its own. Pass a "
            "batch_size= that is a multiple of them."
        )


def _task() -> tuple[int, int]:
    import tensorflow as tf

    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        cluster = resolver.cluster_spec()
        kind, index = resolver.task_type, resolver.task_id
    except (AttributeError, TypeError, ValueError) as error:
        raise _no_place(f"cannot be read ({error})") from error
    if "ps" in cluster.jobs:
        raise ValueError(
            "shard='auto': the workers of a ParameterServerStrategy have no fixed place. Pass "
            "shard=(context.num_input_pipelines, context.input_pipeline_id) of the InputContext "
            "that distribute_datasets_from_function hands over."
        )
    tasks = [
        (job, number)
        for job in ("chief", "worker")
        if job in cluster.jobs
        for number in cluster.task_indices(job)
    ]
    if (kind, index) in tasks:
        return len(tasks), tasks.index((kind, index))
    if kind in (None, "chief", "worker") and tasks:
        raise _no_place(f"names {len(tasks)} tasks, and task {index} of type {kind!r} is none")
    return 1, 0  # alone, or one that evaluates


def _no_place(what: str) -> ValueError:
    return ValueError(
        f"shard='auto': the cluster of TF_CONFIG={os.environ.get('TF_CONFIG')!r} or of the "
        f"strategy in scope {what}. Expected are a cluster and the place of this process in it: "
        '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}.'
    )


def _process() -> tuple[int, int]:
    import jax

    count, index = jax.process_count(), jax.process_index()
    if count == 1:
        _refuse_started(
            "KERAS_DISTRIBUTION_NUM_PROCESSES", "JAX", "keras.distribution.initialize()"
        )
    distribution = keras.distribution.distribution()
    if distribution is not None and _replicas(distribution) < count:
        replicas = _replicas(distribution)
        return replicas, index * replicas // count
    return count, index


def _rank() -> tuple[int, int]:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size(), distributed.get_rank()
    _refuse_started("WORLD_SIZE", "torch.distributed", "torch.distributed.init_process_group()")
    return 1, 0


def _refuse_started(variable: str, engine: str, call: str) -> None:
    """Refuse a process that was started as one of several, before they know of each other."""
    started = os.environ.get(variable, "1")
    if started != "1":
        raise ValueError(
            f"shard='auto': {variable}={started}, and {engine} has not been initialized. "
            f"Call {call} first."
        )


def _replicas(distribution: Any) -> int:
    """Parts of a batch under a distribution of Keras."""
    mesh = distribution.device_mesh
    return int(mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)])
