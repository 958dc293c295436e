"""Attention for Keras 3: functions, layers, the seq2seq decoders, and what a trained model needs.

| package      | what                                                                    |
|--------------|-------------------------------------------------------------------------|
| `functional` | attention as pure functions                                             |
| `layers`     | attention layers that own weights, and the Transformer                  |
| `seq2seq`    | mechanisms, AttentionWrapper, decoders, beam search, `generate`         |
| `contrib`    | the same with the signatures of tf.contrib.seq2seq and tf.contrib.rnn   |
| `migrate`    | checkpoints of tf.contrib, TFA and Keras 2 into our models              |
| `training`   | clipping by the true global norm, exact resume, averaging, metrics      |
| `text`       | strings to ids and back, inside the graph                               |
| `data`       | files of text pairs to padded batches                                   |
| `export`     | a SavedModel that any TensorFlow can serve                              |
| `visualize`  | heat maps, maps of heads, coloured documents, also for TensorBoard      |
"""

from keras_attention import (
    contrib,
    data,
    export,
    functional,
    layers,
    migrate,
    seq2seq,
    text,
    training,
    visualize,
)

__version__ = "0.1.0"
__all__ = [
    "contrib",
    "data",
    "export",
    "functional",
    "layers",
    "migrate",
    "seq2seq",
    "text",
    "training",
    "visualize",
]
