"""Reading word vectors, and saving the layer, against what people do today.

python tests/benchmarks/vectors.py
"""

import argparse
import contextlib
import gzip
import json
import os
import platform
import statistics
import tempfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np

BLOCK = 1 << 18


def generate(path, rows, dim):
    """GloVe's own format: words of letters, five significant digits, single spaces."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = list(
        dict.fromkeys("".join(rng.choice(letters, size)) for size in rng.integers(3, 12, 2 * rows))
    )
    words = words[:rows]
    assert len(words) == rows
    with path.open("w", encoding="utf-8") as stream:
        for start in range(0, rows, 4000):
            for word, row in zip(
                words[start : start + 4000],
                rng.normal(0, 0.4, (min(4000, rows - start), dim)).tolist(),
                strict=True,
            ):
                stream.write(word + "".join(f" {value:.5g}" for value in row) + "\n")
    return words


def read_only(path, words, dim):
    with path.open("rb") as stream:
        while stream.read(BLOCK):
            pass


def classic(path, words, dim):
    index = {}
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            word, *values = line.rstrip().split(" ")
            index[word] = np.asarray(values, dtype="float32")
    matrix = np.zeros((len(words), dim), dtype="float32")
    for row, word in enumerate(words):
        if word in index:
            matrix[row] = index[word]
    return matrix


def gensim(path, words, dim):
    from gensim.models import KeyedVectors

    vectors = KeyedVectors.load_word2vec_format(str(path), no_header=True)
    matrix = np.zeros((len(words), dim), dtype="float32")
    for row, word in enumerate(words):
        if word in vectors:
            matrix[row] = vectors[word]
    return matrix


def ours(path, words, dim, **options):
    from keras_rnnkit.embedding import load_vectors

    return load_vectors(path, words, progress=False, **options).matrix


def cached(path, words, dim):
    return ours(path, words, dim, cache=True)


PEERS = {
    "read the bytes, do nothing": (read_only, "txt"),
    "classic dict loop": (classic, "txt"),
    "gensim load_word2vec_format": (gensim, "txt"),
    "load_vectors": (ours, "txt"),
    "load_vectors, .gz": (ours, "txt.gz"),
    "load_vectors, .zip": (ours, "zip"),
    "load_vectors, cached": (cached, "txt"),
}


def machine():
    versions = {}
    for name in ("numpy", "keras", "gensim"):
        with contextlib.suppress(ImportError):
            versions[name] = __import__(name).__version__
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(": ", 1)[1]
                break
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {listed}"


def measure_reading(folder, options):
    path = folder / "glove.100d.txt"
    words = generate(path, options.rows, options.dim)
    with path.open("rb") as stream, gzip.open(folder / "glove.100d.txt.gz", "wb", 6) as packed:
        while block := stream.read(BLOCK):
            packed.write(block)
    with zipfile.ZipFile(folder / "glove.100d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    wanted = [str(w) for w in np.random.default_rng(1).choice(words, options.words, replace=False)]
    print(f"{path.stat().st_size / 1e6:.0f} MB, {options.rows:,} rows x {options.dim}, ", end="")
    print(f"{options.words:,} words wanted, {options.repeat} rounds")

    ours(path, wanted, options.dim, cache=True)
    seconds = {name: [] for name in PEERS}
    results = {}
    slow = {"classic dict loop", "gensim load_word2vec_format"}
    for turn in range(options.repeat):
        for name, (peer, suffix) in PEERS.items():
            if name in slow and turn >= options.slow_repeat:
                continue
            file = folder / f"glove.100d.{suffix}"
            start = time.perf_counter(), time.process_time()
            try:
                results[name] = peer(file, wanted, options.dim)
            except ImportError as error:
                print(f"{name}: left out, {error}")
                continue
            seconds[name].append((time.process_time() - start[1], time.perf_counter() - start[0]))
    print(f"{'':30}{'CPU s':>8}{'wall s':>8}{'runs':>6}{'CPU against ours':>18}{'matrix':>12}")
    expected = results["classic dict loop"].tobytes()
    middle = {name: np.median(times, axis=0) for name, times in seconds.items() if times}
    for name, (cpu, wall) in middle.items():
        matrix = results[name]
        same = "-" if matrix is None else "same bits" if matrix.tobytes() == expected else "DIFFERS"
        ratio = cpu / middle["load_vectors"][0]
        print(f"{name:30}{cpu:8.3f}{wall:8.3f}{len(seconds[name]):6d}{ratio:17.3f}x{same:>12}")

    tracemalloc.start()
    matrix = ours(path, wanted, options.dim)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    above = (peak - matrix.nbytes) / 1e6
    print(f"memory above the matrix of {matrix.nbytes / 1e6:.1f} MB, at its peak: {above:.1f} MB")


def measure_saving(folder, options):
    import keras

    import keras_rnnkit as rk

    rows = options.saved_rows
    words = ["", *(f"word{number}" for number in range(rows - 1))]
    matrix = np.random.default_rng(0).normal(size=(rows - 1, options.dim)).astype("float32")
    layer = rk.GloVeEmbedding(matrix, words, words=words[1:])
    model = keras.Sequential([keras.Input((None,), dtype="int32"), layer])
    path = folder / "model.keras"
    save, load = [], []
    for _ in range(options.repeat):
        start = time.perf_counter()
        model.save(path)
        save.append(time.perf_counter() - start)
        start = time.perf_counter()
        again = keras.saving.load_model(path)
        load.append(time.perf_counter() - start)
    same = (
        keras.ops.convert_to_numpy(again.layers[0].embeddings).tobytes()
        == keras.ops.convert_to_numpy(layer.embeddings).tobytes()
    )
    assert same, "the reloaded rows differ"
    size, held = path.stat().st_size, 4 * rows * options.dim
    config = len(json.dumps(keras.layers.serialize(layer)))
    print(f"model with a {rows:,} x {options.dim} embedding, Keras on {keras.backend.backend()}:")
    print(f"  save {statistics.median(save):.2f} s, load {statistics.median(load):.2f} s, ", end="")
    print(f"file {size / 1e6:.2f} MB = matrix {100 * (size / held - 1):+.1f} %, ", end="")
    print(f"layer's config {config:,} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--saved-rows", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--slow-repeat", type=int, default=1, help="rounds of the slow peers")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        measure_reading(Path(name), options)
        measure_saving(Path(name), options)


if __name__ == "__main__":
    main()
