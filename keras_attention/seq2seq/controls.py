"""Controls: what a search may say next, as small functions on log-probabilities and a state.

A control is three functions. `init(beam_width)` gives its state for B*K rows; `apply(log_probs,
state)` takes [N, V] and returns it with what is not allowed at -inf; `advance(state, tokens)` moves
the state on by the token [N] that each row took. The state is a nest of tensors [N, ...], so it
follows the hypotheses like the state of a cell.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Control(NamedTuple):
    """`init`, `apply` and `advance`: see the module."""

    init: Callable[[int], Any]
    apply: Callable[[tf.Tensor, Any], tf.Tensor]
    advance: Callable[[Any, tf.Tensor], Any]


def exact_length(lengths: Any, end_token: int, token_lengths: Any) -> Control:
    """Answers of exactly the given lengths: [B] of them, one per source.

    `token_lengths` [V] says how much each token adds (for text, how many characters), -1 for
    tokens which may not be used. A token is allowed while it fits; the end token exactly when
    nothing is left. For every length to be reachable, some token must add 1 (ValueError if not).

    >>> control = exact_length([1], end_token=0, token_lengths=[-1, 1, 2])
    >>> state = control.init(1)
    >>> control.apply(tf.zeros([1, 3]), state).numpy().tolist()
    [[-inf, 0.0, -inf]]
    >>> control.apply(tf.zeros([1, 3]), control.advance(state, tf.constant([1]))).numpy().tolist()
    [[0.0, -inf, -inf]]
    """
    adds = tf.convert_to_tensor(token_lengths, tf.int32)
    known = tf.get_static_value(adds)
    if known is not None and 1 not in known:
        raise ValueError(
            "exact_length needs at least one token that adds 1, or some lengths could never be "
            f"met. Received: token_lengths with values {sorted(set(known.tolist()))}"
        )
    lengths = tf.convert_to_tensor(lengths, tf.int32)
    is_end = tf.range(tf.shape(adds)[0]) == end_token  # [V]

    def init(beam_width: int) -> tf.Tensor:
        return tf.repeat(lengths, beam_width)

    def apply(log_probs: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
        fits = (adds > 0) & (adds <= left[:, None])  # [N, V]
        allowed = tf.where(is_end, left[:, None] == 0, fits)
        return tf.where(allowed, log_probs, tf.constant(-float("inf"), log_probs.dtype))

    def advance(left: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        return left - tf.maximum(tf.gather(adds, tokens), 0)

    return Control(init, apply, advance)
