"""Messages on the troubleshooting page that only a GPU prints are still those of Keras.

All others are provoked by the page itself, in `sphinx-build -b doctest`.
"""

import ast
from pathlib import Path

import keras

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


def test_the_mask_assertion_is_that_of_keras():
    # Read, not imported: the file is private, and its text is what matters.
    source = Path(keras.__file__).parent / "src" / "backend" / "tensorflow" / "rnn.py"
    texts = [
        " ".join(node.value.split())
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    page = PAGE.read_text(encoding="utf-8")
    shown = " ".join(page[page.index("You are passing a RNN mask") :].split("...")[0].split())
    assert any(shown.rstrip(" ,") in text for text in texts)
