"""Hierarchical attention: over words of a sentence, then over sentences of a document."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.saving import deserialize, listed_cells, serialize, track
from keras_attention.functional.masks import zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.pooling import AttentionPooling, StepPooling


@keras.saving.register_keras_serializable("keras_attention")
class HierarchicalAttention(Layer):
    """A document as one vector: attention over words, then over sentences (Yang et al., 2016).

    Word encoder, `AttentionPooling`, sentence encoder, `AttentionPooling`, each with its own
    weights. In the paper both encoders are `Bidirectional(GRU(50, return_sequences=True))` and
    units is 100.

    Args:
        word_encoder: layer [N, S, D] -> [N, S, D'] that takes a `mask`, or None for the words
            themselves.
        sentence_encoder: the same for the vectors of the sentences.
        units: width in which steps are compared with the two queries.
        pooling: of both levels: "attention"; or "mean" or "max" of the steps, the paper's HN-AVE
            and HN-MAX, which have no queries.

    Call: `(inputs [B, L, S, D], mask=None, return_weights=False)`, L sentences of S words
    -> [B, D'']; with `return_weights` also the weights of the sentences [B, L] and of their words
    [B, L, S]. `mask` [B, L, S], boolean, True = a word; without one, the Keras mask of the inputs.
    A sentence without words gets no weight.

    Raises ValueError for units below 1, another pooling, inputs of another rank, and weights of
    a maximum.

    >>> encoder = keras.layers.GRU(6, return_sequences=True)
    >>> document, sentences, words = HierarchicalAttention(encoder, None, 8)(
    ...     tf.ones([2, 3, 5, 4]), return_weights=True
    ... )
    >>> document.shape, sentences.shape, words.shape
    (TensorShape([2, 6]), TensorShape([2, 3]), TensorShape([2, 3, 5]))
    """

    def __init__(
        self,
        word_encoder: Any,
        sentence_encoder: Any,
        units: int = 100,
        pooling: str = "attention",
        **kwargs,
    ):
        super().__init__(**kwargs)
        for encoder in (word_encoder, sentence_encoder):
            if not (encoder is None or isinstance(encoder, keras.layers.Layer)):
                raise ValueError(f"An encoder must be a layer, or None. Received: {encoder!r}")
        if pooling not in ("attention", "mean", "max"):
            raise ValueError(
                f"pooling must be 'attention', 'mean' or 'max'. Received: pooling={pooling!r}"
            )
        self.units, self.pooling = units, pooling
        self.supports_masking = True
        self.word_encoder, self.sentence_encoder = word_encoder, sentence_encoder
        track(self, "word_encoder", listed_cells(word_encoder))
        track(self, "sentence_encoder", listed_cells(sentence_encoder))
        policy = self.dtype_policy
        self.word_pooling, self.sentence_pooling = (
            AttentionPooling(units, dtype=policy)
            if pooling == "attention"
            else StepPooling(pooling, dtype=policy)
            for _ in range(2)
        )

    def build(self, input_shape) -> None:
        """Both levels."""
        check_shapes(inputs=("B L S D", input_shape))
        width = input_shape[-1]
        levels = (
            (self.word_encoder, self.word_pooling),
            (self.sentence_encoder, self.sentence_pooling),
        )
        for encoder, pooling in levels:
            shape = (None, None, width)
            if encoder is not None:
                if not encoder.built:
                    encoder.build(shape)
                encoded = encoder.compute_output_shape(shape)
                check_shapes(**{f"the output of {encoder.name}": ("N S D", encoded)})
                width = encoded[-1]
            pooling.build((None, None, width))
        self.built = True

    def call(self, inputs, mask=None, return_weights=False) -> Any:
        """See the class."""
        check_shapes(inputs=("B L S D", inputs), mask=("B L S", mask))
        batch, sentences, steps = tf.unstack(tf.shape(inputs)[:3])
        if mask is None:
            mask = tf.ones([batch, sentences, steps], tf.bool)
        mask = tf.cast(mask, tf.bool)
        words = tf.reshape(zero_masked(inputs, mask), [batch * sentences, steps, inputs.shape[-1]])
        words, on_words = self._level(
            self.word_encoder, self.word_pooling, words, tf.reshape(mask, [-1, steps]),
            return_weights,
        )  # fmt: skip
        vectors = tf.reshape(words, [batch, sentences, words.shape[-1]])
        document, on_sentences = self._level(
            self.sentence_encoder, self.sentence_pooling, vectors, tf.reduce_any(mask, -1),
            return_weights,
        )  # fmt: skip
        if not return_weights:
            return document
        return document, on_sentences, tf.reshape(on_words, tf.shape(mask))

    @staticmethod
    def _level(encoder, pooling, steps, mask, return_weights):
        if encoder is not None:
            steps = encoder(steps, mask=mask)
        pooled = pooling(steps, mask=mask, return_weights=return_weights)
        return pooled if return_weights else (pooled, None)

    def compute_mask(self, inputs, previous_mask=None) -> None:
        """The output has no masked axis."""

    def get_config(self) -> dict:
        encoders = {name: getattr(self, name) for name in ("word_encoder", "sentence_encoder")}
        saved = {n: e and serialize(e) for n, e in encoders.items()}
        return {**super().get_config(), **saved, "units": self.units, "pooling": self.pooling}

    @classmethod
    def from_config(cls, config):
        names = ("word_encoder", "sentence_encoder")
        return cls(**{**config, **{name: deserialize(config[name]) for name in names}})
