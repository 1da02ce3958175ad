"""Which windows exist, and what each of them contains, written from the meaning of a window.

Plain loops over a plain table, one cell at a time, without the package and without NumPy. Slow, and
meant to be read: every rule stands where it is applied.

What the words are taken to mean where they leave room:

- A *segment* is a run of rows of one group without a gap in time. A missing value does not end it.
- All rows between the first and the last row that a window reads lie in one segment.
- The part of a split says which rows may be targets: every target row must be one of them. Inputs
  may reach back into rows of an earlier part. They never reach past the last row of their own
  part (which only a negative delay could make them do), for that would be reading ahead.
- A window that reads nothing at its target rows (neither targets nor known columns) has no target
  rows; its last input row must be a row of the part.
- Starts are counted every `stride` rows from the first start at which those rules hold. Missing
  values do not move that count: a window that reads one is left out, and the others stay where
  they are in whole data.
- The value of a static column belongs to the group. It is missing only where no row of the group
  has one.
"""

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True)
class Table:
    """Rows in the order in which they were given."""

    columns: dict[str, list[float]]  # NaN and infinity: missing
    group: list | None = None  # a label for each row; None: all rows are one series
    time: list[int] | None = None  # None: rows follow each other without a gap
    step_of_time: int = 1
    may_be_target: list[bool] | None = None  # None: every row may

    def __len__(self):
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True)
class Numbers:
    """The numbers of a specification, and which columns play which role."""

    lookback: int
    step: int = 1
    delay: int | tuple[int, ...] = 1  # several: one for each target row, instead of a horizon
    horizon: int = 1
    horizon_step: int = 1
    stride: int = 1
    features: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """One window: the rows it reads, and the cells it finds there."""

    group: object
    input_rows: tuple[int, ...]  # rows of the table
    target_rows: tuple[int, ...]
    past: tuple[tuple[float, ...], ...]  # a tuple of cells for each input row
    targets: tuple[tuple[float, ...], ...]  # a tuple of cells for each target row
    known: tuple[tuple[float, ...], ...]
    static: tuple[float, ...]


class MissingValueReadError(Exception):
    """A window reads a missing value, and the policy is to refuse that."""


def labels_in_order(table):
    """The labels of the groups, in the order in which they first appear."""
    if table.group is None:
        return [None]
    labels = []
    for label in table.group:
        if label not in labels:
            labels.append(label)
    return labels


def rows_of_group(table, label):
    """The rows of one group, in the order in which they were given."""
    rows = []
    for row in range(len(table)):
        if table.group is None or table.group[row] == label:
            rows.append(row)
    return rows


def segments(table):
    """Each run of rows of one group without a gap in time, as `(label, rows)`."""
    runs = []
    for label in labels_in_order(table):
        run = []
        for row in rows_of_group(table, label):
            if run and table.time is not None:
                apart = table.time[row] - table.time[run[-1]]
                if apart > table.step_of_time:
                    runs.append((label, run))
                    run = []
            run.append(row)
        runs.append((label, run))
    return runs


def is_missing(cell):
    """Whether a cell holds no measurement."""
    return not isfinite(cell)


def input_places(start, numbers):
    """Places in a segment of the input rows of the window that starts at one."""
    places = []
    place = start
    while place < start + numbers.lookback:
        places.append(place)
        place = place + numbers.step
    return places


def target_places(start, numbers):
    """Places in a segment of the target rows of the window that starts at one."""
    if not numbers.targets and not numbers.known:
        return []
    last_input = input_places(start, numbers)[-1]
    if isinstance(numbers.delay, tuple):
        return [last_input + delay for delay in numbers.delay]
    places = []
    place = last_input + numbers.delay
    for _ in range(numbers.horizon):
        places.append(place)
        place = place + numbers.horizon_step
    return places


def is_in_part(table, row):
    """Whether a row may be a target."""
    return table.may_be_target is None or table.may_be_target[row]


def is_possible(table, run, start, numbers):
    """Whether a start leaves all rows of its window in the segment, and its targets in the part."""
    inputs = input_places(start, numbers)
    targets = target_places(start, numbers)
    for place in inputs + targets:
        if place < 0 or place >= len(run):
            return False
    if not targets:
        return is_in_part(table, run[inputs[-1]])
    for place in targets:
        if not is_in_part(table, run[place]):
            return False
    ahead = [place for place in inputs if place > max(targets)]
    return all(is_in_part(table, run[place]) for place in ahead)


def static_value(table, label, name):
    """The value that a static column has in a group; NaN where no row has one."""
    for row in rows_of_group(table, label):
        cell = table.columns[name][row]
        if not is_missing(cell):
            return cell
    return float("nan")


def read_cells(table, rows, names):
    """A tuple of cells for each of the rows."""
    read = []
    for row in rows:
        cells = []
        for name in names:
            cells.append(table.columns[name][row])
        read.append(tuple(cells))
    return tuple(read)


def read_window(table, label, run, start, numbers):
    """Read every cell of one window."""
    input_rows = tuple(run[place] for place in input_places(start, numbers))
    target_rows = tuple(run[place] for place in target_places(start, numbers))
    return Window(
        group=label,
        input_rows=input_rows,
        target_rows=target_rows,
        past=read_cells(table, input_rows, numbers.features),
        targets=read_cells(table, target_rows, numbers.targets),
        known=read_cells(table, target_rows, numbers.known),
        static=tuple(static_value(table, label, name) for name in numbers.static),
    )


def reads_missing(rows_of_cells):
    """Whether any of the cells is missing."""
    for cells in rows_of_cells:
        for cell in cells:
            if is_missing(cell):
                return True
    return False


def candidates(table, numbers):
    """The windows that would exist if no value were missing, in order."""
    found = []
    for label, run in segments(table):
        passed = None  # starts since the last one that was taken
        for start in range(len(run)):
            if passed is not None:
                passed = passed + 1
            if not is_possible(table, run, start, numbers):
                continue
            if passed is None or passed % numbers.stride == 0:
                found.append(read_window(table, label, run, start, numbers))
                passed = 0
    return found


def windows(table, numbers, missing="drop"):
    """The windows that exist, in order: by group, then by time.

    With `"mask"` the cells of a window are what a model is to get: 0 for a missing cell, and behind
    the cells of each row (and of the static columns) as many marks, 1 where the cell was missing.
    """
    found = []
    for window in candidates(table, numbers):
        missing_input = (
            reads_missing(window.past)
            or reads_missing(window.known)
            or reads_missing([window.static])
        )
        missing_target = reads_missing(window.targets)
        if missing == "error" and (missing_input or missing_target):
            raise MissingValueReadError
        if missing_target:
            continue
        if missing == "drop" and missing_input:
            continue
        if missing == "mask":
            window = masked(window)
        found.append(window)
    return found


def with_marks(cells):
    """The cells with 0 for a missing one, and then a mark for each of them."""
    values = []
    marks = []
    for cell in cells:
        values.append(0.0 if is_missing(cell) else cell)
        marks.append(1.0 if is_missing(cell) else 0.0)
    return tuple(values + marks)


def masked(window):
    """The same window with marks beside its inputs."""
    return Window(
        group=window.group,
        input_rows=window.input_rows,
        target_rows=window.target_rows,
        past=tuple(with_marks(cells) for cells in window.past),
        targets=window.targets,
        known=tuple(with_marks(cells) for cells in window.known),
        static=with_marks(window.static),
    )


def mean_weight(window, weights):
    """The mean weight of a window's target rows; `weights` has one for each row of the table."""
    total = 0.0
    for row in window.target_rows:
        total = total + weights[row]
    return total / len(window.target_rows)
