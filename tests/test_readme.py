"""What the README and the quickstart show runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


# Keras itself raises it on TensorFlow where it saves a model.
@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)
    assert namespace["model"].built
    if page == "docs/quickstart.md":
        assert namespace["forecast"].shape == (1, 1)
        assert namespace["error"] < 0.97 * namespace["persistence"]
        assert -40 < namespace["forecast"].item() < 40
        assert str(namespace["series"]) in text


def test_the_readme_renders_alone():
    """On a package index no file lies beside it: what it links to or shows has a full address."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s*(\S+)", prose, flags=re.MULTILINE)
    markup = re.findall(r"""\b(?:src|href)\s*=\s*["']?([^"'\s>]+)""", prose)
    for target in [one or other for one, other in links] + markup:
        assert target.startswith("https://"), f"README.md points to {target}"


def test_the_chinese_quickstart_shows_the_same_code():
    def blocks(page):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        return re.findall(r"^```.*?^```$", text, flags=re.DOTALL | re.MULTILINE)

    assert blocks("quickstart.zh-CN.md") == blocks("quickstart.md")


def test_the_chinese_quickstart_has_no_space_between_chinese_characters():
    """A line that goes on in the next one is shown with a space there."""
    text = (ROOT / "docs" / "quickstart.zh-CN.md").read_text(encoding="utf-8")
    chinese = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
    assert not re.findall(rf"{chinese}(?: |\n(?=\S)){chinese}", text)
