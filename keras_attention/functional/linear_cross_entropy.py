"""The cross-entropy of a linear output layer, without the logits of all tokens in memory."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.backend.keras import in_xla, no_autograph
from keras_attention.functional.dtypes import widen
from keras_attention.functional.likelihood import checked_ids
from keras_attention.functional.shapes import check_same_sizes, check_shapes

# Each chunk adds to the gradient of the matrix, a pass over [D, V], which few tokens would not be
# worth: with 512, the whole takes .99 of the time of all logits (V 32000,
# tests/benchmarks/linear_cross_entropy.py). A small vocabulary has longer chunks, of 32 MB.
_TOKENS, _ELEMENTS = 512, 2**23


class LinearCrossEntropyOutput(NamedTuple):
    """The result of `linear_cross_entropy`: total [], log_p [...], correct [...].

    >>> result = linear_cross_entropy(tf.zeros([2, 3]), tf.zeros([3, 4]), [0, 1])
    >>> result.log_p.shape, result.correct.numpy().tolist()
    (TensorShape([2]), [True, False])
    """

    total: tf.Tensor
    log_p: tf.Tensor
    correct: tf.Tensor


@no_autograph
def linear_cross_entropy(
    hidden: Any,
    matrix: Any,
    labels: Any,
    bias: Any = None,
    weights: Any = None,
    smoothing: float = 0.0,
    transposed: bool = False,
    chunk: int | None = None,
    gradient: bool = True,
) -> LinearCrossEntropyOutput:
    """sum_n w_n (-log softmax(h_n W + b)[label_n]) over tokens n, computed in chunks of tokens.

    Only the logits of one chunk are in memory at a time, not those of all tokens, [..., V]. The
    gradients of h, W and b are computed in the same pass (Hsu et al., 2024), so nothing is computed
    twice; this needs the weights beforehand. No logits are computed for tokens with a weight of 0,
    which may have any label, and any hidden state, also NaN.

    Args:
        hidden: h [..., D]. The products are computed in its dtype (for float16, those of the
            gradients in float32), softmax and sums in float32 or wider.
        matrix: W [D, V], or with `transposed` [V, D], the shape of an embedding.
        labels: [...] ids.
        bias: b [V], or None.
        weights: w [...], or None for 1.
        smoothing: label smoothing: see `functional.likelihood.cross_entropy`.
        chunk: the most tokens in a chunk; the default depends on V.
        gradient: whether to compute the gradients, in eager mode. A graph computes them only if
            they are used.

    Returns:
        total: the sum, a scalar, float32 or wider. A mean is its quotient by the sum of w.
        log_p: [...], log p(label), without smoothing; 0 at a weight of 0. It has no gradient.
        correct: [...] bool, whether the label has the largest logit; False at a weight of 0.

    Raises:
        ValueError: shapes that do not fit, an unknown V or D, a chunk below 1, and for labels what
            `cross_entropy` raises.
        LookupError: for the gradient of log_p, a second derivative, or after `gradient=False`.

    >>> hidden, matrix = tf.eye(2), tf.constant([[2.0, 0.0], [0.0, 0.0]])
    >>> result = linear_cross_entropy(hidden, matrix, [0, 1], weights=[1.0, 2.0])
    >>> round(float(result.total), 4), result.log_p.numpy().round(4)
    (1.5132, array([-0.1269, -0.6931], dtype=float32))
    >>> result.correct.numpy().tolist()
    [True, False]
    """
    hidden, matrix, labels = map(tf.convert_to_tensor, (hidden, matrix, labels))
    bias = None if bias is None else tf.convert_to_tensor(bias)
    wide = tf.float64 if hidden.dtype == tf.float64 else tf.float32
    weights = tf.ones(tf.shape(labels), wide) if weights is None else tf.cast(weights, wide)
    checks = _check_shapes(hidden, matrix, labels, bias, weights, transposed, chunk)
    counted = tf.not_equal(weights, 0)
    vocab_size = matrix.shape[0 if transposed else 1]
    chunk = chunk or max(_TOKENS, _ELEMENTS // max(vocab_size, 1))
    layer = _Layer(vocab_size, transposed, smoothing, chunk, gradient)
    with tf.control_dependencies(checks):
        ids = checked_ids(labels, vocab_size, vocab_size, counted)
    rows = [tf.reshape(hidden, [-1, hidden.shape[-1]]), matrix, tf.reshape(weights, [-1])]
    total, log_p, correct = _sum_over_tokens(layer, tf.reshape(ids, [-1]))(
        *rows, *([] if bias is None else [bias])
    )
    log_p = tf.raw_ops.PreventGradient(input=log_p, message="Use the gradient of total, not log_p.")
    log_p, correct = (
        tf.ensure_shape(tf.reshape(x, tf.shape(labels)), labels.shape) for x in (log_p, correct)
    )
    return LinearCrossEntropyOutput(total, log_p, correct)


def _check_shapes(hidden, matrix, labels, bias, weights, transposed, chunk):
    """ValueError for what is known, assertions for the rest."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1. Received: chunk={chunk}")
    check_shapes(matrix=("V D" if transposed else "D V", matrix), bias=("V", bias))
    rank, width = hidden.shape.rank, matrix.shape[1 if transposed else 0]
    if not rank or None in (width, *matrix.shape) or hidden.shape[-1] != width:
        raise ValueError(
            "hidden must be [..., D], for a matrix of known size "
            f"{'[V, D]' if transposed else '[D, V]'}. Received: hidden of shape {hidden.shape}, "
            f"matrix of shape {matrix.shape}"
        )
    checks = []
    for name, x in (("labels", labels), ("weights", weights)):
        words = f"{name} must be [...] for hidden [..., D]."
        if x.shape.rank != rank - 1:
            raise ValueError(f"{words} Received: shapes {x.shape} and {hidden.shape}")
        checks += check_same_sizes(x, hidden, rank - 1, words)
    return checks


class _Layer(NamedTuple):
    """The settings, and the size of the vocabulary."""

    vocab_size: int
    transposed: bool
    smoothing: float
    chunk: int
    gradient: bool


def _sum_over_tokens(layer, labels):
    """(h [N, D], W, w [N], b [V]) -> total, log_p [N], correct [N]; the first has a gradient."""

    @tf.custom_gradient
    def compute(hidden, matrix, weights, *bias):
        inputs = hidden, matrix, weights, *bias
        losses, log_p, correct, gradients = _loop(layer, labels, *inputs)

        def backward(upstream, *_):
            if not layer.gradient:
                raise LookupError("linear_cross_entropy(..., gradient=False) has no gradient.")
            to_hidden, to_matrix, *to_bias = gradients
            scaled = [g * upstream for g in (to_hidden, to_matrix, losses, *to_bias)]
            return [
                tf.raw_ops.PreventGradient(
                    input=tf.cast(gradient, x.dtype),
                    message="linear_cross_entropy has no second derivative.",
                )
                for gradient, x in zip(scaled, inputs)
            ]

        return (tf.reduce_sum(losses * weights), log_p, correct), backward

    return compute


def _loop(layer, labels, hidden, matrix, weights, *bias):
    """losses [N], log_p [N], correct [N], and the gradients of h, W and b."""
    wide = weights.dtype
    counted = tf.not_equal(weights, 0)
    places = _chunks(counted, layer.chunk)
    number = tf.reduce_sum(tf.cast(counted, tf.int32))
    matrices = _cast_for_products(matrix, hidden.dtype)

    def arrays():
        """Of losses, log_p, correct, and the gradient of h; a row for each token of a chunk."""
        size, rows = tf.shape(places)[0], places.shape[1]
        for dtype, shape in ((wide, []), (wide, []), (tf.bool, []), (wide, [hidden.shape[-1]])):
            yield tf.TensorArray(dtype, size, element_shape=[rows, *shape])

    def step(i, losses, log_ps, corrects, to_hidden, to_matrix, *to_bias):
        place = places[i]
        # The last chunk may have rows that do not count.
        real = i * tf.shape(place)[0] + tf.range(tf.shape(place)[0]) < number
        h = tf.gather(hidden, place)
        h = tf.where(real[:, None], h, tf.zeros_like(h))
        w = tf.where(real, tf.gather(weights, place), tf.zeros([], wide))
        of_tokens, to_logits = _likelihood(layer, h, tf.gather(labels, place), matrices[0], bias)
        arrays = losses, log_ps, corrects
        after = [array.write(i, x) for array, x in zip(arrays, of_tokens)]
        if layer.gradient:
            to_h, to_m = _gradients(layer, h, w, to_logits, matrices[1])
            to_hidden, to_matrix = to_hidden.write(i, to_h), to_matrix + to_m
            # As a product, because TensorFlow is slow at sums over the first axis.
            to_bias = [to_b + tf.matmul(w[None], to_logits)[0] for to_b in to_bias]
        return i + 1, *after, to_hidden, to_matrix, *to_bias

    sums = [tf.zeros(x.shape, wide) for x in (matrix, *bias)]
    steps = -(-number // tf.maximum(tf.shape(places)[1], 1))
    _, *found = tf.while_loop(
        lambda i, *_: i < steps, step, (0, *arrays(), *sums), parallel_iterations=1
    )
    order = tf.reshape(places, [-1])
    of_tokens = [_put_back(array, order, number, counted) for array in found[:4]]
    return *of_tokens[:3], (of_tokens[3], *found[4:])


def _chunks(counted, most):
    """bool [N] -> [chunks, tokens] int32: the places of the tokens that count come first.

    Every chunk has at most `most` tokens. Under XLA, which needs a static size, there are chunks
    for all tokens; else only for those that count, filled up with place 0.
    """
    if in_xla():
        order = tf.argsort(tf.cast(~counted, tf.int32), stable=True)
        known = counted.shape[0]
        size = known if known is not None else tf.shape(counted)[0]
        chunks = max(1, -(-size // most))
    else:
        order = tf.cast(tf.where(counted)[:, 0], tf.int32)
        size = tf.shape(order)[0]
        chunks = tf.maximum(1, -(-size // most))
    tokens = -(-size // chunks)
    return tf.reshape(tf.pad(order, [[0, chunks * tokens - size]]), [chunks, tokens])


def _put_back(chunks, order, number, counted):
    """An array of chunks, whose tokens come from the places in `order`, as [N, ...].

    Only the first `number` of them count; the others are 0.
    """
    rows = chunks.stack()
    rows = tf.reshape(rows, tf.concat([[-1], tf.shape(rows)[2:]], 0))
    size = tf.shape(counted)[0]
    # Rows that do not count go to a place after the last.
    order = tf.where(tf.range(tf.shape(order)[0]) < number, order, size)
    shape = tf.concat([[size + 1], tf.shape(rows)[1:]], 0)
    if rows.dtype == tf.bool:
        return tf.scatter_nd(order[:, None], tf.cast(rows, tf.int32), shape)[:size] > 0
    return tf.scatter_nd(order[:, None], rows, shape)[:size]


def _cast_for_products(matrix, dtype):
    """W for the logits and for the gradients; 1 / V is below the normal numbers of float16."""
    narrow = tf.cast(matrix, dtype)
    return narrow, tf.cast(matrix, tf.float32) if dtype == tf.float16 else narrow


def _likelihood(layer, hidden, labels, matrix, bias):
    """The loss, log p and correctness of each row [C], and the gradient of the loss [C, V].

    The order of the operations lets TensorFlow reuse the memory of the logits.
    """
    logits = widen(tf.matmul(hidden, matrix, transpose_b=layer.transposed))
    for b in bias:
        logits = tf.nn.bias_add(logits, tf.cast(b, logits.dtype))
    likeliest = tf.argmax(logits, -1, labels.dtype)
    best, of_label = (tf.gather(logits, ids, batch_dims=1) for ids in (likeliest, labels))
    mean = tf.reduce_mean(logits, -1) if layer.smoothing else best
    with tf.control_dependencies([best, of_label, mean]):
        p = tf.nn.softmax(logits)
    p_best = tf.gather(p, likeliest, batch_dims=1)
    log_p = of_label - (best - tf.math.log(p_best))  # see likelihood.log_normalizer
    known = (labels >= 0) & (labels < tf.cast(layer.vocab_size, labels.dtype))
    log_p = tf.where(known, log_p, tf.constant(float("nan"), log_p.dtype))
    losses = -log_p
    with tf.control_dependencies([p_best]):
        if layer.smoothing:
            losses -= layer.smoothing * (mean - of_label)
            p -= layer.smoothing / tf.cast(layer.vocab_size, p.dtype)
        own = tf.stack([tf.range(tf.shape(labels)[0], dtype=labels.dtype), labels], 1)
        share = tf.fill(tf.shape(labels), tf.constant(1 - layer.smoothing, p.dtype))
        to_logits = tf.tensor_scatter_nd_sub(p, own, share)
    return (losses, log_p, tf.equal(likeliest, labels)), to_logits


def _gradients(layer, hidden, weights, to_logits, matrix):
    """Of h [C, D] and W, in the dtype of the weights, from that of the logits [C, V]."""
    wide = weights.dtype
    narrow = tf.cast(to_logits, matrix.dtype)
    to_hidden = tf.matmul(narrow, matrix, transpose_b=not layer.transposed)
    to_hidden = tf.cast(to_hidden, wide) * weights[:, None]
    weighted = tf.cast(tf.cast(hidden, wide) * weights[:, None], matrix.dtype)
    pair = (narrow, weighted) if layer.transposed else (weighted, narrow)
    return to_hidden, tf.cast(tf.matmul(*pair, transpose_a=True), wide)
