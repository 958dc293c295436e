"""Log-probabilities over a large vocabulary, in few passes over memory."""

from typing import Any

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.shapes import check_shapes


def log_normalizer(logits: tf.Tensor, likeliest: tf.Tensor | None = None) -> tf.Tensor:
    """log sum exp(logits): `logits - log_normalizer(logits)` is log p.

    [..., V] -> [..., 1]. The likeliest token has p = exp(its logit) / sum exp(logits) >= 1/V, so
    its log p is exact, and a softmax is much faster than exp, sum and log on a CPU.

    `likeliest`: its id, [..., 1], if known: saves two of four passes over V.

    >>> float(log_normalizer(tf.constant([0.0, 0.0]))[0] / tf.math.log(2.0))
    1.0
    """
    return _log_normalizer(logits, tf.nn.softmax(logits), likeliest)


def _log_normalizer(logits, probabilities, likeliest=None):
    def of_likeliest(values):
        if likeliest is None:
            return tf.reduce_max(values, -1, keepdims=True)
        return tf.gather(values, likeliest, batch_dims=likeliest.shape.rank - 1)

    return of_likeliest(logits) - tf.math.log(of_likeliest(probabilities))


def cross_entropy(
    labels: tf.Tensor,
    logits: tf.Tensor,
    smoothing: float = 0.0,
    counted: tf.Tensor | None = None,
) -> tf.Tensor:
    """-log softmax(logits)[label].  ids [N], [N, V] -> [N], float32 or wider.

    `smoothing` e spreads a share of the label over all V (Szegedy et al., 2016):
    (1 - e) (-log p(label)) + e mean_v (-log p(v)).

    `counted`, bool [N]: a row where it is False has a loss and a gradient of 0, for any label (-1
    and -100 are common) and logits (also -inf and NaN).

    Raises ValueError for shapes that do not fit, and for a counted label that is not an id from 0
    to V - 1. In a graph that is an InvalidArgumentError with the same message; under XLA, which
    cannot raise one, the loss is NaN.

    >>> [round(float(x), 3) for x in cross_entropy(tf.constant([0, 1]), tf.zeros([2, 4]))]
    [1.386, 1.386]
    >>> round(float(cross_entropy([0], tf.constant([[2.0, 1.0, 0.0, -1.0]]), 0.1)[0]), 5)
    0.59019
    >>> float(cross_entropy([-100], tf.zeros([1, 4]), counted=[False])[0])
    0.0
    """
    labels, logits = tf.convert_to_tensor(labels), widen(tf.convert_to_tensor(logits))
    if counted is not None:
        counted = tf.cast(counted, tf.bool)
    check_shapes(labels=("N", labels), logits=("N V", logits), counted=("N", counted))
    ids = checked_ids(labels, logits.shape[1], tf.shape(logits)[1], counted)
    return _cross_entropy(smoothing, counted)(ids, logits)


def checked_ids(labels: tf.Tensor, vocab_size: int | None, size: Any, counted: Any) -> tf.Tensor:
    """Labels as `as_ids` returns them, 0 where they are not counted, after a check of their range.

    labels: any shape; vocab_size: V, None if unknown; size: V, also a tensor; counted: None, or
    bool in the shape of labels. Raises what `cross_entropy` says.
    """
    ids = as_ids(labels, vocab_size, counted)
    if counted is not None:
        ids = tf.where(counted, ids, tf.zeros_like(ids))
    with tf.control_dependencies(_check_range(ids, size)):
        return tf.identity(ids)


def _cross_entropy(smoothing, counted):
    # A custom gradient, because that of TensorFlow's op is several times slower.
    @tf.custom_gradient
    def loss(labels, logits):
        probabilities = tf.nn.softmax(logits)
        label_logits = tf.gather(logits, labels, batch_dims=1)
        log_p = label_logits - _log_normalizer(logits, probabilities)[:, 0]
        if smoothing:
            log_p += smoothing * (tf.reduce_mean(logits, -1) - label_logits)
        size = tf.shape(logits)[1]
        known = (labels >= 0) & (labels < tf.cast(size, labels.dtype))

        def gradient(upstream):
            rows = tf.range(tf.shape(labels)[0], dtype=labels.dtype)
            wanted = probabilities
            if smoothing:
                wanted -= smoothing / tf.cast(size, logits.dtype)
            chosen = tf.stack([rows, labels], 1)
            if counted is None:
                scaled = wanted * upstream[:, None]
            else:  # multiply_no_nan: 0 * NaN is 0, so rows that are not counted may hold anything
                upstream = tf.where(counted, upstream, tf.zeros_like(upstream))
                scaled = tf.math.multiply_no_nan(wanted, upstream[:, None])
            return None, tf.tensor_scatter_nd_sub(scaled, chosen, (1 - smoothing) * upstream)

        losses = tf.where(known, -log_p, tf.constant(float("nan"), log_p.dtype))
        if counted is not None:
            losses = tf.where(counted, losses, tf.zeros_like(losses))
        return losses, gradient

    return loss


def as_ids(labels: tf.Tensor, vocab_size: int | None, counted: tf.Tensor | None = None):
    """Labels of any number type as int32 or int64, exactly.

    labels: any shape, integers of any width, or whole numbers that Keras has cast to floats;
    vocab_size: V, None if unknown; counted: bool, the shape of labels: others may have any value.

    Raises ValueError for floats that are not whole (in a graph: InvalidArgumentError), and for a
    float dtype that cannot represent every id below V: bfloat16 is exact up to 256 only.

    >>> as_ids(tf.constant([200], tf.uint8), 300).dtype.name
    'int32'
    """
    dtype = labels.dtype
    if dtype.is_integer or dtype.is_bool:
        wide = dtype in (tf.int64, tf.uint32, tf.uint64)
        return labels if dtype == tf.int32 else tf.cast(labels, tf.int64 if wide else tf.int32)
    exact = {tf.bfloat16: 2**8, tf.float16: 2**11, tf.float32: 2**24, tf.float64: 2**53}.get(dtype)
    if exact is None or (vocab_size is not None and vocab_size - 1 > exact):
        reason = f", which represents whole numbers up to {exact} only" if exact else ""
        raise ValueError(
            f"Labels must be integer ids. Received: {dtype.name}{reason}, for a vocabulary of "
            f"{vocab_size}. Pass them as int32."
        )
    whole = tf.equal(labels, tf.floor(labels))
    if counted is not None:
        whole |= ~counted
    words = "Labels must be integer ids. Received floats that are not whole: "
    with tf.control_dependencies(_checked(tf.reduce_all(whole), words, [labels])):
        return tf.cast(labels, tf.int32 if exact < 2**53 else tf.int64)


def _check_range(ids, size):
    """Assertions that every id is from 0 to size - 1; ids that are not counted are 0."""
    low, high = tf.reduce_min(ids), tf.reduce_max(ids)
    good = (low >= 0) & (high < tf.cast(size, high.dtype))
    words = "Every label with a weight other than 0 must be an id from 0 to V - 1. Received: "
    return _checked(good, words, ["ids from ", low, " to ", high, " for V = ", size])


def _checked(good, words, received):
    """ValueError for known values; else assertions with the same message."""
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(good, [words, *received])]
    if not good:
        raise ValueError(words + "".join(str(_shown(part)) for part in received))
    return []


def _shown(part):
    return part.numpy() if tf.is_tensor(part) else part
