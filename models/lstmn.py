"""LSTM networks with a tape (Cheng, Dong, Lapata, 2016): a language model.

    a_i     = v . tanh(W_h h_i + W_x x_t + W_s h~_{t-1})        i < t, of the last M steps  [B, M]
    s       = softmax(a)                                                                    [B, M]
    h~_t    = sum_i s_i h_i          c~_t = sum_i s_i c_i                                   [B, d]
    i, f, o = sigmoid(W [h~_t; x_t])    c^ = tanh(W_c [h~_t; x_t])                          [B, d]
    c_t     = f * c~_t + i * c^         h_t = o * tanh(c_t)
    p(x_{t+1}) = softmax(W_o h_t)                                                           [B, V]

The layer is `layers.LSTMNCell`; `LSTMNSeq2Seq` of models/lstmn_seq2seq.py fuses it with a source.

`python -m models.lstmn` learns to recall tokens, and draws where it looks.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.functional import as_ids
from keras_attention.layers import Dropout, LSTMNCell
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.seq2seq import RNN, SearchResult, generate, projector
from keras_attention.training import token_objective
from keras_attention.visualize import heat_map, save
from models._base import ModelOfIds, check_sizes
from models._rnn import embedding


@keras.saving.register_keras_serializable("keras_attention")
class LSTMNLM(ModelOfIds):
    """Predict the next token from those before it, by an LSTMN or an LSTM.

    Call, `fit` and `generate` are those of `TransformerLM`: ids that begin with `start_id`,
    `pad_id` on the right.

    Args:
        vocab_size: V.
        units: d; the paper has 300.
        memory_length: M, the steps to attend to; None makes the model an LSTM, to compare.
        embedding_width: of the tokens; default: `units`.
        feed_summary: whether the score sees h~_{t-1}, as in the paper's equations.
        dropout: of the embeddings and of h.

    Raises ValueError for sizes below 1.

    >>> model = LSTMNLM(vocab_size=20, units=8, memory_length=10)
    >>> model(tf.constant([[1, 5, 6]])).shape
    TensorShape([1, 3, 20])
    >>> model.generate(tf.constant([[5, 6], [7, 0]]), max_length=5).ids.shape[:2]
    TensorShape([2, 1])
    """

    pad_id, start_id, end_id = 0, 1, 2

    def __init__(
        self,
        vocab_size: int,
        units: int = 300,
        memory_length: int | None = 50,
        embedding_width: int | None = None,
        feed_summary: bool = True,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._config = dict(
            vocab_size=vocab_size, units=units, memory_length=memory_length,
            embedding_width=embedding_width or units, feed_summary=feed_summary, dropout=dropout,
        )  # fmt: skip
        check_sizes(**self._config)
        self.target_vocab_size = self.logits_width = vocab_size
        dtype = self.dtype_policy
        self.embedding = embedding(vocab_size, embedding_width or units, dtype, "embedding")
        if memory_length is None:
            self.cell = keras.layers.LSTMCell(units, dtype=dtype)
        else:
            self.cell = LSTMNCell(units, memory_length, feed_summary, dtype=dtype)
        self.rnn = RNN(self.cell, return_sequences=True, dtype=dtype)
        self.dropout = Dropout(dropout, dtype=dtype)
        self.output_layer = keras.layers.Dense(vocab_size, dtype=dtype, name="output")

    def call(self, tokens_in, training=None):
        tokens_in = as_ids(tokens_in, "tokens_in", "B T", self.pad_id)
        x = self.dropout(self.embed(tokens_in), training=training)
        return self.project(self.dropout(self.rnn(x, training=training), training=training))

    def attention(self, tokens_in) -> tf.Tensor:
        """The weights s of each step over the steps before it.  [B, T] ids -> [B, T, T]."""
        self.build()
        tokens_in = as_ids(tokens_in, "tokens_in", "B T", self.pad_id)
        state, weights = self.cell.get_initial_state(batch_size=tokens_in.shape[0]), []
        length, room = tokens_in.shape[1], self._config["memory_length"]
        for t in range(length):
            x = self.embed(tokens_in[:, t])
            seen = self.cell.look_back(x, state)[2][:, max(room - t, 0) :]  # the last min(t, M)
            first = max(t - room, 0)
            weights.append(tf.pad(seen, [[0, 0], [first, length - first - seen.shape[1]]]))
            _, state = self.cell(x, state)
        return tf.stack(weights, 1)

    # -- what `generate` uses

    def encode(self, source):
        """-> (None, the empty state): a language model has no memory."""
        self.build()
        return None, self.cell.get_initial_state(batch_size=tf.shape(source)[0])

    def prompt(self, source):
        """The source of a language model is its prompt.  ids [B, P]."""
        return as_ids(source, "A prompt", "B P", self.pad_id)

    def generate(self, prompt, **settings) -> SearchResult:
        """The best continuations: see `TransformerLM.generate`."""
        return generate(self, self.prompt(prompt), **settings)

    def embed(self, tokens):
        """Ids -> inputs of the cell.  [...] -> [..., D]."""
        return self.embedding(tokens)

    def project(self, output):
        """h -> logits.  [..., d] -> [..., V]."""
        return dense_logits(self.output_layer, output)

    def projection(self):
        """`project`, with the part that can be done before a loop already done."""
        return projector(self.output_layer.kernel, self.output_layer.bias, self.compute_dtype)

    def _build_parts(self):
        self.project(self.rnn(self.embed(tf.fill([1, 2], self.start_id))))


def recall(count: int, keys: int = 4, values: int = 10, seed: int = 0) -> tuple[Any, Any, Any]:
    """Pairs of a key and its value, 10 to 20 other values, and the keys again in another order.

    -> inputs, targets, weights [count, T]: the value of each key that is asked has weight 1.

    >>> tokens, targets, weights = recall(1, keys=2)
    >>> tokens.shape, int(weights.sum())
    ((1, 28), 2)
    """
    random = np.random.default_rng(seed)
    rows = np.zeros([count, 4 * keys + 21], np.int32)
    weights = np.zeros(rows.shape, np.float32)
    for row, weight in zip(rows, weights):
        bound = random.integers(0, values, keys) + 3 + keys
        told, asked = (random.permutation(keys) for _ in range(2))
        noise = random.integers(0, values, random.integers(10, 21)) + 3 + keys
        pairs = [np.stack([order + 3, bound[order]], 1).ravel() for order in (told, asked)]
        text = np.concatenate([[1], pairs[0], noise, pairs[1]])
        row[: len(text)] = text
        weight[len(text) - 2 * keys : len(text) : 2] = 1
    return rows[:, :-1], rows[:, 1:], weights[:, :-1]


def main() -> None:
    """Train to recall the values of two keys."""
    keras.utils.set_random_seed(0)
    model = LSTMNLM(15, units=64, memory_length=28, embedding_width=32)
    model.compile(keras.optimizers.Adam(5e-3, global_clipnorm=1.0), **token_objective())
    tokens, targets, weights = recall(19_200, keys=2)
    model.fit(tokens, targets, sample_weight=weights, batch_size=64, verbose=2)
    tokens, targets, weights = recall(500, keys=2, seed=1)
    found = model.predict(tokens, batch_size=100, verbose=0).argmax(-1)
    length = int(np.count_nonzero(tokens[0]))
    shown = [*"<", *(str(i - 5) if i > 4 else "ab"[i - 3] for i in tokens[0, 1:length])]
    seen = model.attention(tokens[:1, :length])[0]
    save(heat_map(seen, shown, shown), "lstmn.png")
    print("lstmn.png")
    print(f"recalled: {100 * np.mean((found == targets)[weights > 0]):.1f} %")


if __name__ == "__main__":
    main()
