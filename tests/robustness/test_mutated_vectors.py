"""Whatever is wrong in a file of vectors, no word gets another vector than its line says."""

import gzip
import re
import warnings
from functools import partial

import numpy as np

import keras_rnnkit as rk
from keras_rnnkit.embedding import formats
from tests.robustness.examples import examples, outcome

ROWS, MUTATED, DIM = 1200, 1000, 3
NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
PIECES = [
    *(b" ", b"  ", b"\t", b"\r", b"\x00", b"\x0b", b"\xff", b"\xc2\xa0", b"_", b"e", b".", b"-"),
    *(b"nan", b"inf", b"1_0", b"1e400", b"1e-400", b"0x10", b"1,5", b"--1", b"+1", b"1e39"),
    *("\uff11\uff12".encode(), "\u0661".encode(), "\u2028".encode(), b"00001", b"1" * 60),
]


def lines_of(rng):
    values = rng.normal(size=(ROWS, DIM)).round(5)
    return [
        f"w{row} {' '.join(map(str, numbers))}".encode()
        for row, numbers in enumerate(values.tolist())
    ]


def mutate(line, others, rng):
    """A line with one thing wrong with it, or two."""
    for _ in range(rng.integers(1, 3)):
        at = int(rng.integers(len(line) + 1))
        fields = line.split(b" ")
        field = int(rng.integers(len(fields)))
        piece = PIECES[rng.integers(len(PIECES))]
        match rng.integers(9):
            case 0:
                line = line[:at] + piece + line[at:]
            case 1:
                line = line[:at] + line[at + 1 :]
            case 2:
                line = line[:at] + rng.bytes(1).replace(b"\n", b"?") + line[at + 1 :]
            case 3:
                line = line[:at]
            case 4:
                line = b" ".join([*fields[:field], piece, *fields[field + 1 :]])
            case 5:
                line = b" ".join(fields[:field] + fields[field + 1 :])
            case 6:
                line = b" ".join([*fields[:field], fields[field], *fields[field:]])
            case 7:
                line = line + b" " + others[rng.integers(len(others))]
            case 8:
                line = others[rng.integers(len(others))].split(b" ")[0] + line[line.find(b" ") :]
    return line


def reference(data, words):
    """The vector of each word's first sound line, written from what the guide says of a line."""
    found = {}
    for line in data.split(b"\n"):
        word, *numbers = line.rstrip(b"\r").rstrip(b" ").rsplit(b" ", DIM)
        if word not in words or word in found or len(numbers) < DIM:
            continue
        if not all(map(NUMBER.fullmatch, numbers)):
            continue
        with np.errstate(over="ignore"):
            vector = np.array([float(number) for number in numbers]).astype(np.float32)
        if np.isfinite(vector).all():
            found[word] = vector
    return found


def cases():
    for index, rng in enumerate(examples(4)):
        lines = lines_of(rng)
        places = rng.choice(range(10, ROWS), MUTATED, replace=False)  # the first tell the format
        words = {b"w%d" % row for row in (*places, *rng.choice(ROWS, 50))}
        for place in places:
            lines[place] = mutate(lines[place], lines, rng)
        header = b"%d %d\n" % (ROWS, DIM) if index % 3 == 1 else b""
        ends = [b"\n", b"\r\n", b" \n"][index % 4 % 3]
        yield index, header + ends.join(lines) + ends, words


def test_no_word_gets_another_vector(tmp_path, monkeypatch):
    plain, packed = tmp_path / "vectors.txt", tmp_path / "vectors.txt.gz"
    monkeypatch.setattr(formats, "_BAD_SHARE", 1.0)  # read on, however many rows are bad
    for index, data, words in cases():
        path = packed if index % 5 == 0 else plain
        path.write_bytes(gzip.compress(data, 1) if path is packed else data)
        monkeypatch.setattr(formats, "_BLOCK", [1 << 17, 1 << 10][index % 2])
        vocabulary = sorted(word.decode() for word in words)
        expected = reference(data, words)
        vectors = rk.load_vectors(path, vocabulary, dim=DIM, fallbacks=(), warn_below=None)
        for word, row, found in zip(vocabulary, vectors.matrix, vectors.found, strict=True):
            assert found == (word.encode() in expected), (index, word)
            if found:
                assert row.tobytes() == expected[word.encode()].tobytes(), (index, word)


def test_a_file_with_anything_wrong_in_it_is_read_or_refused_by_name(tmp_path):
    path = tmp_path / "vectors.txt"
    for rng in examples(60):
        lines = lines_of(rng)[:40]
        for place in rng.integers(40, size=int(rng.integers(1, 12))):
            lines[place] = mutate(lines[place], lines, rng)
        head = [b"", b"40 3\n", b"40 4\n", b"4000 3\n", b"3 40\n"][rng.integers(5)]
        data = head + b"\n".join(lines)
        path.write_bytes(data)
        words = {b"w%d" % row for row in range(40)}
        vocabulary = sorted(map(bytes.decode, words))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the header and the coverage
            vectors = outcome(path, partial(rk.load_vectors, path, vocabulary, fallbacks=()))
        if vectors is None or vectors.coverage.dim != DIM:
            continue
        expected = reference(data, words)
        for word, row, found in zip(vocabulary, vectors.matrix, vectors.found, strict=True):
            assert found == (word.encode() in expected), data
            assert not found or row.tobytes() == expected[word.encode()].tobytes(), data
