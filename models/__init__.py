"""Ready models, one paper (or close pair) a file; each runs as `python -m models.NAME`."""

import importlib

_FILES = {
    "RNNSeq2Seq": "rnn_seq2seq",
    "Transformer": "transformer",
    "TransformerLM": "language_model",
    "TransformerTagger": "encoder",
}
__all__ = ["RNNSeq2Seq", "Transformer", "TransformerLM", "TransformerTagger"]


def __getattr__(name: str):
    # On demand: a file that runs as a program must not have been imported by its package before.
    if name not in _FILES:
        raise AttributeError(f"module 'models' has no attribute {name!r}. It has {__all__}.")
    return getattr(importlib.import_module(f"models.{_FILES[name]}"), name)
