"""Changes of log p [N, V] for some tokens."""

from typing import Any

import tensorflow as tf


def vocabulary(log_probs: tf.Tensor) -> tf.Tensor:
    """All ids.  -> [V] int32."""
    return tf.range(tf.shape(log_probs)[-1])


def one_of(log_probs: tf.Tensor, ids: Any) -> tf.Tensor:
    """Mark the tokens whose ids are in [M].  [N, V] -> [V] bool."""
    ids = tf.constant(ids, tf.int32, [len(ids)])
    return tf.scatter_nd(ids[:, None], tf.ones_like(ids), tf.shape(log_probs)[-1:]) > 0


def sum_at(log_probs: tf.Tensor, ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Add up the values of each id.  [N, V], ids [N, M], values [N, M] -> [N, V]."""
    rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(ids))
    return tf.scatter_nd(tf.stack([rows, ids], -1), values, tf.shape(log_probs))


def selected_ids(log_probs: tf.Tensor, ids: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    """Mark the ids that are selected at least once.  [N, V], [N, M], [N, M] bool -> [N, V] bool."""
    return sum_at(log_probs, ids, tf.cast(which, tf.int32)) > 0


def penalized(log_probs: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
    """log p * w; values that a bias has raised above 0 are divided by w (Keskar et al., 2019)."""
    return tf.where(log_probs > 0, log_probs / w, log_probs * w)


def keep_allowed(log_probs: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """Set the log p of all other tokens to -inf.  [N, V], [N, V] bool -> [N, V]."""
    return tf.where(allowed, log_probs, tf.constant(-float("inf"), log_probs.dtype))


def mask_tokens(log_probs: tf.Tensor, rows: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """Set log p to -inf for the selected tokens [V] bool in the selected rows [N] bool.

    Adds -inf instead of using `tf.where`, whose broadcast is several times slower on a CPU.
    """

    def penalty(where):
        return tf.where(where, tf.constant(-float("inf"), log_probs.dtype), 0.0)

    return log_probs + tf.maximum(penalty(rows)[:, None], penalty(tokens)[None])


def force_token(log_probs: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Allow only the given token of each row, if any.  [N, V], [N] int32, -1: any -> [N, V]."""
    same = vocabulary(log_probs)[None] == token[:, None]
    return keep_allowed(log_probs, same | (token < 0)[:, None])
