"""The loss and the metrics of a model that says one token after the other."""

import keras
import tensorflow as tf

from keras_attention.functional import cross_entropy


@keras.saving.register_keras_serializable("keras_attention")
class TokenCrossentropy(keras.losses.Loss):
    """The mean over tokens of -log p(token).

    With `label_smoothing` e > 0: (1 - e) (-log p(y)) + e mean_v (-log p(v)) (Szegedy et al., 2016;
    e = 0.1 in Vaswani et al., 2017. tensor2tensor spreads e over the V-1 other labels, which is
    e V / (V-1) here). Perplexity is measured without it.

    ids [..., T], logits [..., T, V], sample_weight [..., T] (0 on padding) -> the mean over the
    weights. What `keras.losses.SparseCategoricalCrossentropy(from_logits=True)` gives, in a
    fraction of its time on a CPU. Raises ValueError for a share outside [0, 1).

    >>> loss = TokenCrossentropy(label_smoothing=0.1)
    >>> round(float(loss(tf.constant([[0]]), tf.constant([[[2.0, 1.0, 0.0, -1.0]]]))), 5)
    0.59019
    """

    def __init__(self, label_smoothing: float = 0.0, name="token_crossentropy", **kwargs):
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                "label_smoothing must be a share of at least 0 and below 1. Received: "
                f"label_smoothing={label_smoothing}"
            )
        kwargs.setdefault("reduction", "mean_with_sample_weight")
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """[..., T]."""
        return _token_losses(y_true, y_pred, self.label_smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def _token_losses(ids, logits, smoothing=0.0):
    """ids [..., T], logits [..., T, V] -> [..., T]."""
    labels = tf.reshape(tf.cast(ids, tf.int32), [-1])
    losses = cross_entropy(labels, tf.reshape(logits, [-1, logits.shape[-1]]), smoothing)
    return tf.reshape(losses, tf.shape(ids))


@keras.saving.register_keras_serializable("keras_attention")
class Perplexity(keras.metrics.Mean):
    """exp of the mean cross-entropy per token, over everything seen since the last reset.

    ids [..., T], logits [..., T, V], sample_weight [..., T] (0 on padding).

    >>> metric = Perplexity()
    >>> metric.update_state(tf.constant([[1, 2]]), tf.zeros([1, 2, 8]), tf.constant([[1.0, 0.0]]))
    >>> round(float(metric.result()), 4)
    8.0
    """

    def __init__(self, name: str = "perplexity", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        losses = _token_losses(tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred))
        return super().update_state(losses, sample_weight)

    def result(self):
        return tf.exp(super().result())


def token_objective(label_smoothing: float = 0.0) -> dict:
    """What `compile` needs to train on tokens: the mean cross-entropy over real ones, its metrics.

    Which tokens are real the data say, by weights [B, T] beside the targets [B, T], as
    `keras_attention.data.batches` gives them; so padding never dilutes the mean. The metrics are
    those of the unsmoothed distribution.

    >>> model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.Dense(9)])
    >>> model.compile("adam", **token_objective())
    >>> ids = tf.constant([[1, 2, 0]])
    >>> logs = model.evaluate(ids, ids, sample_weight=tf.constant([[1.0, 1.0, 0.0]]),
    ...                       verbose=0, return_dict=True)
    >>> sorted(logs)
    ['loss', 'perplexity', 'token_accuracy']
    """
    return {
        "loss": TokenCrossentropy(label_smoothing),
        "weighted_metrics": [
            Perplexity(),
            keras.metrics.SparseCategoricalAccuracy(name="token_accuracy"),
        ],
    }
