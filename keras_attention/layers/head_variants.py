"""`MultiHeadAttention` with one core each, under the names and arguments of its paper.

Their weights are those of `MultiHeadAttention`, and so are the arguments `key_width`,
`value_width`, `output_width`, `num_key_heads`, `use_bias` and `dropout`.
"""

import keras

from keras_attention.layers import cores
from keras_attention.layers.multi_head import MultiHeadAttention


class NamedVariant(MultiHeadAttention):
    """A layer whose configuration holds the fields of its core instead of the core."""

    def get_config(self) -> dict:
        config = super().get_config()
        del config["core"]
        return {**config, **self.core.get_config()}


@keras.saving.register_keras_serializable("keras_attention")
class RelativeAttention(NamedVariant):
    """Keys and values that depend on the distance, up to k (Shaw et al., 2018, eqs. 1 to 5).

        e_ij = q_i·(k_j + a^K_{clip(j - i, -k, k)}) / sqrt(Dk)
        z_i = sum_j softmax_j(e_ij) (v_j + a^V_{clip(j - i, -k, k)})

    It replaces sinusoids. Two tables of 2k + 1 vectors, for all heads or one each; no vector for
    every pair of steps is stored. With tables of zeros it is `MultiHeadAttention`; in sequences of
    n <= k + 1 steps the rows beyond distance n - 1 are not used.

    Args:
        num_heads: H.
        reach: k; 16 in the paper's base model.
        share_heads: one pair of tables for all heads (the paper's big model) instead of one for
            each (its base model).
        others: those of `MultiHeadAttention`.

    Call: as `MultiHeadAttention`. The queries are the last T of the S steps of a `memory`
    [B, S, D], with `causal` and without; other memories have no distances.

    Raises ValueError for a reach below 0, or a known S < T.

    >>> import tensorflow as tf
    >>> layer = RelativeAttention(num_heads=2, reach=4)
    >>> layer(tf.ones([1, 5, 8]), causal=True).shape, tuple(layer.key_table.shape)
    (TensorShape([1, 5, 8]), (9, 4))
    """

    def __init__(self, num_heads: int, reach: int, share_heads: bool = True, **kwargs):
        super().__init__(num_heads, core=cores.Relative(reach, share_heads), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class DistanceAttention(NamedVariant):
    """Self-attention with a penalty on distance: softmax(q·k / sqrt(Dk) - alpha |i - j|).

    (Im and Cho, 2017, section 3.) `alpha=0` turns it off; a large one leaves the nearest step.

    Args:
        num_heads: H.
        alpha: the penalty per step of distance; 1.5 in the paper.
        forward: True looks at j < i, False at j > i, None at both sides and at itself.
        others: those of `MultiHeadAttention`.

    Call: `(query [B, T, D], mask=None, bias=None, causal=False, return_weights=False)` ->
    [B, T, D], and with `return_weights` also [B, H, T, T]. `mask` [B, T], [B, T, T] or
    [B, H, T, T] boolean, True = may look; without one, the Keras mask of the query. `causal`: also
    only j <= i. A step that may see nothing, as the first one forward, gets zeros (and the
    output's bias).

    Raises ValueError for an alpha below 0, or a memory.

    >>> import tensorflow as tf
    >>> layer = DistanceAttention(num_heads=1, forward=None)
    >>> _, weights = layer(tf.zeros([1, 4, 2]), return_weights=True)
    >>> [round(float(weight), 4) for weight in weights[0, 0, 0]]
    [0.7788, 0.1738, 0.0388, 0.0087]
    """

    def __init__(self, num_heads: int, alpha: float = 1.5, forward: bool | None = True, **kwargs):
        super().__init__(num_heads, core=cores.Distance(alpha, forward), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class RestrictedAttention(NamedVariant):
    """Multi-head self-attention in which step i looks at the steps with |i - j| <= radius.

    (Vaswani et al., 2017, section 4.) Its r is 2 radius + 1 here. The steps are cut into blocks of
    `radius`, each of which looks at itself and its two neighbours: time and memory are
    O(T radius), no [T, T] scores exist. A stack of L layers connects steps L radius apart. With a
    radius of T - 1 or more it is `MultiHeadAttention`.

    Args: `num_heads` H, `radius`, others as in `MultiHeadAttention`.

    Call: `(query [B, T, D], mask=None, causal=False)` -> [B, T, D]. `mask` [B, T] boolean, True =
    may be looked at; without one, the Keras mask of the query. `causal`: also only j <= i. A step
    that may see nothing gets zeros (and the output's bias).

    Raises ValueError for a radius below 0, a memory, or a mask of another rank.

    >>> import tensorflow as tf
    >>> RestrictedAttention(num_heads=2, radius=1)(tf.ones([1, 5, 8])).shape
    TensorShape([1, 5, 8])
    """

    def __init__(self, num_heads: int, radius: int, **kwargs):
        super().__init__(num_heads, core=cores.Banded(radius), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class StridedAttention(NamedVariant):
    """Step i looks at the `stride` steps before it, and at every stride-th one before.

    (Child et al., 2019, section 4.3.) Attention under `strided(T, stride, hop)`, of which only the
    scores that count are computed: O(T (stride + T / stride)), least for a stride of sqrt(T). From
    any step, two layers reach all steps before it.

    Args:
        num_heads: H.
        stride: of the far steps, and how far the near ones reach.
        hop: 1 near steps, 2 far steps, None their union. Alternate 1 and 2 in a stack, or add
            the outputs of both, half of the heads each: the paper's factorised forms.
        others: those of `MultiHeadAttention`.

    Call: `(query [B, T, D], mask=None, causal=True)` -> [B, T, D]. `mask` [B, T] boolean, True =
    may be looked at; without one, the Keras mask of the query. With `causal=False` the hops are
    |i - j| <= stride and (i - j) mod stride = 0: local, atrous, and sparse attention
    (Su, 2019, kexue.fm). A step that may see nothing gets zeros (and the output's bias).

    Raises ValueError for a stride below 1, another hop, a memory, or a mask of another rank.

    >>> import tensorflow as tf
    >>> StridedAttention(num_heads=2, stride=3)(tf.ones([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    def __init__(self, num_heads: int, stride: int, hop: int | None = None, **kwargs):
        super().__init__(num_heads, core=cores.Strided(stride, hop), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class FixedAttention(NamedVariant):
    """Step i looks at its own block so far, and at the last `summary` steps of all blocks before.

    (Child et al., 2019, section 4.3.) Attention under `fixed(T, stride, summary, hop)`, always
    j <= i, of which only the scores that count are computed: O(T (stride + summary T / stride)).

    Args:
        num_heads: H.
        stride: the length of a block.
        summary: c, the steps of a block that later blocks see.
        hop: 1 own block, 2 summaries (here its own block's as well), None their union.
        others: those of `MultiHeadAttention`.

    Call: `(query [B, T, D], mask=None)` -> [B, T, D]. `mask` [B, T] boolean, True = may be looked
    at; without one, the Keras mask of the query. A step that may see nothing gets zeros (and the
    output's bias).

    Raises ValueError for a stride below 1, a summary not in 1 .. stride, another hop, a memory, or
    a mask of another rank.

    >>> import tensorflow as tf
    >>> FixedAttention(num_heads=2, stride=3)(tf.ones([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    def __init__(
        self, num_heads: int, stride: int, summary: int = 1, hop: int | None = None, **kwargs
    ):
        super().__init__(num_heads, core=cores.Fixed(stride, summary, hop), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class LinearAttention(NamedVariant):
    """Heads with weights in proportion to phi(q)·phi(k), phi = elu + 1, in O(T + S).

    (Katharopoulos et al., 2020, eqs. 5, 7 and 9.) See `linear_attention`. Causal, it is a
    recurrent network: see `LinearAttentionCell`.

    Args: `num_heads` H, others as in `MultiHeadAttention`, without dropout.

    Call: `(query [B, T, D], memory=None, mask=None, causal=False)` -> [B, T, D]. `memory` and
    `causal` as in `MultiHeadAttention`; `mask` [B, S] boolean, True = may be looked at, or the
    Keras mask of the memory. A query that may see nothing gets zeros (and the output's bias).

    Raises ValueError for a dropout, a mask of another rank, or `causal` with a known S < T.

    >>> import tensorflow as tf
    >>> LinearAttention(num_heads=2)(tf.ones([1, 5, 8]), causal=True).shape
    TensorShape([1, 5, 8])
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(num_heads, core=cores.Linear(), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class MemoryEfficientAttention(NamedVariant):
    """`MultiHeadAttention` by chunks: the same output and gradients, in O(T + S) memory.

    (Rabe and Staats, 2021; the gradient as in Dao et al., 2022, algorithm 4.) See
    `chunked_attention`. The weights never exist as a whole, so none are returned or dropped.

    Args: `num_heads` H, `chunk` the queries, and slots, whose scores exist at a time, others as in
    `MultiHeadAttention`, without dropout.

    Call: `(query [B, T, D], memory=None, mask=None, causal=False)` -> [B, T, D], all as in
    `MultiHeadAttention`; a `mask` with a T and an S axis is itself of T S booleans.

    Raises ValueError for a chunk below 1, a dropout, or a mask of another rank.

    >>> import tensorflow as tf
    >>> efficient, plain = MemoryEfficientAttention(num_heads=2), MultiHeadAttention(num_heads=2)
    >>> x = tf.random.normal([1, 5, 8])
    >>> shapes = efficient(x).shape, plain(x).shape
    >>> efficient.set_weights(plain.get_weights())
    >>> bool(tf.reduce_all(tf.abs(efficient(x, causal=True) - plain(x, causal=True)) < 1e-5))
    True
    """

    def __init__(self, num_heads: int, chunk: int = 512, **kwargs):
        super().__init__(num_heads, core=cores.Chunked(chunk), **kwargs)
