"""How likely given answers are."""

from typing import Any

import tensorflow as tf

from keras_attention.decoding.loop import Decoder, dynamic_decode
from keras_attention.decoding.token_cell import TokenCell, begin
from keras_attention.functional import cross_entropy

__all__ = ["token_log_probs"]


def token_log_probs(model: Any, source: Any, said: tf.Tensor) -> tf.Tensor:
    """log p(said_t | said_<t, source), as a search sees it: step by step.

    source: what `model.encode` takes, for B sources; said: int32 [B, T], `pad_id` on the right of
    the shorter ones -> float32 [B, T], zeros at the padding.

    >>> from models import RNNSeq2Seq
    >>> model = RNNSeq2Seq(vocab_size=20, units=8)
    >>> found = model.generate(tf.constant([[5, 2]]), max_length=4)
    >>> scored = token_log_probs(model, tf.constant([[5, 2]]), found.ids[:, 0])
    >>> bool(abs(tf.reduce_sum(scored) - found.scores[0, 0]) < 1e-4)
    True
    """
    log_probs, _, _ = dynamic_decode(
        _Dictated(model, source, said), maximum_iterations=tf.shape(said)[1], training=False
    )
    return tf.where(said != model.pad_id, log_probs, tf.zeros([], log_probs.dtype))


class _Dictated(Decoder):
    """Says what it is told to, and gives the log p of each token."""

    batch_size: Any = None
    output_size: Any = tf.TensorShape([])
    output_dtype: Any = tf.float32

    def __init__(self, model, source, said):
        self._model, self._source, self._said = model, source, said

    def initialize(self, name=None):
        rows, steps = tf.unstack(tf.shape(self._said))
        memory, state = begin(self._model, self._source, 1, steps, control=None)
        self._cell = TokenCell(self._model, memory, 1, control=None)
        return tf.zeros([rows], tf.bool), tf.fill([rows], self._model.start_id), state

    def step(self, time, inputs, state, training=None, name=None):
        logits, following = self._cell(inputs, state)
        told = self._said[:, time]
        log_probs = -cross_entropy(told, logits)
        # A cell may give a tuple for a list.
        state = tf.nest.pack_sequence_as(state, tf.nest.flatten(following))
        return tf.cast(log_probs, tf.float32), state, told, tf.zeros_like(told, tf.bool)
