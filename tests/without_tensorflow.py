"""What must run without TensorFlow; test_package.py runs it with the import blocked."""

import numpy as np

import keras_rnnkit as rk

embedding = rk.GloVeEmbedding({"the": [1.0, 2.0]}, ["", "[UNK]", "the"], freeze_found=True)
assert embedding(np.array([[2, 0]])).shape == (1, 2, 2)
assert embedding.coverage.words_found == 1

print("ran without tensorflow")
