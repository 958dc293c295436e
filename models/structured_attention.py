"""A classifier with structured self-attention (Lin et al., 2017): r views of a sentence.

    H  = [LSTM->(E x); LSTM<-(E x)]                       [n, 2u]
    A  = softmax over the n words of W_s2 tanh(W_s1 H^T)  [r, n]
    M  = A H                                              [r, 2u]
    p  = softmax(W_o relu(W_h M + b_h) + b_o)             M as one vector of 2u r numbers
    loss += penalty * mean over the batch of ||A A^T - I||_F^2

The penalty makes the r rows attend to few and different words.

`python -m models.structured_attention` finds three words far apart, and draws
`structured_attention.png`.
"""

from typing import Any

import keras
import numpy as np

from keras_attention.backend.keras import build
from keras_attention.layers import Dropout, StructuredSelfAttention
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.seq2seq import RNN
from keras_attention.training import TokenCrossentropy
from models._base import check_sizes
from models._text import TextClassifier


@keras.saving.register_keras_serializable("keras_attention")
class StructuredAttentionClassifier(TextClassifier):
    """Classify sentences by several weighted sums of their states.

    Call: `model(tokens [B, S]) -> logits [B, labels]`, ids with `pad_id` on the right. Train it
    with `TokenCrossentropy()` and labels [B].

    Args:
        vocab_size: number of ids.
        labels: number of labels.
        embedding_width: of the word vectors.
        units: u, of the LSTM in each direction.
        attention_units: d_a, rows of W_s1.
        hops: r.
        hidden_units: rows of W_h.
        penalty: its weight; the paper's is 1 (0.3 for SNLI), 0 is none.
        dropout: of the word vectors and of the hidden layer.

    Ids are integers, or floats that are whole numbers. Raises ValueError for others, in a graph
    InvalidArgumentError, and for sizes below 1, or a penalty or dropout out of range.

    >>> import tensorflow as tf
    >>> model = StructuredAttentionClassifier(20, 2, 8, units=4, hops=3, hidden_units=5)
    >>> tokens = tf.constant([[5, 6, 7], [8, 0, 0]])
    >>> model(tokens).shape, model.attention(tokens).shape
    (TensorShape([2, 2]), TensorShape([2, 3, 3]))
    """

    def __init__(
        self,
        vocab_size: int,
        labels: int,
        embedding_width: int = 100,
        units: int = 300,
        attention_units: int = 350,
        hops: int = 30,
        hidden_units: int = 3000,
        penalty: float = 1.0,
        dropout: float = 0.5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._config = check_sizes(
            vocab_size=vocab_size, labels=labels, embedding_width=embedding_width, units=units,
            attention_units=attention_units, hops=hops, hidden_units=hidden_units, dropout=dropout,
        ) | {"penalty": penalty}  # fmt: skip
        self.logits_width = labels
        policy = self.dtype_policy
        self.embedding = self._embedding(vocab_size, embedding_width)
        self.encoder = keras.layers.Bidirectional(
            RNN(keras.layers.LSTMCell(units, dtype=policy), return_sequences=True, dtype=policy),
            dtype=policy,
        )
        self.pool = StructuredSelfAttention(hops, attention_units, penalty, dtype=policy)
        self.flatten = keras.layers.Flatten(dtype=policy)
        self.hidden = keras.layers.Dense(hidden_units, "relu", dtype=policy)
        self.dropout = Dropout(dropout, dtype=policy)
        self.output_layer = keras.layers.Dense(labels, dtype=policy)

    def call(self, tokens, training=None):
        steps, mask = self._encode(tokens, training)
        hidden = self.hidden(self.flatten(self.pool(steps, mask=mask)))
        return dense_logits(self.output_layer, self.dropout(hidden, training=training))

    def attention(self, tokens) -> Any:
        """A [B, r, S], 0 on padding."""
        steps, mask = self._encode(tokens, False)
        return self.pool(steps, mask=mask, return_weights=True)[1]

    def _encode(self, tokens, training):
        self.build()
        ids = self.ids_of(tokens, "tokens")
        words, mask = self.dropout(self.embedding(ids), training=training), ids != self.pad_id
        return self.encoder(words, mask=mask, training=training), mask

    def _build_parts(self):
        config = self._config
        build(self.embedding, (None, None))  # each part may be built already
        build(self.encoder, (None, None, config["embedding_width"]))
        build(self.pool, (None, None, 2 * config["units"]))
        build(self.hidden, (None, 2 * config["units"] * config["hops"]))
        build(self.output_layer, (None, config["hidden_units"]))


WORDS, KINDS, KEYS, VOCABULARY = 60, 3, 4, 100


def three_keys(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sentences of 60 words, with one of 4 key words of each of 3 kinds; all else is noise.

    The label is the number, 0 .. 63, that the three key words spell.

    -> tokens [N, 60], labels [N], int32.
    """
    tokens = rng.integers(1 + KINDS * KEYS, VOCABULARY, (count, WORDS))
    keys = rng.integers(0, KEYS, (count, KINDS))
    places = np.argsort(rng.random(tokens.shape), 1)[:, :KINDS]
    np.put_along_axis(tokens, places, 1 + np.arange(KINDS) * KEYS + keys, 1)
    labels = keys @ KEYS ** np.arange(KINDS)
    return tokens.astype(np.int32), labels.astype(np.int32)


def overlap(weights) -> float:
    """The mean of A A^T off its diagonal: what the penalty makes small.  [B, r, S] -> float."""
    weights = np.asarray(weights)
    products = weights @ weights.transpose(0, 2, 1)
    return float(products[:, ~np.eye(products.shape[1], dtype=bool)].mean())


def main() -> None:
    """Train, draw the rows of A of a new sentence, and print how many new labels are right."""
    from keras_attention.visualize import heat_map, save

    rng = np.random.default_rng(0)
    model = StructuredAttentionClassifier(
        VOCABULARY, KEYS**KINDS, 32, units=8, attention_units=32, hops=8, hidden_units=128,
        penalty=0.1, dropout=0.0,
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(3e-3), TokenCrossentropy())
    tokens, labels = three_keys(8000, rng)
    model.fit(tokens, labels, batch_size=64, epochs=3, verbose=2)
    tokens, labels = three_keys(1000, rng)
    keys = [f"{kind}{key}" for kind in "ABC" for key in range(KEYS)]
    names = ["", *keys, *(f"w{word}" for word in range(1 + len(keys), VOCABULARY))]
    shown = heat_map(model.attention(tokens[:1])[0], [names[token] for token in tokens[0]])
    save(shown, "structured_attention.png")
    right = np.mean(model.predict(tokens, verbose=0).argmax(1) == labels)
    print(f"structured_attention.png; overlap of rows: {overlap(model.attention(tokens)):.3f}")
    print(f"accuracy: {right:.4f}")


if __name__ == "__main__":
    main()
