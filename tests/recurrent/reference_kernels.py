"""Stand-ins for cuDNN: the same calling conventions, refusing what cuDNN would refuse.

What TensorFlow's `cudnn_rnn_ops.cc` and cuDNN below it ask of a call, and `cudnn_rnn_v3` with them:

- `input` of three axes, (batch, time, features) without `time_major`;
- `input_h` of three axes, exactly (batch, directions * layers, units);
- `input_c` of the same shape for an LSTM, and not read for the rest;
- `params` one vector, of exactly the number of weights of that descriptor, laid out as cuDNN does;
- `sequence_lengths` an int32 vector with one length a row, each from 1 to the number of steps;
- one dtype for all of them: float16, float32 or float64 (the op knows bfloat16 too, which cuDNN
  takes on some cards alone);
- `is_training` where a gradient is to follow, since the backward op reads the reserve space.

They read the opaque parameters by cuDNN's layout, step through the equations in the framework's own
operations, so that gradients flow, and show zero past a row's length. `CALLS` counts them.
"""

import keras
import numpy as np

CALLS = []
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def step(kind, x, states, weights, backend):
    """One step by cuDNN's equations: GRU gates r z n, two biases for all kinds."""
    kernel, recurrent_kernel, bias, recurrent_bias = weights
    gates_x, gates_h = x @ kernel + bias, states[0] @ recurrent_kernel + recurrent_bias
    sigmoid, tanh, relu, split = backend
    if kind == "lstm":
        i, f, g, o = split(gates_x + gates_h, 4)
        c = sigmoid(f) * states[1] + sigmoid(i) * tanh(g)
        return [sigmoid(o) * tanh(c), c]
    if kind == "gru":
        (x_r, x_z, x_n), (h_r, h_z, h_n) = split(gates_x, 3), split(gates_h, 3)
        z = sigmoid(x_z + h_z)
        n = tanh(x_n + sigmoid(x_r + h_r) * h_n)
        return [z * states[0] + (1 - z) * n]
    return [(tanh if kind == "rnn_tanh" else relu)(gates_x + gates_h)]


def refuse(condition, message):
    if condition:
        raise ValueError(f"cuDNN would refuse: {message}")


def read_parameters(params, gates, features, units, directions):
    """Undo cuDNN's layout: every matrix a gate, (units, inputs) row by row, then every bias."""
    sizes = [features] * gates + [units] * gates
    total = directions * (sum(sizes) * units + 2 * gates * units)
    refuse(params.shape != (total,), f"{params.shape} parameters, not {total}")
    place, found = 0, []
    for _ in range(directions):
        blocks = []
        for size in sizes:
            block = params[place : place + size * units]
            blocks.append(keras.ops.transpose(keras.ops.reshape(block, (units, size))))
            place += size * units
        found.append(
            [
                keras.ops.concatenate(blocks[:gates], axis=1),
                keras.ops.concatenate(blocks[gates:], axis=1),
            ]
        )
    for weights in found:
        for _ in range(2):
            weights.append(params[place : place + gates * units])
            place += gates * units
    return found


def sweep(kind, x, states, weights, lengths, backend, backwards):
    """Run one direction over right-padded rows; past a row's end states hold, outputs are 0."""
    ops = keras.ops
    order = range(x.shape[1])
    outputs = [None] * x.shape[1]
    for t in reversed(order) if backwards else order:
        inside = ops.expand_dims(lengths > t, 1)
        new = step(kind, x[:, t], states, weights, backend)
        states = [ops.where(inside, a, b) for a, b in zip(new, states, strict=True)]
        outputs[t] = ops.where(inside, states[0], ops.zeros_like(states[0]))
    return ops.stack(outputs, axis=1), states


def run(kind, x, states, params, lengths, directions):
    """All directions; `states` as lists of (batch, units) for each direction."""
    ops = keras.ops
    units = states[0][0].shape[-1]
    backend = (
        ops.sigmoid,
        ops.tanh,
        ops.relu,
        lambda joined, parts: ops.split(joined, parts, axis=-1),
    )
    weights = read_parameters(params, GATES[kind], x.shape[-1], units, directions)
    CALLS.append((kind, directions))
    return [
        sweep(kind, x, states[d], weights[d], lengths, backend, d == 1) for d in range(directions)
    ]


def cudnn_rnn_v3(
    *,
    input,  # noqa: A002
    input_h,
    input_c,
    params,
    sequence_lengths,
    rnn_mode,
    direction,
    is_training,
    time_major,
):
    """`tf.raw_ops.CudnnRNNV3`."""
    import tensorflow as tf

    directions = {"unidirectional": 1, "bidirectional": 2}[direction]
    refuse(input.shape.rank != 3, f"input {input.shape}")
    refuse(input_h.shape.rank != 3, f"input_h {input_h.shape}")
    refuse(params.shape.rank != 1, f"params {params.shape}")
    refuse(input.dtype not in (tf.float16, tf.float32, tf.float64), f"dtype {input.dtype}")
    refuse(rnn_mode not in GATES, f"rnn_mode {rnn_mode}")
    batch, time, units = input.shape[0], input.shape[1], input_h.shape[-1]
    refuse(time_major is not False, "this stand-in takes the batch first")
    refuse(is_training is not True, "no gradient without is_training")
    refuse(tuple(input_h.shape) != (batch, directions, units), f"input_h {input_h.shape}")
    refuse(rnn_mode == "lstm" and input_c.shape != input_h.shape, f"input_c {input_c.shape}")
    refuse(sequence_lengths.dtype != tf.int32, f"lengths of {sequence_lengths.dtype}")
    refuse(tuple(sequence_lengths.shape) != (batch,), f"lengths {sequence_lengths.shape}")
    refuse({t.dtype for t in (input_h, input_c, params)} != {input.dtype}, "mixed dtypes")
    if tf.executing_eagerly():
        lengths = sequence_lengths.numpy()
        refuse(lengths.min() < 1 or lengths.max() > time, f"lengths {lengths}")
        past = np.arange(time) >= lengths[:, None]
        refuse(bool(np.any(input.numpy()[past])), "rows that are not packed to the left")
    initial = [
        [input_h[:, d], input_c[:, d]] if rnn_mode == "lstm" else [input_h[:, d]]
        for d in range(directions)
    ]
    swept = run(rnn_mode, input, initial, params, sequence_lengths, directions)
    outputs = tf.concat([y for y, _ in swept], axis=-1)
    h = tf.stack([states[0] for _, states in swept], axis=1)
    c = tf.stack([states[-1] for _, states in swept], axis=1)
    return outputs, h, c, None, None


def jax_lstm(
    x,
    h_0,
    c_0,
    weights,
    seq_lengths,
    input_size,
    hidden_size,
    num_layers,
    dropout,
    bidirectional,
):
    """`jax.experimental.rnn.lstm`."""
    import jax
    import jax.numpy as jnp

    directions = 2 if bidirectional else 1
    refuse((num_layers, dropout) != (1, 0.0), "one layer without dropout")
    refuse(x.shape[-1] != input_size, f"input_size {input_size} of {x.shape}")
    refuse(h_0.shape != (directions, x.shape[0], hidden_size), f"h_0 {h_0.shape}")
    refuse(c_0.shape != h_0.shape, f"c_0 {c_0.shape}")
    refuse(seq_lengths.dtype != jnp.int32, f"lengths of {seq_lengths.dtype}")
    refuse({a.dtype for a in (x, h_0, c_0, weights)} != {jnp.dtype("float32")}, "not float32")
    if not isinstance(seq_lengths, jax.core.Tracer):
        lengths = np.asarray(seq_lengths)
        refuse(lengths.min() < 1 or lengths.max() > x.shape[1], f"lengths {lengths}")
    initial = [[h_0[d], c_0[d]] for d in range(directions)]
    swept = run("lstm", x, initial, weights, seq_lengths, directions)
    return (
        jnp.concatenate([y for y, _ in swept], axis=-1),
        jnp.stack([states[0] for _, states in swept]),
        jnp.stack([states[1] for _, states in swept]),
    )


def install(monkeypatch):
    """Put the stand-in where the backend's kernel is, and make believe that there is a GPU.

    It runs at any size, quicker or not. torch needs none: its kernel runs on the CPU as well, and
    is only counted.
    """
    from keras_rnnkit.recurrent import kernels

    CALLS.clear()
    kernel = kernels.current()
    backend = keras.backend.backend()
    monkeypatch.setattr(kernel, "FUSED_FROM_UNITS", 0)
    if backend == "tensorflow":
        monkeypatch.setattr(kernel, "cudnn_rnn", cudnn_rnn_v3)
        monkeypatch.setattr(kernel, "device", lambda tensor: "GPU")
    elif backend == "jax":
        monkeypatch.setattr(kernel, "cudnn_lstm", jax_lstm)
        monkeypatch.setattr(kernel, "device", lambda tensor: "GPU")
    else:
        counted = {kind: _counted(kind, function) for kind, function in kernel.KERNELS.items()}
        monkeypatch.setattr(kernel, "KERNELS", counted)


def watch_block(monkeypatch):
    """Count the calls of the kernel that trains small LSTMs, which runs as it is."""
    from keras_rnnkit.recurrent import kernels

    CALLS.clear()
    kernel = kernels.current()
    own = kernel.block

    def counting(*args):
        CALLS.append(("block", 1))
        return own(*args)

    monkeypatch.setattr(kernel, "block", counting)


def _counted(kind, function):
    def counting(*args):
        parameters = next(a for a in args if isinstance(a, list))
        refuse(not all(p.is_contiguous() for p in parameters), "weights that are not contiguous")
        CALLS.append((kind, len(parameters) // 4))
        return function(*args)

    return counting
