"""Order: the order of the windows in an epoch, for NumPy and TensorFlow."""

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from keras_rnnkit.data.spec import Windows

__all__ = ["Order", "by_weight"]


@dataclass(frozen=True)
class Order:
    """The places of an epoch, and the start of the window at each.

    The arithmetic is written once, on integers. `ops` has the operations that NumPy and TensorFlow
    name differently (see `dataset.py` and `loader.py`).

    Attributes:
        windows: the windows that exist.
        batch_size: windows of a batch.
        shuffle: a new permutation each epoch.
        shards: number of shards; this order serves one of them.
        shard: which one.
        drop_remainder: leave out the last batch if it is not full, and the places that would make
            the shards unequal.
        groups: `(groups, 2)` `[start, stop)` windows of each group, to give groups equally often;
            None to give every window once.
        lanes: whether sample `k` of a batch continues sample `k` of the batch before. The windows
            in their order are then divided into `batch_size` lanes of equal length.
        draws: `(windows,)` cumulative weights, to draw windows in proportion to them; see
            `by_weight`. None to give every window once.
    """

    windows: Windows
    batch_size: int
    shuffle: bool = False
    shards: int = 1
    shard: int = 0
    drop_remainder: bool = False
    groups: np.ndarray | None = None
    lanes: bool = False
    draws: np.ndarray | None = None

    @property
    def places(self) -> int:
        """Places for windows that all shards together have in an epoch."""
        if self.lanes:
            return -(-len(self.windows) // self.batch_size) * self.batch_size
        if self.groups is None:
            return len(self.windows)
        return -(-len(self.windows) // len(self.groups)) * len(self.groups)

    @property
    def size(self) -> int:
        """Places for windows that this shard has in an epoch."""
        share = self.places / self.shards
        return int(share) if self.drop_remainder else -int(-share // 1)

    def __len__(self) -> int:
        """Batches of an epoch."""
        if self.drop_remainder:
            return self.size // self.batch_size
        return -(-self.size // self.batch_size)

    @property
    def batch_sizes(self) -> list[int]:
        """The sizes that batches have: a full one, and the last where it is another."""
        if self.drop_remainder or self.lanes:
            return [self.batch_size]
        last = self.size - (len(self) - 1) * self.batch_size
        return [last] if len(self) == 1 else sorted({self.batch_size, last}, reverse=True)

    def tables(self) -> dict[str, np.ndarray]:
        """The arrays that `starts` uses."""
        tables = {
            "first": self.windows.first,
            "ends": self.windows.ends,
            "before": np.concatenate(([0], self.windows.ends[:-1])).astype(np.int64),
        }
        if self.draws is not None:
            tables["draws"] = self.draws
        if self.groups is not None:
            sizes = self.groups[:, 1] - self.groups[:, 0]
            tables["group_first"] = self.groups[:, 0]
            tables["group_size"] = sizes
            distinct, at = np.unique(sizes, return_inverse=True)
            tables["group_spread"] = np.array([_spread(int(size)) for size in distinct])[at]
        return tables

    def starts(self, batch: Any, epoch: dict[str, Any], tables: dict[str, Any], ops: Any) -> Any:
        """Start rows of the windows of one batch, int64.

        Args:
            batch: number of the batch in its epoch.
            epoch: what the order of the epoch depends on; see `permute.epoch_tables`.
            tables: what `tables` gives, as arrays of the same library as `ops`.
            ops: the operations.
        """
        if self.lanes:
            # The rows that no window is left for show the last one once more.
            place = self._lane_places(batch)
            return self._starts_at(ops.minimum(place, len(self.windows) - 1), tables, ops)
        low = batch * self.batch_size
        place = ops.arange(low, ops.minimum(low + self.batch_size, self.size))
        if self.shards > 1:
            # Shards that do not divide the windows begin again at the first places.
            place = (place * self.shards + self.shard) % self.places
        if self.shuffle:
            if "order" in epoch:
                place = ops.take(epoch["order"], place)
            else:
                place = ops.permuted(place, epoch["words"], self.places)
        if self.groups is not None:
            place = self._balanced(place, epoch, tables, ops)
        if self.draws is not None:
            # Evenly spaced over the weights, beginning elsewhere in each epoch.
            spacing = _spacing(len(self.windows))
            point = place * spacing + epoch["words"][0] % spacing
            place = ops.searchsorted(tables["draws"], point)
        return self._starts_at(place, tables, ops)

    def marks(self, batch: Any, tables: dict[str, Any], ops: Any) -> tuple[Any, Any]:
        """Whether each sample of a batch of lanes has a window, and whether to reset the state.

        It must be reset at the beginning of a series or segment, after a window that is left out,
        and in the first batch of an epoch: the state is that of other rows then.
        """
        place = self._lane_places(batch)
        real = place < len(self.windows)
        run = ops.searchsorted(tables["ends"], ops.minimum(place, len(self.windows) - 1))
        begins = (place == ops.take(tables["before"], run)) | (place * 0 + batch == 0)
        return real, begins & real

    @property
    def begins(self) -> int:
        """Number of windows in an epoch of lanes for which `marks` asks to reset the state."""
        lanes = np.arange(0, len(self.windows), len(self))
        return len(np.union1d(lanes, self.windows.ends - self.windows.counts))

    def _lane_places(self, batch: Any) -> Any:
        return np.arange(self.batch_size) * len(self) + batch

    def _starts_at(self, place: Any, tables: dict[str, Any], ops: Any) -> Any:
        """Start rows of the windows with these numbers."""
        if len(self.windows.first) == 1:
            return tables["first"][0] + place * self.windows.stride
        run = ops.searchsorted(tables["ends"], place)
        offset = place - ops.take(tables["before"], run)
        return ops.take(tables["first"], run) + offset * self.windows.stride

    def _balanced(self, place: Any, epoch: dict[str, Any], tables: dict[str, Any], ops: Any) -> Any:
        """Each group in turn; in a group, all windows before one comes again.

        A group goes through its windows in strides of about the golden section, so that the windows
        of an epoch are spread over the group, and are others in each epoch.
        """
        groups = len(self.groups)  # type: ignore[arg-type]
        group, turn = place % groups, place // groups
        size = ops.take(tables["group_size"], group)
        index = turn * ops.take(tables["group_spread"], group)
        if self.shuffle:
            index = index + epoch["words"][0]
        return ops.take(tables["group_first"], group) + index % size


def by_weight(weights: np.ndarray) -> np.ndarray:
    """The `draws` of an order whose windows come in proportion to these weights.

    In each epoch a window comes as often as its share of the places, rounded up or down.

    Args:
        weights: `(windows,)`, not negative, and not all 0.
    """
    whole = np.cumsum(weights, dtype=np.float64)
    return np.rint(whole / whole[-1] * (len(weights) * _spacing(len(weights)))).astype(np.int64)


def _spacing(windows: int) -> int:
    """The distance between places on the scale of `draws`, so that all of them fit 64 bits."""
    return 1 << min(32, 62 - windows.bit_length())


def _spread(size: int) -> int:
    """The number nearest to the golden section of `size` that shares no divisor with it."""
    section = round(size * 0.6180339887)
    return next(
        number
        for distance in range(size + 1)
        for number in (section - distance, section + distance)
        if number > 0 and gcd(number, size) == 1
    )
