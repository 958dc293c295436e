"""Select tokens, all at once, by a random choice that REINFORCE can train."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


class Selection(NamedTuple):
    """The selected tokens, and the values that `functional.reinforce` needs.

    >>> selection = TokenSelector()(tf.ones([2, 3, 4]))
    >>> selection.selected.shape, selection.log_prob.shape
    (TensorShape([2, 3]), TensorShape([2]))
    """

    selected: Any  # [B, S] bool, False where masked
    probability: Any  # [B, S], of being selected, 0 where masked
    log_prob: Any  # [B], log p of the whole selection
    fraction: Any  # [B], the selected share of the real tokens


@keras.saving.register_keras_serializable("keras_attention")
class TokenSelector(Layer):
    """Reinforced sequence sampling (Shen et al., 2018, ReSAN): select tokens for an attention.

        x'_i = [x_i; mean(x); x_i * mean(x)]
        p_i = sigmoid(w·act(W x'_i + b) + b')        z_i ~ Bernoulli(p_i), for all i at once

    In training z is sampled; in inference z_i = (p_i > 0.5). No gradient passes through z. ReSAN
    has two selectors, one for queries and one for keys, and attends under the mask
    `functional.chosen(queries.selected, keys.selected) & directional(S)`. Each is trained by

        functional.reinforce(log_prob, log p(y) - cost * fraction)

    after the rest has been trained without selection.

    Args:
        units: height of W; the width of the tokens if None.
        activation: act, as in `keras.layers.Dense`.
        seed: an int to repeat the samples of a new layer, None to follow `tf.random.set_seed`.

    Call: `(inputs [B, S, D], mask=None, training=None)` -> `Selection`, its numbers in float32 or
    wider. The mask [B, S], boolean, True = real, is that of Keras unless given; masked tokens are
    ignored. Raises ValueError for units < 1.

    >>> selection = TokenSelector()(tf.ones([2, 3, 4]), mask=tf.constant([[True] * 3, [False] * 3]))
    >>> selection.selected.shape, float(selection.log_prob[1]), float(selection.fraction[1])
    (TensorShape([2, 3]), 0.0, 0.0)
    """

    def __init__(
        self,
        units: int | None = None,
        activation: Any = "elu",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if units is not None and units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        self.units, self.activation, self.seed = units, keras.activations.get(activation), seed
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """W and b, w and b'."""
        width = input_shape[-1]
        units, policy = self.units or width, self.dtype_policy
        self.hidden = keras.layers.Dense(units, self.activation, dtype=policy, name="hidden")
        self.hidden.build((None, None, 3 * width))
        self.logit = keras.layers.Dense(1, dtype=policy, name="logit")
        self.logit.build((None, None, units))
        self.built = True

    def call(self, inputs, mask=None, training=None) -> Selection:
        """See the class."""
        check_shapes(inputs=("B S D", inputs), mask=("B? S", mask))
        mask = tf.ones(tf.shape(inputs)[:2], tf.bool) if mask is None else tf.cast(mask, tf.bool)
        logits = widen(self.logit(self.hidden(_beside_the_mean(inputs, mask))))[..., 0]  # [B, S]
        probability = tf.sigmoid(logits)
        bar = 0.5
        if training:
            bar = tf.random.uniform(tf.shape(logits), dtype=logits.dtype, seed=self.seed)
        selected = mask & (probability > bar)
        # log sigmoid(x) = -softplus(-x), and log(1 - sigmoid(x)) = -softplus(x).
        log_prob = -tf.math.softplus(tf.where(selected, -logits, logits))
        real, taken = tf.cast(mask, logits.dtype), tf.cast(selected, logits.dtype)
        tokens = tf.maximum(tf.reduce_sum(real, 1), 1)
        return Selection(
            selected,
            probability * real,
            tf.reduce_sum(tf.where(mask, log_prob, 0.0), 1),
            tf.reduce_sum(taken, 1) / tokens,
        )

    def compute_mask(self, inputs, previous_mask=None):
        """None: a selection is not a sequence."""
        return None

    def get_config(self) -> dict:
        activation = keras.activations.serialize(self.activation)
        ours = {"units": self.units, "activation": activation, "seed": self.seed}
        return {**super().get_config(), **ours}


def _beside_the_mean(inputs, mask):
    """[x; mean(x); x * mean(x)], the mean over real tokens.  [B, S, D] -> [B, S, 3 D]."""
    x = tf.where(tf.expand_dims(mask, -1), inputs, tf.zeros([], inputs.dtype))
    tokens = tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32), 1), 1)[:, None, None]
    mean = tf.reduce_sum(widen(x), 1, keepdims=True) / tf.cast(tokens, widen(x).dtype)
    mean = tf.zeros_like(x) + tf.cast(mean, x.dtype)
    return tf.concat([x, mean, x * mean], -1)
