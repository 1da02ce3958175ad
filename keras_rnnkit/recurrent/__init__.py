"""Recurrent cells and layers that return every state of every time step, on every path."""

from keras_rnnkit.recurrent import cells
from keras_rnnkit.recurrent.bidirectional import Bidirectional
from keras_rnnkit.recurrent.classical import GRUCell, LSTMCell, SimpleRNNCell
from keras_rnnkit.recurrent.layers import GRU, LSTM, SimpleRNN
from keras_rnnkit.recurrent.own_cell import Cell
from keras_rnnkit.recurrent.rnn import RNN
from keras_rnnkit.recurrent.states import get_states, reset_states, set_states

__all__ = [  # noqa: RUF022  plain alphabetical order, as the tests and the docs have it
    "Bidirectional",
    "Cell",
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "RNN",
    "SimpleRNN",
    "SimpleRNNCell",
    "cells",
    "get_states",
    "reset_states",
    "set_states",
]
