"""Bi-affine relation attention network (Verga et al., 2018): relations of a whole document.

    x_i = sqrt(D) E[token_i] + P_i
    m   = LN(x + MultiHead(x, x, x))          t = C_1(relu(C_5(relu(C_1(m)))))
    b   = LN(m + t)                           B of these blocks; C_k is a convolution of width k
    e_i^head = W_1 relu(W_0 b_i)    e_j^tail likewise
    A_ij^r   = [e_i^head; 1] L^r [e_j^tail; 1]                              a score of two tokens
    score^r  = log sum over i in P^head, j in P^tail of exp(A_ij^r)         of two entities

P^head and P^tail are the tokens of all mentions of the two entities. A linear layer on b tags the
entities, trained together with the relations. The authors' program computes LN(t) instead of
LN(m + t), and has relu in other places; this is the paper's model.

`python -m models.bran` learns relations that are stated by an alias, and draws `bran.png`.
"""

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build, track
from keras_attention.functional import as_ids
from keras_attention.layers import (
    BiaffineScore,
    ConvolutionalFeedForward,
    Dropout,
    FeedForward,
    MultiHeadAttention,
    PositionEmbedding,
    Residual,
    TiedEmbedding,
)
from keras_attention.training import TokenCrossentropy
from models._aliases import VOCABULARY, documents, f1, words
from models._base import ModelOfIds, check_sizes
from models._text import in_range, known_ids


@keras.saving.register_keras_serializable("keras_attention")
class BRAN(ModelOfIds):
    """Score the relations of pairs of entities, and tag the entities.

    Call: `model((tokens [B, S], heads [B, P, I], tails [B, P, J]))` -> {"relations": [B, P, R],
    "tags": [B, S, N]}, logits. `tokens` are ids with `pad_id` on the right; `heads` are the
    positions in them of all mentions of the first entity of each of P pairs, `tails` those of the
    second; -1 is padding. A pair of padding has scores of 0. Train it with `TokenCrossentropy()`
    for both, labels [B, P] and [B, S], and weights that are 0 on padding.

    Args:
        vocab_size: number of ids.
        relations: R, with the one of "no relation".
        tags: N.
        width: D.
        blocks: B.
        heads: of the attention; 0 is the paper's ablation "CNN only".
        filter_width: of the middle convolution; 1 is the ablation "no width-5".
        ff_width: filters of the first two convolutions; default 4 D.
        max_length: number of learned positions.
        dropout: of the embeddings and of every sublayer.
        word_dropout: share of the tokens that become `unknown_id` in training.

    Raises ValueError for other ids and positions (in a graph InvalidArgumentError), sizes below 1,
    and texts longer than `max_length`.

    >>> model = BRAN(20, relations=3, tags=5, width=8, blocks=1, heads=2, max_length=6)
    >>> tokens, heads, tails = [[5, 6, 7, 8]], [[[0, 2], [1, -1]]], [[[3], [3]]]
    >>> found = model(tuple(map(tf.constant, (tokens, heads, tails))))
    >>> found["relations"].shape, found["tags"].shape
    (TensorShape([1, 2, 3]), TensorShape([1, 4, 5]))
    """

    pad_id, unknown_id = 0, 1
    ids_rank = (2, 3, 3)

    def __init__(
        self,
        vocab_size: int,
        relations: int,
        tags: int,
        width: int = 64,
        blocks: int = 2,
        heads: int = 4,
        filter_width: int = 5,
        ff_width: int | None = None,
        max_length: int = 1024,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._config = check_sizes(
            vocab_size=vocab_size, relations=relations, tags=tags, width=width, blocks=blocks,
            filter_width=filter_width, ff_width=ff_width or 4 * width, max_length=max_length,
            dropout=dropout, word_dropout=word_dropout,
        ) | {"heads": heads}  # fmt: skip
        policy = self.dtype_policy
        self.embedding = TiedEmbedding(vocab_size, width, dtype=policy)
        self.positions = PositionEmbedding("learned", max_length, dtype=policy)
        self.dropout = Dropout(dropout, dtype=policy)
        self.word_dropout = Dropout(word_dropout, dtype="float32")
        self.sublayers: list[Any] = []  # attention and convolutions in turn
        for _ in range(blocks):
            if heads:
                self.sublayers.append(MultiHeadAttention(heads, use_bias=False, dtype=policy))
            self.sublayers.append(
                ConvolutionalFeedForward(ff_width or 4 * width, filter_width, dtype=policy)
            )
        self.residuals = [Residual("post", dropout, dtype=policy) for _ in self.sublayers]
        track(self, "sublayer", self.sublayers)  # tf.train.Checkpoint sees into no list
        track(self, "residual", self.residuals)
        self.head, self.tail = (FeedForward(width, dtype=policy) for _ in range(2))
        self.biaffine = BiaffineScore(relations, dtype=policy)
        self.tag_layer = keras.layers.Dense(tags, dtype=policy)

    def call(self, inputs, training=None):
        scores, mask, b = self._scores(inputs, training)
        pooled = tf.reduce_logsumexp(tf.where(mask, scores, scores.dtype.min), [-2, -1])
        pooled = tf.where(tf.reduce_any(mask, [-2, -1]), pooled, 0.0)
        return {"relations": pooled, "tags": self.tag_layer(b)}

    def mention_scores(self, inputs) -> tf.Tensor:
        """A_ij^r of all mentions of the pairs, [B, P, R, I, J]; -inf on padding."""
        scores, mask, _ = self._scores(inputs, False)
        return tf.where(mask, scores, -np.inf)

    def _scores(self, inputs, training):
        self.build()
        tokens, heads, tails = inputs
        tokens = known_ids(as_ids(tokens, "tokens", "B S"), self.embedding.vocab_size, "tokens")
        b = self._encode(tokens, training)
        heads, head_mask = self._mentions(self.head(b), heads, "heads")
        tails, tail_mask = self._mentions(self.tail(b), tails, "tails")
        size, (i, j) = tf.shape(heads)[:2], (tf.shape(x)[2] for x in (heads, tails))
        flat = (tf.reshape(x, [-1, n, x.shape[-1]]) for x, n in ((heads, i), (tails, j)))
        scores = self.biaffine(*flat)  # [B P, R, I, J]
        scores = tf.reshape(scores, tf.concat([size, [self._config["relations"], i, j]], 0))
        mask = head_mask[:, :, None, :, None] & tail_mask[:, :, None, None, :]
        return scores, mask, b

    def _encode(self, tokens, training):
        """[B, S] -> b [B, S, D]."""
        mask = tokens != self.pad_id
        if training and self.word_dropout.rate:
            kept = self.word_dropout(tf.ones(tf.shape(tokens)), training=True) > 0
            tokens = tf.where(kept | ~mask, tokens, self.unknown_id)
        x = self.dropout(self.positions(self.embedding(tokens)), training=training)
        for sublayer, residual in zip(self.sublayers, self.residuals):
            layer = functools.partial(sublayer, mask=mask)
            x = residual(x, sublayer=layer, training=training)
        return x

    def _mentions(self, steps, positions, name):
        """The steps [B, S, D] at positions [B, P, I] -> [B, P, I, D], and where one is."""
        positions = as_ids(positions, name, "B P I", -1)
        rule = f"{name} must be positions of the tokens, or -1 for padding"
        positions = in_range(positions, -1, tf.shape(steps)[1] - 1, rule)
        return tf.gather(steps, tf.maximum(positions, 0), batch_dims=1), positions >= 0

    def _build_parts(self):
        steps = (None, None, self._config["width"])
        stack = (self.embedding, self.positions, *self.sublayers, *self.residuals)
        for layer in (*stack, self.head, self.tail, self.tag_layer):
            build(layer, steps)
        build(self.biaffine, steps, steps)

    def compute_output_shape(self, input_shape) -> dict:
        """Shapes of tokens, heads and tails -> those of the logits."""
        tokens, heads, _ = input_shape
        return {
            "relations": (*heads[:2], self._config["relations"]),
            "tags": (*tokens, self._config["tags"]),
        }


def main() -> None:
    """Train, draw p(relation) of the pairs of a document, and print F1 of new ones."""
    from keras_attention.visualize import head_maps, save

    rng = np.random.default_rng(0)
    model = BRAN(VOCABULARY, 3, 3, width=32, ff_width=64, max_length=64)
    both = {"relations": TokenCrossentropy(), "tags": TokenCrossentropy()}
    model.compile(keras.optimizers.Adam(2e-3), both)
    model.fit(*documents(4000, rng), batch_size=32, epochs=4, verbose=2)
    inputs, targets = documents(500, rng)
    scores = model.predict(inputs, verbose=0)["relations"]
    n = int(np.argmax([{1, 2} <= set(row) for row in targets["relations"]]))  # has both verbs
    shares = keras.ops.softmax(scores[n]).numpy()[:, 1:].T.reshape(2, 2, 2)  # [verb, head, tail]
    heads, tails = (words(inputs[0][n][side[n, :, 0]]) for side in inputs[1:])
    save(head_maps(shares, tails[:2], heads[::2], ["verb1", "verb2"]), "bran.png")
    print(f"bran.png\nF1: {f1(scores.argmax(-1), targets['relations']):.2f}")


if __name__ == "__main__":
    main()
