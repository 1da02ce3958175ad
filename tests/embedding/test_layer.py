"""The layer: filled wherever it is built, exact under training, whole after a reload."""

import copy
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_rnnkit as rk

VOCABULARY = ["", "[UNK]", "the", "dgo", "cat"]
ROWS = np.array([[0, 0], [0, 0], [0.5, -1], [0, 0], [0.25, 2]], dtype="float32")
FREE = [1, 3]
FOUND = [0, 2, 4]
IDS = np.array([[2, 4, 3, 1, 0], [4, 4, 1, 0, 0]])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 0.5 -1\ncat 0.25 2\n")
    return path


def embedding(file, vocabulary=VOCABULARY, **options):
    return rk.GloVeEmbedding(file, vocabulary, **options)


def rows_of(layer):
    return ops.convert_to_numpy(layer.embeddings)


def classifier(layer):
    return keras.Sequential(
        [layers.Input((None,), dtype="int32"), layer, layers.LSTM(3), layers.Dense(1)]
    )


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.embedding = layer
        self.head = layers.Dense(1)

    def call(self, ids):
        return self.head(ops.mean(self.embedding(ids), axis=1))


def fit(model, optimizer="adam", epochs=3, ids=IDS):
    model.compile(optimizer, "mse")
    model.fit(np.repeat(ids, 4, axis=0), np.ones((8, 1)), epochs=epochs, batch_size=4, verbose=0)


@pytest.mark.backends
@pytest.mark.parametrize("freeze_found", [False, True])
def test_a_negative_index_is_not_the_last_row_in_compiled_code(file, freeze_found):
    layer = embedding(file, freeze_found=freeze_found)
    layer(IDS)
    wrong = ops.convert_to_tensor(np.array([[-1, 2]]))
    if keras.backend.backend() == "jax":
        import jax

        rows = ops.convert_to_numpy(jax.jit(lambda ids: layer(ids))(wrong))
        assert np.isnan(rows[0, 0]).all()
        np.testing.assert_array_equal(rows[0, 1], ROWS[2])
    elif keras.backend.backend() == "torch":
        with pytest.raises(ValueError, match=r"rows of the vocabulary, 0 to 4; received -1"):
            layer(wrong)
    else:
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError):
            tf.function(layer)(wrong)


@pytest.mark.backends
@pytest.mark.parametrize("freeze_found", [False, True])
def test_the_same_rows_wherever_it_is_built(file, freeze_found):
    direct = embedding(file, freeze_found=freeze_found)
    np.testing.assert_array_equal(ops.convert_to_numpy(direct(IDS)), ROWS[IDS])
    np.testing.assert_array_equal(ops.convert_to_numpy(direct.compute_mask(IDS)), IDS != 0)

    sequential = embedding(file, freeze_found=freeze_found)
    keras.Sequential([sequential, layers.LSTM(3)])(IDS)

    functional = embedding(file, freeze_found=freeze_found)
    inputs = layers.Input((5,), dtype="int32")
    outputs = functional(inputs)
    assert outputs.shape == (None, 5, 2)
    np.testing.assert_array_equal(keras.Model(inputs, outputs).predict(IDS, verbose=0), ROWS[IDS])

    fitted = embedding(file, freeze_found=freeze_found, trainable=False)
    fit(Subclassed(fitted))
    for layer in (direct, sequential, functional, fitted):
        np.testing.assert_array_equal(rows_of(layer), ROWS)
        assert layer.coverage.words_found == 2
        assert layer.vocabulary == tuple(VOCABULARY)


def test_it_is_an_embedding_that_is_not_trained_by_default(file):
    layer = embedding(file, embeddings_regularizer="l2", name="words")
    assert isinstance(layer, layers.Embedding)
    assert layer.name == "words"
    assert (layer.trainable, layer.mask_zero, layer.coverage) == (False, True, None)
    layer.build()
    assert len(layer.weights) == 1
    assert layer.trainable_weights == []
    assert embedding(file, freeze_found=True).trainable
    assert not embedding(file, freeze_found=True, trainable=False).trainable
    assert embedding(file, lora_rank=1).trainable


def test_names_count_as_those_of_keras(file):
    keras.backend.clear_session()
    names = [embedding(file).name for _ in range(3)]
    assert names == ["glove_embedding", "glove_embedding_1", "glove_embedding_2"]


def test_mask_follows_the_vocabulary(file):
    plain = embedding(file, ["the", "cat"])
    assert not plain.mask_zero
    assert ops.convert_to_numpy(plain(np.array([0])))[0].tolist() == [0.5, -1]
    assert not embedding(file, mask_zero=False).mask_zero
    with pytest.raises(
        ValueError, match="`mask_zero` is True, but row 0 of `vocabulary` is a word"
    ):
        embedding(file, ["the", "cat"], mask_zero=True)


def test_wrong_arguments(file):
    for name in ("weights", "input_dim", "output_dim", "embeddings_initializer", "input_length"):
        with pytest.raises(TypeError, match=f"does not take `{name}`"):
            embedding(file, **{name: 3})
    with pytest.raises(ValueError, match="`dim` must say how wide"):
        embedding(None)
    with pytest.raises(ValueError, match="exclude each other"):
        embedding(file, freeze_found=True, lora_rank=2)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt does not exist"):
        embedding("nowhere.txt")(IDS)
    with pytest.raises(ValueError, match="vectors of 2 numbers; `dim` says 3"):
        embedding(file, dim=3)(IDS)


@pytest.mark.backends
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("freeze_found", [False, True])
def test_dtype_policies(file, dtype, freeze_found):
    layer = embedding(file, dtype=dtype, freeze_found=freeze_found)
    outputs = layer(IDS)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    # These few numbers are exact in 16 bits.
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.cast(outputs, "float32")), ROWS[IDS])


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1, use_ema=True),
    "lion": lambda: keras.optimizers.Lion(0.1, weight_decay=0.1),
    "clipped": lambda: keras.optimizers.Adam(
        0.1, global_clipnorm=0.1, gradient_accumulation_steps=2
    ),
}


@pytest.mark.backends
@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_freeze_found_trains_only_the_other_rows(file, optimizer):
    check_freezing(file, optimizer)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"adamw", "momentum"}))
def test_freeze_found_with_any_optimizer(file, optimizer):
    check_freezing(file, optimizer)


def check_freezing(file, optimizer):
    layer = embedding(file, freeze_found=True, oov="uniform", embeddings_regularizer="l2")
    model = classifier(layer)
    before = rows_of(layer)
    assert [tuple(weight.shape) for weight in layer.trainable_weights] == [(2, 2)]
    model.trainable = False
    model.trainable = True
    fit(model, OPTIMIZERS[optimizer](), epochs=4)
    after = rows_of(layer)
    assert after[FOUND].tobytes() == before[FOUND].tobytes()
    assert (after[FREE] != before[FREE]).all()
    assert (np.abs(after[FREE]) < 10).all()
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(IDS)), after[IDS])


def test_freeze_found_when_every_word_is_found(file):
    layer = embedding(file, ["", "the", "cat"], freeze_found=True)
    model = classifier(layer)
    fit(model, keras.optimizers.AdamW(0.1), ids=IDS % 3)
    np.testing.assert_array_equal(rows_of(layer), ROWS[[0, 2, 4]])


@pytest.mark.backends
@pytest.mark.parametrize("lora", [False, True])
def test_padding_stays_zero(file, lora):
    layer = embedding(file, trainable=True, lora_rank=2 if lora else None)
    model = Subclassed(layer)  # averages over padding too, so that it gets a gradient
    model(IDS)
    before = ops.convert_to_numpy(layer(IDS))
    fit(model, keras.optimizers.AdamW(0.1))
    after = ops.convert_to_numpy(layer(IDS))
    assert not after[IDS == 0].any()
    assert (after[IDS != 0] != before[IDS != 0]).all()
    assert not rows_of(layer)[0].any()


@pytest.mark.backends
def test_padding_stays_zero_beneath_a_tied_output(file, tmp_path):
    class Halved(keras.constraints.Constraint):
        def __call__(self, rows):
            return rows / 2

    options = {"trainable": True, "mask_zero": False, "embeddings_constraint": Halved()}
    layer = embedding(file, **options)
    inputs = layers.Input((5,), dtype="int32")
    model = keras.Model(inputs, tied(layer)(layers.LSTM(2)(layer(inputs))))
    before = rows_of(layer)
    fit(model, keras.optimizers.SGD(1e-6))
    after = rows_of(layer)
    assert not after[0].any()
    assert np.abs(after[FOUND]).max() < np.abs(before[FOUND]).max()  # the user's own ran too


@pytest.mark.backends
def test_weights_pass_between_trained_apart_and_whole(file, tmp_path):
    apart = classifier(embedding(file, freeze_found=True, oov="uniform"))
    fit(apart)
    apart.save_weights(tmp_path / "apart.weights.h5")
    whole = classifier(embedding(file))
    whole.load_weights(tmp_path / "apart.weights.h5")
    np.testing.assert_array_equal(rows_of(whole.layers[0]), rows_of(apart.layers[0]))
    whole.save_weights(tmp_path / "whole.weights.h5")
    again = classifier(embedding(file, freeze_found=True))
    again.load_weights(tmp_path / "whole.weights.h5")
    np.testing.assert_array_equal(rows_of(again.layers[0]), rows_of(apart.layers[0]))
    fit(again)
    moved = (rows_of(again.layers[0]) != rows_of(apart.layers[0])).any(axis=1)
    assert moved[FREE].any()
    assert not moved[FOUND].any()
    nameless = keras.models.model_from_json(again.to_json())
    with pytest.raises(ValueError, match=r"the rows were saved without(.|\n)*with its file first"):
        nameless.load_weights(tmp_path / "whole.weights.h5")


def test_lora_leaves_the_rows(file):
    layer = embedding(file)
    model = classifier(layer)
    layer.enable_lora(1)
    assert len(layer.trainable_weights) == 2
    fit(model)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer._embeddings), ROWS)
    assert (rows_of(layer)[[2, 4]] != ROWS[[2, 4]]).all()
    frozen = embedding(file, freeze_found=True)
    frozen.build()
    with pytest.raises(ValueError, match="LoRA changes every row"):
        frozen.enable_lora(1)


@pytest.mark.backends
@pytest.mark.parametrize("freeze_found", [False, True])
def test_int8(file, tmp_path, freeze_found):
    layer = embedding(file, freeze_found=freeze_found)
    model = classifier(layer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer .* does not have a `quantize` method")
        model.quantize("int8")
    assert layer.dtype_policy.quantization_mode == "int8"
    np.testing.assert_allclose(ops.convert_to_numpy(layer(IDS)), ROWS[IDS], atol=0.01)
    model.save(tmp_path / "model.keras")
    file.unlink()
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded.layers[0](IDS)), ops.convert_to_numpy(layer(IDS))
    )
    file.write_text("the 0.5 -1\ncat 0.25 2\n")
    with pytest.raises(ValueError, match="is quantized: its rows come from saved weights"):
        keras.models.clone_model(model)
    clone = keras.models.clone_model(loaded)
    clone.set_weights(loaded.get_weights())
    np.testing.assert_array_equal(
        ops.convert_to_numpy(clone.layers[0](IDS)), ops.convert_to_numpy(layer(IDS))
    )


@pytest.mark.backends
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantized_policy_set_by_hand_takes_the_trained_rows_along(file, mode):
    layer = embedding(file, freeze_found=True, oov=lambda words, rng: [[1, -2]] * len(words))
    expected = ops.convert_to_numpy(layer(IDS))
    assert np.abs(expected[IDS == 3]).min() == 1
    layer.dtype_policy = f"{mode}_from_float32"
    tolerance = {"int8": 0.01, "int4": 0.2}[mode]
    np.testing.assert_allclose(ops.convert_to_numpy(layer(IDS)), expected, atol=tolerance)
    assert not layer.freeze_found


@pytest.mark.backends
@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("freeze_found", [False, True])
def test_rows_of_a_quantized_layer_are_those_that_it_looks_up(file, tmp_path, mode, freeze_found):
    model = classifier(embedding(file, freeze_found=freeze_found, mask_zero=False))
    model.build((None, None))
    model.layers[0].quantize(mode)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for layer in (model.layers[0], loaded.layers[0]):
        for _ in range(2):
            rows = rows_of(layer)
            np.testing.assert_array_equal(rows, ops.convert_to_numpy(layer(np.arange(5))))
            np.testing.assert_allclose(rows, ROWS, atol=0.35 if mode == "int4" else 0.02)
            if not layer.lora_enabled:
                layer.enable_lora(1)
    copy_ = keras.models.clone_model(loaded)
    assert np.isnan(rows_of(copy_.layers[0])[1:]).all()
    copy_.set_weights(loaded.get_weights())
    np.testing.assert_array_equal(rows_of(copy_.layers[0]), rows_of(loaded.layers[0]))


@pytest.mark.backends
def test_what_freeze_found_says_is_said_once(file, tmp_path):
    layer = embedding(file, freeze_found=True, oov="uniform", name="words")
    model = classifier(layer)
    with pytest.raises(AttributeError, match=r"`freeze_found` of layer 'words' is fixed when"):
        layer.freeze_found = False
    assert layer.freeze_found
    fit(model, "sgd")
    layer.trainable = False
    layer.trainable = True
    before = rows_of(layer)
    fit(model, "sgd")
    moved = (rows_of(layer) != before).any(axis=1)
    assert moved[FREE].any()
    assert not moved[FOUND].any()
    # What the error says to do.
    model.save_weights(tmp_path / "apart.weights.h5")
    other = classifier(embedding(file, trainable=True))
    other.load_weights(tmp_path / "apart.weights.h5")
    np.testing.assert_array_equal(rows_of(other.layers[0]), rows_of(layer))
    before = rows_of(other.layers[0])
    fit(other, "sgd")
    assert (rows_of(other.layers[0]) != before).any(axis=1).tolist() == [False, *[True] * 4]


@pytest.mark.backends
@pytest.mark.parametrize(
    "options",
    [{}, {"trainable": True}, {"freeze_found": True}, {"lora_rank": 1}, {"mask_zero": False}],
    ids=str,
)
def test_sparse_indices(file, options):
    if keras.backend.backend() == "torch":
        pytest.skip("Keras knows no sparse tensors on PyTorch")
    if keras.backend.backend() == "jax":
        from jax.experimental.sparse import BCOO

        sparse = BCOO.fromdense(IDS)
    else:
        import tensorflow as tf

        sparse = tf.sparse.from_dense(IDS)
    layer = embedding(file, **options)
    expected = ops.convert_to_numpy(layer(IDS))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(sparse)), expected)
    inputs = layers.Input((5,), dtype="int32", sparse=True)
    model = keras.Model(inputs, layers.LSTM(3, name="lstm")(layer(inputs)))
    dense = model.get_layer("lstm")(layer(IDS))
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(sparse)), ops.convert_to_numpy(dense), atol=1e-6
    )


def test_int4_and_subclasses(file):
    layer = embedding(file)
    layer.build()
    layer.quantize("int4")
    np.testing.assert_allclose(ops.convert_to_numpy(layer(IDS)), ROWS[IDS], atol=0.2)

    class Own(rk.GloVeEmbedding):
        pass

    own = Own(file, VOCABULARY)
    own.build()
    with pytest.raises(NotImplementedError, match="Own does not say how it is quantized"):
        own.quantize("int8")


def tied(table):
    class Tied(layers.Layer):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.table = table

        def call(self, hidden):
            return ops.matmul(hidden, ops.transpose(self.table.embeddings))

    return Tied()


@pytest.mark.backends
def test_tied_output(file):
    layer = embedding(file, freeze_found=True, oov="uniform")
    inputs = layers.Input((5,), dtype="int32")
    model = keras.Model(inputs, tied(layer)(layers.LSTM(2)(layer(inputs))))
    assert model.output_shape == (None, 5)
    before = rows_of(layer)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(IDS, np.array([3, 2]), epochs=2, verbose=0)
    assert rows_of(layer)[FOUND].tobytes() == before[FOUND].tobytes()
    assert (rows_of(layer)[FREE] != before[FREE]).all()


def test_weights_may_be_set_before_and_after_building(file):
    matrix = np.arange(10, dtype="float32").reshape(5, 2)
    before = embedding(file)
    before.set_weights([matrix])
    after = embedding(file)
    keras.Sequential([before]), keras.Sequential([after])(IDS)
    after.set_weights([matrix])
    for layer in (before, after):
        np.testing.assert_array_equal(rows_of(layer), matrix)


def test_config_is_small_and_holds_no_words(tmp_path):
    words = ["", *(f"w{number}" for number in range(5000))]
    layer = embedding({word: [0.5, 1.5] for word in words[1:]}, words, counts={"w1": 3})
    layer.build()
    text = json.dumps(keras.layers.serialize(layer))
    assert len(text) < 2000
    assert "w17" not in text


def test_numbers_of_numpy_are_numbers(tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text("the 0.5 -1\ncat 0.25 2\n")
    options = {"dim": np.int64(2), "num_words": np.int64(3), "seed": np.int32(3), "cache": True}
    layer = embedding(file, ["", "the", "cat", "sat"], warn_below=np.float32(0.5), **options)
    config = json.loads(json.dumps(layer.get_config()))
    assert (config["dim"], config["seed"], config["warn_below"]) == (2, 3, 0.5)
    layer.build()
    assert rows_of(layer).tolist() == [[0, 0], [0.5, -1], [0.25, 2]]


@pytest.mark.backends
def test_copies_in_this_process_read_again(file):
    def spell(words, rng):
        return np.full((len(words), 2), 7)

    sources = [file, {"the": [0.5, -1], "cat": [0.25, 2]}]
    for source in sources:
        layer = embedding(source, oov=spell, counts={"the": 3}, freeze_found=True)
        model = keras.Sequential([layer, layers.LSTM(3)])
        model(IDS)
        outer = keras.Sequential([layers.Input((5,), dtype="int32"), model])
        copies = [
            keras.models.clone_model(classifier(layer)).layers[0],
            keras.models.clone_model(outer).layers[0].layers[0],
            rk.GloVeEmbedding.from_config(layer.get_config()),
            rk.GloVeEmbedding.from_config(copy.deepcopy(layer.get_config())),
            keras.layers.deserialize(keras.layers.serialize(layer)),
        ]
        for other in copies:
            other.build()
            np.testing.assert_array_equal(rows_of(other), rows_of(layer))
            assert other.coverage == layer.coverage


def plain(config):
    """What of a config a file can hold."""
    return json.loads(json.dumps(config))


def test_a_config_of_this_process_reads_again_with_whatever_is_replaced(file, tmp_path):
    layer = embedding(file)
    layer.build()
    live = layer.get_config()
    other = tmp_path / "other.txt"
    other.write_text("the 3 4\ncat 5 6\n")
    for path in (other, str(other)):
        moved = rk.GloVeEmbedding.from_config({**live, "file": path})
        moved.build()
        assert rows_of(moved)[2].tolist() == [3, 4]
    shorter = rk.GloVeEmbedding.from_config({**live, "vocabulary": ["", "cat", "the"]})
    shorter.build()
    assert rows_of(shorter).tolist() == [[0, 0], [0.25, 2], [0.5, -1]]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"glove\.txt does not exist\. Give another path"):
        rk.GloVeEmbedding.from_config(live).build()
    with pytest.raises(FileNotFoundError, match=r"glove\.txt does not exist"):
        keras.models.clone_model(keras.Sequential([layers.Input((5,)), layer]))


def test_a_config_of_another_process_reads_nothing(file, tmp_path):
    listed = tmp_path / "words.txt"
    listed.write_text("\n".join(VOCABULARY))
    layer = embedding(file, listed, cache=tmp_path / "cache")
    layer.build()
    config = plain(layer.get_config())
    expected = rows_of(layer)
    for path in (file, listed, *(tmp_path / "cache").iterdir()):
        path.unlink()
    (tmp_path / "cache").rmdir()
    nameless = rk.GloVeEmbedding.from_config(config)
    with pytest.raises(ValueError, match=r"fingerprint alone(.|\n)*'vocabulary': words"):
        print(nameless.vocabulary)
    named = rk.GloVeEmbedding.from_config({**config, "vocabulary": VOCABULARY})
    assert named.vocabulary == tuple(VOCABULARY)
    for again in (nameless, named):
        again.build()
        assert np.isnan(rows_of(again)).all()
        again.set_weights([expected])
        np.testing.assert_array_equal(rows_of(again), expected)
        assert plain(again.get_config()) == config
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="must tell the rows of its vocabulary, `input_dim`"):
        rk.GloVeEmbedding.from_config({**config, "input_dim": None})
    unbuilt = rk.GloVeEmbedding.from_config({**config, "dim": None})
    with pytest.raises(ValueError, match="came from a config without `dim`"):
        unbuilt.build()


def spell(words, rng):
    return np.full((len(words), 2), 7)


EVERY_OPTION = {
    "plain": {},
    "trained": {"trainable": True, "embeddings_regularizer": "l2", "mask_zero": False},
    "apart": {"freeze_found": True, "oov": "uniform", "seed": 3},
    "lora": {"lora_rank": 1},
    "lists": {"fallbacks": ["lower"], "counts": [1, 1, 5, 6, 7], "warn_below": None},
    "objects": {"fallbacks": ("digits",), "counts": {"the": 3}, "oov": spell, "normalize": True},
    "half": {"dtype": "mixed_bfloat16", "name": "words", "dim": 2, "strict": True},
}


@pytest.mark.backends
@pytest.mark.parametrize("kind", EVERY_OPTION)
def test_a_config_stays_what_it_is_however_often_it_is_saved(file, tmp_path, kind):
    options = EVERY_OPTION[kind]
    listed = tmp_path / "words.txt"
    listed.write_text("\n".join(VOCABULARY))
    model = classifier(embedding(file, listed, cache=tmp_path, **options))
    fit(model, epochs=1)
    expected, config = rows_of(model.layers[0]), plain(model.layers[0].get_config())
    copies = [model]
    for number in range(3):
        copies[-1].save(tmp_path / f"{number}.keras")
        for path in (file, listed, *tmp_path.glob("*.cache")):
            path.unlink(missing_ok=True)
        copies.append(keras.saving.load_model(tmp_path / f"{number}.keras"))
    for copied in copies[1:]:
        layer = copied.layers[0]
        np.testing.assert_array_equal(rows_of(layer), expected)
        assert plain(layer.get_config()) == config
        assert layer.vocabulary == tuple(VOCABULARY)
        assert layer.coverage == model.layers[0].coverage
        clone = keras.models.clone_model(copied)
        assert plain(clone.layers[0].get_config()) == config
        assert clone.layers[0].vocabulary == tuple(VOCABULARY)
        clone.set_weights(copied.get_weights())
        np.testing.assert_array_equal(rows_of(clone.layers[0]), expected)
        clone.save(tmp_path / "clone.keras")
        again = keras.saving.load_model(tmp_path / "clone.keras")
        np.testing.assert_array_equal(rows_of(again.layers[0]), expected)
        assert plain(again.layers[0].get_config()) == config
    assert config["fallbacks"] == list(options.get("fallbacks", ["lower", "digits"]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vocabulary.json", "["),
        ("vocabulary.json", "[" * 100_000),
        ("vocabulary.json", "[[1, 2, 3, 4, 5], [], true]"),
        ("vocabulary.json", '[["", "[UNK]", "cat", "dgo", "the"], [0, 1], true]'),
        ("vocabulary.json", '{"words": 3}'),
        ("coverage.json", "[]"),
        ("coverage.json", '{"missing": null}'),
        ("coverage.json", "[" * 100_000),
    ],
)
def test_a_damaged_part_of_a_saved_model_is_named(file, tmp_path, name, text):
    path, other = tmp_path / "model.keras", tmp_path / "other.keras"
    classifier(embedding(file, name="words")).save(path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as changed:
        for member in archive.namelist():
            data = text if member.endswith(name) else archive.read(member)
            changed.writestr(member, data)
    with pytest.raises(ValueError, match=rf"Layer 'words': {name} of the saved model is damaged"):
        keras.saving.load_model(other)


def test_rows_are_nan_until_weights_are_loaded(file, tmp_path):
    model = classifier(embedding(file))
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras.models.model_from_json(model.to_json())
    assert np.isnan(rows_of(again.layers[0])).all()
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(rows_of(again.layers[0]), ROWS)


SCRIPT = """
import json, sys
import numpy as np, keras, keras_rnnkit as rk
folder, freeze = sys.argv[1], sys.argv[2] == "True"
model = keras.saving.load_model(folder + "/model.keras")
layer = model.layers[0]
assert layer.coverage.missing == ("dgo",), layer.coverage
assert layer.vocabulary == ("", "[UNK]", "the", "dgo", "cat")
assert layer.freeze_found == freeze
ids = np.load(folder + "/ids.npy")
expected = np.load(folder + "/expected.npy")
np.testing.assert_allclose(model.predict(ids, verbose=0), expected, atol=1e-6)
fresh = keras.Sequential([
    keras.layers.Input((None,), dtype="int32"),
    rk.GloVeEmbedding(None, layer.vocabulary, dim=2, freeze_found=freeze),
    keras.layers.LSTM(3),
    keras.layers.Dense(1),
])
from_json = keras.models.model_from_json(open(folder + "/model.json").read())
for other in (fresh, from_json):
    other.load_weights(folder + "/model.weights.h5")
    np.testing.assert_allclose(other.predict(ids, verbose=0), expected, atol=1e-6)
    if freeze:
        rows = keras.ops.convert_to_numpy(other.layers[0].embeddings)
        other.compile(keras.optimizers.AdamW(0.1), "mse")
        other.fit(ids, np.ones((2, 1)), verbose=0)
        moved = (keras.ops.convert_to_numpy(other.layers[0].embeddings) != rows).any(axis=1)
        assert moved.tolist() == [False, True, False, True, False], moved
print("reloaded")
"""


@pytest.mark.backends
@pytest.mark.parametrize("freeze_found", [False, True])
def test_reload_in_a_new_process_without_the_file(file, tmp_path, freeze_found):
    model = classifier(embedding(file, freeze_found=freeze_found, oov="uniform"))
    fit(model, "sgd", epochs=1)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "model.json").write_text(model.to_json())
    np.save(tmp_path / "ids.npy", IDS)
    np.save(tmp_path / "expected.npy", model.predict(IDS, verbose=0))
    file.unlink()
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(freeze_found)],
        cwd=Path(rk.__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines()[-1:] == ["reloaded"], run.stderr


def test_a_trained_table_that_does_not_fit_is_refused(file, tmp_path):
    model = classifier(embedding(file, freeze_found=True))
    model.save_weights(tmp_path / "model.weights.h5")
    file.write_text("the 0.5 -1\ncat 0.25 2\ndgo 1 1\n")
    other = classifier(embedding(file, freeze_found=True))
    with pytest.raises(ValueError, match=r"2 of them trained; it now has \(5, 2\), 1 trained"):
        other.load_weights(tmp_path / "model.weights.h5")
