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
- With `pad`, up to so many of a window's input rows may lie before its segment. Nothing is read
  there: the cells are 0 (and so are their marks), and the window tells which rows are real.
- With `pad_targets`, up to so many of a window's last target rows may be unknown: behind the
  segment, not in the part, or without a value that is to be read there. The rules above then hold
  for the target rows before them. Targets of an unknown row are 0, and its weight is. A known
  column is read at every target row of the segment, and is missing behind it; where it is missing
  at one of these last rows, it is 0 and costs no window.
- The value of a static column belongs to the group. It is missing only where no row of the group
  has one.
"""

from dataclasses import dataclass, replace
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
    pad: int = 0  # input rows that may lie before the segment
    pad_targets: int = 0  # last target rows that may be unknown


OUTSIDE = -1  # in place of a row that does not exist


@dataclass(frozen=True)
class Window:
    """One window: the rows it reads, and the cells it finds there."""

    group: object
    input_rows: tuple[int, ...]  # rows of the table, or OUTSIDE
    target_rows: tuple[int, ...]
    past: tuple[tuple[float, ...], ...]  # a tuple of cells for each input row
    targets: tuple[tuple[float, ...], ...]  # a tuple of cells for each target row
    known: tuple[tuple[float, ...], ...]
    static: tuple[float, ...]
    unknown: tuple[bool, ...] = ()  # for each target row, whether it is one


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
    if targets:
        targets = targets[: len(targets) - numbers.pad_targets]
    before = [place for place in inputs if place < 0]
    if len(before) > numbers.pad:
        return False
    for place in inputs + targets:
        if place >= len(run) or (place < 0 and place not in before):
            return False
    for place in targets:
        if place < 0:
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


def read_cells(table, rows, names, outside):
    """A tuple of cells for each of the rows; of a row that does not exist, `outside` in each."""
    read = []
    for row in rows:
        cells = []
        for name in names:
            cells.append(outside if row == OUTSIDE else table.columns[name][row])
        read.append(tuple(cells))
    return tuple(read)


def rows_at(run, places):
    """The rows of the table at these places of a segment, OUTSIDE where there is none."""
    return tuple(run[place] if 0 <= place < len(run) else OUTSIDE for place in places)


def read_window(table, label, run, start, numbers):
    """Read every cell of one window."""
    input_rows = rows_at(run, input_places(start, numbers))
    target_rows = rows_at(run, target_places(start, numbers))
    nan = float("nan")
    return Window(
        group=label,
        input_rows=input_rows,
        target_rows=target_rows,
        past=read_cells(table, input_rows, numbers.features, 0.0),
        targets=read_cells(table, target_rows, numbers.targets, nan),
        known=read_cells(table, target_rows, numbers.known, nan),
        static=tuple(static_value(table, label, name) for name in numbers.static),
    )


def settle_horizon(window, table, numbers, missing):
    """The window without what is unknown at the end of its horizon."""
    rows = len(window.target_rows)
    unknown = [False] * rows
    targets, known = list(window.targets), list(window.known)
    for place in range(rows - numbers.pad_targets, rows):
        row = window.target_rows[place]
        lacking = reads_missing([targets[place]])
        if missing != "mask":
            lacking = lacking or reads_missing([known[place]])
            known[place] = tuple(0.0 if is_missing(cell) else cell for cell in known[place])
        unknown[place] = row == OUTSIDE or not is_in_part(table, row) or lacking
        if unknown[place]:
            targets[place] = (0.0,) * len(numbers.targets)
    return replace(window, targets=tuple(targets), known=tuple(known), unknown=tuple(unknown))


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
        for start in range(-numbers.pad * numbers.step, len(run)):
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
        if window.target_rows:
            window = settle_horizon(window, table, numbers, missing)
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
    past = []
    for row, cells in zip(window.input_rows, window.past, strict=True):
        past.append(cells + cells if row == OUTSIDE else with_marks(cells))
    return replace(
        window,
        past=tuple(past),
        known=tuple(with_marks(cells) for cells in window.known),
        static=with_marks(window.static),
    )


def weight_of(window, weights):
    """The mean weight of a window's known target rows; `weights` has one for each row.

    With a horizon that may be unknown in part, a weight for each target row, 0 where it is unknown.
    """
    known = [row for row, off in zip(window.target_rows, window.unknown, strict=True) if not off]
    mean = sum(weights[row] for row in known) / len(known)
    return tuple(0.0 if off else mean for off in window.unknown)
