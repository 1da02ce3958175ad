"""
What an LSTM remembers of a review
==================================

An LSTM reads a review word by word and keeps what it has read in its cell state. Keras returns the
last output alone. ``rk.trace`` gives the cell state and the gates at every word, of a model that is
trained already::

    python examples/cell_states.py
    python examples/cell_states.py --data aclImdb_v1.tar.gz --glove glove.6B.50d.txt

Without reviews it generates some, and says so.
"""

import textwrap
from pathlib import Path

import keras
import numpy as np
from matplotlib import pyplot as plt

import keras_rnnkit as rk

# %%
# Settings
# --------

DATA = None  # aclImdb, or its .tar.gz or .zip; without one, reviews are generated
GLOVE = None  # a file of word vectors, packed or not
REVIEW = None  # the review to look at; without one, two of the validation reviews
UNITS = 16  # of the LSTM
WORDS = 40  # of each review, the last ones
EPOCHS = 6  # at most
SEED = 0  # of weights and order
OUTPUT = "results"  # the folder for the figures

# sphinx_gallery_start_ignore
try:
    import command_line
except ModuleNotFoundError:  # a copy of this file alone has its settings
    pass
else:
    command_line.change(globals(), quick={"EPOCHS": 4})
# sphinx_gallery_end_ignore
keras.utils.set_random_seed(SEED)
folder = Path(OUTPUT)
folder.mkdir(parents=True, exist_ok=True)

# %%
# Reviews
# -------
# A generated review is made of words of praise or blame, some of them negated, among others.

PRAISE = ("good", "great", "fine", "superb", "moving", "charming", "brilliant", "lovely")
BLAME = ("bad", "dull", "awful", "poor", "boring", "weak", "terrible", "clumsy")
OTHER = ("the", "a", "of", "and", "in", "this", "film", "plot", "actor", "scene", "music", "was")


def generate(number, seed):
    random = np.random.default_rng(seed)
    texts, labels = [], random.integers(0, 2, number, dtype=np.int32)
    for label in labels:
        words = list(random.choice(OTHER, random.integers(10, 30)))
        for place in random.integers(0, len(words), 3):
            negated = random.random() < 0.3
            verdict = random.choice(PRAISE if label != negated else BLAME)
            words.insert(place, f"not {verdict}" if negated else verdict)
        texts.append(" ".join(words))
    return texts, labels


if DATA is None:
    print("Data: GENERATED reviews, whose figures say nothing about real ones.")
    train, val = generate(1500, seed=SEED), generate(300, seed=SEED + 1)
else:
    reviews = rk.datasets.imdb_reviews(DATA, seed=SEED)
    print(reviews)
    train, val = ((part.texts, part.labels) for part in (reviews.train, reviews.val))

# %%
# Words become rows of a vocabulary, ``(reviews, words)``; 0 is padding, on the right, and masked.

vectorizer = keras.layers.TextVectorization(max_tokens=10_000)
vectorizer.adapt(train[0])
vocabulary = [str(word) for word in vectorizer.get_vocabulary()]


def to_rows(texts):
    split = []
    for start in range(0, len(texts), 500):
        for row in keras.ops.convert_to_numpy(vectorizer(texts[start : start + 500])):
            split.append(row[: np.count_nonzero(row)][-WORDS:])
    return keras.utils.pad_sequences(split, WORDS, padding="post")


x_train, x_val = to_rows(train[0]), to_rows(val[0])

# %%
# A small model
# -------------
# Its verdict is computed from the last state alone. So the state has to keep what the model has
# read.

if GLOVE is None:
    embedding = keras.layers.Embedding(len(vocabulary), 50, mask_zero=True)
else:
    embedding = rk.GloVeEmbedding(GLOVE, vocabulary, trainable=True, warn_below=None)
tokens = keras.Input((None,), dtype="int32", name="tokens")
words = keras.layers.SpatialDropout1D(0.3)(embedding(tokens))
last = rk.LSTM(UNITS, name="lstm")(words)
model = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid")(last))
model.compile(
    keras.optimizers.Adam(5e-3, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"]
)
best = keras.callbacks.EarlyStopping("val_accuracy", patience=2, restore_best_weights=True)
history = model.fit(
    x_train, train[1], batch_size=32, epochs=EPOCHS, validation_data=(x_val, val[1]),
    callbacks=[best], verbose=2,
)  # fmt: skip

# %%
# The unit that carries the verdict
# ---------------------------------
# One unit has a last cell state that correlates with the verdict more than that of any other unit.

verdict = model.predict(x_val[:500], verbose=0)[:, 0].clip(1e-6, 1 - 1e-6)
cell_state = rk.trace(model, x_val[:500], progress=False)["lstm"]["c"][:, -1]
odds = np.log(verdict / (1 - verdict))
together = np.nan_to_num([np.corrcoef(unit, odds)[0, 1] for unit in cell_state.T])
unit = int(np.abs(together).argmax())
print(f"Unit {unit} carries the verdict: its last cell state and the verdict's log-odds have")
print(f"a correlation of {together[unit]:.2f} over {len(verdict)} validation reviews.")

# %%
# One review
# ----------
# A positive and a negative validation review, those with the surest verdict, or one of your own.
# Time runs from left to right. The cell state is at the top, and below it are the gates. The input
# gate i lets a word in, the forget gate f keeps the state (1) or drops it (0), and the output gate
# o passes it on.


def look_at(text):
    """The words of a review, their trace, and the verdict after each of them."""
    rows = to_rows([text])
    rows = rows[:, : np.count_nonzero(rows)]
    trace = rk.trace(model, rows, progress=False)["lstm"]
    after_each = keras.ops.convert_to_numpy(model.layers[-1](trace["h"][0]))[:, 0]
    return [vocabulary[row] for row in rows[0]], trace, after_each


right = np.where(val[1][:500] == 1, verdict, 1 - verdict)
surest = [np.where(val[1][:500] == label, right, 0).argmax() for label in (1, 0)]
looks = [look_at(text) for text in ([val[0][at] for at in surest] if REVIEW is None else [REVIEW])]
read, trace, after_each = looks[0]
print(trace)
print(textwrap.fill(f"... {' '.join(read)}", 78, initial_indent="\n"))
print(f"is positive with a probability of {after_each[-1]:.3f}.")
axes = rk.plot.trace(trace, ["c", "i", "f", "o"], labels=read)
axes[0].figure.savefig(folder / "cell_states.png", dpi=110)

# %%
# The verdict after each word
# ---------------------------
# The verdict if the review ended there, and the cell state of the unit that carries it.

figure, axes = plt.subplots(
    len(looks), 1, figsize=(7.5, 3.2 * len(looks)), layout="constrained", squeeze=False
)
for ax, (read, trace, after_each) in zip(axes[:, 0], looks, strict=True):
    ax.plot(after_each, color="black", label="verdict after each word")
    ax.axhline(0.5, color="#777777", lw=0.8, ls=":")
    ax.set(ylim=(-0.02, 1.02), ylabel="probability of positive")
    ax.set_xticks(range(len(read)), read, rotation=90, fontsize="small")
    state = ax.twinx()
    state.plot(trace["c"][0, :, unit], color="#D55E00", ls="--", label=f"c, unit {unit}")
    state.set_ylabel(f"cell state of unit {unit}", color="#D55E00")
figure.legend(
    handles=[ax.lines[0], state.lines[0]], loc="outside upper center", ncols=2, frameon=False
)
figure.savefig(folder / "verdict.png", dpi=110)
