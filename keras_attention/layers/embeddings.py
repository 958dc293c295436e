"""Embeddings of ids and of positions."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional.ids import as_ids
from keras_attention.functional.positions import sinusoid
from keras_attention.functional.projection import Projection, remember
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


@keras.saving.register_keras_serializable("keras_attention")
class TiedEmbedding(Layer):
    """One matrix E [V, D] for the embedding of ids and for the logits.

        ids -> sqrt(D) E[ids]          hidden -> hidden E^T

    (Vaswani et al., 2017, section 3.4; Press & Wolf, 2017.) Initialized from N(0, 1/D), so that the
    embedding and the logits of unit-variance inputs have variance one.

    Args: `vocab_size` V, `width` D; `scale=False` leaves out the factor sqrt(D).

    Call: ids [...] (see `functional.as_ids`) -> [..., D]. `logits`: [..., D] -> [..., V], with a
    bias [V] if one is given.

    >>> embedding = TiedEmbedding(10, 4)
    >>> embedding.logits(embedding(tf.constant([[1, 2, 3]]))).shape
    TensorShape([1, 3, 10])
    """

    def __init__(self, vocab_size: int, width: int, scale: bool = True, **kwargs):
        super().__init__(**kwargs)
        if vocab_size < 1 or width < 1:
            raise ValueError(
                f"V and D must be at least 1. Received: vocab_size={vocab_size}, width={width}"
            )
        self.vocab_size, self.width, self.scale = vocab_size, width, scale

    def build(self, input_shape=None) -> None:
        """The one matrix."""
        self.embeddings = self.add_weight(
            shape=(self.vocab_size, self.width),
            initializer=keras.initializers.RandomNormal(stddev=self.width**-0.5),
            name="embeddings",
        )
        self.built = True

    def call(self, ids):
        """ids [...] -> [..., D]."""
        ids = as_ids(ids)
        # Look up first: casting the whole matrix would cost more.
        rows = tf.gather(tf.convert_to_tensor(self.embeddings.value), ids)
        rows = tf.cast(rows, self.compute_dtype)
        return rows * tf.cast(self.width**0.5, rows.dtype) if self.scale else rows

    def logits(self, hidden, bias=None):
        """[..., D] -> [..., V], in the dtype of `hidden`; bias [V] or None."""
        if not self.built:
            self.build()
        matrix = tf.cast(self.embeddings.value, hidden.dtype)
        flat = tf.matmul(tf.reshape(hidden, [-1, self.width]), matrix, transpose_b=True)
        logits = tf.reshape(flat, tf.concat([tf.shape(hidden)[:-1], [self.vocab_size]], 0))
        logits = tf.ensure_shape(logits, [*hidden.shape[:-1], self.vocab_size])
        if bias is not None:
            logits += tf.cast(bias, logits.dtype)
        return remember(logits, Projection(hidden, matrix, bias, transposed=True))

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.width)

    def get_config(self):
        own = {"vocab_size": self.vocab_size, "width": self.width, "scale": self.scale}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_attention")
class PositionEmbedding(Layer):
    """Add an encoding of its position to each step: x_t + PE(t).

    Args:
        kind: "sinusoid": without weights, any length, see `functional.sinusoid` (Vaswani et al.,
            2017, section 3.5); or "learned": a vector for each of the first `max_length` positions
            (Gehring et al., 2017).
        max_length: number of learned positions.
        layout: of the sinusoid.

    Call: `(x [B, T, D], offset=0)` -> [B, T, D]; `offset`, a scalar, is the position of the first
    step. Raises ValueError for another kind, or learned positions without `max_length`; a position
    beyond the learned ones is an InvalidArgumentError.

    >>> PositionEmbedding()(tf.zeros([1, 3, 4])).shape
    TensorShape([1, 3, 4])
    """

    def __init__(
        self,
        kind: str = "sinusoid",
        max_length: int | None = None,
        layout: str = "interleaved",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if kind not in ("sinusoid", "learned"):
            raise ValueError(f"kind must be 'sinusoid' or 'learned'. Received: kind={kind!r}")
        if layout not in ("interleaved", "concatenated"):
            raise ValueError(
                f"layout must be 'interleaved' or 'concatenated'. Received: layout={layout!r}"
            )
        if kind == "learned" and (max_length is None or max_length < 1):
            raise ValueError(
                "Learned positions need max_length, how many there are. Received: "
                f"max_length={max_length}"
            )
        self.kind, self.max_length, self.layout = kind, max_length, layout
        self.supports_masking = True

    def build(self, input_shape) -> None:
        """The learned positions [max_length, D]."""
        check_shapes(x=("B T D", input_shape))
        if self.kind == "learned":
            self.positions = self.add_weight(
                shape=(self.max_length, input_shape[-1]),
                initializer=keras.initializers.RandomNormal(stddev=input_shape[-1] ** -0.5),
                name="positions",
            )
        self.built = True

    def call(self, x, offset=0):
        """[B, T, D] -> [B, T, D]."""
        return x + self.at(tf.range(tf.shape(x)[1]) + offset, x.shape[-1], x.dtype)

    def at(self, steps, width: int, dtype: Any) -> tf.Tensor:
        """The vectors of these positions.  int [...] -> [..., D]."""
        if self.kind == "sinusoid":
            return tf.cast(sinusoid(steps, width, self.layout), dtype)
        last = tf.reduce_max(steps)
        check = tf.debugging.assert_less(
            last, self.max_length, message=f"Only {self.max_length} positions were learned."
        )
        with tf.control_dependencies([] if check is None else [check]):
            rows = tf.gather(tf.convert_to_tensor(self.positions.value), steps)
        return tf.cast(rows, dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"kind": self.kind, "max_length": self.max_length, "layout": self.layout}
        return {**super().get_config(), **own}
