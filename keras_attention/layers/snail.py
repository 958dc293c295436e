"""Dilated causal convolutions and causal attention, concatenated (Mishra et al., 2018, SNAIL)."""

import keras
import tensorflow as tf

from keras_attention.backend.saving import track
from keras_attention.functional.attend import attend
from keras_attention.functional.dilations import tc_dilations
from keras_attention.functional.gates import gated_tanh
from keras_attention.functional.masks import causal, finite_padding, zero_masked
from keras_attention.functional.scores import dot
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


@keras.saving.register_keras_serializable("keras_attention")
class GatedCausalConv(Layer):
    """A gated causal convolution: tanh(W_f * x) * sigmoid(W_g * x).

    (van den Oord et al., 2016, eq. 2.)  [B, T, D] -> [B, T, units]; `*` is a convolution over the
    steps t, t - r, ..., t - (k - 1) r, with zeros before the first.

    Args: `units`, `dilation` r, `kernel_size` k. The kernel [k, D, 2 units] holds W_f and then W_g.

    Call: `(x, mask=None)`, mask [B, T] bool; masked steps count as zeros.

    Raises ValueError for sizes below 1.

    >>> GatedCausalConv(units=4, dilation=2)(tf.zeros([1, 5, 3])).shape
    TensorShape([1, 5, 4])
    """

    def __init__(self, units: int, dilation: int = 1, kernel_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        if min(units, dilation, kernel_size) < 1:
            raise ValueError(
                "units, dilation and kernel_size must be at least 1. Received: "
                f"units={units}, dilation={dilation}, kernel_size={kernel_size}"
            )
        self.units, self.dilation, self.kernel_size = units, dilation, kernel_size
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """The kernel, in the layout of a `Conv1D`, and a bias."""
        self.kernel = self.add_weight(
            shape=(self.kernel_size, input_shape[-1], 2 * self.units), name="kernel"
        )
        self.bias = self.add_weight(shape=(2 * self.units,), initializer="zeros", name="bias")
        self.built = True

    def call(self, x, mask=None):
        """See the class."""
        check_shapes(x=("B T D", x), mask=("B? T", mask))
        x = zero_masked(x, mask)
        # Conv1D returns steps even for an empty sequence.
        steps, width = tf.shape(x)[1], self.kernel.shape[1]
        delays = [i * self.dilation for i in reversed(range(self.kernel_size))]
        taps = [tf.pad(x, [[0, 0], [delay, 0], [0, 0]])[:, :steps] for delay in delays]
        kernel = tf.reshape(tf.cast(self.kernel, x.dtype), [-1, 2 * self.units])
        taps = tf.ensure_shape(tf.concat(taps, -1), [*x.shape[:2], self.kernel_size * width])
        return gated_tanh(tf.matmul(taps, kernel) + tf.cast(self.bias, x.dtype))

    def get_config(self):
        names = "units dilation kernel_size".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_attention")
class SNAILDenseBlock(Layer):
    """The input, concatenated with a gated causal convolution: [x; tanh(..) * sigmoid(..)].

    (Mishra et al., 2018, section 3, DenseBlock.)  [B, T, D] -> [B, T, D + units].

    Args: `units`, `dilation`. Call: `(x, mask=None)`, as `GatedCausalConv`.

    >>> SNAILDenseBlock(units=4, dilation=2)(tf.zeros([1, 5, 3])).shape
    TensorShape([1, 5, 7])
    """

    def __init__(self, units: int, dilation: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dilation = units, dilation
        self.convolve = GatedCausalConv(units, dilation, dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """The convolution."""
        self.convolve.build(input_shape)
        self.built = True

    def call(self, x, mask=None):
        """See the class."""
        return tf.concat([x, self.convolve(x, mask=mask)], -1)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "dilation": self.dilation}


@keras.saving.register_keras_serializable("keras_attention")
class SNAILTCBlock(Layer):
    """Dense blocks with doubling dilations, until the last step depends on the first.

    (Mishra et al., 2018, section 3, TCBlock.)  [B, T, D] -> [B, T, D + units * ceil(log2 length)].

    Args:
        length: T for which the block is made; other lengths are allowed.
        units: of each dense block.
        first_exponent: 1, as in the paper's listing: dilations 2, 4, ..., which cover even
            distances only (SNAIL's attention blocks cover the others); 0: dilations 1, 2, ...,
            which cover all.

    Call: `(x, mask=None)`, as `GatedCausalConv`. Raises ValueError for a length below 2.

    >>> SNAILTCBlock(length=20, units=4)(tf.zeros([1, 20, 3])).shape
    TensorShape([1, 20, 23])
    """

    def __init__(self, length: int, units: int, first_exponent: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.length, self.units, self.first_exponent = length, units, first_exponent
        self.blocks = [
            SNAILDenseBlock(units, dilation, dtype=self.dtype_policy)
            for dilation in tc_dilations(length, first_exponent)
        ]
        track(self, "blocks", self.blocks)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """Each block is `units` wider than the previous one."""
        *places, width = input_shape
        for i, block in enumerate(self.blocks):
            block.build((*places, width + i * self.units))
        self.built = True

    def call(self, x, mask=None):
        """See the class."""
        for block in self.blocks:
            x = block(x, mask=mask)
        return x

    def get_config(self):
        names = "length units first_exponent".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_attention")
class SNAILAttentionBlock(Layer):
    """The input, concatenated with causal attention over it.

        [x; softmax over s <= t of (q_t·k_s / sqrt(key_width)) v_s]

    (Mishra et al., 2018, section 3, AttentionBlock.)  [B, T, D] -> [B, T, D + value_width].

    Args: `key_width`, `value_width`.

    Call: `(x, mask=None, return_weights=False)`, mask [B, T] bool, True = visible; with
    `return_weights` also the weights [B, T, T]. Raises ValueError for widths below 1.

    >>> SNAILAttentionBlock(key_width=4, value_width=2)(tf.zeros([1, 5, 3])).shape
    TensorShape([1, 5, 5])
    """

    def __init__(self, key_width: int, value_width: int, **kwargs):
        super().__init__(**kwargs)
        if min(key_width, value_width) < 1:
            raise ValueError(
                "key_width and value_width must be at least 1. Received: "
                f"key_width={key_width}, value_width={value_width}"
            )
        self.key_width, self.value_width = key_width, value_width
        widths = {"query": key_width, "key": key_width, "value": value_width}
        self.query, self.key, self.value = (
            keras.layers.Dense(width, dtype=self.dtype_policy, name=name)
            for name, width in widths.items()
        )
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """Three linear maps."""
        for layer in (self.query, self.key, self.value):
            layer.build(input_shape)
        self.built = True

    def call(self, x, mask=None, return_weights=False):
        """See the class."""
        check_shapes(x=("B T D", x), mask=("B? T", mask))
        x = finite_padding(x, mask)
        seen = causal(tf.shape(x)[1])
        if mask is not None:
            seen &= tf.cast(mask, tf.bool)[:, None]
        scores = dot(self.query(x), self.key(x)) * self.key_width**-0.5
        context, weights = attend(scores, self.value(x), seen)
        output = tf.concat([x, context], -1)
        return (output, weights) if return_weights else output

    def compute_mask(self, x, mask=None, previous_mask=None):
        return mask if previous_mask is None else previous_mask

    def get_config(self):
        own = {"key_width": self.key_width, "value_width": self.value_width}
        return {**super().get_config(), **own}
