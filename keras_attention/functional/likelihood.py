"""Log-probabilities over a large vocabulary, in as few passes over it as there can be."""

import tensorflow as tf

from keras_attention.functional.dtypes import widen


def log_normalizer(logits: tf.Tensor) -> tf.Tensor:
    """log sum exp(logits), what makes `logits - log_normalizer(logits)` a log p.

    [..., V] -> [..., 1]. The likeliest token has p = exp(its logit) / sum exp(logits) >= 1/V, so
    its log p is exact, and a softmax costs a fraction of exp, sum and log on a CPU.

    >>> float(log_normalizer(tf.constant([0.0, 0.0]))[0] / tf.math.log(2.0))
    1.0
    """
    return _log_normalizer(logits, tf.nn.softmax(logits))


def _log_normalizer(logits, probabilities):
    likeliest = tf.reduce_max(probabilities, -1, keepdims=True)
    return tf.reduce_max(logits, -1, keepdims=True) - tf.math.log(likeliest)


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-log softmax(logits)[label].  ids [N], [N, V] -> [N], float32 or wider.

    An id outside of [0, V) is an InvalidArgumentError on a CPU, and NaN where nothing can be
    raised (XLA, GPU).

    >>> [round(float(x), 3) for x in cross_entropy(tf.constant([0, 1]), tf.zeros([2, 4]))]
    [1.386, 1.386]
    """
    return _cross_entropy(tf.convert_to_tensor(labels), widen(logits))


@tf.custom_gradient
def _cross_entropy(labels, logits):
    probabilities = tf.nn.softmax(logits)
    log_p = tf.gather(logits, labels, batch_dims=1)
    log_p -= _log_normalizer(logits, probabilities)[:, 0]
    known = (labels >= 0) & (labels < tf.cast(tf.shape(logits)[1], labels.dtype))

    def gradient(upstream):
        rows = tf.range(tf.shape(labels)[0], dtype=labels.dtype)
        scaled = probabilities * upstream[:, None]
        chosen = tf.stack([rows, labels], 1)
        return None, tf.tensor_scatter_nd_sub(scaled, chosen, upstream)

    return tf.where(known, -log_p, tf.constant(float("nan"), log_p.dtype)), gradient
