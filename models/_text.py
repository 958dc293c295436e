"""What the models that give one label to a text have in common."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional import as_ids
from models._base import ModelOfIds


class TextClassifier(ModelOfIds):
    """From ids of the axes `ids_axes`, or from a pair of such texts, to logits [B, labels].

    A subclass has `_config` with `vocab_size` and `labels`, an `embedding`, and `_build_parts()`.
    """

    pad_id = 0
    ids_axes = "B S"

    def _embedding(self, vocab_size: int, width: int, stddev: float = 0.1) -> Any:
        """Word vectors, initially N(0, stddev^2)."""
        initializer = keras.initializers.RandomNormal(stddev=stddev)
        return keras.layers.Embedding(vocab_size, width, initializer, dtype=self.dtype_policy)

    def ids_of(self, ids: Any, name: str) -> tf.Tensor:
        """Ids of the vocabulary.  Raises ValueError for others, in a graph InvalidArgumentError."""
        return known_ids(
            as_ids(ids, name, self.ids_axes, self.pad_id), self.embedding.input_dim, name
        )

    def compute_output_shape(self, input_shape) -> tuple:
        """The shape of the ids, or of each of the pair -> [B, labels]; None is an unknown size."""
        texts = [input_shape] if self.inputs_count == 1 else input_shape
        for shape in texts:
            if len(shape) != self.ids_rank:
                axes = ", ".join(self.ids_axes.split())
                raise ValueError(f"Ids must be [{axes}]. Received: shape {tuple(shape)}")
        return (texts[0][0], self.logits_width)


def known_ids(ids: tf.Tensor, vocab_size: int, name: str) -> tf.Tensor:
    """The ids, after checking that they are 0 .. vocab_size - 1: see `in_range`."""
    return in_range(ids, 0, vocab_size - 1, f"{name} must be ids of the vocabulary")


def in_range(ids: tf.Tensor, lowest: Any, highest: Any, rule: str) -> tf.Tensor:
    """The ids, after checking that they are lowest .. highest.

    Raises ValueError with the rule, in a graph InvalidArgumentError; XLA cannot raise it.
    """
    highest = tf.cast(highest, ids.dtype)
    inside = tf.reduce_all((ids >= lowest) & (ids <= highest))
    known = tf.get_static_value(inside)
    if known is not None and not known:
        values, last = tf.get_static_value(ids), tf.get_static_value(highest)
        raise ValueError(
            f"{rule}, {lowest} .. {last}. Received: ids from {values.min()} to {values.max()}"
        )
    said = [f"{rule}, from {lowest} to", highest, "Received:", ids]
    check = None if known is not None else tf.debugging.Assert(inside, said)
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(ids)
