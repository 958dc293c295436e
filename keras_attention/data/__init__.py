"""From files of text pairs to padded batches of token ids."""

from keras_attention.data.batch import batches, epoch_batches
from keras_attention.data.lines import Limits, decode_line, open_lines, read_lines
from keras_attention.data.order import BatchOrder
from keras_attention.data.preparation import prepare
from keras_attention.data.prepared import PreparedCorpus
from keras_attention.data.read import (
    BETWEEN_TURNS,
    PairFile,
    PairStream,
    file_names,
    read_pair_file,
    read_pairs,
    with_context,
)
from keras_attention.data.split import SourceSplit, split_by_source

__all__ = [
    "BETWEEN_TURNS",
    "BatchOrder",
    "Limits",
    "PairFile",
    "PairStream",
    "PreparedCorpus",
    "SourceSplit",
    "batches",
    "decode_line",
    "epoch_batches",
    "file_names",
    "open_lines",
    "prepare",
    "read_lines",
    "read_pair_file",
    "read_pairs",
    "split_by_source",
    "with_context",
]
