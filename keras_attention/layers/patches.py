"""Patches of images: embed them (Dosovitskiy et al., 2020), merge them (Liu et al., 2021)."""

import keras
import tensorflow as tf

from keras_attention.functional.shapes import sizes
from keras_attention.functional.windows import window_partition
from keras_attention.layers._base import Layer


@keras.saving.register_keras_serializable("keras_attention")
class PatchEmbedding(Layer):
    """Apply one linear layer to each patch of P x P pixels: a convolution of stride P.

    (Dosovitskiy et al., 2020, eq. 1.)  [B, Y, X, C] -> [B, Y/P, X/P, D].

    Args: `units` D, `patch` P, `flatten` to get [B, S, D] with S = (Y/P)(X/P), row by row. The
    kernel [P*P*C, D] is that of a `Conv2D` reshaped.

    Raises ValueError for D or P below 1, or Y or X known and not a multiple of P.

    >>> PatchEmbedding(units=8, patch=4)(tf.zeros([2, 28, 28, 1])).shape
    TensorShape([2, 7, 7, 8])
    """

    def __init__(self, units: int, patch: int, flatten: bool = False, **kwargs):
        super().__init__(**kwargs)
        if min(units, patch) < 1:
            raise ValueError(
                f"units and patch must be at least 1. Received: units={units}, patch={patch}"
            )
        self.units, self.patch, self.flatten = units, patch, flatten
        self.project = keras.layers.Dense(units, dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        """One kernel [P*P*C, D] and its bias."""
        if len(input_shape) != 4:
            raise ValueError(f"Expected [B, Y, X, C]. Received: shape {tuple(input_shape)}")
        for axis, size in zip("YX", input_shape[1:3]):
            if size is not None and size % self.patch:
                raise ValueError(
                    f"{axis} must be a multiple of the patch's side P; pad or crop the image. "
                    f"Received: {axis}={size}, P={self.patch}"
                )
        self.project.build((None, None, self.patch**2 * input_shape[-1]))
        self.built = True

    def call(self, image):
        """See the class."""
        _, height, width, depth = sizes(image)
        patches = window_partition(image, self.patch)  # [B, S, P*P, C]
        batch, count, _, _ = sizes(patches)
        tokens = self.project(tf.reshape(patches, [batch, count, self.patch**2 * depth]))
        if self.flatten:
            return tokens
        shape = [batch, height // self.patch, width // self.patch, self.units]
        return tf.reshape(tokens, shape)

    def get_config(self):
        own = {"units": self.units, "patch": self.patch, "flatten": self.flatten}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_attention")
class PatchMerging(Layer):
    """Merge four neighbours into one, twice as wide: W LayerNorm([x_00; x_10; x_01; x_11]).

    (Liu et al., 2021, section 3.1.)  [B, Y, X, D] -> [B, Y/2, X/2, 2D], rounded up: an odd axis
    gets a row of zeros. The first index is the row, in the order of the published weights.

    Args: `units` of the output, default 2D; `epsilon` of the norm.

    >>> PatchMerging()(tf.zeros([1, 4, 5, 8])).shape
    TensorShape([1, 2, 3, 16])
    """

    def __init__(self, units: int | None = None, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        if units is not None and units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        self.units, self.epsilon = units, epsilon
        self.normalize = keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        """The norm over 4D, and W [4D, 2D] without a bias."""
        if len(input_shape) != 4:
            raise ValueError(f"Expected [B, Y, X, D]. Received: shape {tuple(input_shape)}")
        depth = input_shape[-1]
        self.project = keras.layers.Dense(
            self.units or 2 * depth, use_bias=False, dtype=self.dtype_policy
        )
        for layer in (self.normalize, self.project):
            layer.build((None, None, None, 4 * depth))
        self.built = True

    def call(self, x):
        """See the class."""
        _, height, width, _ = sizes(x)
        x = tf.pad(x, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]])
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.project(self.normalize(tf.concat(corners, -1)))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "epsilon": self.epsilon}
