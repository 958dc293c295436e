"""The loss and the metrics of a model that says one token after the other."""

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


def token_objective() -> dict:
    """What `compile` needs to train on tokens: the mean cross-entropy over real ones, its metrics.

    Which tokens are real the data say, by weights [B, T] beside the targets [B, T], as
    `keras_attention.data.batches` gives them; so padding never dilutes the mean.

    >>> model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.Dense(9)])
    >>> model.compile("adam", **token_objective())
    >>> ids = tf.constant([[1, 2, 0]])
    >>> logs = model.evaluate(ids, ids, sample_weight=tf.constant([[1.0, 1.0, 0.0]]),
    ...                       verbose=0, return_dict=True)
    >>> sorted(logs)
    ['loss', 'perplexity', 'token_accuracy']
    """
    return {
        "loss": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        "weighted_metrics": [
            Perplexity(),
            keras.metrics.SparseCategoricalAccuracy(name="token_accuracy"),
        ],
    }
