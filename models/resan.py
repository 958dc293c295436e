"""ReSAN, reinforced self-attention (Shen et al., 2018): attention between selected words alone.

    z^h, z^d ~ Bernoulli(p), p_i = sigmoid(w . elu(W [x_i; mean(x); x_i * mean(x)] + b) + b')
    s_j = sum over selected i < j (or i > j) of softmax_i(f(h_i, h_j)) * h_i     if j is selected
    s_j = mean of all h_i with i < j (or i > j)                                  otherwise

z^h are the heads j and z^d the dependents i, of two selectors with weights of their own; f, the
gate and source2token are those of `models.disan`. The selectors are trained by REINFORCE,

    R = log p(y) - cost * share(z^h) * share(z^d)
    loss = -log p(y) - (R - mean of R) log p(z^h, z^d)

after the rest has been trained with all words selected. (The authors' program subtracts no mean.)
Outside of training a word is selected if p > 0.5.

`python -m models.resan` learns the task of `models.disan`, and prints the selected share.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.functional import reinforce
from keras_attention.layers import DirectionalAttention, Source2Token, TokenSelector
from keras_attention.layers.selection import Selection
from keras_attention.training import TokenCrossentropy
from models._base import check_sizes
from models._sentences import VOCABULARY, SentenceClassifier, facts

_ATTRIBUTE = "_keras_attention_selections"  # of logits: what chose their words


@keras.saving.register_keras_serializable("keras_attention")
class ReSANClassifier(SentenceClassifier):
    """Label sentences, or pairs of them, by attention between selected words.

    Call and the arguments not named here are those of `models.DiSANClassifier`. `fit` trains with
    all words until `select_words()`, and then the selectors, too.

    Args:
        cost: of selecting all words, in units of log p; the default is the authors' for SICK.

    Raises the errors of `DiSANClassifier`, and ValueError for a cost below 0.

    >>> model = ReSANClassifier(20, labels=3, embedding_width=8, units=4)
    >>> heads, dependents = model.selected(tf.constant([[5, 6, 7], [8, 0, 0]]))
    >>> heads.numpy().tolist()
    [[True, True, True], [True, False, False]]
    """

    def __init__(
        self,
        vocab_size: int,
        labels: int,
        embedding_width: int = 300,
        units: int = 300,
        hidden_units: int = 300,
        pairs: bool = False,
        dropout: float = 0.0,
        cost: float = 0.006,
        **kwargs,
    ):
        if cost < 0:
            raise ValueError(f"cost must be at least 0. Received: cost={cost}")
        sizes = vocab_size, labels, embedding_width, hidden_units
        more = {**check_sizes(units=units), "cost": cost}
        super().__init__(*sizes, pairs, dropout, more, kwargs)
        policy = self.dtype_policy
        self.backward = DirectionalAttention(units, backward=True, dtype=policy)
        self.pool = Source2Token(dtype=policy)
        self.head_selector, self.dependent_selector = (
            TokenSelector(dtype=policy, name=name) for name in ("heads", "dependents")
        )

    def _make_encoder(self) -> Any:
        units = self._config["units"]
        return DirectionalAttention(units, dtype=self.dtype_policy), 2 * units  # forward

    def _build_parts(self):
        super()._build_parts()
        words = (None, None, self._config["embedding_width"])
        for layer in (self.backward, self.head_selector, self.dependent_selector):
            build(layer, words)
        build(self.pool, (None, None, self._encoded_width))
        self.selects = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", name="selects"
        )

    def select_words(self) -> None:
        """From now on select words, in training and outside of it."""
        self.build()
        self.selects.assign(1.0)

    def selected(self, tokens) -> Any:
        """The words that are heads and dependents outside of training.  -> bool [B, S] twice."""
        self.build()
        ids = self.ids_of(tokens, "tokens")
        chosen = self._selections(self.embedding(ids), ids != self.pad_id, False)
        return tuple(selection.selected for selection in chosen)

    def call(self, inputs, training=None):
        self.build()
        names = ("first", "second") if self._config["pairs"] else ("tokens",)
        texts = inputs if self._config["pairs"] else (inputs,)
        vectors, selections = zip(
            *(self._encode(text, name, training) for text, name in zip(texts, names))
        )
        logits = self._label(self._joined(*vectors), training)
        if training:
            setattr(logits, _ATTRIBUTE, selections)
        return logits

    def encode(self, tokens, name: str = "tokens", training=None) -> Any:
        """The vector of each sentence.  ids [B, S] -> [B, 2 units]."""
        self.build()
        return self._encode(tokens, name, training)[0]

    def _encode(self, tokens, name, training):
        ids = self.ids_of(tokens, name)
        words, mask = self.dropout(self.embedding(ids), training=training), ids != self.pad_id
        selections = self._selections(words, mask, training)
        heads, dependents = (selection.selected for selection in selections)
        ways = [
            way(words, mask=mask, heads=heads, dependents=dependents)
            for way in (self.encoder, self.backward)
        ]
        return self.pool(tf.concat(ways, -1), mask=mask), selections

    def _selections(self, words, mask, training) -> tuple[Selection, Selection]:
        """Of heads and of dependents; all words before `select_words`."""
        words = tf.stop_gradient(words)  # the selectors learn by REINFORCE alone, and nothing else

        def select(selector):
            found = selector(words, mask=mask, training=training)
            selects = self.selects > 0
            return found._replace(selected=tf.where(selects, found.selected, mask))

        return select(self.head_selector), select(self.dependent_selector)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """`keras.Model.compute_loss`, and in training the one of the selectors."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        selections = getattr(y_pred, _ATTRIBUTE, None)
        if selections is None:
            return loss
        reward = log_likelihood(y, y_pred)
        for heads, dependents in selections:
            reward -= self._config["cost"] * heads.fraction * dependents.fraction
        log_prob = tf.add_n([part.log_prob for pair in selections for part in pair])
        losses = reinforce(log_prob, reward, tf.reduce_mean(reward))
        return loss + tf.cast(self.selects, loss.dtype) * tf.reduce_mean(losses)


def log_likelihood(y, logits) -> tf.Tensor:
    """log p of labels [B], or of shares of labels [B, L], by logits [B, L].  -> [B]."""
    log_p = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    if y.shape.rank == logits.shape.rank and y.shape[-1] != 1:
        return tf.reduce_sum(tf.cast(y, log_p.dtype) * log_p, -1)
    return tf.gather(log_p, tf.cast(tf.reshape(y, [-1]), tf.int32), batch_dims=1)


def share(model: ReSANClassifier, sentences) -> float:
    """The selected share of the pairs of words, heads times dependents, in percent."""
    heads, dependents = (np.asarray(part) for part in model.selected(sentences))
    lengths = np.maximum((np.asarray(sentences) > 0).sum(1), 1)
    return 100 * float(np.mean(heads.sum(1) * dependents.sum(1) / lengths**2))


def main() -> None:
    """Train without and with the selectors; print the selected share, and the accuracy."""
    rng = np.random.default_rng(0)
    model = ReSANClassifier(VOCABULARY, 4, 32, units=32, hidden_units=64, pairs=True)
    model.compile(keras.optimizers.Adam(3e-3), TokenCrossentropy())
    data = facts(16_000, rng)
    model.fit(*data, batch_size=64, epochs=4, verbose=2)
    model.select_words()
    model.fit(*data, batch_size=64, epochs=3, verbose=2)
    pairs, labels = facts(2000, rng)
    found = model.predict(pairs, verbose=0).argmax(1)
    print(f"selected pairs of words: {share(model, pairs[0]):.1f} %")
    print(f"accuracy: {np.mean(found == labels):.4f}")


if __name__ == "__main__":
    main()
