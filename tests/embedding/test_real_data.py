"""Genuine GloVe vectors for the words of genuine reviews, against a plain count."""

import collections
import re
import tarfile
from pathlib import Path

import pytest

import keras_rnnkit as rk
from tests.embedding.classic import classic_matrix

DATA = Path(__file__).parents[2].parent / "shared" / "data"
VECTORS = DATA / "glove.6B.50d.10362.txt"
REVIEWS = DATA / "imdb_train20k_val5k.tar.gz"


@pytest.mark.skipif(
    not (VECTORS.exists() and REVIEWS.exists()), reason="the shared GloVe and IMDB files are absent"
)
def test_coverage_of_the_imdb_vocabulary(capsys):
    counts = collections.Counter()
    with tarfile.open(REVIEWS, "r|gz") as archive:
        for member in archive:
            if member.isfile() and member.name.startswith("train/pos/"):
                text = archive.extractfile(member).read().decode().lower()
                counts.update(re.findall(r"[a-z0-9']+", text))
    words = ["", "[UNK]", *(word for word, _ in counts.most_common(20_000))]
    vectors = rk.load_vectors(VECTORS, words, counts=counts, strict=True, warn_below=None)
    with capsys.disabled():
        print(f"\n{vectors.coverage}")
    listed = {line.split(b" ")[0].decode() for line in VECTORS.read_bytes().split(b"\n")[:-1]}
    found = [word for word in words[2:] if word in listed]
    coverage = vectors.coverage
    assert coverage.found == {"exact": len(found), "lower": 0, "digits": 0}
    assert coverage.share == len(found) / 20_000
    assert coverage.tokens == sum(counts[word] for word in words)
    assert coverage.tokens_found == sum(counts[word] for word in found)
    assert coverage.missing == tuple(word for word in words[2:] if word not in listed)
    assert coverage.file_rows == len(listed) == 10_362
    assert vectors.matrix.tobytes() == classic_matrix(VECTORS, words, 50).tobytes()
