"""gMLP: a gate across positions (Liu, Dai, So and Le, 2021, Pay Attention to MLPs)."""

import keras
import tensorflow as tf

from keras_attention.functional.masks import finite_padding, zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.mixing import _length
from keras_attention.layers.multi_head import MultiHeadAttention


@keras.saving.register_keras_serializable("keras_attention")
class SpatialGatingUnit(Layer):
    """Half of the features, gated by the other half at all positions: Z1 * (W LN(Z2) + b).

    (Liu, Dai, So and Le, 2021, eq. 2 and 3.)  [B, S, 2D] -> [B, S, D]. W starts near 0 and b at 1,
    so a new unit passes Z1.

    Args:
        length: the longest S; default that of the input at build. A shorter input uses the
            weights of its positions.
        causal: a step is gated only by itself and earlier steps.
        epsilon: of the norm.

    Call: `(x, mask=None, gate=None)`, mask [B, S] bool, True = real; `gate` [B, S, D] is added
    to the gate.

    Raises ValueError for an odd last axis, and for an S above `length`, or unknown without it.

    >>> unit = SpatialGatingUnit()
    >>> unit(tf.constant([[[2.0, 3.0, 1.0, -1.0]]])).numpy().round(3).tolist()
    [[[2.0, 3.0]]]
    """

    def __init__(
        self, length: int | None = None, causal: bool = False, epsilon: float = 1e-6, **kwargs
    ):
        super().__init__(**kwargs)
        self.length, self.causal, self.epsilon = length, causal, epsilon
        self.normalize = keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """W [S, S], b [S] and the norm of Z2."""
        check_shapes(x=("B S D", input_shape))
        if input_shape[-1] % 2:
            raise ValueError(
                "The last axis is split into two halves, so 2D must be even. Received: shape "
                f"{tuple(input_shape)}"
            )
        length = _length(self.length, input_shape)
        near_zero = keras.initializers.RandomNormal(stddev=1e-6)
        self.w = self.add_weight(shape=(length, length), initializer=near_zero, name="w")
        self.b = self.add_weight(shape=(length,), initializer="ones", name="b")
        self.normalize.build((None, None, input_shape[-1] // 2))
        self.built = True

    def call(self, x, mask=None, gate=None):
        """See the class."""
        _length(self.b.shape[0], x.shape)
        x = finite_padding(x, mask)
        steps = tf.shape(x)[1]
        w, b = tf.cast(self.w, x.dtype)[:steps, :steps], tf.cast(self.b, x.dtype)[:steps, None]
        if self.causal:
            w = tf.linalg.band_part(w, -1, 0)
        passed, gates = tf.split(x, 2, axis=-1)
        check_shapes(half=("B S D", passed), gate=("B S D", gate), mask=("B? S", mask))
        gates = tf.matmul(w, zero_masked(self.normalize(gates), mask)) + b
        return passed * (gates if gate is None else gates + gate)

    def get_config(self):
        own = {"length": self.length, "causal": self.causal, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_attention")
class GatedMLPBlock(Layer):
    """gMLP: expand, gate across positions, reduce: Y = X + SGU(gelu(LN(X) U)) V.

    (Liu, Dai, So and Le, 2021, eq. 1.)  [B, S, D] -> [B, S, D]. With `attention_width` it is their
    aMLP: a small attention of one head adds to the gate.

    Args:
        width: d_ffn, even; 6D in the paper.
        length: the longest S; default that of the input at build.
        causal: a step depends only on itself and earlier steps.
        attention_width: of the small attention, 64 in the paper; 0: none.
        epsilon: of the norms.

    Call: `(x, mask=None)`, mask [B, S] bool, True = real.

    Raises ValueError for a width that is odd or below 2, and for an S above `length`, or unknown
    without it.

    >>> GatedMLPBlock(width=48)(tf.zeros([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    def __init__(
        self,
        width: int,
        length: int | None = None,
        causal: bool = False,
        attention_width: int = 0,
        epsilon: float = 1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if width < 2 or width % 2 or attention_width < 0:
            raise ValueError(
                "width must be even and at least 2, attention_width at least 0. Received: "
                f"width={width}, attention_width={attention_width}"
            )
        self.width, self.length, self.causal = width, length, causal
        self.attention_width, self.epsilon = attention_width, epsilon
        policy = self.dtype_policy
        self.normalize = keras.layers.LayerNormalization(epsilon=epsilon, dtype=policy)
        self.u = keras.layers.Dense(width, "gelu", dtype=policy, name="u")
        self.gate = SpatialGatingUnit(length, causal, epsilon, dtype=policy)
        self.attention = None
        if attention_width:
            self.attention = MultiHeadAttention(
                1, attention_width, output_width=width // 2, dtype=policy
            )
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """U [D, d_ffn], V [d_ffn/2, D], with biases; the gate and optionally the attention."""
        check_shapes(x=("B S D", input_shape))
        depth = input_shape[-1]
        self.v = keras.layers.Dense(depth, dtype=self.dtype_policy, name="v")
        self.normalize.build(input_shape)
        self.u.build(input_shape)
        self.gate.build((*input_shape[:2], self.width))
        self.v.build((None, None, self.width // 2))
        if self.attention is not None:
            self.attention.build((None, None, depth))
        self.built = True

    def call(self, x, mask=None):
        """See the class."""
        x = finite_padding(x, mask)
        normal = self.normalize(x)
        extra = None
        if self.attention is not None:
            extra = self.attention(normal, mask=mask, causal=self.causal)
        return x + self.v(self.gate(self.u(normal), mask=mask, gate=extra))

    def get_config(self):
        names = "width length causal attention_width epsilon".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
