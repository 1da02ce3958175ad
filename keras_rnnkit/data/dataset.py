"""window_dataset: windows over a series as a tf.data.Dataset; the only use of TensorFlow here."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from keras_rnnkit.data.batches import Batches, check_options, takes_options
from keras_rnnkit.data.epochs import BROKEN_OFF, EpochCounter
from keras_rnnkit.data.permute import (
    GOLDEN,
    MULTIPLIERS,
    ROUNDS,
    SORTED,
    WORD,
    WORDS,
    keyed_range,
    mixed,
)
from keras_rnnkit.data.spec import WindowSpec

__all__ = ["window_dataset"]

INT32_ELEMENTS = 2**31
MESSAGE_BYTES = 2**31  # more than one message of the tf.data service can hold

SHUFFLED = (
    "window_dataset(shuffle=True) cannot go through the tf.data service, whose workers know "
    "neither the epoch nor their share of it: pass shuffle=False and ShardingPolicy.DYNAMIC, or "
    "use shard= without the service"
)
TOO_LARGE = (
    "window_dataset holds {held:,} bytes, and the graph that the tf.data service sends, or that "
    "snapshot() writes, at most 2 GB: use shard= without the service"
)


@takes_options(Batches)
def window_dataset(series: Any, spec: WindowSpec, **options: Any) -> Any:  # noqa: D417  listed
    """Windows over a series as a `tf.data.Dataset` of batches.

    Every epoch gives every window once (unless `balance`, `sampling` or `shard` change that). With
    `shuffle=True` each epoch is a new permutation of all windows, the same for the same seed.
    Shapes are static but for the batch axis, which is static too with `drop_remainder=True`. The
    number of batches is known. An iterator restored from a checkpoint continues exactly. Two
    batches are made in advance; `.prefetch(n)` keeps `n` more ready. Pass `shuffle=False` to
    `model.fit`, since the windows are shuffled already; else it warns.

    Args:
        series: a `TimeSeries` (or a part from `split`), array or DataFrame.
        spec: a `WindowSpec`.
        batch_size: windows in a batch; 32 by default, as in `fit`.
        shuffle: a new permutation of all windows each epoch.
        seed: the shuffle seed. Default: from Python's `random`, which
            `keras.utils.set_random_seed` seeds.
        drop_remainder: leave out the last batch if it is not full.
        scaler: a fitted `Scaler`, applied to inputs and targets.
        missing: what becomes of windows that read a missing value (in a feature at an input row, in
            a target or known column at a target row). `"drop"` leaves them out. `"mask"` replaces a
            missing input by 0 and appends one more column for each (of past, known and static),
            1 where the value was missing; a missing target or category still drops the window.
            `"error"` raises.
        weights: a weight for each row of `series.values`, or a function from times (local time, if
            the series has a zone) to weights. The sample weight of a window is the mean over its
            target rows.
        balance: give each group equally often in an epoch of about the same number of windows:
            windows of a small group come several times, of a large group only some of them come,
            evenly spread and others in each epoch.
        sampling: a weight for each row, or a function, as for `weights`. An epoch has as many
            windows as before, each drawn in proportion to the mean weight of its target rows (of
            its last input row without targets; of the targets that must be known with
            `pad_targets`). Some come several times and some not at all, others in each epoch.
        stateful_batches: for stateful layers: sample `k` of a batch continues sample `k` of the
            batch before. Where one series ends, another begins, and the state must be reset:
            `return_index` marks such samples in `begins`. Sample weights are appended, 0 for
            `padding` samples, which have no window in the last batches. `stride` must be the
            lookback in whole steps, `length * step`.
        shard: `(count, index)`: one of `count` equally long parts of each epoch, disjoint and
            together complete. If `count` does not divide the number of windows, the first few
            windows of the epoch come twice, or with `drop_remainder` the last few not at all.
            `"auto"` reads both from the engine of Keras's backend: the cluster of TensorFlow's
            strategy or of `TF_CONFIG`, the processes of JAX, the ranks of `torch.distributed`. By
            default `experimental_distribute_dataset` parts each batch among a strategy's workers.
        squeeze: drop axes of length 1 from the targets; not with `pad_targets`, whose weights need
            the last one.
        return_index: append a dict with the label of the `group` (of a panel), the last
            `input_row` and the `target_rows` (-1 after the end of the segment) of each window, as
            int64 row numbers; labels are numbers or text as in `series.groups`. With
            `stateful_batches` also `begins` and `padding`, booleans.
        dtype: how the inputs are stored: `"float32"`, or `"bfloat16"` or `"float16"` in half the
            memory. Batches are always float32.
        epoch: number of the first epoch, to resume training: its order is the same in every
            process. An epoch ends when its last batch is asked for; a pass that stops within its
            first 16 batches does not count, and the next one has the same order. Or a `FitEpoch`,
            which takes the number from `fit`.

    Returns:
        A dataset of `(inputs, targets)`; of `(inputs, targets, weights)` with weights; of `inputs`
        alone if the spec has `targets=()`.

        Inputs: float32 `(batch, length, features)`; or a dict of `"past"`, `"known"`
        `(batch, horizon, known)` and `"static"` `(batch, static)` if the spec names known or static
        columns, of `"mask"` `(batch, length)`, boolean and true at real input rows, if it has
        `pad`, and of `"past_categories"`, `"known_categories"` and `"static_categories"`, int32 of
        the same shapes, if it names categories.

        Targets: float32 `(batch, horizon, targets)`. Weights: float32 `(batch, 1)`, which Keras
        broadcasts over the horizon; `(batch, horizon)`, 0 for unknown targets, with `pad_targets`.

    Raises:
        ValueError: no window exists (the error names the longest segment), an unknown column, an
            option out of its range; batches that the distribution in use would part a second
            time, not at all or unequally.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> spec = rk.WindowSpec(lookback=4, delay=1)
        >>> dataset = rk.window_dataset(np.arange(10.0), spec, batch_size=4)
        >>> inputs, targets = next(iter(dataset))
        >>> inputs[0, :, 0].numpy().tolist(), targets[0, 0, 0].numpy().tolist()
        ([0.0, 1.0, 2.0, 3.0], 4.0)
        >>> len(dataset)
        2
    """
    import tensorflow as tf

    check_options(options)
    batches = Batches(series, spec, **options)
    batches.check_share(loader=False)
    ops = TensorOps(tf)
    with tf.device("CPU:0"):
        arrays = batches.tables()
        # Roles that share their rows share the tensor.
        distinct = {id(array): array for array in tf.nest.flatten(arrays)}
        made = {key: as_tensor(tf, array) for key, array in distinct.items()}
        tables = tf.nest.map_structure(lambda array: made[id(array)], arrays)
    held = sum(array.nbytes for array in distinct.values())

    def source(count: int) -> Any:
        numbers = tf.data.Dataset.range(count)
        if held < MESSAGE_BYTES:
            return numbers
        return _not_served(tf, numbers, TOO_LARGE.format(held=held))

    @tf.autograph.experimental.do_not_convert
    def batch(number: Any, epoch: dict[str, Any]) -> Any:
        element = batches.batch(number, epoch, tables, ops)
        if batches.order.drop_remainder or batches.order.lanes:
            size = batches.batch_size
            element = tf.nest.map_structure(
                lambda x: tf.ensure_shape(x, [size, *x.shape[1:]]), element
            )
        return element

    @tf.autograph.experimental.do_not_convert
    def numbered(first: Any, stop: Any, epoch: dict[str, Any]) -> Any:
        return made_of(tf.data.Dataset.range(first, stop), epoch)

    def made_of(numbers: Any, epoch: dict[str, Any]) -> Any:
        # Two batches at work and none in store: a third would take memory and no time off.
        return numbers.map(
            lambda number: batch(number, epoch), num_parallel_calls=2, deterministic=True
        )

    count = len(batches)
    counter = TensorCounter(tf) if batches.order.shuffle else EpochCounter()
    batches.count_with(counter, loader=False)
    if isinstance(counter, TensorCounter):

        def tables_of(epoch: Any) -> dict[str, Any]:
            return _epoch_tables(tf, batches.seed, epoch, batches.order.places)

        spans = _spans(tf, source(1), counter, count, tables_of)
        dataset = spans.flat_map(numbered).apply(tf.data.experimental.assert_cardinality(count))
    else:
        dataset = made_of(source(count), {})
    settings = tf.data.Options()
    # The graph optimiser would copy the rows, and finds nothing to fuse in three stages.
    settings.experimental_optimization.apply_default_optimizations = False
    # The workers of a strategy take their parts of each batch, unless `shard` has parted the epoch.
    policy = tf.data.experimental.AutoShardPolicy
    settings.experimental_distribute.auto_shard_policy = (
        policy.OFF if batches.shared else policy.DATA
    )
    # An iterator's checkpoint holds the tables of its epoch, and needs no counter.
    settings.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return dataset.with_options(settings)


def _spans(
    tf: Any, source: Any, counter: "TensorCounter", count: int, tables_of: Callable[[Any], Any]
) -> Any:
    """The batches of one epoch in two spans `(first, stop)`, each with the tables of the epoch.

    The epoch is read from the counter when the first batch is asked for. It counts as finished when
    the second span is asked for: at the last batch, or after so many batches that it was not only a
    look at the data.
    """
    cut = min(count - 1, BROKEN_OFF)
    edges = tf.data.Dataset.from_tensor_slices(np.array([[0, cut, False], [cut, count, True]]))

    @tf.autograph.experimental.do_not_convert
    def under_way(_: Any) -> Any:
        with tf.control_dependencies([tf.debugging.Assert(counter.is_here(), [SHUFFLED])]):
            return counter.read()

    @tf.autograph.experimental.do_not_convert
    def of_epoch(epoch: Any) -> Any:
        tables = tables_of(epoch)

        @tf.autograph.experimental.do_not_convert
        def run(edge: Any) -> Any:
            over = tf.cond(edge[2] > 0, lambda: counter.write(epoch + 1), tf.no_op)
            with tf.control_dependencies([over]):
                return edge[0], edge[1], tf.nest.map_structure(tf.identity, tables)

        return edges.map(run)

    return source.map(under_way).flat_map(of_epoch)


def _not_served(tf: Any, dataset: Any, why: str) -> Any:
    """The same dataset, which the tf.data service refuses in these words, and does not abort."""
    with tf.device("CPU:0"):
        # The error for a resource that cannot be written down shows its name.
        handle = tf.raw_ops.MutexV2(shared_name=why)

    @tf.autograph.experimental.do_not_convert
    def unchanged(element: Any) -> Any:
        tf.identity(handle)
        return element

    return dataset.map(unchanged)


def _epoch_tables(tf: Any, seed: int, epoch: Any, count: int) -> dict[str, Any]:
    """What `permute.epoch_tables` computes, on tensors."""

    def long(number: Any) -> Any:
        return tf.constant(number, tf.uint64)

    def moved(state: Any, by: int) -> Any:
        return tf.bitwise.right_shift(state, long(by))

    def mixed_up(state: Any) -> Any:
        for by, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
            state = tf.bitwise.bitwise_xor(state, moved(state, by)) * long(multiplier)
        return tf.bitwise.bitwise_xor(state, moved(state, 31))

    turn = long(np.arange(WORDS // 2)) + tf.cast(epoch, tf.uint64) * long(WORDS // 2)
    numbers = mixed_up(long(mixed(np.array([seed], np.uint64))) + turn * long(GOLDEN))
    halves = tf.stack([tf.bitwise.bitwise_and(numbers, long(WORD)), moved(numbers, 32)], axis=1)
    tables = {"words": tf.cast(tf.reshape(halves, [WORDS]), tf.int64)}
    if count <= SORTED:
        index = tf.cast(tf.range(1, count + 1, dtype=tf.int64), tf.uint64)
        number = mixed_up(numbers[0] + index * long(GOLDEN))
        number = mixed_up(tf.bitwise.bitwise_xor(number, numbers[1]))
        order = tf.argsort(tf.cast(moved(number, 1), tf.int64), stable=True)
        tables["order"] = tf.ensure_shape(tf.cast(order, tf.int64), [count])
    return tables


class TensorCounter(EpochCounter):
    """The number of the current epoch, where the kernels of a dataset can read and write it.

    A `tf.Variable` would become one for each device under a distribution strategy.
    """

    def __init__(self, tf: Any) -> None:
        self.tf = tf
        with tf.device("CPU:0"):
            self.handle = tf.raw_ops.VarHandleOp(
                dtype=tf.int64, shape=[], shared_name=f"keras_rnnkit.epoch.{uuid4()}"
            )
            tf.raw_ops.AssignVariableOp(resource=self._mark(), value=tf.constant(0, tf.int64))

    @property
    def number(self) -> int:
        """The current epoch, from 0."""
        return int(self.read())

    @number.setter
    def number(self, number: int) -> None:
        with self.tf.device("CPU:0"):
            self.write(self.tf.constant(number, self.tf.int64))

    def read(self) -> Any:
        return self.tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.tf.int64)

    def write(self, number: Any) -> Any:
        return self.tf.raw_ops.AssignVariableOp(resource=self.handle, value=number)

    def is_here(self) -> Any:
        """Whether a kernel runs in the process that made the dataset.

        A worker of the tf.data service is handed a copy of the counter, but not the mark.
        """
        return self.tf.raw_ops.VarIsInitializedOp(resource=self._mark())

    def _mark(self) -> Any:
        return self.tf.raw_ops.VarHandleOp(
            dtype=self.tf.int64, shape=[], shared_name="keras_rnnkit.here"
        )


class TensorOps:
    """The operations of `Batches.batch` on tensors."""

    def __init__(self, tf: Any) -> None:
        self.tf = tf
        self.arange = tf.range
        self.minimum = tf.minimum
        self.maximum = tf.maximum
        self.where = tf.where
        self.finite = tf.math.is_finite
        self.cast = tf.cast

    def take(self, values: Any, rows: Any) -> Any:
        return self.tf.gather(values, rows)

    def take_columns(self, values: Any, columns: Any) -> Any:
        return self.tf.gather(values, columns, axis=-1)

    def cast_like(self, values: Any, other: Any) -> Any:
        return self.tf.cast(values, other.dtype)

    def grid(self, start: Any, offsets: Sequence[int]) -> Any:
        return start[:, None] + np.array(offsets, dtype=start.dtype.as_numpy_dtype)

    def slices(self, values: Any, start: Any, length: int, spacing: int) -> Any:
        # An index for each row of each window: half of it will do for all but very long series.
        # The kernel counts numbers, not rows.
        if values.shape.num_elements() < INT32_ELEMENTS:
            start = self.tf.cast(start, self.tf.int32)
        # A fifth faster than gather, which looks at the axes of each slice.
        rows = self.grid(start, range(0, length * spacing, spacing))
        return self.tf.gather_nd(values, rows[..., None])

    def searchsorted(self, ends: Any, index: Any) -> Any:
        return self.tf.searchsorted(ends, index, side="right", out_type=self.tf.int64)

    def permuted(self, place: Any, words: Any, count: int) -> Any:
        tf = self.tf
        largest = keyed_range(count)

        def shuffled(index: Any, keys: Any) -> Any:
            return tf.raw_ops.RandomIndexShuffle(
                index=index, seed=keys, max_index=tf.constant(largest, tf.int64), rounds=ROUNDS
            )

        for keys in (words[:3], words[3:]):
            place = shuffled(place, keys)
            if largest >= count:
                place = tf.where(place >= count, shuffled(place, keys), place)
        return place

    def mean(self, values: Any) -> Any:
        return self.tf.reduce_mean(values, axis=1)

    def total(self, values: Any) -> Any:
        return self.tf.reduce_sum(values, axis=1)

    def squeeze(self, values: Any) -> Any:
        axes = [axis for axis in (1, 2) if values.shape[axis] == 1]
        return self.tf.squeeze(values, axes) if axes else values

    def fill(self, values: Any) -> Any:
        lost = ~self.tf.math.is_finite(values)
        filled = self.tf.where(lost, self.tf.zeros_like(values), values)
        return self.tf.concat([filled, self.tf.cast(lost, values.dtype)], axis=-1)


def as_tensor(tf: Any, array: np.ndarray) -> Any:
    """The array as a tensor in host memory, without a copy if that is safe."""
    dtype = array.dtype
    if dtype.name == "bfloat16":
        return tf.bitcast(as_tensor(tf, array.view(np.uint16)), tf.bfloat16)
    if dtype.kind == "U":
        return tf.constant(array)
    mapped = isinstance(array, np.memmap)
    # TensorFlow ends the process on a buffer that does not lie on a 64-byte boundary.
    fits = array.flags.c_contiguous and array.ctypes.data % 64 == 0 and dtype.isnative
    if fits and array.size:
        return tf.experimental.dlpack.from_dlpack(np.asarray(_Writable(array)).__dlpack__())
    if mapped:
        warnings.warn(
            "the memory map is copied into memory: its rows do not begin on a 64-byte boundary, "
            "or are not in C order and native byte order. Save them with numpy.save, and open "
            "them with numpy.load(..., mmap_mode='r').",
            stacklevel=3,
        )
    return tf.constant(array)


class _Writable:
    """The memory of an array without its read-only mark, which DLPack cannot express.

    Nothing writes to it: tensors are immutable. An array made from this keeps it, and so the
    memory, alive. It must not refer to that array in turn: no garbage collector finds such a cycle.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.source = array
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (array.ctypes.data, False),
        }
