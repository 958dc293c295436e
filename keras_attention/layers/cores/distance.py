"""A core that prefers near steps."""

import dataclasses

import keras
import tensorflow as tf

from keras_attention.functional.heads import biased_weights, head_contexts, head_mask, head_scores
from keras_attention.functional.shapes import sizes
from keras_attention.layers.cores.core import CacheSlots, Core


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Distance(Core):
    """softmax(q·k / sqrt(Dk) - alpha |i - j|) over one direction (Im and Cho, 2017, section 3).

    A query that may see nothing, as the first one forward, gets zeros.

    Fields: `alpha`, at least 0, the penalty per step (1.5 in the paper); `forward` True attends to
    j < i, False at j > i, None at all steps and at itself.

    >>> from keras_attention.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(1, core=Distance(alpha=1.5, forward=None))
    >>> _, weights = layer(tf.zeros([1, 4, 2]), return_weights=True)
    >>> [round(float(weight), 4) for weight in weights[0, 0, 0]]
    [0.7788, 0.1738, 0.0388, 0.0087]
    """

    takes_pair_masks = takes_bias = applies_dropout = returns_weights = decodes = True

    alpha: float = 1.5
    forward: bool | None = True

    def __post_init__(self):
        if self.alpha < 0:
            raise ValueError(f"alpha must be at least 0. Received: alpha={self.alpha}")

    @property
    def is_causal(self) -> bool:  # type: ignore[override]
        return self.forward is True

    def __call__(
        self, query, keys, values, *, mask=None, bias=None, causal=False, dropout=tf.identity, **_
    ):
        distances = CacheSlots(0, 1).distances(query, keys)
        mask = head_mask(mask, causal, sizes(query)[2], sizes(keys)[2])
        weights = self._weigh(query, keys, mask, bias, distances)
        return head_contexts(dropout(weights), values), weights

    def step(self, query, keys, values, *, mask, slots, bias=None, **_):
        weights = self._weigh(query, keys, mask, bias, slots.distances(query, keys))
        return head_contexts(weights, values)

    def _weigh(self, query, keys, mask, bias, distances):
        """distances i - j [T, S] -> [B, H, T, S]."""
        if self.forward is not None:
            directed = distances > 0 if self.forward else distances < 0
            mask = directed if mask is None else directed & mask
        scores = head_scores(query, keys)
        scores -= self.alpha * tf.cast(tf.abs(distances), scores.dtype)
        return biased_weights(scores, query, mask, bias)
