"""A linear-chain conditional random field over the labels of a sequence, as pure functions.

    score(y) = start_{y_1} + sum_t emissions_{t, y_t} + sum_{t > 1} transitions_{y_{t-1}, y_t}
    p(y) = exp(score(y)) / Z,    Z = sum over all L^T sequences y of exp(score(y))

(Lafferty et al., 2001; Huang et al., 2015.) Scores -inf forbid a start or a transition. Steps that
`mask` hides are left out, wherever they are: the chain goes from each real step to the next one.
"""

from typing import Any

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.ids import as_ids
from keras_attention.functional.shapes import check_shapes

_FORBIDDEN = -1e9  # for -inf, whose gradient in a logarithm of a sum is NaN


def crf_log_likelihood(
    labels: Any, emissions: Any, transitions: Any, start: Any = None, mask: Any = None
) -> tf.Tensor:
    """log p(labels) of a linear-chain CRF (Huang et al., 2015).  -> [B], float32 or wider.

        log p(y) = score(y) - log Z

    labels [B, T] ids, emissions [B, T, L], transitions [L, L] from row to column, start [L] or
    None (zeros), mask [B, T] bool or None. A row without a real step has a log-likelihood of 0.
    Raises ValueError for shapes that do not fit.

    >>> found = crf_log_likelihood([[0, 1]], tf.zeros([1, 2, 2]), tf.zeros([2, 2]))
    >>> tf.exp(found).numpy().round(6).tolist()  # one of four sequences
    [0.25]
    """
    labels = as_ids(labels, "labels", "B T")
    emissions, transitions, start, mask = _checked(emissions, transitions, start, mask, labels)

    def step(carry, given):
        before, begun, total = carry
        emission, label, real = given  # [B, L], [B], [B]
        entered = tf.where(
            begun,
            tf.gather_nd(transitions, tf.stack([before, label], 1)),
            tf.gather(start, label),
        )
        added = entered + tf.gather(emission, label, batch_dims=1)
        total += tf.where(real, added, tf.zeros_like(added))
        return tf.where(real, label, before), begun | real, total

    # A label of a step that is left out may be anything, such as -100.
    labels = tf.where(mask, tf.cast(labels, tf.int32), 0)
    with tf.control_dependencies(_check_range(labels, tf.shape(transitions)[0])):
        labels = tf.transpose(labels)
    first = tf.zeros_like(labels[0]), tf.zeros_like(mask[:, 0]), tf.zeros_like(emissions[:, 0, 0])
    given = tf.transpose(emissions, [1, 0, 2]), labels, tf.transpose(mask)
    score = tf.foldl(step, given, first)[2]
    return score - crf_log_normalizer(emissions, transitions, start, mask)


def crf_log_normalizer(
    emissions: Any, transitions: Any, start: Any = None, mask: Any = None
) -> tf.Tensor:
    """log Z of a linear-chain CRF, by the forward algorithm.  -> [B], float32 or wider.

        alpha_1 = start + emissions_1
        alpha_{t,j} = emissions_{t,j} + log sum_i exp(alpha_{t-1,i} + transitions_ij)
        log Z = log sum_j exp(alpha_{T,j})

    Arguments as in `crf_log_likelihood`; 0 for a row without a real step. If every sequence of
    labels is forbidden, it is about -1e9.

    >>> tf.exp(crf_log_normalizer(tf.zeros([1, 3, 2]), tf.zeros([2, 2]))).numpy().round(5).tolist()
    [8.0]
    """
    emissions, transitions, start, mask = _checked(emissions, transitions, start, mask)

    def step(carry, given):
        alpha, begun = carry
        emission, real = given  # [B, L], [B]
        reached = tf.reduce_logsumexp(alpha[:, :, None] + transitions, 1)
        new = emission + tf.where(begun[:, None], reached, start)
        return tf.where(real[:, None], new, alpha), begun | real

    first = tf.zeros_like(emissions[:, 0]), tf.zeros_like(mask[:, 0])
    alpha, begun = tf.foldl(step, (tf.transpose(emissions, [1, 0, 2]), tf.transpose(mask)), first)
    found = tf.reduce_logsumexp(alpha, 1)
    return tf.where(begun, found, tf.zeros_like(found))


def viterbi(
    emissions: Any, transitions: Any, start: Any = None, mask: Any = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The labels of the highest score, and that score (Viterbi, 1967).  -> [B, T] int32, [B].

    Arguments as in `crf_log_likelihood`. Start and transition scores of 0 and -inf alone search
    under constraints without a CRF. Steps that are left out get label 0. If every sequence is
    forbidden, the score is -inf.

    >>> never = [[0.0, float("-inf")], [0.0, 0.0]]  # label 1 does not follow label 0
    >>> labels, score = viterbi([[[1.0, 0.0], [0.0, 5.0]]], never)
    >>> labels.numpy().tolist(), score.numpy().tolist()
    ([[1, 1]], [5.0])
    """
    emissions, transitions, start, mask = _checked(
        emissions, transitions, start, mask, forbidden=float("-inf")
    )
    own = tf.range(tf.shape(emissions)[2])  # [L]: a label that stays, while steps are left out

    def step(carry, given):
        best, begun, _ = carry
        emission, real = given
        scores = best[:, :, None] + transitions  # [B, L before, L]
        new = emission + tf.where(begun[:, None], tf.reduce_max(scores, 1), start)
        moves = tf.where((real & begun)[:, None], tf.argmax(scores, 1, tf.int32), own)
        return tf.where(real[:, None], new, best), begun | real, moves

    def back(label, moves):
        return tf.gather(moves, label, batch_dims=1)

    zeros = tf.zeros_like(emissions[:, 0])
    first = zeros, tf.zeros_like(mask[:, 0]), tf.zeros_like(zeros, tf.int32)
    steps = tf.transpose(emissions, [1, 0, 2]), tf.transpose(mask)
    scores, _, moves = tf.scan(step, steps, first)
    last = tf.argmax(scores[-1], 1, tf.int32)
    before = tf.scan(back, moves, last, reverse=True)  # [T, B], the label before each step
    labels = tf.transpose(tf.concat([before[1:], last[None]], 0))
    return tf.where(mask, labels, 0), tf.reduce_max(scores[-1], 1)


def _checked(emissions, transitions, start, mask, labels=None, forbidden=_FORBIDDEN):
    """The arguments as tensors of one float dtype, the mask as bool; -inf is `forbidden`."""
    emissions = widen(tf.convert_to_tensor(emissions))
    transitions = tf.cast(tf.convert_to_tensor(transitions), emissions.dtype)
    if start is None:
        start = tf.zeros_like(transitions[0])
    start = tf.cast(start, emissions.dtype)
    if mask is None:
        mask = tf.ones(tf.shape(emissions)[:2], tf.bool)
    mask = tf.cast(mask, tf.bool)
    check_shapes(
        emissions=("B T L", emissions), transitions=("L L", transitions), start=("L", start),
        mask=("B T", mask), labels=("B T", labels),
    )  # fmt: skip
    if emissions.shape[1] == 0:
        raise ValueError("A chain has at least one step. Received: emissions with T = 0")
    return emissions, tf.maximum(transitions, forbidden), tf.maximum(start, forbidden), mask


def _check_range(labels, count):
    """Assertions that labels [B, T] are ids below L; ValueError where they are known."""
    good = tf.reduce_all((labels >= 0) & (labels < count))
    if tf.executing_eagerly() and not good:
        raise ValueError(
            f"labels must be ids from 0 to L - 1 = {int(count) - 1}. Received: ids from "
            f"{int(tf.reduce_min(labels))} to {int(tf.reduce_max(labels))}"
        )
    words = ["labels must be ids from 0 to L - 1. Received:", labels, "for L =", count]
    check = tf.debugging.Assert(good, words)
    return [] if check is None else [check]
