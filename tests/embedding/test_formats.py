"""Every format gives the matrix of the classic loop; every fault is left out and counted."""

import gzip
import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_rnnkit as rk
from keras_rnnkit.embedding import formats
from tests.embedding.classic import classic_matrix

WORDS = ["the", "cat", ".", "naïve", "日本", "dgo"]
ROWS = {
    "the": [0.418, -0.24968, 1e-05],
    ",": [0.1, 0.2, 0.3],
    "cat": [1, -2.5, 3],
    ".": [0.7, 0.8, -0.9],
    "naïve": [0.25, 0.5, 0.75],
    "日本": [-0.0, 4.0711, 17],
}
TEXT = "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in ROWS.items())
MATRIX = np.array([ROWS.get(word, [0, 0, 0]) for word in WORDS], dtype="float32")


def binary(rows, newline=b""):
    body = b"".join(
        word.encode() + b" " + struct.pack("<3f", *row) + newline for word, row in rows.items()
    )
    return f"{len(rows)} 3\n".encode() + body


def load(file, vocabulary=WORDS, **options):
    return rk.load_vectors(file, vocabulary, **{"warn_below": None, "fallbacks": (), **options})


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._glove.3d.txt", b"junk")
        for name, text in members.items():
            archive.writestr(name, text)
    return data.getvalue()


FILES = {
    "glove.txt": TEXT.encode(),
    "unended.txt": TEXT.rstrip("\n").encode(),
    "crlf.txt": TEXT.replace("\n", "\r\n").encode(),
    "bom.txt": b"\xef\xbb\xbf" + TEXT.encode(),
    "word2vec.txt": f"6 3\n{TEXT}".encode(),
    "trailing.vec": f"6 3\n{TEXT}".replace("\n", " \n").encode(),
    "word2vec.bin": binary(ROWS),
    "word2vec-newline.bin": binary(ROWS, b"\n"),
    "glove.txt.gz": gzip.compress(TEXT.encode()),
    "word2vec.bin.gz": gzip.compress(binary(ROWS)),
    "one.zip": zipped(**{"any.txt": TEXT}),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("as_text", [False, True])
def test_formats(tmp_path, name, as_text):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    vectors = load(str(path) if as_text else path)
    assert vectors.matrix.dtype == np.float32
    assert vectors.matrix.tobytes() == MATRIX.tobytes()
    assert vectors.found.tolist() == [True] * 5 + [False]
    assert vectors.coverage.missing == ("dgo",)
    assert vectors.coverage.file_rows == 6
    assert vectors.coverage.bad_rows == 0


def test_npy_with_words(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, np.array(list(ROWS.values())))
    listed = tmp_path / "words.txt"
    listed.write_text("\r\n".join(ROWS) + "\r\n", encoding="utf-8")
    for words in (list(ROWS), listed, str(listed)):
        assert load(path, words=words).matrix.tobytes() == MATRIX.tobytes()
    with pytest.raises(ValueError, match="pass `words`"):
        load(path)
    with pytest.raises(ValueError, match="expected 6, received 5"):
        load(path, words=list(ROWS)[:5])
    with pytest.raises(FileNotFoundError, match="`words` is no readable file"):
        load(path, words=tmp_path / "none.txt")
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match="must be a matrix"):
        load(path, words=["the"])


def test_mapping_matrix_and_keyed_vectors():
    matrix = np.array(list(ROWS.values()), dtype="float32")
    keyed = SimpleNamespace(
        key_to_index={word: row for row, word in enumerate(ROWS)}, vectors=matrix
    )
    for file, options in [(ROWS, {}), (keyed, {}), (matrix, {"words": list(ROWS)})]:
        vectors = load(file, **options)
        assert vectors.matrix.tobytes() == MATRIX.tobytes()
        assert vectors.coverage.file_rows == 6
    with pytest.raises(ValueError, match="is empty"):
        load({})
    with pytest.raises(ValueError, match=r"word .cat.: expected 2 numbers, found shape \(3,\)"):
        load({"the": [1, 2], "cat": [1, 2, 3]})
    with pytest.raises(ValueError, match="not finite"):
        load({"the": [1, 2], "cat": [1, np.nan]})
    with pytest.raises(TypeError, match="`file` must be a path"):
        load(3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_gensim_agrees(tmp_path):
    gensim = pytest.importorskip("gensim", reason="gensim is not installed")
    path = tmp_path / "glove.txt"
    path.write_text(TEXT, encoding="utf-8")
    keyed = gensim.models.KeyedVectors.load_word2vec_format(str(path), no_header=True)
    assert load(keyed).matrix.tobytes() == MATRIX.tobytes()
    keyed.save_word2vec_format(str(tmp_path / "w.bin"), binary=True)
    keyed.save_word2vec_format(str(tmp_path / "w.txt"))
    for name in ("w.bin", "w.txt"):
        assert load(tmp_path / name).matrix.tobytes() == MATRIX.tobytes()


def test_zip_member_is_chosen_by_dim(tmp_path):
    path = tmp_path / "glove.zip"
    wide = "the 1 2 3 4 5 6 7 8 9 10 11 12 13\n"
    path.write_bytes(zipped(**{"glove.3d.txt": TEXT, "glove.13d.txt": wide}))
    assert load(path, dim=3).matrix.tobytes() == MATRIX.tobytes()
    assert load(path, ["the"], dim=13).matrix.shape == (1, 13)
    for dim in (None, 2):
        with pytest.raises(ValueError, match=r"Members: glove\.3d\.txt, glove\.13d\.txt\."):
            load(path, dim=dim)


# Whole rows of any words: numbers as GloVe prints them, any UTF-8 but newline and space.
letters = st.characters(exclude_characters="\n\r ", exclude_categories=["Cs"])
tokens = st.text(letters, min_size=1, max_size=4) | st.sampled_from(
    ["a\u00a0b", "a\x85b", "\u3000", "\u2028", "a b", ". . .", "at name@domain.com", "- -"]
)
numbers = st.floats(-100, 100).map("{:.5g}".format)


@st.composite
def files(draw):
    dim = draw(st.integers(2, 4))
    rows = draw(
        st.lists(
            st.tuples(tokens, st.lists(numbers, min_size=dim, max_size=dim)),
            min_size=1,
            max_size=30,
        )
    )
    text = draw(st.sampled_from(["\n", "\r\n", " \n"])).join(
        f"{token} {' '.join(values)}" for token, values in rows
    )
    wanted = draw(st.lists(tokens, unique=True, max_size=10))
    seen = [token for token, _ in rows]
    words = list(dict.fromkeys([*wanted, *draw(st.lists(st.sampled_from(seen), min_size=1))]))
    return dim, text + draw(st.sampled_from(["", "\n"])), words, seen


def is_float(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("small", [0, 1 << 16])
@given(case=files())
def test_any_text_gives_the_matrix_of_the_classic_loop(tmp_path, small, case):
    dim, text, words, seen = case
    path = tmp_path / "vectors.txt"
    path.write_bytes(text.encode())
    original = formats._SMALL_BLOCK, formats._BLOCK
    formats._SMALL_BLOCK, formats._BLOCK = small, 64 if small else 1 << 18
    try:
        vectors = load(path, words, dim=dim)
    finally:
        formats._SMALL_BLOCK, formats._BLOCK = original
    assert vectors.matrix.tobytes() == classic_matrix(path, words, dim).tobytes()
    assert vectors.found.tolist() == [word in seen for word in words]
    repeats = sum(seen.count(word) - 1 for word in words if word in seen)
    assert vectors.coverage.duplicates == repeats
    assert vectors.coverage.bad_rows == 0


def test_first_of_duplicates_wins(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("a 1 2\nb 3 4\na 5 6\na 7 8\nc 1 1\nc 2 2\n")
    vectors = load(path, ["a", "b"])
    assert vectors.matrix.tolist() == [[1, 2], [3, 4]]
    assert vectors.coverage.duplicates == 2


def test_a_word_is_not_its_first_part(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(". . . 1 2\nat name@domain.com 3 4\n. 5 6\nat 7 8\n")
    assert load(path, [".", "at"]).matrix.tolist() == [[5, 6], [7, 8]]
    assert load(path, [". . .", "at name@domain.com"]).matrix.tolist() == [[1, 2], [3, 4]]


BAD = {
    "short": (b"bad 1 2", "a word and 3 numbers, found 2 numbers"),
    "long": (b"bad 1 2 3 4", "a word and 3 numbers, found 4 numbers"),
    "truncated": (b"ba", "a word and 3 numbers, found 0 numbers"),
    "no number": (b"wanted 1 x 3", "3 finite numbers, found 'x'"),
    "two spaces": (b"wanted 1  3", "3 finite numbers, found ''"),
    "not finite": (b"wanted 1 nan 3", "3 finite numbers, found 'nan'"),
    "overflow": (b"wanted 1 1e39 3", "3 finite numbers, found '1e39'"),
    "no UTF-8": (b"b\xffd 1 2 3", r"UTF-8, found 'b\\xffd'"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("small", [0, 1 << 16], ids=["large", "small"])
@pytest.mark.parametrize("header", [b"", b"200 3\n"], ids=["glove", "word2vec"])
def test_bad_rows(tmp_path, monkeypatch, kind, small, header):
    monkeypatch.setattr(formats, "_SMALL_BLOCK", small)
    line, message = BAD[kind]
    rows = [f"w{number} {number} 0.5 -1".encode() for number in range(200)]
    rows[120] = line
    path = tmp_path / "vectors.txt"
    path.write_bytes(header + b"\n".join(rows) + b"\n")
    number = 121 + bool(header)
    vectors = load(path, ["w0", "wanted", "w199"])
    assert vectors.matrix.tolist() == [[0, 0.5, -1], [0, 0, 0], [199, 0.5, -1]]
    assert vectors.coverage.bad_rows == 1
    assert vectors.coverage.bad_examples == (f"line {number}: expected {message}",)
    assert f"line {number}: expected" in vectors.coverage.table()
    with pytest.raises(
        ValueError, match=rf"`file` .*vectors.txt, line {number}: expected"
    ) as error:
        load(path, ["w0", "wanted", "w199"], strict=True)
    assert message in str(error.value)


def test_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("a 1 2\n\n\n\nb 3 4\n\n\n")
    vectors = load(path, ["a", "b"], strict=True)
    assert vectors.matrix.tolist() == [[1, 2], [3, 4]]
    assert vectors.coverage.bad_rows == 0


def test_columns_parted_by_two_spaces_are_named(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("a  1  2\nb  3  4\n")
    with pytest.raises(ValueError, match=r"numbers, separated by single spaces, found"):
        load(path, ["a", "b"])


def test_tensors_and_words_as_bytes(tmp_path):
    class Tensor:  # `size` is a method, as in PyTorch
        def size(self):
            raise AssertionError

        def __array__(self, dtype=None, copy=None):
            return np.array([1.0, 2.0], dtype)

    assert load({"a": Tensor()}, ["a"]).matrix.tolist() == [[1, 2]]
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert load(matrix, ["b"], words=[b"a", b"b"]).matrix.tolist() == [[3, 4]]
    assert load(matrix, ["b"], words=iter("ab")).matrix.tolist() == [[3, 4]]


def test_a_bad_row_does_not_take_the_place_of_a_good_one(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("w 1 x\n" + "w 1 2\n" + "".join(f"v{i} 1 2\n" for i in range(200)))
    vectors = load(path, ["w"])
    assert vectors.matrix.tolist() == [[1, 2]]
    assert (vectors.coverage.bad_rows, vectors.coverage.duplicates) == (1, 0)


def test_more_than_one_bad_row_in_a_hundred_raises(tmp_path):
    path = tmp_path / "vectors.txt"
    rows = [f"w{number} 1 2" for number in range(200)]
    rows[100:102] = ["bad 1", "bad"]
    path.write_text("\n".join(rows))
    assert load(path, ["w0"]).coverage.bad_rows == 2
    rows[102] = "bad 1 2 3 4"
    path.write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"3 of 200 rows are bad(.|\n)*line 101: expected"):
        load(path, ["w0"])


@pytest.mark.parametrize("name", ["word2vec.bin", "word2vec.txt"])
def test_a_file_cut_short_raises(tmp_path, name):
    path = tmp_path / name
    data = FILES[name]
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"is cut short in row [34]: expected"):
        load(path)


@pytest.mark.parametrize("name", ["glove.txt.gz", "one.zip"])
def test_a_damaged_archive_raises(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name][:-30])
    with pytest.raises(ValueError, match="is not a complete archive"):
        load(path)


def test_binary_faults(tmp_path):
    path = tmp_path / "vectors.bin"
    rows = {f"w{number}": [number, 0, 0] for number in range(200)}
    rows["w7"] = [np.nan, 0, 0]
    path.write_bytes(binary(rows).replace(b"w9 ", b"\xff9 "))
    vectors = load(path, ["w7", "w8"])
    assert vectors.matrix.tolist() == [[0, 0, 0], [8, 0, 0]]
    assert vectors.coverage.bad_examples == (
        "row 8: expected 3 finite numbers, found 'w7'",
        r"row 10: expected UTF-8, found '\\xff9'",
    )


def test_another_dimension_raises(tmp_path):
    for name in ("glove.txt", "word2vec.txt", "word2vec.bin"):
        path = tmp_path / name
        path.write_bytes(FILES[name])
        with pytest.raises(ValueError, match=r"vectors of 3 numbers; `dim` says 4\. Pass dim=3"):
            load(path, dim=4)
    with pytest.raises(ValueError, match="vectors of 3 numbers; `dim` says 4"):
        load(ROWS, dim=4)
    with pytest.raises(ValueError, match="`dim` must be a positive"):
        load(ROWS, dim=0)


def test_what_is_no_vector_file(tmp_path):
    path = tmp_path / "file"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        member = tarfile.TarInfo("glove.txt")
        member.size = len(TEXT.encode())
        packed.addfile(member, io.BytesIO(TEXT.encode()))
    for data, message in [
        (gzip.compress(archive.getvalue()), "is a tar archive. Unpack it"),
        (archive.getvalue(), "is a tar archive. Unpack it"),
        (f"6 4\n{TEXT}".encode(), "a header that says 4 numbers a row, and rows of 3"),
        (b"6 4\n" + TEXT.replace("naïve", "na\x01ve").encode(), "says 4 numbers a row"),
        (f"6 4\n{TEXT}".encode("utf-16-le"), "not in a known format"),
        (f"6 4\n{TEXT}".encode("gb18030"), "says 4 numbers a row, and rows of 3"),
        (b"6 3\n" + TEXT.replace(" ", "\t").encode(), "separated by single spaces"),
        (b"6 3\n", "holds a header and no rows"),
        (b"6 400000000\n\n", "holds a header and no rows"),
        (b"9" * 5000 + b" 3\na 1 2 3\n", "1 of 2 rows are bad"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"the\t0.1\t0.2\n", "separated by single spaces"),
        (b"<html>\n<body>\n", "not in a known format"),
        (b"\xba\x16\x4f\x2f1234", r"Give the \.vec file"),
    ]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            load(path)
    with pytest.raises(IsADirectoryError, match=r"is a directory. Give a file in it: file\."):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt does not exist. Give another path"):
        load(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dim", [2_000_000, 4_194_304, 4_194_305, 20_000_000, 10**18 - 1])
def test_a_header_costs_no_memory_that_the_file_does_not_back(tmp_path, pack, dim):
    path = tmp_path / "vectors.bin"
    body = np.random.default_rng(0).bytes(350_000)
    path.write_bytes(pack(f"1 {dim}\nthe ".encode() + body))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\.bin (is cut short in row 1|says that it has)"):
            load(path, [f"w{number}" for number in range(1000)])
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("place", ["first", "later"])
def test_a_line_too_long_is_refused_whole(tmp_path, monkeypatch, pack, place):
    monkeypatch.setattr(formats, "_LONGEST_ROW", 1000)
    monkeypatch.setattr(formats, "_BLOCK", 64)
    rows = [f"w{number} 1 2\n" for number in range(300)]
    # Cut anywhere, its tail would be a row: `w 5 6 w 5 6 ...`.
    rows.insert(0 if place == "first" else 200, "w 5 6 " * 1000 + "w 5 6\n")
    path = tmp_path / "vectors.txt"
    path.write_bytes(pack("".join(rows).encode()))
    with pytest.raises(ValueError, match=r"vectors\.txt has a line longer than 1,000 bytes"):
        load(path, ["w", "w7"])


@pytest.mark.parametrize(
    "number", ["1_0", "1_000.5", "\uff11\uff12", "\u0661", "1e400", "-1e39", "0x1", "1\t", "inf"]
)
def test_only_plain_decimals_are_numbers(tmp_path, number):
    path = tmp_path / "vectors.txt"
    path.write_text(
        "".join(f"v{i} 1 2\n" for i in range(200)) + f"a {number} 2\nb 5 6\n", encoding="utf-8"
    )
    vectors = load(path, ["a", "b"])
    assert vectors.matrix.tolist() == [[0, 0], [5, 6]]
    assert vectors.coverage.bad_rows == 1
    with pytest.raises(ValueError, match="expected 2"):
        load({"b": [5, 6], "a": [number, 2]}, ["a", "b"], strict=True)


@pytest.mark.parametrize("value", [["1", "2"], [b"1", b"2"], [1j, 2], [[1], [1, 2]], None, "ab"])
def test_a_mapping_holds_numbers(value):
    with pytest.raises(ValueError, match=r"`file` dict in memory, word 'a': expected 2"):
        load({"b": [5, 6], "a": value}, ["a", "b"], strict=True)


@pytest.mark.parametrize("name", ["vectors.vec", "vectors.bin"])
def test_a_header_that_counts_other_rows_is_told(tmp_path, name):
    data = FILES["word2vec.txt" if name == "vectors.vec" else "word2vec.bin"]
    path = tmp_path / name
    path.write_bytes(data.replace(b"6 3\n", b"60 3\n", 1))
    with pytest.warns(RuntimeWarning, match="header: expected 60 rows, found 6; those that it has"):
        vectors = load(path)
    assert vectors.matrix.tobytes() == MATRIX.tobytes()
    assert (vectors.coverage.file_rows, vectors.coverage.bad_rows) == (6, 0)
    assert vectors.coverage.bad_examples == ("header: expected 60 rows, found 6",)
    with pytest.warns(RuntimeWarning, match="header: expected 60 rows"):
        load(path, cache=True)
    with pytest.warns(RuntimeWarning, match="header: expected 60 rows"):
        load(path, cache=True)
    for cache in (False, True):
        with pytest.raises(ValueError, match="header: expected 60 rows, found 6"):
            load(path, strict=True, cache=cache)
    if name == "vectors.bin":
        path.write_bytes(data.replace(b"6 3\n", b"5 3\n", 1))
        with pytest.warns(RuntimeWarning, match="header: expected 5 rows, found more"):
            load(path)


def repacked(method, damage):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        archive.writestr("glove.txt", TEXT * 200)
    whole = bytearray(data.getvalue())
    damage(whole)
    return bytes(whole)


def encrypt(whole):
    whole[6] |= 1
    whole[whole.find(b"PK\x01\x02") + 8] |= 1


def deflate64(whole):
    whole[8] = whole[whole.find(b"PK\x01\x02") + 10] = 9


def spoil(whole):
    for at in range(60, 100):
        whole[at] ^= 0x55


@pytest.mark.parametrize(
    ("method", "damage", "message"),
    [
        (zipfile.ZIP_DEFLATED, encrypt, "is packed in a way that cannot be read here .*password"),
        (zipfile.ZIP_DEFLATED, deflate64, "is packed in a way that cannot be read here"),
        (zipfile.ZIP_LZMA, spoil, "is not a complete archive"),
        (zipfile.ZIP_BZIP2, spoil, "is not a complete archive"),
        (zipfile.ZIP_DEFLATED, spoil, "is not a complete archive"),
    ],
)
def test_archives_that_cannot_be_read_are_named(tmp_path, method, damage, message):
    path = tmp_path / "vectors.zip"
    path.write_bytes(repacked(method, lambda whole: None))
    assert load(path).matrix.tobytes() == MATRIX.tobytes()
    path.write_bytes(repacked(method, damage))
    with pytest.raises(ValueError, match=rf"`file` .*vectors\.zip {message}"):
        load(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (6,",
        b"(" * 9000,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 300000000000), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, -3), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (6, 3), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }",
        b"\xff" * 100,
    ],
)
def test_a_damaged_npy_is_named(tmp_path, header):
    path = tmp_path / "vectors.npy"
    body = MATRIX.tobytes()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body)
    with pytest.raises(
        ValueError, match=r"`file` .*\.npy (is not a complete \.npy|must be a matrix)"
    ):
        load(path, words=list(ROWS))
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"`file` .*vectors\.npy is not a complete \.npy"):
        load(path, words=list(ROWS))


@pytest.mark.parametrize("more", [b"", b"a comment", b"PK" * 1000])
def test_a_zip_may_have_a_comment_and_more_behind_it(tmp_path, more):
    path = tmp_path / "vectors.zip"
    path.write_bytes(zipped(**{"any.txt": TEXT}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = more
    with path.open("ab") as file:
        file.write(more)
    assert load(path).matrix.tobytes() == MATRIX.tobytes()


def test_a_zip_whose_directory_hides_members_is_told(tmp_path):
    path = tmp_path / "vectors.zip"
    whole = bytearray(zipped(**{"glove.3d.txt": TEXT, "glove.13d.txt": TEXT}))
    first = whole.find(b"PK\x01\x02", whole.find(b"PK\x01\x02") + 1)
    behind = whole.find(b"PK\x01\x02", first + 1)
    whole[first + 32 : first + 34] = struct.pack("<H", whole.find(b"PK\x05\x06") - behind)
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.infolist()) == 2  # the third has become a comment of the second
    with pytest.raises(ValueError, match="it lists 2 members and counts 3"):
        load(path, dim=3)


def test_a_model_is_told_from_its_vectors():
    model = SimpleNamespace(wv=SimpleNamespace(key_to_index={}, vectors=MATRIX))
    with pytest.raises(TypeError, match=r"Received: SimpleNamespace .*Give its vectors: model\.wv"):
        load(model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("cache", [False, True])
def test_a_pipe_is_told_and_never_waited_for(tmp_path, cache):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"`file` .*pipe is no regular file"):
        load(tmp_path / "pipe", cache=cache)


def test_rows_of_one_number_are_no_header(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("5 3\n6 4\nx 1\n")
    assert load(path, ["5", "x"]).matrix.tolist() == [[3], [1]]


def test_long_reads_show_progress(tmp_path, monkeypatch, capsys):
    from keras_rnnkit import progress

    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"w{i} 1 2\n" for i in range(2000)))
    monkeypatch.setattr(formats, "_BLOCK", 4096)
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock) / 2)
    load(path, ["w1"], progress=False)
    assert capsys.readouterr().err == ""
    load(path, ["w1"])
    shown = capsys.readouterr().err
    assert shown.startswith(f"\r{path}: ")
    assert shown.endswith("100%\n")
    clock = iter([0] * 1000)
    load(path, ["w1"])
    assert capsys.readouterr().err == ""
