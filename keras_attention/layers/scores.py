"""Scores with weights, for `Attention(score=...)`: `score(query, keys)` -> [B, T, S].

Scores without weights are functions: `functional.dot`, `scaled_dot`, `cosine`. All of them are
float32 or wider under any dtype policy.
"""

import keras
import tensorflow as tf

from keras_attention.functional import additive, biaffine, general, location
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


class _Score(Layer):
    """Scores have no mask of their own; that of their inputs is applied after them."""

    def compute_mask(self, inputs, previous_mask=None):
        return None


@keras.saving.register_keras_serializable("keras_attention")
class GeneralScore(_Score):
    """q·(W k) (Luong et al., 2015, eq. 8), of widths that may differ.

    Call: `(query [B, T, D], keys [B, S, D'])` -> [B, T, S].

    >>> GeneralScore()(tf.ones([1, 2, 4]), tf.ones([1, 3, 5])).shape
    TensorShape([1, 2, 3])
    """

    def build(self, query_shape, keys_shape) -> None:
        """W [D, D']."""
        shape = (query_shape[-1], keys_shape[-1])
        self.kernel = self.add_weight(shape=shape, name="kernel")
        self.built = True

    def call(self, query, keys) -> tf.Tensor:
        """See the class."""
        check_shapes(query=("B T D", query), keys=("B S D'", keys))
        return general(query, keys, self.kernel)


@keras.saving.register_keras_serializable("keras_attention")
class AdditiveScore(_Score):
    """v·tanh(q + k [+ b]) of projected queries and keys (Bahdanau et al., 2015, A.1.2).

    Call: `(query [B, T, D], keys [B, S, D])` -> [B, T, S]. Raises ValueError if widths differ.

    Args:
        use_bias: whether to add b, initially 0.

    >>> AdditiveScore()(tf.ones([1, 2, 4]), tf.ones([1, 3, 4])).shape
    TensorShape([1, 2, 3])
    """

    def __init__(self, use_bias: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.use_bias = use_bias

    def build(self, query_shape, keys_shape) -> None:
        """v [D], and b [D]."""
        if query_shape[-1] != keys_shape[-1]:
            raise ValueError(
                "additive adds query and keys: their widths D must be equal. Pass query_units and "
                f"key_units. Received: query of D={query_shape[-1]}, keys of D={keys_shape[-1]}"
            )
        width = (query_shape[-1],)
        self.v = self.add_weight(shape=width, name="v", initializer="random_normal")
        if self.use_bias:
            self.bias = self.add_weight(shape=width, name="bias", initializer="zeros")
        self.built = True

    def call(self, query, keys) -> tf.Tensor:
        """See the class."""
        check_shapes(query=("B T D", query), keys=("B S D", keys))
        return additive(query, keys, self.v, self.bias if self.use_bias else None)

    def get_config(self) -> dict:
        return {**super().get_config(), "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("keras_attention")
class LocationScore(_Score):
    """W q: a score for each position, independent of the memory (Luong et al., 2015, 3.1).

    Call: `(query [B, T, D], keys [B, S, ...])` -> [B, T, S]. Of the keys only S is used. A source
    shorter than S_max uses the first scores; positions beyond S_max get no weight.

    Args:
        max_steps: S_max. Raises ValueError if it is below 1.

    >>> LocationScore(9)(tf.ones([1, 2, 4]), tf.ones([1, 3, 5])).shape
    TensorShape([1, 2, 3])
    """

    def __init__(self, max_steps: int, **kwargs):
        super().__init__(**kwargs)
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1. Received: max_steps={max_steps}")
        self.max_steps = max_steps

    def build(self, query_shape, keys_shape=None) -> None:
        """W [D, S_max]."""
        self.kernel = self.add_weight(shape=(query_shape[-1], self.max_steps), name="kernel")
        self.built = True

    def call(self, query, keys) -> tf.Tensor:
        """See the class."""
        check_shapes(query=("B T D", query))
        return location(query, self.kernel, tf.shape(keys)[1])

    def get_config(self) -> dict:
        return {**super().get_config(), "max_steps": self.max_steps}


@keras.saving.register_keras_serializable("keras_attention")
class BiaffineScore(_Score):
    """[q; 1]·L [k; 1] (Verga et al., 2018): a bilinear score, with a term for q and one for k.

    Call: `(query [B, T, D], keys [B, S, D'])` -> [B, T, S], or [B, R, T, S] for R relations, which
    `Attention` does not support.

    Args:
        relations: R, or None for a single one without an axis. Raises ValueError if below 1.

    >>> BiaffineScore(relations=7)(tf.ones([1, 2, 4]), tf.ones([1, 3, 5])).shape
    TensorShape([1, 7, 2, 3])
    """

    def __init__(self, relations: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if relations is not None and relations < 1:
            raise ValueError(f"relations R must be at least 1. Received: relations={relations}")
        self.relations = relations

    def build(self, query_shape, keys_shape) -> None:
        """L [D + 1, D' + 1] or [R, D + 1, D' + 1]."""
        shape = (query_shape[-1] + 1, keys_shape[-1] + 1)
        shape = shape if self.relations is None else (self.relations, *shape)
        self.kernel = self.add_weight(shape=shape, name="kernel")
        self.built = True

    def call(self, query, keys) -> tf.Tensor:
        """See the class."""
        check_shapes(query=("B T D", query), keys=("B S D'", keys))
        return biaffine(query, keys, self.kernel)

    def get_config(self) -> dict:
        return {**super().get_config(), "relations": self.relations}
