"""A damaged archive gives what it held, or an error that names it."""

import gzip
import io
import tarfile
import zipfile
from collections import Counter

import numpy as np
import pytest

import keras_rnnkit as rk
from tests.robustness.examples import damage, examples, outcome

WORDS = [f"w{row}" for row in range(40)]
ROWS = np.random.default_rng(0).normal(size=(40, 3)).round(4).astype(np.float32)
TEXT = "".join(
    f"{word} {' '.join(map(str, row))}\n" for word, row in zip(WORDS, ROWS.tolist(), strict=True)
).encode()
BINARY = b"40 3\n" + b"".join(
    word.encode() + b" " + row.tobytes() for word, row in zip(WORDS, ROWS, strict=True)
)


def zipped(data, method):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("vectors.txt", data)
    return packed.getvalue()


ARCHIVES = {
    "text.gz": gzip.compress(TEXT),
    "binary.gz": gzip.compress(BINARY),
    "deflated.zip": zipped(TEXT, zipfile.ZIP_DEFLATED),
    "bzip2.zip": zipped(TEXT, zipfile.ZIP_BZIP2),
    "lzma.zip": zipped(TEXT, zipfile.ZIP_LZMA),
    "stored.zip": zipped(BINARY, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_vectors_of_a_damaged_archive(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(ARCHIVES[name])
    assert rk.load_vectors(path, WORDS, strict=True).matrix.tobytes() == ROWS.tobytes()
    for rng in examples(60):
        path.write_bytes(damage(ARCHIVES[name], rng))
        vectors = outcome(path, lambda: rk.load_vectors(path, WORDS, strict=True))
        assert vectors is None or vectors.matrix.tobytes() == ROWS.tobytes()


def test_a_damaged_npy(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, ROWS)
    head = path.read_bytes()[:128]
    for rng in examples(100):
        path.write_bytes(damage(head, rng) + ROWS.tobytes())
        vectors = outcome(path, lambda: rk.load_vectors(path, WORDS, words=WORDS, warn_below=None))
        assert vectors is None or len(vectors.matrix) == len(WORDS)


def reviews():
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for part, number in (("train", 12), ("test", 3)):
            for label in ("pos", "neg"):
                for index in range(number):
                    data = f"{part} {label} {index}".encode()
                    member = tarfile.TarInfo(f"aclImdb/{part}/{label}/{index}_7.txt")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return plain.getvalue()


def all_texts(path):
    found = rk.datasets.imdb_reviews(path, val=0)
    return sorted(found.train.texts + found.test.texts)


def test_reviews_of_a_damaged_archive(tmp_path):
    """What the archive checks itself comes out as it went in, or not at all."""
    plain = reviews()
    path = tmp_path / "reviews.tar.gz"
    path.write_bytes(gzip.compress(plain))
    expected = all_texts(path)
    assert len(expected) == 30
    packed = zipfile_of(plain)
    for rng in examples(60):
        for name, data in (("reviews.tar.gz", gzip.compress(plain)), ("reviews.zip", packed)):
            path = tmp_path / name
            path.write_bytes(damage(data, rng))
            assert outcome(path, lambda path=path: all_texts(path)) in (None, expected)


def zipfile_of(plain):
    packed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive, zipfile.ZipFile(packed, "w") as other:
        for member in archive:
            other.writestr(member.name, archive.extractfile(member).read())
    return packed.getvalue()


def headers_of(plain):
    blocks = (plain[at : at + 512] for at in range(0, len(plain), 512))
    return Counter(block for block in blocks if b"ustar" in block)


def test_a_tar_damaged_before_it_was_packed_loses_no_review_in_silence(tmp_path):
    """Tar checks its headers alone: a name or a number of reviews that differs is told."""
    plain = reviews()
    path = tmp_path / "reviews.tar.gz"
    for rng in examples(100):
        damaged = damage(plain, rng)
        if max(headers_of(damaged).values(), default=0) > 1:
            continue  # a header copied whole over another: a repeat, as tar allows it
        if plain.startswith(damaged.rstrip(b"\0")):
            continue  # zeros from some place on: to tar, an archive that ends there
        path.write_bytes(gzip.compress(damaged, 1))
        found = outcome(path, lambda: rk.datasets.imdb_reviews(path, val=0))
        assert found is None or len(found.train) + len(found.test) + len(found.empty) == 30
