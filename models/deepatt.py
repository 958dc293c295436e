"""DEEPATT: semantic role labelling with deep self-attention (Tan et al., 2018).

    x_t = sqrt(D) [E_w w_t; E_m m_t] + b + timing_t    m_t = 1 at the predicate, 0 elsewhere
    y = LayerNorm(x + NonLinear(x))                    N layers, each of which begins with
    x = LayerNorm(y + MultiHead(y))                    the nonlinear sublayer
    p(tag_t) = softmax(W x_t + b)

    NonLinear(X):  rnn   LSTM_forward(X) + LSTM_backward(X)
                   cnn   (X * W) . sigmoid(X * V)      convolutions of width 3
                   ffn   relu(X W_1) W_2
    All W of the sublayers begin orthogonal.

`python -m models.deepatt` learns who did it to whom in the active and in the passive.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.functional import glu
from keras_attention.functional.masks import zero_masked
from keras_attention.layers import (
    Dropout,
    FeedForward,
    MultiHeadAttention,
    PositionEmbedding,
    Residual,
)
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.seq2seq import RNN
from keras_attention.training import InverseSquareRoot, token_objective
from models._propositions import IDS, LABELS, arrays, toy
from models._tagging import SpanTagger, span_f1

NONLINEAR = ("rnn", "cnn", "ffn")


@keras.saving.register_keras_serializable("keras_attention")
class DeepAtt(SpanTagger):
    """Tag the arguments of one predicate of each sentence.

    Call: `model((words [B, T], marks [B, T])) -> logits [B, T, L]` of the tags `tag_names`; word
    ids with `pad_id` on the right, marks 1 at the predicate and 0 elsewhere; logits of padding are
    meaningless. `return_weights=True` also returns the attention of each layer, N x [B, H, T, T].
    Train it with `compile(**token_objective(0.1))` and `fit` on `((words, marks), tags, weights)`.
    `tag((words, marks))` -> [B, T], the best tags that are valid.

    Args:
        vocab_size: V.
        labels: names of the spans, such as ["ARG0", "ARG1", "V"].
        nonlinear: the sublayer "rnn", "cnn" or "ffn".
        layers: N.
        width: D; a half of it, rounded up, is the embedding of words, the rest that of marks.
        heads: H.
        ff_width: of the hidden layer of "ffn".
        dropout: of the embeddings and of the output of every sublayer.
        attention_dropout: of the weights of the attention.

    Raises ValueError for an unknown sublayer, repeated labels, and marks other than 0 and 1.

    >>> model = DeepAtt(20, ["ARG0", "V"], layers=1, width=8, heads=2, ff_width=16)
    >>> words, marks = tf.constant([[5, 6, 7], [8, 9, 0]]), tf.constant([[0, 1, 0], [1, 0, 0]])
    >>> model((words, marks)).shape, model.tag((words, marks)).shape
    (TensorShape([2, 3, 5]), TensorShape([2, 3]))
    """

    def __init__(
        self,
        vocab_size: int,
        labels: Sequence[str],
        nonlinear: str = "ffn",
        layers: int = 10,
        width: int = 200,
        heads: int = 8,
        ff_width: int = 800,
        dropout: float = 0.2,
        attention_dropout: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if nonlinear not in NONLINEAR or layers < 1:
            raise ValueError(
                f"nonlinear must be one of {NONLINEAR}, layers at least 1. Received: "
                f"nonlinear={nonlinear!r}, layers={layers}"
            )
        self._config = dict(
            vocab_size=vocab_size, labels=list(labels), nonlinear=nonlinear, layers=layers,
            width=width, heads=heads, ff_width=ff_width, dropout=dropout,
            attention_dropout=attention_dropout,
        )  # fmt: skip
        self._set_labels(labels)
        policy, normal = self.dtype_policy, keras.initializers.RandomNormal(stddev=width**-0.5)
        word_width = width - width // 2
        self.words = keras.layers.Embedding(vocab_size, word_width, normal, dtype=policy)
        self.marks = keras.layers.Embedding(2, width // 2, normal, dtype=policy)
        self.positions = PositionEmbedding(layout="concatenated", dtype=policy)
        self.dropout = Dropout(dropout, dtype=policy)
        self.nonlinear = [self._sublayer() for _ in range(layers)]
        self.attention = [
            MultiHeadAttention(heads, dropout=attention_dropout, dtype=policy)
            for _ in range(layers)
        ]
        self.residual = [Residual("post", dropout, dtype=policy) for _ in range(2 * layers)]
        self.output_layer = keras.layers.Dense(self.logits_width, dtype=policy)

    def _sublayer(self):
        kind, width, policy = self._config["nonlinear"], self._config["width"], self.dtype_policy
        if kind == "rnn":
            rnn = RNN(keras.layers.LSTMCell(width, dtype=policy), True, dtype=policy)
            return keras.layers.Bidirectional(rnn, merge_mode="sum", dtype=policy)
        if kind == "cnn":
            return keras.layers.Conv1D(2 * width, 3, padding="same", activation=glu, dtype=policy)
        return FeedForward(self._config["ff_width"], dtype=policy)

    def call(self, inputs, training=None, return_weights=False):
        words, marks, mask = self._ids(inputs)
        x = tf.concat([self.words(words), self.marks(marks)], -1)
        x = x * self._config["width"] ** 0.5 + tf.cast(self.input_bias, x.dtype)
        x = self.dropout(self.positions(x), training=training)
        looked_at = []
        for number, (nonlinear, attention) in enumerate(zip(self.nonlinear, self.attention)):

            def process(x, layer=nonlinear):
                if isinstance(layer, keras.layers.Bidirectional):
                    return layer(x, mask=mask, training=training)
                return layer(zero_masked(x, mask))  # a convolution reaches into padding

            def attend(x, layer=attention):
                y, weights = layer(x, mask=mask, return_weights=True, training=training)
                looked_at.append(weights)
                return y

            for residual, sublayer in zip(self.residual[2 * number :], (process, attend)):
                x = residual(x, sublayer=sublayer, training=training)
        logits = dense_logits(self.output_layer, x)
        return (logits, looked_at) if return_weights else logits

    def _build_parts(self):
        x = (None, None, self._config["width"])
        build(self.words, (None, None))  # each part may be built already
        build(self.marks, (None, None))
        self.input_bias = self.add_weight(shape=x[-1:], initializer="zeros", name="input_bias")
        for layer in (*self.nonlinear, *self.attention, *self.residual, self.output_layer):
            build(layer, x)
        orthogonal = keras.initializers.Orthogonal()
        for layer in (*self.nonlinear, *self.attention):
            for weight in layer.weights:
                if len(weight.shape) > 1:
                    weight.assign(orthogonal(weight.shape))


def main() -> None:
    """Train, print F1 of new sentences, and draw the attention of the last layer."""
    from keras_attention.visualize import head_maps, save

    rng = np.random.default_rng(0)
    model = DeepAtt(2 + len(IDS), LABELS, layers=2, width=64, heads=4, ff_width=128, dropout=0.1)
    model.compile(keras.optimizers.Adam(InverseSquareRoot(2e-3, 100)), **token_objective(0.1))
    inputs, tags, weights = arrays(model, toy(12_800, rng), IDS)
    model.fit(inputs, tags, sample_weight=weights, batch_size=64, epochs=2, verbose=2)
    new = toy(500, rng)
    found = model.tag(arrays(model, new, IDS)[0])
    found = model.decode_tags(found, [len(each.words) for each in new])
    one = next(each for each in new if len(each.words) == 15)
    _, looked_at = model(arrays(model, [one], IDS)[0], return_weights=True)
    shown = [w.upper() if place == one.predicate else w for place, w in enumerate(one.words)]
    save(head_maps(looked_at[-1][0], shown, shown, columns=2), "deepatt.png")
    print("deepatt.png: the heads of the last layer")
    print(f"F1 of the arguments: {span_f1([each.tags for each in new], found)['f1']:.1f}")


if __name__ == "__main__":
    main()
