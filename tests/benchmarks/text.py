"""What each choice on the way from a review to a number is worth, on real reviews.

PYTHONPATH=. python tests/benchmarks/text.py --data aclImdb_v1.tar.gz --glove glove.6B.50d.txt

One GRU of 32 units and one seed; each row changes one thing. The best epoch by validation accuracy
counts.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np

import keras_rnnkit as rk
from examples.sentiment import compile_model, count_words, last_words, to_numbers

MAXLEN = 200
CHOICES = {
    # name: what differs from the first row
    "mean of the states, last words, mask, trained rows": {},
    "  first words": {"words": "first"},
    "  no mask": {"mask": False},
    "  missing words start at random": {"oov": "normal"},
    "  frozen rows": {"freeze": True},
    "  frozen rows, half of the vectors": {"freeze": True, "coverage": 0.5},
    "  trained rows, no vectors": {"coverage": 0.0},
    "last state, last words, padding on the right, mask": {"head": "last"},
    "  padding on the left, mask": {"head": "last", "side": "left"},
    "  padding on the left, no mask": {"head": "last", "mask": False, "side": "left"},
    "  padding on the right, no mask": {"head": "last", "mask": False},
}


def first_words(tokens, maxlen):
    return last_words(tokens[:, :maxlen], maxlen)


def to_the_left(numbers):
    """The same rows with their padding before their words."""
    moved = np.zeros_like(numbers)
    for old, new in zip(numbers, moved, strict=True):
        words = old[old != 0]
        new[len(new) - len(words) :] = words
    return moved


def make_embedding(glove, vectorizer, coverage, oov, freeze, mask, seed):
    """Rows for the vocabulary, those of a share of the words found taken from the file."""
    words = vectorizer.get_vocabulary()
    if not coverage:
        embedding = keras.layers.Embedding(len(words), 50, mask_zero=mask)
        return embedding, 0.0
    vectors = rk.load_vectors(glove, words, warn_below=None)
    kept = np.random.default_rng(seed).random(len(words)) < coverage
    known = {w: vectors.matrix[i] for i, w in enumerate(words) if vectors.found[i] and kept[i]}
    embedding = rk.GloVeEmbedding(
        known, vectorizer, oov=oov, trainable=not freeze, mask_zero=mask, warn_below=None
    )
    embedding.build()
    return embedding, embedding.coverage.share


def train(numbers, labels, vectorizer, options, *, words, side, mask, freeze, coverage, oov, head):
    keras.utils.set_random_seed(options.seed)
    embedding, share = make_embedding(
        options.glove, vectorizer, coverage, oov, freeze, mask, options.seed
    )
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.SpatialDropout1D(0.5)(embedding(tokens))
    x = rk.GRU(32, return_sequences=head == "mean")(x)
    if head == "mean":
        x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid")(x))
    steps = options.epochs * -(-len(labels["train"]) // 128)
    compile_model(model, steps)
    inputs = numbers[words]
    if side == "left":
        inputs = {part: to_the_left(rows) for part, rows in inputs.items()}
    history = model.fit(
        inputs["train"],
        labels["train"],
        batch_size=128,
        epochs=options.epochs,
        validation_data=(inputs["val"], labels["val"]),
        verbose=0,
    )
    return max(history.history["val_accuracy"]), share


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--glove", type=Path, required=True, help="vectors of 50 numbers")
    parser.add_argument("--reviews", type=int, help="training reviews to take (default: all)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    reviews = rk.datasets.imdb_reviews(options.data)
    taken = {"train": slice(options.reviews), "val": slice(None)}
    texts = {part: getattr(reviews, part).texts[rows] for part, rows in taken.items()}
    labels = {part: getattr(reviews, part).labels[rows] for part, rows in taken.items()}
    vectorizer = count_words(texts["train"])
    numbers = {
        name: {part: to_numbers(vectorizer, texts[part], MAXLEN, cut) for part in texts}
        for name, cut in {"last": last_words, "first": first_words}.items()
    }
    defaults = {"words": "last", "side": "right", "mask": True, "freeze": False}
    defaults |= {"coverage": 1.0, "oov": "zeros", "head": "mean"}
    print(
        f"Keras {keras.__version__} on {keras.backend.backend()}, {options.epochs} epochs, ", end=""
    )
    print(f"seed {options.seed}, {len(labels['train']):,} training reviews")
    print(f"{'':52}{'val accuracy':>12}{'coverage':>10}{'seconds':>9}")
    for name, change in CHOICES.items():
        began = time.perf_counter()
        accuracy, share = train(numbers, labels, vectorizer, options, **{**defaults, **change})
        seconds = time.perf_counter() - began
        print(f"{name:52}{accuracy:12.3f}{share:10.1%}{seconds:9.0f}", flush=True)


if __name__ == "__main__":
    main()
