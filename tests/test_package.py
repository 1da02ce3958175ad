"""The package's shape: what it exports, which subpackage imports which, what an import costs."""

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import keras_rnnkit as rk
from keras_rnnkit import versions

PACKAGE = Path(rk.__file__).parent
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ALLOWED = {  # a subpackage -> the subpackages it may import
    "data": set(),
    "datasets": {"data"},
    "embedding": set(),
    "inspection": {"recurrent", "data", "embedding"},
    "recurrent": set(),
    "streaming": {"recurrent", "embedding"},
}


def imported_modules(path):
    """Absolute names of the modules that a file imports, at any depth of the code."""
    package = ("keras_rnnkit", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**__import__("os").environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "subpackage", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir())
)
def test_subpackages_import_one_way(subpackage):
    if subpackage == "__pycache__":
        pytest.skip("not a subpackage")
    for path in (PACKAGE / subpackage).rglob("*.py"):
        for module in imported_modules(path):
            parts = module.split(".")
            assert module[:9] != "keras.src", f"{path} imports {module}"
            if parts[0] == "keras_rnnkit" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                assert parts[1] in ALLOWED[subpackage] | {subpackage}, f"{path} imports {module}"


def test_kernels_and_masks_import_nothing_above_them():
    for name in ("kernels", "masks.py", "replay.py"):
        below = PACKAGE / "recurrent" / name
        for path in below.rglob("*.py") if below.is_dir() else [below] * below.exists():
            for module in imported_modules(path):
                layer = module.removeprefix("keras_rnnkit.recurrent.").split(".")[0]
                assert layer not in {"classical", "own_cell", "layers", "rnn", "paths"}, (
                    f"{path} imports {module}"
                )


@pytest.mark.backends
def test_exports_are_sorted_and_documented():
    assert list(rk.__all__) == sorted(rk.__all__)
    pages = (PACKAGE.parent / "docs" / "api").glob("*.md")
    documented = [word for page in pages for word in page.read_text(encoding="utf-8").split()]
    for name in rk.__all__:
        value = getattr(rk, name)
        assert inspect.getdoc(value), name
        within = value.__all__ if inspect.ismodule(value) else [name]
        for each in within:
            assert {each, f"{name}.{each}"} & set(documented), f"{each}: missing from docs/api"


def test_public_callables_have_an_example():
    for name in rk.__all__:
        value = getattr(rk, name)
        if callable(value) and not (inspect.isclass(value) and issubclass(value, Exception)):
            assert ">>>" in (inspect.getdoc(value) or ""), f"{name} shows no example"


def test_import_loads_no_optional_package():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_rnnkit;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    run = run_python(code)
    assert run.returncode == 0, run.stderr
    new = set(ast.literal_eval(run.stdout.splitlines()[-1]))
    unwanted = {"pandas", "polars", "matplotlib", "pyarrow", "torch", "jax", "narwhals", "scipy"}
    assert not new & unwanted


def lowest(lines):
    """The lowest version of each package that is asked for."""
    asked = (Requirement(line) for line in lines if "keras-rnnkit" not in line)
    return {
        each.name: bound.version
        for each in asked
        for bound in each.specifier
        if bound.operator == ">="
    }


def test_the_lowest_versions_are_those_of_the_constraints():
    declared = [*PROJECT["dependencies"]]
    for extra in ("plot", "parquet", "jax", "torch", "test"):
        declared += EXTRAS[extra]
    pins = (ROOT / "tests" / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in pins if not line.startswith("#"))
    assert pinned == lowest(declared)


def test_docs_and_doctor_name_the_versions_that_are_declared():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| (\S+) \| `keras-rnnkit(?:\[(\w+)\])?` \|$", page, re.MULTILINE)
    wanted = [(name, version, "") for name, version in lowest(PROJECT["dependencies"]).items()]
    for extra in ("jax", "torch", "plot", "parquet"):
        wanted += [(name, version, extra) for name, version in lowest(EXTRAS[extra]).items()]
    assert rows == wanted
    assert versions.TENSORFLOW in PROJECT["dependencies"]


def test_the_commands_without_tensorflow_name_every_other_dependency():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    others = [line for line in PROJECT["dependencies"] if line != versions.TENSORFLOW]
    for extra in ("jax", "torch"):
        names = " ".join(f'"{line}"' for line in EXTRAS[extra] + others)
        assert f"\npip install {names}\npip install --no-deps keras-rnnkit\n" in page


def test_each_python_that_is_declared_is_checked():
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert f"| Python | {named[0]} to {named[-1]} |" in page
    check = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for version in named:
        assert f"    venv {version}\n" in check, f"nothing in .ci/run runs on Python {version}"


# None is what a package that is not installed looks like to `import` and to `find_spec` alike.
BLOCK = "import sys; sys.modules['tensorflow'] = None\n"


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_package_runs_without_tensorflow(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install 'keras-rnnkit[{backend}]'")
    code = BLOCK + Path(__file__).with_name("without_tensorflow.py").read_text(encoding="utf-8")
    run = run_python(code, KERAS_BACKEND=backend)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "ran without tensorflow"
