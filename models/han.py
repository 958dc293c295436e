"""The hierarchical attention network (Yang et al., 2016): a label for a document.

    x_it = W_e w_it        h_it = [GRU->(x_it); GRU<-(x_it)]                   word encoder
    u_it = tanh(W_w h_it + b_w)    a_it = softmax_t(u_it . u_w)    s_i = sum_t a_it h_it
    h_i  = [GRU->(s_i); GRU<-(s_i)]                                            sentence encoder
    u_i  = tanh(W_s h_i + b_s)     a_i  = softmax_i(u_i . u_s)     v   = sum_i a_i h_i
    p    = softmax(W_c v + b_c)

w_it is word t of sentence i. u_w and u_s are weights. HN-AVE and HN-MAX of the paper have the mean
or the maximum in place of both attentions.

`python -m models.han` finds the one sentence that decides, and draws `han.png`.
"""

from typing import Any

import keras
import numpy as np

from keras_attention.backend.keras import build
from keras_attention.layers import Dropout, HierarchicalAttention
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.seq2seq import RNN
from keras_attention.training import TokenCrossentropy
from models._base import check_sizes
from models._text import TextClassifier


@keras.saving.register_keras_serializable("keras_attention")
class HAN(TextClassifier):
    """Classify documents, and show the sentences and words that count.

    Call: `model(documents [B, L, S]) -> logits [B, labels]`: ids of L sentences of S words,
    `pad_id` on the right of a sentence, sentences of padding after the last. Train it with
    `TokenCrossentropy()` and labels [B].

    Args:
        vocab_size: number of ids.
        labels: number of labels.
        embedding_width: of the word vectors.
        units: of the GRU in each direction.
        attention_units: width of u_it and u_i.
        pooling: "attention", or "mean" or "max" (HN-AVE, HN-MAX).
        dropout: of the word vectors and of v; the paper has none.

    Ids are integers, or floats that are whole numbers. Raises ValueError for others, in a graph
    InvalidArgumentError, and for sizes below 1, another pooling or dropout outside of [0, 1).

    >>> import tensorflow as tf
    >>> model = HAN(vocab_size=20, labels=2, embedding_width=8, units=4, attention_units=6)
    >>> document = tf.constant([[[5, 6, 7], [8, 0, 0], [0, 0, 0]]])
    >>> model(document).shape
    TensorShape([1, 2])
    >>> on_sentences, on_words = model.attention(document)
    >>> on_sentences.shape, on_words[0, 1].numpy().tolist()
    (TensorShape([1, 3]), [1.0, 0.0, 0.0])
    """

    ids_axes, ids_rank = "B L S", 3

    def __init__(
        self,
        vocab_size: int,
        labels: int,
        embedding_width: int = 200,
        units: int = 50,
        attention_units: int = 100,
        pooling: str = "attention",
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._config = check_sizes(
            vocab_size=vocab_size, labels=labels, embedding_width=embedding_width, units=units,
            attention_units=attention_units, dropout=dropout,
        ) | {"pooling": pooling}  # fmt: skip
        self.logits_width = labels
        policy = self.dtype_policy
        self.embedding = self._embedding(vocab_size, embedding_width)
        words, sentences = (self._encoder(units) for _ in range(2))
        self.document = HierarchicalAttention(
            words, sentences, attention_units, pooling, dtype=policy
        )
        self.dropout = Dropout(dropout, dtype=policy)
        self.output_layer = keras.layers.Dense(labels, dtype=policy)

    def _encoder(self, units):
        cell = keras.layers.GRUCell(units, dtype=self.dtype_policy)
        loop = RNN(cell, return_sequences=True, dtype=self.dtype_policy)
        return keras.layers.Bidirectional(loop, dtype=self.dtype_policy)

    def call(self, documents, training=None):
        words, mask = self._words(documents, training)
        vector = self.document(words, mask=mask, training=training)
        return dense_logits(self.output_layer, self.dropout(vector, training=training))

    def attention(self, documents) -> Any:
        """a_i [B, L] and a_it [B, L, S], 0 on padding.  Raises ValueError for HN-MAX."""
        words, mask = self._words(documents, False)
        _, on_sentences, on_words = self.document(words, mask=mask, return_weights=True)
        return on_sentences, on_words

    def _words(self, documents, training):
        self.build()
        ids = self.ids_of(documents, "documents")
        return self.dropout(self.embedding(ids), training=training), ids != self.pad_id

    def _build_parts(self):
        build(self.embedding, (None, None, None))  # each part may be built already
        build(self.document, (None, None, None, self._config["embedding_width"]))
        build(self.output_layer, (None, 2 * self._config["units"]))


SENTENCES, WORDS, VOCABULARY, KEYS = 8, 12, 500, 16
NOT = 1 + KEYS  # the word that takes away the meaning of the key word in its sentence


def needles(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents of 8 sentences of 12 words; one sentence of a document decides its label.

    Every sentence has one of 16 key words: 1 .. 8 mean label 0, and 9 .. 16 label 1. All but one
    have the word NOT, too, so that their key words mean nothing. All other words are noise.

    -> documents [N, 8, 12], labels [N], the sentence that decides [N], int32.
    """
    documents = rng.integers(NOT + 1, VOCABULARY, (count, SENTENCES, WORDS))
    keys = rng.integers(1, KEYS + 1, (count, SENTENCES))
    deciding = rng.integers(0, SENTENCES, count)
    places = np.argsort(rng.random(documents.shape), -1)  # two different ones in a sentence
    np.put_along_axis(documents, places[..., :1], keys[..., None], -1)
    other = np.arange(SENTENCES) != deciding[:, None]
    before = np.take_along_axis(documents, places[..., 1:2], -1)
    np.put_along_axis(documents, places[..., 1:2], np.where(other[..., None], NOT, before), -1)
    labels = keys[np.arange(count), deciding] > KEYS // 2
    return documents.astype(np.int32), labels.astype(np.int32), deciding.astype(np.int32)


def draw(model: HAN, document: np.ndarray, words: list[str], path: str) -> None:
    """Draw a document [L, S] coloured by its weights; `words` is the word of each id."""
    from keras_attention.visualize import document_figure, save

    on_sentences, on_words = model.attention(document[None])
    sentences = [[words[token] for token in ids if token] for ids in document]
    count = sum(map(bool, sentences))
    save(document_figure(sentences[:count], on_words[0], on_sentences[0]), path)


def main() -> None:
    """Train, draw one document, and print how often the label of new documents is right."""
    rng = np.random.default_rng(0)
    model = HAN(VOCABULARY, 2, embedding_width=32, units=24, attention_units=32)
    model.compile(keras.optimizers.Adam(3e-3), TokenCrossentropy())
    documents, labels, _ = needles(6000, rng)
    model.fit(documents, labels, batch_size=32, epochs=2, verbose=2)
    documents, labels, deciding = needles(1000, rng)
    logits = model.predict(documents, verbose=0)
    on_sentences, _ = model.attention(documents)
    found = np.mean(np.argmax(on_sentences, 1) == deciding)
    keys = [f"{'bad' if key <= KEYS // 2 else 'good'}{key}" for key in range(1, NOT)]
    words = ["", *keys, "not", *(f"w{word}" for word in range(NOT + 1, VOCABULARY))]
    draw(model, documents[0], words, "han.png")
    print(f"han.png: sentences red, words blue; strongest sentence decides: {found:.3f}")
    print(f"accuracy: {np.mean(logits.argmax(1) == labels):.4f}")


if __name__ == "__main__":
    main()
