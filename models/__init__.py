"""Ready models, one paper (or close pair) a file; each runs as `python -m models.NAME`."""

from models.rnn_seq2seq import RNNSeq2Seq

__all__ = ["RNNSeq2Seq"]
