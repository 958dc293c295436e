"""The monotonic mechanisms of tf.contrib.seq2seq: a pointer that reads the memory once.

Source: Raffel, Luong, Liu, Weiss, Eck, 2017, "Online and Linear-Time Attention by Enforcing
Monotonic Alignments".
"""

from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import register
from keras_attention.functional import Memory, monotonic_attention
from keras_attention.seq2seq.attention_mechanism import AttentionMechanism
from keras_attention.seq2seq.mechanisms import BahdanauAttention, LuongAttention

_MODES = ("recursive", "parallel", "hard")


class _Monotonic(AttentionMechanism):
    """Any score + r -> sigmoid -> where a pointer stops that goes on from where it stood."""

    def _set_monotonic(self, sigmoid_noise, sigmoid_noise_seed, score_bias_init, mode):
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {_MODES}. Received: mode={mode!r}")
        self.sigmoid_noise, self.sigmoid_noise_seed = sigmoid_noise, sigmoid_noise_seed
        self.score_bias_init, self.mode = score_bias_init, mode

    def build(self, input_shape=None) -> None:
        """r, and the weights of the score."""
        super().build(input_shape)
        self.attention_score_bias = self.add_scalar("attention_score_bias", self.score_bias_init)

    def scores(self, query, memory):
        scores = super().scores(query, memory)
        return scores + tf.cast(self.attention_score_bias, scores.dtype)

    def _normalize(self, scores, mask, state):
        if state is None:
            raise ValueError(
                f"{self.name} goes on from where it looked before: its state is the last "
                "alignments, at first initial_state(batch_size, dtype). Received: state=None"
            )
        if tf.get_static_value(self.sigmoid_noise) != 0.0:
            noise = tf.random.normal(
                tf.shape(scores), dtype=scores.dtype, seed=self.sigmoid_noise_seed
            )
            scores += tf.cast(self.sigmoid_noise, scores.dtype) * noise
        stops = tf.cast(scores > 0, scores.dtype) if self.mode == "hard" else tf.sigmoid(scores)
        stops = tf.where(mask, stops, 0.0)
        previous = tf.reshape(tf.cast(state, scores.dtype), tf.shape(scores))
        return monotonic_attention(stops, previous, self.mode), None

    def initial_alignments(self, batch_size: Any, dtype: Any, memory: Memory | None = None):
        """The pointer stands at the first slot.  -> [N, S]."""
        zeros = super().initial_alignments(batch_size, dtype, memory)
        first = tf.one_hot(tf.zeros([batch_size], tf.int32), tf.shape(zeros)[1], dtype=dtype)
        first.set_shape(zeros.shape)
        return first

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("probability_fn", None)  # which the modes replace
        ours = ("sigmoid_noise", "sigmoid_noise_seed", "score_bias_init", "mode")
        return {**config, **{name: getattr(self, name) for name in ours}}


@register
class BahdanauMonotonicAttention(_Monotonic, BahdanauAttention):
    """p = sigmoid(Bahdanau's score + r + noise): where a pointer stops that never goes back.

    query [N, D'], memory [B, S, D], state [N, S] -> alignments [N, S]. A row of alignments sums to
    at most 1; what is missing went past the end of the memory.

    Args:
        sigmoid_noise: standard deviation of noise on the scores, in every call, which teaches the
            model to decide; give 0 where it answers.
        sigmoid_noise_seed: its seed.
        score_bias_init: first value of r, negative for long memories.
        mode: "parallel", "recursive" or "hard": see `monotonic_attention`.

    The others are those of `BahdanauAttention`. Raises ValueError for another mode.

    >>> mechanism = BahdanauMonotonicAttention(4, score_bias_init=50.0)
    >>> memory = mechanism.prepare_memory(tf.ones([1, 3, 5]))
    >>> state = mechanism.initial_state(1, tf.float32, memory)
    >>> mechanism([tf.ones([1, 7]), state], memory=memory)[0].numpy().tolist()
    [[1.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        units: int,
        memory: Any = None,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        sigmoid_noise: Any = 0.0,
        sigmoid_noise_seed: Any = None,
        score_bias_init: Any = 0.0,
        mode: str = "parallel",
        kernel_initializer: Any = "glorot_uniform",
        dtype: Any = None,
        name: str = "BahdanauMonotonicAttention",
        **kwargs,
    ):
        self._set_monotonic(sigmoid_noise, sigmoid_noise_seed, score_bias_init, mode)
        super().__init__(
            units,
            memory,
            memory_sequence_length,
            normalize,
            kernel_initializer=kernel_initializer,
            dtype=dtype,
            name=name,
            **kwargs,
        )


@register
class LuongMonotonicAttention(_Monotonic, LuongAttention):
    """p = sigmoid(Luong's score + r + noise): where a pointer stops that never goes back.

    query [N, units], memory [B, S, D], state [N, S] -> alignments [N, S]. The arguments are those
    of `LuongAttention` and `BahdanauMonotonicAttention`, and so are the errors.

    >>> mechanism = LuongMonotonicAttention(4, mode="hard", score_bias_init=-50.0)
    >>> memory = mechanism.prepare_memory(tf.ones([1, 3, 5]))
    >>> state = mechanism.initial_state(1, tf.float32, memory)
    >>> mechanism([tf.ones([1, 4]), state], memory=memory)[0].numpy().tolist()
    [[0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        units: int,
        memory: Any = None,
        memory_sequence_length: Any = None,
        scale: bool = False,
        sigmoid_noise: Any = 0.0,
        sigmoid_noise_seed: Any = None,
        score_bias_init: Any = 0.0,
        mode: str = "parallel",
        dtype: Any = None,
        name: str = "LuongMonotonicAttention",
        **kwargs,
    ):
        self._set_monotonic(sigmoid_noise, sigmoid_noise_seed, score_bias_init, mode)
        super().__init__(
            units, memory, memory_sequence_length, scale, dtype=dtype, name=name, **kwargs
        )
