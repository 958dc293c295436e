"""A bidirectional LSTM with a conditional random field (Huang et al., 2015; Zhou & Xu, 2015).

    x_t = [E_w w_t; E_m m_t]                                   m_t = 1 at the predicate
    h = BiLSTM(..BiLSTM(x))                                    N layers, directions concatenated
    score(y) = a_{y_1} + sum_t (W h_t + b)_{y_t} + sum_{t > 1} A_{y_{t-1}, y_t}
    p(y | x) = exp(score(y)) / sum_y' exp(score(y'))           the forward algorithm
    y* = argmax_y score(y), valid tags only                    the Viterbi algorithm

`python -m models.bilstm_crf` learns who did it to whom in the active and in the passive.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.functional import crf_log_likelihood
from keras_attention.layers import Dropout
from keras_attention.seq2seq import RNN
from models._propositions import IDS, LABELS, arrays, toy
from models._tagging import SpanTagger, span_f1


@keras.saving.register_keras_serializable("keras_attention")
class BiLSTMCRF(SpanTagger):
    """Tag the arguments of one predicate of each sentence, all tags together.

    Call: `model((words [B, T], marks [B, T])) -> emissions W h_t + b, [B, T, L]`, of the tags
    `tag_names`; word ids with `pad_id` on the right, marks 1 at the predicate and 0 elsewhere.
    Train it with `compile(optimizer)`, without a loss: it is -log p(tags | x) per token; and `fit`
    on `((words, marks), tags)`, or also with weights [B, T], 0 for tokens to leave out.
    `tag((words, marks))` -> [B, T], the best tags that are valid.

    Args:
        vocab_size: V.
        labels: names of the spans, such as ["ARG0", "ARG1", "V"].
        layers: N.
        units: of each direction.
        width: of the embedding of words, and of that of marks.
        dropout: of the embeddings and of the output of every layer.

    Raises ValueError for repeated labels, marks other than 0 and 1, and another loss.

    >>> model = BiLSTMCRF(20, ["ARG0", "V"], layers=1, units=4, width=4)
    >>> words, marks = tf.constant([[5, 6, 7], [8, 9, 0]]), tf.constant([[0, 1, 0], [1, 0, 0]])
    >>> model((words, marks)).shape, model.tag((words, marks)).shape
    (TensorShape([2, 3, 5]), TensorShape([2, 3]))
    """

    def __init__(
        self,
        vocab_size: int,
        labels: Sequence[str],
        layers: int = 2,
        units: int = 200,
        width: int = 100,
        dropout: float = 0.2,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if layers < 1:
            raise ValueError(f"layers must be at least 1. Received: layers={layers}")
        self._config = dict(
            vocab_size=vocab_size, labels=list(labels), layers=layers, units=units, width=width,
            dropout=dropout,
        )  # fmt: skip
        self._set_labels(labels)
        policy = self.dtype_policy
        # Keras' default, +-0.05, is too small for the cells to learn in the first epochs.
        normal = keras.initializers.RandomNormal(stddev=0.3)
        self.words = keras.layers.Embedding(vocab_size, width, normal, dtype=policy)
        self.marks = keras.layers.Embedding(2, width, normal, dtype=policy)
        self.dropout = Dropout(dropout, dtype=policy)
        self.encoder = [self._layer() for _ in range(layers)]
        self.output_layer = keras.layers.Dense(self.logits_width, dtype=policy)

    def _layer(self):
        policy = self.dtype_policy
        rnn = RNN(keras.layers.LSTMCell(self._config["units"], dtype=policy), True, dtype=policy)
        return keras.layers.Bidirectional(rnn, dtype=policy)

    def call(self, inputs, training=None):
        words, marks, mask = self._ids(inputs)
        x = tf.concat([self.words(words), self.marks(marks)], -1)
        x = self.dropout(x, training=training)
        for layer in self.encoder:
            x = self.dropout(layer(x, mask=mask, training=training), training=training)
        return self.output_layer(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """-log p(tags | x) per token."""
        compiled = getattr(getattr(self, "_compile_config", None), "config", {})
        if (loss := compiled.get("loss")) is not None:
            raise ValueError(f"The loss is that of the CRF: compile without. Received: {loss=!r}")
        mask = self._ids(x)[2]
        if sample_weight is not None:
            mask &= tf.cast(sample_weight, tf.bool)
        log_p = crf_log_likelihood(y, y_pred, self.transitions, self.start, mask)
        tokens = tf.reduce_sum(tf.cast(mask, log_p.dtype))
        return tf.math.divide_no_nan(-tf.reduce_sum(log_p), tokens)

    def _scores(self):
        return tf.convert_to_tensor(self.start.value), tf.convert_to_tensor(self.transitions.value)

    def _build_parts(self):
        build(self.words, (None, None))  # each part may be built already
        build(self.marks, (None, None))
        width = 2 * self._config["width"]
        for layer in (*self.encoder, self.output_layer):
            build(layer, (None, None, width))
            width = 2 * self._config["units"]
        count = self.logits_width
        self.start = self.add_weight(shape=(count,), initializer="zeros", name="start")
        self.transitions = self.add_weight(
            shape=(count, count), initializer="zeros", name="transitions"
        )


def main() -> None:
    """Train, print F1 of new sentences, and draw the scores of transitions."""
    from keras_attention.visualize import heat_map, save

    rng = np.random.default_rng(0)
    model = BiLSTMCRF(2 + len(IDS), LABELS, layers=2, units=48, width=24, dropout=0.1)
    model.compile(keras.optimizers.Adam(5e-3))
    inputs, tags, weights = arrays(model, toy(6_400, rng), IDS)
    model.fit(inputs, tags, sample_weight=weights, batch_size=64, epochs=2, verbose=2)
    new = toy(500, rng)
    found = model.tag(arrays(model, new, IDS)[0])
    found = model.decode_tags(found, [len(each.words) for each in new])
    transitions = model.transitions.numpy()
    save(heat_map(transitions, model.tag_names, model.tag_names), "bilstm_crf.png")
    print("bilstm_crf.png: from each tag (rows) to each other")
    print(f"F1 of the arguments: {span_f1([each.tags for each in new], found)['f1']:.1f}")


if __name__ == "__main__":
    main()
