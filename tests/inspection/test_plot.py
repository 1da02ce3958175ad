"""rk.plot: what is drawn is what was given, every text has its place, nothing else is touched."""

import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import keras
import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Polygon, Rectangle

import keras_rnnkit as rk
from keras_rnnkit.inspection.gradient_flow import GradientFlow, LayerFlow


@pytest.fixture(autouse=True)
def leave_settings_alone_and_close_figures():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


def lines(panel):
    return {line.get_label(): line for line in panel.lines if line.get_label()[0] != "_"}


def assert_texts_fit(figure):
    """No text runs over the figure's edge, and no two texts along an axis overlap."""
    figure.set_dpi(100)
    figure.canvas.draw()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    for panel in figure.axes:
        for axis, side in ((panel.xaxis, 0), (panel.yaxis, 1)):
            boxes = sorted(
                tuple(np.ravel(label.get_window_extent().intervalx if side == 0 else
                               label.get_window_extent().intervaly))
                for label in axis.get_ticklabels()
                if label.get_text() and label.get_visible()
            )  # fmt: skip
            for (_, end), (start, _) in pairwise(boxes):
                assert end <= start + 1, (panel, side)


HISTORY = {
    "loss": [0.9, 0.5, 0.3, 0.2],
    "val_loss": [0.8, 0.6, 0.7, 0.75],
    "acc": [0.5, 0.6, 0.8, 0.9],
    "val_acc": [0.5, 0.7, 0.6, 0.6],
}


def test_history_draws_training_and_validation_of_each_metric():
    axes = rk.plot.history(HISTORY)
    assert [panel.get_ylabel() for panel in axes] == ["loss", "acc"]
    for panel, metric in zip(axes, ("loss", "acc"), strict=True):
        drawn = lines(panel)
        np.testing.assert_array_equal(drawn["training"].get_ydata(), HISTORY[metric])
        np.testing.assert_array_equal(drawn["validation"].get_ydata(), HISTORY[f"val_{metric}"])
        np.testing.assert_array_equal(drawn["training"].get_xdata(), [1, 2, 3, 4])
        best = drawn["lowest val_loss, epoch 2"]
        assert (best.get_xdata()[0], best.get_ydata()[0]) == (2, HISTORY[f"val_{metric}"][1])
    assert_texts_fit(axes[0].figure)


def test_history_takes_what_fit_returns():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 3))
    log = model.fit(
        x, x[:, 0], validation_split=0.5, epochs=5, validation_freq=2, initial_epoch=1, verbose=0
    )
    drawn = lines(rk.plot.history(log, "loss"))
    np.testing.assert_array_equal(drawn["training"].get_xdata(), [2, 3, 4, 5])
    np.testing.assert_allclose(drawn["validation"].get_ydata(), log.history["val_loss"])
    assert drawn["training"].get_linestyle() != drawn["validation"].get_linestyle()


@pytest.mark.parametrize("frequency", [1, 2, 3, 4])
def test_history_puts_rare_validation_at_its_epochs(frequency):
    epochs = np.arange(frequency, 12, frequency)
    drawn = lines(rk.plot.history({"loss": np.ones(11), "val_loss": epochs}))
    np.testing.assert_array_equal(drawn["validation"].get_xdata(), epochs)


def test_history_compares_models():
    other = {"loss": [0.7, 0.6], "val_loss": [0.9, 0.8], "auc": [0.5, 0.6]}
    axes = rk.plot.history({"GRU": HISTORY, "LSTM": other}, ["loss", "auc"])
    drawn = lines(axes[0])
    np.testing.assert_array_equal(drawn["GRU"].get_ydata(), HISTORY["val_loss"])
    np.testing.assert_array_equal(drawn["LSTM"].get_ydata(), other["val_loss"])
    assert drawn["GRU"].get_color() != drawn["LSTM"].get_color()
    assert drawn["GRU"].get_marker() != drawn["LSTM"].get_marker()
    np.testing.assert_array_equal(lines(axes[1])["LSTM"].get_ydata(), other["auc"])
    assert "GRU" not in lines(axes[1])
    texts = [text.get_text() for text in axes[0].figure.legends[0].get_texts()]
    assert len(texts) == len(set(texts))
    assert_texts_fit(axes[0].figure)


def test_history_of_a_loss_that_explodes_has_a_logarithmic_axis():
    explodes = rk.plot.history({"loss": [1.0, 1e8, 1e20, np.nan]})
    assert explodes.get_yscale() == "log"
    assert rk.plot.history(HISTORY, "acc").get_yscale() == "linear"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "history= must be what fit"),
        ({"loss": []}, "after an epoch"),
        ({"GRU": {"loss": [1.0]}, "LSTM": 3}, r"history\['LSTM'\] must be what fit"),
        (SimpleNamespace(history={}, epoch=[]), "history= must be"),
    ],
)
def test_history_says_what_it_cannot_draw(wrong, message):
    with pytest.raises(ValueError, match=message):
        rk.plot.history(wrong)
    with pytest.raises(ValueError, match=r"metrics= must be among .*'acc'.*received \['f1'\]"):
        rk.plot.history(HISTORY, ["loss", "f1"])


def hourly_frame(backend="pandas", horizon=24, targets=("T (degC)",), groups=(0,)):
    hours = np.datetime64("2020-01-01T00", "s") + np.arange(120) * np.timedelta64(1, "h")
    values = np.sin(np.arange(120 * len(groups)))[:, np.newaxis] * (1 + np.arange(len(targets)))
    series = rk.TimeSeries(
        values,
        names=list(targets),
        time=np.tile(hours, len(groups)),
        group=np.repeat(groups, 120) if len(groups) > 1 else None,
    )
    spec = rk.WindowSpec(12, horizon=horizon, targets=list(targets))
    windows = (120 - 11 - horizon) * len(groups)
    rng = np.random.default_rng(0)
    predictions = rng.normal(size=(windows, horizon, len(targets)))
    return rk.to_frame(predictions, series, spec, backend=backend), series, predictions


@pytest.mark.parametrize("backend", ["pandas", "polars", "pyarrow"])
def test_forecast_draws_a_line_for_each_horizon_step(backend):
    frame, series, predictions = hourly_frame(backend)
    panel = rk.plot.forecast(frame, steps=[1, 6, 24])
    drawn = lines(panel)
    assert list(drawn) == [
        "truth",
        "prediction, 1 h ahead",
        "prediction, 6 h ahead",
        "prediction, 1 day ahead",
    ]
    np.testing.assert_allclose(
        drawn["truth"].get_ydata(), series.values[12:, 0], rtol=1e-6, atol=1e-7
    )
    for step, label in ((1, "1 h"), (6, "6 h"), (24, "1 day")):
        line = drawn[f"prediction, {label} ahead"]
        np.testing.assert_allclose(line.get_ydata(), predictions[:, step - 1, 0])
        times = line.get_xdata(orig=True).astype("datetime64[s]")
        np.testing.assert_array_equal(times, series.time[11 + step :][: len(times)])
    assert len({str(line.get_linestyle()) for line in list(drawn.values())[1:]}) == 3
    assert panel.get_ylabel() == "T (degC)"
    assert_texts_fit(panel.figure)


def test_forecast_draws_the_first_and_the_last_step_by_default():
    frame, *_ = hourly_frame()
    assert list(lines(rk.plot.forecast(frame)))[1:] == [
        "prediction, 1 h ahead",
        "prediction, 1 day ahead",
    ]


def test_forecast_draws_whole_forecasts_from_their_origins():
    frame, _, predictions = hourly_frame()
    panel = rk.plot.forecast(frame, origins=3, units="°C")
    paths = [line for line in panel.lines if len(line.get_ydata()) == 24]
    for path, window in zip(paths, (0, 42, 84), strict=True):
        np.testing.assert_allclose(path.get_ydata(), predictions[window, :, 0])
    assert panel.get_ylabel() == "T (°C)"
    assert sum(line.get_label() == "origin" for line in panel.lines) == 1
    with pytest.raises(ValueError, match=r"origins= .* of several steps, received 2 for"):
        rk.plot.forecast(hourly_frame(horizon=1)[0], origins=2)
    with pytest.raises(ValueError, match="steps= has no meaning"):
        rk.plot.forecast(frame, origins=2, steps=1)


def test_forecast_has_a_panel_for_each_group_and_target():
    frame, *_ = hourly_frame(targets=("T (degC)", "p"), groups=("Jena", "Ulm"), horizon=1)
    axes = rk.plot.forecast(frame, units={"p": "mbar"})
    assert [panel.get_title() for panel in axes] == [
        "Jena, T (degC)",
        "Jena, p",
        "Ulm, T (degC)",
        "Ulm, p",
    ]
    assert [panel.get_ylabel() for panel in axes] == ["T (degC)", "p (mbar)"] * 2
    assert_texts_fit(axes[0].figure)
    one = rk.plot.forecast(frame, group="Ulm", target="p", last=10)
    kept = frame[(frame["group"] == "Ulm") & (frame["target"] == "p")]
    np.testing.assert_allclose(
        lines(one)["prediction, 1 h ahead"].get_ydata(), kept["prediction"].to_numpy()[-10:]
    )
    with pytest.raises(ValueError, match=r"group= must be among 'Jena', 'Ulm', received"):
        rk.plot.forecast(frame, group=["Ulm", "Kiel"])
    with pytest.raises(ValueError, match=r"steps= must be among 1, received \[2\]"):
        rk.plot.forecast(frame, steps=2)
    with pytest.raises(ValueError, match="last= must be a number of windows from 1 on, received 0"):
        rk.plot.forecast(frame, last=0)
    many, *_ = hourly_frame(groups=tuple("abcdefghi"), horizon=1)
    with pytest.raises(ValueError, match="9 panels: choose 8 at most"):
        rk.plot.forecast(many)


def test_forecast_takes_arrays_with_any_number_of_forecasts():
    rows = np.arange(20)
    panel = rk.plot.forecast(
        {"time": rows, "truth": rows * 2.0, "persistence": rows * 1.5, "GRU": rows * 2.1}
    )
    drawn = lines(panel)
    assert list(drawn) == ["truth", "persistence", "GRU"]
    np.testing.assert_array_equal(drawn["GRU"].get_ydata(), rows * 2.1)
    assert panel.get_xlabel() == "row"
    ahead = rows[:, np.newaxis] + [1, 2, 3]
    panel = rk.plot.forecast({"time": ahead, "truth": ahead * 1.0, "GRU": -ahead, "origin": rows})
    assert list(lines(panel)) == ["truth", "GRU, 1 row ahead", "GRU, 3 rows ahead"]
    np.testing.assert_array_equal(lines(panel)["GRU, 3 rows ahead"].get_ydata(), -rows - 3)
    panel = rk.plot.forecast({"time": ahead, "truth": ahead * 1.0, "GRU": -ahead}, origins=2)
    np.testing.assert_array_equal(lines(panel)["GRU"].get_ydata(), [-1, -2, -3])


def test_forecast_draws_no_line_over_a_gap():
    time = np.concatenate([np.arange(10), np.arange(40, 50)])
    line = lines(rk.plot.forecast({"time": time, "truth": time, "GRU": time}))["GRU"]
    values = np.asarray(line.get_ydata())
    assert np.flatnonzero(np.isnan(values)).tolist() == [10]
    np.testing.assert_array_equal(values[~np.isnan(values)], time)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"time": [1, 2], "GRU": [1.0, 2.0]}, "data= lacks truth"),
        ({"time": [1, 2], "truth": [1.0, 2.0]}, "column of forecasts"),
        ({"time": [1, 2, 3], "truth": [1.0, 2.0], "GRU": [1.0, 2.0]}, r"'time': \(3,\)"),
        ({"time": [], "truth": [], "GRU": []}, "a window at least"),
        (np.ones(3), "what to_frame returns, or a mapping of arrays .* received ndarray"),
        (pd.DataFrame({"GRU": [1.0]}), "data= lacks time and truth"),
        (pl.DataFrame({"time": [1], "truth": [1.0], "name": ["x"]}), "column of forecasts"),
    ],
)
def test_forecast_says_what_it_cannot_draw(data, message):
    with pytest.raises(ValueError, match=message):
        rk.plot.forecast(data)


def lstm_trace(time=40, units=6, mask=None):
    rng = np.random.default_rng(1)
    states = {name: rng.normal(size=(3, time, units)) for name in ("h", "c")}
    gates = {name: rng.uniform(size=(3, time, units)) for name in "ifgo"}
    gates["g"] = gates["g"] * 2 - 1
    return rk.inspection.Trace("memory", "LSTM", states["h"], states, gates, mask, "")


WORDS = np.array([f"word{step}" for step in range(40)])
TIMES = np.datetime64("2020-02-28T00:00", "m") + np.arange(40) * np.timedelta64(60, "m")


@pytest.mark.parametrize("labels", [None, WORDS, WORDS.tolist(), TIMES], ids=str)
@pytest.mark.parametrize("units", [1, 6, 64])
def test_trace_draws_states_and_gates(labels, units):
    traced = lstm_trace(units=units)
    axes = rk.plot.trace(traced, sample=-1, labels=labels)
    assert [panel.get_ylabel()[0] for panel in axes] == list("hcifgo")
    for panel, (name, values) in zip(axes, {**traced.states, **traced.gates}.items(), strict=True):
        (image,) = panel.images
        np.testing.assert_allclose(image.get_array(), values[-1].T)
        low, high = image.get_clim()
        if name in "ifo":
            assert (low, high) == (0, 1)
        else:
            assert (low, high) == (-np.abs(values[-1]).max(), np.abs(values[-1]).max())
    assert_texts_fit(axes[0].figure)


def test_trace_labels_steps_with_words_and_times():
    traced = lstm_trace()
    panel = rk.plot.trace(traced, "h", labels=WORDS)
    assert [label.get_text() for label in panel.get_xticklabels()] == WORDS.tolist()
    panel = rk.plot.trace(traced, "h", labels=TIMES)
    at = dict(zip((t.get_text() for t in panel.get_xticklabels()), panel.get_xticks(), strict=True))
    assert at["Feb-29"] == 24
    long = rk.plot.trace(lstm_trace(time=500), "h", labels=np.arange(500).astype(str))
    ticks = long.get_xticks()
    assert len(ticks) < 50
    assert [label.get_text() for label in long.get_xticklabels()] == [str(t) for t in ticks]


def test_trace_draws_chosen_names_and_units():
    traced = lstm_trace()
    axes = rk.plot.trace(traced, ["c", "output"], units=[4, 1])
    np.testing.assert_allclose(axes[0].images[0].get_array(), traced.states["c"][0][:, [4, 1]].T)
    np.testing.assert_allclose(axes[1].images[0].get_array(), traced.output[0][:, [4, 1]].T)
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["4", "1"]
    assert rk.plot.trace(traced, "h", units=2).images[0].get_array().shape == (1, 40)


def test_trace_hatches_masked_steps():
    mask = np.ones((3, 40), bool)
    mask[1, :2] = mask[1, 10] = mask[1, 31:] = False
    panel = rk.plot.trace(lstm_trace(mask=mask), "h", sample=1)
    spans = [patch for patch in panel.patches if patch.get_hatch()]
    covered = np.zeros(40, bool)
    for span in spans:
        box = span.get_extents().transformed(panel.transData.inverted())
        covered[round(box.x0 + 0.5) : round(box.x1 + 0.5)] = True
    np.testing.assert_array_equal(covered, ~mask[1])
    assert all(isinstance(span, (Polygon, Rectangle)) for span in spans)
    assert not rk.plot.trace(lstm_trace(mask=mask), "h", sample=0).patches
    nothing = rk.plot.trace(lstm_trace(mask=np.zeros((3, 40), bool)), "h")
    assert len(nothing.patches) == 1


def test_trace_names_the_first_step_that_is_not_finite():
    traced = lstm_trace()
    traced.states["c"][0, 17:, 2] = np.nan
    traced.states["c"][0, 20:] = np.inf
    panel = rk.plot.trace(traced, "c")
    assert panel.get_title("right") == "c is not finite from step 17"
    assert np.isfinite(panel.images[0].get_clim()).all()
    assert rk.plot.trace(traced, "h").get_title("right") == ""


def test_trace_gives_gates_that_leave_their_range_an_axis_of_their_own():
    traced = lstm_trace()
    traced.gates["i"][0, 0, 0] = -3
    assert rk.plot.trace(traced, "i").images[0].get_clim() == (-3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["h", "z"]}, r"names= must be among \['output', 'h', 'c', 'i'.*\['z'\]"),
        ({"sample": 3}, "sample= must be one of the 3 samples, received 3"),
        ({"units": [6]}, "units= must be among the 6 units"),
        ({"labels": ["a"]}, r"a label for each of the 40 steps, received shape \(1,\)"),
        ({"ax": [1, 2]}, r"one Axes for each panel, 6 here \(h, c, i, f, g, o\), received 2"),
    ],
)
def test_trace_says_what_it_cannot_draw(options, message):
    with pytest.raises(ValueError, match=message):
        rk.plot.trace(lstm_trace(), **options)
    with pytest.raises(ValueError, match=r"Trace of one layer, received dict, holding \['gru'\]"):
        rk.plot.trace({"gru": lstm_trace()})


def layer_flow(name="gru", factor=0.9, time=50, verdict="vanishing", states=("h",)):
    carried = factor ** np.arange(time, dtype=float)[::-1]
    norms = {state: 2.0 * 0.95 ** np.arange(time)[::-1] for state in states}
    fed = np.where(np.arange(time) % 10 == 9, 0.5, 0)
    half_life = np.log(0.5) / np.log(factor) if factor < 1 else np.inf
    return LayerFlow(name, norms, fed, carried, factor, half_life, verdict)


def rings(panel):
    return [line for line in panel.lines if line.get_markersize() == 10]


def test_gradient_flow_draws_what_is_carried_and_what_arrives():
    layers = {
        "gru": layer_flow(),
        "lstm": layer_flow("lstm", 0.99, verdict="steady", states=("h", "c")),
        "simple": layer_flow("simple", 1.2, verdict="exploding"),
    }
    carried, arrives = rk.plot.gradient_flow(GradientFlow(layers, 0.5))
    drawn = lines(carried)
    assert list(drawn) == [
        "gru: vanishing (factor 0.9, half-life 6.6)",
        "lstm: steady (factor 0.99, half-life 69)",
        "simple: exploding (factor 1.2)",
    ]
    assert carried.get_yscale() == arrives.get_yscale() == "log"
    for line, layer in zip(drawn.values(), layers.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), layer.carried)
    (ring,) = rings(carried)
    np.testing.assert_allclose(ring.get_xdata(), 49 - layers["gru"].half_life)
    np.testing.assert_allclose(ring.get_ydata(), 0.5)  # half of what is carried to the last step
    assert len({str(line.get_linestyle()) for line in drawn.values()}) == 3
    assert list(lines(arrives)) == ["lstm, c", "fed from above"]
    long = [line.get_ydata() for line in arrives.lines if len(line.get_ydata()) == 50]
    np.testing.assert_allclose(long, [layers["gru"].norms["h"]] * 4)
    fed = [line for line in arrives.lines if len(line.get_ydata()) == 5]
    assert [line.get_xdata().tolist() for line in fed] == [[9, 19, 29, 39, 49]] * 3
    assert_texts_fit(carried.figure)


def test_gradient_flow_of_a_layer_that_runs_backwards_has_its_ring_behind_the_first_step():
    flow = layer_flow()
    flow.carried[:] = flow.carried[::-1].copy()
    flow.carried[:3] = np.nan  # masked
    (ring,) = rings(rk.plot.gradient_flow(flow)[0])
    np.testing.assert_allclose(ring.get_xdata(), 3 + flow.half_life)


def test_gradient_flow_draws_a_gradient_that_died_out():
    dead = layer_flow(time=20)
    for values in (dead.carried, dead.norms["h"]):
        values[:5] = 0
        values[5] = np.nan
    for panel in rk.plot.gradient_flow(dead):
        values = panel.lines[0].get_ydata()
        assert np.isnan(values[:6]).all()
        assert np.isfinite(values[6:]).all()
    dead.norms["h"][:] = dead.fed[:] = 0
    assert np.isnan(rk.plot.gradient_flow(dead)[1].lines[0].get_ydata()).all()
    with pytest.raises(ValueError, match=r"flow= must be what rk\.gradient_flow returns"):
        rk.plot.gradient_flow(np.ones(3))


@pytest.mark.backends
def test_what_trace_and_gradient_flow_return_is_drawn():
    words = keras.Input((12,), dtype="int32")
    embedded = keras.layers.Embedding(20, 4, mask_zero=True)(words)
    both = keras.layers.Bidirectional(keras.layers.LSTM(3, name="lstm"), name="both")(embedded)
    model = keras.Model(words, keras.layers.Dense(1)(both))
    x = np.random.default_rng(0).integers(1, 20, (4, 12))
    x[:, 8:] = 0
    for traced in rk.trace(model, x).values():
        axes = rk.plot.trace(traced, sample=1)
        for panel, name in zip(axes, [*traced.states, *traced.gates], strict=True):
            drawn = panel.images[0].get_array()[:, :8]
            np.testing.assert_allclose(drawn, traced[name][1, :8].T)
            assert panel.patches[0].get_hatch()
            assert panel.get_title("right") == ""
        assert_texts_fit(axes[0].figure)
    flow = rk.gradient_flow(model, x, np.zeros((4, 1)), "mse")
    carried, arrives = rk.plot.gradient_flow(flow)
    drawn = [line.get_ydata() for line in arrives.lines if len(line.get_ydata()) == 12]
    wanted = [norms for layer in flow.values() for norms in layer.norms.values()]
    np.testing.assert_allclose(drawn, np.where(np.equal(wanted, 0), np.nan, wanted))
    drawn = [line.get_ydata() for line in carried.lines if len(line.get_ydata()) == 12]
    np.testing.assert_allclose(drawn, [layer.carried for layer in flow.values()])
    assert_texts_fit(carried.figure)


@pytest.mark.parametrize(
    ("draw", "count"),
    [
        (lambda ax: rk.plot.history(HISTORY, ax=ax), 2),
        (lambda ax: rk.plot.history(HISTORY, "loss", ax=ax), 1),
        (lambda ax: rk.plot.forecast(hourly_frame()[0], ax=ax), 1),
        (lambda ax: rk.plot.trace(lstm_trace(), ["h", "c"], ax=ax), 2),
        (lambda ax: rk.plot.gradient_flow(layer_flow(), ax=ax), 2),
    ],
)
def test_each_draws_on_the_axes_it_is_given_and_returns_them(draw, count):
    figure, axes = plt.subplots(count, 1, layout="constrained", figsize=(7, 6))
    open_before = plt.get_fignums()
    assert draw(axes) is axes
    assert plt.get_fignums() == open_before
    assert all(panel.has_data() for panel in np.ravel(axes))
    assert_texts_fit(figure)
    _, wrong = plt.subplots(count + 1)
    with pytest.raises(ValueError, match=rf"ax= must hold one Axes .* {count} here"):
        draw(wrong)


def test_without_matplotlib_an_error_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import keras_rnnkit as rk\n"
        "try: rk.plot.history({'loss': [1.0]})\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip().endswith("pip install 'keras-rnnkit[plot]'"), run.stderr
