"""Which versions fit each other, read from metadata, so that it can be told where imports fail.

It is the first module that the package imports, and the one that imports Keras: where Keras or its
backend fails to import, the error says what does not fit on this machine.
"""

import json
import os
import platform
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

DISTRIBUTIONS = {  # what a module may have been installed as
    "tensorflow": (
        "tensorflow",
        "tensorflow-cpu",
        "tensorflow-intel",
        "tensorflow-macos",
        "tensorflow-rocm",
        "tf-nightly",
    ),
    "jax": ("jax",),
    "torch": ("torch",),
}
NAMES = {
    "numpy": "NumPy",
    "keras": "Keras",
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
}
TENSORFLOW = "tensorflow>=2.18"  # as pyproject.toml asks
# What metadata did not say, or said too late: if both hold, the message is true.
MISFITS = (
    (
        "keras>=3",
        "tensorflow<2.16",
        "Keras 3 runs on TensorFlow 2.16 or later",
        f"pip install '{TENSORFLOW}'",
    ),
    (
        "numpy>=2",
        "tensorflow<2.18",
        "TensorFlow before 2.18 was compiled for NumPy 1",
        f"pip install '{TENSORFLOW}', or 'numpy<2'",
    ),
    (
        "numpy>=1.20",
        "tensorflow<2.6",
        "Cannot convert a symbolic Tensor to a numpy array, in every recurrent layer",
        f"pip install '{TENSORFLOW}'",
    ),
)


@dataclass(frozen=True)
class Finding:
    """One thing found on a machine.

    Attributes:
        section: `"versions"`, `"machine"`, `"paths"`, `"model"` or `"errors"`.
        subject: What was looked at, such as `"NumPy"`.
        found: What was found.
        level: `"ok"`, `"warning"` (it works, less well than it could) or `"fault"`.
        advice: What to do; empty where there is nothing to do.
    """

    section: str
    subject: str
    found: str
    level: str = "ok"
    advice: str = ""


def as_table(findings: Sequence[Finding]) -> str:
    """Lay findings out in lines of 100 characters: level, subject, what was found, what to do.

    >>> print(as_table([Finding("versions", "NumPy", "2.1.0", "fault", "pip install 'numpy<2'")]))
      fault    NumPy  2.1.0
                      -> pip install 'numpy<2'
    """
    width = max(len(finding.subject) for finding in findings)
    long = width > 24  # as messages of errors are: what was found stands below
    indent = " " * (13 if long else width + 13)
    lines = []
    for finding in findings:
        start = f"  {finding.level:<7}  {finding.subject:<{width}}  "
        if long:
            lines.append(start.rstrip())
            start = indent
        lines += textwrap.wrap(finding.found, 100, initial_indent=start, subsequent_indent=indent)
        if finding.advice:
            lines += textwrap.wrap(
                finding.advice, 100, initial_indent=f"{indent}-> ", subsequent_indent=f"{indent}   "
            )
    return "\n".join(lines)


def chosen_backend() -> tuple[str, str]:
    """Return the backend that Keras will import, and where that was chosen.

    >>> name, where = chosen_backend()
    """
    if name := os.environ.get("KERAS_BACKEND"):
        return name, "KERAS_BACKEND"
    folder = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
    settings = Path(folder) / "keras.json"
    try:
        return json.loads(settings.read_text(encoding="utf-8"))["backend"], str(settings)
    except (OSError, ValueError, KeyError):
        return "tensorflow", "the default"


def installed(module: str) -> metadata.Distribution | None:
    """Return the distribution that holds a module, or None.

    >>> installed("numpy").name
    'numpy'
    """
    for name in DISTRIBUTIONS.get(module, (module,)):
        try:
            return metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def version_findings(backend: str) -> list[Finding]:
    """Say of Python, NumPy, Keras and the backend which version is installed and whether it fits.

    A version fits if it is what every one of them, and this package, asks for in its metadata, and
    if it is not known to fail with another one.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`.

    Returns:
        A `Finding` for each, faults where they do not fit.

    >>> [finding.subject for finding in version_findings("tensorflow")][:3]
    ['Python', 'NumPy', 'Keras']
    """
    modules = ["numpy", "keras"] + [name for name in (backend,) if name in DISTRIBUTIONS]
    modules += ["jaxlib"] if backend == "jax" else []
    askers = [d for d in map(installed, ("keras-rnnkit", *modules)) if d is not None]
    python = platform.python_version()
    wrong = [
        f"{asker.name} {asker.version} asks for Python {asker.metadata['Requires-Python']}"
        for asker in askers
        if not SpecifierSet(asker.metadata["Requires-Python"] or "").contains(python)
    ]
    advice = "run another Python, or install versions made for this one" if wrong else ""
    found = [Finding("versions", "Python", "; ".join([python, *wrong]), _level(wrong), advice)]
    unmet = list(_unmet(askers, backend))
    rows = modules + [
        str(requirement.name)
        for _, requirement in unmet
        if canonicalize_name(requirement.name) not in modules
    ]
    for module in dict.fromkeys(rows):
        found.append(_version_finding(module, unmet))
    if backend not in DISTRIBUTIONS:
        remedy = f"set KERAS_BACKEND to one of {', '.join(DISTRIBUTIONS)}"
        found.append(Finding("versions", "Keras backend", backend, "fault", remedy))
    for cuda in ("12", "13"):
        plugin, jaxlib = installed(f"jax-cuda{cuda}-plugin"), installed("jaxlib")
        if backend == "jax" and plugin and jaxlib and plugin.version != jaxlib.version:
            text = f"{plugin.version}, beside jaxlib {jaxlib.version}: JAX will not use it"
            remedy = f"pip install 'jax[cuda{cuda}]=={jaxlib.version}'"
            found.append(Finding("versions", plugin.name, text, "fault", remedy))
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        text = "TF_USE_LEGACY_KERAS is set: tf.keras is Keras 2, whose layers do not mix with these"
        remedy = "unset it, or write `import keras` and never `tf.keras`"
        found.append(Finding("versions", "tf.keras", text, "warning", remedy))
    return found


def _unmet(
    askers: list[metadata.Distribution], backend: str
) -> Iterator[tuple[metadata.Distribution, Requirement]]:
    """Each requirement that no installed version meets, with who asks for it."""
    for asker in askers:
        for line in asker.requires or ():
            requirement = Requirement(line)
            # This package asks for JAX and torch in extras of their names.
            if requirement.marker and not requirement.marker.evaluate({"extra": backend}):
                continue
            present = installed(requirement.name)
            if present is None and requirement.name == "tensorflow" != backend:
                continue  # without it the package lacks window_dataset alone
            if present is None or not requirement.specifier.contains(
                present.version, prereleases=True
            ):
                yield asker, requirement


def _version_finding(
    module: str, unmet: list[tuple[metadata.Distribution, Requirement]]
) -> Finding:
    subject = NAMES.get(module, module)
    present = installed(module)
    if present is None:
        advice = f"pip install {module}"
        others = [name for name in DISTRIBUTIONS if name != module and installed(name)]
        if module in DISTRIBUTIONS and others:
            advice += f", or set KERAS_BACKEND={others[0]}, which is installed"
        return Finding("versions", subject, "not installed", "fault", advice)
    wrong = [
        (
            f"{asker.name} {asker.version} asks for {requirement.name}{requirement.specifier}",
            f"pip install '{requirement.name}{requirement.specifier}', or another {asker.name}",
        )
        for asker, requirement in unmet
        if canonicalize_name(requirement.name) == canonicalize_name(module)
    ]
    wrong += [
        (message, remedy)
        for one, other, message, remedy in MISFITS
        if Requirement(one).name == module and holds(one) and holds(other)
    ]
    text = "; ".join([present.version, *(message for message, _ in wrong)])
    return Finding("versions", subject, text, _level(wrong), wrong[0][1] if wrong else "")


def holds(condition: str) -> bool:
    """Return whether such a version is installed.

    >>> holds("numpy>=1"), holds("numpy<1")
    (True, False)
    """
    requirement = Requirement(condition)
    present = installed(requirement.name)
    return present is not None and requirement.specifier.contains(present.version, prereleases=True)


def _level(wrong: object) -> str:
    return "fault" if wrong else "ok"


try:
    from keras import ops as ops  # Keras 2 has none
except Exception as error:
    backend, where = chosen_backend()
    table = as_table(version_findings(backend))
    raise ImportError(
        f"keras_rnnkit needs Keras 3 and its backend, here {backend!r} (chosen by {where}), whose "
        f"import failed: {type(error).__name__}: {error}\n{table}"
    ) from error
