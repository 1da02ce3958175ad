"""doctor: checks versions, GPUs and paths of this machine, and says what to do."""

import argparse
import json
import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from packaging.version import Version

from keras_rnnkit.inspection import path_report
from keras_rnnkit.recurrent import kernels, paths
from keras_rnnkit.versions import (
    TENSORFLOW,
    Finding,
    as_table,
    chosen_backend,
    holds,
    installed,
    version_findings,
)

__all__ = ["Diagnosis", "allow_memory_growth", "doctor"]

HERE = ("device", "backend", "CUDA build")  # conditions that the machine decides, not the model
SECTIONS = {
    "versions": "Versions, and whether they fit each other",
    "machine": "Machine",
    "paths": "The path of each layer with its default arguments",
    "model": "The model's layers",
    "errors": "Errors, and whether this machine would meet them",
}


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The result of `doctor`; prints as a table.

    Attributes:
        findings: One `Finding` for each check: its `section`, `subject`, what was `found`, a
            `level` (`"ok"`, `"warning"` or `"fault"`) and `advice`.

    Example:
        >>> import keras_rnnkit as rk
        >>> diagnosis = rk.doctor()
        >>> diagnosis["Keras"].level
        'ok'
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no fault; warnings do not count."""
        return not any(finding.level == "fault" for finding in self.findings)

    @property
    def needs_attention(self) -> tuple[Finding, ...]:
        """The faults, then the warnings."""
        return tuple(f for level in ("fault", "warning") for f in self.findings if f.level == level)

    def __getitem__(self, subject: str) -> Finding:
        """Return the finding about a subject."""
        for finding in self.findings:
            if finding.subject == subject:
                return finding
        raise KeyError(f"{subject!r} is none of {[finding.subject for finding in self.findings]}")

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain types: `{"ok": bool, "findings": [{"section": ...}, ...]}`."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        lines = []
        for section, title in SECTIONS.items():
            inside = [finding for finding in self.findings if finding.section == section]
            if inside:
                lines += [title, as_table(inside), ""]
        levels = [finding.level for finding in self.findings]
        counts = [(levels.count("fault"), "fault"), (levels.count("warning"), "warning")]
        return "\n".join(
            [*lines, ", ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in counts) + "."]
        )

    __repr__ = __str__


def doctor(model: Any = None, inputs: Any = None, *, mask: Any = None) -> Diagnosis:
    """Check this machine, and a model on it, for recurrent layers.

    It checks whether the installed versions fit each other; the GPUs, cuDNN and memory growth; the
    path that SimpleRNN, LSTM and GRU take, and why; and whether well-known errors would occur.
    `python -m keras_rnnkit` prints the same, and exits with 1 if there is a fault. On TensorFlow
    and torch it does not set the GPUs up, so that `allow_memory_growth` still works afterwards; JAX
    sets them up.

    Args:
        model: A model or layer, whose recurrent layers are then checked too.
        inputs: Inputs of the model. It is called with them, so that the masks of its layers are
            known.
        mask: `(batch, time)`, for a model called with a mask.

    Returns:
        A `Diagnosis`; print it for a table.

    Raises:
        ValueError: `model` holds no recurrent layer.

    Example:
        >>> import keras_rnnkit as rk
        >>> diagnosis = rk.doctor(rk.LSTM(8, activation="relu", name="memory"))
        >>> diagnosis["memory"].level
        'warning'
        >>> diagnosis["memory"].advice
        "pass activation='tanh'"
    """
    backend = keras.backend.backend()
    machine = kernels.current().machine()
    findings = [_backend_finding(backend), *version_findings(backend), *_stale(backend, machine)]
    findings += _machine_findings(backend, machine)
    default = path_report.default_paths()
    findings += [_path_finding("paths", layer, bool(machine.gpus)) for layer in default.layers]
    if model is not None:
        report = path_report.explain_path(model, inputs, mask=mask)
        findings += [_path_finding("model", layer, bool(machine.gpus)) for layer in report.layers]
        if inputs is None and mask is None:
            findings += _mask_findings(model, backend)
    findings += _error_findings(backend, machine, default)
    return Diagnosis(tuple(findings))


def allow_memory_growth() -> str:
    """Let the framework take GPU memory as it needs it, rather than all at once.

    TensorFlow takes all memory of every GPU when it sets them up, and cuDNN may then find none
    ("Fail to find the dnn implementation"). Call this first, before any layer or tensor.

    Returns:
        What was done, in a sentence. PyTorch needs nothing. JAX reads the environment only: the
        sentence says what to set, and is also a warning if it matters.

    Raises:
        RuntimeError: TensorFlow has set up its GPUs already.

    Example:
        >>> import keras_rnnkit as rk
        >>> print(rk.inspection.allow_memory_growth())
        TensorFlow sees no GPU, so there is no memory growth to set.
    """
    return kernels.current().allow_memory_growth()


def _backend_finding(backend: str) -> Finding:
    chosen, where = chosen_backend()
    if chosen == backend:
        return Finding("versions", "Keras backend", f"{backend}, chosen by {where}")
    return Finding(
        "versions",
        "Keras backend",
        f"{backend}, though {where} says {chosen}",
        "warning",
        "set KERAS_BACKEND before the first import of keras; in a notebook, restart the kernel",
    )


def _stale(backend: str, machine: kernels.Machine) -> Iterator[Finding]:
    """Modules that were imported before another version was installed."""
    running = {
        "numpy": np.__version__,
        "keras": keras.__version__,
        backend: machine.framework.split()[-1],
    }
    for module, version in running.items():
        present = installed(module)
        if present is not None and Version(present.version) != Version(version):
            yield Finding(
                "versions",
                f"running {module}",
                f"{version}, though {present.version} is installed",
                "warning",
                "restart Python, or the notebook's kernel; if it stays, install it once, not twice",
            )


def _machine_findings(backend: str, machine: kernels.Machine) -> Iterator[Finding]:
    subject = "GPU"
    if machine.gpus:
        yield Finding("machine", subject, f"{', '.join(machine.gpus)}, seen by {machine.framework}")
    else:
        yield _no_gpu(backend, machine)
    if machine.gpus or machine.built_for:
        yield _cudnn_finding(machine)
    if machine.grows is not None:
        yield Finding(
            "machine",
            "memory growth",
            "on: memory is taken as it is needed"
            if machine.grows
            else f"off: {machine.framework} takes the memory of a GPU all at once",
            "ok" if machine.grows else "warning",
            "" if machine.grows else "call rk.inspection.allow_memory_growth() first of all",
        )


def _no_gpu(backend: str, machine: kernels.Machine) -> Finding:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = _driver_gpus()
    if not present:
        found = f"none, so {machine.framework} runs on the CPU, without cuDNN"
        advice = "nothing, if this machine has no NVIDIA GPU; else install its driver"
        return Finding("machine", "GPU", found, "warning", advice)
    found = f"{machine.framework} sees none, though the driver has {', '.join(present)}"
    if hidden is not None and not hidden.replace("-1", "").strip():
        found += f"; CUDA_VISIBLE_DEVICES={hidden!r} hides it"
        return Finding("machine", "GPU", found, "warning", "unset CUDA_VISIBLE_DEVICES to use it")
    if not machine.built_for:
        found += ", and is installed for the CPU alone"
    remedies = {
        "tensorflow": "pip install 'tensorflow[and-cuda]'",
        "jax": "pip install 'jax[cuda12]'",
        "torch": "install a torch built for CUDA: https://pytorch.org/get-started/locally",
    }
    return Finding("machine", "GPU", found, "fault", remedies[backend])


def _driver_gpus() -> list[str]:
    """The GPUs that NVIDIA's driver sees, whatever the framework sees."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        run = subprocess.run(  # noqa: S603  a program of the driver's, found on the path
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in run.stdout.splitlines() if line.strip()]


def _cudnn_finding(machine: kernels.Machine) -> Finding:
    found = [d for major in ("12", "13") if (d := installed(f"nvidia-cudnn-cu{major}")) is not None]
    if not machine.cudnn:
        text = f"{machine.framework} is built for {machine.built_for or 'a GPU'}, without cuDNN"
        remedy = "install cuDNN, or a build of the framework that has it"
        return Finding("machine", "cuDNN", text, "fault" if machine.gpus else "warning", remedy)
    text = f"built for {machine.built_for} and cuDNN {machine.cudnn}"
    if machine.cudnn == "unknown":
        text = f"{machine.framework} does not say which one it runs"
    if found:
        text += f"; {found[0].name} {found[0].version} installed"
        wanted = machine.cudnn.split(".")[0]
        if wanted.isdigit() and found[0].version.split(".")[0] != wanted:
            remedy = f"pip install '{found[0].name}>={wanted},<{int(wanted) + 1}'"
            return Finding("machine", "cuDNN", text, "fault", remedy)
    return Finding("machine", "cuDNN", text)


def _path_finding(section: str, layer: paths.LayerPath, on_gpu: bool) -> Finding:
    """The path of a layer: a warning if more than a missing GPU keeps it from a kernel."""
    if layer.fused:
        return Finding(section, layer.layer, layer.path)
    why = "; ".join(
        [*(f"{c.name} is {c.value}" for c in layer.failed), *filter(None, [layer.note])]
    )
    own = [condition for condition in layer.failed if on_gpu or condition.name not in HERE]
    slow = own and (on_gpu or section == "model")
    advice = "; ".join(dict.fromkeys(condition.remedy for condition in own)) if slow else ""
    return Finding(
        section, layer.layer, f"{layer.path}: {why}", "warning" if slow else "ok", advice
    )


def _mask_findings(model: Any, backend: str) -> list[Finding]:
    """Where masks are made, and Keras's own layers may lose cuDNN because of them."""
    makers = [
        layer.name
        for _, layer in paths.named_layers(model)
        if isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)
    ]
    theirs = [
        layer.name
        for layer in paths.recurrent_layers(model)
        if hasattr(layer, "use_cudnn") and not hasattr(layer, "run_fused")
    ]
    if not makers or not theirs:
        return []
    keeps = "none keeps" if backend != "tensorflow" else "only one padded on the right keeps"
    return [
        Finding(
            "model",
            "mask",
            f"{', '.join(makers)} makes a mask, and {keeps} cuDNN for {', '.join(theirs)}",
            "warning",
            "use the layers of rk, which run any mask; or pass inputs= to see this mask",
        )
    ]


def _error_findings(
    backend: str, machine: kernels.Machine, default: path_report.PathReport
) -> Iterator[Finding]:
    """Well-known errors, by their message."""

    def finding(error: str, why: str, advice: str = "", meets: bool = False) -> Finding:
        verdict = "yes" if meets else "no"
        return Finding("errors", error, f"{verdict}: {why}", "warning" if meets else "ok", advice)

    encoding = locale.getpreferredencoding(False)
    utf8 = encoding.lower().replace("-", "") == "utf8"
    yield finding(
        f"'{'gbk' if utf8 else encoding}' codec can't decode",
        f"open() reads text as {encoding}",
        "" if utf8 else "open(..., encoding='utf-8'), or set PYTHONUTF8=1; rk reads UTF-8 anyway",
        not utf8,
    )
    symbolic = holds("numpy>=1.20") and holds("tensorflow<2.6")
    yield finding(
        "Cannot convert a symbolic Tensor to a numpy array",
        "it comes of NumPy 1.20 or later with TensorFlow before 2.6",
        f"pip install '{TENSORFLOW}'" if symbolic else "",
        symbolic,
    )
    tensorflow_on_gpu = backend == "tensorflow" and bool(machine.gpus)
    starved = bool(machine.gpus) and machine.grows is False
    yield finding(
        "Fail to find the dnn implementation",
        "memory growth is off, so that cuDNN may find no memory"
        if starved
        else "cuDNN is missing"
        if machine.gpus and not machine.cudnn
        else "memory growth is on"
        if machine.gpus
        else "cuDNN does not run without a GPU",
        "call rk.inspection.allow_memory_growth() first of all" if starved else "",
        starved or (bool(machine.gpus) and not machine.cudnn),
    )
    yield finding(
        "a RNN mask that does not correspond to right-padded sequences",
        "Keras's LSTM and GRU run cuDNN here, and fit() fails with such a mask"
        if tensorflow_on_gpu
        else "Keras takes that kernel with TensorFlow on a GPU alone",
        "pad on the right, or use rk.LSTM and rk.GRU, which run any mask"
        if tensorflow_on_gpu
        else "",
        tensorflow_on_gpu,
    )
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    yield finding(
        "a loss that explodes with recurrent_dropout",
        "tf.keras is Keras 2, whose GRU does it" if legacy else "Keras 3 drops out rightly",
        "unset TF_USE_LEGACY_KERAS" if legacy else "",
        legacy,
    )
    slower = default["keras.layers.LSTM"].fused and not default["keras.layers.SimpleRNN"].fused
    ours = default["rk.SimpleRNN"].fused
    yield finding(
        "SimpleRNN slower than LSTM",
        "Keras's LSTM runs one kernel here, and its SimpleRNN a loop"
        if slower
        else "neither of Keras's two runs one kernel here",
        ("use rk.SimpleRNN, which runs one too" if ours else "use LSTM") if slower else "",
        slower,
    )
    yield from (
        Finding("errors", error, f"on any machine, by code: {cause}", "ok", remedy)
        for error, cause, remedy in (
            (
                "expecting 0 weights",
                "set_weights before the layer is built",
                "rk.GloVeEmbedding fills itself when it is built",
            ),
            (
                "expected ndim=3, found ndim=2",
                "a recurrent layer received (batch, features)",
                "pass return_sequences=True to the layer before it, or add the time axis",
            ),
            (
                "could not convert string to float",
                "a file of vectors was split at spaces, and a word holds one",
                "rk.load_vectors reads such lines, and counts what is damaged",
            ),
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m keras_rnnkit`: print the diagnosis, and return 0, or 1 with a fault."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_rnnkit",
        description="Say whether this machine is as recurrent layers need it; exit with 1 if not.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON rather than a table")
    parser.add_argument("--model", metavar="FILE", help="a saved model, to look at its layers too")
    options = parser.parse_args(arguments)
    extra: tuple[Finding, ...] = ()
    model = None
    if options.model:
        try:
            model = keras.saving.load_model(options.model, compile=False)
        except Exception as error:
            text = f"{options.model} cannot be loaded: {type(error).__name__}: {error}"
            remedy = "import what defines its layers, and pass the model to rk.doctor"
            if not Path(options.model).exists():
                remedy = "give the path of a saved model"
            extra = (Finding("model", "model", text, "fault", remedy),)
        else:
            if not paths.recurrent_layers(model):
                extra = (Finding("model", "model", "holds no recurrent layer"),)
                model = None
    diagnosis = doctor(model)
    diagnosis = Diagnosis(diagnosis.findings + extra)
    sys.stdout.write((diagnosis.to_json() if options.json else str(diagnosis)) + "\n")
    return 0 if diagnosis.ok else 1
