"""The machine that is checked: what it is, how exactly it multiplies, which paths it must take."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import keras

from keras_rnnkit.recurrent import kernels

BACKEND = keras.backend.backend()


def gpus():
    """Names of the GPUs that the backend sees."""
    return kernels.current().machine().gpus


def describe():
    """Lines that say where the figures below them were measured."""
    found = kernels.current().machine()
    cards = _answer("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv")
    yield (
        f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}, Python "
        f"{platform.python_version()}"
    )
    yield f"GPUs: {', '.join(found.gpus) or 'none'}; {'; '.join(cards[1:]) or 'no driver answers'}"
    yield f"{found.framework}, {found.built_for or 'no CUDA'}, cuDNN {found.cudnn or 'none'}"
    versions = {name: importlib.metadata.version(name) for name in ("keras", "numpy")}
    yield f"backend {BACKEND}, " + ", ".join(f"{name} {v}" for name, v in versions.items())
    yield f"commit {commit()}"


def commit():
    """The commit that is checked out and whether files differ from it, or `unknown`."""
    root = str(Path(__file__).resolve().parents[2])
    head = _answer("git", "-C", root, "rev-parse", "--short", "HEAD")
    changed = _answer("git", "-C", root, "status", "--porcelain", "--untracked-files=no")
    return f"{head[0]}{', with changes' if changed else ''}" if head else "unknown"


def _answer(*command):
    """Lines of a program's answer; none where there is no such program, or it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return run.stdout.splitlines() if run.returncode == 0 else []


def allow_tensor_float_32(allowed):
    """Let float32 products round their factors to TF32, or not; docs/guides/paths.md tells of it.

    What was compiled or run before may keep to what was set then: on TensorFlow a cuDNN op that
    has run keeps its descriptor.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(allowed)
    elif BACKEND == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", None if allowed else "float32")
    else:
        import torch

        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed


def path_of(cell, use_cudnn, cpu):
    """The path that a layer must take here, by what docs/guides/paths.md promises."""
    if BACKEND == "jax":
        # Which of its two paths "auto" takes is for the measurements to say.
        return "cudnn" if cell == "LSTM" and use_cudnn is True else "scan"
    if use_cudnn is False:
        return "loop"
    if cpu:
        return {"tensorflow": "loop", "torch": "aten"}[BACKEND]
    return "cudnn"
