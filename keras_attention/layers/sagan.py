"""Self-attention for images as in SAGAN (Zhang, Goodfellow, Metaxas and Odena, 2019)."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.functional.attend import attend
from keras_attention.functional.masks import finite_padding
from keras_attention.functional.places import flatten_places, pool_places
from keras_attention.functional.scores import dot
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_spatial_shapes


class _Widths(NamedTuple):
    keys: int  # D / keys is the width of f and g
    values: int  # D / values is the width of h
    projects: bool  # whether v projects h back to D
    pool: int  # keys and values are max-pooled over blocks of pool x pool


_VARIANTS = {
    "paper": _Widths(8, 8, True, 1),
    "v1": _Widths(8, 1, False, 1),
    "official": _Widths(8, 2, True, 2),
}


@keras.saving.register_keras_serializable("keras_attention")
class SAGANAttention(Layer):
    """Every position of an image attends to all others, added with a learned factor gamma.

        s_ij = f(x_i)·g(x_j)    beta_ji = softmax over i of s_ij    o_j = v(sum_i beta_ji h(x_i))
        y = gamma o + x, with gamma = 0 at first

    (Zhang et al., 2019, eq. 1 to 3.) f computes keys, g queries, h values. Three variants exist:

        variant     f, g    h             pooling of f, h
        "paper"     D/8     D/8, then v   none             the text of the paper
        "v1"        D/8     D, no v       none             its first version
        "official"  D/8     D/2, then v   2 x 2 max        the authors' code

    Args:
        variant: see above.
        spectral_norm: divide each kernel by its largest singular value (Miyato et al., 2018), one
            power iteration at each call with `training=True`.

    Call: `(x [B, ..., D], mask=None, return_weights=False)` -> the same shape, and with
    `return_weights` also beta [B, S, S'], whose rows j sum to 1.
        mask: [B, ...] bool, True = visible. Without visible positions the input is unchanged.

    Raises ValueError for another variant, and an input without an axis of positions.

    >>> image = tf.random.normal([1, 4, 4, 8])
    >>> output, weights = SAGANAttention("official")(image, return_weights=True)
    >>> bool(tf.reduce_all(output == image)), weights.shape
    (True, TensorShape([1, 16, 4]))
    """

    def __init__(self, variant: str = "paper", spectral_norm: bool = False, **kwargs):
        super().__init__(**kwargs)
        if variant not in _VARIANTS:
            raise ValueError(
                f"variant must be one of {list(_VARIANTS)}. Received: variant={variant!r}"
            )
        self.variant, self.spectral_norm = variant, spectral_norm
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """W_f, W_g, W_h, optionally W_v, and the scalar gamma."""
        depth, widths = input_shape[-1], _VARIANTS[self.variant]
        if len(input_shape) < 3:
            raise ValueError(
                "Expected [B, ..., D] with an axis of positions between B and D. Received: shape "
                f"{tuple(input_shape)}"
            )
        keys, values = max(depth // widths.keys, 1), max(depth // widths.values, 1)
        self.f = self._projection(keys, input_shape, "f")
        self.g = self._projection(keys, input_shape, "g")
        self.h = self._projection(values, input_shape, "h")
        self.v: Any = None
        if widths.projects:
            self.v = self._projection(depth, (None, None, values), "v")
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")
        self.built = True

    def _projection(self, units, shape, name):
        layer = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name=name)
        if self.spectral_norm:
            layer = keras.layers.SpectralNormalization(layer, dtype=self.dtype_policy, name=name)
        layer.build(tuple(shape))
        return layer

    def call(self, x, mask=None, return_weights=False, training=None):
        """See the class."""

        def project(layer, inputs):
            settings = {"training": training} if self.spectral_norm else {}
            return layer(inputs, **settings)

        check_spatial_shapes(x, mask)
        mask = None if mask is None else tf.cast(mask, tf.bool)
        x = finite_padding(x, mask)
        pool = _VARIANTS[self.variant].pool
        queries = flatten_places(project(self.g, x))
        keys, _ = pool_places(project(self.f, x), pool, mask)
        values, seen = pool_places(project(self.h, x), pool, mask)
        seen = None if seen is None else seen[:, None]
        output, weights = attend(dot(queries, keys), values, seen)
        if self.v is not None:
            output = project(self.v, output)
        output = x + tf.cast(self.gamma, x.dtype) * tf.reshape(output, tf.shape(x))
        return (output, weights) if return_weights else output

    def compute_mask(self, x, mask=None, previous_mask=None):
        return mask if previous_mask is None else previous_mask

    def get_config(self):
        own = {"variant": self.variant, "spectral_norm": self.spectral_norm}
        return {**super().get_config(), **own}
