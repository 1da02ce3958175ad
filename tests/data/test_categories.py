"""Categories: whole numbers kept whole to an Embedding, and text coded by a saved vocabulary."""

import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import keras_rnnkit as rk
from tests.data.drawn_cases import cases, examples, made

# ---- whole numbers in windows


def parts_of(batch, spec):
    """Inputs by name, and the other parts."""
    inputs, *others = batch if isinstance(batch, tuple) else (batch,)
    return (inputs if isinstance(inputs, dict) else {"past": inputs}), others


@pytest.mark.parametrize("make", [rk.WindowLoader, rk.window_dataset])
@examples(60, share=0.05)
@given(cases(policies=["drop"]), st.data())
def test_categories_are_the_same_cells_in_int32(make, case, data):
    """Whatever the roles: the columns that are categories move to inputs of their own."""
    numbers = case.numbers
    if make is rk.window_dataset:
        assume(data.draw(st.integers(0, 4)) == 0)  # a graph each takes its time
    roles = {"past": numbers.features, "known": numbers.known, "static": numbers.static}
    every = sorted({name for names in roles.values() for name in names})
    codes = data.draw(st.sets(st.sampled_from(every), min_size=1))
    length = len(case.spec.input_offsets)
    spec = replace(
        case.spec, targets=list(numbers.targets), pad=data.draw(st.integers(0, length - 1))
    )
    plain = made(rk.WindowLoader, case.series, spec, batch_size=99)
    coded = made(make, case.series, replace(spec, categories=sorted(codes)), batch_size=99)
    assert (plain is None) == (coded is None)
    assume(plain is not None)
    before, others = parts_of(plain[0], spec)
    batch = coded[0] if make is rk.WindowLoader else next(coded.as_numpy_iterator())
    after, same = parts_of(batch, spec)
    for one, other in zip(others, same, strict=True):
        assert np.array_equal(one, other)
    expected = {"mask": before["mask"]} if "mask" in before else {}
    for role, names in roles.items():
        for name, chosen in ((role, False), (f"{role}_categories", True)):
            columns = [at for at, column in enumerate(names) if (column in codes) == chosen]
            if columns:
                expected[name] = before[role][..., columns]
    assert after.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(after[name], values)
        kind = bool if name == "mask" else np.int32 if name.endswith("categories") else np.float32
        assert after[name].dtype == kind


def coded_series(mapped=None):
    values = np.column_stack([np.arange(8.0), [3, 3, 40, 40, 3, 3, 40, 3], np.repeat(70.0, 8)])
    if mapped is not None:
        np.save(mapped / "rows.npy", values)
        values = mapped / "rows.npy"
    return rk.TimeSeries(values, names=["x", "kind", "shop"])


SPEC = rk.WindowSpec(
    3, features=["x", "kind"], targets=["x"], static=["shop"], categories=["kind", "shop"]
)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_scaler_and_half_precision_leave_categories_whole(mapped, tmp_path):
    series = coded_series(tmp_path if mapped else None)
    scaler = rk.Scaler(names=["x", "kind", "shop"]).fit(series)
    inputs, _ = rk.WindowLoader(series, SPEC, scaler=scaler, dtype="bfloat16")[0]
    assert inputs["past_categories"][0].tolist() == [[3], [3], [40]]
    assert inputs["static_categories"].tolist() == [[70]] * 5
    assert abs(float(inputs["past"].mean())) < 0.5
    report = rk.window_report(series, SPEC, scaler=scaler)
    assert report.scaled == ("x",)
    assert report.unscaled == ("kind", "shop")


def test_a_missing_category_drops_its_windows_under_every_policy():
    series = coded_series()
    series.values[2, 1] = np.nan
    for missing in ("drop", "mask"):
        _, _, index = rk.WindowLoader(series, SPEC, missing=missing, return_index=True)[0]
        assert index["input_row"].tolist() == [5, 6]


@pytest.mark.parametrize("value", [-1.0, 2.5, 2.0**24])
def test_what_is_no_category_is_refused(value):
    series = coded_series()
    series.values[5, 1] = value
    with pytest.raises(ValueError, match=r"categories= names 'kind', which holds .* in row 5"):
        rk.WindowLoader(series, SPEC)


def test_categories_need_a_role():
    with pytest.raises(ValueError, match=r"categories= names 'kind', which is none of"):
        rk.WindowLoader(coded_series(), replace(SPEC, features=["x"]))


def test_an_embedding_takes_them():
    loader = rk.WindowLoader(coded_series(), SPEC, squeeze=True)
    past = keras.Input((3, 1), name="past")
    kinds = keras.Input((3, 1), dtype="int32", name="past_categories")
    shop = keras.Input((1,), dtype="int32", name="static_categories")
    steps = keras.layers.Concatenate()([past, keras.layers.Embedding(41, 2)(kinds[..., 0])])
    hidden = keras.layers.Concatenate()(
        [rk.GRU(3)(steps), keras.layers.Embedding(71, 2)(shop[:, 0])]
    )
    inputs = {"past": past, "past_categories": kinds, "static_categories": shop}
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(loader, shuffle=False, verbose=0).history["loss"]).all()


# ---- text


@pytest.mark.parametrize(
    "labels",
    [
        ["sun", None, "rain", "sun"],
        np.array(["sun", "", "rain", "sun"]),
        pd.Series(["sun", None, "rain", "sun"]),
        pd.Series(["sun", pd.NA, "rain", "sun"], dtype="string"),
        pd.Series(["sun", np.nan, "rain", "sun"], dtype="category"),
        pl.Series(["sun", None, "rain", "sun"]),
    ],
)
def test_text_is_coded_in_sorted_order(labels):
    codes = rk.data.Categories().fit(["sun", "rain", "snow"]).encode(labels)
    assert codes.tolist() == [3, 0, 1, 3]
    assert codes.dtype == np.int64


def test_whole_numbers_are_coded_too_and_come_back():
    shops = rk.data.Categories(unseen=False).fit(np.array([700, 30, 700]))
    assert (shops.size, shops.encode([700.0, 30]).tolist()) == (2, [1, 0])
    assert shops.decode(np.array([1, 0])) == [700, 30]
    assert repr(shops) == "Categories(2: 30, 700)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.encode(["sun", "fog"]), r"holds 'fog' in row 1 .* no place for it"),
        (lambda c: c.encode([None]), r"holds None in row 0"),
        (lambda c: c.decode([2]), r"codes= must be from 0 to 1, received 2"),
        (lambda c: c.fit([1.5]), r"must be text or whole numbers, received 1.5 in row 0"),
        (lambda c: c.fit(["a", 1]), r"text and numbers"),
        (lambda c: c.fit([None]), r"holds no label"),
        (lambda c: c.fit("sun"), r"must be a list or column"),
        (lambda c: rk.data.Categories().encode(["a"]), r"not fitted"),
    ],
)
def test_what_has_no_place_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(rk.data.Categories(unseen=False).fit(["rain", "sun"]))


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("labels", [["b", "ä", "a"], [3, 1, 2]])
def test_categories_come_back_from_a_file(labels, unseen, tmp_path):
    path = tmp_path / "categories.json"
    categories = rk.data.Categories(unseen=unseen).fit(labels)
    categories.save(path)
    again = rk.data.Categories.load(path)
    assert again.labels == categories.labels
    assert again.encode(labels).tolist() == categories.encode(labels).tolist()
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "labels": [*content["labels"], 9]}))
    with pytest.raises(ValueError, match="holds no categories that"):
        rk.data.Categories.load(path)
