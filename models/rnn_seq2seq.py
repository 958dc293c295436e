"""The attentional RNN encoder-decoder (Bahdanau et al., 2015; Luong et al., 2015).

    h_1..h_S = RNN(E_x x_1..x_S)                       encoder, optionally bidirectional
    s_0      = bridge(h_1, h_S)                        the initial state of the decoder
    s_t      = RNN([E_y y_{t-1}; a_{t-1}], s_{t-1})    decoder with input feeding
    a_t      = tanh(W [s_t; sum_s alignment_ts h_s])   Luong eq. 5
    p(y_t)   = softmax(W_o a_t + b)

`python -m models.rnn_seq2seq` trains a model to reverse strings in about a minute.
"""

import contextlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_attention.backend.saving import deserialize, listed_cells, serialize, track
from keras_attention.data import batches
from keras_attention.functional.projection import Projection, remember
from keras_attention.layers import Bridge, Dropout, MemoryAttention
from keras_attention.layers.linear_cross_entropy import dense_logits
from keras_attention.seq2seq import (
    RNN,
    AttentionWrapper,
    BahdanauAttention,
    LuongAttention,
    projector,
)
from keras_attention.seq2seq._dropout import GRUCell, LSTMCell, SimpleRNNCell, without_dropout
from keras_attention.training import token_objective
from models._rnn import RNNDecoder

CELLS = {"lstm": LSTMCell, "gru": GRUCell, "simple_rnn": SimpleRNNCell}
MECHANISMS = {"bahdanau": BahdanauAttention, "luong": LuongAttention, None: None}


@keras.saving.register_keras_serializable("keras_attention")
class RNNSeq2Seq(RNNDecoder):
    """An RNN encoder-decoder with attention.

    Call: `model((source [B, S], target_in [B, T])) -> logits [B, T, V]`, ids in, `pad_id` on the
    right. Train it with `compile(loss=..., ...)` and `fit` on `((source, target_in), target_out,
    weights)`; see `keras_attention.data.batches`. `generate(source)` searches for answers.

    Args:
        vocab_size: V of the source.
        target_vocab_size: V of the target; default: the same.
        units: width of every recurrent layer, and of the attention.
        layers: recurrent layers in the encoder and in the decoder.
        cell: "gru", "lstm" or "simple_rnn".
        bidirectional: whether the encoder is bidirectional.
        bridge: the initial state of the decoder: "dense" (a tanh layer on the encoder's last
            states), "pass" (those states; unidirectional encoders only) or "zero".
        attention: "bahdanau", "luong" or None; or an attention of your own, a
            `layers.MemoryAttention` such as `layers.Attention(score)`.
        embedding_width: width of the embeddings; default: `units`.
        share_embeddings: one matrix for source and target.
        tie_output: use the transposed target embedding (of width `units`) as the output layer.
        dropout: on the inputs of every cell and on the output.
        source_embeddings, target_embeddings: [V, D] initial values, for instance from
            `keras_attention.training.read_embeddings`.
        target_counts: [V], how often each target id occurs, to initialize the output's bias with
            log frequencies. Otherwise the tanh before it saturates to learn them, and with a large
            vocabulary it stays saturated.
        fused: "auto", True or False: whether encoder and decoder run all steps as one function with
            a gradient written by hand: see `seq2seq.RNN` and `seq2seq.BasicDecoder`.

    Ids are integers, or floats that are whole numbers: see `functional.as_ids`. Raises ValueError
    for other ids, and for invalid combinations.

    >>> model = RNNSeq2Seq(vocab_size=20, units=8, layers=2)
    >>> source = tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> model((source, tf.constant([[1, 6], [1, 7]]))).shape
    TensorShape([2, 2, 20])
    >>> model.generate(source, beam_width=3, max_length=4).scores.shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int | None = None,
        units: int = 256,
        layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = True,
        bridge: str = "dense",
        attention: Any = "bahdanau",
        embedding_width: int | None = None,
        share_embeddings: bool = False,
        tie_output: bool = False,
        dropout: float = 0.0,
        source_embeddings: Any = None,
        target_embeddings: Any = None,
        target_counts: Any = None,
        fused: Any = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        target_vocab_size = target_vocab_size or vocab_size
        self._config = _checked(
            vocab_size=vocab_size, target_vocab_size=target_vocab_size, units=units, layers=layers,
            cell=cell, bidirectional=bidirectional, bridge=bridge, attention=attention,
            embedding_width=embedding_width or units, share_embeddings=share_embeddings,
            tie_output=tie_output, dropout=dropout, fused=fused,
        )  # fmt: skip
        self.target_vocab_size = self.logits_width = target_vocab_size
        self.fused = fused
        self.source_embedding = self._embedding(vocab_size, source_embeddings, "source_embedding")
        self.target_embedding = self.source_embedding
        if not share_embeddings:
            self.target_embedding = self._embedding(
                target_vocab_size, target_embeddings, "target_embedding"
            )
        self.encoder = [self._encoder_layer() for _ in range(layers)]
        self.bridge = Bridge(bridge, dtype=self.dtype_policy)
        self.inner_cell = self.cell = self._cells(layers)
        track(self, "inner_cell", listed_cells(self.inner_cell))
        if attention is not None:
            self.cell = self._attending_cell()
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)
        self.output_layer = None
        self._make_output(target_counts)

    # -- the layers

    def _embedding(self, size, values, name):
        # Keras' default, +-0.05, is too small for the cells to learn in the first epochs. If tied
        # to the output it must be small, or the initial logits are large.
        width = self._config["embedding_width"]
        deviation = width**-0.5 if self._config["tie_output"] else 0.3
        initializer = keras.initializers.RandomNormal(stddev=deviation)
        if values is not None:
            initializer = keras.initializers.Constant(values)
        return keras.layers.Embedding(size, width, initializer, dtype=self.dtype_policy, name=name)

    def _cells(self, count):
        units, dropout = self._config["units"], self._config["dropout"]
        kind, policy = CELLS[self._config["cell"]], self.dtype_policy
        stack = [kind(units, dropout=dropout, dtype=policy) for _ in range(count)]
        return stack[0] if count == 1 else keras.layers.StackedRNNCells(stack, dtype=policy)

    def _encoder_layer(self):
        policy = self.dtype_policy
        layer = RNN(
            self._cells(1),
            return_sequences=True,
            return_state=True,
            fused=self._config["fused"],
            dtype=policy,
        )
        both = self._config["bidirectional"]
        return keras.layers.Bidirectional(layer, dtype=policy) if both else layer

    def _attending_cell(self):
        units, policy = self._config["units"], self.dtype_policy
        join = keras.layers.Dense(units, "tanh", use_bias=False, dtype=policy)
        mechanism = self._config["attention"]
        if not isinstance(mechanism, MemoryAttention):
            mechanism = MECHANISMS[mechanism](units, dtype=policy)
        return AttentionWrapper(self.inner_cell, mechanism, attention_layer=join, dtype=policy)

    def _make_output(self, counts):
        size = self.target_vocab_size
        counts = np.zeros(size) if counts is None else np.asarray(counts)
        frequencies = keras.initializers.Constant(np.log((counts + 1) / np.sum(counts + 1)))
        if self._config["tie_output"]:
            self.output_bias = self.add_weight(
                shape=(size,), initializer=frequencies, name="output_bias"
            )
        else:
            self.output_layer = keras.layers.Dense(
                size, bias_initializer=frequencies, dtype=self.dtype_policy, name="output"
            )

    # -- the model: encode, decode, and the parts that `generate` uses

    def _encode(self, source, training=None):
        mask = source != self.pad_id
        values, states = self.source_embedding(source), []
        with contextlib.nullcontext() if training else without_dropout(self._encoder_cells()):
            for layer in self.encoder:
                values, *state = layer(values, mask=mask, training=training)
                states.append(state)
        batch_size = tf.shape(source)[0]
        cell_state = self.bridge(states, self.inner_cell.get_initial_state(batch_size=batch_size))
        if self.cell is self.inner_cell:
            return None, cell_state
        memory = self.cell.prepare_memory(values, memory_mask=mask)
        state = self.cell.get_initial_state(batch_size=batch_size, memory=memory)
        return memory, state.clone(cell_state=cell_state)

    def _encoder_cells(self):
        names = ("forward_layer", "backward_layer") if self._config["bidirectional"] else ()
        layers = [getattr(layer, name) for layer in self.encoder for name in names] or self.encoder
        return [layer.cell for layer in layers]

    def embed(self, tokens):
        """Target ids -> inputs of the cell.  [...] -> [..., D]."""
        return self.target_embedding(tokens)

    def project(self, output):
        """Outputs of the cell -> logits.  [..., D'] -> [..., V]."""
        if self.output_layer is not None:
            return dense_logits(self.output_layer, output)
        embeddings = tf.cast(self.target_embedding.embeddings, output.dtype)
        bias = tf.cast(self.output_bias, output.dtype)
        logits = tf.tensordot(output, embeddings, [[-1], [-1]]) + bias
        return remember(logits, Projection(output, embeddings, self.output_bias, transposed=True))

    def projection(self):
        """`project`, with the part that can be done before a loop already done."""
        if self.output_layer is not None:
            kernel, bias = self.output_layer.kernel, self.output_layer.bias
        else:
            kernel, bias = tf.transpose(self.target_embedding.embeddings), self.output_bias
        return projector(kernel, bias, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "attention": serialize(self._config["attention"])}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "attention": deserialize(config["attention"])})


def _checked(**config) -> dict:
    """The arguments of a model, of combinations that can be; ValueError for any other."""
    cell, attention = config["cell"], config["attention"]
    vocab_size, target_vocab_size = config["vocab_size"], config["target_vocab_size"]
    units, layers, width = config["units"], config["layers"], config["embedding_width"]
    own = isinstance(attention, MemoryAttention)
    if cell not in CELLS or not (own or attention in MECHANISMS):
        raise ValueError(
            f"cell must be one of {list(CELLS)}, attention one of {list(MECHANISMS)} or a layer "
            "with the interface layers.MemoryAttention, such as layers.Attention(score). "
            f"Received: cell={cell!r}, attention={attention!r}"
        )
    if min(vocab_size, target_vocab_size, units, layers) < 1:
        raise ValueError(
            "vocab_size, units and layers must be at least 1. Received: "
            f"vocab_size={vocab_size}, units={units}, layers={layers}"
        )
    if config["bridge"] == "pass" and config["bidirectional"]:
        raise ValueError(
            "bridge='pass' needs a one-way encoder, a two-way one has twice the states. "
            "Received: bidirectional=True. Use bridge='dense'."
        )
    if config["share_embeddings"] and vocab_size != target_vocab_size:
        raise ValueError(
            "share_embeddings needs one vocabulary. Received: "
            f"vocab_size={vocab_size}, target_vocab_size={target_vocab_size}"
        )
    if config["tie_output"] and width != units:
        raise ValueError(
            "tie_output needs embeddings as wide as the output. Received: "
            f"embedding_width={width}, units={units}"
        )
    return config


def main() -> None:
    """Train to reverse strings of ten symbols, and show the attention weights."""
    rng = np.random.default_rng(0)
    model = RNNSeq2Seq(vocab_size=14, units=64)
    model.compile(keras.optimizers.Adam(3e-3), **token_objective())

    def examples(count):
        sources = [rng.integers(4, 14, rng.integers(4, 13)) for _ in range(count)]
        return sources, [source[::-1] for source in sources]

    model.fit(batches(*examples(25_600), 64, seed=0), shuffle=False)
    sources, targets = examples(200)
    right = 0
    for (source, _), target, _ in batches(sources, targets, 1):
        right += (
            model.generate(source, max_length=13).ids[0, 0].numpy().tolist()
            == target[0].numpy().tolist()
        )
    print(f"exactly right: {right} of {len(sources)}")


if __name__ == "__main__":
    main()
