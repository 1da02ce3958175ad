"""Plots of training, forecasts, states and gradients, with Matplotlib.

Every function takes `ax=`, one of Matplotlib's `Axes` or as many as it draws panels, and returns
it; without it, it opens a figure of its own, 7 inches wide, and returns that figure's Axes: one, or
an array where there are several panels. Colours are those of Okabe and Ito (2008), which
colour-blind readers can distinguish; line styles and markers differ too, for greyscale. In
the heat maps of states, which are centred on zero, greyscale keeps the size of a value and not its
sign. Settings of Matplotlib (`rcParams`) are left alone. Matplotlib is imported by the first call:
`pip install 'keras-rnnkit[plot]'`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_rnnkit.inspection.flow_report import GradientFlow, LayerFlow
    from keras_rnnkit.inspection.trace import Trace

__all__ = ["forecast", "gradient_flow", "history", "trace"]

WIDTH = 7.0  # inches, the width of a page of the documentation
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
TRUTH, FAINT = "black", "#777777"
DIVERGING, SEQUENTIAL = "RdBu_r", "cividis"
COLUMNS = ("group", "origin", "time", "step", "target", "truth")
MOST_PANELS = 8

Logs = Mapping[str, Sequence[float]]


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "rk.plot draws with Matplotlib, which is not installed: "
            "pip install 'keras-rnnkit[plot]'"
        ) from error
    return plt


def _panels(
    ax: Any,
    panels: Sequence[str],
    heights: Any,
    *,
    columns: int = 1,
    share: bool = False,
    below: float = 0.0,
) -> list[Any]:
    """The Axes for the panels of these names: those given, or a new figure's.

    Heights are inches, of each row of panels and of the labels `below` all of them.
    """
    plt = _pyplot()
    if ax is not None:
        axes = [each for each in np.ravel(np.asarray(ax, dtype=object)) if each is not None]
        if len(axes) != len(panels):
            raise ValueError(
                f"ax= must hold one Axes for each panel, {len(panels)} here "
                f"({', '.join(panels)}), received {len(axes)}. Pass as many, or choose fewer "
                "panels."
            )
        return axes
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    heights = np.broadcast_to(heights, rows)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, float(heights.sum()) + below),
        height_ratios=heights,
        sharex=share,
        squeeze=False,
        layout="constrained",
    )
    axes = list(grid.ravel())
    for unused in axes[len(panels) :]:
        figure.delaxes(unused)
    return axes[: len(panels)]


def _returned(ax: Any, axes: list[Any]) -> Any:
    if ax is not None:
        return ax
    return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)


def _legend(ax: Any, axes: list[Any]) -> None:
    """One legend: above the panels of a figure of our own, else in the first panel."""
    entries: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if ax is not None:
        axes[0].legend(entries.values(), entries, fontsize="small")
        return
    # 112 small letters fill the width; a line's sample takes the room of 7.
    fit = max(1, 112 // (max(map(len, entries)) + 7))
    rows = math.ceil(len(entries) / fit)
    axes[0].figure.legend(
        entries.values(),
        entries,
        loc="outside upper center",
        ncols=math.ceil(len(entries) / rows),
        fontsize="small",
        frameon=False,
    )


def history(history: Any, metrics: str | Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """Plot the history of `fit`: a panel for each metric, training dashed and validation solid.

    Several models share the panels, with a colour and marker each. A ring marks, for each model,
    the epoch of the lowest `val_loss` (of `loss` where nothing was validated): the one that
    `EarlyStopping(restore_best_weights=True)` keeps. An axis is logarithmic where positive values
    span more than three decades. Where `validation_freq` left epochs without validation, the
    values stand at the epochs of the smallest frequency that gives as many.

    Args:
        history: what `model.fit` returns; or its `.history`, a dict of lists, a value an epoch; or
            a mapping from names to several of either.
        metrics: names without `val_`. Default: all.
        ax: an Axes for each metric.

    Returns:
        `ax`, or the Axes of a new figure: one, or an array where there are several metrics.

    Raises:
        ValueError: nothing was logged, a metric was not, or `ax` holds the wrong number of Axes.
        ImportError: Matplotlib is not installed.

    Example:
        >>> import keras_rnnkit as rk
        >>> axes = rk.plot.history({"loss": [0.9, 0.5, 0.3], "val_loss": [0.8, 0.6, 0.7]})
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('epoch', 'loss')
    """
    models = _models(history)
    known = list(
        dict.fromkeys(name.removeprefix("val_") for _, logs in models.values() for name in logs)
    )
    wanted = [metrics] if isinstance(metrics, str) else list(known if metrics is None else metrics)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(
            f"metrics= must be among the metrics logged, {known}, received {unknown or wanted}."
        )
    axes = _panels(ax, wanted, 3.4 if len(wanted) == 1 else 2.7, columns=2)
    for panel, metric in zip(axes, wanted, strict=True):
        for (model, logged), colour, marker in zip(
            models.items(), cycle(COLOURS), cycle(MARKERS), strict=False
        ):
            _draw_metric(panel, metric, model, logged, colour, marker, several=len(models) > 1)
        if len(models) > 1:
            for line, part in (("--", "training"), ("-", "validation")):
                panel.plot([], [], color=FAINT, ls=line, label=part)
        panel.set(xlabel="epoch", ylabel=metric)
        panel.xaxis.get_major_locator().set_params(integer=True)
        values = np.concatenate([line.get_ydata() for line in panel.lines]).astype(float)
        values = values[np.isfinite(values)]
        if len(values) and values.min() > 0 and values.max() > 1e3 * values.min():
            panel.set_yscale("log")
    _legend(ax, axes)
    return _returned(ax, axes)


def _models(history: Any) -> dict[str, tuple[list[int], Logs]]:
    """Epochs, counted from 1, and logs of each model; of a single one under an empty name."""

    def is_logs(value: Any) -> bool:
        return isinstance(value, Mapping) and all(np.ndim(entry) == 1 for entry in value.values())

    def logged(name: str, value: Any) -> tuple[list[int], Logs]:
        logs = getattr(value, "history", value)
        if not is_logs(logs) or not any(len(entry) for entry in logs.values()):
            where = f"history[{name!r}]" if name else "history="
            raise ValueError(
                f"{where} must be what fit() returns or a dict of lists, a value an epoch, "
                f"received {logs!r}. Pass the result of fit(), after an epoch at least."
            )
        length = max(len(entry) for entry in logs.values())
        epochs = [epoch + 1 for epoch in getattr(value, "epoch", range(length))]
        return (epochs if len(epochs) == length else list(range(1, length + 1))), logs

    several = isinstance(history, Mapping) and history and not is_logs(history)
    models = history if several else {"": history}
    return {str(name): logged(str(name), value) for name, value in models.items()}


def _draw_metric(
    panel: Any,
    metric: str,
    model: str,
    logged: tuple[list[int], Logs],
    colour: str,
    marker: str,
    several: bool,
) -> None:
    epochs, logs = logged
    best = "val_loss" if "val_loss" in logs else "loss"
    for name, part in ((metric, "training"), (f"val_{metric}", "validation")):
        if name not in logs:
            continue
        values = np.asarray(logs[name], dtype=float)
        at = _validated(epochs, len(values))
        training = part == "training"
        panel.plot(
            at,
            values,
            color=TRUTH if training and not several else colour,
            ls="--" if training else "-",
            lw=1.2 if training else 1.8,
            marker=marker if several or len(values) == 1 else None,
            markersize=4,
            markevery=max(1, len(values) // 8),
            label=_line_label(model, part, f"val_{metric}" in logs) if several else part,
        )
        if best in logs and name.startswith("val_") == best.startswith("val_"):
            compared = np.asarray(logs[best], dtype=float)
            if len(compared) == len(values) and not np.isnan(compared).all():
                place = int(np.nanargmin(compared))
                panel.plot(
                    at[place],
                    values[place],
                    ls="none",
                    marker="o",
                    markersize=10,
                    markerfacecolor="none",
                    markeredgecolor=TRUTH,
                    label=f"lowest {best}" if several else f"lowest {best}, epoch {at[place]}",
                )


def _line_label(model: str, part: str, validated: bool) -> str | None:
    """A model's name, for one of its two lines: the legend explains solid and dashed apart."""
    return model if (part == "validation") == validated else None


def _validated(epochs: list[int], count: int) -> list[int]:
    """The epochs at which so many values were logged."""
    if count in (0, len(epochs)):
        return epochs[:count]
    every = next(f for f in range(1, len(epochs) + 1) if len(epochs) // f <= count)
    return [epochs[min(every * (n + 1), len(epochs)) - 1] for n in range(count)]


def forecast(
    data: Any,
    *,
    target: str | Sequence[str] | None = None,
    group: Any = None,
    steps: int | Sequence[int] | None = None,
    origins: int | None = None,
    last: int | None = None,
    units: str | Mapping[str, str] | None = None,
    ax: Any = None,
) -> Any:
    """Plot forecasts over the truth: a panel for each target, and for each group of a panel.

    A line joins the forecasts of one horizon step, all made equally far ahead. `origins` draws
    whole forecasts instead, each from its origin over its horizon. Lines break at gaps of more than
    four times the usual distance.

    Args:
        data: what `to_frame` returns; or a mapping (or DataFrame) with `time` and `truth`, and
            `origin`, `step`, `target` and `group` where there are several. Every other column of
            numbers is a forecast, drawn under its name. A mapping's arrays have shape
            `(windows,)`, or `(windows, horizon)` for several steps.
        target: which targets. Default: all.
        group: which groups. Default: all.
        steps: which horizon steps, counted from 1. Default: the first and the last.
        origins: how many whole forecasts to draw instead, spread evenly over the windows.
        last: draw only this number of windows, the last ones.
        units: the unit of all targets, or a mapping from target to unit. Default: the unit in the
            name of the target, if any.
        ax: an Axes for each panel.

    Returns:
        `ax`, or the Axes of a new figure: one, or an array where there are several panels.

    Raises:
        ValueError: a column is missing, a target, group or step does not occur, there would be more
            than 8 panels, or `ax` holds the wrong number of Axes.
        ImportError: Matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> series = rk.TimeSeries(np.sin(np.arange(50.0)), names=["level"])
        >>> frame = rk.to_frame(series.values[7:-1] + 0.1, series, rk.WindowSpec(8))
        >>> axes = rk.plot.forecast(frame, units="m")
        >>> axes.get_ylabel()
        'level (m)'
        >>> axes.get_legend_handles_labels()[1]
        ['truth', 'prediction, 1 row ahead']
    """
    table = _table(data)
    forecasts = [name for name in table if name not in (*COLUMNS, "window")]
    if not forecasts:
        raise ValueError(
            f"data= must hold a column of forecasts beside {list(table)}, such as 'prediction'."
        )
    if origins is not None and steps is not None:
        raise ValueError("origins= draws whole forecasts, so that steps= has no meaning beside it.")
    if last is not None and last < 1:
        raise ValueError(f"last= must be a number of windows from 1 on, received {last}.")
    targets = _chosen("target", target, table["target"])
    groups = _chosen("group", group, table["group"])
    panels = list(product(groups, targets))
    if len(panels) > MOST_PANELS:
        raise ValueError(
            f"data= holds {len(groups)} groups and {len(targets)} targets, which makes "
            f"{len(panels)} panels: choose {MOST_PANELS} at most with group= and target=."
        )
    names = [", ".join(str(part) for part in panel if part not in (None, "")) for panel in panels]
    axes = _panels(ax, names, 3.4 if len(panels) == 1 else 2.2, share=True)
    for panel, (its_group, its_target), name in zip(axes, panels, names, strict=True):
        rows = (table["group"] == its_group) & (table["target"] == its_target)
        part = {column: values[rows] for column, values in table.items()}
        if last is not None:
            recent = np.unique(part["window"])[-last:]
            part = {c: values[np.isin(part["window"], recent)] for c, values in part.items()}
        _draw_truth(panel, part)
        if origins is None:
            _draw_steps(panel, part, forecasts, steps)
        else:
            _draw_origins(panel, part, forecasts, origins)
        panel.set_ylabel(_with_unit(its_target or "value", units))
        if len(groups) > 1:
            panel.set_title(name, fontsize="medium")
        _label_times(panel, part["time"])
    if ax is None:
        for panel in axes[:-1]:
            panel.set_xlabel("")
    _legend(ax, axes)
    return _returned(ax, axes)


def _table(data: Any) -> dict[str, np.ndarray]:
    """Columns of one length, from a frame or arrays, with every column of `COLUMNS` but origin."""
    if isinstance(data, Mapping):
        table = {name: np.asarray(values) for name, values in data.items()}
    else:
        import narwhals.stable.v2 as nw

        frame = nw.from_native(data, eager_only=True, pass_through=True)
        if not isinstance(frame, nw.DataFrame):
            raise ValueError(
                "data= must be what to_frame returns, or a mapping of arrays with 'time' and "
                f"'truth', received {type(data).__name__}."
            )
        table = {name: frame[name].to_numpy() for name in frame.columns}
    missing = [name for name in ("time", "truth") if name not in table]
    if missing:
        raise ValueError(
            f"data= lacks {' and '.join(missing)}, received the columns {list(table)}. Pass what "
            "to_frame returns, or a mapping with 'time' and 'truth' and a forecast."
        )
    shape = table["truth"].shape
    if len(shape) not in (1, 2) or 0 in shape:
        raise ValueError(
            "data['truth'] must have shape (windows,) or (windows, horizon) and a window at "
            f"least, received {shape}."
        )
    if len(shape) == 2:
        table.setdefault("step", np.arange(1, shape[1] + 1)[np.newaxis])
    windows = np.arange(shape[0]).reshape((-1,) + (1,) * (len(shape) - 1))
    columns = {
        "group": np.array(None, dtype=object),
        "target": np.array(""),
        "step": np.array(1),
        **table,
        "window": windows,
    }
    try:
        columns = {
            name: np.broadcast_to(
                values[:, np.newaxis] if values.ndim == 1 and len(shape) == 2 else values, shape
            ).ravel()
            for name, values in columns.items()
        }
    except ValueError as error:
        shapes = {name: values.shape for name, values in table.items()}
        raise ValueError(f"data= must hold arrays of one shape, received {shapes}.") from error
    if "origin" in table:
        columns["window"] = columns["origin"]
    return {
        name: values
        for name, values in columns.items()
        if name in (*COLUMNS, "window") or values.dtype.kind in "fiu"
    }


def _chosen(argument: str, wanted: Any, column: np.ndarray) -> list[Any]:
    """What was asked for of a column, or all that it holds, in its order."""
    present = list(dict.fromkeys(column.tolist()))
    if wanted is None:
        return present
    listed = isinstance(wanted, Iterable) and not isinstance(wanted, (str, bytes))
    chosen = list(wanted) if listed else [wanted]
    absent = [each for each in chosen if each not in present]
    if absent or not chosen:
        shown = ", ".join(map(repr, present[:10])) + (", ..." if len(present) > 10 else "")
        raise ValueError(f"{argument}= must be among {shown}, received {absent or chosen}.")
    return chosen


def _draw_truth(panel: Any, part: dict[str, np.ndarray]) -> None:
    time, first = np.unique(part["time"], return_index=True)
    panel.plot(*_broken(time, part["truth"][first]), color=TRUTH, lw=1.2, label="truth", zorder=2)


def _draw_steps(panel: Any, part: dict[str, np.ndarray], forecasts: list[str], steps: Any) -> None:
    present = np.unique(part["step"])
    chosen = _chosen("steps", present[[0, -1]] if steps is None else steps, part["step"])
    pairs = list(product(dict.fromkeys(chosen), forecasts))
    styles = list(zip(pairs, cycle(COLOURS), cycle(LINES), strict=False))
    for (step, name), colour, line in styles:
        rows = np.flatnonzero(part["step"] == step)
        rows = rows[np.argsort(part["time"][rows], kind="stable")]
        ahead = _ahead(part, rows, several=len(present) > 1)
        panel.plot(
            *_broken(part["time"][rows], part[name][rows]),
            color=colour,
            ls=line,
            lw=1.8,
            label=name + ahead,
            zorder=3,
        )


def _draw_origins(
    panel: Any, part: dict[str, np.ndarray], forecasts: list[str], origins: int
) -> None:
    windows = np.unique(part["window"])
    if origins < 1 or len(windows) == len(part["window"]):
        raise ValueError(
            f"origins= must be a number of whole forecasts of several steps, received {origins} "
            f"for {len(windows)} windows of {len(part['window']) // len(windows)} step(s)."
        )
    places = np.unique(np.linspace(0, len(windows) - 1, origins).round().astype(int))
    for number, window in enumerate(windows[places]):
        rows = np.flatnonzero(part["window"] == window)
        rows = rows[np.argsort(part["time"][rows], kind="stable")]
        for name, colour, line, marker in zip(
            forecasts, cycle(COLOURS), cycle(LINES), cycle(MARKERS), strict=False
        ):
            panel.plot(
                part["time"][rows],
                part[name][rows],
                color=colour,
                ls=line,
                lw=1.8,
                marker=marker,
                markersize=3,
                label=name if number == 0 else None,
                zorder=3,
            )
        if "origin" in part:
            panel.axvline(
                window, color=FAINT, ls=":", lw=1, label="origin" if number == 0 else None
            )


def _broken(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and values with a NaN in every gap, so that no line crosses it."""
    if len(time) < 3:
        return time, values
    apart = np.diff(time)
    # A weekend between daily rows is no gap.
    gaps = np.flatnonzero(apart > 4 * np.sort(apart)[len(apart) // 2]) + 1
    return np.insert(time, gaps, time[gaps]), np.insert(values.astype(float), gaps, np.nan)


def _ahead(part: dict[str, np.ndarray], rows: np.ndarray, several: bool) -> str:
    """How far ahead these rows were forecast, as the end of a label."""
    if "origin" in part:
        leads = np.unique(part["time"][rows] - part["origin"][rows])
        if len(leads) == 1:
            return f", {_duration(leads[0])} ahead"
    return f", step {part['step'][rows[0]]}" if several else ""


def _duration(lead: Any) -> str:
    if not isinstance(lead, np.timedelta64):
        return f"{lead} row" + ("s" if lead != 1 else "")
    seconds = float(lead / np.timedelta64(1, "s"))
    for length, name in ((86400, "day"), (3600, "h"), (60, "min")):
        count = seconds / length
        if count.is_integer():
            return f"{count:.0f} {name}" + ("s" if name == "day" and count != 1 else "")
    return f"{seconds:g} s"


def _with_unit(target: str, units: str | Mapping[str, str] | None) -> str:
    """The target with its unit, which takes the place of one that its name ends with."""
    unit = units.get(target) if isinstance(units, Mapping) else units
    return f"{re.sub(r' *[(][^()]*[)]$', '', target)} ({unit})" if unit else target


def _label_times(panel: Any, time: np.ndarray) -> None:
    if time.dtype.kind != "M":
        panel.set_xlabel("row" if time.dtype.kind in "iu" else "time")
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def trace(
    trace: "Trace",
    names: str | Sequence[str] | None = None,
    *,
    sample: int = 0,
    units: int | slice | Sequence[int] | None = None,
    labels: Any = None,
    ax: Any = None,
) -> Any:
    """Plot states and gates of one layer as heat maps: time to the right, a row for each unit.

    States and candidates have a diverging colour map centred on 0, gates one from 0 to 1. Masked
    steps are hatched. Values that are not finite are grey, and a title names the first such step.

    Args:
        trace: one `Trace`, such as `rk.trace(model, inputs)["gru"]`.
        names: which states, gates, or `"output"`. Default: all states, then all gates.
        sample: which sample of the batch.
        units: which units. Default: all.
        labels: labels of the time steps, `(time,)`: words, or times as datetime64. Default: the
            number of the step, from 0.
        ax: an Axes for each name.

    Returns:
        `ax`, or the Axes of a new figure: one, or an array where there are several names.

    Raises:
        ValueError: `trace` is not one layer's or holds no states, a state is of a higher rank, a
            name, sample or unit does not occur, there are not as many labels as steps, or `ax`
            holds the wrong number of Axes.
        ImportError: Matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> traced = rk.trace(rk.GRU(4, name="gru"), np.ones((2, 5, 3), "float32"))
        >>> axes = rk.plot.trace(traced["gru"], labels=["a", "very", "good", "film", "."])
        >>> [panel.get_ylabel() for panel in axes]
        ['h, unit', 'z, unit', 'r, unit', 'n, unit']
    """
    present = _sequences(trace)
    if not trace.states:
        raise ValueError(f"trace= must hold states, received {trace.layer!r}: {trace.note}.")
    wanted = [names] if isinstance(names, str) else list(names or [*trace.states, *trace.gates])
    unknown = [name for name in wanted if name not in present]
    if unknown or not wanted:
        raise ValueError(f"names= must be among {list(present)}, received {unknown or wanted}.")
    if any(present[name].ndim != 3 for name in wanted):
        shapes = {name: present[name].shape for name in wanted}
        raise ValueError(
            f"trace= must hold sequences of shape (batch, time, units), received {shapes}. Draw "
            "what lies along one axis with Matplotlib's imshow."
        )
    batch, time, _ = present[wanted[0]].shape
    if not -batch <= sample < batch:
        raise ValueError(f"sample= must be one of the {batch} samples, received {sample}.")
    texts = None if labels is None else np.asarray(labels)
    if texts is not None and texts.shape != (time,):
        raise ValueError(
            f"labels= must hold a label for each of the {time} steps, received shape "
            f"{texts.shape}. Pass those of one sample."
        )
    heights = [0.7 + 0.9 * min(present[name].shape[-1], 24) / 24 for name in wanted]
    words = texts is not None and texts.dtype.kind != "M"
    axes = _panels(ax, wanted, heights, share=True, below=0.9 if words else 0.5)
    for panel, name in zip(axes, wanted, strict=True):
        values = present[name][sample]
        rows = _rows(units, values.shape[-1])
        gate = name in trace.gates and name not in ("g", "n")
        counts = np.ones(time, bool) if trace.mask is None else np.asarray(trace.mask)[sample]
        _draw_heat(panel, values[:, rows], gate)
        _hatch(panel, counts.astype(bool))
        broken = np.flatnonzero(counts & ~np.isfinite(values[:, rows]).all(axis=1))
        if len(broken):
            text = f"{name} is not finite from step {broken[0]}"
            panel.set_title(text, loc="right", fontsize="small")
        _label_units(panel, rows)
        panel.set_ylabel(f"{name}, unit")
        panel.set_xlim(-0.5, time - 0.5)
    for panel in axes if ax is not None else axes[-1:]:
        _label_steps(panel, time, texts)
    title = f"{trace.layer} ({trace.kind}), sample {sample}"
    axes[0].set_title(title, loc="left", fontsize="medium")
    return _returned(ax, axes)


def _sequences(trace: Any) -> dict[str, np.ndarray]:
    if not all(hasattr(trace, name) for name in ("output", "states", "gates", "mask")):
        held = f", holding {list(trace)}" if isinstance(trace, Mapping) else ""
        raise ValueError(
            f"trace= must be the Trace of one layer, received {type(trace).__name__}{held}. Pass "
            "one entry of what rk.trace returns."
        )
    return {"output": trace.output, **trace.states, **trace.gates}


def _rows(units: Any, count: int) -> np.ndarray:
    try:
        return np.atleast_1d(np.arange(count)[slice(None) if units is None else units])
    except IndexError as error:
        raise ValueError(f"units= must be among the {count} units, received {units}.") from error


def _draw_heat(panel: Any, values: np.ndarray, gate: bool) -> None:
    from matplotlib import colormaps

    finite = values[np.isfinite(values)]
    reach = float(np.abs(finite).max(initial=0.0)) or 1.0
    # A recurrent activation of the user's own may leave the range of a sigmoid.
    gate = gate and float(finite.min(initial=0.0)) >= 0 and reach <= 1
    low, high = (0.0, 1.0) if gate else (-reach, reach)
    image = panel.imshow(
        np.ma.masked_invalid(values).T,
        cmap=colormaps[SEQUENTIAL if gate else DIVERGING].with_extremes(bad="#999999"),
        vmin=low,
        vmax=high,
        aspect="auto",
    )
    bar = panel.figure.colorbar(image, ax=panel, pad=0.01, aspect=12)
    ticks = [low, 0.5 if gate else 0.0, high]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks], fontsize="small")


def _label_units(panel: Any, rows: np.ndarray) -> None:
    every = max(1, math.ceil(len(rows) / 4))
    places = np.arange(0, len(rows), every)
    panel.set_yticks(places, labels=[str(row) for row in rows[places]], fontsize="small")


def _hatch(panel: Any, counts: np.ndarray) -> None:
    """Hatch every run of steps that the mask leaves out."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], counts, [True]]).astype(int)))
    for start, end in edges.reshape(-1, 2):
        panel.axvspan(
            start - 0.5, end - 0.5, facecolor="white", edgecolor=FAINT, hatch="////", lw=0
        )


def _label_steps(panel: Any, time: int, labels: np.ndarray | None) -> None:
    if labels is None:
        panel.set_xlabel("time step")
        panel.xaxis.get_major_locator().set_params(integer=True)
        return
    if labels.dtype.kind == "M":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num, num2date

        days = date2num(labels)
        locator = AutoDateLocator(minticks=3, maxticks=8)
        ticks = np.asarray(locator.tick_values(num2date(days.min()), num2date(days.max())))
        ticks = ticks[(ticks >= days.min()) & (ticks <= days.max())]
        formatter = ConciseDateFormatter(locator)
        # By place and not by date, so that a heat map's steps stay of one width over a gap.
        panel.set_xticks(
            np.interp(ticks, days, np.arange(time)), labels=formatter.format_ticks(ticks)
        )
        panel.set_xlabel(formatter.get_offset() or "time")
        return
    # More than these would overlap at the width of a page.
    places = np.arange(0, time, max(1, math.ceil(time / 48)))
    words = [str(label) for label in labels[places]]
    panel.set_xticks(places, labels=words, rotation=90, fontsize="small")


def gradient_flow(flow: "GradientFlow | LayerFlow", *, ax: Any = None) -> Any:
    """Plot how a gradient is carried back in time, and what arrives, on logarithmic axes.

    The upper panel shows how much of a gradient each layer carries from the last step back to each
    step, whatever the loss. The legend gives verdict, factor and half-life; a ring marks the
    half-life. The lower panel shows the norm of the gradient of the loss by h at each step; by the
    cell state c, if there is one, with markers; and, as triangles, the part of it that enters at
    that step. Each layer has a colour and a line style. Values that are 0 or not finite are left
    out.

    Args:
        flow: what `rk.gradient_flow` returns, or one layer of it.
        ax: two Axes.

    Returns:
        `ax`, or an array of the two Axes of a new figure.

    Raises:
        ValueError: `flow` is something else, or `ax` does not hold two Axes.
        ImportError: Matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> import keras_rnnkit as rk
        >>> x, y = np.ones((4, 30, 2), "float32"), np.ones((4, 8), "float32")
        >>> flow = rk.gradient_flow(rk.GRU(8, name="gru"), x, y, "mse")
        >>> axes = rk.plot.gradient_flow(flow)
        >>> [panel.get_ylabel() for panel in axes]
        ['carried from the last step', 'gradient of the loss']
    """
    layers: list[Any] = list(flow.layers.values()) if hasattr(flow, "layers") else [flow]
    if not layers or not all(hasattr(layer, "norms") for layer in layers):
        raise ValueError(
            f"flow= must be what rk.gradient_flow returns, or one layer of it, received "
            f"{type(flow).__name__}."
        )
    lines = sum(max(1, len(layer.norms)) for layer in layers)
    axes = _panels(ax, ["carried", "gradient"], 2.3, share=True, below=0.4 + 0.2 * lines)
    carried, arrives = axes
    for layer, colour, line in zip(layers, cycle(COLOURS), cycle(LINES), strict=False):
        look = {"color": colour, "ls": line, "lw": 1.8}
        values = _positive(layer.carried)
        carried.plot(values, label=_verdict(layer), **look)
        if len(values):
            _ring(carried, values, layer.half_life, colour)
        for number, (state, norms) in enumerate(layer.norms.items()):
            if number:
                look |= {"lw": 1.2, "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
                look |= {"markevery": max(1, len(norms) // 12)}
            arrives.plot(_positive(norms), label=f"{layer.layer}, {state}" * (number > 0), **look)
        fed = _positive(layer.fed)
        steps = np.flatnonzero(np.isfinite(fed))
        steps = steps[:: max(1, len(steps) // 12)]
        arrives.plot(steps, fed[steps], color=colour, ls="none", marker="v", mfc="none")
    arrives.plot([], [], color=FAINT, ls="none", marker="v", mfc="none", label="fed from above")
    carried.set(yscale="log", ylabel="carried from the last step")
    arrives.set(yscale="log", ylabel="gradient of the loss", xlabel="time step")
    for panel in axes:
        panel.set_xlim(-0.5, max(1, *(len(layer.carried) for layer in layers)) - 0.5)
        panel.xaxis.get_major_locator().set_params(integer=True)
    _legend(ax, axes)
    return _returned(ax, axes)


def _positive(values: Any) -> np.ndarray:
    """The values that have a place on a logarithmic axis; NaN for the others."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _verdict(layer: Any) -> str:
    if not layer.norms:
        return f"{layer.layer}: {layer.verdict}"
    text = f"factor {layer.factor:.3g}"
    if 0 < layer.half_life < math.inf:
        text += f", half-life {layer.half_life:.2g}"
    return f"{layer.layer}: {layer.verdict} ({text})"


def _ring(panel: Any, norms: np.ndarray, half_life: float, colour: str) -> None:
    steps = np.flatnonzero(np.isfinite(norms))
    if len(steps) == 0 or not 0 < half_life <= steps[-1] - steps[0]:
        return
    logs = np.log(norms[steps])
    # A layer that runs backwards processes its first step last; its half-life counts from there.
    places = {steps[-1] - half_life: logs[-1], steps[0] + half_life: logs[0]}

    def off_half(place: float) -> float:
        return abs(places[place] + math.log(0.5) - np.interp(place, steps, logs))

    place = min(places, key=off_half)
    height = math.exp(np.interp(place, steps, logs))
    panel.plot(place, height, ls="none", marker="o", markersize=10, mfc="none", mec=colour, mew=1.8)
