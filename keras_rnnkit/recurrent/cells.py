"""Published cells, for `rk.RNN`. The base class of a cell of your own is `rk.Cell`."""

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
