"""Cores of `MultiHeadAttention`: the attention functions of its heads."""

from keras_attention.layers.cores.chunked import Chunked
from keras_attention.layers.cores.core import CacheSlots, Core
from keras_attention.layers.cores.distance import Distance
from keras_attention.layers.cores.full import Full
from keras_attention.layers.cores.linear import Linear
from keras_attention.layers.cores.relative import Relative
from keras_attention.layers.cores.sparse import Banded, Fixed, Strided

__all__ = [
    "Banded",
    "CacheSlots",
    "Chunked",
    "Core",
    "Distance",
    "Fixed",
    "Full",
    "Linear",
    "Relative",
    "Strided",
]
