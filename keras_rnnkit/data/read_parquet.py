"""read_parquet: a Parquet file to a TimeSeries; PyArrow and pandas read the columns."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_rnnkit.data.columns import check_whole
from keras_rnnkit.data.series import TimeSeries
from keras_rnnkit.data.store import kept
from keras_rnnkit.data.tables import CHUNK_ROWS, Chunk, Wanted, build_series, labels_of, table_file
from keras_rnnkit.progress import Progress

__all__ = ["read_parquet"]


def read_parquet(
    path: str | PathLike[str],
    *,
    time: str | None = None,
    group: str | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    time_format: str | None = None,
    na_values: float | Sequence[float] | Mapping[str, Any] | None = None,
    freq: Any = None,
    sort: bool = False,
    duplicates: str = "error",
    zone: str | tzinfo | None = None,
    store: str | PathLike[str] | None = None,
) -> TimeSeries:
    """Read a Parquet file into a `TimeSeries`; it needs PyArrow.

    The arguments mean what they mean in `read_csv`.

    Args:
        path: the file.
        time: name of the column of times: dates, text or integers. Default: the first column of
            dates, or the index that pandas wrote.
        group: name of the column that says to which series of a panel a row belongs, or of several.
        names: columns to read, in this order. Default: all but `time` and `group`.
        drop: columns to leave out.
        time_format: of text or numbers in `time`.
        na_values: numbers that stand for a missing value, or a mapping from column to its numbers.
        freq: step of time between rows; see `TimeSeries`.
        sort: sort the rows by time inside each group.
        duplicates: `"error"`, or keep the `"first"` or `"last"` row of each time and group.
        zone: name of the time zone of the times. Default: that of the column.
        store: path of a `.npy` file to write the rows to and to map.

    Returns:
        A `TimeSeries` of float64.

    Raises:
        ValueError: no rows, an unknown column, a column that holds no numbers, times unsorted or
            twice, or no Parquet file.
        FileNotFoundError: no such file.
        ImportError: PyArrow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> import pandas as pd
        >>> import keras_rnnkit as rk
        >>> path = pathlib.Path(tempfile.mkdtemp(), "weather.parquet")
        >>> days = pd.date_range("2024-01-01", periods=3)
        >>> pd.DataFrame({"date": days, "T": [1.5, None, 2.0]}).to_parquet(path)
        >>> rk.read_parquet(path)
        TimeSeries: 3 rows x 1 column
          time     2024-01-01 00:00:00 to 2024-01-03 00:00:00, a row every 1 D, 0 gaps
          missing  T 1
          columns  T
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("read_parquet needs PyArrow: pip install pyarrow.") from error
    path = table_file(path, parquet=True)
    wanted = Wanted(
        time, group, names, drop, time_format, na_values, freq, sort, duplicates, zone, store
    )
    told = wanted.told(path)
    if store is not None and (series := kept(Path(store), told)) is not None:
        return series
    try:
        with pq.ParquetFile(path) as file:
            header = file.schema_arrow.names
            if wanted.time is None:
                types = zip(header, file.schema_arrow.types, strict=True)
                wanted.time = [name for name, kind in types if pa.types.is_temporal(kind)][:1]
            if len(wanted.time) > 1:
                raise ValueError(f"time= must name one column, received {wanted.time}.")
            shown = [  # all but what pandas writes of an index without a name
                name
                for name in header
                if name in wanted.time or not name.startswith("__index_level_")
            ]
            columns, _ = wanted.choose(path, shown)
            return build_series(path, _chunks(file, columns, wanted, path), columns, wanted, told)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a complete Parquet file ({error}).") from error


def _chunks(file: Any, names: list[str], wanted: Wanted, path: Path) -> Iterator[Chunk]:
    import pyarrow as pa

    needed = list(dict.fromkeys([*names, *wanted.time, *wanted.group]))
    rows, total = 0, max(1, file.metadata.num_rows)
    joined: dict[str, tuple[Any, ...]] = {}
    shown = wanted.store is not None
    with Progress(f"reading {path.name}", lambda: rows / total, shown=shown) as progress:
        for batch in file.iter_batches(CHUNK_ROWS, columns=needed):
            for name in names:
                if pa.types.is_integer(batch.schema.field(name).type):
                    whole = batch.column(name).drop_null()  # with nulls, pandas has float64 alone
                    check_whole(whole.to_numpy(zero_copy_only=False), [name])
            frame = batch.to_pandas(ignore_metadata=True, date_as_object=False)
            values = np.empty((len(frame), len(names)))
            for column, name in enumerate(names):
                values[:, column] = _numbers(frame[name], name, path)
            times = frame[wanted.time[0]] if wanted.time else None
            if times is not None and times.isna().any():
                at = rows + int(times.isna().to_numpy().argmax())
                raise ValueError(f"column {wanted.time[0]!r}: row {at} has no time.")
            if times is not None and isinstance(times.iloc[0], str):
                times = times.tolist()
            labels = labels_of([frame[name].tolist() for name in wanted.group], joined)
            yield Chunk(values, times, labels)
            rows += len(frame)
            progress.update()


def _numbers(column: Any, name: str, path: Path) -> np.ndarray:
    kind = getattr(column.dtype, "kind", "O")
    if kind in "iufb":
        numbers: np.ndarray = column.to_numpy(np.float64)
        return numbers
    cells = column.dropna()
    if kind == "O" and not any(isinstance(cell, (str, bytes)) for cell in cells[:1]):
        try:  # whole numbers and booleans with nulls, decimals
            return column.astype(object).where(column.notna(), np.nan).to_numpy(np.float64)
        except (TypeError, ValueError):
            pass
    raise ValueError(
        f"{path}: column {name!r} holds {column.dtype}, not numbers. Name it as time= or group=, "
        f"or leave it out with drop={name!r}."
    )
