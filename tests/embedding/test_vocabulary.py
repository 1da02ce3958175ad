"""Every kind of vocabulary gives the same rows."""

import codecs
from collections import OrderedDict
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit.embedding.vocabulary import Vocabulary, read_vocabulary

TEXTS = ["the cat sat", "the cat", "the"]


def rows(source, **options):
    vocabulary = read_vocabulary(source, **options)
    return vocabulary.words, sorted(vocabulary.special), vocabulary.padding


def lookup(words, **attributes):
    return SimpleNamespace(get_vocabulary=lambda: list(words), **attributes)


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        (["a", "b"], {}, (("a", "b"), [], False)),
        (("a", b"b"), {}, (("a", "b"), [], False)),
        (np.array(["", "a"]), {}, (("", "a"), [0], True)),
        (["", "[UNK]", "[UNK]", "a"], {}, (("", "[UNK]", "[UNK]", "a"), [0, 1, 2], True)),
        (["[UNK]", "a"], {}, (("[UNK]", "a"), [0], False)),
        (["<pad>", "<unk>", "a"], {}, (("<pad>", "<unk>", "a"), [0, 1], True)),
        (["", "?", "a"], {"oov_token": "?"}, (("", "?", "a"), [0, 1], True)),
        (["", "[UNK]", "a", "b"], {"num_words": 3}, (("", "[UNK]", "a"), [0, 1], True)),
        ({"a": 1, "b": 2}, {}, (("", "a", "b"), [0], True)),
        ({"a": 0, "b": 1}, {}, (("a", "b"), [], False)),
        ({"<OOV>": 1, "a": 2, "b": 3}, {"num_words": 3}, (("", "<OOV>", "a"), [0, 1], True)),
        ({"a": 1}, {"num_words": 100}, (("", "a"), [0], True)),
        ({"a": 4, "b": np.int64(5)}, {}, (("", "", "", "", "a", "b"), [0, 1, 2, 3], True)),
        ({"<pad>": 0, "a": 1}, {}, (("<pad>", "a"), [0], True)),
        (
            lookup(["[MASK]", "<?>", "a"], mask_token="[MASK]", oov_token="<?>"),
            {},
            (("[MASK]", "<?>", "a"), [0, 1], True),
        ),
        (lookup(["", "[UNK]", "a"]), {}, (("", "[UNK]", "a"), [0, 1], True)),
    ],
)
def test_kinds(source, options, expected):
    assert rows(source, **options) == expected


def test_word_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\r\n".join(["", "[UNK]", "naïve", "a\u00a0b\x85c"]).encode() + b"\r\n")
    expected = (("", "[UNK]", "naïve", "a\u00a0b\x85c"), [0, 1], True)
    assert rows(path) == rows(str(path)) == expected
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert rows(path) == expected
    path.write_bytes("naïve\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"`vocabulary` '.*' is not UTF-8 text .* at byte 2"):
        rows(path)
    with pytest.raises(FileNotFoundError, match="`vocabulary` is no readable file"):
        rows(tmp_path / "none.txt")


def test_tokenizer():
    tokenizer = SimpleNamespace(
        word_index={"<?>": 1, "the": 2, "cat": 3, "sat": 4},
        num_words=4,
        oov_token="<?>",
        word_counts=OrderedDict([("the", 3), ("cat", 2), ("sat", 1)]),
    )
    assert rows(tokenizer) == (("", "<?>", "the", "cat"), [0, 1], True)
    coverage = rk.load_vectors({"the": [1]}, tokenizer).coverage
    assert (coverage.tokens, coverage.tokens_found, coverage.token_share) == (5, 3, 0.6)


@pytest.mark.parametrize("oov", [1, 2])
def test_keras_layers(oov):
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("text layers are TensorFlow's")
    vectorize = keras.layers.TextVectorization()
    vectorize.adapt(TEXTS)
    expected = (("", "[UNK]", "the", "cat", "sat"), [0, 1], True)
    assert rows(vectorize) == rows(vectorize.get_vocabulary()) == expected
    lookup = keras.layers.StringLookup(
        vocabulary=["the", "cat"], num_oov_indices=oov, mask_token="<m>", oov_token="<?>"
    )
    expected = (("<m>", *["<?>"] * oov, "the", "cat"), list(range(1 + oov)), True)
    assert rows(lookup) == expected
    unmasked = keras.layers.StringLookup(vocabulary=["the", "cat"], num_oov_indices=oov)
    assert rows(unmasked) == ((*["[UNK]"] * oov, "the", "cat"), list(range(oov)), False)
    layer = rk.GloVeEmbedding({"the": [1.0], "cat": [2.0]}, lookup)
    ids = keras.ops.convert_to_numpy(lookup(np.array(["cat", "the", "what"])))
    out = keras.ops.convert_to_numpy(layer(ids))
    assert out[:, 0].tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match=r"holds no word.*adapt\(\) first"):
        rows(keras.layers.TextVectorization())


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (3, {}, TypeError, "`vocabulary` must be a TextVectorization"),
        ({"a", "b"}, {}, TypeError, "Received: set"),
        (b"abc", {}, TypeError, "Received: bytes"),
        ([1, 2], {}, TypeError, r"must hold words \(str\). Received: 1 of type int in row 0"),
        ([], {}, ValueError, "holds no word"),
        (["", "[UNK]"], {}, ValueError, "holds no word"),
        ({}, {}, ValueError, "holds no word"),
        (["a", "b", "a"], {}, ValueError, "holds 'a' twice, in rows 0 and 2"),
        (["a", ""], {}, ValueError, "empty word in row 1"),
        ({1: "a"}, {}, TypeError, "must map each word to its row.*Received: 1: 'a'"),
        ({"a": -1}, {}, TypeError, "Received: 'a': -1"),
        ({"a": True}, {}, TypeError, "Received: 'a': True"),
        ({"a": 1, "b": 1}, {}, ValueError, "gives row 1 to both 'a' and 'b'"),
        (["a"], {"num_words": 0}, ValueError, "`num_words` must be a positive"),
        (["a"], {"num_words": "5"}, ValueError, "`num_words` must be a positive"),
        (SimpleNamespace(word_index={}), {}, ValueError, r"fit_on_texts\(\) first"),
    ],
)
def test_wrong_kinds(source, options, error, message):
    with pytest.raises(error, match=message):
        read_vocabulary(source, **options)


def test_json_and_fingerprint():
    vocabulary = read_vocabulary(["", "[UNK]", "naïve", "日本"])
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert again.fingerprint == vocabulary.fingerprint
    for other in (["", "[UNK]", "日本", "naïve"], ["x", "[UNK]", "naïve", "日本"]):
        assert read_vocabulary(other).fingerprint != vocabulary.fingerprint
    assert read_vocabulary(vocabulary) is vocabulary
    assert rows(vocabulary, num_words=3) == (("", "[UNK]", "naïve"), [0, 1], True)
