"""Decoding strategies: how the next tokens are selected.

This is the only part in which greedy search, beam search and sampling differ. A strategy receives
all next tokens of every hypothesis (`Continuations`) and returns the K hypotheses that continue
(`NextHypotheses`). B sources, K hypotheses each, V tokens. docs/recipes/strategy.md writes one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.backend.saving import renamed
from keras_attention.decoding.processors._settings import check_value, static_value
from keras_attention.functional.noise import gumbel
from keras_attention.functional.top_k import top_k

__all__ = [
    "NextHypotheses",
    "Strategy",
    "Continuations",
    "beam",
    "diverse_beam",
    "sample",
    "stochastic_beam",
]


class Continuations(NamedTuple):
    """All possible next tokens of every hypothesis: what a strategy selects from.

    Fields:
        time: scalar int32, the number of tokens so far.
        logits: [B, K, V], or log p if there are processors, -inf for forbidden tokens.
        log_normalizer: `logits - log_normalizer()` is log p of each next token: log sum exp of the
            logits [B, K, 1], or 0 if there are processors. It is faster with the argmax id of each
            row [B, K, 1] as its argument.
        log_probs: [B, K], total log p of each hypothesis so far, -inf for none.
        finished: [B, K] bool, the hypothesis has ended. Its only continuation is the token
            `repeated` with log p 0.
        end_token: scalar int32. Outside of the vocabulary it means that no hypothesis ends.
        repeated: scalar int32, id emitted by finished hypotheses: `end_token` if it is in the
            vocabulary, else 0.
        scored: `scored(ids, log_probs)` extends each hypothesis by C tokens, ids [B, K, C], or
            [1, 1, C] for the same of all hypotheses, with log p [B, K, C] of each -> total log p
            and score (with both penalties), [B, K, C] each. It sets continuations of finished
            hypotheses other than `repeated` to -inf. None for `choose_unfinished`, where all
            continuations have the same length.
        in_prompt: [B, K] bool, True while the next token is a prompt token: an end token there does
            not finish the hypothesis. None without a prompt, and for `choose`, where `scored`
            already respects it.
    """

    time: tf.Tensor
    logits: tf.Tensor
    log_normalizer: Callable[..., tf.Tensor]
    log_probs: tf.Tensor
    finished: tf.Tensor
    end_token: tf.Tensor
    repeated: tf.Tensor
    scored: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None = None
    in_prompt: Any = None


class NextHypotheses(NamedTuple):
    """The K selected hypotheses: token, parent, total log p and score.

    Fields:
        ids: [B, K] int32, the selected tokens.
        parents: [B, K] int32 in [0, K), the index of the hypothesis that each extends. The search
            reorders the states of the model and of the processors by them.
        log_probs: [B, K], total log p without penalties; -inf for no hypothesis.
        scores: [B, K], with penalties.
    """

    ids: tf.Tensor
    parents: tf.Tensor
    log_probs: tf.Tensor
    scores: tf.Tensor


class Strategy(NamedTuple):
    """Functions that select the next hypotheses of a search.

    `live(K)`: [K] bool, the hypotheses with which a search starts. All K have the same start token
    and state, so a beam search starts with one, and K independent samples with all; those that are
    not live have log p -inf until a step selects continuations of others for them. `init(B, K)`:
    the state of the strategy, a nest of tensors, () for none. `choose(continuations, state)`:
    `NextHypotheses`, next state.

    With `choose_unfinished(continuations, state)`, and K > `groups`, the search stores finished
    answers separately and calls this function instead of `choose`. It returns the `NextHypotheses`
    that continue, none of them ended; [B, K]: log p including the end token, -inf if hypothesis k
    does not end at this step; and the next state.
    """

    live: Callable[[int], Any]
    init: Callable[[Any, int], Any]
    choose: Callable[[Continuations, Any], tuple[NextHypotheses, Any]]
    choose_unfinished: (
        Callable[[Continuations, Any], tuple[NextHypotheses, tf.Tensor, Any]] | None
    ) = None
    groups: int = 1
    made_by: tuple[str, dict] | None = None  # a function of this module and its arguments, to save
    ranked: bool = True  # whether to sort the result by score; else keep the order of the search


def serialize(strategy: Strategy | None) -> dict | None:
    """The function that made a strategy and its arguments, as JSON.

    Raises ValueError for a strategy that no function of this module made.
    """
    if strategy is None:
        return None
    if strategy.made_by is None:
        raise ValueError(
            "Only strategies made by beam, sample, stochastic_beam or diverse_beam can be saved. "
            f"Received: {strategy}. Build the decoder again in the program that loads the model."
        )
    name, arguments = strategy.made_by
    return {"name": name, **arguments}


def deserialize(config: dict | None) -> Strategy | None:
    """The inverse of `serialize`."""
    if config is None:
        return None
    makers = {maker.__name__: maker for maker in (beam, sample, stochastic_beam, diverse_beam)}
    config = dict(config)
    return makers[renamed(config.pop("name"))](**config)


def beam() -> Strategy:
    """Beam search: the K best of all continuations; with K = 1 greedy search.

    In `generate`, answers whose end token is among the K best continuations of a step are stored
    separately, and the K best unfinished continuations become the next hypotheses.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2]])
    >>> found = model.generate(source, beam_width=3, max_length=4, strategy=beam())
    >>> bool((found.ids == model.generate(source, beam_width=3, max_length=4).ids).numpy().all())
    True
    """

    def choose(continuations, state):
        ids, scored = _candidates(continuations)
        total, scores = scored()
        return _select(ids, total, scores, ids.shape[1]), state

    def choose_unfinished(continuations, state):
        return *_choose_unfinished(continuations), state

    return Strategy(
        _first, lambda batch_size, beam_width: (), choose, choose_unfinished, made_by=("beam", {})
    )


def sample(seed: Any = None, best_first: bool = False) -> Strategy:
    """K independent samples, each token drawn with its probability.

    Tokens are drawn from the renormalised distribution that the processors leave. A result has the
    answers in the order drawn, so its first n, those of `n_best`, are unbiased samples; with
    `best_first` the answers are sorted, and the first is the likeliest of K samples.

    `seed`: one or two ints to repeat the same samples; None for new samples at every call. The
    samples of a source also depend on its index in the batch, unless `seed` is [B, 2], two ints for
    each source: then they depend on these alone. Raises ValueError for another seed.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2]])
    >>> one, again = (model.generate(source, max_length=4, strategy=sample(seed=7)) for _ in "ab")
    >>> bool((one.ids == again.ids).numpy().all())
    True
    """

    def init(batch_size, beam_width):
        return _seed(seed)

    def choose(continuations, state):
        logits = continuations.logits
        ids = tf.argmax(logits + _noise(state, continuations), -1, tf.int32)
        ids = tf.where(continuations.finished, continuations.repeated, ids)[..., None]  # [B, K, 1]
        log_probs = tf.gather(logits, ids, batch_dims=2) - continuations.log_normalizer()
        total, scores = continuations.scored(ids, log_probs)
        own = tf.zeros_like(ids[..., 0]) + tf.range(ids.shape[1])
        return NextHypotheses(ids[..., 0], own, total[..., 0], scores[..., 0]), state

    def live(beam_width):
        return [True] * beam_width

    _check_seed(seed)
    made_by = ("sample", {"seed": seed, "best_first": best_first})
    return Strategy(live, init, choose, ranked=best_first, made_by=made_by)


def stochastic_beam(seed: Any = None, best_first: bool = False) -> Strategy:
    """K samples without replacement (Kool et al., 2019, algorithm 1).

    A beam search over log-probabilities with Gumbel noise: the best continuation of a hypothesis
    inherits its noise, the others receive smaller values. A result has the answers in the order
    drawn, the largest noisy log p first. `seed` and `best_first` as in `sample`.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2]])
    >>> found = model.generate(source, beam_width=9, max_length=4, strategy=stochastic_beam(seed=7))
    >>> len({tuple(answer) for answer in found.ids[0].numpy()})
    9
    """

    def init(batch_size, beam_width):
        first = tf.where(_first(beam_width), 0.0, -float("inf"))
        return _seed(seed), tf.tile(first[None], [batch_size, 1])

    def choose(continuations, state):
        seed, perturbed = state  # [2], [B, K]
        logits, finished = continuations.logits, continuations.finished[..., None]
        everything = tf.range(tf.shape(logits)[2])[None, None]
        log_probs = logits - continuations.log_normalizer()
        total, scores = continuations.scored(everything, log_probs)  # [B, K, V]
        noise = _noise(seed, continuations)
        noisy = _truncated(total + noise, perturbed[..., None])
        # A finished hypothesis has one continuation, whose noisy log p does not change.
        noisy = tf.where(finished & (total > -float("inf")), perturbed[..., None], noisy)
        values, flat = top_k(_rows(noisy), logits.shape[1])
        width = tf.shape(logits)[2]
        parents, ids = flat // width, flat % width
        chosen = [tf.gather(_rows(x), flat, batch_dims=1) for x in (total, scores)]
        dead = values == -float("inf")
        chosen = [tf.where(dead, -float("inf"), x) for x in chosen]
        return NextHypotheses(ids, parents, *chosen), (seed, values)

    _check_seed(seed)
    made_by = ("stochastic_beam", {"seed": seed, "best_first": best_first})
    return Strategy(_first, init, choose, ranked=best_first, made_by=made_by)


def diverse_beam(groups: int, strength: Any = 1.0, at: Any = None) -> Strategy:
    """Diverse beam search (Vijayakumar et al., 2018): K hypotheses in `groups` separate beams.

    The groups select one after the other. For each earlier group that has selected a token at this
    step, `strength` is subtracted from the log p of that token. This affects the selection only,
    not the score. A hypothesis that finished before this step selects no token, so it has no
    effect on other groups. With `at`, a step (a scalar or [B]), it applies at that step only.

    Raises ValueError for groups below 1, or a strength below 0 or NaN; the search raises it for
    groups that do not divide K.

    >>> from models import RNNSeq2Seq
    >>> model, source = RNNSeq2Seq(vocab_size=20, units=8), tf.constant([[5, 6, 2]])
    >>> found = model.generate(source, beam_width=4, max_length=4, strategy=diverse_beam(2, 1e9))
    >>> len({int(first) for first in found.ids[0, :, 0]}) >= 2
    True
    """
    known = static_value(strength)
    wrong = known is not None and not (known.dtype.kind in "biufV" and np.all(known >= 0))
    if not isinstance(groups, int) or groups < 1 or wrong:
        raise ValueError(
            "groups must be at least 1 and strength must be at least 0. Received: "
            f"groups={groups}, strength={strength}"
        )

    def live(beam_width):
        width = _group_width(beam_width, groups)
        return [index % width == 0 for index in range(beam_width)]

    def weight_at(time, dtype):
        weight = tf.cast(strength, dtype)
        if at is None:
            return weight
        now = tf.reshape(tf.equal(time, at), [-1, 1, 1])  # [1 or B, 1, 1]
        return tf.where(now, weight, tf.zeros([], dtype))

    def choose(continuations, state):
        ids, scored = _candidates(continuations)  # [B, K, C]
        total, scores = scored()
        width = _group_width(ids.shape[1], groups)
        weight = weight_at(continuations.time, scores.dtype)
        earlier, values, choices = None, scores, []
        for group in range(groups):
            mine = slice(group * width, (group + 1) * width)
            if earlier is not None:  # finished hypotheses repeat their token without a penalty
                values = scored(_cost(ids, earlier, weight))[1]
            picked = _select(ids[:, mine], total[:, mine], scores[:, mine], width, values[:, mine])
            picked = picked._replace(parents=picked.parents + group * width)
            choices.append(picked)
            silent = tf.gather(continuations.finished, picked.parents, batch_dims=1)
            silent |= picked.log_probs == -float("inf")
            earlier = _concat(earlier, tf.where(silent, -1, picked.ids))  # -1: no token
        return NextHypotheses(*(tf.concat(parts, 1) for parts in zip(*choices))), state

    def choose_unfinished(continuations, state):
        weight = weight_at(continuations.time, continuations.logits.dtype)
        return *_choose_unfinished(continuations, groups, weight), state

    made_by = ("diverse_beam", {"groups": groups, "strength": strength, "at": at})
    return Strategy(
        live, lambda batch_size, beam_width: (), choose, choose_unfinished, groups, made_by
    )


def _group_width(beam_width, groups):
    if beam_width % groups:
        raise ValueError(
            "The groups must divide the beam width K. Received: "
            f"groups={groups}, beam_width={beam_width}"
        )
    return beam_width // groups


def _vocabulary_size(logits):
    """V; ValueError if it is not static."""
    if logits.shape[-1] is None:
        raise ValueError(
            "The strategy needs the vocabulary size V as a static dimension. Received: logits of "
            f"shape {logits.shape}. Set a static last dimension in model.project: "
            "tf.ensure_shape(logits, [None, V])"
        )
    return logits.shape[-1]


def _first(beam_width):
    return [index == 0 for index in range(beam_width)]


def _candidates(continuations):
    """The K+1 likeliest tokens of each row, and the end token: ids [B, K, C], and a function.

    `scored(cost)` returns total log p and scores [B, K, C] after subtracting the cost from log p.
    The order of a row is the same by logits and by probability, so scores are not computed for all
    V tokens. The end token has another length, so it is always scored.
    """
    logits, repeated = continuations.logits, continuations.repeated
    never = tf.constant(-float("inf"), logits.dtype)
    vocabulary = _vocabulary_size(logits)
    values, ids = top_k(logits, min(logits.shape[1] + 1, vocabulary))
    normalizer, twice = continuations.log_normalizer(ids[..., :1]), None
    if ids.shape[2] < vocabulary:  # else the end token is among them
        end = tf.gather(logits, repeated, axis=2)[..., None]  # [B, K, 1]
        # An end token that is among the best already is not a second continuation.
        twice = tf.concat([ids == repeated, tf.zeros_like(end, tf.bool)], 2)
        ids = tf.concat([ids, tf.zeros_like(ids[..., :1]) + repeated], 2)
        values = tf.concat([values, end], 2)
    log_probs = values - normalizer

    def scored(cost=None):
        both = continuations.scored(ids, log_probs if cost is None else log_probs - cost)
        return both if twice is None else tuple(tf.where(twice, never, x) for x in both)

    return ids, scored


def _choose_unfinished(continuations, groups=1, weight=0.0):
    """The K best unfinished continuations, and the hypotheses that end among the K best of all.

    -> `NextHypotheses`, log p of those that end [B, K]. The groups select one after the other;
    `weight` is subtracted for each earlier group that has selected the same token.
    """
    logits, end_token = continuations.logits, continuations.end_token
    never = tf.constant(-float("inf"), logits.dtype)
    vocabulary, beam_width = _vocabulary_size(logits), logits.shape[1]
    values, ids = top_k(logits, min(beam_width + 1, vocabulary))  # K of them are no end token
    normalizer = continuations.log_normalizer(ids[..., :1])
    total = continuations.log_probs[..., None] + (values - normalizer)  # [B, K, C]
    end = tf.gather(logits, continuations.repeated, axis=2) - normalizer[..., 0]
    ended, is_end = continuations.log_probs + end, ids == end_token
    may_end = end_token == continuations.repeated
    if continuations.in_prompt is not None:
        may_end &= ~continuations.in_prompt
        is_end &= ~continuations.in_prompt[..., None]
    ended, total = tf.where(may_end, ended, never), tf.where(is_end, never, total)
    if groups == 1:
        live, values = _select_live(ids, total, beam_width)
        return live, tf.where(_among_best(ended, values), ended, never)
    width = _group_width(beam_width, groups)
    earlier, choices, ends = None, [], []
    for group in range(groups):
        mine = slice(group * width, (group + 1) * width)
        cost, rivals = None, ended[:, mine]
        if earlier is not None:
            cost = _cost(ids[:, mine], earlier, weight)
            rivals -= _cost(tf.fill([1, 1, 1], end_token), earlier, weight)[..., 0]
        live, values = _select_live(ids[:, mine], total[:, mine], width, cost)
        ends_here = _among_best(rivals, values)
        choices.append(live._replace(parents=live.parents + group * width))
        ends.append(tf.where(ends_here, ended[:, mine], never))
        earlier = _concat(earlier, tf.where(values > never, live.ids, -1))  # -1: no token
        earlier = _concat(earlier, tf.where(ends_here, end_token, -1))
    return NextHypotheses(*(tf.concat(parts, 1) for parts in zip(*choices))), tf.concat(ends, 1)


def _select_live(ids, total, count, cost=None) -> tuple[NextHypotheses, tf.Tensor]:
    """The best `count` of [B, K, C], and the values they were selected by (minus the cost)."""
    values, chosen = tf.math.top_k(_rows(total if cost is None else total - cost), count)
    values, chosen = (tf.ensure_shape(x, [None, count]) for x in (values, chosen))
    log_probs = values
    if cost is not None:
        # A token with an infinite cost is excluded, even if no other is left.
        log_probs = tf.gather(_rows(total), chosen, batch_dims=1)
        log_probs = tf.where(values == -float("inf"), values, log_probs)
    ids_chosen = tf.gather(_rows(ids), chosen, batch_dims=1)
    return NextHypotheses(ids_chosen, chosen // ids.shape[2], log_probs, log_probs), values


def _among_best(rivals, values):
    """Which of the rivals [B, K] are among the K best of rivals and values [B, K]."""
    worst = tf.math.top_k(tf.concat([values, rivals], 1), values.shape[1])[0][:, -1:]
    return (rivals >= worst) & (rivals > -float("inf"))


def _cost(ids, earlier, weight):
    """ids [B, K, C], tokens selected earlier [B, M] -> the cost of each id, [B, K, C]."""
    repeats = ids[..., None] == earlier[:, None, None]
    cost = tf.reduce_sum(tf.cast(repeats, weight.dtype), -1)
    return tf.where(cost > 0, cost * weight, 0.0)  # also for an infinite weight: 0 * inf is NaN


def _concat(some, more):
    return more if some is None else tf.concat([some, more], 1)


def _select(ids, total, scores, count, values=None) -> NextHypotheses:
    """The best `count` of [B, K, C], by their scores, or by other values [B, K, C]."""
    choices = ids.shape[2]
    values, chosen = tf.math.top_k(_rows(scores if values is None else values), count)
    values, chosen = (tf.ensure_shape(x, [None, count]) for x in (values, chosen))  # [B, count]

    def of_chosen(x):
        return tf.gather(_rows(x), chosen, batch_dims=1)

    # A token with an infinite cost is excluded, even if no other is left.
    forbidden = values == -float("inf")
    total, scores = (
        tf.where(forbidden, tf.constant(-float("inf"), x.dtype), of_chosen(x))
        for x in (total, scores)
    )
    return NextHypotheses(of_chosen(ids), chosen // choices, total, scores)


def _rows(x):
    """[B, K, C] -> [B, K*C]."""
    return tf.reshape(x, [tf.shape(x)[0], -1 if None in x.shape[1:] else x.shape[1] * x.shape[2]])


def _truncated(noisy, limit):
    """Gumbels with `limit` as the maximum of each row: Kool et al., 2019, appendix B.3.

    [B, K, V], [B, K, 1] -> [B, K, V].
    """
    largest = tf.reduce_max(noisy, -1, keepdims=True)
    alive = (noisy > -float("inf")) & (limit > -float("inf"))
    # Dead continuations get finite numbers for the computation, and -inf at the end.
    noisy, limit, largest = (
        tf.where(alive, x, tf.zeros([], x.dtype)) for x in (noisy, limit, largest)
    )
    below = tf.minimum(noisy - largest, 0.0)
    v = limit - noisy + tf.math.log1p(-tf.exp(tf.minimum(below, -1e-7)))
    v = tf.where(below == 0.0, tf.constant(-float("inf"), v.dtype), v)
    smaller = limit - tf.maximum(v, 0.0) - tf.math.log1p(tf.exp(-tf.abs(v)))
    return tf.where(alive, smaller, tf.constant(-float("inf"), smaller.dtype))


def _check_seed(seed):
    """ValueError unless the seed is None, or [], [2] or [B, 2] whole numbers, as far as known."""

    def holds(x):
        shaped = x.shape in ((), (2,)) or (x.ndim == 2 and x.shape[1] == 2)
        return shaped & (x == np.floor(x)) & (abs(x) < 2**31)

    if seed is not None:
        check_value(
            seed,
            holds,
            "seed must be one or two whole numbers that fit into int32, or two for each source.",
        )


def _seed(seed):
    """The seed as two numbers, [2], or [B, 2] of each source."""
    if seed is None:
        return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
    seed = tf.cast(seed, tf.int32)
    return seed if seed.shape.rank else tf.stack([seed, 0])


def _noise(seed, continuations):
    """Gumbel noise for every continuation, different at every step.  [B, K, V]."""
    logits = continuations.logits
    return tf.cast(gumbel(seed, continuations.time, tf.shape(logits)), logits.dtype)
