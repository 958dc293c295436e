"""Log-probabilities of given answers."""

from typing import Any

import tensorflow as tf

from keras_attention.decoding.loop import Decoder, dynamic_decode
from keras_attention.decoding.token_cell import TokenCell, start_search
from keras_attention.functional.likelihood import cross_entropy

__all__ = ["token_log_probs"]


def token_log_probs(model: Any, source: Any, targets: tf.Tensor) -> tf.Tensor:
    """log p(target_t | target_<t, source), computed step by step as in a search.

    source: what `model.encode` takes, for B sources; targets: int32 [B, T], padded with `pad_id` on
    the right -> float32 [B, T], zeros at the padding.

    >>> from models import RNNSeq2Seq
    >>> model = RNNSeq2Seq(vocab_size=20, units=8)
    >>> found = model.generate(tf.constant([[5, 2]]), max_length=4)
    >>> scored = token_log_probs(model, tf.constant([[5, 2]]), found.ids[:, 0])
    >>> bool(abs(tf.reduce_sum(scored) - found.scores[0, 0]) < 1e-4)
    True
    """
    log_probs, _, _ = dynamic_decode(
        _TeacherForced(model, source, targets),
        maximum_iterations=tf.shape(targets)[1],
        training=False,
    )
    return tf.where(targets != model.pad_id, log_probs, tf.zeros([], log_probs.dtype))


class _TeacherForced(Decoder):
    """Feeds the given tokens, and outputs the log p of each."""

    batch_size: Any = None
    output_size: Any = tf.TensorShape([])
    output_dtype: Any = tf.float32

    def __init__(self, model, source, targets):
        self._model, self._source, self._targets = model, source, targets

    def initialize(self, name=None):
        rows, steps = tf.unstack(tf.shape(self._targets))
        memory, state = start_search(self._model, self._source, 1, steps, processor=None)
        self._cell = TokenCell(self._model, memory, 1, processor=None)
        return tf.zeros([rows], tf.bool), tf.fill([rows], self._model.start_id), state

    def step(self, time, inputs, state, training=None, name=None):
        logits, following = self._cell(inputs, state)
        target = self._targets[:, time]
        log_probs = -cross_entropy(target, logits)
        # A cell may return a tuple for a list.
        state = tf.nest.pack_sequence_as(state, tf.nest.flatten(following))
        return tf.cast(log_probs, tf.float32), state, target, tf.zeros_like(target, tf.bool)
