"""The loop that everybody copies, as the reference: a dict of all rows, then a matrix."""

import numpy as np


def classic_matrix(path, words, dim, separator=" "):
    """Rows of `words`, zero where the file has none; of repeated rows the first counts."""
    index = {}
    with path.open("rb") as stream:
        for line in stream.read().split(b"\n"):
            token, *values = line.decode().rstrip("\r ").rsplit(separator, dim)
            if len(values) == dim and token not in index:
                index[token] = np.asarray(values, dtype="float32")
    matrix = np.zeros((len(words), dim), dtype="float32")
    for row, word in enumerate(words):
        if word in index:
            matrix[row] = index[word]
    return matrix
