"""window_dataset: values, order, shapes, shards, checkpoints, against brute force and Keras."""

import dataclasses
import gc
import resource
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_rnnkit as rk
from keras_rnnkit.data.batches import find_windows, resolve
from tests.data.brute_force import panels, segment_numbers, specs, window_rows, window_starts


@pytest.fixture(scope="module", autouse=True)
def tensorflow_backend():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data is TensorFlow's; the loader's tests run on every backend")


def rows_series(rows=200, columns=3, **options):
    values = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    return rk.TimeSeries(values, **options)


def gather(dataset):
    """Every element of an epoch, its parts joined along the batch axis."""
    batches = [tf.nest.flatten(element) for element in dataset.as_numpy_iterator()]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


@settings(max_examples=40)
@given(
    panel=panels(),
    spec=specs(),
    targets=st.sampled_from([[0, 1], [1], [1, 0]]),
    batch_size=st.integers(1, 7),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**40),
)
def test_dataset_and_loader_show_every_window_once(panel, spec, targets, batch_size, shuffle, seed):
    groups, times, whole = panel
    values = np.arange(len(groups) * 2, dtype=np.float64).reshape(-1, 2)
    values[~np.array(whole), 1] = np.nan
    if not any(whole):
        return
    series = rk.TimeSeries(values, time=times, group=groups, freq=1)
    spec = dataclasses.replace(spec, targets=[str(column) for column in targets])
    numbers = segment_numbers(groups, times, 1, [True] * len(groups))
    starts = window_starts(numbers, [(0, len(series))], spec, whole)
    options = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed, "return_index": True}
    if not starts:
        with pytest.raises(ValueError, match="no window exists"):
            rk.window_dataset(series, spec, **options)
        return
    dataset = rk.window_dataset(series, spec, **options)
    loader = rk.WindowLoader(series, spec, **options)
    assert len(dataset) == len(loader) == -(-len(starts) // batch_size)
    for _ in range(2):
        seen = []
        for number, (inputs, shown, index) in enumerate(dataset.as_numpy_iterator()):
            for mine, theirs in zip(
                (inputs, shown, *index.values()),
                (loader[number][0], loader[number][1], *loader[number][2].values()),
                strict=True,
            ):
                assert np.array_equal(mine, theirs)
            for window in range(len(inputs)):
                start = int(index["input_row"][window] - spec.last_input)
                seen.append(start)
                input_rows, target_rows = window_rows(start, spec)
                assert np.array_equal(inputs[window], values[input_rows].astype(np.float32))
                expected = values[np.ix_(target_rows, targets)].astype(np.float32)
                assert np.array_equal(shown[window], expected)
                assert index["target_rows"][window].tolist() == target_rows
                assert index["group"][window] == groups[start]
        assert sorted(seen) == starts
        assert shuffle or seen == starts
        loader.epoch += 1


def test_shapes_are_static_and_cardinality_is_known():
    spec = rk.WindowSpec(12, step=3, horizon=2, targets=["0"])
    dataset = rk.window_dataset(rows_series(), spec, batch_size=32)
    inputs, targets = dataset.element_spec
    assert inputs.shape == (None, 4, 3)
    assert inputs.dtype == tf.float32
    assert targets.shape == (None, 2, 1)
    full = rk.window_dataset(rows_series(), spec, batch_size=32, drop_remainder=True)
    assert full.element_spec[0].shape == (32, 4, 3)
    assert dataset.cardinality() == 6
    assert full.cardinality() == 5
    assert sum(len(inputs) for inputs, _ in full.as_numpy_iterator()) == 160


def test_squeeze_drops_target_axes_of_length_one_alone():
    spec = rk.WindowSpec(5, targets=["1"])
    (_, squeezed) = rk.window_dataset(rows_series(), spec, batch_size=8, squeeze=True).element_spec
    assert squeezed.shape == (None,)
    spec = rk.WindowSpec(5, targets=["1"], horizon=3)
    (_, squeezed) = rk.window_dataset(rows_series(), spec, batch_size=8, squeeze=True).element_spec
    assert squeezed.shape == (None, 3)


def epoch_order(dataset):
    return gather(dataset)[0][:, 0, 0]


@pytest.mark.parametrize("windows", [10_000, 65_537])
def test_each_epoch_is_a_new_permutation_of_all_windows(windows):
    series = rk.TimeSeries(np.arange(windows, dtype=np.float32))
    spec = rk.WindowSpec(1, targets=())
    dataset = rk.window_dataset(series, spec, batch_size=512, shuffle=True, seed=3)
    first, second = epoch_order(dataset), epoch_order(dataset)
    for order in (first, second):
        assert np.array_equal(np.sort(order), np.arange(windows))
        assert abs(np.corrcoef(order, np.arange(windows))[0, 1]) < 0.05
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    # A buffer of eight batches would leave a window near its place.
    assert np.abs(first - np.arange(windows)).mean() > windows / 4


ORDER = """
import sys, numpy as np, tensorflow as tf, keras_rnnkit as rk
tf.random.set_seed(int(sys.argv[1]))
dataset = rk.window_dataset(
    np.arange(300.0), rk.WindowSpec(1, targets=()), batch_size=50, shuffle=True, seed=11
)
for _ in range(2):
    print([int(x) for batch in dataset for x in batch[:, 0, 0]])
"""


def test_same_seed_gives_the_same_order_in_a_new_process():
    dataset = rk.window_dataset(
        np.arange(300.0), rk.WindowSpec(1, targets=()), batch_size=50, shuffle=True, seed=11
    )
    here = [str(epoch_order(dataset).astype(int).tolist()) for _ in range(2)]
    there = subprocess.run(
        [sys.executable, "-c", ORDER, "5"], capture_output=True, text=True, check=True
    )
    assert there.stdout.splitlines() == here
    other = rk.window_dataset(
        np.arange(300.0), rk.WindowSpec(1, targets=()), batch_size=50, shuffle=True, seed=12
    )
    assert str(epoch_order(other).astype(int).tolist()) not in here


def test_seed_defaults_to_the_one_of_keras():
    def order():
        dataset = rk.window_dataset(
            np.arange(100.0), rk.WindowSpec(1, targets=()), batch_size=100, shuffle=True
        )
        return epoch_order(dataset).tolist()

    keras.utils.set_random_seed(1)
    first, second = order(), order()
    keras.utils.set_random_seed(1)
    assert order() == first != second


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("windows", [64, 67])
def test_shards_are_equally_long_and_complete(windows, shuffle):
    spec = rk.WindowSpec(1, targets=())
    values = np.arange(windows, dtype=np.float32)

    def shards(**options):
        datasets = [
            rk.window_dataset(
                values, spec, batch_size=8, shuffle=shuffle, seed=2, shard=(4, index), **options
            )
            for index in range(4)
        ]
        return [[epoch_order(dataset).tolist() for dataset in datasets] for _ in range(2)]

    for epoch in shards():
        assert {len(shard) for shard in epoch} == {-(-windows // 4)}
        together = [window for shard in epoch for window in shard]
        assert set(together) == set(range(windows))
        # Where the shards do not divide the windows, as few come up twice as can be.
        assert len(together) - len(set(together)) == -windows % 4
    for epoch in shards(drop_remainder=True):
        assert {len(shard) for shard in epoch} == {windows // 4 // 8 * 8}
        together = [window for shard in epoch for window in shard]
        assert len(together) == len(set(together))


def test_balance_shows_each_group_equally_often():
    sizes = [300, 30, 7]
    group = np.repeat([0, 1, 2], sizes)
    series = rk.TimeSeries(np.arange(sum(sizes), dtype=np.float32), group=group)
    spec = rk.WindowSpec(1, targets=())
    dataset = rk.window_dataset(
        series, spec, batch_size=16, shuffle=True, seed=1, balance=True, return_index=True
    )
    shown = set()
    for _ in range(6):
        inputs, groups, *_ = gather(dataset)
        assert np.bincount(groups).tolist() == [113, 113, 113]
        windows = inputs[:, 0, 0].astype(int)
        assert np.array_equal(group[windows], groups)
        for position, size in enumerate(sizes):
            times = np.unique(windows[groups == position], return_counts=True)[1]
            assert times.max() == -(-113 // size)
            assert len(times) == min(size, 113)
        shown |= set(windows[groups == 0].tolist())
    assert len(shown) > 200


CONTINUE = """
import sys, numpy as np, tensorflow as tf, keras_rnnkit as rk
dataset = rk.window_dataset(
    np.arange(300.0), rk.WindowSpec(3, targets=()), batch_size=16, shuffle=True, seed=4
)
iterator = iter(dataset)
tf.train.Checkpoint(iterator=iterator).restore(sys.argv[1])
print([int(x) for batch in iterator for x in batch[:, 0, 0]])
print([int(x) for batch in dataset for x in batch[:, 0, 0]])
"""


def test_a_restored_iterator_continues_exactly_in_a_new_process(tmp_path):
    dataset = rk.window_dataset(
        np.arange(300.0), rk.WindowSpec(3, targets=()), batch_size=16, shuffle=True, seed=4
    )
    list(dataset)
    iterator = iter(dataset)
    for _ in range(7):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "iterator"))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000
    rest = [int(x) for batch in iterator for x in batch[:, 0, 0]]
    following = epoch_order(dataset).astype(int).tolist()
    assert len(rest) == 298 - 7 * 16
    run = subprocess.run(
        [sys.executable, "-c", CONTINUE, path], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [str(rest), str(following)]


@pytest.mark.parametrize(("limit", "width"), [(60, tf.int64), (61, tf.int32)])
def test_many_numbers_are_read_by_wider_indices(monkeypatch, limit, width):
    """The kernel counts numbers: 2**31 of them in fewer rows need as wide an index."""
    monkeypatch.setattr("keras_rnnkit.data.dataset.INT32_ELEMENTS", limit)
    widths = set()
    gather = tf.gather_nd

    def noted(values, index):
        widths.add(index.dtype)
        return gather(values, index)

    monkeypatch.setattr(tf, "gather_nd", noted)
    rows = np.arange(60.0).reshape(30, 2)
    dataset = rk.window_dataset(rows, rk.WindowSpec(4, step=2), batch_size=32)
    inputs, targets = next(dataset.as_numpy_iterator())
    assert widths == {width}
    assert np.array_equal(inputs, rows[np.arange(27)[:, None] + [0, 2]])
    assert np.array_equal(targets[:, 0], rows[3:])


def test_roles_come_as_named_inputs():
    group = np.repeat(["a", "b"], 20)
    frame = np.column_stack([np.arange(40.0), np.arange(40.0) % 7, np.repeat([5.0, 6.0], 20)])
    series = rk.TimeSeries(frame, names=["load", "weekday", "size"], group=group)
    spec = rk.WindowSpec(4, horizon=3, targets=["load"], known=["weekday"], static=["size"])
    dataset = rk.window_dataset(series, spec, batch_size=8, return_index=True)
    for inputs, targets, index in dataset.as_numpy_iterator():
        assert inputs["past"].shape[1:] == (4, 1)
        rows = index["target_rows"]
        assert np.array_equal(inputs["known"][:, :, 0], frame[rows, 1])
        assert np.array_equal(targets[:, :, 0], frame[rows, 0])
        assert np.array_equal(inputs["static"][:, 0], frame[rows[:, 0], 2])
    changing = rk.WindowSpec(4, targets=["load"], static=["weekday"])
    with pytest.raises(ValueError, match="'weekday', which changes within group 'a' \\(row 1\\)"):
        rk.window_dataset(series, changing, batch_size=8)


def test_masks_come_behind_the_columns():
    values = np.arange(20.0).reshape(-1, 1)
    values[7] = np.nan
    series = rk.TimeSeries(values, names=["T"])
    scaler = rk.Scaler().fit(series)
    spec = rk.WindowSpec(4)
    dataset = rk.window_dataset(series, spec, batch_size=32, missing="mask", scaler=scaler)
    inputs, targets = next(dataset.as_numpy_iterator())
    assert inputs.shape == (15, 4, 2)
    assert np.isfinite(inputs).all()
    assert np.isfinite(targets).all()
    assert inputs[:, :, 1].sum() == 4
    assert (inputs[:, :, 0][inputs[:, :, 1] == 1] == 0).all()
    lost = r"5 windows read a missing value \('T' lacks 1 rows, the first of them row 7\)"
    with pytest.raises(ValueError, match=lost):
        rk.window_dataset(series, spec, batch_size=32, missing="error")


@pytest.mark.parametrize("make", [rk.window_dataset, rk.WindowLoader])
def test_whatever_is_missing_is_masked(make):
    frame = np.column_stack([np.arange(20.0), np.full(20, 3.0), np.repeat([np.nan, 8.0], 10)])
    frame[3, 0], frame[4, 0], frame[12, 0] = np.inf, -np.inf, np.nan
    frame[0, 1] = frame[15, 1] = np.nan
    group = np.repeat(["a", "b"], 10)
    series = rk.TimeSeries(frame, names=["load", "floor", "size"], group=group)
    spec = rk.WindowSpec(2, targets=["load"], static=["floor", "size"])
    batch, *_ = next(iter(make(series, spec, batch_size=32, missing="mask", return_index=True)))
    past, static = (np.asarray(batch[name]) for name in ("past", "static"))
    assert np.isfinite(past).all()
    # A group's constant is known from the rows that have it.
    assert static[0].tolist() == [3, 0, 0, 1]
    assert static[-1].tolist() == [3, 8, 0, 0]
    assert past[:3].tolist() == [[[0, 0], [1, 0]], [[0, 1], [0, 1]], [[0, 1], [5, 0]]]
    dropped = rk.window_dataset(series, spec, batch_size=32)
    assert all(np.isfinite(x).all() for x in tf.nest.flatten(next(dropped.as_numpy_iterator())))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_numbers_too_large_to_store_are_refused(dtype):
    frame = np.arange(40.0).reshape(20, 2)
    frame[7, 1] = {"float16": 1e6}.get(dtype, 1e39)
    series = rk.TimeSeries(frame, names=["T", "p"])
    with pytest.raises(ValueError, match=rf"column 'p' holds 1e\+\d+, more than {dtype} can"):
        rk.window_dataset(series, rk.WindowSpec(2), batch_size=4, dtype=dtype)
    scaler = rk.Scaler().fit(series)
    dataset = rk.window_dataset(series, rk.WindowSpec(2), batch_size=4, dtype=dtype, scaler=scaler)
    assert all(np.isfinite(inputs).all() for inputs, _ in dataset.as_numpy_iterator())


def test_weights_are_the_mean_over_the_target_rows():
    time = np.datetime64("2024-01-01", "s") + np.arange(30) * np.timedelta64(1, "h")
    series = rk.TimeSeries(np.arange(30.0), time=time)
    spec = rk.WindowSpec(4, horizon=3)
    weights = np.linspace(0, 1, 30)

    def by_time(times):
        return (times - times[0]) / (times[-1] - times[0])

    for given_weights in (weights, by_time):
        dataset = rk.window_dataset(
            series, spec, batch_size=8, weights=given_weights, return_index=True
        )
        for _, _, shown, index in dataset.as_numpy_iterator():
            mean = weights[index["target_rows"]].mean(axis=1, keepdims=True)
            assert shown == pytest.approx(mean, rel=1e-5)
    for wrong, message in (
        (weights[:-1], "one weight for each of 30 rows"),
        (-weights, "not negative, received -"),
        (np.full(30, np.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            rk.window_dataset(series, spec, batch_size=8, weights=wrong)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_storage_halves_the_memory_and_keeps_the_values(dtype):
    values = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    spec = rk.WindowSpec(12, step=3, targets=["0"])
    full = gather(rk.window_dataset(values, spec, batch_size=64))
    half = gather(rk.window_dataset(values, spec, batch_size=64, dtype=dtype))
    assert half[0].dtype == np.float32
    assert half[0] == pytest.approx(full[0], rel=2**-8)
    assert not np.array_equal(half[0], full[0])
    assert np.array_equal(half[1], full[1])
    assert rk.window_report(values, spec).parts["all"].bytes_held == 300 * 4 * 4
    # The targets, which lie among the features, are kept apart in full precision.
    assert rk.window_report(values, spec, dtype=dtype).parts["all"].bytes_held == 300 * (4 * 2 + 4)


@pytest.mark.parametrize("by_group", [False, True])
def test_scaling_inside_the_dataset_equals_scaling_before(by_group):
    generator = np.random.default_rng(1)
    values = generator.normal(5, [1, 10], size=(90, 2))
    group = np.repeat(["a", "b"], [50, 40])
    series = rk.TimeSeries(values, names=["x", "y"], group=group)
    scaler = rk.Scaler(by_group=by_group).fit(series)
    spec = rk.WindowSpec(7, step=2, horizon=2, horizon_step=2, targets=["y"])
    inside = gather(rk.window_dataset(series, spec, batch_size=16, scaler=scaler))
    before = gather(rk.window_dataset(scaler.transform(series), spec, batch_size=16))
    for a, b in zip(inside, before, strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-6)
    assert inside[0].std() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("by_group", [False, True])
def test_a_memory_map_is_read_where_it_is(tmp_path, by_group):
    generator = np.random.default_rng(2)
    values = generator.normal(3, 2, size=(400, 3)).astype(np.float32)
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    group = np.repeat(["a", "b"], 200)
    names = ["x", "y", "z"]
    spec = rk.WindowSpec(12, step=3, features=["x", "z"], targets=["y"], horizon=2)
    series = rk.TimeSeries(mapped, names=names, group=group)
    assert np.shares_memory(series.values, mapped)
    scaler = rk.Scaler(by_group=by_group).fit(series)
    options = {"batch_size": 32, "scaler": scaler, "shuffle": True, "seed": 1}
    from_map = gather(rk.window_dataset(series, spec, **options))
    in_memory = gather(
        rk.window_dataset(rk.TimeSeries(values, names=names, group=group), spec, **options)
    )
    for a, b in zip(from_map, in_memory, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    report = rk.window_report(series, spec, scaler=scaler)
    assert report.parts["all"].bytes_held == 0


def test_a_map_off_its_boundary_is_copied_with_a_warning(tmp_path):
    values = np.arange(60, dtype=np.float32).reshape(30, 2)
    path = tmp_path / "rows.raw"
    path.write_bytes(b"header!!" + values.tobytes())
    mapped = np.memmap(path, dtype=np.float32, mode="r", offset=8, shape=(30, 2))
    with pytest.warns(UserWarning, match="64-byte boundary"):
        dataset = rk.window_dataset(mapped, rk.WindowSpec(4), batch_size=8)
    assert np.array_equal(gather(dataset)[0][:, 0], values[:26])


def test_a_map_whose_file_was_cut_is_refused(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((1000, 4), dtype=np.float32))
    mapped = np.load(path, mmap_mode="r")
    with path.open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(ValueError, match="cut to 4,096 bytes since it was mapped"):
        rk.window_dataset(mapped, rk.WindowSpec(4), batch_size=8)


def test_targets_are_aligned_by_row_unlike_the_peer():
    """With row-aligned targets Keras's function silently gives the window's first row."""
    data = np.arange(20.0)
    peer = keras.utils.timeseries_dataset_from_array(data, data, sequence_length=5)
    _, first_row = next(iter(peer))
    assert first_row.numpy()[0] == 0.0
    _, targets = gather(rk.window_dataset(data, rk.WindowSpec(5, delay=1), batch_size=4))
    assert targets[:, 0, 0].tolist() == list(range(5, 20))


def test_windows_equal_the_peers_where_it_is_right():
    data = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    peer = keras.utils.timeseries_dataset_from_array(
        data[:-1], data[8:], sequence_length=3, sampling_rate=4, sequence_stride=2
    )
    spec = rk.WindowSpec(12, step=4, delay=0, stride=2)
    mine = gather(rk.window_dataset(data, spec, batch_size=32))
    theirs = gather(peer)
    assert np.array_equal(mine[0][: len(theirs[0])], theirs[0])
    assert np.array_equal(mine[1][: len(theirs[1]), 0], theirs[1])
    assert len(mine[0]) - len(theirs[0]) in (0, 1)


def test_keras_trains_on_it_epoch_by_epoch():
    data = np.sin(np.arange(400) / 5).astype(np.float32)
    spec = rk.WindowSpec(20)
    dataset = rk.window_dataset(data, spec, batch_size=32, shuffle=True, seed=0)
    inputs = keras.Input(dataset.element_spec[0].shape[1:])
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GRU(4)(inputs)))
    model.compile("adam", "mse")
    history = model.fit(dataset, epochs=2, shuffle=False, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    assert model.predict(dataset, verbose=0).shape == (380, 1)


@pytest.mark.parametrize(
    ("series", "spec", "options", "message"),
    [
        (np.arange(9.0), rk.WindowSpec(10), {}, "reach over 11 rows, and the longest series has 9"),
        (
            np.arange(50.0),
            rk.WindowSpec(4),
            {"batch_size": 0},
            "batch_size= must be a whole number",
        ),
        (
            np.arange(50.0),
            rk.WindowSpec(4),
            {"batch_size": 64, "drop_remainder": True},
            "batch_size=64 is larger than the 46 windows",
        ),
        (
            np.arange(50.0),
            rk.WindowSpec(4, targets=["x"]),
            {},
            "targets= names 'x'.*columns are: '0'",
        ),
        (np.arange(50.0), rk.WindowSpec(4), {"shard": (2, 2)}, "index must be below its count"),
        (np.arange(50.0), rk.WindowSpec(4), {"shard": 3}, "shard= must be \\(count, index\\)"),
        (np.arange(50.0), rk.WindowSpec(4), {"missing": "fill"}, "missing= must be one of 'drop'"),
        (np.arange(50.0), rk.WindowSpec(4), {"dtype": "int8"}, "dtype= must be one of 'float32'"),
        (
            np.arange(50.0),
            rk.WindowSpec(4),
            {"seed": -1},
            "seed= must be a whole number of at least",
        ),
        (np.arange(50.0), 4, {}, "spec= must be a WindowSpec, received int"),
        (
            np.arange(50.0),
            rk.WindowSpec(4),
            {"weights": lambda times: times},
            "function of time, and the series has no times",
        ),
    ],
)
def test_wrong_input_is_refused_at_once(series, spec, options, message):
    with pytest.raises(ValueError, match=message):
        rk.window_dataset(series, spec, **{"batch_size": 8, **options})


def test_a_missing_window_says_what_stands_in_its_way():
    values = np.arange(60.0)
    time = np.arange(60)
    broken = np.delete(np.arange(60), [20, 40])
    with pytest.raises(ValueError, match="longest segment has 20 \\(2 gaps in time"):
        rk.window_dataset(
            rk.TimeSeries(values[broken], time=time[broken]), rk.WindowSpec(25), batch_size=8
        )
    values[[20, 40]] = np.nan
    lost = r"each of the 35 that fit reads a missing value \('0' lacks 2 rows, the first .* row 20"
    with pytest.raises(ValueError, match=lost):
        rk.window_dataset(rk.TimeSeries(values), rk.WindowSpec(25), batch_size=8)
    part = rk.TimeSeries(np.arange(60.0)).with_target_rows([[0, 5]])
    with pytest.raises(ValueError, match="do not fit the 5 rows that this part may predict"):
        rk.window_dataset(part, rk.WindowSpec(25), batch_size=8)
    one_row = rk.TimeSeries(np.arange(31.0), group=[0] * 30 + [1])
    report = rk.window_report(one_row, rk.WindowSpec(10)).parts["all"]
    assert (report.windows, report.groups_without_window) == (20, 1)


def test_known_columns_that_end_before_the_horizon_give_no_window():
    values = np.column_stack([np.arange(30.0), np.arange(30.0)])
    values[20:, 1] = np.nan
    series = rk.TimeSeries(values, names=["T", "plan"])
    spec = rk.WindowSpec(20, horizon=2, features=["T"], targets=["T"], known=["plan"])
    with pytest.raises(ValueError, match="each of the 9 that fit reads a missing value"):
        rk.window_dataset(series, spec, batch_size=4)
    starts = find_windows(series, resolve(series, rk.WindowSpec(15, known=["plan"])), "drop")
    assert len(starts) == 5


def test_an_array_on_an_odd_boundary_is_copied_not_fatal():
    buffer = np.zeros(4 * 100 + 4, dtype=np.uint8)
    odd = buffer[4:].view(np.float32)
    assert odd.ctypes.data % 64
    odd[:] = np.arange(100)
    dataset = rk.window_dataset(odd, rk.WindowSpec(2, targets=()), batch_size=99)
    assert np.array_equal(gather(dataset)[0][:, 0, 0], np.arange(99))


def test_axes_of_length_one_are_squeezed_but_for_the_batch():
    spec = rk.WindowSpec(3, horizon=2)
    for horizon, targets, shape in ((2, 2, (2, 2)), (2, 1, (2,)), (1, 2, (2,)), (1, 1, ())):
        spec = rk.WindowSpec(3, horizon=horizon, targets=["0", "1"][:targets])
        rows = np.random.default_rng(0).random((3 + horizon + 5, 2))
        dataset = rk.window_dataset(rows, spec, batch_size=5, squeeze=True)
        assert dataset.element_spec[1].shape.as_list() == [None, *shape]
        assert [len(targets) for _, targets in dataset] == [5, 1]


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_groups_shorter_than_a_step_are_scaled_too(length):
    rows = np.random.default_rng(0).random(32 + length)
    series = rk.TimeSeries(rows, group=np.repeat(["a", "b", "c"], [16, length, 16]))
    spec = rk.WindowSpec(8, step=4)
    scaler = rk.Scaler().fit(series)
    dataset = rk.window_dataset(series, spec, batch_size=99, scaler=scaler, return_index=True)
    inputs, _, index = next(dataset.as_numpy_iterator())
    read = rows[index["input_row"][:, None] + [-4, 0]]
    assert inputs[:, :, 0] == pytest.approx((read - rows.mean()) / rows.std(), abs=1e-5)


def test_target_rows_are_told_where_there_are_no_targets():
    spec = rk.WindowSpec(3, delay=2, horizon=3, targets=())
    assert spec.target_rows([0]).tolist() == [[4, 5, 6]]
    dataset = rk.window_dataset(np.arange(10.0), spec, batch_size=4, return_index=True)
    assert next(dataset.as_numpy_iterator())[1]["target_rows"][0].tolist() == [4, 5, 6]
    with pytest.raises(ValueError, match=r"weights= are those of target rows, and"):
        rk.window_dataset(np.arange(10.0), spec, batch_size=4, weights=np.ones(10))


def test_a_target_is_not_known_ahead():
    for role in ("known", "static"):
        with pytest.raises(ValueError, match=rf"{role}= names load, which has another role"):
            rk.WindowSpec(5, features=["x"], targets=["load"], **{role: ["load"]})


def test_a_feature_may_be_known_ahead_too():
    rows = np.random.default_rng(0).random((30, 2))
    series = rk.TimeSeries(rows, names=["load", "plan"])
    spec = rk.WindowSpec(4, step=2, horizon=3, features=["load", "plan"], known=["plan"])
    assert spec.roles(series.names).targets == ("load",)
    loader = rk.WindowLoader(series, spec, batch_size=50, return_index=True)
    inputs, targets, index = loader[0]
    read = index["input_row"][:, None] + [-2, 0]
    assert np.array_equal(inputs["past"], rows[read].astype(np.float32))
    assert np.array_equal(inputs["known"], rows[index["target_rows"]][:, :, 1:].astype(np.float32))
    assert np.array_equal(targets, rows[index["target_rows"]][:, :, :1].astype(np.float32))


def test_weights_of_gathered_rows_are_refused():
    series = rk.TimeSeries(np.arange(6.0), group=list("ababab"))
    with pytest.raises(ValueError, match=r"weights=: the series has reordered its rows by group"):
        rk.window_dataset(series, rk.WindowSpec(1), batch_size=9, weights=np.arange(6.0))
    timed = rk.TimeSeries(np.arange(6.0), group=list("ababab"), time=[0, 0, 1, 1, 2, 2])
    dataset = rk.window_dataset(timed, rk.WindowSpec(1), batch_size=9, weights=lambda time: time)
    assert next(dataset.as_numpy_iterator())[2].ravel().tolist() == [1, 2, 1, 2]


def test_a_map_in_half_precision_is_scaled_in_single(tmp_path):
    rows = (990 + np.random.default_rng(0).normal(0, 3, (2000, 1))).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    scaler = rk.Scaler().fit(rows)
    spec = rk.WindowSpec(2, targets=())
    held, mapped = (
        next(rk.window_dataset(source, spec, batch_size=1999, scaler=scaler).as_numpy_iterator())
        for source in (rows, tmp_path / "rows.npy")
    )
    assert mapped == pytest.approx(held, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 4, "seed": 2**63}, ValueError, r"seed= must be below 2\*\*63"),
        ({"batch_size": 4, "scaler": "x"}, TypeError, "scaler= must be a Scaler, received str"),
    ],
)
def test_options_that_do_not_fit_are_named(options, error, message):
    with pytest.raises(error, match=message):
        rk.window_dataset(np.arange(10.0), rk.WindowSpec(2), **options)


def test_gaps_that_may_be_none_are_named():
    weekdays = np.array([1, 2, 3, 4, 5, 8, 9, 10, 11, 12])
    series = rk.TimeSeries(np.arange(10.0), time=weekdays)
    with pytest.raises(ValueError, match=r"or make the series with freq='rows'"):
        rk.window_dataset(series, rk.WindowSpec(7), batch_size=4)


def counted(epoch=0):
    return rk.window_dataset(
        np.arange(300.0),
        rk.WindowSpec(1, targets=()),
        batch_size=10,
        shuffle=True,
        seed=4,
        epoch=epoch,
    )


@pytest.mark.parametrize(
    ("step", "batches"),
    [
        (lambda data, _: data.cache(), 30),
        (lambda data, folder: data.cache(str(folder / "cache")), 30),
        (lambda data, folder: data.snapshot(str(folder / "snapshot")), 30),
        (lambda data, _: data.rebatch(20), 15),
        (lambda data, _: data.window(3).flat_map(lambda part: part), 30),
        (lambda data, _: data.prefetch(2), 30),
    ],
    ids=["cache", "cache to a file", "snapshot", "rebatch", "window", "prefetch"],
)
def test_the_steps_of_tf_data_follow(step, batches, tmp_path):
    # Keras warns where it has to count.
    data = step(counted(), tmp_path).apply(tf.data.experimental.assert_cardinality(batches))
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mae")
    model.fit(data.map(lambda x: (x, x[:, 0])), epochs=2, shuffle=False, verbose=0)
    shown = [x[:, 0, 0] for x in data.as_numpy_iterator()]
    assert len(shown) == batches
    assert np.array_equal(np.sort(np.concatenate(shown)), np.arange(300))


@pytest.mark.parametrize("step", ["cache", "rebatch", "prefetch", "symbolic"])
def test_a_checkpoint_after_such_a_step_continues(step, tmp_path):
    def made(epoch):
        data = counted(epoch)
        if step == "symbolic":
            asked = tf.data.Options()
            asked.experimental_symbolic_checkpoint = True
            return data.with_options(asked)
        return {"cache": data.cache, "rebatch": lambda: data.rebatch(20)}.get(
            step, lambda: data.prefetch(2)
        )()

    data = made(0)
    list(data)
    iterator = iter(data)
    for _ in range(3):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "iterator"))
    if step == "symbolic":
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000
    expected = [x.numpy().tolist() for x in iterator]
    # Symbolic checkpoints hold places: the epoch under way is said.
    resumed = iter(made(1 if step == "symbolic" else 0))
    tf.train.Checkpoint(iterator=resumed).restore(path)
    assert [x.numpy().tolist() for x in resumed] == expected


def test_the_rows_of_a_dataset_that_is_gone_are_given_back():
    def resident():
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        pytest.skip("reads /proc")
    rows = np.zeros((1_000_000, 8), np.float32)
    sizes = []
    for _ in range(13):
        dataset = rk.window_dataset(rows, rk.WindowSpec(4), batch_size=32, shuffle=True)
        next(iter(dataset))
        del dataset
        gc.collect()
        sizes.append(resident())
    # Each holds 32 MB.
    assert max(sizes) - sizes[0] < 64 * 2**20


def test_a_map_that_is_gone_is_closed(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((1000, 4), np.float32))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    held = weakref.ref(mapped)
    dataset = rk.window_dataset(mapped, rk.WindowSpec(4), batch_size=8)
    next(iter(dataset))
    del mapped, dataset
    gc.collect()
    assert held() is None
