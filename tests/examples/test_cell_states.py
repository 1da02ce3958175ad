"""The example of cell states shows what an LSTM remembers, on every backend."""

import re

import pytest


@pytest.mark.backends
def test_traces_a_review_and_finds_the_unit_that_carries_the_verdict(run_example, tmp_path):
    printed = run_example("cell_states.py", "--quick", "--words", "24", "--output", "out")
    assert "GENERATED" in printed
    correlation = re.search(r"correlation of (-?\d\.\d\d) over 300 validation", printed)
    # A verdict made from the last state alone is bound to be found in it.
    assert 0.5 < abs(float(correlation[1])) <= 1
    assert "is positive with a probability of 0.9" in printed or "of 1.000" in printed
    for name in ("h", "c", "i", "f", "g", "o"):
        assert re.search(rf"^  {name} +-?\d", printed, re.MULTILINE), name
    for name in ("cell_states.png", "verdict.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_looks_at_the_review_that_it_is_given(run_example):
    review = "a dull film was the plot not good"
    printed = run_example("cell_states.py", "--epochs", "1", "--review", review)
    assert f"... {review}\nis positive with a probability of 0." in printed
