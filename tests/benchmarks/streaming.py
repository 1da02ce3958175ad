"""A time step by a step model beside the complete model on its last window again.

    python tests/benchmarks/streaming.py [--steps 240] [--units 32] [--rounds 21]

A GRU over 14 features and a `Dense`, one sample, on TensorFlow. In each round every way runs once
over 10 time steps, in an order drawn anew; a time is the median over the rounds, of one time step.
TFLite and onnxruntime run where `ai_edge_litert` or TensorFlow's interpreter, and `onnxruntime`
with `tf2onnx`, are installed.
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from turns import load, machine

import keras_rnnkit as rk

FEATURES = 14
PER_ROUND = 10


def tflite(step, folder):
    step.export(folder, format="tf_saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content = converter.convert()
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    run = Interpreter(model_content=content).get_signature_runner()
    print(f"TFLite file: {len(content):,} bytes")
    return lambda feed: run(**feed)


def onnx(step, folder):
    import onnxruntime

    step.export(folder, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(folder)
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def by_step(call, units):
    """Take time steps by a function of named arrays, the state going round."""
    state = np.zeros((1, units), "float32")

    def run(x):
        nonlocal state
        found = call({"x": x[:, -1], "gru_h": state})
        state = np.asarray(found["next_gru_h"])
        return found["y"]

    return run


def ways(model, units, folder):
    step = rk.step_model(model, batch_size=1)
    compiled = tf.function(lambda feed: step(feed, training=False))
    found = {
        "model.predict, the window": lambda x: model.predict(x, verbose=0),
        "model(x), the window": lambda x: model(x, training=False),
        "tf.function, the window": tf.function(lambda x: model(x, training=False)),
        "rk.Stream": (lambda stream: lambda x: stream(x[:, -1]))(rk.Stream(model)),
        "step model, eager": by_step(lambda feed: step(feed, training=False), units),
        "step model, tf.function": by_step(compiled, units),
        "step model, TFLite": by_step(tflite(step, folder / "step"), units),
    }
    try:
        found["step model, onnxruntime"] = by_step(onnx(step, folder / "step.onnx"), units)
    except (ImportError, ModuleNotFoundError) as error:
        print(f"no ONNX: {error}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=240, help="of the window (default: 240)")
    parser.add_argument("--units", type=int, default=32, help="(default: 32)")
    parser.add_argument("--rounds", type=int, default=21, help="(default: 21)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*Interpreter is deprecated")
    print(machine("keras", "tensorflow", "numpy"))
    print(f"window ({options.steps}, {FEATURES}), GRU of {options.units} units, one sample\n")
    inputs = keras.Input((None, FEATURES), name="x")
    hidden = rk.GRU(options.units, name="gru")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="y")(hidden))
    random = np.random.default_rng(0)
    x = random.normal(size=(1, options.steps, FEATURES)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        called = ways(model, options.units, Path(folder))
        for way in called.values():
            way(x)
        wall = {name: [] for name in called}
        busy = {name: [] for name in called}
        for _ in range(options.rounds):
            for name in random.permutation(list(called)):
                begun, worked = time.perf_counter(), time.process_time()
                for _ in range(PER_ROUND):
                    np.asarray(called[name](x))
                wall[name].append((time.perf_counter() - begun) / PER_ROUND)
                busy[name].append((time.process_time() - worked) / PER_ROUND)
    first = np.median(wall["model.predict, the window"])
    print("\n| a time step by | ms | processor, ms | `model.predict` / it |")
    print("| --- | ---: | ---: | ---: |")
    for name in called:
        took, worked = np.median(wall[name]), np.median(busy[name])
        print(f"| {name} | {took * 1e3:.3f} | {worked * 1e3:.3f} | {first / took:.1f} |")
    print(f"\nload {load()} of {os.cpu_count()} cores at the end")


if __name__ == "__main__":
    main()
