"""Mix positions without attention: MLP-Mixer (Tolstikhin et al., 2021), gMLP (Liu et al., 2021).

Both have weights for every pair of positions, so S has a maximum. A shorter sequence uses the
weights of its positions; masked steps count as zeros.
"""

import keras
import tensorflow as tf

from keras_attention.backend.saving import track
from keras_attention.functional.masks import finite_padding, zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.blocks import FeedForward


def _length(length, input_shape) -> int:
    """The longest S: the argument, or that of the input."""
    check_shapes(x=("B S D", input_shape))
    known = input_shape[1]
    if length is None:
        if known is None:
            raise ValueError(
                "The weights mix S positions, so the longest S must be known: pass length=, or an "
                f"input of known S. Received: shape {tuple(input_shape)}"
            )
        return known
    if known is not None and known > length:
        raise ValueError(
            f"S must be at most length. Received: S={known}, length={length}. Use a larger length."
        )
    return length


@keras.saving.register_keras_serializable("keras_attention")
class MixerBlock(Layer):
    """One MLP across positions, one across features, each with a norm and a residual connection.

        U = X + (W2 gelu(W1 LN(X)^T + b1) + b2)^T        Y = U + W4 gelu(W3 LN(U) + b3) + b4

    (Tolstikhin et al., 2021, eq. 1.)  [B, S, D] -> [B, S, D].

    Args:
        token_width: of the hidden layer across positions, D_S.
        channel_width: of the hidden layer across features, D_C.
        length: the longest S; default that of the input at build.
        epsilon: of the norms.

    Call: `(x, mask=None)`, mask [B, S] bool, True = real.

    Raises ValueError for widths below 1, and for an S above `length`, or unknown without it.

    >>> MixerBlock(token_width=16, channel_width=32)(tf.zeros([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    def __init__(
        self,
        token_width: int,
        channel_width: int,
        length: int | None = None,
        epsilon: float = 1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if min(token_width, channel_width) < 1:
            raise ValueError(
                "token_width and channel_width must be at least 1. Received: "
                f"token_width={token_width}, channel_width={channel_width}"
            )
        self.token_width, self.channel_width = token_width, channel_width
        self.length, self.epsilon = length, epsilon
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """W1 [S, D_S], W2 [D_S, S], W3 [D, D_C], W4 [D_C, D], with biases; two norms."""
        length, policy = _length(self.length, input_shape), self.dtype_policy
        shapes = {
            "w1": (length, self.token_width),
            "b1": (self.token_width,),
            "w2": (self.token_width, length),
            "b2": (length,),
        }
        for name, shape in shapes.items():
            kind = "zeros" if len(shape) == 1 else "glorot_uniform"
            setattr(self, name, self.add_weight(shape=shape, initializer=kind, name=name))
        self.channels = FeedForward(self.channel_width, "gelu", dtype=policy)
        self.norms = [
            keras.layers.LayerNormalization(epsilon=self.epsilon, dtype=policy) for _ in range(2)
        ]
        track(self, "norms", self.norms)
        for layer in (self.channels, *self.norms):
            layer.build((None, None, input_shape[-1]))
        self.built = True

    def call(self, x, mask=None):
        """See the class."""
        check_shapes(x=("B S D", x), mask=("B? S", mask))
        _length(self.b2.shape[0], x.shape)
        x = finite_padding(x, mask)
        steps = tf.shape(x)[1]
        w1, b1, w2, b2 = (tf.cast(w, x.dtype) for w in (self.w1, self.b1, self.w2, self.b2))
        rows = tf.linalg.matrix_transpose(zero_masked(self.norms[0](x), mask))  # [B, D, S]
        rows = tf.matmul(tf.nn.gelu(tf.matmul(rows, w1[:steps]) + b1), w2[:, :steps]) + b2[:steps]
        u = x + tf.linalg.matrix_transpose(rows)
        return u + self.channels(self.norms[1](u))

    def get_config(self):
        names = "token_width channel_width length epsilon".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
