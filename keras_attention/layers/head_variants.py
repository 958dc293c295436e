"""`MultiHeadAttention` with one core each, under the names and arguments of the papers.

Their weights are those of `MultiHeadAttention`, and so are the arguments `key_width`,
`value_width`, `output_width`, `num_key_heads`, `use_bias` and `dropout`, which follow by name. What
a layer computes, and which arguments of the call it supports, is defined by its core.
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
    """Heads with vectors of the distance in keys and values (Shaw et al., 2018): `cores.Relative`.

    Args: `num_heads` H; `reach`, `share_heads` of the core.

    Call: as `MultiHeadAttention`. The queries are the last T of the S steps of a `memory`.

    >>> layer = RelativeAttention(num_heads=2, reach=4)
    >>> layer([[[0.0] * 8] * 5], causal=True).shape, tuple(layer.key_table.shape)
    (TensorShape([1, 5, 8]), (9, 4))
    """

    def __init__(self, num_heads: int, reach: int, share_heads: bool = True, **kwargs):
        super().__init__(num_heads, core=cores.Relative(reach, share_heads), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class DistanceAttention(NamedVariant):
    """Self-attention with a penalty on distance (Im and Cho, 2017): `cores.Distance`.

    Args: `num_heads` H; `alpha`, `forward` of the core.

    Call: as `MultiHeadAttention` without a memory.

    >>> DistanceAttention(num_heads=2, forward=None)([[[0.0] * 8] * 5]).shape
    TensorShape([1, 5, 8])
    """

    def __init__(self, num_heads: int, alpha: float = 1.5, forward: bool | None = True, **kwargs):
        super().__init__(num_heads, core=cores.Distance(alpha, forward), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class RestrictedAttention(NamedVariant):
    """Self-attention within a radius (Vaswani et al., 2017, section 4): `cores.Banded`.

    Args: `num_heads` H; `radius` of the core.

    Call: `(query [B, T, D], mask=None [B, T], causal=False)` -> [B, T, D].

    >>> RestrictedAttention(num_heads=2, radius=1)([[[0.0] * 8] * 5]).shape
    TensorShape([1, 5, 8])
    """

    def __init__(self, num_heads: int, radius: int, **kwargs):
        super().__init__(num_heads, core=cores.Banded(radius), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class StridedAttention(NamedVariant):
    """Self-attention to near steps and every stride-th one (Child et al., 2019): `cores.Strided`.

    Args: `num_heads` H; `stride`, `hop` of the core.

    Call: `(query [B, T, D], mask=None [B, T], causal=True)` -> [B, T, D].

    >>> StridedAttention(num_heads=2, stride=3)([[[0.0] * 8] * 9]).shape
    TensorShape([1, 9, 8])
    """

    def __init__(self, num_heads: int, stride: int, hop: int | None = None, **kwargs):
        super().__init__(num_heads, core=cores.Strided(stride, hop), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class FixedAttention(NamedVariant):
    """Causal self-attention to a block and the ends of others (Child et al., 2019): `cores.Fixed`.

    Args: `num_heads` H; `stride`, `summary`, `hop` of the core.

    Call: `(query [B, T, D], mask=None [B, T])` -> [B, T, D].

    >>> FixedAttention(num_heads=2, stride=3)([[[0.0] * 8] * 9]).shape
    TensorShape([1, 9, 8])
    """

    def __init__(
        self, num_heads: int, stride: int, summary: int = 1, hop: int | None = None, **kwargs
    ):
        super().__init__(num_heads, core=cores.Fixed(stride, summary, hop), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class LinearAttention(NamedVariant):
    """Attention at a cost of O(T + S) (Katharopoulos et al., 2020, section 3.2): `cores.Linear`.

    Args: `num_heads` H; there is no dropout.

    Call: `(query [B, T, D], memory=None, mask=None [B, S], causal=False)` -> [B, T, D].

    >>> LinearAttention(num_heads=2)([[[0.0] * 8] * 5], causal=True).shape
    TensorShape([1, 5, 8])
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(num_heads, core=cores.Linear(), **kwargs)


@keras.saving.register_keras_serializable("keras_attention")
class MemoryEfficientAttention(NamedVariant):
    """`MultiHeadAttention` in O(T + S) memory (Rabe and Staats, 2021): `cores.Chunked`.

    Args: `num_heads` H; `chunk` of the core; there is no dropout.

    Call: `(query [B, T, D], memory=None, mask=None, causal=False)` -> [B, T, D].

    >>> import numpy as np
    >>> efficient, plain = MemoryEfficientAttention(num_heads=2), MultiHeadAttention(num_heads=2)
    >>> x = np.random.normal(size=[1, 5, 8]).astype("float32")
    >>> shapes = efficient(x).shape, plain(x).shape
    >>> efficient.set_weights(plain.get_weights())
    >>> np.allclose(efficient(x, causal=True), plain(x, causal=True), atol=1e-5)
    True
    """

    def __init__(self, num_heads: int, chunk: int = 512, **kwargs):
        super().__init__(num_heads, core=cores.Chunked(chunk), **kwargs)
