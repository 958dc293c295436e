"""Perplexity: how many tokens the model hesitates between."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_attention")
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    """exp of the mean cross-entropy per token, over everything seen since the last reset.

    ids [..., T], logits [..., T, V], sample_weight [..., T] (0 on padding).

    >>> metric = Perplexity()
    >>> metric.update_state(tf.constant([[1, 2]]), tf.zeros([1, 2, 8]), tf.constant([[1.0, 0.0]]))
    >>> round(float(metric.result()), 4)
    8.0
    """

    def __init__(self, name: str = "perplexity", **kwargs):
        super().__init__(name=name, **{**kwargs, "from_logits": True})

    def result(self):
        return tf.exp(super().result())
