"""From files of text pairs to padded batches of token ids."""

from keras_attention.data.batch import batches, epoch_batches
from keras_attention.data.read import BETWEEN_TURNS, read_pairs, with_context
from keras_attention.data.split import split_by_source

__all__ = [
    "BETWEEN_TURNS",
    "batches",
    "epoch_batches",
    "read_pairs",
    "split_by_source",
    "with_context",
]
