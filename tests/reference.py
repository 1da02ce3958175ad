"""The cells' equations in NumPy, written apart from the package and from Keras."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn_step(x, states, weights):
    kernel, recurrent_kernel, bias = weights
    h = np.tanh(x @ kernel + states[0] @ recurrent_kernel + bias)
    return [h], {"n": h}


def lstm_step(x, states, weights):
    kernel, recurrent_kernel, bias = weights
    h, c = states
    sums = x @ kernel + h @ recurrent_kernel + bias
    i, f, g, o = np.split(sums, 4, axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c + i * g
    return [o * np.tanh(c), c], {"i": i, "f": f, "g": g, "o": o}


def gru_after_step(x, states, weights):
    kernel, recurrent_kernel, (bias, recurrent_bias) = weights
    (h,) = states
    x_z, x_r, x_n = np.split(x @ kernel + bias, 3, axis=-1)
    h_z, h_r, h_n = np.split(h @ recurrent_kernel + recurrent_bias, 3, axis=-1)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    n = np.tanh(x_n + r * h_n)
    return [z * h + (1 - z) * n], {"z": z, "r": r, "n": n}


def gru_before_step(x, states, weights):
    kernel, recurrent_kernel, bias = weights
    (h,) = states
    units = h.shape[-1]
    x_z, x_r, x_n = np.split(x @ kernel + bias, 3, axis=-1)
    h_z, h_r = np.split(h @ recurrent_kernel[:, : 2 * units], 2, axis=-1)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    n = np.tanh(x_n + (r * h) @ recurrent_kernel[:, 2 * units :])
    return [z * h + (1 - z) * n], {"z": z, "r": r, "n": n}


STEPS = {
    "SimpleRNN": simple_rnn_step,
    "LSTM": lstm_step,
    "GRU": gru_after_step,
    "GRU reset before": gru_before_step,
}


def run(cell, weights, x, states=None, mask=None, backwards=False, zero_output_for_mask=False):
    """Process sequences step by step, row by row.

    Returns:
        A dictionary: `outputs` (batch, time, units), `last` (one array a state), `states` (one
        (batch, time, units) a state), `gates` by name. Time runs as processed.
    """
    step = STEPS[cell]
    batch, time, _ = x.shape
    units = weights[1].shape[0]
    count = 2 if cell == "LSTM" else 1
    if states is None:
        states = [np.zeros((batch, units), x.dtype) for _ in range(count)]
    mask = np.ones((batch, time), bool) if mask is None else mask
    if backwards:
        x, mask = x[:, ::-1], mask[:, ::-1]
    outputs = np.zeros((batch, time, units), x.dtype)
    sequences = [np.zeros((batch, time, units), x.dtype) for _ in range(count)]
    gates = {}
    for b in range(batch):
        row, shown = [state[b] for state in states], np.zeros(units, x.dtype)
        for t in range(time):
            new, found = step(x[b, t], row, weights)
            for name, value in found.items():
                gates.setdefault(name, np.zeros_like(outputs))[b, t] = value
            if mask[b, t]:
                row = new
                shown = row[0]
            outputs[b, t] = 0 if zero_output_for_mask and not mask[b, t] else shown
            for sequence, state in zip(sequences, row, strict=True):
                sequence[b, t] = state
    last = [sequence[:, -1] for sequence in sequences]
    return {"outputs": outputs, "last": last, "states": sequences, "gates": gates}
