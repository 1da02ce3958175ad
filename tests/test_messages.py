"""What is said of a mistake: the argument, what it must be, what it is, and what to do."""

import warnings
import zipfile

import keras
import numpy as np
import pytest

import keras_rnnkit as rk

HOURS = np.datetime64("2024-01-01T00", "h") + np.arange(300)
ROWS = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
SPEC = rk.WindowSpec(4)
LAYERS = [rk.SimpleRNN, rk.LSTM, rk.GRU]
CELLS = [
    rk.SimpleRNNCell,
    rk.LSTMCell,
    rk.GRUCell,
    *(getattr(rk.cells, n) for n in rk.cells.__all__ if n != "Zoneout"),
]
X = np.ones((2, 5, 3), "float32")


def series(**options):
    return rk.TimeSeries(ROWS, names=["a", "b"], time=HOURS, **options)


@pytest.mark.backends
@pytest.mark.parametrize("made", [*LAYERS, *CELLS])
@pytest.mark.parametrize("units", ["4", 4.0, 0, -1, True, None])
def test_units_that_are_no_number_of_units(made, units):
    with pytest.raises(
        ValueError, match=f"`units` must be a positive whole number; received {units!r}"
    ):
        made(units)


FLAGS = {
    **{(made, name): lambda value, made=made, name=name: made(4, **{name: value})
       for made in (*LAYERS, lambda _, **options: rk.RNN(rk.cells.MinGRUCell(4), **options))
       for name in ("return_state_sequences", "save_states", "learn_initial_state")},
    **{(made, "return_state"): lambda value, made=made: made(4, return_state=value)
       for made in CELLS},
    ("set", "save_states"): lambda value: setattr(rk.GRU(4), "save_states", value),
    ("step_model", "copy"): lambda value: rk.step_model(
        keras.Sequential([keras.Input((5, 3)), rk.GRU(4)]), copy=value),
}  # fmt: skip


@pytest.mark.parametrize("value", ["yes", 1, None])
@pytest.mark.parametrize(("made", "name"), FLAGS)
def test_flags_are_true_or_false(made, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be True or False; received {value!r}"):
        FLAGS[made, name](value)


def test_flags_may_be_of_numpy():
    assert rk.LSTM(4, learn_initial_state=np.True_).get_config()["learn_initial_state"] is True


@pytest.mark.parametrize(
    ("cell", "rate", "count"),
    [
        (rk.LSTMCell(3), (0.1, 0.1, 0.1), 2),
        (rk.LSTMCell(3), [0.1], 2),
        (keras.layers.GRUCell(3), (0.1, 0.1), 1),
        (rk.cells.MinLSTMCell(3), (0.1, 0.1), 1),
    ],
)
def test_rates_that_are_not_one_a_state_are_told_when_zoneout_is_made(cell, rate, count):
    with pytest.raises(ValueError, match=f"`rate` must be one number, or {count}, one for each"):
        rk.cells.Zoneout(cell, rate)


def test_units_may_be_of_numpy():
    assert [made(np.int64(4)).units for made in (rk.LSTM, rk.GRUCell)] == [4, 4]


@pytest.mark.parametrize(
    ("made", "wrong", "meant"),
    [
        (rk.LSTM, "return_sequence", "return_sequences"),
        (rk.GRU, "return_state_sequence", "return_state_sequences"),
        (rk.SimpleRNN, "use_cuddn", "use_cudnn"),
        *((made, "drop_out", "dropout") for made in CELLS),
        (lambda **kw: rk.RNN(rk.LSTMCell(4), **kw), "return_sequence", "return_sequences"),
        (lambda **kw: rk.Bidirectional(rk.LSTM(4), **kw), "mergemode", "merge_mode"),
        (lambda **kw: rk.GloVeEmbedding({}, ["", "a"], **kw), "freezefound", "freeze_found"),
        (lambda **kw: rk.window_dataset(ROWS, SPEC, **kw), "batchsize", "batch_size"),
        (lambda **kw: rk.WindowLoader(ROWS, SPEC, **kw), "batchsize", "batch_size"),
        (lambda **kw: rk.window_report(ROWS, SPEC, **kw), "batchsize", "batch_size"),
    ],
)
def test_a_misspelt_argument_is_told_with_the_one_that_is_meant(made, wrong, meant):
    units = {} if not isinstance(made, type) else {"units": 4}
    with pytest.raises(
        TypeError, match=rf"^{wrong}= is no (argument of \w+|option)\. Did you mean {meant}=\?"
    ):
        made(**units, **{wrong: 1})


@pytest.mark.parametrize(
    "wrong",
    [keras.layers.Dense(4), rk.LSTMCell(4), 4, rk.Bidirectional(rk.GRU(4))],
    ids=["layer", "cell", "number", "bidirectional"],
)
def test_bidirectional_needs_a_recurrent_layer(wrong):
    with pytest.raises(ValueError, match="`layer` must be a recurrent layer"):
        rk.Bidirectional(wrong)
    with pytest.raises(ValueError, match="`backward_layer` must be a recurrent layer"):
        rk.Bidirectional(rk.GRU(4), backward_layer=wrong)


def test_rnn_needs_a_cell():
    with pytest.raises(ValueError, match=r"`cell` must be a cell.*received the layer <LSTM"):
        rk.RNN(rk.LSTM(4))


@pytest.mark.backends
@pytest.mark.parametrize("layer", [rk.LSTM(4), rk.RNN(rk.GRUCell(4)), rk.Bidirectional(rk.GRU(4))])
def test_lists_that_are_no_batch(layer):
    with pytest.raises(ValueError, match=r"sequences of 1 to 2 steps. Pad them"):
        layer([[[1.0], [1.0]], [[1.0]]])
    with pytest.raises(ValueError, match=r"received a list. Make it an array"):
        layer([[[1.0], [1.0]], [[1.0], [1.0]]])
    with pytest.raises(ValueError, match="take its first result"):
        layer([X, X])


@pytest.mark.backends
@pytest.mark.parametrize(
    "layer",
    [
        *(made(4) for made in LAYERS),
        rk.RNN(rk.GRUCell(4)),
        rk.RNN([rk.GRUCell(4), rk.LSTMCell(3)]),
        rk.RNN(rk.cells.MinGRUCell(4)),
        rk.Bidirectional(rk.GRU(4)),
        rk.Bidirectional(rk.RNN(rk.GRUCell(4))),
    ],
)
def test_another_number_of_features_than_before(layer):
    message = r"must have 3 features.*received shape \(2, 5, 4\)"
    layer(X)
    with pytest.raises(ValueError, match=message):
        layer(np.ones((2, 5, 4), "float32"))
    with pytest.raises(ValueError, match=message.replace("2,", "None,")):
        layer(keras.Input((5, 4)))
    copy = keras.Sequential([keras.Input((5, 3)), layer]).layers[0]
    assert copy(X).shape[0] == 2


@pytest.mark.backends
@pytest.mark.parametrize("made", [rk.LSTMCell, rk.GRUCell, rk.cells.PeepholeLSTMCell])
def test_a_cell_alone(made):
    cell = made(4)
    states = cell.get_initial_state(2)
    cell(X[:, 0], states)
    with pytest.raises(ValueError, match=r"must have 3 features.*received shape \(2, 5\)"):
        cell(np.ones((2, 5), "float32"), states)
    with pytest.raises(ValueError, match=r"must hold h.*received 3 of them"):
        cell(X[:, 0], [states[0]] * 3)


@pytest.mark.backends
@pytest.mark.parametrize("asked", ["return_state", "return_state_sequences"])
@pytest.mark.parametrize(
    "of",
    [
        rk.LSTM,
        lambda n, **kw: rk.RNN(rk.GRUCell(n), **kw),
        lambda n, **kw: rk.Bidirectional(rk.GRU(n, **kw)),
    ],
    ids=["LSTM", "RNN", "Bidirectional"],
)
def test_states_before_another_layer_of_a_sequential_model(of, asked):
    message = f"has {asked}=True.*functional API"
    with pytest.raises(ValueError, match=message):
        keras.Sequential([keras.Input((5, 3)), of(4, **{asked: True}), keras.layers.Dense(1)])
    model = keras.Sequential([keras.Input((5, 3)), of(4, **{asked: True})])
    assert len(model(X)) > 1  # the last layer may return several things
    with pytest.raises(ValueError, match=message):
        model.add(keras.layers.Dense(1))
    inputs = keras.Input((5, 3))
    output, *_ = of(4, **{asked: True})(inputs)
    assert keras.Model(inputs, keras.layers.Dense(1)(output))(X).shape == (2, 1)


def test_a_layer_that_a_trace_does_not_have():
    traced = rk.trace(rk.GRU(4, name="gru"), X, progress=False)
    with pytest.raises(KeyError, match=r"'lstm' is none of the layers in this trace: \['gru'\]"):
        traced["lstm"]


@pytest.fixture
def embedding(tmp_path):
    (tmp_path / "glove.txt").write_text("good 0.5 -1\nfilm 0.25 2\n")
    return rk.GloVeEmbedding(tmp_path / "glove.txt", ["", "[UNK]", "good", "film"])


@pytest.mark.backends
@pytest.mark.parametrize("kind", [list, np.array, lambda x: np.array(x, object)])
def test_tokens_are_no_rows(embedding, kind):
    with pytest.raises(ValueError, match="rows of words in the vocabulary; received text"):
        embedding(kind([["good", "film"]]))


@pytest.mark.backends
@pytest.mark.parametrize("freeze_found", [False, True])
def test_rows_beyond_the_vocabulary(embedding, freeze_found):
    layer = rk.GloVeEmbedding({"good": [1.0, 2.0]}, ["", "good"], freeze_found=freeze_found)
    model = keras.Sequential([layer, keras.layers.LSTM(2)])
    model(np.array([[1, 0]]))
    for called in (layer, model):
        with pytest.raises(ValueError, match="rows of the vocabulary, 0 to 1; received 7"):
            called(np.array([[1, 7]]))
    with pytest.raises(ValueError, match="received -1"):
        layer(np.array([[-1]]))
    with pytest.raises(ValueError, match=r"sequences of different lengths. Pad them"):
        layer([[1, 0], [1]])
    assert layer([[1, 0]]).shape == (1, 2, 2)


def test_a_path_of_vectors_is_looked_at_when_the_layer_is_made(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist. Give another path"):
        rk.GloVeEmbedding(tmp_path / "glove.txt", ["", "good"])
    with pytest.raises(IsADirectoryError, match=r"is a directory. Give a file in it"):
        rk.GloVeEmbedding(tmp_path, ["", "good"])


@pytest.mark.parametrize(
    "taker",
    [
        lambda parts: rk.window_dataset(parts, SPEC),
        lambda parts: rk.WindowLoader(parts, SPEC),
        lambda parts: rk.forecast_windows(parts, SPEC),
        lambda parts: rk.Scaler().fit(parts),
        lambda parts: rk.Scaler().fit(series()).transform(parts),
        lambda parts: rk.split(parts, train=0.5, val=0.2),
        lambda parts: next(rk.rolling_splits(parts, folds=2, val=0.1)),
        lambda parts: rk.resample(parts, "1h"),
        lambda parts: rk.to_frame(ROWS, parts, SPEC),
    ],
)
def test_a_split_is_no_series(taker):
    with pytest.raises(
        TypeError, match=r"received the Split of one. Pass a part of it: its \.train"
    ):
        taker(rk.split(series(), train=0.7, val=0.15))


def test_files_that_are_no_text(tmp_path):
    new, old, parquet = (tmp_path / name for name in ("a.xlsx", "a.xls", "a.parquet"))
    with zipfile.ZipFile(new, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    old.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512))
    parquet.write_bytes(b"PAR1" + bytes(64))
    for path in (new, old):
        for read in (rk.read_csv, rk.read_parquet):
            with pytest.raises(ValueError, match=r"is a spreadsheet.*pandas\.read_excel"):
                read(path)
    with pytest.raises(ValueError, match=r"is a Parquet file, no text. Read it with read_parquet"):
        rk.read_csv(parquet)


@pytest.mark.parametrize(
    ("of", "shares", "message"),
    [
        (
            series,
            {"train": 70, "val": 15},
            r"share between 0 and 1.*received 70. For 70 in a hundred, pass 0.7",
        ),
        (series, {"train": 70.0, "val": 0.1}, r"received 70.0. For 70.0 in a hundred, pass 0.7"),
        (
            lambda: ROWS,
            {"train": 70, "val": 15},
            "Whole numbers are rows here.*shares lie between 0 and 1",
        ),
        (
            lambda: ROWS,
            {"train": 70, "val": 800},
            "within the series, which goes from row 0 to row 300; received 800",
        ),
        (
            series,
            {"train": "2030-01-01", "val": "2031-01-01"},
            "from 2024-01-01 00:00:00 to 2024-01-13 11:00:00; received '2030-01-01'",
        ),
        (series, {"train": "2024-01-05", "val": "2030-01-01"}, "val= must end within the series"),
        (series, {"train": "2023-01-05", "val": "2024-01-10"}, "train= must end within the series"),
    ],
)
def test_parts_that_do_not_fit_the_series(of, shares, message):
    with pytest.raises(ValueError, match=message):
        rk.split(of(), **shares)


@pytest.mark.parametrize(
    ("times", "end"),
    [
        (HOURS, "2024-01-13T12"),
        (np.datetime64("2024-01", "M") + np.arange(300), "2049-01-01"),
        (np.datetime64("1900", "Y") + np.arange(300), "2200-01-01"),
        (np.cumsum(np.arange(300)), 44851),
        (None, 300),
    ],
)
def test_a_part_may_end_a_step_behind_the_last_row(times, end):
    options = {"freq": "rows"} if end == 44851 else {}
    one = rk.TimeSeries(ROWS, time=times, **options)
    middle = 200 if times is None else one.time[200]
    middle = int(middle) if isinstance(end, int) else middle
    assert rk.split(one, train=middle, val=end).val.target_rows.tolist() == [[200, 300]]


def shuffled_loader(**options):
    return rk.WindowLoader(ROWS, SPEC, batch_size=16, squeeze=True, **options)


@pytest.mark.backends
def test_fit_that_shuffles_a_loader():
    model = keras.Sequential([keras.Input((4, 2)), rk.GRU(2)])
    model.compile("sgd", "mse")
    keras.utils.set_random_seed(1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(shuffled_loader(), epochs=3, verbose=0)
    assert len([each for each in told if "shuffle=False" in str(each.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(shuffled_loader(shuffle=True), epochs=3, shuffle=False, verbose=0)
        model.predict(shuffled_loader(), verbose=0)
        loader = shuffled_loader()
        assert loader[3][0].shape == (16, 4, 2)
    spec = rk.WindowSpec(4, stride=4)
    ordered = rk.WindowLoader(ROWS, spec, batch_size=4, squeeze=True, stateful_batches=True)
    with pytest.raises(Exception, match="stateful_batches=True needs the batches in order"):
        model.fit(ordered, epochs=3, verbose=0)


def test_describe_tells_what_is_likely_a_mistake():
    large = rk.TimeSeries(ROWS * [1, 1000], names=["a", "b"], time=HOURS)
    told = str(rk.window_report(large, SPEC))
    assert "target b is not scaled and lies between -" in told
    assert "target a" not in told
    assert "not scaled" not in str(rk.window_report(large, SPEC, scaler=rk.Scaler().fit(large)))
    assert "b is not scaled" in str(
        rk.window_report(large, SPEC, scaler=rk.Scaler(names=["a"]).fit(large))
    )
    daily = str(rk.window_report(series(freq="1d"), SPEC))
    assert "freq is 1 D, and 299 of 299 rows do not follow" in daily
    assert "the commonest step is 1 h" in daily
    assert "step:" not in str(rk.window_report(series(), SPEC))
    assert "times: Europe/Berlin" in str(rk.window_report(series(zone="Europe/Berlin"), SPEC))


def test_describe_says_why_no_window_fits():
    found = rk.window_report(rk.split(series(), train=0.7, val=0.2), rk.WindowSpec(400))
    for name in ("train", "val", "test"):
        assert f"\n{name}: no window exists: lookback=400" in str(found)
        assert "the longest series has 300" in found.parts[name].reason
    assert rk.window_report(series(), SPEC).parts["all"].reason == ""
