"""Hard attention: attend to one slot sampled at random, trained by REINFORCE."""

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
    """The output of hard attention, with the inputs of `ReinforceLoss`.

    >>> choice = HardAttention()(tf.ones([2, 1, 4]), tf.ones([2, 3, 4]), return_choice=True)
    >>> choice.context.shape, choice.log_prob.shape
    (TensorShape([2, 1, 4]), TensorShape([2, 1]))
    """

    context: Any  # [B, T, D]
    weights: Any  # [B, T, S], the probabilities of the slots
    log_prob: Any  # [B, T], log p of the sampled slot
    entropy: Any  # [B, T], of the weights


@keras.saving.register_keras_serializable("keras_attention")
class HardAttention(MemoryAttention, Layer):
    """The value of one slot, sampled by the weights of an attention (Xu et al., 2015, 4.1).

        s_t ~ Multinoulli(alpha_t)        z_t = the value of s_t

    In training, a row of the batch gets the expected value instead of a sampled one with
    probability `expected`. In both cases the gradient treats the weights as constants: they are
    trained by `ReinforceLoss` alone; the values and the layers after them are trained as usual. In
    inference the slot with the largest weight is used.

    Args:
        attention: the layer that computes the weights; None for `Attention()`, by dot product.
        expected: the probability that a row gets the expected value in training.
        seed: an int for reproducible samples of a new layer, None to use `tf.random.set_seed`.

    Call: `(query [B, T, D'], memory, mask=None, memory_mask=None, training=None,
    return_choice=False)` -> context [B, T, D], or a `Choice`. The other arguments are those of
    `Attention`. A query with all slots masked gets zeros, with log_prob and entropy 0. Raises
    ValueError if `expected` is not in [0, 1].

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
        """Build the attention."""
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
        """The one of the attention."""
        return self.attention.context_width(query_width, memory_width)

    @property
    def memory_width(self) -> int | None:
        """The one of the attention."""
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
        """The mask of the query, if the call returns the context alone."""
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
    """The loss that trains a random choice by REINFORCE (Xu et al., 2015, 4.1).

        -log p(y) - lambda_r (log p(y) - b) log p(s) - lambda_e H[s]
        b <- decay b + (1 - decay) mean of log p(y)

    log p(y) is the one of the whole target; in the second term it is a constant. The baseline b is
    a non-trainable weight, computed from earlier batches. It is independent of the samples of this
    batch, so it does not change the expected gradient.

    Args:
        decay: the decay of the baseline b.
        reward_weight, entropy_weight: lambda_r and lambda_e; the defaults are the authors'.

    Call: `(log_likelihood [B], log_prob, entropy, mask=None, training=None)` -> loss [B], float32
    or wider under any policy. log_prob and entropy are [B, T], as in `Choice`, and count where the
    boolean mask [B, T] is True. The baseline is updated only in training. Raises ValueError for a
    decay outside of [0, 1].

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
        """Create the baseline."""
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
