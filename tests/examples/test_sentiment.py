"""The sentiment example runs as a newcomer runs it, on every backend, and keeps its promises."""

import keras
import pytest

import keras_rnnkit as rk

KINDS = ("SimpleRNN", "LSTM", "GRU")


def table(output):
    """The cells of each model's row."""
    rows = output[output.index("\nmodel ") :].splitlines()
    cells = [row.split() for row in rows]
    return {row[0]: row[1:] for row in cells if row and row[0] in KINDS}


@pytest.mark.backends
def test_runs_on_generated_reviews_and_scores_raw_ones(run_example, tmp_path):
    printed = run_example("sentiment.py", "--quick", "--output", "out")
    assert "GENERATED" in printed
    for address in ("ai.stanford.edu/~amaas/data/sentiment", "nlp.stanford.edu/projects/glove"):
        assert address in printed
    rows = table(printed)
    assert tuple(rows) == KINDS
    for kind, cells in rows.items():
        layer = getattr(rk, kind)(32)
        layer.build((None, None, 50))
        embedding, head = (29 + 2) * 50, 32 + 1
        assert int(cells[0].replace(",", "")) == embedding + layer.count_params() + head
        assert 1 <= int(cells[2]) <= 2
        assert all(0 < float(cell) < 1.5 for cell in cells[3:8])
        assert cells[8] in ("loop", "scan", "aten", "cudnn")
    assert "reloaded from out/ scores 32 raw reviews the same" in printed
    assert (tmp_path / "out" / "history.png").read_bytes().startswith(b"\x89PNG")
    if keras.backend.backend() == "tensorflow":
        model = keras.saving.load_model(tmp_path / "out" / "sentiment.keras")
        scores = model.predict(keras.ops.convert_to_tensor(["a superb film", "a film"]), verbose=0)
        assert scores.shape == (2, 1)


def test_reads_a_folder_and_a_vector_file_and_can_freeze_the_rows(run_example, tmp_path):
    words = {"fine": "pos", "dull": "neg"}
    for part in ("train", "val"):
        for word, label in words.items():
            folder = tmp_path / "aclImdb" / part / label
            folder.mkdir(parents=True)
            for number in range(40):
                # A word that ends a line to Unicode, as the real reviews have one.
                text = f"the film {number} was {word} \x85 " * (1 + number % 4)
                (folder / f"{number}_7.txt").write_text(text, encoding="utf-8")
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("fine 1 0 0\ndull 0 1 0\nfilm 0 0 1\n", encoding="utf-8")
    printed = run_example(
        "sentiment.py",
        *("--data", "aclImdb", "--glove", "vectors.txt", "--freeze", "--quick"),
        *("--units", "4", "--maxlen", "8", "--dim", "3", "--seed", "1"),
    )
    assert "GENERATED" not in printed
    assert "train      80 reviews, 40 positive, 40 negative" in printed
    assert "4 of the training reviews are set aside" in printed
    assert set(table(printed)) == set(KINDS)
    if keras.backend.backend() == "tensorflow":
        model = keras.saving.load_model(tmp_path / "results" / "sentiment.keras")
        assert model.input_shape == (None,)
        assert model.input.dtype == "string"
