"""Non-local blocks: every position of an image attends to all others (Wang et al., CVPR 2018)."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional.attend import attend
from keras_attention.functional.masks import finite_padding
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.pairwise import average, concatenation
from keras_attention.functional.places import flatten_places, pool_places
from keras_attention.functional.scores import dot
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_spatial_shapes


class NonLocal(Layer):
    """The base class of four variants: z_i = W_z y_i + x_i, y_i = sum_j f(x_i, x_j) g(x_j) / C.

    (Wang et al., 2018, eq. 1 and 6.) A new block is the identity, so it can be inserted into a
    trained network. Use one of `GaussianNonLocal`, `EmbeddedGaussianNonLocal`,
    `DotProductNonLocal` and `ConcatenationNonLocal`.

    Args:
        units: width of theta, phi and g; default D/2.
        pool: max-pooling of phi and g: the side of a block, one number or one for each axis of
            positions; 1: none. The paper uses 2 along Y and X.
        batch_norm: end with a batch normalisation whose gamma starts at 0, as in the paper. Its
            statistics are those of the unmasked positions. Without it W_z starts at 0.
        use_bias: of the 1 x 1 convolutions; the equations have none.

    Call: `(x [B, ..., D], mask=None, return_weights=False)`; x may be a sequence [B, S, D], an
    image [B, Y, X, D] or a video -> the same shape, and with `return_weights` also
    f(x_i, x_j) / C(x), [B, S, S'], float of the compute dtype, with S positions and S' after
    pooling.
        mask: [B, ...] bool, True = visible.
    Without visible positions the features are unchanged (plus a bias, or the shift of batch_norm).

    Raises ValueError for units below 1, or an input without an axis of positions.

    >>> class HalfAsSure(NonLocal):
    ...     def score(self, query, keys):
    ...         return dot(query, keys) / 2
    >>> HalfAsSure(units=2)(tf.zeros([1, 4, 4, 8])).shape
    TensorShape([1, 4, 4, 8])
    """

    normalize = staticmethod(softmax)
    embeds = True  # by theta and phi

    def __init__(self, units: int | None = None, pool: Any = 1, batch_norm: bool = True,
                 use_bias: bool = False, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if units is not None and units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        self.units, self.pool = units, pool if isinstance(pool, int) else tuple(pool)
        self.batch_norm, self.use_bias = batch_norm, use_bias
        self.supports_masking = True

    def score(self, query, keys) -> tf.Tensor:
        """log f, or f.  [B, S, units], [B, S', units] -> [B, S, S']."""
        raise NotImplementedError("Use one of the four subclasses of NonLocal.")

    def build(self, input_shape) -> None:
        """W_theta, W_phi, W_g [D, units] and W_z [units, D]."""
        depth = input_shape[-1]
        if len(input_shape) < 3:
            raise ValueError(
                "NonLocal needs an axis of positions between B and D, as in [B, S, D] or "
                f"[B, Y, X, D]. Received: shape {tuple(input_shape)}"
            )
        self.width = self.units or max(depth // 2, 1)

        def project(width, width_before, name, **settings):
            settings = {"use_bias": self.use_bias, "dtype": self.dtype_policy, **settings}
            layer = keras.layers.Dense(width, name=name, **settings)
            layer.build((None, None, width_before))
            return layer

        if self.embeds:
            self.theta = project(self.width, depth, "theta")
            self.phi = project(self.width, depth, "phi")
        self.g = project(self.width, depth, "g")
        if self.batch_norm:
            self.z = project(depth, self.width, "z")
            self.norm = keras.layers.BatchNormalization(
                gamma_initializer="zeros", dtype=self.dtype_policy
            )
            self.norm.build(tuple(input_shape))
        else:
            self.z = project(depth, self.width, "z", kernel_initializer="zeros")
        self.built = True

    def call(self, x, mask=None, return_weights=False, training=None):
        """See the class."""
        check_spatial_shapes(x, mask)
        mask = None if mask is None else tf.cast(mask, tf.bool)
        x = finite_padding(x, mask)
        query = flatten_places(self.theta(x) if self.embeds else x)
        keys, _ = pool_places(self.phi(x) if self.embeds else x, self.pool, mask)
        values, seen = pool_places(self.g(x), self.pool, mask)
        seen = None if seen is None else seen[:, None]
        y, weights = attend(self.score(query, keys), values, seen, self.normalize)
        z = tf.reshape(self.z(y), tf.shape(x))
        if self.batch_norm:
            z = self.norm(z, training=training, mask=mask)
        return (x + z, weights) if return_weights else x + z

    def compute_mask(self, x, mask=None, previous_mask=None):
        return mask if previous_mask is None else previous_mask

    def get_config(self):
        names = "units pool batch_norm use_bias".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_attention")
class GaussianNonLocal(NonLocal):
    """Non-local with f = exp(x_i·x_j), C = sum_j f (Wang et al., 2018, eq. 2). See `NonLocal`.

    >>> image = tf.random.normal([1, 2, 2, 4])
    >>> bool(tf.reduce_all(GaussianNonLocal()(image) == image))
    True
    """

    embeds = False

    def score(self, query, keys):
        """x_i·x_j."""
        return dot(query, keys)


@keras.saving.register_keras_serializable("keras_attention")
class EmbeddedGaussianNonLocal(NonLocal):
    """Non-local with f = exp(theta(x_i)·phi(x_j)), C = sum_j f (Wang et al., 2018, eq. 3).

    Softmax attention without the 1/sqrt(D). See `NonLocal`.

    >>> layer = EmbeddedGaussianNonLocal(units=2, pool=2)
    >>> output, weights = layer(tf.zeros([1, 4, 4, 8]), return_weights=True)
    >>> output.shape, weights.shape
    (TensorShape([1, 4, 4, 8]), TensorShape([1, 16, 4]))
    """

    def score(self, query, keys):
        """theta(x_i)·phi(x_j)."""
        return dot(query, keys)


@keras.saving.register_keras_serializable("keras_attention")
class DotProductNonLocal(NonLocal):
    """Non-local with f = theta(x_i)·phi(x_j), C = N (Wang et al., 2018, eq. 4). See `NonLocal`.

    >>> DotProductNonLocal(units=2)(tf.zeros([1, 5, 8])).shape
    TensorShape([1, 5, 8])
    """

    normalize = staticmethod(average)

    def score(self, query, keys):
        """theta(x_i)·phi(x_j)."""
        return dot(query, keys)


@keras.saving.register_keras_serializable("keras_attention")
class ConcatenationNonLocal(NonLocal):
    """Non-local with f = relu(w·[theta(x_i); phi(x_j)]), C = N (Wang et al., 2018, eq. 5).

    See `NonLocal`.

    >>> ConcatenationNonLocal(units=2)(tf.zeros([1, 5, 8])).shape
    TensorShape([1, 5, 8])
    """

    normalize = staticmethod(average)

    def build(self, input_shape) -> None:
        """Also w [2 units]."""
        super().build(input_shape)
        self.w = self.add_weight(shape=(2 * self.width, 1), name="w")

    def score(self, query, keys):
        """relu(w·[theta(x_i); phi(x_j)])."""
        return concatenation(query, keys, tf.convert_to_tensor(self.w)[:, 0])
