"""Cells of the field, to be stepped by `rk.RNN`; a cell of your own begins with `rk.Cell`."""

from keras_rnnkit.recurrent.layer_norm import (
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormSimpleRNNCell,
)
from keras_rnnkit.recurrent.min_cells import MinGRUCell, MinLSTMCell
from keras_rnnkit.recurrent.peephole import PeepholeLSTMCell
from keras_rnnkit.recurrent.zoneout import Zoneout

__all__ = [
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormSimpleRNNCell",
    "MinGRUCell",
    "MinLSTMCell",
    "PeepholeLSTMCell",
    "Zoneout",
]
