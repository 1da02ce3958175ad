"""doctor: on a machine where a fault was planted, it names the fault and says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit import versions
from keras_rnnkit.inspection.doctor import main
from keras_rnnkit.recurrent import kernels
from tests.inspection.machines import BACKEND, DISTRIBUTION, plant, plant_driver, plant_gpu
from tests.recurrent import reference_kernels

ROOT = Path(__file__).parents[2]
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="is about TensorFlow")


def run_module(*arguments, path=(), **environment):
    places = os.pathsep.join([*map(str, path), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "keras_rnnkit", *arguments],
        env={**os.environ, "PYTHONPATH": places, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.backends
def test_a_sound_machine_has_no_fault(capsys):
    diagnosis = rk.doctor()
    assert diagnosis.ok, str(diagnosis)
    for subject in ("Python", "NumPy", "Keras", "Keras backend"):
        assert diagnosis[subject].level == "ok"
    assert diagnosis["NumPy"].found == np.__version__
    assert diagnosis["Keras"].found == keras.__version__
    assert "running" not in str(diagnosis)
    for name in ("SimpleRNN", "LSTM", "GRU"):
        (path,) = rk.explain_path(getattr(rk, name)(3)).layers
        assert diagnosis[f"rk.{name}"].found.split(":")[0] == path.path
        (path,) = rk.explain_path(getattr(keras.layers, name)(3)).layers
        assert diagnosis[f"keras.layers.{name}"].found.split(":")[0] == path.path
    assert main([]) == 0
    assert capsys.readouterr().out == f"{diagnosis}\n"
    assert max(map(len, str(diagnosis).splitlines())) <= 100
    with pytest.raises(KeyError, match="is none of"):
        diagnosis["TPU"]


@pytest.mark.backends
def test_json_holds_every_finding(capsys):
    assert main(["--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read == rk.doctor().to_dict()
    assert read["ok"] is True
    assert set(read["findings"][0]) == {"section", "subject", "found", "level", "advice"}


@pytest.mark.backends
def test_a_numpy_that_the_backend_does_not_take(tmp_path, monkeypatch):
    plant(tmp_path, "numpy", "2.1.0")
    plant(tmp_path, DISTRIBUTION, "2.15.0", "numpy<2.0.0,>=1.23.5", 'extra-thing; extra == "gpu"')
    monkeypatch.syspath_prepend(tmp_path)
    diagnosis = rk.doctor()
    assert not diagnosis.ok
    found = diagnosis["NumPy"]
    assert found.level == "fault"
    assert found.found.startswith(f"2.1.0; {DISTRIBUTION} 2.15.0 asks for numpy<2.0.0,>=1.23.5")
    assert "pip install 'numpy<2.0.0,>=1.23.5'" in found.advice
    assert "extra-thing" not in str(diagnosis)
    assert found in diagnosis.needs_attention
    stale = diagnosis["running numpy"]
    assert stale.found == f"{np.__version__}, though 2.1.0 is installed"
    assert stale.level == "warning"


def test_python_m_names_a_planted_numpy_and_exits_with_1(tmp_path):
    plant(tmp_path, "numpy", "2.1.0")
    plant(tmp_path, "tensorflow", "2.15.0", "numpy<2.0.0,>=1.23.5", "keras<2.16,>=2.15.0")
    run = run_module("--json", path=[tmp_path])
    assert run.returncode == 1, run.stderr
    faults = [f for f in json.loads(run.stdout)["findings"] if f["level"] == "fault"]
    assert [fault["subject"] for fault in faults][:2] == ["NumPy", "Keras"]
    assert "TensorFlow before 2.18 was compiled for NumPy 1" in faults[0]["found"]
    assert "Keras 3 runs on TensorFlow 2.16 or later" in faults[1]["found"]


def test_where_keras_fails_to_import_the_error_says_what_does_not_fit(tmp_path):
    (tmp_path / "keras.py").write_text("raise ImportError('numpy.core.multiarray failed')")
    plant(tmp_path, "numpy", "2.1.0")
    plant(tmp_path, "tensorflow", "2.15.0", "numpy<2.0.0,>=1.23.5")
    run = run_module(path=[tmp_path], KERAS_BACKEND="tensorflow")
    assert run.returncode == 1
    assert "ImportError: numpy.core.multiarray failed" in run.stderr
    assert "tensorflow 2.15.0 asks for numpy<2.0.0,>=1.23.5" in " ".join(run.stderr.split())
    run = run_module(KERAS_BACKEND="theano")
    assert run.returncode == 1
    assert "here 'theano' (chosen by KERAS_BACKEND)" in run.stderr
    assert "set KERAS_BACKEND to one of tensorflow, jax, torch" in run.stderr


@pytest.mark.parametrize(
    ("planted", "backend", "subject", "words"),
    [
        (
            [("tensorflow", "2.14.0")],
            "tensorflow",
            "Keras",
            "Keras 3 runs on TensorFlow 2.16 or later",
        ),
        (
            [("tensorflow", "2.3.0"), ("numpy", "1.20.1")],
            "tensorflow",
            "NumPy",
            "Cannot convert a symbolic Tensor to a numpy array",
        ),
        (
            [("jax", "0.5.0", "jaxlib<=0.5.0,>=0.5.0"), ("jaxlib", "0.4.30")],
            "jax",
            "jaxlib",
            "jax 0.5.0 asks for jaxlib<=0.5.0,>=0.5.0",
        ),
        (
            [("jaxlib", "0.5.0"), ("jax", "0.5.0"), ("jax-cuda12-plugin", "0.4.30")],
            "jax",
            "jax-cuda12-plugin",
            "0.4.30, beside jaxlib 0.5.0: JAX will not use it",
        ),
        ([("torch", "2.6.0", "sympy==0.1")], "torch", "sympy", "torch 2.6.0 asks for sympy==0.1"),
        (
            [("torch", "2.6.0", "nowhere-to-be-found>=1")],
            "torch",
            "nowhere-to-be-found",
            "not inst",
        ),
    ],
)
def test_versions_that_do_not_fit(planted, backend, subject, words, tmp_path, monkeypatch):
    plant(tmp_path, "sympy", "1.0")
    for name, version, *requires in planted:
        plant(tmp_path, name, version, *requires)
    monkeypatch.syspath_prepend(tmp_path)
    found = {finding.subject: finding for finding in versions.version_findings(backend)}
    assert found[subject].level == "fault"
    assert words in found[subject].found
    assert "pip install" in found[subject].advice


@pytest.mark.parametrize(("backend", "subject"), [("jax", "JAX"), ("torch", "PyTorch")])
def test_a_backend_older_than_this_package_asks_for(backend, subject, tmp_path, monkeypatch):
    plant(tmp_path, "keras-rnnkit", "0.1.0", f'{backend}>=2; extra == "{backend}"')
    plant(tmp_path, backend, "1.9.0")
    monkeypatch.syspath_prepend(tmp_path)
    found = {finding.subject: finding for finding in versions.version_findings(backend)}
    assert found[subject].level == "fault"
    assert found[subject].found == f"1.9.0; keras-rnnkit 0.1.0 asks for {backend}>=2"
    assert f"pip install '{backend}>=2'" in found[subject].advice
    assert "fault" not in {finding.level for finding in versions.version_findings("tensorflow")}


def test_a_python_that_a_package_does_not_take(tmp_path, monkeypatch):
    plant(tmp_path, "torch", "2.6.0", python="<3.4")
    monkeypatch.syspath_prepend(tmp_path)
    python = versions.version_findings("torch")[0]
    assert (python.subject, python.level) == ("Python", "fault")
    assert "torch 2.6.0 asks for Python <3.4" in python.found


def test_a_backend_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(versions.DISTRIBUTIONS, "torch", ("torch-that-is-not-there",))
    found = {finding.subject: finding for finding in versions.version_findings("torch")}
    assert (found["PyTorch"].level, found["PyTorch"].found) == ("fault", "not installed")
    assert "KERAS_BACKEND=tensorflow, which is installed" in found["PyTorch"].advice


@pytest.mark.backends
def test_tensorflow_may_be_missing_where_another_backend_runs(monkeypatch):
    monkeypatch.setitem(versions.DISTRIBUTIONS, "tensorflow", ("not-there",))
    levels = {finding.level for finding in versions.version_findings(BACKEND)}
    assert ("fault" in levels) == (BACKEND == "tensorflow")


@pytest.mark.backends
def test_a_backend_chosen_after_keras_was_imported(monkeypatch, tmp_path):
    other = "jax" if BACKEND != "jax" else "torch"
    monkeypatch.setenv("KERAS_BACKEND", other)
    found = rk.doctor()["Keras backend"]
    assert found.level == "warning"
    assert found.found == f"{BACKEND}, though KERAS_BACKEND says {other}"
    assert "before the first import of keras" in found.advice
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert versions.chosen_backend() == ("tensorflow", "the default")
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert versions.chosen_backend() == ("jax", str(tmp_path / "keras.json"))


@pytest.mark.backends
def test_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = rk.doctor()["GPU"]
    assert found.level == "warning"
    assert found.found.startswith("none, so ")


@pytest.mark.backends
def test_a_gpu_that_the_framework_does_not_see(tmp_path, monkeypatch):
    plant_driver(monkeypatch, tmp_path, "NVIDIA H100")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    found = rk.doctor()["GPU"]
    assert found.level == "warning"
    assert "CUDA_VISIBLE_DEVICES='-1' hides it" in found.found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    diagnosis = rk.doctor()
    assert diagnosis["GPU"].level == "fault"
    assert "sees none, though the driver has NVIDIA H100" in diagnosis["GPU"].found
    assert not diagnosis.ok
    assert main([]) == 1


@pytest.mark.backends
def test_memory_growth_off(monkeypatch):
    plant_gpu(monkeypatch, grows=False)
    diagnosis = rk.doctor()
    assert diagnosis["GPU"].found.startswith("H100, seen by ")
    grows, error = diagnosis["memory growth"], diagnosis["Fail to find the dnn implementation"]
    if BACKEND == "torch":
        assert grows.level == error.level == "ok"
        return
    assert (grows.level, error.level) == ("warning", "warning")
    assert "takes the memory of a GPU all at once" in grows.found
    assert "rk.inspection.allow_memory_growth()" in grows.advice
    assert error.found.startswith("yes: memory growth is off")


@pytest.mark.backends
def test_memory_growth_on(monkeypatch):
    plant_gpu(monkeypatch, grows=True)
    diagnosis = rk.doctor()
    assert diagnosis["memory growth"].level == "ok"
    assert diagnosis["Fail to find the dnn implementation"].found.startswith("no: ")


@pytest.mark.backends
@pytest.mark.skipif(BACKEND == "jax", reason="JAX does not say which cuDNN it was built for")
def test_a_cudnn_that_is_missing_or_another(tmp_path, monkeypatch):
    plant(tmp_path, "nvidia-cudnn-cu12", "8.9.2.26")
    monkeypatch.syspath_prepend(tmp_path)
    plant_gpu(monkeypatch, cudnn="9")
    found = rk.doctor()["cuDNN"]
    assert found.level == "fault"
    assert "nvidia-cudnn-cu12 8.9.2.26 installed" in found.found
    assert found.advice == "pip install 'nvidia-cudnn-cu12>=9,<10'"
    plant_gpu(monkeypatch, cudnn="8")
    assert rk.doctor()["cuDNN"].level == "ok"
    plant_gpu(monkeypatch, cudnn="", grows=True)
    diagnosis = rk.doctor()
    assert diagnosis["cuDNN"].level == "fault"
    assert diagnosis["Fail to find the dnn implementation"].found == "yes: cuDNN is missing"


@pytest.mark.backends
def test_the_paths_on_a_gpu(monkeypatch):
    plant_gpu(monkeypatch, grows=True)
    diagnosis = rk.doctor()
    fused = {"rk.LSTM", "keras.layers.LSTM"}
    if BACKEND != "jax":
        fused |= {"rk.GRU", "keras.layers.GRU", "rk.SimpleRNN"}
    for finding in diagnosis.findings:
        if finding.section == "paths":
            assert (finding.found == "cudnn") == (finding.subject in fused), finding
            assert (finding.level == "ok") == (finding.subject in fused), finding
    slower = diagnosis["SimpleRNN slower than LSTM"]
    assert slower.level == "warning"
    assert ("rk.SimpleRNN" in slower.advice) == (BACKEND != "jax")
    masks = diagnosis["a RNN mask that does not correspond to right-padded sequences"]
    assert (masks.level == "warning") == (BACKEND == "tensorflow")


@pytest.mark.backends
def test_an_activation_that_leaves_the_fast_path():
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            rk.GRU(4, name="swift", return_sequences=True),
            rk.LSTM(4, activation="relu", name="slow"),
        ]
    )
    diagnosis = rk.doctor(model)
    assert diagnosis.ok
    assert diagnosis["slow"].level == "warning"
    assert "activation is relu" in diagnosis["slow"].found
    assert diagnosis["slow"].advice == "pass activation='tanh'"
    assert diagnosis["swift"].level == "ok"
    with pytest.raises(ValueError, match="recurrent layer"):
        rk.doctor(keras.layers.Dense(2))


def words_model(layer):
    embedding = keras.layers.Embedding(9, 3, mask_zero=True, name="words")
    return keras.Sequential([keras.Input((4,), dtype="int32"), embedding, layer])


LEFT = np.array([[0, 0, 1, 2], [0, 1, 2, 3]])


@pytest.mark.backends
def test_a_mask_that_leaves_the_fast_path(monkeypatch):
    plant_gpu(monkeypatch, grows=True)
    theirs = words_model(keras.layers.LSTM(4, use_cudnn=False, name="theirs"))
    found = rk.doctor(theirs)["mask"]
    assert found.level == "warning"
    assert found.found.startswith("words makes a mask")
    found = rk.doctor(theirs, LEFT)["theirs"]
    assert found.level == "warning"
    assert "mask is " in found.found
    right = rk.doctor(theirs, LEFT[:, ::-1])["theirs"]
    assert ("mask is " in right.found) == (BACKEND != "tensorflow")
    reference_kernels.install(monkeypatch)
    ours = words_model(rk.LSTM(4, name="ours"))
    diagnosis = rk.doctor(ours, LEFT)
    assert diagnosis["ours"].level == "ok"
    assert "mask" not in {finding.subject for finding in rk.doctor(ours).findings}


@pytest.mark.backends
def test_python_m_looks_at_a_saved_model(tmp_path, capsys):
    file = tmp_path / "model.keras"
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, activation="relu")])
    model.save(file)
    assert main(["--model", str(file)]) == 0
    assert "activation is relu" in capsys.readouterr().out
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(file)
    assert main(["--model", str(file)]) == 0
    assert "holds no recurrent layer" in capsys.readouterr().out
    assert main(["--model", str(tmp_path / "none.keras")]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "none.keras cannot be loaded" in printed
    assert "-> give the path of a saved model" in printed


@pytest.mark.backends
def test_an_encoding_that_is_not_utf8(monkeypatch):
    assert rk.doctor()["'gbk' codec can't decode"].level == "ok"
    monkeypatch.setattr("locale.getpreferredencoding", lambda do_setlocale=True: "cp936")
    found = rk.doctor()["'cp936' codec can't decode"]
    assert (found.level, found.found) == ("warning", "yes: open() reads text as cp936")
    assert "encoding='utf-8'" in found.advice


def test_keras_2_behind_tf_keras(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    diagnosis = rk.doctor()
    assert diagnosis["tf.keras"].level == "warning"
    assert diagnosis["a loss that explodes with recurrent_dropout"].found.startswith("yes: ")


@pytest.mark.backends
def test_allow_memory_growth(monkeypatch):
    said = rk.inspection.allow_memory_growth()
    assert ("sees no GPU" in said) == (BACKEND != "torch")
    grown = plant_gpu(monkeypatch, grows=False)
    if BACKEND == "tensorflow":
        assert (
            rk.inspection.allow_memory_growth()
            == "TensorFlow takes the memory of 1 GPU(s) as it needs it."
        )
        assert [gpu.name for gpu in grown] == ["/physical_device:GPU:0"]
        rk.inspection.allow_memory_growth()
        assert len(grown) == 1
        monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        assert kernels.current().machine().grows
    elif BACKEND == "jax":
        with pytest.warns(UserWarning, match="XLA_PYTHON_CLIENT_PREALLOCATE=false"):
            rk.inspection.allow_memory_growth()
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        assert rk.inspection.allow_memory_growth() == "JAX takes GPU memory as it needs it."
    else:
        assert "nothing to set" in rk.inspection.allow_memory_growth()


@on_tensorflow
def test_allow_memory_growth_says_when_it_is_too_late(monkeypatch):
    plant_gpu(monkeypatch, grows=False)

    def refuse(device, enable):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    experimental = kernels.current().tf.config.experimental
    monkeypatch.setattr(experimental, "set_memory_growth", refuse)
    with pytest.raises(RuntimeError, match=r"too late: .* before the first layer or tensor"):
        rk.inspection.allow_memory_growth()


@on_tensorflow
def test_doctor_leaves_the_devices_of_tensorflow_to_be_set_up():
    code = (
        "import tensorflow as tf, keras_rnnkit as rk\n"
        "rk.doctor()\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(cpu, two)\n"  # which an initialised one refuses
        "print(len(tf.config.list_logical_devices('CPU')))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "2", run.stderr


@pytest.mark.backends
@pytest.mark.skipif(BACKEND != "torch", reason="is about torch")
def test_versions_of_cudnn_are_written_with_dots():
    assert kernels.current()._dotted(91002) == "9.10.2"
    assert kernels.current()._dotted(8902) == "8.9.2"
