"""
What an LSTM remembers of a review
==================================

An LSTM reads a review word by word and carries what it makes of it in its cell state. Keras hands
out the last output; ``rk.trace`` gives the cell state and the gates at every word, of a model
already trained::

    python examples/cell_states.py --data aclImdb_v1.tar.gz --glove glove.6B.50d.txt
    python examples/cell_states.py --quick

Without reviews it generates some, and says so.
"""

import argparse
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from sentiment import count_words, embed, print_vectors, read_reviews, to_numbers

import keras_rnnkit as rk

WORDS = 30  # so many words are legible on an axis


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="aclImdb, or its .tar.gz or .zip (default: a download)")
    add("--glove", type=Path, help="a file of word vectors, packed or not")
    add("--dim", type=int, help="numbers in a vector, which picks the file in a .zip")
    add("--review", help="the review to look at (default: one of the test reviews)")
    add("--epochs", type=int, default=5, help="(default: %(default)s)")
    add("--units", type=int, default=16, help="width of the LSTM (default: %(default)s)")
    add("--maxlen", type=int, default=80, help="last words to train on (default: %(default)s)")
    add("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    add("--quick", action="store_true", help="a short run that shows that everything works")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.maxlen = min(arguments.maxlen, 40)
    return arguments


# %%
# A small model
# -------------
# Its verdict comes from the last state alone, so that all it knows by then has to be remembered.


def train_model(parts, vectorizer, embedding, arguments):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    words = keras.layers.SpatialDropout1D(0.3)(embedding(tokens))
    last = rk.LSTM(arguments.units, name="lstm")(words)
    model = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid")(last))
    model.compile(
        keras.optimizers.Adam(5e-3, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"]
    )
    numbers = {
        name: to_numbers(vectorizer, texts, arguments.maxlen) for name, (texts, _) in parts.items()
    }
    model.fit(
        numbers["train"],
        parts["train"][1],
        validation_data=(numbers["val"], parts["val"][1]),
        batch_size=32 if arguments.quick else 128,
        epochs=arguments.epochs,
        callbacks=[
            keras.callbacks.EarlyStopping("val_accuracy", patience=2, restore_best_weights=True)
        ],
        verbose=2,
    )
    return model, numbers


# %%
# The unit that carries the verdict
# ---------------------------------
# Over many reviews, one unit's last cell state goes with the verdict more closely than the others'.


def find_verdict_unit(model, numbers):
    """The unit whose last cell state goes most closely with the verdict, and how closely."""
    verdict = model.predict(numbers, verbose=0)[:, 0]
    verdict = np.log(verdict / (1 - verdict))
    last = rk.trace(model, numbers)["lstm"]["c"][:, -1]
    together = np.nan_to_num([np.corrcoef(unit, verdict)[0, 1] for unit in last.T])
    unit = int(np.abs(together).argmax())
    return unit, together[unit]


# %%
# One review
# ----------
# The heat maps share their axis of words: the cell state, and below it the gates that made it.
# Input gate i lets a word in, forget gate f keeps what was there (1) or drops it (0), output gate o
# shows it.


def choose_review(model, parts, numbers):
    """The positive and the negative test review that the model is surest of."""
    texts, labels = parts["test"]
    verdict = model.predict(numbers["test"], verbose=0)[:, 0]
    surest = np.where(labels == 1, verdict, 0).argmax(), np.where(labels == 0, verdict, 1).argmin()
    return [texts[place] for place in surest]


def look_at(model, vectorizer, text):
    """The words of a review, their trace, and the verdict after each of them."""
    numbers = to_numbers(vectorizer, [text], WORDS)
    numbers = numbers[:, : np.count_nonzero(numbers)]
    vocabulary = vectorizer.get_vocabulary()
    words = [vocabulary[number] for number in numbers[0]]
    trace = rk.trace(model, numbers)["lstm"]
    after_each = model.layers[-1](trace["h"][0])
    return words, trace, keras.ops.convert_to_numpy(after_each)[:, 0]


def draw_states(words, trace, path):
    axes = rk.plot.trace(trace, ["c", "i", "f", "o"], labels=words)
    axes[0].figure.savefig(path, dpi=110)


def draw_verdict(looks, unit, path):
    """The verdict after each word, and the unit that carries it, for each review."""
    figure, axes = plt.subplots(
        len(looks), 1, figsize=(7, 3.2 * len(looks)), layout="constrained", squeeze=False
    )
    for ax, (words, trace, verdict) in zip(axes[:, 0], looks, strict=True):
        steps = range(len(words))
        ax.plot(steps, verdict, color="black", label="verdict after each word")
        ax.axhline(0.5, color="#777777", lw=0.8, ls=":")
        ax.set(ylim=(-0.02, 1.02), ylabel="probability of positive")
        ax.set_xticks(steps, words, rotation=90, fontsize="small")
        state = ax.twinx()
        state.plot(steps, trace["c"][0, :, unit], color="#D55E00", ls="--", label=f"c, unit {unit}")
        state.set_ylabel(f"cell state of unit {unit}", color="#D55E00")
    lines = [ax.lines[0], state.lines[0]]
    figure.legend(handles=lines, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)


def main():
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    parts, generated = read_reviews(arguments)
    vectorizer = count_words(parts["train"][0])
    embedding = embed(vectorizer, arguments, generated=generated, trainable=True)
    print_vectors(embedding)
    model, numbers = train_model(parts, vectorizer, embedding, arguments)

    unit, together = find_verdict_unit(model, numbers["val"][:500])
    print(
        f"\nUnit {unit} carries the verdict: its last cell state and the verdict's log-odds have "
    )
    print(f"a correlation of {together:.2f} over {len(numbers['val'][:500])} validation reviews.\n")
    texts = [arguments.review] if arguments.review else choose_review(model, parts, numbers)
    looks = [look_at(model, vectorizer, text) for text in texts]
    words, trace, verdict = looks[0]
    print(trace)
    print(f"\n... {' '.join(words)}\nis positive with a probability of {verdict[-1]:.3f}.")

    draw_states(words, trace, arguments.output / "cell_states.png")
    draw_verdict(looks, unit, arguments.output / "verdict.png")
    print(f"See {arguments.output}/: cell_states.png, verdict.png.")


if __name__ == "__main__":
    main()
