"""Each example runs in Jupyter as it is downloaded, in cells that hold no command line."""

import re
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
EXAMPLES = [path for path in EXAMPLES if path.stem != "command_line"]
# Fewer of everything, set in a cell of their own behind the settings.
SMALL = {
    "DAYS": 60, "EPOCHS": 1, "MAXLEN": 20, "SEQUENCES": 64, "SHOPS": 6, "STEPS": 20, "WORDS": 10,
    "LOOKBACK": None, "UNITS": 4,
}  # fmt: skip


def notebook(path):
    """The notebook that the gallery offers, by the gallery's own means."""
    gallery = pytest.importorskip("sphinx_gallery", reason="pip install 'keras-rnnkit[docs]'")
    from sphinx_gallery import gen_gallery, py_source_parser
    from sphinx_gallery.notebook import jupyter_notebook

    assert gallery
    _, blocks = py_source_parser.split_code_and_text_blocks(str(path))
    shown = [
        block._replace(content=py_source_parser.remove_ignore_blocks(block.content))
        for block in blocks
    ]
    return jupyter_notebook(shown, gen_gallery.DEFAULT_GALLERY_CONF, str(path.parent))


def code(cells):
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebooks_run_and_hold_what_a_reader_needs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="pip install 'keras-rnnkit[docs]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install 'keras-rnnkit[docs]'")
    pytest.importorskip("ipykernel", reason="pip install 'keras-rnnkit[docs]'")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES[0].parents[1]))
    cells = []
    for path in EXAMPLES:
        made = notebook(path)["cells"]
        shown = "\n".join(code(made))
        for word in ("argparse", "sys.argv", "command_line", "__main__", "__file__"):
            assert word not in shown, f"{path.name} shows {word}"
        for other in EXAMPLES:
            assert not re.search(rf"import {other.stem}|from {other.stem} ", shown)
        told = [cell for cell in made if cell["cell_type"] == "markdown"]
        assert len(told) >= 5
        assert "Settings" in "".join(told[1]["source"])
        # One kernel imports the backend once for all of them; each begins without names.
        cells.append(nbformat.v4.new_code_cell("%reset -f"))
        small = 0
        for cell in made:
            if cell["cell_type"] == "code":
                source = "".join(cell["source"])
                cells.append(nbformat.v4.new_code_cell(source))
                found = {name for name in SMALL if re.search(rf"^{name} = ", source, re.MULTILINE)}
                small += len(found)
                values = {name: SMALL[name] for name in found if SMALL[name] is not None}
                cells.append(
                    nbformat.v4.new_code_cell(f"globals().update({values})" if found else "")
                )
        assert small, f"{path.name} has no settings"
    whole = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        whole, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises where a cell does
    assert {path.suffix for path in (tmp_path / "results").iterdir()} >= {".png", ".keras", ".csv"}
