"""Multi-head linear attention as a recurrent cell."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.saving import deserialize
from keras_attention.functional.dtypes import widen
from keras_attention.functional.heads import repeat_heads
from keras_attention.functional.linear import LinearState, linear_step
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.cores import Linear
from keras_attention.layers.multi_head import MultiHeadAttention


@keras.saving.register_keras_serializable("keras_attention")
class LinearAttentionCell(Layer):
    """Causal `LinearAttention` step by step, with a state that does not grow.

        products_t = products_{t-1} + phi(k_t) v_t^T        keys_t = keys_{t-1} + phi(k_t)
        context_t = phi(q_t) products_t / (phi(q_t)·keys_t)

    (Katharopoulos et al., 2020, eqs. 16 to 20.) Repeated, it gives what the layer gives with
    `causal=True`.

    Args:
        attention: a `LinearAttention`, or another `MultiHeadAttention` with the core `Linear`,
            whose weights the cell shares.

    Call: `(inputs [N, D], state) -> (output [N, D], LinearState)`, by hand or in
    `keras.layers.RNN`. The state is float32 or wider. Masked steps of the RNN must be finite, or
    the gradients are not: set padding to zero before.

    >>> from keras_attention.layers import LinearAttention
    >>> cell = LinearAttentionCell(LinearAttention(num_heads=2, key_width=4))
    >>> keras.layers.RNN(cell, return_sequences=True)(tf.ones([1, 5, 8])).shape
    TensorShape([1, 5, 8])
    """

    def __init__(self, attention: MultiHeadAttention, **kwargs):
        if not (isinstance(attention, MultiHeadAttention) and isinstance(attention.core, Linear)):
            raise ValueError(
                "attention must be a LinearAttention, or a MultiHeadAttention with core=Linear(). "
                f"Received: attention={attention!r}"
            )
        kwargs.setdefault("dtype", attention.dtype_policy)
        kwargs.setdefault("autocast", False)  # the sums of a state stay float32 or wider
        super().__init__(**kwargs)
        self.attention = attention
        if attention.key_width is None:
            raise ValueError(
                "The attention of a cell must have a key_width, which is the size of its state. "
                "Received: key_width=None"
            )
        heads, keys = attention.num_heads, attention.key_width
        self.state_size = LinearState((heads, keys, attention.value_width or keys), (heads, keys))

    @property
    def compute_dtype(self) -> str:
        """That of the state, to which `keras.layers.RNN` casts: float32 or wider.

        A sum in bfloat16 stops growing after a few hundred steps.
        """
        return widen(tf.zeros([], super().compute_dtype)).dtype.name

    @property
    def output_size(self) -> int | None:
        """D; None until the width of the inputs is known, unless output_width is given."""
        attention = self.attention
        return attention.output_layer.units if attention.built else attention.output_width

    def build(self, input_shape) -> None:
        """The weights of the attention."""
        check_shapes(inputs=("N D", input_shape))
        if not self.attention.built:
            self.attention.build((None, *input_shape))
        self.built = True

    def get_initial_state(self, batch_size: Any = None) -> LinearState:
        """Nothing seen."""
        return LinearState(
            *(tf.zeros([batch_size, *size], self.compute_dtype) for size in self.state_size)
        )

    def call(self, inputs, state) -> tuple[tf.Tensor, LinearState]:
        """See the class."""
        attention = self.attention
        inputs = tf.cast(inputs, attention.compute_dtype)

        # Without an axis of steps: XLA cannot train Dense on [N, 1, D] inside of a loop.
        def split(x, heads):
            return tf.reshape(x, [-1, heads, x.shape[-1] // heads])

        groups = attention.num_key_heads
        query = split(attention.query(inputs), attention.num_heads)
        keys, values = split(attention.key(inputs), groups), split(attention.value(inputs), groups)
        keys, values = repeat_heads(query, keys, values)
        context, state = linear_step(query, keys, values, LinearState(*state))
        context = tf.cast(
            tf.reshape(context, [-1, attention.output_layer.kernel.shape[0]]), inputs.dtype
        )
        return attention.output_layer(context), state

    def get_config(self) -> dict:
        attention = keras.saving.serialize_keras_object(self.attention)
        return {**super().get_config(), "attention": attention}

    @classmethod
    def from_config(cls, config):
        attention = deserialize(config["attention"])
        return cls(**{**config, "attention": attention})
