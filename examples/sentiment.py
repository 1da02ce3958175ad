"""
Sentiment classification: three recurrent models side by side
=============================================================

Is a review of a film positive or negative? From a folder of reviews and a file of word vectors to a
SimpleRNN, an LSTM and a GRU, on TensorFlow, JAX or PyTorch::

    python examples/sentiment.py
    python examples/sentiment.py --data aclImdb_v1.tar.gz --glove glove.6B.zip --dim 50

The reviews are the Large Movie Review Dataset, https://ai.stanford.edu/~amaas/data/sentiment/, and
the vectors any of https://nlp.stanford.edu/projects/glove/. Without them it runs on reviews that it
generates, whose figures say nothing about real ones.
"""

import json
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_rnnkit as rk

# %%
# Settings
# --------

DATA = None  # aclImdb, or its .tar.gz or .zip; "download" fetches it; without one, generated
GLOVE = None  # a file of word vectors, packed or not
DIM = 50  # numbers in a vector, which picks the file in a .zip
FREEZE = False  # leave the vectors as they are, instead of training them too
UNITS = 32  # of each model
MAXLEN = 200  # last words of a review to keep
EPOCHS = 8  # at most; the best one is kept
BATCH = 128  # reviews in a batch
SEED = 0  # of weights and order
OUTPUT = "results"  # the folder for the figure and the best model

# sphinx_gallery_start_ignore
try:
    import command_line
except ModuleNotFoundError:  # a copy of this file alone has its settings
    pass
else:
    command_line.change(globals(), quick={"EPOCHS": 2, "MAXLEN": 60, "BATCH": 32})
# sphinx_gallery_end_ignore
folder = Path(OUTPUT)
folder.mkdir(parents=True, exist_ok=True)

# %%
# Reviews
# -------
# ``imdb_reviews`` counts the reviews of each label, duplicates and damaged bytes. The best epoch is
# chosen by the validation part, so a fair accuracy needs other reviews: the test part.

GOOD = ("good", "great", "fine", "superb", "moving", "charming", "brilliant", "lovely")
BAD = ("bad", "dull", "awful", "poor", "boring", "weak", "terrible", "clumsy")
OTHER = ("the", "a", "of", "and", "in", "this", "film", "plot", "actor", "scene", "music", "was")


def generate_reviews(number, seed):
    """Reviews made of words of praise or blame, some of them negated, among other words."""
    random = np.random.default_rng(seed)
    texts, labels = [], random.integers(0, 2, number, dtype=np.int32)
    for label in labels:
        words = list(random.choice(OTHER, random.integers(10, 80)))
        for place in random.integers(0, len(words), 3):
            denied = random.random() < 0.3
            verdict = random.choice(GOOD if label != denied else BAD)
            words.insert(place, f"not {verdict}" if denied else verdict)
        texts.append(" ".join(words))
    return texts, labels


if DATA is None:
    print(
        "Data: GENERATED reviews. For real ones fetch aclImdb_v1.tar.gz (84 MB) and glove.6B.zip\n"
        "(862 MB) from https://ai.stanford.edu/~amaas/data/sentiment/ and\n"
        "https://nlp.stanford.edu/projects/glove/, and set DATA and GLOVE."
    )
    sizes = {"train": 900, "val": 300, "test": 300}
    parts = {
        name: generate_reviews(size, [SEED, number])
        for number, (name, size) in enumerate(sizes.items())
    }
else:
    reviews = rk.datasets.imdb_reviews(None if DATA == "download" else DATA, seed=SEED)
    print(reviews)
    parts = {name: getattr(reviews, name) for name in ("train", "val", "test")}
    parts = {name: (part.texts, part.labels) for name, part in parts.items()}
    if not parts["test"][0]:
        few = len(parts["train"][0]) // 20
        texts, labels = parts["train"]
        parts |= {"train": (texts[few:], labels[few:]), "test": (texts[:few], labels[:few])}
        print(f"\nThere are no test reviews: {few:,} of the training reviews are set aside.")
labels = {name: part[1] for name, part in parts.items()}

# %%
# Words to rows of a vocabulary
# -----------------------------
# Padding is on the right and masked, so that it changes nothing. A long review keeps its last
# words, where the verdict usually is. A review without words becomes one unknown word, so that it
# has a time step.
#
# The vocabulary is passed as an argument, which is saved in the model's config. Keras saves what
# ``adapt`` found as lines of text, which cannot be read again if a word contains one of Unicode's
# line ends, as in some of the real reviews.

counted = keras.layers.TextVectorization(max_tokens=10_000)
counted.adapt(parts["train"][0])
vocabulary = [str(word) for word in counted.get_vocabulary()]
vectorizer = keras.layers.TextVectorization(max_tokens=10_000, vocabulary=vocabulary)


def last_words(tokens, maxlen):
    """The last words of each review, padded on the right, ``(reviews, maxlen)``."""
    words = ops.sum(ops.cast(ops.not_equal(tokens, 0), "int32"), axis=1, keepdims=True)
    places = ops.arange(maxlen, dtype="int32") + ops.maximum(words - maxlen, 0)
    kept = ops.take_along_axis(ops.pad(tokens, ((0, 0), (0, maxlen))), places, axis=1)
    return ops.where(places < ops.maximum(words, 1), ops.maximum(kept, 1), 0)


def to_rows(vectorizer, texts, maxlen):
    batches = [
        ops.convert_to_numpy(last_words(vectorizer(texts[start : start + 500]), maxlen))
        for start in range(0, len(texts), 500)
    ]
    return np.concatenate(batches).astype(np.int32)


x = {name: to_rows(vectorizer, texts, MAXLEN) for name, (texts, _) in parts.items()}

# %%
# Rows to vectors
# ---------------
# The layer reads the file when it is built, and its coverage says how many words have a vector, and
# names those that have none, the most frequent first. Generated reviews come with a file of
# generated vectors, those of praise on one side and those of blame on the other.


def write_vectors(path):
    random = np.random.default_rng(SEED)
    side = random.normal(0, 0.4, DIM)
    with path.open("w", encoding="utf-8") as file:
        for word in (*GOOD, *BAD, *OTHER, "not"):
            vector = random.normal(0, 0.3, DIM) + side * ((word in GOOD) - (word in BAD))
            print(word, *(f"{value:.5f}" for value in vector), file=file)


def make_embedding():
    """The vectors of the vocabulary as a layer: built, so that the file is needed no more."""
    if GLOVE is None and DATA is not None:
        return keras.layers.Embedding(len(vocabulary), DIM, mask_zero=True)
    with tempfile.TemporaryDirectory() as temporary:
        file = GLOVE
        if file is None:
            write_vectors(file := Path(temporary, "generated.txt"))
        layer = rk.GloVeEmbedding(file, vocabulary, dim=DIM, trainable=not FREEZE, warn_below=None)
        layer.build()
    return layer


embedding = make_embedding()
if isinstance(embedding, rk.GloVeEmbedding):
    print(f"Vectors: {embedding.coverage!r}")
    print(f"  missing, most frequent first: {', '.join(embedding.coverage.missing[:10]) or 'none'}")

# %%
# Models
# ------
# All three have the same head: the mean of the states over the words of the review. The last state
# alone does for the LSTM and the GRU, but little of what a SimpleRNN reads survives until then. Its
# recurrent weights start a little below orthogonal, so that states neither explode nor vanish soon.
# The learning rate falls to 0 over the training.

KINDS = {"SimpleRNN": rk.SimpleRNN, "LSTM": rk.LSTM, "GRU": rk.GRU}


def build_model(kind):
    keras.utils.set_random_seed(SEED)
    gain = {"SimpleRNN": 0.9}.get(kind, 1.0)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    words = keras.layers.SpatialDropout1D(0.5)(make_embedding()(tokens))
    states = KINDS[kind](
        UNITS, return_sequences=True, recurrent_initializer=keras.initializers.Orthogonal(gain)
    )(words)
    mean = keras.layers.GlobalAveragePooling1D()(states)
    model = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid")(mean), name=kind)
    steps = EPOCHS * -(-len(labels["train"]) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    return model


# %%
# Training
# --------

models, histories, rows = {}, {}, {}
for kind in KINDS:
    models[kind] = build_model(kind)
    best = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=4, restore_best_weights=True
    )
    began = time.perf_counter()
    histories[kind] = models[kind].fit(
        x["train"], labels["train"], batch_size=BATCH, epochs=EPOCHS, callbacks=[best],
        validation_data=(x["val"], labels["val"]), verbose=2,
    )  # fmt: skip
    accuracies = histories[kind].history["val_accuracy"]
    scores = [models[kind].evaluate(x[name], labels[name], batch_size=256, verbose=0) for name in x]
    rows[kind] = [
        models[kind].count_params(),
        (time.perf_counter() - began) / len(accuracies),
        1 + int(np.argmax(accuracies)),
        *scores[0],
        *scores[1],
        scores[2][1],
        rk.explain_path(models[kind], training=True).layers[0].path,
    ]

# %%
# Results
# -------
# Loss and accuracy of the best epoch, and the path that each layer takes on this machine.

if DATA is None:
    print("GENERATED reviews: these figures say nothing about real ones.\n")
print(f"{'':10}{'':>27}{'train':>16}{'val':>16}{'test':>8}")
print(
    f"{'model':<10}{'params':>9}{'s/epoch':>9}{'kept':>9}{'loss':>8}{'acc':>8}{'loss':>8}{'acc':>8}"
    f"{'acc':>8}{'path':>8}"
)
for kind, (size, seconds, kept, *figures, path) in rows.items():
    shown = "".join(f"{figure:8.3f}" for figure in figures)
    print(f"{kind:<10}{size:9,}{seconds:9.1f}{kept:9}{shown}{path:>8}")
axes = rk.plot.history(histories, ["loss", "accuracy"])
axes[0].figure.savefig(folder / "history.png", dpi=110)

# %%
# Saved with its words
# --------------------
# On TensorFlow the saved model takes strings. JAX and PyTorch have no strings, so there the
# vectorizer is saved beside the model. Either way it reloads without the file of vectors.


def save(model):
    if keras.backend.backend() == "tensorflow":
        review = keras.Input((), dtype="string", name="review")
        model = keras.Model(review, model(last_words(vectorizer(review), MAXLEN)))
    else:
        words = keras.Sequential([keras.Input((), dtype="string"), vectorizer])
        words.save(folder / "words.keras")
        (folder / "maxlen.json").write_text(json.dumps(MAXLEN))
    model.save(folder / "sentiment.keras")


def score(folder, texts):
    """How probably each review is positive, ``(reviews,)``, from what ``save`` left."""
    model = keras.saving.load_model(folder / "sentiment.keras")
    if keras.backend.backend() == "tensorflow":
        return model.predict(ops.convert_to_tensor(texts), verbose=0)[:, 0]
    words = keras.saving.load_model(folder / "words.keras").layers[-1]
    maxlen = json.loads((folder / "maxlen.json").read_text())
    return model.predict(to_rows(words, texts, maxlen), verbose=0)[:, 0]


best = max(rows, key=lambda kind: rows[kind][6])  # by validation accuracy
save(models[best])
expected = models[best].predict(x["test"][:32], verbose=0)[:, 0]
np.testing.assert_allclose(score(folder, list(parts["test"][0][:32])), expected, atol=1e-5)
print(f"The best, {best}, reloaded from {folder}/ scores 32 raw reviews the same.")
for text, probability in zip(parts["test"][0][:2], expected, strict=False):
    print(f"{probability:.3f}  {text[:70]} ...")
