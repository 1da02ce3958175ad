"""Unknown words, fallbacks, coverage and the cache."""

import json
import os
import re
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_rnnkit as rk
from keras_rnnkit.embedding import vectors as vectors_module

FILE = {"the": [1.0, 3.0], "cat": [3.0, -1.0], "<unk>": [9.0, 8.0]}
WORDS = ["", "[UNK]", "the", "dgo", "cat"]
UNFOUND = [1, 3]


def load(file=FILE, vocabulary=WORDS, **options):
    return rk.load_vectors(file, vocabulary, **{"warn_below": None, **options})


def test_zeros_is_the_default():
    assert load().matrix.tolist() == [[0, 0], [0, 0], [1, 3], [0, 0], [3, -1]]
    assert load().found.tolist() == [False, False, True, False, True]


def test_mean_and_own_vector():
    assert load(oov="mean").matrix[UNFOUND].tolist() == [[2, 1]] * 2
    assert load(oov="<unk>").matrix[UNFOUND].tolist() == [[9, 8]] * 2
    with pytest.raises(ValueError, match="`oov` is '<unk>', but `file` dict in memory has no"):
        load({"the": [1.0]}, oov="<unk>")


def test_uniform_and_normal_are_matched_and_seeded():
    rng = np.random.default_rng(0)
    file = {f"w{i}": row for i, row in enumerate(rng.normal([3, -2], [0.1, 4], (9000, 2)))}
    words = ["", *[f"w{i}" for i in range(0, 18000, 2)]]
    normal = load(file, words, oov="normal", fallbacks=())
    known, filled = normal.matrix[normal.found], normal.matrix[1:][~normal.found[1:]]
    assert len(filled) == 4500
    assert filled.mean(axis=0) == pytest.approx(known.mean(axis=0), abs=0.2)
    assert filled.std(axis=0) == pytest.approx(known.std(axis=0), rel=0.05)
    uniform = load(file, words, oov="uniform", fallbacks=()).matrix[1:][~normal.found[1:]]
    assert np.abs(uniform).max() <= 0.05
    assert uniform.std() == pytest.approx(0.1 / 12**0.5, rel=0.05)
    for oov in ("normal", "uniform"):
        first, same, other = (
            load(file, words, oov=oov, fallbacks=(), seed=seed).matrix for seed in (0, 0, 1)
        )
        assert first.tobytes() == same.tobytes()
        assert first.tobytes() != other.tobytes()
        assert not first[0].any()


def test_callable():
    asked = []

    def spell(words, rng):
        asked.append(words)
        return [[len(word), rng.integers(5, 6)] for word in words]

    assert load(oov=spell).matrix.tolist() == [[0, 0], [5, 5], [1, 3], [3, 5], [3, -1]]
    assert asked == [["[UNK]", "dgo"]]
    for wrong in (np.zeros((2, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"`oov` must return finite numbers of shape \(2, 2\)"):
            load(oov=lambda words, rng, wrong=wrong: wrong)


def test_wrong_options():
    with pytest.raises(ValueError, match="`oov` must be a callable or one of 'zeros'"):
        load(oov="zero")
    with pytest.raises(ValueError, match="`fallbacks` must be a sequence of 'lower', 'digits'"):
        load(fallbacks=["upper"])
    with pytest.raises(ValueError, match="`fallbacks` must be"):
        load(fallbacks="lower")
    with pytest.raises(ValueError, match="has no word of `vocabulary`, which begins"):
        load(vocabulary=["xyz", "abc"])


def test_normalize():
    matrix = load(normalize=True, oov="<unk>").matrix
    np.testing.assert_allclose(np.linalg.norm(matrix[1:], axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(matrix[2], np.array([1, 3]) / 10**0.5, rtol=1e-6)
    assert not matrix[0].any()
    known = load({"the": [0.0, 0.0], "cat": [3.0, 4.0]}, normalize=True).matrix
    np.testing.assert_allclose(known[[2, 4]], [[0, 0], [0.6, 0.8]], rtol=1e-6)


def test_lower_case():
    file = {"the": [1], "Cat": [2], "cat": [3]}
    words = ["The", "the", "Cat", "CAT", "Dgo"]
    found = load(file, words)
    assert found.matrix[:, 0].tolist() == [1, 1, 2, 3, 0]
    assert found.coverage.found == {"exact": 2, "lower": 2, "digits": 0}
    exact = load(file, words, fallbacks=())
    assert exact.matrix[:, 0].tolist() == [0, 1, 2, 0, 0]
    assert exact.coverage.found == {"exact": 2}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ({"the": [1], "<number>": [2]}, [1, 2, 2, 0, 0]),
        ({"the": [1], "####": [2], "#": [3], "a##": [4]}, [1, 2, 3, 4, 0]),
        ({"the": [1], "0000": [2], "0": [3], "b0b": [4]}, [1, 2, 3, 0, 4]),
        ({"the": [1], "1985": [2], "####": [3], "a##": [4]}, [1, 0, 0, 0, 0]),
        ({"the": [1], "##a1": [5]}, [1, 0, 0, 0, 0]),
    ],
)
def test_digits(file, expected):
    words = ["the", "1984", "7", "A42", "b2b"]
    if "1985" in file:
        assert load(file, [*words, "1985"]).matrix[:, 0].tolist() == [*expected, 2]
        # Without the tell-tale word, nothing says that the file writes numbers out.
        assert load(file, words).matrix[1].tolist() == [3]
    else:
        found = load(file, words)
        assert found.matrix[:, 0].tolist() == expected
        assert found.coverage.found["digits"] == sum(value > 1 for value in expected)
    assert load(file, words, fallbacks=["lower"]).coverage.found == {"exact": 1, "lower": 0}


def test_lone_digits_may_stay():
    found = load({"the": [1], "4x##": [2]}, ["the", "4x22", "4x44"])
    assert found.matrix[:, 0].tolist() == [1, 2, 2]


def test_order_of_fallbacks_is_the_order_tried(tmp_path):
    path = tmp_path / "vectors.txt"
    for text in ("a42 1 1\nA## 2 2\n", "A## 2 2\na42 1 1\n"):
        path.write_text(text)
        assert load(path, ["A42"], fallbacks=["lower", "digits"]).matrix[0, 0] == 1
        path.write_text(text.replace("42", "4x"))
        assert load(path, ["A42", "A4x"], fallbacks=["digits", "lower"]).matrix[:, 0].tolist() == [
            2,
            1,
        ]


def test_coverage_counts():
    counts = {"the": 90, "cat": 5, "dgo": 2, "brid": 3, "elsewhere": 1000}
    coverage = load(vocabulary=[*WORDS, "brid"], counts=counts).coverage
    assert (coverage.words, coverage.words_found, coverage.share) == (4, 2, 0.5)
    assert (coverage.tokens, coverage.tokens_found, coverage.token_share) == (100, 95, 0.95)
    assert coverage.missing == ("brid", "dgo")
    assert coverage.missing_counts == (3, 2)
    assert repr(coverage) == (
        "Coverage(2 of 4 words (50.0 %), 95.0 % of tokens; exact 2, lower 0, digits 0; 2 missing)"
    )
    by_row = load(vocabulary=[*WORDS, "brid"], counts=[7, 7, 90, 2, 5, 3]).coverage
    assert by_row == coverage
    assert load(vocabulary=[*WORDS, "brid"]).coverage.missing == ("dgo", "brid")
    for wrong in ([1, 2], [0.5] * 5, [-1] * 5):
        with pytest.raises(ValueError, match="`counts` must map words to whole numbers"):
            load(counts=wrong)
    assert load(counts={"elsewhere": 3}).coverage.token_share is None


def test_table(tmp_path):
    path = tmp_path / "100%.txt"
    path.write_text("the 1 2\nThe 3 4\nthe 5 6\n" + "x 1 2\n" * 200 + "bad 1\n")
    missing = [f"m{i}%" for i in range(12)]
    coverage = load(path, ["the", "THE", *missing], counts={"the": 7, "m3%": 3}).coverage
    lines = str(coverage).splitlines()
    assert lines[0].split(maxsplit=1) == ["file", str(path)]
    told = {re.split(r"  +", line.strip())[0]: line.split()[-3:] for line in lines[1:]}
    assert told["found, exact"][0] == "1"
    assert told["found, lower"] == ["1", "7.1", "%"]
    assert told["tokens"][-1] == "10"
    assert told["found"] == ["7", "70.0", "%"]
    assert told["rows in the file"][-1] == "204"
    assert told["duplicates"][-1] == "1"
    assert told["bad"][-1] == "1"
    assert lines[-2].strip() == "line 204: expected a word and 2 numbers, found 1 numbers"
    assert lines[-1].startswith("missing, most frequent first: m3% (3), m0% (0), ")
    assert lines[-1].endswith("m9% (0), ...")
    assert coverage.table(missing=1).splitlines()[-1].endswith(": m3% (3), ...")
    assert "duplicate rows; 1 bad rows)" in repr(coverage)


def test_warning_below_a_threshold():
    with pytest.warns(
        rk.embedding.CoverageWarning, match=r"1 of 3 words.*warn_below=0\.5.*Missing first: b"
    ):
        rk.load_vectors({"a": [1]}, ["a", "b", "c"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rk.load_vectors({"a": [1]}, ["a", "b", "c"], warn_below=None)
        rk.load_vectors({"a": [1]}, ["a", "b", "c"], warn_below=0.3)
        rk.load_vectors({"a": [1]}, ["a", "b", "c"], counts={"a": 2, "b": 1})
    with pytest.warns(rk.embedding.CoverageWarning):
        rk.load_vectors({"a": [1]}, ["a", "b", "c"], counts={"a": 2, "b": 1}, warn_below=0.7)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2\nthe 0 0\nCat 3 4\n<unk> 5 6\n" + "x 1 2\n" * 200 + "bad 1\n")
    return path


def caches(path):
    return sorted(path.parent.glob("*.cache"))


def same(first, second):
    return (
        first.matrix.tobytes() == second.matrix.tobytes()
        and first.found.tobytes() == second.found.tobytes()
        and first.coverage == second.coverage
    )


def unreadable(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the file was read")

    monkeypatch.setattr(vectors_module, "open_vectors", fail)


def test_cache_gives_what_reading_gives(text, monkeypatch):
    plain = load(text, oov="<unk>", normalize=True)
    first = load(text, oov="<unk>", normalize=True, cache=True)
    assert len(caches(text)) == 1
    unreadable(monkeypatch)
    assert same(plain, first)
    assert same(plain, load(text, oov="<unk>", normalize=True, cache=True))
    other = load(text, oov="mean", cache=True, counts={"the": 1})
    assert other.matrix[UNFOUND].tolist() == [[1, 2]] * 2
    assert other.coverage.tokens == 1
    for changed in (
        {"vocabulary": WORDS[:4]},
        {"fallbacks": ()},
        {"dim": 2},
        {"strict": True},
        {"cache": text.parent / "elsewhere"},
    ):
        with pytest.raises(AssertionError, match="the file was read"):
            load(**{"file": text, "cache": True, **changed})


def test_cache_follows_the_file(text, tmp_path):
    load(text, cache=tmp_path / "new" / "directory")
    assert len(list((tmp_path / "new" / "directory").iterdir())) == 1
    load(text, cache=True)
    before = text.stat()
    text.write_text(text.read_text().replace("the 1 2", "the 7 2"))
    os.utime(text, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert load(text, cache=True).matrix[2].tolist() == [7, 2]
    assert len(caches(text)) == 2


@given(st.data())
def test_a_damaged_cache_is_rebuilt(text, data):
    expected = load(text, cache=True)
    (path,) = caches(text)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))] + data.draw(
            st.binary(max_size=3)
        )
    path.write_bytes(bytes(damaged))
    assert same(expected, load(text, cache=True))
    assert path.read_bytes() == whole
    assert caches(text) == [path]


def test_cache_that_cannot_be_written_warns(text, tmp_path):
    taken = tmp_path / "a file"
    taken.write_text("")
    with pytest.warns(RuntimeWarning, match="`cache` could not be written"):
        vectors = load(text, cache=taken)
    assert same(vectors, load(text))
    with pytest.raises(ValueError, match="`cache` needs a vector file"):
        load(FILE, cache=True)


def test_a_file_replaced_while_it_is_read_keeps_its_own_cache(text, tmp_path, monkeypatch):
    """Whatever lies at the path by then, the vectors found belong to the file that was opened."""
    other = tmp_path / "other.txt"
    other.write_text(text.read_text().replace("the 1 2", "the 7 2"))
    before = text.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    opened = vectors_module.open_vectors

    def replace_first(*arguments, **options):
        other.replace(text)
        monkeypatch.setattr(vectors_module, "open_vectors", opened)
        return opened(*arguments, **options)

    monkeypatch.setattr(vectors_module, "open_vectors", replace_first)
    assert load(text, cache=True).matrix[2].tolist() == [1, 2]
    for _ in range(2):
        assert load(text, cache=True).matrix[2].tolist() == [7, 2]


def test_a_file_rewritten_in_place_with_its_old_time_is_read_again(text):
    for value in (3, 4, 5):
        before = text.stat()
        with text.open("r+b") as stream:
            stream.write(b"the %d" % value)
        os.utime(text, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert load(text, cache=True).matrix[2].tolist() == [value, 2]


def test_what_changed_while_it_was_read_is_not_kept(text, monkeypatch):
    opened = vectors_module.open_vectors

    def append_first(*arguments, **options):
        with text.open("a") as stream:
            stream.write("new 1 2\n")
        return opened(*arguments, **options)

    monkeypatch.setattr(vectors_module, "open_vectors", append_first)
    load(text, cache=True)
    assert caches(text) == []


def nested(whole):
    return b"[" * 60_000 + whole


def forged(change):
    """A cache whose checksum is right and whose head is not what it was."""

    def forge(whole):
        head, _, body = whole.partition(b"\n")
        head = json.loads(head)
        change(head)
        head["crc32"] = zlib.crc32(body, zlib.crc32(json.dumps(head["told"]).encode()))
        return json.dumps(head).encode() + b"\n" + body

    return forge


BAD_CACHES = {
    "nested": nested,
    "a list": lambda whole: b"[]\n",
    "no line": lambda whole: b"x" * 1_000_000,
    "too many rows": forged(lambda head: head.update(shape=[10**12, 2])),
    "fewer than no rows": forged(lambda head: head.update(shape=[-1, 2])),
    "half rows": forged(lambda head: head.update(shape=[2.5, 4])),
    "other rows": forged(lambda head: head.update(shape=[2, 6])),
    "nothing told": forged(lambda head: head.update(told={})),
    "told otherwise": forged(lambda head: head["told"].update(rows="5")),
}


@pytest.mark.parametrize("kind", BAD_CACHES)
def test_a_bad_cache_is_read_past(text, kind):
    expected = load(text, cache=True)
    (path,) = caches(text)
    whole = path.read_bytes()
    path.write_bytes(BAD_CACHES[kind](whole))
    assert same(expected, load(text, cache=True))
    assert path.read_bytes() == whole


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_in_place_of_a_cache_is_replaced(text):
    expected = load(text, cache=True)
    (path,) = caches(text)
    path.unlink()
    os.mkfifo(path)
    assert same(expected, load(text, cache=True))
    assert path.is_file()


def test_a_link_in_place_of_a_cache_is_not_written_through(text, tmp_path):
    load(text, cache=True)
    (path,) = caches(text)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.unlink()
    path.symlink_to(victim)
    load(text, cache=True)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
