"""Decoding: one loop, its search, strategies and logits processors, for any model.

A model has `encode(source) -> (memory, state)`, a `cell`, an embedding, a projection, and the ids
of its start, end and padding: see `Model`. This package knows RNNs and Transformers alike, and
nothing of tfa.seq2seq, whose names are in `keras_attention.seq2seq`.
"""

from keras_attention.decoding import processors, strategies
from keras_attention.decoding.beams import gather_tree, gather_tree_from_array, tile_batch
from keras_attention.decoding.generate import Model, SearchResult, alternatives, generate
from keras_attention.decoding.loop import Decoder, dynamic_decode
from keras_attention.decoding.processors import *  # noqa: F403
from keras_attention.decoding.processors import __all__ as _processors
from keras_attention.decoding.projector import projector
from keras_attention.decoding.scores import token_log_probs
from keras_attention.decoding.strategies import Chooser, best, diverse, sample, stochastic
from keras_attention.decoding.stream import Stream, stream

__all__ = [
    *(name for name in _processors if name != "check"),
    "Chooser",
    "Decoder",
    "Model",
    "SearchResult",
    "Stream",
    "alternatives",
    "best",
    "diverse",
    "dynamic_decode",
    "gather_tree",
    "gather_tree_from_array",
    "generate",
    "processors",
    "projector",
    "sample",
    "stochastic",
    "strategies",
    "stream",
    "tile_batch",
    "token_log_probs",
]
