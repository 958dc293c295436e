"""The parts between attentions: residual connections with norms, and feed-forward layers."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional.masks import zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._norm import LayerNormalization
from keras_attention.layers._remat import KeepsActivations
from keras_attention.layers.dropout import Dropout


@keras.saving.register_keras_serializable("keras_attention")
class Residual(KeepsActivations, Layer):
    """A residual connection, dropout and layer normalisation around any sublayer.

        post: LayerNorm(x + Dropout(sublayer(x)))        pre: x + Dropout(sublayer(LayerNorm(x)))

    (post: Vaswani et al., 2017, section 3.1; pre: Xiong et al., 2020.) The sublayer is an argument
    of the call, a function, so that it can use other arguments.

    Args: `norm` "post" or "pre", `dropout` share, `epsilon` of the norm.

    Call: `(x [B, T, D], sublayer=function, packing=None)` -> [B, T, D]. With a
    `functional.Packing`, x is [M, D], as `functional.pack` gives it. Raises ValueError if the
    sublayer returns another shape.

    >>> Residual()(tf.ones([1, 2, 3]), sublayer=lambda x: 2 * x).shape
    TensorShape([1, 2, 3])
    """

    def __init__(self, norm: str = "post", dropout: float = 0.0, epsilon: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        if norm not in ("post", "pre"):
            raise ValueError(f"norm must be 'post' or 'pre'. Received: norm={norm!r}")
        self.norm, self.epsilon = norm, epsilon
        # Its dtype is that of the weights, in which it computes under any policy.
        self.normalize = LayerNormalization(epsilon=epsilon, dtype=self.variable_dtype)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """The norm's scale and shift."""
        self.normalize.build(input_shape)
        self.built = True

    def call(self, x, sublayer: Callable[[tf.Tensor], Any], training=None, packing=None):
        """See the class."""
        if self.norm == "pre":
            normal = tf.cast(self.normalize(x), self.compute_dtype)
            return x + self._dropped(sublayer(normal), x, training, packing)
        x = self.normalize(x + self._dropped(sublayer(x), x, training, packing))
        return tf.cast(x, self.compute_dtype)

    def _dropped(self, y, x, training, packing):
        if not y.shape.is_compatible_with(x.shape):
            raise ValueError(
                "The output of a sublayer is added to its input and must have the same shape: "
                f"project it inside of the sublayer. Received: input {x.shape}, output {y.shape}"
            )
        return self.dropout(y, training=training, packing=packing)

    def compute_output_shape(self, input_shape):
        """The shape of x, for any sublayer."""
        return tuple(input_shape)

    def get_config(self):
        own = {"norm": self.norm, "dropout": self.dropout.rate, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_attention")
class FeedForward(Layer):
    """Two layers applied to each step: W2 relu(W1 x + b1) + b2.

    (Vaswani et al., 2017, eq. 2.)  [..., D] -> [..., D].

    Args: `width` of the hidden layer, `activation` (a name or function), `dropout` after it.

    >>> FeedForward(8)(tf.ones([1, 2, 3])).shape
    TensorShape([1, 2, 3])
    """

    def __init__(self, width: int, activation: Any = "relu", dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"width must be at least 1. Received: width={width}")
        self.width = width
        self.activation = keras.activations.get(activation)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.hidden = keras.layers.Dense(width, self.activation, dtype=self.dtype_policy)
        self.output_layer: Any = None
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """W1 [D, width] and W2 [width, D]."""
        self.output_layer = keras.layers.Dense(input_shape[-1], dtype=self.dtype_policy)
        self.hidden.build(input_shape)
        kept = self.activation(tf.zeros([1, self.width])).shape[-1]  # a GLU halves the width
        self.output_layer.build((*input_shape[:-1], kept))
        self.built = True

    def call(self, x, training=None):
        """[..., D] -> [..., D]."""
        return self.output_layer(self.dropout(self.hidden(x), training=training))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {
            "width": self.width,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout.rate,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_attention")
class ConvolutionalFeedForward(Layer):
    """Three convolutions over the steps: C_1(relu(C_k(relu(C_1 x)))), C_k of width k.

    (Verga et al., 2018, section 2.2, with k = 5; k = 1 treats each step by itself.)

    Args: `width`, the filters of the first two, `filter_width` k.

    Call: `(x [B, T, D], mask=None)` -> [B, T, D]. `mask` [B, T], boolean, True = real: other steps
    are zeros to every convolution, like those beyond the ends. Without one, the Keras mask of x,
    which is forwarded. Raises ValueError for widths below 1.

    >>> ConvolutionalFeedForward(8)(tf.ones([1, 6, 3])).shape
    TensorShape([1, 6, 3])
    """

    def __init__(self, width: int, filter_width: int = 5, **kwargs):
        super().__init__(**kwargs)
        if width < 1 or filter_width < 1:
            raise ValueError(
                "width and filter_width must be at least 1. Received: "
                f"width={width}, filter_width={filter_width}"
            )
        self.width, self.filter_width = width, filter_width
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """Kernels [1, D, width], [k, width, width] and [1, width, D], with biases."""
        filters = (self.width, self.width, input_shape[-1])
        sizes, relus = (1, self.filter_width, 1), ("relu", "relu", None)
        self.first, self.middle, self.last = (
            keras.layers.Conv1D(
                count, size, padding="same", activation=relu, dtype=self.dtype_policy
            )
            for count, size, relu in zip(filters, sizes, relus)
        )
        self.first.build((None, None, input_shape[-1]))
        for layer in (self.middle, self.last):
            layer.build((None, None, self.width))
        self.built = True

    def call(self, x, mask=None):
        """See the class."""
        for layer in (self.first, self.middle, self.last):
            x = layer(zero_masked(x, mask))
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"width": self.width, "filter_width": self.filter_width}
        return {**super().get_config(), **own}
