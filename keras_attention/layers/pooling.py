"""Pooling by attention: from a sequence to one vector, or to one for each hop."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional import attend, redundancy
from keras_attention.functional.masks import zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


@keras.saving.register_keras_serializable("keras_attention")
class AttentionPooling(Layer):
    """A weighted mean of the steps, by a learned query (Yang et al., 2016, eq. 5 to 7, HAN).

        u_t = tanh(W h_t + b)        a_t = softmax_t(u_t . u)        s = sum_t a_t h_t

    The query u is a weight of the layer.

    Args:
        units: width of u_t.

    Call: `(inputs [..., S, D], mask=None, return_weights=False)` -> [..., D]; with
    `return_weights` also the weights [..., S]. `mask` [..., S], boolean, True = visible; without
    one, the Keras mask of the inputs, which is not forwarded. Without visible steps: zeros.

    Raises ValueError for units below 1.

    >>> AttentionPooling(8)(tf.ones([2, 3, 4])).shape
    TensorShape([2, 4])
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        self.units = units
        self.supports_masking = True
        self.hidden = keras.layers.Dense(units, "tanh", dtype=self.dtype_policy)
        self.query = keras.layers.Dense(1, use_bias=False, dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        """A projection and the query."""
        self.hidden.build((None, None, input_shape[-1]))
        self.query.build((None, None, self.units))
        self.built = True

    def call(self, inputs, mask=None, return_weights=False) -> Any:
        """See the class."""
        lead = " ".join("BLNM"[: max(len(inputs.shape) - 2, 0)])
        check_shapes(inputs=(f"{lead} S D", inputs), mask=(f"{lead} S", mask))
        inputs = zero_masked(inputs, mask)
        scores = self.query(self.hidden(inputs))  # [..., S, 1]
        scores = tf.linalg.matrix_transpose(scores)
        if mask is not None:
            mask = tf.cast(mask, tf.bool)[..., None, :]
        context, weights = attend(scores, inputs, mask)
        pooled = tf.squeeze(context, -2)
        return (pooled, tf.squeeze(weights, -2)) if return_weights else pooled

    def compute_mask(self, inputs, previous_mask=None) -> None:
        """The output has no masked axis."""

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("keras_attention")
class StepPooling(Layer):
    """The mean of the steps, or the maximum of each feature: pooling without weights.

    The baselines of attention in Yang et al. (2016) and Lin et al. (2017).

    Args:
        kind: "mean" or "max". Raises ValueError for another.

    Call: `(inputs [..., S, D], mask=None, return_weights=False)` -> [..., D]; with
    `return_weights` also the equal weights [..., S] of a mean. `mask` [..., S], boolean, True =
    visible; without one, the Keras mask of the inputs, which is not forwarded. Without visible
    steps: zeros. Raises ValueError for weights of a maximum.

    >>> StepPooling("max")(tf.constant([[[1.0, 4.0], [2.0, 3.0]]])).numpy().tolist()
    [[2.0, 4.0]]
    """

    def __init__(self, kind: str, **kwargs):
        super().__init__(**kwargs)
        if kind not in ("mean", "max"):
            raise ValueError(f"kind must be 'mean' or 'max'. Received: kind={kind!r}")
        self.kind = kind
        self.supports_masking = True

    def call(self, inputs, mask=None, return_weights=False) -> Any:
        """See the class."""
        lead = " ".join("BLNM"[: max(len(inputs.shape) - 2, 0)])
        check_shapes(inputs=(f"{lead} S D", inputs), mask=(f"{lead} S", mask))
        if mask is None:
            mask = tf.ones(tf.shape(inputs)[:-1], tf.bool)
        mask = tf.cast(mask, tf.bool)
        if self.kind == "mean":
            equal = tf.zeros_like(mask, inputs.dtype)[..., None, :]
            context, weights = attend(equal, zero_masked(inputs, mask), mask[..., None, :])
            pooled = tf.squeeze(context, -2)
            return (pooled, tf.squeeze(weights, -2)) if return_weights else pooled
        if return_weights:
            raise ValueError("A maximum has no weights: pass return_weights=False.")
        highest = tf.reduce_max(tf.where(mask[..., None], inputs, inputs.dtype.min), -2)
        some = tf.reduce_any(mask, -1, keepdims=True)
        return tf.where(some, highest, tf.zeros([], inputs.dtype))

    def compute_mask(self, inputs, previous_mask=None) -> None:
        """The output has no masked axis."""

    def get_config(self) -> dict:
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable("keras_attention")
class StructuredSelfAttention(Layer):
    """Several hops of attention over a sentence, kept different by a penalty (Lin et al., 2017).

        A = softmax(W_s2 tanh(W_s1 X^T)) over the steps (eq. 6)        M = A X (eq. 7)
        loss += penalty * mean over the batch of ||A A^T - I||_F^2 (eq. 8)

    In the paper X is from a bidirectional LSTM, with 30 hops, 350 units, penalty 1 (0.3 for SNLI).

    Args:
        hops: H, rows of A.
        units: width of the tanh layer.
        penalty: weight of the penalty, which is added by `add_loss`; 0 for none. With more hops
            than steps, or without visible steps, it cannot become 0.

    Call: `(inputs [B, S, D], mask=None, return_weights=False)` -> M [B, H, D]; with
    `return_weights` also A [B, H, S]. `mask` [B, S], boolean, True = visible; without one, the
    Keras mask of the inputs, which is not forwarded.

    Raises ValueError for hops or units below 1, or a penalty below 0.

    >>> StructuredSelfAttention(hops=3, units=8, penalty=1.0)(tf.ones([2, 5, 4])).shape
    TensorShape([2, 3, 4])
    """

    def __init__(self, hops: int, units: int, penalty: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if hops < 1 or units < 1 or penalty < 0:
            raise ValueError(
                "hops and units must be at least 1, and penalty at least 0. Received: "
                f"hops={hops}, units={units}, penalty={penalty}"
            )
        self.hops, self.units, self.penalty = hops, units, penalty
        self.supports_masking = True
        policy = self.dtype_policy
        self.hidden = keras.layers.Dense(units, "tanh", use_bias=False, dtype=policy)  # W_s1
        self.queries = keras.layers.Dense(hops, use_bias=False, dtype=policy)  # W_s2

    def build(self, input_shape) -> None:
        """Two projections without bias."""
        check_shapes(inputs=("B S D", input_shape))
        self.hidden.build((None, None, input_shape[-1]))
        self.queries.build((None, None, self.units))
        self.built = True

    def call(self, inputs, mask=None, return_weights=False) -> Any:
        """See the class."""
        check_shapes(inputs=("B S D", inputs), mask=("B? S", mask))
        inputs = zero_masked(inputs, mask)
        scores = tf.linalg.matrix_transpose(self.queries(self.hidden(inputs)))  # [B, H, S]
        if mask is not None:
            mask = tf.cast(mask, tf.bool)[:, None]
        pooled, weights = attend(scores, inputs, mask)
        if self.penalty:
            self.add_loss(self.penalty * tf.reduce_mean(redundancy(weights)))
        return (pooled, weights) if return_weights else pooled

    def compute_mask(self, inputs, previous_mask=None) -> None:
        """The output has no masked axis."""

    def get_config(self) -> dict:
        config = {"hops": self.hops, "units": self.units, "penalty": self.penalty}
        return {**super().get_config(), **config}
