"""Finished answers of a beam search, stored separately from the live hypotheses.

A beam of K has K live hypotheses and a list of the K best finished answers. An answer is stored as
its score and its origin: the step at which it ended, and the index of the hypothesis that ended.
Its tokens are found by tracing back from there. B sources; the beam may consist of G groups of
K' = K / G. `stuck`: the processors forbid all next tokens of a hypothesis.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.decoding.penalties import gnmt_length_penalty


class FinishedAnswers(NamedTuple):
    """The best answers of every group, best first; those with all next tokens forbidden last."""

    scores: tf.Tensor  # [B, K], -inf: no answer
    # [B, K] int32, 2 * (time * K + index) + 1: hypothesis `index` before step `time` ended with
    # the end token at this step; the same without + 1: it ended without an end token
    origins: tf.Tensor

    @classmethod
    def empty(cls, batch_size: Any, beam_width: int, dtype: tf.DType) -> "FinishedAnswers":
        origins = tf.zeros([batch_size, beam_width], tf.int32)
        return cls(tf.cast(origins, dtype) - float("inf"), origins)

    @property
    def has_end(self) -> tf.Tensor:
        """Whether the last token is the end token.  [B, K] bool."""
        return self.origins % 2 == 1

    @property
    def times(self) -> tf.Tensor:
        """The step at which an answer ended: its number of tokens without the end token."""
        return self.origins // 2 // self.origins.shape[1]

    @property
    def indices(self) -> tf.Tensor:
        """The index of the hypothesis before the step at which it ended."""
        return self.origins // 2 % self.origins.shape[1]


def add(
    answers: FinishedAnswers,
    scores: tf.Tensor,
    time: Any,
    has_end: tf.Tensor | bool,
    groups: int = 1,
    stuck: tf.Tensor | None = None,
) -> FinishedAnswers:
    """Add the answers that end at this step, one per hypothesis, and keep the best K' of a group.

    scores [B, K], -inf: none; has_end [B, K] bool, or one for all. `stuck` [B, K]: hypotheses that
    ended because processors forbid all tokens. They rank after all others; None if there are none.
    """
    beam_width = scores.shape[1]
    width = beam_width // groups
    own = 2 * tf.range(beam_width) + tf.cast(has_end, tf.int32)
    origins = 2 * beam_width * time + own
    origins = tf.broadcast_to(origins, tf.shape(scores))

    def join(old, new):
        return tf.concat([by_group(old, width), by_group(new, width)], 1)  # [B*G, 2 K']

    scores, origins = join(answers.scores, scores), join(answers.origins, origins)
    if stuck is None:
        scores, order = tf.math.top_k(scores, width)
    else:
        order = best_first(scores, join(~answers.has_end, stuck))[:, :width]
        scores = tf.gather(scores, order, batch_dims=1)
    origins = tf.gather(origins, order, batch_dims=1)
    if groups > 1:
        scores, origins = (tf.reshape(x, [-1, beam_width]) for x in (scores, origins))
    return FinishedAnswers(scores, origins)


def certain(
    answers: FinishedAnswers,
    log_probs: tf.Tensor,
    length: Any,
    limit: Any,
    n_best: int,
    length_penalty: Any,
    coverage_penalty: Any,
    groups: int = 1,
    may_be_stuck: bool = False,
) -> tf.Tensor:
    """Whether no live hypothesis can become one of the best answers.  -> [B, K] or [B, 1] bool.

    log_probs [B, K] of live hypotheses of `length` tokens; an answer has at most `limit` tokens.
    The log p of a hypothesis never increases. When it ends it has at least one more token, unless
    it is cut off here. Between that length and the limit its penalty is monotonic, so its score is
    at most that of its current log p at one of the two lengths. A coverage penalty only lowers a
    score, unless its weight is negative: then nothing is certain before the end.
    """
    beam_width = log_probs.shape[1]
    width = beam_width // groups
    bound = tf.reduce_max(by_group(log_probs, width), 1)  # [B*G]
    if tf.get_static_value(length_penalty) != 0.0:
        limit = tf.cast(limit, tf.int32)
        lengths = (tf.minimum(length + 1, limit), limit)
        penalties = (tf.cast(gnmt_length_penalty(n, length_penalty), bound.dtype) for n in lengths)
        bound = tf.maximum(*(bound / penalty for penalty in penalties))
    if tf.get_static_value(coverage_penalty) != 0.0:
        bound = tf.where(tf.cast(coverage_penalty, bound.dtype) < 0, float("inf"), bound)
    scores = answers.scores
    if may_be_stuck:
        scores = tf.where(answers.has_end, scores, -float("inf"))
    if groups == 1:  # hypotheses with all tokens forbidden are last
        return (scores[:, n_best - 1] >= bound)[:, None]
    found = by_group(scores, width)[:, -1] >= bound  # [B*G]
    found = tf.repeat(tf.reshape(found, [-1, groups]), width, axis=1)  # [B, K]
    if n_best < beam_width:
        worst = tf.math.top_k(scores, n_best)[0][:, -1]
        highest = tf.reduce_max(tf.reshape(bound, [-1, groups]), 1)
        found |= (worst >= highest)[:, None]
    return found


def best_first(scores: tf.Tensor, stuck: tf.Tensor) -> tf.Tensor:
    """Indices by falling score; answers with `stuck` after the others, missing ones last.

    [B, K], [B, K] bool -> [B, K].
    """
    count = scores.shape[1]
    rank = tf.where(scores > -float("inf"), tf.cast(stuck, tf.int32), 2)
    _, order = tf.math.top_k(scores, count)
    rank = tf.gather(rank, order, batch_dims=1)
    _, by_rank = tf.math.top_k(-tf.range(count) - count * rank, count)
    return tf.gather(order, by_rank, batch_dims=1)


def by_group(x: tf.Tensor, width: int) -> tf.Tensor:
    """[B, K] -> [B*G, K']."""
    return x if x.shape[1] == width else tf.reshape(x, [-1, width])
