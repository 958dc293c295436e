"""tf.contrib.seq2seq and tf.contrib.rnn as TensorFlow 1.15 had them, for code that was written so.

    from keras_attention.contrib import rnn, seq2seq      # was: from tensorflow.contrib import ...
    import tensorflow.compat.v1 as tf                     # where it says tf.variable_scope

A function of TensorFlow 1 that holds decoder code runs with these lines changed: once as it is,
and at every training step as `make_template(name, function)`, which gives it one set of weights.
Or make cells, mechanisms and layers once, and let a function use them: `mechanism.setup_memory`
binds the memory of a call. `tf.layers.Dense` is gone with Keras 3: an output layer is
`keras.layers.Dense`.

What is made here is saved by its weights (`tf.train.Checkpoint`). New code, and models that are
saved whole, are better served by `keras_attention.seq2seq`, where memory is an argument and need
not be tiled for beam search.
"""

from keras_attention.contrib import rnn, seq2seq, weights
from keras_attention.contrib.template import make_template

__all__ = ["make_template", "rnn", "seq2seq", "weights"]
