"""The figure of the first page: what an LSTM remembers of a sentence, word by word.

    python docs/picture.py aclImdb_v1.tar.gz glove.6B.50d.txt

It trains an LSTM of 12 units on the reviews (Maas et al., 2011) with GloVe's vectors, lets it read
a sentence that is in none of them, and draws c and the gates by `rk.plot.trace` into
`docs/_static/cell_states.png`.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_rnnkit as rk

SENTENCE = (
    "bad jokes and a weak start but what follows is brilliant moving and superb one of the best "
    "films i have seen"
)


def main(data, glove):
    keras.utils.set_random_seed(3)
    reviews = rk.datasets.imdb_reviews(data)
    vectorizer = keras.layers.TextVectorization(10_000)
    vectorizer.adapt(reviews.train.texts)
    vocabulary = [str(word) for word in vectorizer.get_vocabulary()]

    def rows(texts):
        split = []
        for start in range(0, len(texts), 500):
            for row in keras.ops.convert_to_numpy(vectorizer(texts[start : start + 500])):
                split.append(row[: np.count_nonzero(row)][-60:])
        return keras.utils.pad_sequences(split, padding="post")

    tokens = keras.Input((None,), dtype="int32")
    vectors = rk.GloVeEmbedding(glove, vocabulary, dim=50, trainable=True, warn_below=None)(tokens)
    vectors = keras.layers.SpatialDropout1D(0.3)(vectors)
    last = rk.LSTM(12, name="lstm")(vectors)
    model = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid")(last))
    model.compile(
        keras.optimizers.Adam(4e-3, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        rows(reviews.train.texts), reviews.train.labels, batch_size=128, epochs=3, verbose=2,
        validation_data=(rows(reviews.val.texts), reviews.val.labels),
    )  # fmt: skip
    sentence = rows([SENTENCE])
    trace = rk.trace(model, sentence, progress=False)["lstm"]
    verdict = keras.ops.convert_to_numpy(model.layers[-1](trace["h"][0]))[:, 0]
    words = SENTENCE.split()
    print(*(f"{word} {share:.2f}" for word, share in zip(words, verdict, strict=True)))
    # Units that count against the review first, then those for it.
    weight = model.layers[-1].get_weights()[0][:, 0] * np.sign(trace["h"][0, -1])
    units = np.argsort(weight).tolist()
    labels = [f"{word} {share:.0%}" for word, share in zip(words, verdict, strict=True)]
    axes = rk.plot.trace(trace, ["c", "i", "f"], units=units, labels=labels)
    figure = axes[0].figure
    figure.savefig(Path(__file__).parent / "_static" / "cell_states.png", dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:])
