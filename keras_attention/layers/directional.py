"""Directional self-attention with vector weights: one softmax for every feature."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional import directional, softmax
from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import finite_padding, zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


@keras.saving.register_keras_serializable("keras_attention")
class DirectionalAttention(Layer):
    """Each step attends to those before it (or after it), per feature, followed by a gate.

    (Shen et al., 2018, DiSAN, section "Directional Self-Attention".) With h_i = elu(W_h x_i + b_h),

        f(h_i, h_j) = c tanh((W_1 h_i + W_2 h_j + b) / c), a vector in R^D
        s_j = sum over i < j (backward: i > j) of softmax_i(f(h_i, h_j)) * h_i
        F = sigmoid(W_f1 s_j + W_f2 h_j + b_f)        u_j = F * h_j + (1 - F) * s_j

    The softmax is over the steps, separately for every feature; no step attends to itself. A step
    without any other, such as the first of a sentence, gets s = 0.

    Args:
        units: D of h, s and u.
        backward: attend to later steps instead of earlier ones; None: to all others.
        bound: c.

    Call: `(inputs [B, S, D'], mask=None, return_weights=False, heads=None, dependents=None)` ->
    u [B, S, D]; with `return_weights` also the weights [B, S, D, S], queries first. `mask` [B, S],
    boolean, True = visible; without one, the Keras mask of the inputs, which is forwarded. `heads`
    and `dependents` [B, S], boolean, are the queries and steps that were selected (Shen et al.,
    2018, ReSAN): a selected query attends to selected steps, another one to the mean of all. Needs
    memory for B S S D numbers.

    Raises ValueError for units or a bound of 0 or less.

    >>> forward = DirectionalAttention(4)
    >>> updated, weights = forward(tf.ones([1, 3, 2]), return_weights=True)
    >>> updated.shape, weights[0, :, 0].numpy().tolist()
    (TensorShape([1, 3, 4]), [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    """

    def __init__(self, units: int, backward: bool | None = False, bound: float = 5.0, **kwargs):
        super().__init__(**kwargs)
        if units < 1 or bound <= 0:
            raise ValueError(
                "units must be at least 1, and bound more than 0. Received: "
                f"units={units}, bound={bound}"
            )
        self.units, self.backward, self.bound = units, backward, bound
        self.supports_masking = True
        policy = self.dtype_policy
        self.project = keras.layers.Dense(units, "elu", dtype=policy)  # W_h
        self.seen = keras.layers.Dense(units, use_bias=False, dtype=policy)  # W_1
        self.looking = keras.layers.Dense(units, dtype=policy)  # W_2 and b
        self.gate = keras.layers.Dense(units, "sigmoid", dtype=policy)  # [W_f1; W_f2] and b_f

    def build(self, input_shape) -> None:
        """Four projections."""
        check_shapes(inputs=("B S D'", input_shape))
        self.project.build((None, None, input_shape[-1]))
        for layer, width in ((self.seen, 1), (self.looking, 1), (self.gate, 2)):
            layer.build((None, None, width * self.units))
        self.built = True

    def call(
        self,
        inputs,
        mask=None,
        return_weights=False,
        heads: Any = None,
        dependents: Any = None,
    ) -> Any:
        """See the class."""
        check_shapes(inputs=("B S D'", inputs), mask=("B? S", mask))
        hidden = self.project(finite_padding(inputs, mask))  # [B, S, D]
        scores, visible = self._scores(hidden), self._may_see(hidden, mask)
        if (heads is None) != (dependents is None):
            raise ValueError("heads and dependents belong together: pass both, or none.")
        if heads is not None:
            chosen = {"heads": ("B S", heads), "dependents": ("B S", dependents)}
            check_shapes(inputs=("B S D'", inputs), **chosen)
            heads = heads[:, :, None, None]
            visible &= dependents[:, None, None] | ~heads
            scores = tf.where(heads, scores, 0.0)
        weights = softmax(scores, visible)
        weights = tf.cast(weights, hidden.dtype)  # [B, S, D, S]
        attended = tf.einsum("bjdi,bid->bjd", weights, hidden)
        gate = self.gate(tf.concat([attended, hidden], -1))
        updated = gate * hidden + (1 - gate) * attended
        return (updated, weights) if return_weights else updated

    def _scores(self, hidden):
        """f(h_i, h_j) as [B, j, D, i]: the steps of the softmax are the last axis, as usual."""
        seen = tf.linalg.matrix_transpose(widen(self.seen(hidden)))[:, None]  # [B, 1, D, S]
        looking = widen(self.looking(hidden))[..., None]  # [B, S, D, 1]
        return self.bound * tf.tanh((seen + looking) / self.bound)

    def _may_see(self, hidden, mask):
        """[1 or B, j, 1, i]: i < j, or i > j, of the visible steps."""
        length = tf.shape(hidden)[1]
        directed = ~tf.eye(length, dtype=tf.bool)[None]
        if self.backward is not None:
            directed = directional(length, not self.backward)
        directed = directed[:, :, None]
        return directed if mask is None else directed & tf.cast(mask, tf.bool)[:, None, None]

    def get_config(self) -> dict:
        config = {"units": self.units, "backward": self.backward, "bound": self.bound}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("keras_attention")
class Source2Token(Layer):
    """A sentence as one vector, with a softmax for every feature (Shen et al., 2018, DiSAN).

        f(x_i) = W elu(W_1 x_i + b_1) + b, a vector        s = sum_i softmax_i(f(x_i)) * x_i

    Call: `(inputs [B, S, D], mask=None, return_weights=False)` -> [B, D]; with `return_weights`
    also the weights [B, S, D], which sum to 1 over S. `mask` [B, S], boolean, True = visible;
    without one, the Keras mask of the inputs, which is not forwarded.

    >>> Source2Token()(tf.ones([2, 3, 4])).shape
    TensorShape([2, 4])
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """Two projections, as wide as the inputs."""
        check_shapes(inputs=("B S D", input_shape))
        width = input_shape[-1]
        self.hidden = keras.layers.Dense(width, "elu", dtype=self.dtype_policy)
        self.score = keras.layers.Dense(width, dtype=self.dtype_policy)
        self.hidden.build((None, None, width))
        self.score.build((None, None, width))
        self.built = True

    def call(self, inputs, mask=None, return_weights=False) -> Any:
        """See the class."""
        check_shapes(inputs=("B S D", inputs), mask=("B? S", mask))
        inputs = zero_masked(inputs, mask)
        scores = tf.linalg.matrix_transpose(self.score(self.hidden(inputs)))  # [B, D, S]
        if mask is not None:
            mask = tf.cast(mask, tf.bool)[:, None]
        weights = tf.linalg.matrix_transpose(tf.cast(softmax(scores, mask), inputs.dtype))
        pooled = tf.reduce_sum(weights * inputs, 1)
        return (pooled, weights) if return_weights else pooled

    def compute_mask(self, inputs, previous_mask=None) -> None:
        """One vector per sentence has no mask."""


@keras.saving.register_keras_serializable("keras_attention")
class DiSAN(Layer):
    """A sentence encoder of attention only: both directions, then `Source2Token`.

    [forward_u; backward_u] of two `DirectionalAttention`, pooled (Shen et al., 2018, DiSAN).

    Args:
        units: D of each direction.
        directed: False lets both attend to all other steps: then no order of the steps is seen.

    Call: `(inputs [B, S, D'], mask=None)` -> [B, 2 D]. `mask` as in its parts.

    >>> DiSAN(4)(tf.ones([2, 3, 5])).shape
    TensorShape([2, 8])
    """

    def __init__(self, units: int, directed: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.units, self.directed = units, directed
        self.supports_masking = True
        self.forward, self.backward = (
            DirectionalAttention(units, way if directed else None, dtype=self.dtype_policy)
            for way in (False, True)
        )
        self.pool = Source2Token(dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        """Its three parts."""
        self.forward.build(input_shape)
        self.backward.build(input_shape)
        self.pool.build((*input_shape[:-1], 2 * self.units))
        self.built = True

    def call(self, inputs, mask=None) -> tf.Tensor:
        """See the class."""
        ways = [self.forward(inputs, mask=mask), self.backward(inputs, mask=mask)]
        return self.pool(tf.concat(ways, -1), mask=mask)

    def compute_mask(self, inputs, previous_mask=None) -> None:
        """One vector per sentence has no mask."""

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "directed": self.directed}
