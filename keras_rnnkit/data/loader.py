"""WindowLoader: the same windows as window_dataset as a keras.utils.PyDataset."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_rnnkit.data.batches import Batches, check_options, takes_options
from keras_rnnkit.data.epochs import BROKEN_OFF, SharedCounter
from keras_rnnkit.data.maps import check_file
from keras_rnnkit.data.permute import epoch_tables, permuted
from keras_rnnkit.data.spec import WindowSpec

__all__ = ["WindowLoader"]


class WindowLoader(keras.utils.PyDataset):
    """Windows over a series as a `keras.utils.PyDataset`, for every backend of Keras.

    It takes the options of `window_dataset` and gives the same batches, in the same order for the
    same seed, as NumPy arrays and without TensorFlow. Pass `shuffle=False` to `model.fit`, which
    otherwise shuffles the batches again. On TensorFlow `window_dataset` is faster: `fit` reads a
    `PyDataset` there through a Python generator.

    Args:
        series: a `TimeSeries` (or a part from `split`), array or DataFrame.
        spec: a `WindowSpec`.
        **options: as in `window_dataset`.

    Raises:
        ValueError: as `window_dataset`.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> loader = rk.WindowLoader(np.arange(10.0), rk.WindowSpec(lookback=4), batch_size=4)
        >>> inputs, targets = loader[0]
        >>> inputs.shape, targets.shape, len(loader)
        ((4, 4, 1), (4, 1, 1), 2)
    """

    @takes_options(Batches.__init__)
    def __init__(self, series: Any, spec: WindowSpec, **options: Any) -> None:
        # Keras's own read-ahead would hand batches of one epoch to the next, and a batch is made
        # in a tenth of a millisecond.
        super().__init__(workers=1)
        check_options(options)
        self._batches = Batches(series, spec, **options)
        self._tables = self._batches.tables()
        self._counter = SharedCounter()
        self._batches.count_with(self._counter, loader=True)
        # Batches given since `fit` began an epoch.
        self._given: int | None = None
        self._warned = False

    @property
    def epoch(self) -> int:
        """The current epoch, from 0.

        `fit` increases it after each epoch; in a loop of your own, set it. Worker processes of a
        `DataLoader` follow.
        """
        return self._counter.number

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._counter.number = number

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, without the tables, which are made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_tables"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tables = self._batches.tables()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        """Batch `index` of the current epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        check_file(self._batches.series.values)
        if self._given is not None:
            if index != self._given and not self.use_multiprocessing:
                self._tell_of_order()
            self._given += 1
        epoch = epoch_tables(self._batches.seed, self.epoch, self._batches.order.places)
        return self._batches.batch(index, epoch, self._tables, ArrayOps())

    def _tell_of_order(self) -> None:
        """Say that `fit` asks for the batches in an order of its own."""
        told = (
            "fit shuffles the batches of this loader, which come in the order that they are meant "
            "to have: pass shuffle=False to fit, and shuffle=True to WindowLoader for a new order "
            "of all windows in each epoch."
        )
        if self._batches.order.lanes:
            raise ValueError(f"stateful_batches=True needs the batches in order, and {told}")
        if not self._warned:
            warnings.warn(told, stacklevel=2)
        self._warned = True

    def on_epoch_begin(self) -> None:
        """Called when Keras begins to read an epoch, or looks at the first batch."""
        self._batches.check_share(loader=True)
        self._given = 0

    def on_epoch_end(self) -> None:
        """Go on to the permutation of the next epoch, if Keras has read this one.

        Keras also calls it after a look at the data, and if it has read nothing.
        """
        given, self._given = self._given, None
        if given is None:
            return
        # Processes that read ahead count for themselves.
        if given > min(len(self) - 1, BROKEN_OFF) or self.use_multiprocessing:
            self.epoch += 1


class ArrayOps:
    """The operations of `Batches.batch` on arrays."""

    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    where = staticmethod(np.where)
    finite = staticmethod(np.isfinite)
    permuted = staticmethod(permuted)

    def arange(self, start: int, stop: int) -> np.ndarray:
        return np.arange(start, stop, dtype=np.int64)

    def cast(self, values: np.ndarray, dtype: str) -> np.ndarray:
        return values.astype(dtype, copy=False)

    def cast_like(self, values: np.ndarray, other: np.ndarray) -> np.ndarray:
        return values.astype(other.dtype, copy=False)

    def take(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return values[rows]

    def take_columns(self, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return values[..., columns]

    def grid(self, start: np.ndarray, offsets: Sequence[int]) -> np.ndarray:
        return start[:, np.newaxis] + np.array(offsets)

    def slices(
        self, values: np.ndarray, start: np.ndarray, length: int, spacing: int
    ) -> np.ndarray:
        rows, columns = values.strides
        shape = (len(values) - (length - 1) * spacing, length, values.shape[1])
        # Overlapping slices as one array, of which indexing copies whole slices at a time.
        view = np.lib.stride_tricks.as_strided(
            values, shape, (rows, rows * spacing, columns), writeable=False
        )
        return np.asarray(view[start])

    def searchsorted(self, ends: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.searchsorted(ends, index, side="right")

    def mean(self, values: np.ndarray) -> np.ndarray:
        return values.mean(axis=1)

    def total(self, values: np.ndarray) -> np.ndarray:
        return values.sum(axis=1)

    def squeeze(self, values: np.ndarray) -> np.ndarray:
        return values.squeeze(tuple(axis for axis in (1, 2) if values.shape[axis] == 1))

    def fill(self, values: np.ndarray) -> np.ndarray:
        lost = ~np.isfinite(values)
        return np.concatenate([np.where(lost, 0, values), lost], axis=-1, dtype=values.dtype)
