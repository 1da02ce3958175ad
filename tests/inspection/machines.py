"""Machines that are not this one: planted metadata, GPUs and drivers."""

import os
from types import SimpleNamespace

import keras

from keras_rnnkit.recurrent import kernels

BACKEND = keras.backend.backend()
DISTRIBUTION = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}[BACKEND]


def plant(folder, name, version, *requires, python=">=3.9"):
    """Write the metadata of a distribution, as an installer leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {python}", *(f"Requires-Dist: {line}" for line in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


class Altered:
    """A framework's module, but for what is given."""

    def __init__(self, module, **changed):
        self.__dict__.update(changed)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


def plant_gpu(monkeypatch, *, grows=False, cudnn="9"):
    """Make the backend's kernels believe in a GPU; return the list of those told to grow."""
    kernel = kernels.current()
    grown = []
    if BACKEND == "tensorflow":
        gpu = SimpleNamespace(name="/physical_device:GPU:0", device_type="GPU")
        experimental = SimpleNamespace(
            get_device_details=lambda device: {"device_name": "H100"},
            get_memory_growth=lambda device: grows or device in grown,
            set_memory_growth=lambda device, enable: grown.append(device),
        )
        build = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": cudnn}
        changed = {
            "config": Altered(
                kernel.tf.config,
                get_visible_devices=lambda kind: [gpu],
                experimental=experimental,
            ),
            "sysconfig": SimpleNamespace(get_build_info=lambda: build),
        }
        monkeypatch.setattr(kernel, "tf", Altered(kernel.tf, **changed))
    elif BACKEND == "jax":
        changed = {
            "default_backend": lambda: "gpu",
            "devices": lambda: [SimpleNamespace(device_kind="H100")],
        }
        monkeypatch.setattr(kernel, "jax", Altered(kernel.jax, **changed))
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false" if grows else "true")
    else:
        changed = {
            "cuda": SimpleNamespace(
                is_available=lambda: True,
                device_count=lambda: 1,
                get_device_name=lambda gpu: "H100",
            ),
            "version": SimpleNamespace(cuda="12.6", hip=None),
            "backends": SimpleNamespace(
                cudnn=SimpleNamespace(
                    is_available=lambda: bool(cudnn), version=lambda: {"9": 91002, "8": 8902}[cudnn]
                )
            ),
        }
        monkeypatch.setattr(kernel, "torch", Altered(kernel.torch, **changed))
    return grown


def plant_driver(monkeypatch, folder, *names):
    """Put a program on the path that answers as NVIDIA's does."""
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{name}'\n" for name in names))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
