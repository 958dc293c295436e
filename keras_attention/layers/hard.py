"""Hard attention: look at one slot, drawn at random, and learn from how well that went."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.saving import deserialize
from keras_attention.functional import (
    Memory,
    entropy,
    hardmax,
    log_prob_of_choice,
    reinforce,
    sampled,
)
from keras_attention.functional.dtypes import widen
from keras_attention.layers._base import Layer
from keras_attention.layers._inner import inner
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.attention import Attention
from keras_attention.layers.memory_attention import MemoryAttention


class Choice(NamedTuple):
    """What hard attention looked at, and what `ReinforceLoss` has to know of it.

    >>> choice = HardAttention()(tf.ones([2, 1, 4]), tf.ones([2, 3, 4]), return_choice=True)
    >>> choice.context.shape, choice.log_prob.shape
    (TensorShape([2, 1, 4]), TensorShape([2, 1]))
    """

    context: Any  # [B, T, D]
    weights: Any  # [B, T, S], what the slots were drawn with
    log_prob: Any  # [B, T], log p of the drawn slot
    entropy: Any  # [B, T], of the weights


@keras.saving.register_keras_serializable("keras_attention")
class HardAttention(MemoryAttention, Layer):
    """The value of one slot, drawn with the weights of an attention (Xu et al., 2015, 4.1).

        s_t ~ Multinoulli(alpha_t)        z_t = the value of s_t

    In training a row of the batch gets, half of the time, the expected value instead of a drawn
    one. Either is a constant to the gradient: the weights learn by `ReinforceLoss` alone, while
    values and whatever comes after learn as ever. Where it answers, the best slot is taken.

    Args:
        attention: what weighs the slots; `Attention()`, by dot, if None.
        expected: the share of rows with the expected value in training, from 0 to 1.
        seed: an int to repeat the draws of a new layer, None to follow `tf.random.set_seed`.

    Call: `(query [B, T, D'], memory, mask=None, memory_mask=None, training=None,
    return_choice=False)` -> context [B, T, D], or a `Choice`. The others are those of `Attention`.
    A query that may look at nothing gets zeros, with log_prob and entropy 0. Raises ValueError for
    a share outside of [0, 1].

    >>> memory = tf.constant([[[1.0, 0.0], [2.0, 0.0]]])
    >>> HardAttention()(tf.ones([1, 1, 2]), memory).numpy().tolist()
    [[[2.0, 0.0]]]
    """

    def __init__(
        self,
        attention: Attention | None = None,
        expected: float = 0.5,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= expected <= 1:
            raise ValueError(f"expected must be from 0 to 1. Received: expected={expected}")
        self.attention = inner(attention, self.dtype_policy)
        self.expected, self.seed = expected, seed
        self.supports_masking = True

    def build(self, query_shape, memory_shape) -> None:
        """The attention that weighs."""
        if not self.attention.built:
            self.attention.build(query_shape, memory_shape)
        self.built = True

    def call(
        self,
        query,
        memory,
        mask=None,
        memory_mask=None,
        training=None,
        return_choice=False,
    ) -> Any:
        """See the class."""
        memory, mask = self.attention.prepare(memory, mask, memory_mask)
        weights, _ = self.attention.weigh(query, memory, mask)
        drawn = self._choose(weights, training)
        context = self.attention.read(drawn, memory)
        if not return_choice:
            return context
        return Choice(context, weights, log_prob_of_choice(drawn, weights), entropy(weights))

    def attend(self, query, memory: Memory, state=(), training=None):
        """One step of K hypotheses.  -> context [B, K, D], weights [B, K, S], state."""
        weights, _ = self.attention.weigh(query, memory, memory.mask[:, None])
        return self.attention.read(self._choose(weights, training), memory), weights, state

    def context_width(self, query_width, memory_width) -> int:
        """That of the attention that weighs."""
        return self.attention.context_width(query_width, memory_width)

    @property
    def memory_width(self) -> int | None:
        """That of the attention that weighs."""
        return self.attention.memory_width

    def _choose(self, weights, training):
        """One slot for each query, a constant to the gradient.  [B, T, S]."""
        drawn = self._draw(weights) if training else hardmax(weights, weights > 0)
        return tf.stop_gradient(drawn)

    def _draw(self, weights):
        rows = tf.random.uniform([tf.shape(weights)[0], 1, 1], seed=self.seed)
        bound = tf.int32.max
        pair = tf.random.uniform([2], -bound, bound, tf.int32, seed=self.seed)
        tiny = np.finfo(weights.dtype.as_numpy_dtype).tiny
        drawn = sampled(tf.math.log(tf.maximum(weights, tiny)), weights > 0, pair)
        return tf.where(rows < self.expected, weights, drawn)

    def project_memory(self, memory, mask=None) -> Any:
        """Keys and values once per source: `Attention.project_memory`."""
        return self.attention.project_memory(memory, mask)

    def compute_mask(self, inputs, previous_mask=None):
        """That of the query, if it is the context alone that is asked for."""
        return getattr(inputs, "_keras_mask", None)

    def get_config(self) -> dict:
        attention = keras.saving.serialize_keras_object(self.attention)
        ours = {"attention": attention, "expected": self.expected, "seed": self.seed}
        return {**super().get_config(), **ours}

    @classmethod
    def from_config(cls, config):
        attention = deserialize(config["attention"])
        return cls(**{**config, "attention": attention})

    def get_build_config(self) -> dict:
        return self.attention.get_build_config()

    def build_from_config(self, config) -> None:
        self.attention.build_from_config(config)
        self.built = self.attention.built


@keras.saving.register_keras_serializable("keras_attention")
class ReinforceLoss(Layer):
    """The loss whose gradient teaches a random choice (Xu et al., 2015, 4.1).

        -log p(y) - lambda_r (log p(y) - b) log p(s) - lambda_e H[s]
        b <- decay b + (1 - decay) mean of log p(y)

    log p(y) is that of the whole target; in the second term it is a constant. b, a weight that no
    gradient trains, is that of the batches before: it does not know the draws of this one, and so
    leaves the mean gradient as it is.

    Args:
        decay: of the baseline b.
        reward_weight, entropy_weight: lambda_r and lambda_e; the defaults are the authors'.

    Call: `(log_likelihood [B], log_prob, entropy, mask=None, training=None)` -> loss [B], float32
    or wider under any policy. log_prob and entropy are [B, T], as in `Choice`, and count where the
    boolean mask [B, T] is True. The baseline moves in training alone. Raises ValueError for a decay
    outside of [0, 1].

    >>> loss = ReinforceLoss(reward_weight=1.0, entropy_weight=0.0)
    >>> loss(tf.constant([-2.0]), tf.constant([[-1.0]]), tf.constant([[0.5]])).numpy().tolist()
    [0.0]
    """

    def __init__(
        self,
        decay: float = 0.9,
        reward_weight: float = 0.1,
        entropy_weight: float = 0.002,
        **kwargs,
    ):
        super().__init__(**{"autocast": False, **kwargs})
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1. Received: decay={decay}")
        self.decay, self.reward_weight, self.entropy_weight = decay, reward_weight, entropy_weight

    def build(self, log_likelihood_shape=None) -> None:
        """The baseline."""
        self.baseline = self.add_weight(
            shape=(), name="baseline", initializer="zeros", trainable=False, autocast=False
        )
        self.built = True

    def call(self, log_likelihood, log_prob, entropy, mask=None, training=None) -> tf.Tensor:
        """See the class."""
        check_shapes(log_likelihood=("B", log_likelihood), log_prob=("B T", log_prob))
        check_shapes(log_prob=("B T", log_prob), entropy=("B T", entropy), mask=("B? T", mask))
        likelihood = widen(log_likelihood)
        log_prob, entropy = (tf.cast(x, likelihood.dtype) for x in (log_prob, entropy))
        if mask is not None:
            log_prob, entropy = (tf.where(mask, x, 0.0) for x in (log_prob, entropy))
        log_prob, entropy = tf.reduce_sum(log_prob, 1), tf.reduce_sum(entropy, 1)
        before = tf.convert_to_tensor(self.baseline)
        if training:
            now = tf.cast(tf.reduce_mean(likelihood), before.dtype)
            self.baseline.assign(self.decay * before + (1 - self.decay) * now)
        taught = reinforce(log_prob, likelihood, before)
        return self.reward_weight * taught - likelihood - self.entropy_weight * entropy

    def compute_mask(self, inputs, previous_mask=None):
        """None: a loss has no steps."""
        return None

    def get_config(self) -> dict:
        ours = ("decay", "reward_weight", "entropy_weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in ours}}
