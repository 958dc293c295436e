"""Sentence encoders of directional self-attention: DiSAN, and the one with a distance mask.

DiSAN (Shen et al., 2018), with h_i = elu(W_h x_i + b_h):

    f(h_i, h_j) = c tanh((W_1 h_i + W_2 h_j + b) / c)                 a vector, c = 5
    s_j = sum over i < j, or i > j, of softmax_i(f(h_i, h_j)) * h_i   a softmax for every feature
    F   = sigmoid(W_f1 s_j + W_f2 h_j + b_f)        u_j = F * h_j + (1 - F) * s_j
    s   = source2token([u_fw; u_bw]) = sum_i softmax_i(W elu(W_1 u_i + b_1) + b) * u_i

Distance-based (Im and Cho, 2017), of heads with M_ij = -alpha |i - j| where i < j (or i > j):

    attention = softmax(Q K^T / sqrt(d_k) + M) V, gated with x, then feed-forward, both directions
    s         = [source2token(u); max_i u_i]

`python -m models.disan` learns whether a premise has a fact, where the order of words counts, and
draws `disan.png`.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.layers import DiSAN, DistanceSAN
from keras_attention.training import TokenCrossentropy
from models._base import check_sizes
from models._sentences import VOCABULARY, SentenceClassifier, facts, words


@keras.saving.register_keras_serializable("keras_attention")
class DiSANClassifier(SentenceClassifier):
    """Label sentences, or pairs of them, by directional self-attention.

    Call: `model(tokens [B, S]) -> logits [B, labels]`, or with `pairs`
    `model((first [B, S], second [B, T]))`; ids with `pad_id` on the right. Train it with
    `TokenCrossentropy()` and labels [B].

    Args:
        vocab_size: number of ids.
        labels: number of labels.
        embedding_width: of the word vectors.
        units: of the attention in each direction; a sentence is a vector of 2 units.
        hidden_units: of the layer before the output.
        pairs: whether the inputs are two sentences.
        dropout: of the word vectors, the sentence vectors and the hidden layer.
        directed: False removes the masks of direction: the paper's ablation.

    Ids are integers, or floats that are whole numbers. Raises ValueError for others, in a graph
    InvalidArgumentError, and for sizes below 1 or a dropout outside of [0, 1).

    >>> model = DiSANClassifier(20, labels=3, embedding_width=8, units=4, pairs=True)
    >>> model((tf.constant([[5, 6, 7]]), tf.constant([[8, 0]]))).shape
    TensorShape([1, 3])
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
        directed: bool = True,
        **kwargs,
    ):
        sizes = vocab_size, labels, embedding_width, hidden_units
        more = {**check_sizes(units=units), "directed": directed}
        super().__init__(*sizes, pairs, dropout, more, kwargs)

    def _make_encoder(self) -> Any:
        units, directed = self._config["units"], self._config["directed"]
        return DiSAN(units, directed, dtype=self.dtype_policy), 2 * units

    def attention(self, tokens) -> tuple[tf.Tensor, tf.Tensor]:
        """The means over the features of the weights of both directions, [B, S, S] each."""
        self.build()
        ids = self.ids_of(tokens, "tokens")
        words, mask = self.embedding(ids), ids != self.pad_id
        ways = (self.encoder.forward, self.encoder.backward)
        weights = (way(words, mask=mask, return_weights=True)[1] for way in ways)
        forward, backward = (tf.reduce_mean(each, 2) for each in weights)
        return forward, backward


@keras.saving.register_keras_serializable("keras_attention")
class DistanceSANClassifier(SentenceClassifier):
    """Label sentences, or pairs of them, by self-attention with a penalty on distance.

    Call, errors and the arguments not named here are those of `DiSANClassifier`.

    Args:
        embedding_width: D, a multiple of `heads`; a sentence is a vector of 4 D.
        heads: of the attention.
        ff_width: of the feed-forward layer's hidden layer.
        alpha: weight of the distance; 0 is none.

    >>> model = DistanceSANClassifier(20, labels=3, embedding_width=8, heads=2, ff_width=8)
    >>> model(tf.constant([[5, 6, 7], [8, 0, 0]])).shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        labels: int,
        embedding_width: int = 300,
        heads: int = 5,
        ff_width: int = 600,
        alpha: float = 1.5,
        hidden_units: int = 300,
        pairs: bool = False,
        dropout: float = 0.0,
        **kwargs,
    ):
        sizes = vocab_size, labels, embedding_width, hidden_units
        more = {**check_sizes(heads=heads, ff_width=ff_width), "alpha": alpha}
        super().__init__(*sizes, pairs, dropout, more, kwargs)

    def _make_encoder(self) -> Any:
        config = self._config
        layer = DistanceSAN(
            config["heads"], config["ff_width"], config["alpha"], dtype=self.dtype_policy
        )
        return layer, 4 * config["embedding_width"]


def main() -> None:
    """Train DiSAN on made pairs, draw a premise, and print how many new labels are right."""
    from keras_attention.visualize import head_maps, save

    rng = np.random.default_rng(0)
    model = DiSANClassifier(VOCABULARY, 4, 32, units=32, hidden_units=64, pairs=True)
    model.compile(keras.optimizers.Adam(3e-3), TokenCrossentropy())
    model.fit(*facts(16_000, rng), batch_size=64, epochs=4, verbose=2)
    pairs, labels = facts(2000, rng)
    found = model.predict(pairs, verbose=0).argmax(1)
    order = np.isin(labels, (0, 2))
    premise = pairs[0][np.argmax((pairs[0] > 0).sum(1))]
    names = words(premise[premise > 0])
    maps = np.concatenate(model.attention(premise[None]))[:, : len(names), : len(names)]
    save(head_maps(maps, names, names, ["forward", "backward"]), "disan.png")
    print("disan.png")
    print(f"right where the order of the words decides: {np.mean((found == labels)[order]):.4f}")
    print(f"accuracy: {np.mean(found == labels):.4f}")


if __name__ == "__main__":
    main()
