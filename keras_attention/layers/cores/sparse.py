"""Cores that attend to few steps of one sequence, and compute no other scores."""

import abc
import dataclasses

import keras
import tensorflow as tf

from keras_attention.functional.banded import banded_attention
from keras_attention.functional.heads import head_contexts, head_weights, repeat_heads
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.sparse import fixed_attention, strided_attention
from keras_attention.layers.cores.core import CacheSlots, Core


class SparseCore(Core, abc.ABC):
    """One softmax over the steps that `sees` selects; `attend` finds them without [T, T] scores."""

    applies_dropout = decodes = True

    @abc.abstractmethod
    def attend(self, query, keys, values, mask, causal, normalize) -> tf.Tensor:
        """The context of a whole sequence, heads as many as those of the query, mask [B, T]."""

    @abc.abstractmethod
    def sees(self, query, keys, slots: CacheSlots) -> tf.Tensor:
        """Which slot of a cache belongs to which query, later steps included or not.  [T, M]."""

    def __call__(self, query, keys, values, *, mask=None, causal=False, dropout=tf.identity, **_):
        keys, values = repeat_heads(query, keys, values)

        def normalize(scores, mask):
            return dropout(softmax(scores, mask))

        return self.attend(query, keys, values, mask, causal, normalize), None

    def step(self, query, keys, values, *, mask, slots, bias=None, **_):
        mask &= self.sees(query, keys, slots)
        return head_contexts(head_weights(query, keys, mask, bias), values)


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Banded(SparseCore):
    """Step i attends to the steps with |i - j| <= radius (Vaswani et al., 2017, section 4).

    The paper's r is 2 radius + 1. Time and memory are O(T radius): see `banded_attention`. A stack
    of L layers connects steps L radius apart.

    >>> from keras_attention.layers import MultiHeadAttention
    >>> MultiHeadAttention(2, core=Banded(radius=1))(tf.ones([1, 5, 8])).shape
    TensorShape([1, 5, 8])
    """

    radius: int

    def __post_init__(self):
        if self.radius < 0:
            raise ValueError(f"radius must be at least 0. Received: radius={self.radius}")

    def attend(self, query, keys, values, mask, causal, normalize):
        return banded_attention(query, keys, values, self.radius, mask, causal, normalize)

    def sees(self, query, keys, slots):
        return tf.abs(slots.distances(query, keys)) <= self.radius


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Strided(SparseCore):
    """Step i attends to `stride` steps before it and each stride-th one (Child et al., 2019, 4.3).

    O(T (stride + T / stride)), least for a stride of sqrt(T): see `strided_attention`. From any
    step, two layers reach all steps before it. Causal unless `causal=False`: then it is local,
    atrous, or sparse attention (Su, 2019, kexue.fm).

    Fields: `stride`; `hop` 1 is |i - j| <= stride, 2 is (i - j) mod stride = 0, None their union.
    Alternate 1 and 2 in a stack, or add the outputs of both: the paper's factorised forms.

    >>> from keras_attention.layers import MultiHeadAttention
    >>> MultiHeadAttention(2, core=Strided(stride=3))(tf.ones([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    causal_by_default = True

    stride: int
    hop: int | None = None

    def __post_init__(self):
        if self.stride < 1 or self.hop not in (None, 1, 2):
            raise ValueError(
                "stride must be at least 1, and hop 1, 2, or None for both. "
                f"Received: stride={self.stride}, hop={self.hop!r}"
            )

    def attend(self, query, keys, values, mask, causal, normalize):
        return strided_attention(
            query, keys, values, self.stride, self.hop, mask, causal, normalize
        )

    def sees(self, query, keys, slots):
        distances = slots.distances(query, keys)
        near, far = tf.abs(distances) <= self.stride, distances % self.stride == 0
        return _of_hop(self.hop, near, far)


@keras.saving.register_keras_serializable("keras_attention")
@dataclasses.dataclass(frozen=True)
class Fixed(SparseCore):
    """Step i attends to its block, and the last steps of earlier blocks (Child et al., 2019, 4.3).

    Always causal, at O(T (stride + summary T / stride)): see `fixed_attention`.

    Fields: `stride`, the length of a block; `summary`, how many of its last steps later blocks look
    at; `hop` 1 is the own block so far, 2 the summaries, None their union.

    >>> from keras_attention.layers import MultiHeadAttention
    >>> MultiHeadAttention(2, core=Fixed(stride=3))(tf.ones([1, 9, 8])).shape
    TensorShape([1, 9, 8])
    """

    is_causal = True

    stride: int
    summary: int = 1
    hop: int | None = None

    def __post_init__(self):
        if not 1 <= self.summary <= self.stride or self.hop not in (None, 1, 2):
            raise ValueError(
                "summary must be at least 1 and at most the stride, and hop 1, 2, or None for "
                f"both. Received: stride={self.stride}, summary={self.summary}, hop={self.hop!r}"
            )

    def attend(self, query, keys, values, mask, causal, normalize):
        return fixed_attention(
            query, keys, values, self.stride, self.summary, self.hop, mask, normalize
        )

    def sees(self, query, keys, slots):
        own, others = slots.query_steps(query)[:, None], slots.key_steps(keys)
        near = own // self.stride == others // self.stride
        far = others % self.stride >= self.stride - self.summary
        return _of_hop(self.hop, near, far) & (others <= own)


def _of_hop(hop, near, far):
    return near | far if hop is None else (near, far)[hop - 1]
