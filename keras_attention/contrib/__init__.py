"""tf.contrib.seq2seq and tf.contrib.rnn with the interface of TensorFlow 1.15.

    from keras_attention.contrib import rnn, seq2seq      # was: from tensorflow.contrib import ...
    import tensorflow.compat.v1 as tf                     # if it uses tf.variable_scope

A function of TensorFlow 1 with decoder code runs after changing these lines: once as it is, and at
every training step as `make_template(name, function)`, which gives it one set of weights. Or create
cells, mechanisms and layers once, and use them in a function: `mechanism.setup_memory` binds the
memory of a call. Keras 3 has no `tf.layers.Dense`: use `keras.layers.Dense` as the output layer.

These objects are saved by their weights (`tf.train.Checkpoint`). For new code, and models that are
saved as a whole, use `keras_attention.seq2seq`, where memory is an argument and need not be tiled
for beam search.
"""

from keras_attention.contrib import rnn, seq2seq, weights
from keras_attention.contrib.template import make_template

__all__ = ["make_template", "rnn", "seq2seq", "weights"]
