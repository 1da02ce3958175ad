"""A damaged cache is read past: what is served is what the file holds."""

import os

import numpy as np
import pytest

import keras_rnnkit as rk
from tests.robustness.examples import damage, examples

WORDS = ["", "[UNK]", *(f"w{row}" for row in range(60)), "missing"]


def load(path, **options):
    return rk.load_vectors(path, WORDS, cache=True, fallbacks=(), warn_below=None, **options)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vectors.txt"
    rows = np.random.default_rng(0).normal(size=(60, 4)).round(3)
    lines = [f"w{row} {' '.join(map(str, numbers))}" for row, numbers in enumerate(rows.tolist())]
    path.write_text("\n".join([*lines, "bad 1"]) + "\n" + "x 1 2 3 4\n" * 100)
    return path


def test_a_damaged_cache_serves_nothing(file, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # of no matter here, and slow
    expected = load(file)
    (cache,) = file.parent.glob("*.cache")
    whole = cache.read_bytes()
    for rng in examples(200):
        broken = damage(whole, rng)
        cache.write_bytes(broken)
        vectors = load(file)
        assert vectors.matrix.tobytes() == expected.matrix.tobytes()
        assert vectors.found.tobytes() == expected.found.tobytes()
        assert vectors.coverage == expected.coverage
        assert cache.read_bytes() == whole


def test_the_cache_of_another_file_or_vocabulary_serves_nothing(file, tmp_path):
    expected = load(file)
    (cache,) = file.parent.glob("*.cache")
    other = tmp_path / "other.txt"
    other.write_text(file.read_text().replace("w8 ", "w8 9 9 9 9\nw8 "))
    moved = load(other)
    (second,) = other.parent.glob("other*.cache")
    assert moved.matrix.tobytes() != expected.matrix.tobytes()
    cache.write_bytes(second.read_bytes())
    assert load(file).matrix.tobytes() == expected.matrix.tobytes()
