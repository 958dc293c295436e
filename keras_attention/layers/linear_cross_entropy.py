"""An output layer that computes its loss without its logits."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import build, deserialize, is_plain_dense, serialize
from keras_attention.functional.linear_cross_entropy import linear_cross_entropy
from keras_attention.functional.projection import Projection, remember
from keras_attention.functional.token_means import mean_of_total, token_weights
from keras_attention.layers._base import Layer
from keras_attention.layers.embeddings import TiedEmbedding


@keras.saving.register_keras_serializable("keras_attention")
class LinearCrossEntropy(Layer):
    """A linear output layer and the mean cross-entropy of its tokens (Hsu et al., 2024).

        loss = sum_n w_n (-log softmax(h_n W + b)[y_n]) / sum_n w_n

    The loss is computed in chunks of tokens, without those whose weight is 0: see
    `functional.linear_cross_entropy`. The logits of all tokens, [..., V], are never in memory.

    Args:
        vocab_size: V. Not with `tied_to`.
        use_bias: whether there is a bias b [V].
        tied_to: an `Embedding` or `TiedEmbedding` whose matrix [V, D] is W transposed, or None for
            an own W [D, V].
        label_smoothing: of the loss: see `training.TokenCrossentropy`.
        kernel_initializer, bias_initializer: of W and b.

    Call: `(hidden [..., D], targets [...], sample_weight=None)` -> loss, a scalar, float32 or
    wider. `sample_weight` is 0 on padding; [B, 1] is one number per sentence. Tokens that the Keras
    mask of `hidden` hides do not count; without any token the loss is 0. Over the replicas of
    `tf.distribute` it is the mean over all their tokens. Pass it to `add_loss` of a model, or
    differentiate it. With `return_tokens` also the `functional.LinearCrossEntropyOutput`, with
    log p and correctness of each token.

    Call without targets, or `logits(hidden)`: the logits [..., V], to search with or to return from
    a model. In a graph `training.TokenCrossentropy`, `Perplexity` and `TokenAccuracy` of them are
    computed without them, so `compile(**token_objective())` needs no other change.

    Raises ValueError for both or neither of `vocab_size` and `tied_to`, for shapes that do not fit,
    and the errors of `TokenCrossentropy`.

    >>> output = LinearCrossEntropy(4, kernel_initializer="zeros")
    >>> targets, weights = tf.constant([[1, 3, -1]]), tf.constant([[1.0, 1.0, 0.0]])
    >>> round(float(output(tf.ones([1, 3, 2]), targets, weights)), 4)
    1.3863
    >>> output.logits(tf.ones([1, 3, 2])).shape
    TensorShape([1, 3, 4])
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        use_bias: bool = True,
        tied_to: Any = None,
        label_smoothing: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if (vocab_size is None) == (tied_to is None):
            raise ValueError(
                "Expected vocab_size or tied_to, not both. Received: "
                f"vocab_size={vocab_size}, tied_to={tied_to}"
            )
        if vocab_size is not None and vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1. Received: vocab_size={vocab_size}")
        if tied_to is not None and not isinstance(tied_to, (keras.layers.Embedding, TiedEmbedding)):
            raise ValueError(
                "tied_to must be a keras.layers.Embedding or a TiedEmbedding. Received: "
                f"tied_to={tied_to!r}"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                "label_smoothing must be a share of at least 0 and below 1. Received: "
                f"label_smoothing={label_smoothing}"
            )
        self.vocab_size, self.use_bias, self.tied_to = vocab_size, use_bias, tied_to
        self.label_smoothing = label_smoothing
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.supports_masking = True
        self.kernel = self.bias = None

    def build(self, hidden_shape, *_, **__) -> None:
        """W, if it is not tied, and b."""
        width, size = hidden_shape[-1], self.vocab_size
        if width is None:
            raise ValueError(f"hidden must be [..., D] with a known D. Received: {hidden_shape}")
        if self.tied_to is not None:
            build(self.tied_to, (None, None))
            size = self.tied_to.embeddings.shape[0]
        else:
            self.kernel = self.add_weight(
                shape=(width, size), initializer=self.kernel_initializer, name="kernel"
            )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(size,), initializer=self.bias_initializer, name="bias"
            )
        self.built = True

    def call(self, hidden, targets=None, sample_weight=None, mask=None, return_tokens=False) -> Any:
        """See the class."""
        if targets is None:
            logits = self._logits(hidden)
            if mask is not None:
                logits._keras_mask = mask  # noqa: SLF001
            return logits
        matrix, transposed = self._matrix()
        targets = tf.convert_to_tensor(targets)
        if targets.shape.rank == hidden.shape.rank and targets.shape[-1] == 1:
            targets = tf.squeeze(targets, -1)
        weights, shown = token_weights(targets, sample_weight, mask)
        found = linear_cross_entropy(
            hidden, matrix, targets, self.bias, weights, self.label_smoothing, transposed
        )
        loss = mean_of_total(found.total, weights, shown, "mean_with_sample_weight")
        return (loss, found) if return_tokens else loss

    def logits(self, hidden):
        """[..., D] -> [..., V], in the layer's compute dtype."""
        return self(hidden)

    def _logits(self, hidden):
        matrix, transposed = self._matrix()
        matrix = tf.cast(matrix, hidden.dtype)
        rows = tf.matmul(tf.reshape(hidden, [-1, hidden.shape[-1]]), matrix, transpose_b=transposed)
        if self.bias is not None:
            rows = tf.nn.bias_add(rows, tf.cast(self.bias, rows.dtype))
        projection = Projection(hidden, matrix, self.bias, transposed)
        logits = tf.reshape(rows, projection.shape())
        return remember(tf.ensure_shape(logits, [*hidden.shape[:-1], rows.shape[-1]]), projection)

    def _matrix(self):
        """The matrix, and whether it is [V, D]."""
        if self.tied_to is None:
            return tf.convert_to_tensor(self.kernel), False
        return tf.convert_to_tensor(self.tied_to.embeddings), True

    def compute_mask(self, hidden, previous_mask=None, **_):
        """None, because a loss has no tokens; `call` sets that of logits."""

    def get_config(self):
        own = {
            "vocab_size": self.vocab_size,
            "use_bias": self.use_bias,
            "tied_to": serialize(self.tied_to),
            "label_smoothing": self.label_smoothing,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "tied_to": deserialize(config["tied_to"])})


def dense_logits(layer: Any, hidden: Any) -> Any:
    """The output of a Dense layer [..., D] -> [..., V], which remembers its projection."""
    logits = layer(hidden)
    if not is_plain_dense(layer) or layer.activation is not keras.activations.linear:
        return logits
    hidden = tf.cast(hidden, layer.compute_dtype)
    return remember(logits, Projection(hidden, layer.kernel, layer.bias))
