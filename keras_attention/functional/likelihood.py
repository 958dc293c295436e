"""Log-probabilities over a large vocabulary, in as few passes over it as there can be."""

import tensorflow as tf

from keras_attention.functional.dtypes import widen


def log_normalizer(logits: tf.Tensor, likeliest: tf.Tensor | None = None) -> tf.Tensor:
    """log sum exp(logits), what makes `logits - log_normalizer(logits)` a log p.

    [..., V] -> [..., 1]. The likeliest token has p = exp(its logit) / sum exp(logits) >= 1/V, so
    its log p is exact, and a softmax costs a fraction of exp, sum and log on a CPU.

    `likeliest`: its id, [..., 1], for whom has it: two of four passes over V are saved.

    >>> float(log_normalizer(tf.constant([0.0, 0.0]))[0] / tf.math.log(2.0))
    1.0
    """
    return _log_normalizer(logits, tf.nn.softmax(logits), likeliest)


def _log_normalizer(logits, probabilities, likeliest=None):
    def its(values):
        if likeliest is None:
            return tf.reduce_max(values, -1, keepdims=True)
        return tf.gather(values, likeliest, batch_dims=likeliest.shape.rank - 1)

    return its(logits) - tf.math.log(its(probabilities))


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """-log softmax(logits)[label].  ids [N], [N, V] -> [N], float32 or wider.

    `smoothing` e spreads a share of the label over all V (Szegedy et al., 2016):
    (1 - e) (-log p(label)) + e mean_v (-log p(v)).

    An id outside of [0, V) is an InvalidArgumentError on a CPU, and NaN where nothing can be
    raised (XLA, GPU).

    >>> [round(float(x), 3) for x in cross_entropy(tf.constant([0, 1]), tf.zeros([2, 4]))]
    [1.386, 1.386]
    >>> round(float(cross_entropy([0], tf.constant([[2.0, 1.0, 0.0, -1.0]]), 0.1)[0]), 5)
    0.59019
    """
    return _cross_entropy(smoothing)(tf.convert_to_tensor(labels), widen(logits))


def _cross_entropy(smoothing):
    # The gradient is written out for speed: TensorFlow's own op takes several times as long.
    @tf.custom_gradient
    def loss(labels, logits):
        probabilities = tf.nn.softmax(logits)
        said = tf.gather(logits, labels, batch_dims=1)
        log_p = said - _log_normalizer(logits, probabilities)[:, 0]
        if smoothing:
            log_p += smoothing * (tf.reduce_mean(logits, -1) - said)
        size = tf.shape(logits)[1]
        known = (labels >= 0) & (labels < tf.cast(size, labels.dtype))

        def gradient(upstream):
            rows = tf.range(tf.shape(labels)[0], dtype=labels.dtype)
            wanted = probabilities
            if smoothing:
                wanted -= smoothing / tf.cast(size, logits.dtype)
            chosen = tf.stack([rows, labels], 1)
            scaled = wanted * upstream[:, None]
            return None, tf.tensor_scatter_nd_sub(scaled, chosen, (1 - smoothing) * upstream)

        return tf.where(known, -log_p, tf.constant(float("nan"), log_p.dtype)), gradient

    return loss
