"""A deep reinforced model for abstractive summarisation (Paulus, Xiong and Socher, 2017).

    h^e = BiLSTM(E x)    h^d_t = LSTM(E y_{t-1}, h^d_{t-1})    h^d_0 = h^e_S          [2U]
    e_ti = h^d_t W^e h^e_i                                                            eq. 2
    e'_ti = exp(e_ti) / sum_{j<t} exp(e_ji)    e'_1i = exp(e_1i)    a^e_ti = e'_ti / sum_i e'_ti
    c^e_t = sum_i a^e_ti h^e_i                                        intra-temporal, eq. 3 to 5
    e^d_tt' = h^d_t W^d h^d_t'    c^d_t = sum_{t'<t} softmax(e^d_t)_t' h^d_t'         eq. 6 to 8
    p(y|u=0) = softmax(W_out [h^d; c^e; c^d] + b)    W_out = tanh(W_emb W_proj)       eq. 9, 13
    p(u=1) = sigmoid(W_u [h^d; c^e; c^d] + b_u)      p(y=x_i|u=1) = a^e_ti            eq. 10, 11
    p(y) = p(u=1) p(y|u=1) + p(u=0) p(y|u=0)                                          eq. 12
    L_ml = -sum_t log p(y*_t)            L_rl = (r(y^) - r(y^s)) sum_t log p(y^s_t)    eq. 14, 15
    L = g L_rl + (1 - g) L_ml            y^ greedy, y^s sampled, r = ROUGE-L          eq. 16

Words that the vocabulary does not have are ids V, V + 1, ... in their order in the source.

`python -m models.paulus` learns to say the marked words of a text, known or not.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.keras import build
from keras_attention.data import batches
from keras_attention.decoding import sample
from keras_attention.functional import as_ids, reinforce, right_padded
from keras_attention.training import token_objective
from models import _toy as toy
from models._base import EncoderDecoder, check_sizes
from models._rnn import embedding
from models._rouge import rouge_l
from models._summary_cell import SummaryCell, SummaryMemory

MARK, UNKNOWN = 4, 3


@keras.saving.register_keras_serializable("keras_attention")
class Summarizer(EncoderDecoder):
    """Paulus' encoder-decoder; the defaults are the sizes of the paper.

    Call: `model((source [B, S], target_in [B, T])) -> log p [B, T, V']`, ids in, `pad_id` on the
    right; with a pointer V' = V + copy_slots, else V. Train it with `compile(**token_objective())`
    and `fit` on `((source, target_in), target_out, weights)`; see `keras_attention.data.batches`.
    For the mixed objective set `rl_weight` and `compile` again. `generate(source)` searches for
    summaries; `processors=no_repeat_ngram(3)` is the paper's decoding.

    Args:
        vocab_size: V; id 3 stands for unknown words.
        units: U of each direction of the encoder; the decoder has 2U.
        embedding_width: of E, shared by source, target and output.
        intra_temporal, intra_decoder, pointer: the parts of the model; False leaves one out.
        copy_slots: how many words beside the vocabulary a source may name: ids V, V + 1, ...
        look_back: M, how many steps the intra-decoder attention of a search remembers.
        rl_weight: g of the mixed objective; 0 is the maximum likelihood alone.
        supervise: in training the pointer is told u: 1 where the target is not in the vocabulary.

    Raises ValueError for sizes below 1, and rl_weight outside of [0, 1].

    >>> model = Summarizer(20, units=4, embedding_width=6, copy_slots=2)
    >>> source = tf.constant([[5, 20, 7, 2], [21, 2, 0, 0]])
    >>> model((source, tf.constant([[1, 20], [1, 2]]))).shape
    TensorShape([2, 2, 22])
    >>> model.generate(source, beam_width=3, max_length=4).scores.shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        units: int = 200,
        embedding_width: int = 100,
        intra_temporal: bool = True,
        intra_decoder: bool = True,
        pointer: bool = True,
        copy_slots: int = 50,
        look_back: int = 100,
        rl_weight: float = 0.0,
        supervise: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._config: dict[str, Any] = dict(
            vocab_size=vocab_size, units=units, embedding_width=embedding_width,
            intra_temporal=intra_temporal, intra_decoder=intra_decoder, pointer=pointer,
            copy_slots=copy_slots, look_back=look_back, rl_weight=rl_weight, supervise=supervise,
        )  # fmt: skip
        check_sizes(**{**self._config, "copy_slots": 1})  # CopyHead checks its own
        if not 0 <= rl_weight <= 1:
            raise ValueError(f"rl_weight must be from 0 to 1. Received: rl_weight={rl_weight}")
        self.rl_weight = rl_weight
        self.target_vocab_size = self.logits_width = vocab_size + copy_slots * pointer
        dtype = self.dtype_policy
        self.embedding = embedding(vocab_size, embedding_width, dtype, "W_emb")
        layer = keras.layers.LSTM(units, return_sequences=True, return_state=True, dtype=dtype)
        self.encoder = keras.layers.Bidirectional(layer, dtype=dtype, name="encoder")
        self.cell = SummaryCell(
            2 * units, self.embedding, intra_temporal, intra_decoder, pointer, copy_slots,
            look_back, dtype=dtype, autocast=False,
        )  # fmt: skip

    def encode(self, source, training=None):
        """[B, S] ids -> (`SummaryMemory`, the decoder's initial state)."""
        self.build()
        source = as_ids(source, "source", "B S", self.pad_id)
        mask = source != self.pad_id
        values, *states = self.encoder(self.embed(source), mask=mask, training=training)
        memory = SummaryMemory(self.cell.attention.project_memory(values, mask), source)
        hidden = [tf.concat(pair, -1) for pair in (states[::2], states[1::2])]
        return memory, self.cell.get_initial_state(hidden, memory)

    def decode(self, target_in, memory, state, training=None, return_alignments=False):
        """Teacher forcing: [B, T] ids, memory and state of `encode` -> log p [B, T, V'], and
        alignments a^e [B, T, S] if requested.
        """
        target_in = as_ids(target_in, "target_in", "B T", self.pad_id)
        log_p, weights, p_gen = self.cell.steps(self.embed(target_in), state, memory, training)
        if training and p_gen is not None and self._config["supervise"]:
            self.add_loss(self._switch_loss(target_in, p_gen[..., 0]))
        return (log_p, weights) if return_alignments else log_p

    def _switch_loss(self, target_in, p_gen):
        """The mean of -log p(u_t), u_t = 1 where the next word is not in the vocabulary."""
        real = tf.cast(right_padded(target_in, self.pad_id), tf.float32)
        copied = tf.pad(target_in, [[0, 0], [0, 1]])[:, 1:] >= self._config["vocab_size"]
        told = tf.math.log(tf.maximum(tf.where(copied, 1 - p_gen, p_gen), 1e-7))
        return -tf.math.divide_no_nan(tf.reduce_sum(told * real), tf.reduce_sum(real))

    def compute_loss(self, x: Any = None, y=None, y_pred=None, sample_weight=None, training=True):
        """L_ml, or in training the mixed objective (eq. 16) if there is an `rl_weight`."""
        likelihood = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not (training and self.rl_weight):
            return likelihood
        reinforced = self.self_critical_loss(x[0], y)
        return self.rl_weight * reinforced + (1 - self.rl_weight) * likelihood

    def self_critical_loss(self, source, wanted, seed=None):
        """L_rl, the mean over B: sources [B, S], summaries [B, T] that end with `end_id`."""
        steps = tf.shape(wanted)[1]
        baseline = self.generate(source, max_length=steps).ids[:, 0]
        ids = self.generate(source, max_length=steps, strategy=sample(seed)).ids[:, 0]
        rewards = [rouge_l(found, wanted, self.end_id, self.pad_id) for found in (ids, baseline)]
        shifted = tf.pad(ids[:, :-1], [[0, 0], [1, 0]], constant_values=self.start_id)
        log_p = self.decode(shifted, *self.encode(source))
        said = tf.gather(log_p, ids, batch_dims=2)
        said = tf.reduce_sum(tf.where(ids != self.pad_id, said, 0.0), 1)
        return tf.reduce_mean(reinforce(said, *rewards))

    def embed(self, tokens):
        """Ids -> inputs of encoder and cell, unknown for those beyond V.  [...] -> [..., E]."""
        known = tokens < self._config["vocab_size"]
        return self.embedding(tf.where(known, tokens, UNKNOWN))

    def project(self, output):
        """The cell says log p itself."""
        return output

    def _build_parts(self):
        width = self._config["embedding_width"]
        build(self.embedding, (None, None))
        build(self.encoder, (None, None, width))
        build(self.cell, (None, width))


def marked(count: int, rng: np.random.Generator, vocab_size=60, length=(20, 40)):
    """Texts, and of each the 3 to 5 words that follow a mark, half of them unknown.

    Lists of ids; unknown words are V, V + 1, ... in the order of the text.
    """
    sources, targets = [], []
    for _ in range(count):
        text = rng.integers(MARK + 1, vocab_size, rng.integers(length[0], length[1] + 1))
        places = rng.choice(len(text) // 2, rng.integers(3, 6), replace=False) * 2 + 1
        text[places - 1] = MARK
        beside = np.setdiff1d(np.arange(len(text)), [*places, *(places - 1)])
        unknown = np.sort([*places[rng.random(len(places)) < 0.5], rng.choice(beside)])
        text[unknown] = vocab_size + np.arange(len(unknown))
        sources.append(text)
        targets.append(text[np.sort(places)])
    return sources, targets


def main() -> None:
    """Train, and draw where the words come from."""
    keras.utils.set_random_seed(0)
    model = Summarizer(60, 48, 32, copy_slots=6, look_back=10, supervise=False)
    model.compile(keras.optimizers.Adam(3e-3, global_clipnorm=2.0), **token_objective())
    rng = np.random.default_rng(0)
    model.fit(batches(*marked(19_200, rng), 64, seed=0), shuffle=False, verbose=2)

    def labels(ids):
        return ["*" if i == MARK else f"w{i}" if i < 60 else f"new{i - 59}" for i in ids]

    toy.report(model, *marked(200, rng), picture="paulus.png", labels=labels)


if __name__ == "__main__":
    main()
