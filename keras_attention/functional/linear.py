"""Linear attention: a kernel instead of a softmax, with cost O(T) for T steps."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.functional.banded import in_blocks, out_of_blocks
from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import steps_before, zero_masked
from keras_attention.functional.shapes import check_shapes, sizes


class LinearState(NamedTuple):
    """The state of causal linear attention after some steps, float32 or wider.

    >>> LinearState(products=tf.zeros([1, 2, 4, 4]), keys=tf.zeros([1, 2, 4])).keys.shape
    TensorShape([1, 2, 4])
    """

    products: Any  # [B, H, Dk, Dv], the sum of phi(k) v^T
    keys: Any  # [B, H, Dk], the sum of phi(k)


def positive(x: tf.Tensor) -> tf.Tensor:
    """phi(x) = elu(x) + 1 (Katharopoulos et al., 2020, eq. 7).  Float32 or wider.

    Below 0 it is exp(x), which elu(x) + 1 would round to 0 from about -17 on.

    >>> positive([0.0, 2.0]).numpy().tolist(), bool(positive(-50.0) > 0)
    ([1.0, 3.0], True)
    """
    x = widen(x)
    return tf.where(x > 0, x + 1, tf.exp(tf.minimum(x, 0.0)))


def linear_attention(
    query: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    mask: tf.Tensor | None = None,
    causal: bool = False,
    block: int = 64,
) -> tf.Tensor:
    """Attention with weights proportional to phi(q)·phi(k) (Katharopoulos et al., 2020, eqs. 5, 9).

        context_i = phi(q_i) sum_j phi(k_j) v_j^T / (phi(q_i)·sum_j phi(k_j)),  phi(x) = elu(x) + 1

    query [B, H, T, Dk], keys [B, H, S, Dk], values [B, H, S, Dv], mask [B, S] bool, True = visible
    -> context [B, H, T, Dv]. The sums are over all of S, and no weights are computed. With `causal`
    the queries are the last T of the S steps, and the sums are over j <= i, in blocks of `block`
    steps: weights within a block, sums over the previous blocks. The query is not scaled. Raises
    ValueError for a block below 1, `causal` with a known S < T, and shapes that do not fit.

    >>> eye = tf.eye(3)[None, None]
    >>> linear_attention(0 * eye, 0 * eye, eye, causal=True)[0, 0, 1].numpy().tolist()
    [0.5, 0.5, 0.0]
    """
    check_shapes(
        query=("B H T Dk", query),
        keys=("B H S Dk", keys),
        values=("B H S Dv", values),
        mask=("B? S", mask),
    )
    if block < 1:
        raise ValueError(f"block must be at least 1. Received: block={block}")
    dtype = tf.convert_to_tensor(values).dtype
    if mask is not None:
        seen = tf.cast(mask, tf.bool)[:, None]
        keys, values = (zero_masked(tf.convert_to_tensor(x), seen) for x in (keys, values))
    query, keys, values = positive(query), positive(keys), widen(values)
    if mask is not None:
        keys = zero_masked(keys, seen)  # phi(0) is 1
    if causal:
        above, below = _causal(query, keys, values, block)
    else:
        products = tf.matmul(keys, values, transpose_a=True)  # [B, H, Dk, Dv]
        total = tf.reduce_sum(keys, 2)[..., None]  # [B, H, Dk, 1]
        above, below = tf.matmul(query, products), tf.matmul(query, total)
    return tf.cast(tf.math.divide_no_nan(above, below), dtype)


def _causal(query, keys, values, block):
    """Numerator [B, H, T, Dv] and denominator [B, H, T, 1] of every step."""
    steps = sizes(keys)[2]
    earlier = steps_before(sizes(query)[2], steps)
    query = tf.pad(query, [[0, 0], [0, 0], [earlier, 0], [0, 0]])  # a query for every step
    query, keys, values = (in_blocks(x, block) for x in (query, keys, values))
    products = tf.matmul(keys, values, transpose_a=True)  # [B, H, N, Dk, Dv]
    before = tf.cumsum(products, 2, exclusive=True)
    keys_before = tf.cumsum(tf.reduce_sum(keys, 3, keepdims=True), 2, exclusive=True)
    within = tf.matmul(query, keys, transpose_b=True)  # [B, H, N, block, block]
    within = tf.linalg.band_part(within, -1, 0)
    above = tf.matmul(query, before) + tf.matmul(within, values)
    below = tf.matmul(query, keys_before, transpose_b=True)
    below += tf.reduce_sum(within, -1, keepdims=True)
    whole = (out_of_blocks(x, steps) for x in (above, below))
    return tuple(tf.slice(x, [0, 0, earlier, 0], [-1, -1, -1, -1]) for x in whole)


def linear_step(
    query: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, state: LinearState
) -> tuple[tf.Tensor, LinearState]:
    """One step of causal linear attention as an RNN (Katharopoulos et al., 2020, eqs. 16 to 20).

    query, keys [B, H, Dk], values [B, H, Dv], the state -> context [B, H, Dv], the next state.

    >>> state = LinearState(tf.zeros([1, 1, 2, 1]), tf.zeros([1, 1, 2]))
    >>> x = tf.zeros([1, 1, 2])
    >>> for value in (1.0, 3.0):
    ...     context, state = linear_step(x, x, tf.fill([1, 1, 1], value), state)
    >>> context.numpy().tolist()
    [[[2.0]]]
    """
    query, keys, wide = positive(query), positive(keys), widen(values)
    state = LinearState(state.products + keys[..., None] * wide[..., None, :], state.keys + keys)
    above = tf.einsum("bhk,bhkv->bhv", query, state.products)
    below = tf.reduce_sum(query * state.keys, -1, keepdims=True)
    return tf.cast(tf.math.divide_no_nan(above, below), values.dtype), state
