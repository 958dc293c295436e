"""Attention for Keras 3: functions, layers, the seq2seq decoders, and what a trained model needs.

| package      | what                                                                    |
|--------------|-------------------------------------------------------------------------|
| `functional` | attention as pure functions                                             |
| `seq2seq`    | mechanisms, AttentionWrapper, decoders, beam search, `generate`         |
| `training`   | clipping by the true global norm, exact resume, averaging, metrics      |
| `text`       | strings to ids and back, inside the graph                               |
| `data`       | files of text pairs to padded batches                                   |
| `export`     | a SavedModel that any TensorFlow can serve                              |
"""

from keras_attention import data, export, functional, seq2seq, text, training

__version__ = "0.1.0"
__all__ = ["data", "export", "functional", "seq2seq", "text", "training"]
