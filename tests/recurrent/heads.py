"""What may stand behind a sequence in a functional model."""

import keras

import keras_rnnkit as rk

HEADS = {
    "Dense": lambda x: keras.layers.Dense(2)(x),
    "pooling": lambda x: keras.layers.GlobalAveragePooling1D()(x),
    "GRU": lambda x: rk.GRU(2)(x),
    "LSTM": lambda x: rk.LSTM(2, return_sequences=True)(x),
    "Keras's LSTM": lambda x: keras.layers.LSTM(2)(x),
    "Concatenate": lambda x: keras.layers.Concatenate()([x, x]),
    "Attention": lambda x: keras.layers.Attention()([x, x]),
    "slice": lambda x: x[:, -1],
    "slices": lambda x: x[:, 1:-1, :2],
    "Flatten of a part": lambda x: keras.layers.Flatten()(x[:, :2]),
}
