"""Stream: states kept from call to call, reset by row, saved, warmed up; step models on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from tests.streaming.models import BATCH, FEATURES, data, ready, x_in

pytestmark = pytest.mark.backends


@pytest.fixture
def model():
    return ready("rk two LSTM, dropout")


@pytest.fixture
def x():
    return np.random.default_rng(2).normal(size=(BATCH, 9, FEATURES)).astype("float32")


def run(stream, x):
    return np.stack([stream(x[:, t]) for t in range(x.shape[1])], 1)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_history_by_the_fast_path_then_on_by_steps(model, x):
    stream = rk.Stream(model, BATCH)
    wanted = run(stream, x)
    close(wanted[:, -1], model.predict(x, verbose=0))
    other = rk.Stream(model, BATCH)
    close(other.warm_up(x[:, :4]), wanted[:, 3])
    close(other.warm_up(x[:, 4:6]), wanted[:, 5])
    close(run(other, x[:, 6:]), wanted[:, 6:])
    for name, state in stream.states.items():
        close(other.states[name], state)


@pytest.mark.parametrize("name", ["cell of one's own, masked", "resets"])
def test_masks_and_resets_go_on_from_one_history_to_the_next(name):
    model = ready(name)
    inputs = data(model, 9)
    inputs["x"][:, 4:7] = 0  # the second history begins with masked steps, a reset in two rows
    stream, other = rk.Stream(model, BATCH), rk.Stream(model, BATCH)
    for part in ([0, 1, 2, 3], [4, 5], [6, 7, 8]):
        found = keras.tree.flatten(stream.warm_up({n: x[:, part] for n, x in inputs.items()}))
        steps = [keras.tree.flatten(other({n: x[:, t] for n, x in inputs.items()})) for t in part]
        for whole, each in zip(found, zip(*steps, strict=True), strict=True):
            close(whole, np.stack(each, 1) if whole.ndim == 3 else each[-1])
        for state, value in other.states.items():
            close(stream.states[state], value)


def test_rows_are_reset_apart(model, x):
    stream = rk.Stream(model, BATCH)
    run(stream, x[:, :5])
    stream.reset(samples=[1])
    found = run(stream, x[:, 5:])[:, -1]
    whole = model.predict(x, verbose=0)
    close(found[[0, 2]], whole[[0, 2]])
    close(found[1], model.predict(x[1:2, 5:], verbose=0)[0])
    stream.reset(samples=np.array([True, False, False]))
    assert not stream.states["lstm_h"][0].any()
    assert stream.states["lstm_h"][1:].any(axis=1).all()
    stream.reset(samples=[])
    assert stream.states["lstm_h"][1:].any(axis=1).all()
    stream.reset()
    assert not any(state.any() for state in stream.states.values())


def test_a_reset_goes_back_to_what_the_cell_begins_with():
    stream = rk.Stream(ready("rk RNN of a cell of one's own"), 2)
    run(stream, np.ones((2, 3, FEATURES), "float32"))
    stream.reset(samples=[-1])
    np.testing.assert_array_equal(stream.states["rnn_state_1"][1], np.full(3, 0.3, "float32"))
    assert (stream.states["rnn_state_1"][0] != 0.3).all()


def test_a_stream_begins_with_the_learned_states_and_goes_back_to_them(tmp_path):
    model = ready("learned starts and resets")
    inputs = {n: x[:, 0] for n, x in data(model, 1).items()}
    h, c, *_ = model.get_layer("lstm").get_weights()
    rk.step_model(model, copy=True).save(tmp_path / "step.keras")
    step = keras.saving.load_model(tmp_path / "step.keras")
    for stream in (rk.Stream(model, BATCH), rk.Stream(step, BATCH)):
        begin = stream.states
        np.testing.assert_array_equal(begin["lstm_h"], np.tile(h, (BATCH, 1)))
        np.testing.assert_array_equal(begin["lstm_c"], np.tile(c, (BATCH, 1)))
        stream(inputs)
        after = stream.states
        stream.reset([1])
        for name, state in stream.states.items():
            np.testing.assert_array_equal(state[1], begin[name][1])
            np.testing.assert_array_equal(state[[0, 2]], after[name][[0, 2]])
            assert (state[[0, 2]] != begin[name][[0, 2]]).any()
        stream.reset()
        for name, state in stream.states.items():
            np.testing.assert_array_equal(state, begin[name])
    stream = rk.Stream(model, start={"lstm_c": np.ones(4)})
    model.set_weights([w + 1 for w in model.get_weights()])
    stream.reset()  # to the weights as they are now, and to what was given
    np.testing.assert_allclose(stream.states["lstm_h"][0], h + 1, rtol=1e-6)
    np.testing.assert_array_equal(stream.states["lstm_c"][0], np.ones(4))


def test_states_are_saved_and_read_again(model, x, tmp_path):
    stream = rk.Stream(model, BATCH)
    run(stream, x[:, :5])
    stream.save(tmp_path / "states.npz")
    wanted = run(stream, x[:, 5:])
    other = rk.Stream(rk.step_model(model), BATCH)
    other.load(tmp_path / "states.npz")
    close(run(other, x[:, 5:]), wanted)
    held = {n: s.dtype for n, s in stream.states.items()}
    assert held == {n: s.dtype for n, s in np.load(tmp_path / "states.npz").items()}
    (tmp_path / "broken.npz").write_bytes((tmp_path / "states.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"broken\.npz is not a complete archive"):
        other.load(tmp_path / "broken.npz")
    with pytest.raises(ValueError, match=r"holds the states .*and not \['gru_h'\]"):
        rk.Stream(keras.Sequential([x_in(), rk.GRU(2, name="gru")])).load(tmp_path / "states.npz")
    with pytest.raises(ValueError, match=r"must have shape \(1, 5\); received \(3, 5\)"):
        rk.Stream(model).load(tmp_path / "states.npz")


def test_states_of_half_precision_are_saved(tmp_path):
    stream = rk.Stream(ready("mixed_bfloat16"))
    stream(np.ones((1, FEATURES), "float32"))
    before = stream.states
    stream.save(tmp_path / "states.npz")
    stream.reset()
    stream.load(tmp_path / "states.npz")
    for name, state in before.items():
        assert stream.states[name].dtype == state.dtype
        np.testing.assert_array_equal(
            stream.states[name].astype("float32"), state.astype("float32")
        )


def test_states_are_set_by_name(model, x):
    stream = rk.Stream(model, BATCH)
    run(stream, x[:, :5])
    states = stream.states
    wanted = run(stream, x[:, 5:])
    stream.states = states
    close(run(stream, x[:, 5:]), wanted)
    stream.states = {"lstm_c": np.ones(5)}
    np.testing.assert_array_equal(stream.states["lstm_c"], np.ones((BATCH, 5), "float32"))
    states["lstm_c"][:] = 7  # a copy
    assert (stream.states["lstm_c"] == 1).all()
    with pytest.raises(ValueError, match=r"name states of the model.*received \['gru_h'\]"):
        stream.states = {"gru_h": np.ones(5)}
    with pytest.raises(ValueError, match=r"'lstm_c' must have shape \(3, 5\); received \(2, 5\)"):
        stream.states = {"lstm_c": np.ones((2, 5))}


def test_a_start_that_the_model_takes_must_be_given():
    model = ready("initial states as inputs")
    with pytest.raises(ValueError, match=r"`start` must give the states \['h', 'c'\]"):
        rk.Stream(model)
    with pytest.raises(ValueError, match=r"`start` must give the states \['c'\]"):
        rk.Stream(model, start={"h": np.ones(3)})
    stream = rk.Stream(model, start={"h": np.ones(3), "c": np.zeros(3)})
    stream(np.ones((1, FEATURES), "float32"))
    stream.reset()
    np.testing.assert_array_equal(stream.states["h"], np.ones((1, 3)))


def test_inputs_that_do_not_fit_are_refused(model, x):
    stream = rk.Stream(model, BATCH)
    with pytest.raises(ValueError, match=r"shape \(3, 4\); received \(3, 9, 4\).*one time step"):
        stream(x)
    with pytest.raises(ValueError, match=r"shape \(3, 4\); received \(2, 4\)"):
        stream(x[:2, 0])
    with pytest.raises(ValueError, match=r"shape \(3, None, 4\); received \(3, 4\).*all time"):
        stream.warm_up(x[:, 0])
    with pytest.raises(ValueError, match=r"must give \['x'\]; received \['y'\]"):
        stream({"y": x[:, 0]})
    with pytest.raises(ValueError, match=r"`samples` must be indices below 3"):
        stream.reset(samples=[3])
    with pytest.raises(ValueError, match=r"`samples` must be indices below 3"):
        stream.reset(samples=[True, False])
    with pytest.raises(ValueError, match="`batch_size` must be a whole number from 1 on"):
        rk.Stream(model, 0)
    with pytest.raises(ValueError, match="was made from a step model"):
        rk.Stream(stream.step, BATCH).warm_up(x)
    several = rk.Stream(ready("several inputs and outputs"))
    with pytest.raises(ValueError, match="must be a dict with the inputs"):
        several(x[:1, 0])
    found = several({"x": x[:1, 0], "other": np.ones((1, 2), "float32")})
    assert {n: y.shape for n, y in found.items()} == {"each_step": (1, 1), "last": (1, 2)}


def test_variables_are_shared_or_copied(model):
    step, copied = rk.step_model(model), rk.step_model(model, copy=True)
    own = {id(v) for v in model.trainable_variables}
    assert {id(v) for v in step.trainable_variables} == own
    assert not own & {id(v) for v in copied.variables}
    feed = {n: np.ones((1, *t.shape[1:]), "float32") for n, t in step.input.items()}
    before = step.predict_on_batch(feed)
    close(copied.predict_on_batch(feed)["dense"], before["dense"])
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert not step.predict_on_batch(feed)["dense"].any()
    close(copied.predict_on_batch(feed)["dense"], before["dense"])
    fixed = rk.step_model(model, batch_size=2)
    assert {t.shape[0] for t in fixed.inputs} == {t.shape[0] for t in fixed.outputs} == {2}


DISK = ["rk two LSTM, dropout", "models inside", "a layer called twice", "wavenet"]
DISK += ["masks in and out of models inside", "stack, masked, last", "operations", "learned start"]
DISK += ["learned starts and resets"]
DISK = DISK if keras.backend.backend() == "tensorflow" else DISK[::2]
LATER = """
import json, sys
import keras, numpy as np
import keras_rnnkit as rk
import tests.streaming.models
folder = sys.argv[1]
for name in json.loads(sys.argv[2]):
    stream = rk.Stream(keras.saving.load_model(f"{folder}/{name}.keras"), 3)
    inputs = dict(np.load(f"{folder}/{name} inputs.npz"))
    steps = [stream({n: x[:, t] for n, x in inputs.items()}) for t in range(5)]
    found = [keras.tree.flatten(step)[-1] for step in steps]
    np.savez(f"{folder}/{name}.npz", found[-1], *stream.states.values())
"""


@pytest.mark.filterwarnings(r"ignore:[\s\S]*Layer 'inner' [\s\S]* does not support masking")
def test_a_step_model_is_loaded_in_a_new_process(tmp_path):
    wanted = {}
    for name in DISK:
        model = ready(name)
        # As if from a file itself, and so without what only the making of it knows.
        model.save(tmp_path / f"{name}.keras")
        model = keras.saving.load_model(tmp_path / f"{name}.keras")
        inputs = data(model, 5)
        np.savez(tmp_path / f"{name} inputs.npz", **inputs)
        stream = rk.Stream(model, BATCH)
        rk.step_model(model, copy=True).save(tmp_path / f"{name}.keras")
        steps = [stream({n: x[:, t] for n, x in inputs.items()}) for t in range(5)]
        outputs = [keras.tree.flatten(step)[-1] for step in steps]
        wanted[name] = [outputs[-1], *stream.states.values()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [sys.executable, "-c", LATER, str(tmp_path), json.dumps(DISK)]
    later = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert later.returncode == 0, later.stderr[-4000:]
    for name, values in wanted.items():
        found = np.load(tmp_path / f"{name}.npz")
        for one, expected in zip(found.values(), values, strict=True):
            close(one, expected)
