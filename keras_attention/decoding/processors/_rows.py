"""The state of logits processors: tensors with a row for each hypothesis."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.decoding.processors._log_probs import vocabulary
from keras_attention.decoding.processors._settings import static_value
from keras_attention.decoding.processors.logits_processor import SearchInfo


def per_hypothesis(search: SearchInfo, value: int) -> tf.Tensor:
    """The same value for each hypothesis.  -> [N] int32."""
    return tf.fill([search.batch_size * search.beam_width], value)


def check_sources(shape: tf.TensorShape, search: SearchInfo, name: str) -> None:
    """ValueError unless the shape is [B, ...]."""
    batch = static_value(search.batch_size)
    if shape[0] is not None and batch is not None and shape[0] != batch:
        raise ValueError(
            f"{name} needs one entry for each of the B = {batch} sources. "
            f"Received: shape {tuple(shape)}"
        )


def per_row(value: Any, search: SearchInfo, name: str) -> tf.Tensor:
    """A scalar, or values [B] or [B, ...], one for each source -> [N, ...] int32."""
    value = tf.cast(value, tf.int32)
    if value.shape.rank == 0:
        return tf.fill([search.batch_size * search.beam_width], value)
    check_sources(value.shape, search, name)
    return tf.repeat(value, search.beam_width, axis=0)


def padded(table: Any, search: SearchInfo, name: str) -> tf.Tensor:
    """A table [P], or [B, P] for each source -> [N, P + 1] int32, with a last column of -1."""
    table = tf.cast(table, tf.int32)
    if table.shape.rank == 1:
        table = tf.repeat(table[None], search.batch_size, axis=0)
    return tf.pad(per_row(table, search, name), [[0, 0], [0, 1]], constant_values=-1)


def prompt_lengths(search: SearchInfo) -> Any:
    """The number of tokens of each prompt.  -> [B] int32, or 0 without prompts."""
    if search.prompt is None:
        return 0
    return tf.reduce_sum(tf.cast(search.prompt >= 0, tf.int32), 1)


def gather_at(table: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """The entry of each row at its position, clipped to the table.  [N, P], [N] -> [N]."""
    position = tf.clip_by_value(position, 0, tf.shape(table)[1] - 1)
    return tf.gather(table, position[:, None], batch_dims=1)[:, 0]


class Progress(NamedTuple):
    """The length of each answer, the end token, and further state of a processor."""

    length: tf.Tensor  # [N] int32: number of tokens, -1 before the start token
    end: tf.Tensor  # [N] int32: the end token
    extra: Any = ()  # tensors [N, ...]

    @classmethod
    def first(cls, search: SearchInfo, extra: Any = ()) -> "Progress":
        return cls(per_hypothesis(search, -1), per_hypothesis(search, search.end_id), extra)

    def step(self, tokens: tf.Tensor) -> "Progress":
        return self._replace(length=self.length + 1)

    def is_end(self, log_probs: tf.Tensor) -> tf.Tensor:
        """[N, V] -> [V] bool."""
        return vocabulary(log_probs) == tf.reduce_max(self.end)  # no first row in an empty batch


class History(NamedTuple):
    """The tokens of the answers so far."""

    tokens: tf.Tensor  # [N, T] int32, zeros after the last token
    length: tf.Tensor  # [N] int32: number of tokens, -1 before the start token

    @classmethod
    def empty(cls, search: SearchInfo, steps: Any) -> "History":
        return cls(
            tf.zeros([search.batch_size * search.beam_width, steps], tf.int32),
            per_hypothesis(search, -1),
        )

    def append(self, tokens: tf.Tensor) -> "History":
        # At length -1, that of the start token, nothing is written.
        now = tf.range(tf.shape(self.tokens)[1]) == self.length[:, None]
        return History(tf.where(now, tokens[:, None], self.tokens), self.length + 1)
