"""window_dataset: windows over a series as a tf.data.Dataset. The one user of TensorFlow here."""

import inspect
import warnings
from typing import Any

import numpy as np

from keras_rnnkit.data.batches import Batches
from keras_rnnkit.data.permute import KEY_STREAM, ROUNDS, SHUFFLE, index_shuffle
from keras_rnnkit.data.spec import WindowSpec

__all__ = ["window_dataset"]

INT32_ROWS = 2**31


def window_dataset(series: Any, spec: WindowSpec, **options: Any) -> Any:
    """Windows over a series as a `tf.data.Dataset` of batches.

    Every epoch shows every window once (or as `balance` and `shard` say). With `shuffle=True` each
    epoch is a new permutation of all windows, the same for the same seed. Shapes are static but
    for the batch axis, which is too with `drop_remainder=True`; the cardinality is known; an
    iterator that is restored from a checkpoint continues exactly. Two batches are in the
    making while a model works on a third; `.prefetch(n)` keeps `n` more ready. Pass
    `shuffle=False` to `model.fit`, which else warns that it leaves the order to the dataset.

    Args:
        series: a `TimeSeries` (or a part from `split`), array or DataFrame.
        spec: a `WindowSpec`.
        **options: the ones that follow.
        batch_size: windows of a batch.
        shuffle: a new permutation of all windows each epoch.
        seed: of the permutations. Default: from Python's `random`, which
            `keras.utils.set_random_seed` seeds.
        drop_remainder: leave out a last batch that is not full.
        scaler: a fitted `Scaler`, applied to inputs and targets alike.
        missing: what becomes of windows with missing values: `"drop"` leaves them out, `"mask"`
            gives 0 for a missing input and, behind the columns (past, known, static), one more of
            each that is 1 where it was missing (a missing target still drops its window),
            `"error"` refuses them.
        weights: one weight for each row of `series.values`, or a function from times (what the
            clock shows, where the series has a zone) to them; the weight of a window is the mean
            weight of its target rows.
        balance: show each group equally often in an epoch of about as many windows: those of a
            smaller group come up several times, of those of a larger group an evenly spread part,
            another one in each epoch.
        stateful_batches: row `k` of a batch continues row `k` of the batch before, for stateful
            layers; reset their states between epochs. `stride` must be the lookback.
        shard: `(count, index)`: one of `count` equally long shares of each epoch, disjoint and
            together complete. Where `count` does not divide the windows, the first few places of
            the epoch come up twice, or with `drop_remainder` the last few not at all.
        squeeze: drop axes of length 1 from the targets.
        return_index: append, for each window, the label of its `group` (of a panel), its last
            `input_row` and its `target_rows`, as a dict; rows are counted in int64, and labels are
            numbers or text as in `series.groups`.
        dtype: in which the inputs are stored: `"float32"`, or `"bfloat16"` or `"float16"` in half
            the memory. Batches are float32 in any case.

    Returns:
        A dataset of `(inputs, targets)`, of `(inputs, targets, weights)` with weights, of `inputs`
        alone where the spec has `targets=()`. Inputs: float32 `(batch, length, features)`, or a
        dict of `"past"`, `"known"` `(batch, horizon, known)` and `"static"` `(batch, static)`
        where the spec names known or static columns. Targets: float32
        `(batch, horizon, targets)`. Weights: float32 `(batch, 1)`, which Keras spreads over the
        horizon.

    Raises:
        ValueError: no window exists (the longest segment is named), an unknown column, an option
            out of its range.

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

    batches = Batches.of(series, spec, options)
    ops = TensorOps(tf)
    with tf.device("CPU:0"):
        arrays = batches.tables()
        # Roles that share their rows share the tensor.
        distinct = {id(array): array for array in tf.nest.flatten(arrays)}
        made = {key: as_tensor(tf, array) for key, array in distinct.items()}
        tables = tf.nest.map_structure(lambda array: made[id(array)], arrays)
        keys = _epoch_keys(tf, batches.seed)
    count = len(batches)
    # One element of `keys` an epoch: each new iterator over them draws the next key.
    places = keys.flat_map(
        lambda key: tf.data.Dataset.range(count).map(lambda number: (number, key))
    )

    @tf.autograph.experimental.do_not_convert
    def batch(number: Any, key: Any) -> Any:
        element = batches.batch(number, key, tables, ops)
        if batches.order.drop_remainder:
            size = batches.batch_size
            element = tf.nest.map_structure(
                lambda x: tf.ensure_shape(x, [size, *x.shape[1:]]), element
            )
        return element

    dataset = (
        # Two batches at work and none in store: a third would take memory and no time off.
        places.map(batch, num_parallel_calls=2, deterministic=True).apply(
            tf.data.experimental.assert_cardinality(count)
        )
    )
    settings = tf.data.Options()
    # A checkpoint then holds the place in the epoch, not the batches in flight.
    settings.experimental_symbolic_checkpoint = True
    # The graph optimiser would copy the rows, and finds nothing to fuse in three stages.
    settings.experimental_optimization.apply_default_optimizations = False
    # Each worker of a distribution strategy would else cut the batches, which `shard` is for.
    settings.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(settings)


def _epoch_keys(tf: Any, seed: int) -> Any:
    """A dataset of one number, another one each time that it is iterated.

    `tf.data.Dataset.random` would mix in the global seed of TensorFlow; the order shall depend on
    the seed of the dataset alone.
    """
    variant = tf.raw_ops.RandomDatasetV2(
        seed=tf.constant(seed, tf.int64),
        seed2=tf.constant(KEY_STREAM, tf.int64),
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        output_types=[tf.int64],
        output_shapes=[tf.TensorShape([])],
        rerandomize_each_iteration=True,
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.int64)).take(1)


class TensorOps:
    """The operations of `Batches.batch` on tensors."""

    def __init__(self, tf: Any) -> None:
        self.tf = tf
        self.arange = tf.range
        self.minimum = tf.minimum
        self.cast = tf.cast
        self.where = tf.where

    def take(self, values: Any, rows: Any) -> Any:
        return self.tf.gather(values, rows)

    def take_columns(self, values: Any, columns: Any) -> Any:
        return self.tf.gather(values, columns, axis=-1)

    def cast_like(self, values: Any, other: Any) -> Any:
        return self.tf.cast(values, other.dtype)

    def grid(self, start: Any, length: int, spacing: int) -> Any:
        offsets = np.arange(0, length * spacing, spacing, dtype=start.dtype.as_numpy_dtype)
        return start[:, None] + offsets

    def slices(self, values: Any, start: Any, length: int, spacing: int) -> Any:
        # An index for each row of each window: half of it will do for all but very long series.
        if values.shape[0] < INT32_ROWS:
            start = self.tf.cast(start, self.tf.int32)
        # A fifth faster than gather, which looks at the axes of each slice.
        return self.tf.gather_nd(values, self.grid(start, length, spacing)[..., None])

    def searchsorted(self, ends: Any, index: Any) -> Any:
        return self.tf.searchsorted(ends, index, side="right", out_type=self.tf.int64)

    def shuffle(self, index: Any, key: Any, largest: int) -> Any:
        tf = self.tf
        if hasattr(tf.raw_ops, "RandomIndexShuffle"):
            seed = tf.stack([tf.constant(SHUFFLE, tf.int64), key, tf.constant(0, tf.int64)])
            return tf.raw_ops.RandomIndexShuffle(
                index=index, seed=seed, max_index=tf.constant(largest, tf.int64), rounds=ROUNDS
            )

        def shuffled(index: np.ndarray, key: np.ndarray) -> np.ndarray:
            return index_shuffle(index, int(key), largest)

        return tf.ensure_shape(tf.numpy_function(shuffled, [index, key], tf.int64), index.shape)

    def mean(self, values: Any) -> Any:
        return self.tf.reduce_mean(values, axis=1)

    def squeeze(self, values: Any) -> Any:
        axes = [axis for axis in (1, 2) if values.shape[axis] == 1]
        return self.tf.squeeze(values, axes) if axes else values

    def fill(self, values: Any) -> Any:
        lost = ~self.tf.math.is_finite(values)
        filled = self.tf.where(lost, self.tf.zeros_like(values), values)
        return self.tf.concat([filled, self.tf.cast(lost, values.dtype)], axis=-1)


def as_tensor(tf: Any, array: np.ndarray) -> Any:
    """The array as a tensor in host memory, without a copy where that is safe."""
    dtype = array.dtype
    if dtype.name == "bfloat16":
        return tf.bitcast(as_tensor(tf, array.view(np.uint16)), tf.bfloat16)
    if dtype.kind == "U":
        return tf.constant(array)
    mapped = isinstance(array, np.memmap)
    # TensorFlow ends the process on a buffer that does not lie on a 64-byte boundary.
    fits = array.flags.c_contiguous and array.ctypes.data % 64 == 0 and dtype.isnative
    if fits and array.size:
        return tf.experimental.dlpack.from_dlpack(_Writable(array).array.__dlpack__())
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

    Nothing writes to it: tensors are immutable. The exporting array keeps this object, and so the
    memory, alive.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.source = array
        self.__array_interface__ = {
            **array.__array_interface__,
            "data": (array.ctypes.data, False),
        }
        self.array = np.asarray(self)


def _signature() -> inspect.Signature:
    """The options are listed once, in `Batches`."""
    parameters = inspect.signature(Batches).parameters
    return inspect.Signature(list(parameters.values()))


window_dataset.__signature__ = _signature()  # type: ignore[attr-defined]
