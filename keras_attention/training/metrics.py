"""The loss and the metrics of models that predict one token after another."""

import keras
import tensorflow as tf

from keras_attention.functional.likelihood import as_ids, cross_entropy
from keras_attention.functional.projection import projection_of
from keras_attention.training.token_means import (
    TokenMean,
    Tokens,
    ids_and_logits,
    mean_of_total,
    token_mean,
)


@keras.saving.register_keras_serializable("keras_attention")
class TokenCrossentropy(keras.losses.Loss):
    """The mean over tokens of -log p(token).

    With `label_smoothing` e > 0: (1 - e) (-log p(y)) + e mean_v (-log p(v)) (Szegedy et al., 2016;
    e = 0.1 in Vaswani et al., 2017. tensor2tensor spreads e over the V-1 other labels, which is
    e V / (V-1) here). Perplexity is measured without it.

    ids [B, T], logits [B, T, V], sample_weight [B, T] (0 on padding) or [B, 1] (one number a
    sentence) -> sum(w loss) / sum(w), float32 or wider. Other ranks likewise: [..., T]. It equals
    `keras.losses.SparseCategoricalCrossentropy(from_logits=True)` at a fraction of its time on a
    CPU, and in addition:

    - Tokens with a weight of 0, or hidden by the Keras mask of the logits, have no effect on the
      loss or its gradient, even with ids of -1 or -100, or logits of -inf.
    - Ids are never cast to floats, which cannot represent all of them under some
      `keras.config.set_floatx`.
    - Over the replicas of `tf.distribute` it is the mean over all their tokens.
    - In a graph, so in `fit`, logits of our models, of `layers.TiedEmbedding.logits` or of
      `layers.LinearCrossEntropy.logits` are not computed if nothing else reads them: see
      `functional.linear_cross_entropy`.

    Raises ValueError for a share outside [0, 1), and when called: for shapes that do not fit
    (also weights [B] for ids [B, T], which `class_weight` creates), and for an id out of range at a
    weight other than 0. In a graph the latter is an InvalidArgumentError.

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

    def __call__(self, y_true, y_pred, sample_weight=None):
        """See the class. Keras' own `__call__` would cast the ids to floats."""
        with tf.name_scope(self.name):
            ids, logits, weights, shown, counted = Tokens.of(y_true, y_pred, sample_weight)
            projection = projection_of(logits)
            if projection is None or self.reduction in (None, "none"):
                losses = _token_losses(ids, logits, counted, self.label_smoothing)
                return token_mean(losses, weights, shown, self.reduction)
            found = projection.cross_entropy(ids, counted, weights, self.label_smoothing)
            return mean_of_total(found.total, weights, shown, self.reduction)

    def call(self, y_true, y_pred):
        """The losses of all tokens, [..., T]."""
        ids, logits = ids_and_logits(y_true, y_pred)
        return _token_losses(ids, logits, None, self.label_smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def _token_losses(ids, logits, counted, smoothing=0.0):
    """ids [..., T], logits [..., T, V], counted [..., T] or None -> [..., T]."""
    rows = tf.reshape(logits, [-1, logits.shape[-1] or tf.shape(logits)[-1]])
    counted = None if counted is None else tf.reshape(counted, [-1])
    losses = cross_entropy(tf.reshape(ids, [-1]), rows, smoothing, counted)
    return tf.reshape(losses, tf.shape(ids))


@keras.saving.register_keras_serializable("keras_attention")
class Perplexity(TokenMean):
    """exp of the mean cross-entropy per token, over everything seen since the last reset.

    ids [B, T], logits [B, T, V], sample_weight [B, T] (0 on padding) or [B, 1]:

        exp(sum(w loss) / sum(w))

    over all tokens, independent of batches and replicas. Tokens that the Keras mask of the logits
    hides do not count. Without any token it is infinite, so `save_best_only` of
    `keras.callbacks.ModelCheckpoint` never prefers it. Raises the errors of `TokenCrossentropy`.

    >>> metric = Perplexity()
    >>> metric.update_state(tf.constant([[1, 2]]), tf.zeros([1, 2, 8]), tf.constant([[1.0, 0.0]]))
    >>> round(float(metric.result()), 4)
    8.0
    """

    def __init__(self, name: str = "perplexity", **kwargs):
        super().__init__(name=name, **kwargs)
        self._direction = "down"  # for callbacks with the mode "auto"

    def values(self, y_true, y_pred, counted):
        """-log p of the tokens."""
        projection = projection_of(y_pred)
        if projection is not None:
            return -projection.cross_entropy(y_true, counted).log_p
        return _token_losses(y_true, y_pred, counted)

    def result(self):
        return self.as_result(tf.exp(self.mean(of_nothing=float("inf"))))


@keras.saving.register_keras_serializable("keras_attention")
class TokenAccuracy(TokenMean):
    """The share of tokens whose id has the largest logit, over everything since the last reset.

    ids [B, T], logits [B, T, V], sample_weight [B, T] (0 on padding) or [B, 1] -> sum(w right) /
    sum(w) over all tokens, independent of batches and replicas.
    (`keras.metrics.SparseCategoricalAccuracy` averages over the T of each batch first.) Tokens
    that the Keras mask of the logits hides do not count; without any token it is 0. Raises
    ValueError for shapes that do not fit.

    >>> metric = TokenAccuracy()
    >>> metric.update_state([[1, 0]], [[[0.0, 1.0], [0.0, 1.0]]])
    >>> float(metric.result())
    0.5
    """

    def __init__(self, name: str = "token_accuracy", **kwargs):
        super().__init__(name=name, **kwargs)
        self._direction = "up"

    def values(self, y_true, y_pred, counted):
        """1 where the likeliest id is the target."""
        projection = projection_of(y_pred)
        if projection is not None:
            return tf.cast(projection.cross_entropy(y_true, counted).correct, tf.float32)
        ids = as_ids(y_true, y_pred.shape[-1], counted)
        right = tf.equal(tf.argmax(y_pred, -1, ids.dtype), ids)
        return tf.cast(right & counted, tf.float32)

    def result(self):
        return self.as_result(self.mean(of_nothing=0.0))


def token_objective(label_smoothing: float = 0.0) -> dict:
    """The loss and metrics to pass to `compile`: the mean cross-entropy over real tokens.

    The data define which tokens are real, by weights [B, T] beside the targets [B, T], as
    `keras_attention.data.batches` returns them; so padding does not change the mean. The metrics
    are those of the unsmoothed distribution, over all tokens of an epoch; `loss` in the logs of
    `fit` and `evaluate` is Keras' mean over batches, in which a token of a short batch counts more.

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
        "weighted_metrics": [Perplexity(), TokenAccuracy()],
    }
