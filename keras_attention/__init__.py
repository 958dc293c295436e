"""Attention for Keras 3: functions, layers, the seq2seq decoders, and what a trained model needs.

| package      | what                                                                    |
|--------------|-------------------------------------------------------------------------|
| `functional` | attention as pure functions                                             |
| `layers`     | attention layers that own weights, and the Transformer                  |
| `decoding`   | `generate`, `stream`: one loop, strategies, logits processors, scoring  |
| `seq2seq`    | the names of tfa.seq2seq: mechanisms, AttentionWrapper, decoders        |
| `contrib`    | the same with the signatures of tf.contrib.seq2seq and tf.contrib.rnn   |
| `migrate`    | checkpoints of tf.contrib, TFA and Keras 2 into our models              |
| `training`   | exact resume, many workers, clipping, averaging, metrics                 |
| `text`       | strings to ids and back, inside the graph                               |
| `data`       | files of text pairs to padded batches                                   |
| `export`     | a SavedModel that any TensorFlow can serve                              |
| `visualize`  | heat maps, maps of heads, coloured documents, also for TensorBoard      |
"""

import functools
import importlib
from typing import TYPE_CHECKING, Any

from keras_attention import data, decoding, functional, layers, seq2seq, text, training
from keras_attention.layers._late import register_late

if TYPE_CHECKING:
    from keras_attention import contrib, export, migrate, visualize

__version__ = "0.1.0"
__all__ = [
    "contrib",
    "data",
    "decoding",
    "export",
    "functional",
    "layers",
    "migrate",
    "seq2seq",
    "text",
    "training",
    "visualize",
]
# Imported at first use: they register no class that Keras needs to load a model.
_LATE = ("contrib", "export", "migrate", "visualize")
# The classes of the package `models`, which a saved file may hold.
_MODELS = (
    "BERT",
    "BRAN",
    "BiLSTMCRF",
    "ConvS2S",
    "DeepAtt",
    "DiSANClassifier",
    "DistanceSANClassifier",
    "GPT",
    "HAN",
    "LSTMNLM",
    "LSTMNSeq2Seq",
    "Luong",
    "RNNSeq2Seq",
    "RNNsearch",
    "ReSANClassifier",
    "RelativeTransformer",
    "Seq2Seq",
    "StructuredAttentionClassifier",
    "Summarizer",
    "Transformer",
    "TransformerLM",
    "TransformerTagger",
)


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})


def _explain_import(name: str) -> Any:
    raise ValueError(
        f"The file holds a {name}, which the package models defines: write `import models` before "
        f"the file is loaded. Received: {name}, and no `import models` so far"
    )


for _name in _MODELS:
    register_late(_name, functools.partial(_explain_import, _name))
