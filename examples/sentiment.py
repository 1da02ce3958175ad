"""
Reviews: three recurrent models side by side
============================================

Is a review of a film positive or negative? From a folder of reviews and a file of word vectors to a
SimpleRNN, an LSTM and a GRU, on TensorFlow, JAX or PyTorch::

    python examples/sentiment.py --data aclImdb_v1.tar.gz --glove glove.6B.zip --dim 50
    python examples/sentiment.py --quick
    echo "A fine film." | python examples/sentiment.py --predict results

The reviews are the Large Movie Review Dataset, https://ai.stanford.edu/~amaas/data/sentiment/, and
the vectors any of https://nlp.stanford.edu/projects/glove/. Without them it runs on reviews that it
generates, whose figures say nothing about real ones.
"""

import argparse
import inspect
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_rnnkit as rk

KINDS = {"SimpleRNN": rk.SimpleRNN, "LSTM": rk.LSTM, "GRU": rk.GRU}
PARTS = ("train", "val", "test")
VOCABULARY = 10_000
# With no strings inside JAX and PyTorch models, the vectoriser lies beside the model there.
STRINGS_INSIDE = keras.backend.backend() == "tensorflow"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="aclImdb, or its .tar.gz or .zip (default: a download)")
    add("--glove", type=Path, help="a file of word vectors, packed or not")
    add("--dim", type=int, help="numbers in a vector, which picks the file in a .zip")
    add("--epochs", type=int, default=8, help="epochs at most (default: %(default)s)")
    add("--units", type=int, default=32, help="width of each model (default: %(default)s)")
    add("--maxlen", type=int, default=200, help="last words to keep (default: %(default)s)")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--freeze", action="store_true", help="leave the vectors as they are")
    rows.add_argument(
        "--train-embedding",
        dest="freeze",
        action="store_false",
        help="train the vectors too (the default)",
    )
    add("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    add("--quick", action="store_true", help="a short run that shows that everything works")
    add("--output", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    add("--predict", type=Path, metavar="FOLDER", help="score the reviews on stdin, one a line")
    arguments = parser.parse_args()
    arguments.batch = 128
    if arguments.quick:
        arguments.batch = 32
        arguments.epochs = min(arguments.epochs, 2)
        arguments.maxlen = min(arguments.maxlen, 60)
    return arguments


# %%
# Reviews
# -------
# ``imdb_reviews`` tells what it found: how many of each label, duplicates, damaged bytes.


def read_reviews(arguments):
    """Texts and labels of each part, and whether they were generated."""
    if arguments.data is None:
        try:
            if arguments.quick:
                raise OSError("--quick downloads nothing.")
            reviews = rk.imdb_reviews(seed=arguments.seed)
        except OSError as error:
            print(
                f"Data: GENERATED reviews, as there are no real ones ({error})\n"
                "  To have them, fetch aclImdb_v1.tar.gz (84 MB) and glove.6B.zip (862 MB) from\n"
                "  https://ai.stanford.edu/~amaas/data/sentiment/ and\n"
                "  https://nlp.stanford.edu/projects/glove/, and pass them as --data and --glove.\n"
            )
            return generate_reviews(arguments.seed, 1500 if arguments.quick else 5000), True
    else:
        reviews = rk.imdb_reviews(arguments.data, seed=arguments.seed)
    print(reviews, "\n")
    parts = {
        name: (part.texts, part.labels) for name, part in vars(reviews).items() if name in PARTS
    }
    if not parts["test"][0]:
        # The best epoch is chosen by the validation reviews, so a fair figure needs others.
        few = len(reviews.train) // 20
        texts, labels = parts["train"]
        parts["train"] = texts[few:], labels[few:]
        parts["test"] = texts[:few], labels[:few]
        print(
            f"There are no test reviews: {few:,} of the training reviews are set aside as such.\n"
        )
    if arguments.quick:
        parts = {name: (texts[:900], labels[:900]) for name, (texts, labels) in parts.items()}
    return parts, False


GOOD = ("good", "great", "fine", "superb", "moving", "charming", "brilliant", "lovely")
BAD = ("bad", "dull", "awful", "poor", "boring", "weak", "terrible", "clumsy")
OTHER = ("the", "a", "of", "and", "in", "this", "film", "plot", "actor", "scene", "music", "was")


def generate_reviews(seed, number):
    """Reviews made up of verdicts, some of them negated, among other words."""
    random = np.random.default_rng(seed)
    parts = {}
    for name, share in {"train": 0.6, "val": 0.2, "test": 0.2}.items():
        labels = random.integers(0, 2, int(share * number), dtype=np.int32)
        texts = []
        for label in labels:
            words = list(random.choice(OTHER, random.integers(10, 80)))
            for place in random.integers(0, len(words), 3):
                denied = random.random() < 0.3
                verdict = random.choice(GOOD if label != denied else BAD)
                words.insert(place, f"not {verdict}" if denied else verdict)
            texts.append(" ".join(words))
        parts[name] = texts, labels
    return parts


def generate_vectors(path, seed, dim):
    """Vectors in GloVe's format, those of praise on one side and those of blame on the other."""
    random = np.random.default_rng(seed)
    side = random.normal(0, 0.4, dim)
    with path.open("w", encoding="utf-8") as file:
        for word in (*GOOD, *BAD, *OTHER, "not"):
            vector = random.normal(0, 0.3, dim) + side * ((word in GOOD) - (word in BAD))
            print(word, *(f"{value:.5f}" for value in vector), file=file)


# %%
# Words to numbers
# ----------------
# Padding stands on the right and is masked, so that it changes nothing. A review that is too long
# keeps its last words, where the verdict usually stands.


def count_words(texts):
    """A layer that numbers the most frequent words.

    They are handed over as an argument, which is saved with the model's config. What `adapt` found
    is saved as lines of text, and cannot be read again where a word holds one of Unicode's line
    ends, as some of the real reviews do.
    """
    counted = keras.layers.TextVectorization(max_tokens=VOCABULARY)
    counted.adapt(texts)
    words = [str(word) for word in counted.get_vocabulary()]
    return keras.layers.TextVectorization(max_tokens=VOCABULARY, vocabulary=words)


def last_words(tokens, maxlen):
    """The last `maxlen` words of each review, padded on the right, `(reviews, maxlen)`.

    It runs on arrays and inside a model alike. A review without a word becomes one unknown word,
    so that there is a step to take.
    """
    words = ops.sum(ops.cast(ops.not_equal(tokens, 0), "int32"), axis=1, keepdims=True)
    places = ops.arange(maxlen, dtype="int32") + ops.maximum(words - maxlen, 0)
    kept = ops.take_along_axis(ops.pad(tokens, ((0, 0), (0, maxlen))), places, axis=1)
    return ops.where(places < ops.maximum(words, 1), ops.maximum(kept, 1), 0)


def to_numbers(vectorizer, texts, maxlen, cut=last_words):
    """Rows of the vocabulary, `(reviews, maxlen)` int32; NumPy, so that every backend takes it."""
    batches = [
        ops.convert_to_numpy(cut(vectorizer(texts[start : start + 500]), maxlen))
        for start in range(0, len(texts), 500)
    ]
    return np.concatenate(batches).astype(np.int32)


# %%
# Numbers to vectors
# ------------------
# The layer reads the file when it is built. Its coverage says how many words have a vector, and
# names those that have none, the most frequent first.


def embed(vectorizer, arguments, *, generated, trainable):
    """The vectors of the vocabulary as a layer: built, so that the file is needed no more."""
    options = {
        "dim": arguments.dim,
        "trainable": trainable,
        "warn_below": None,  # the coverage is printed
    }
    if arguments.glove is not None:
        layer = rk.GloVeEmbedding(arguments.glove, vectorizer, **options)
        layer.build()
    elif generated:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "generated.txt")
            generate_vectors(file, arguments.seed, arguments.dim or 50)
            layer = rk.GloVeEmbedding(file, vectorizer, **options)
            layer.build()
    else:
        layer = keras.layers.Embedding(
            vectorizer.vocabulary_size(), arguments.dim or 50, mask_zero=True
        )
    return layer


def print_vectors(layer):
    if not isinstance(layer, rk.GloVeEmbedding):
        print("\nVectors: none, so rows start at random. Give a file of them with --glove.")
        return
    print(f"\nVectors: {layer.coverage!r}")
    if layer.coverage.missing:
        print(f"  missing, most frequent first: {', '.join(layer.coverage.missing[:10])}")


# %%
# Models
# ------
# All three have the same head: the mean of the states over the words of the review. The last state
# alone does for the LSTM and the GRU, but little of what a SimpleRNN reads survives until then. Its
# recurrent weights start a little below orthogonal, so that states neither explode nor vanish soon.


def build_model(kind, embedding, units):
    options = {}
    if kind == "SimpleRNN":
        options["recurrent_initializer"] = keras.initializers.Orthogonal(gain=0.9)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    words = keras.layers.SpatialDropout1D(0.5)(embedding(tokens))
    states = KINDS[kind](units, return_sequences=True, name=kind.lower(), **options)(words)
    mean = keras.layers.GlobalAveragePooling1D()(states)
    return keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid")(mean), name=kind)


class EpochTimer(keras.callbacks.Callback):
    """Seconds of each epoch, validation included."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


def compile_model(model, steps):
    """Steps that grow smaller until the last, and no gradient so large that it undoes the rest."""
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])


def train_model(model, numbers, labels, arguments):
    """Train, keep the best epoch, and tell how it went."""
    batches = -(-len(labels["train"]) // arguments.batch)
    compile_model(model, arguments.epochs * batches)
    timer = EpochTimer()
    best = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=4, restore_best_weights=True
    )
    history = model.fit(
        numbers["train"],
        labels["train"],
        batch_size=arguments.batch,
        epochs=arguments.epochs,
        validation_data=(numbers["val"], labels["val"]),
        callbacks=[timer, best],
        verbose=2,
    )
    scores = {
        name: model.evaluate(numbers[name], labels[name], batch_size=256, verbose=0)
        for name in PARTS
    }
    return {
        "history": history,
        "scores": scores,
        # The first epoch traces and compiles.
        "seconds": np.median(timer.seconds[1:] or timer.seconds),
        "kept": 1 + int(np.argmax(history.history["val_accuracy"])),
        "path": rk.explain_path(model, training=True).layers[0],
    }


# %%
# Results
# -------


def print_table(models, results):
    columns = ("params", "s/epoch", "kept", "loss", "acc", "loss", "acc", "acc", "path")
    print(f"\n{'':10}{'':>27}{'train':>16}{'val':>16}{'test':>8}")
    print(f"{'model':<10}" + "".join(f"{c:>{9 if c in columns[:3] else 8}}" for c in columns))
    for name, result in results.items():
        cells = f"{models[name].count_params():9,}{result['seconds']:9.1f}{result['kept']:9}"
        for part in ("train", "val"):
            loss, accuracy = result["scores"][part]
            cells += f"{loss:8.3f}{accuracy:8.3f}"
        print(f"{name:<10}{cells}{result['scores']['test'][1]:8.3f}{result['path'].path:>8}")
    slow = {
        c.name: f"{c.name} is {c.value}, {c.remedy}"
        for r in results.values()
        for c in r["path"].failed
    }
    if slow:
        print(f"No fused kernel: {'; '.join(slow.values())}.")


def draw_history(results, path):
    histories = {name: result["history"] for name, result in results.items()}
    axes = rk.plot.history(histories, ["loss", "accuracy"])
    axes[0].figure.savefig(path, dpi=110)


# %%
# Saved with its words
# --------------------
# On TensorFlow the saved model takes strings. JAX and PyTorch have no strings, so there the
# vectoriser is saved beside the model. Either way another process needs no file of vectors.


def save(model, vectorizer, maxlen, folder):
    review = keras.Input((), dtype="string", name="review")
    if STRINGS_INSIDE:
        model = keras.Model(review, model(last_words(vectorizer(review), maxlen)))
    else:
        keras.Sequential([review, vectorizer]).save(folder / "words.keras")
        (folder / "maxlen.json").write_text(json.dumps(maxlen), encoding="utf-8")
    model.save(folder / "sentiment.keras")


def predict(folder, texts):
    """How probably each review is positive, `(reviews,)`, from what `save` left."""
    model = keras.saving.load_model(folder / "sentiment.keras")
    if STRINGS_INSIDE:
        return model.predict(ops.convert_to_tensor(texts), verbose=0)[:, 0]
    vectorizer = keras.saving.load_model(folder / "words.keras").layers[-1]
    maxlen = json.loads((folder / "maxlen.json").read_text(encoding="utf-8"))
    return model.predict(to_numbers(vectorizer, texts, maxlen), verbose=0)[:, 0]


def predict_lines(folder):
    sys.stdout.reconfigure(encoding="utf-8")
    texts = [line for line in sys.stdin.buffer.read().decode().split("\n") if line.strip()]
    if not texts:
        raise SystemExit("--predict scores the reviews on stdin, one a line; there are none.")
    for text, probability in zip(texts, predict(folder, texts), strict=True):
        print(f"{probability:.6f}\t{text[:60]}")


def show_same_in_a_new_process(model, numbers, texts, folder):
    """Let a process that knows only the folder score raw reviews, and compare."""
    expected = model.predict(numbers, verbose=0)[:, 0]
    lines = "\n".join(text.replace("\n", " ") for text in texts)
    run = subprocess.run(  # noqa: S603  this script itself
        [sys.executable, inspect.getsourcefile(main), "--predict", folder],
        input=lines.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    scored = run.stdout.decode().split("\n")[-len(texts) - 1 : -1]
    found = [float(line.split("\t")[0]) for line in scored]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    difference = np.abs(found - expected).max()
    print(
        f"A new process scored {len(texts)} raw reviews the same without the vectors "
        f"(largest difference {difference:.1e})."
    )


def main():
    arguments = parse_arguments()
    if arguments.predict:
        predict_lines(arguments.predict)
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    parts, generated = read_reviews(arguments)
    texts = {name: part[0] for name, part in parts.items()}
    labels = {name: part[1] for name, part in parts.items()}

    began = time.perf_counter()
    vectorizer = count_words(texts["train"])
    numbers = {}
    for name in PARTS:
        numbers[name] = to_numbers(vectorizer, texts[name], arguments.maxlen)
        print(f"{name}: {len(texts[name]):,} reviews to numbers, ", end="")
        print(f"{time.perf_counter() - began:.1f} s since the start", flush=True)

    models, results = {}, {}
    for kind in KINDS:
        keras.utils.set_random_seed(arguments.seed)
        embedding = embed(
            vectorizer, arguments, generated=generated, trainable=not arguments.freeze
        )
        if not models:
            print_vectors(embedding)
        models[kind] = build_model(kind, embedding, arguments.units)
        print(f"\n{kind}")
        results[kind] = train_model(models[kind], numbers, labels, arguments)

    if generated:
        print("\nGENERATED reviews: these figures say nothing about real ones.")
    print_table(models, results)
    draw_history(results, arguments.output / "history.png")
    best = max(results, key=lambda name: results[name]["scores"]["val"][1])
    save(models[best], vectorizer, arguments.maxlen, arguments.output)
    print(f"\nThe best, {best}, is in {arguments.output}/sentiment.keras.")
    show_same_in_a_new_process(
        models[best], numbers["test"][:32], texts["test"][:32], arguments.output
    )


if __name__ == "__main__":
    main()
