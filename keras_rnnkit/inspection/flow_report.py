"""GradientFlow and LayerFlow: the result of gradient_flow, its verdict and its table."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

VANISHING, EXPLODING = 0.01, 100.0  # what is carried to the first step, of 1 at the last
FLOOR = 1e-30  # below it float32 begins to lose what is carried


@dataclass(frozen=True, eq=False)
class LayerFlow:
    r"""How a gradient changes on its way back through one recurrent layer.

    Factor, half-life and verdict are those of `carried`. Lags count the steps that are not masked,
    back from the last one of each sample in the order of processing; with `go_backwards`, and in a
    backward direction, they lead to later steps.

    Attributes:
        layer: Its key, as `trace` has it.
        norms: The gradient that arrives. For each state by name, (time,): the mean over the samples
            of the Euclidean norm of dLoss/dstate_t, at steps that are not masked; NaN if the step
            is masked in all samples. It is the total derivative: that by c_t includes its effect on
            h_t.
        fed: The part of it that enters h from the layers above, (time,): the same mean, of the
            derivative by the output of step t itself, without the way through later steps. At the
            last step that is all of it. What is read at a masked step counts for the step whose
            output it repeats; not so in Keras's own layers on JAX, which give the state there.
        carried: What the layer carries back, whatever the loss, (time,): the mean over the samples
            of :math:`\lVert \partial s_T / \partial s_t \rVert_F / \sqrt n`, where s are all
            n states of the cell and T is the last step of the sample: the root mean square by which
            a change of the states grows on its way to the last step; 1 at the last step itself.
        factor: By how much `carried` changes for each step back, 1 for no change: from a line
            fitted by least squares to its logarithm over the lag. NaN if there is only one step;
            0 if nothing is carried back.
        half_life: The lag, in steps, at which `carried` has first halved, interpolated between two
            steps; inf if it never does.
        verdict: `"vanishing"` if `carried` at the longest lag is below 0.01, `"exploding"` if it is
            above 100 or not finite, else `"steady"`; `"not measured"` for a cell that the model
            steps by itself, which has no norms either.
        note: What could not be measured, and why; empty otherwise.
    """

    layer: str
    norms: dict[str, np.ndarray]
    fed: np.ndarray
    carried: np.ndarray
    factor: float
    half_life: float
    verdict: str
    note: str = ""


class GradientFlow(Mapping[str, LayerFlow]):
    """The `LayerFlow` of every recurrent layer of a model; prints as a table.

    Attributes:
        layers: By key, in the order in which the layers run.
        loss: The loss.

    >>> import numpy as np
    >>> import keras_rnnkit as rk
    >>> layer = rk.SimpleRNN(2, activation="linear", recurrent_initializer="zeros", name="rnn")
    >>> flow = rk.gradient_flow(layer, np.ones((1, 5, 3), "float32"), np.zeros((1, 2)), "mse")
    >>> flow["rnn"].verdict
    'vanishing'
    """

    def __init__(self, layers: dict[str, LayerFlow], loss: float) -> None:
        self.layers = layers
        self.loss = loss

    def __getitem__(self, key: str) -> LayerFlow:
        """Return the flow of a layer."""
        if key not in self.layers:
            raise KeyError(f"{key!r} is none of {list(self.layers)}")
        return self.layers[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [
            (
                "layer",
                "verdict",
                "factor a step",
                "half-life",
                "carried to first and last step",
                "fed at",
                "gradient at first and last step",
            )
        ]
        for key, flow in self.layers.items():
            if not flow.norms:
                rows.append((key, flow.verdict, *[""] * 5))
                continue
            half_life = f"{flow.half_life:.1f} steps" if np.isfinite(flow.half_life) else "none"
            arrives = _ends(next(iter(flow.norms.values())))
            factor, carried = f"{flow.factor:.4f}", _ends(flow.carried)
            rows.append((key, flow.verdict, factor, half_life, carried, _where(flow.fed), arrives))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(
            [
                f"gradient of the loss {self.loss:.4g} by h, back in time",
                *lines,
                *(f"{key}: {flow.note}" for key, flow in self.layers.items() if flow.note),
                f"vanishing: below {VANISHING:g} of a gradient at the last step is carried to the "
                f"first; exploding: above {EXPLODING:g} times",
            ]
        )


def _ends(values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    return f"{known[0]:.2e}, {known[-1]:.2e}" if known.size else "none"


def _where(fed: np.ndarray) -> str:
    """The steps at which a gradient enters, in words."""
    steps = np.flatnonzero(fed > 0)
    if not steps.size:
        return "no step"
    if len(steps) == 1:
        return f"step {steps[0]}"
    known = np.count_nonzero(~np.isnan(fed))
    which = f"all {known} steps" if len(steps) == known else f"{len(steps)} of {known} steps"
    return f"{which}, most at {np.nanargmax(fed)}"


def judge(carried: np.ndarray) -> tuple[float, float, str]:
    """Return factor, half-life and verdict, as `LayerFlow` has them, of norms by lag."""
    if len(carried) < 2:
        return math.nan, math.inf, "steady"
    finite = np.isfinite(carried)
    lags = np.flatnonzero(finite & (carried > FLOOR))
    factor = math.exp(np.polyfit(lags, np.log(carried[lags]), 1)[0]) if lags.size > 1 else 0.0
    if not finite.all():
        return (factor if lags.size > 1 else math.inf), math.inf, "exploding"
    reach = carried[-1]
    verdict = "vanishing" if reach < VANISHING else "exploding" if reach > EXPLODING else "steady"
    return factor, _half_life(carried), verdict


def _half_life(norms: np.ndarray) -> float:
    half = norms[0] / 2
    below = np.flatnonzero(norms <= half)
    if not below.size:
        return math.inf
    before, after = norms[below[0] - 1], norms[below[0]]
    if after == 0:
        return float(below[0] - 1 + (before - half) / before)
    return float(below[0] - 1 + np.log(before / half) / np.log(before / after))
