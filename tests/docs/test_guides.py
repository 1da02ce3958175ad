"""What the guides show runs as it stands."""

import re
from pathlib import Path

import keras
import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
BLOCK = re.compile(
    r"^(?P<skip><!-- not run: .+? -->\n)?```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)


# Keras itself raises it on TensorFlow where it saves a model.
@pytest.mark.parametrize("guide", sorted(GUIDES.glob("*.md")), ids=lambda path: path.stem)
def test_python_blocks_run_in_order(guide, tmp_path, monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the guides show TensorFlow's pipelines too")
    text = guide.read_text(encoding="utf-8")
    # Padded with its lines above, so that a failure names the line of the guide.
    blocks = [
        "\n" * text.count("\n", 0, match.start("code")) + match["code"]
        for match in BLOCK.finditer(text)
        if not match["skip"]
    ]
    if "```{literalinclude} engines/" in text:
        pytest.skip("tests/engines run its programs")
    if "```{doctest}" in text:
        pytest.skip("sphinx-build -b doctest runs this guide")
    assert blocks
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, str(guide), "exec"), namespace)
