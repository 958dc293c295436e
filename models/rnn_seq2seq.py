"""The attentional RNN encoder-decoder (Bahdanau et al., 2015; Luong et al., 2015).

    h_1..h_S = RNN(E_x x_1..x_S)                       encoder, one way or both
    s_0      = bridge(h_1, h_S)                        its last states begin the decoder
    s_t      = RNN([E_y y_{t-1}; a_{t-1}], s_{t-1})    decoder, fed its last attention
    a_t      = tanh(W [s_t; sum_s alignment_ts h_s])   Luong eq. 5
    p(y_t)   = softmax(W_o a_t + b)

`python -m models.rnn_seq2seq` learns to reverse strings in about a minute.
"""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    LuongAttention,
    SearchResult,
    TrainingSampler,
    generate,
)

CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "simple_rnn": keras.layers.SimpleRNNCell,
}


@keras.saving.register_keras_serializable("keras_attention")
class RNNSeq2Seq(keras.Model):
    """Encoder, attention and decoder of one recurrent kind.

    Call: `model((source [B, S], target_in [B, T])) -> logits [B, T, V]`, ids in, `pad_id` on the
    right. Train it with `compile(loss=..., ...)` and `fit` on `((source, target_in), target_out,
    weights)`; see `keras_attention.data.batches`. `generate(source)` answers.

    Args:
        vocab_size: V of the source.
        target_vocab_size: V of the target; default: the same.
        units: width of every recurrent layer, and of the attention.
        layers: recurrent layers in the encoder and in the decoder.
        cell: "gru", "lstm" or "simple_rnn".
        bidirectional: read the source both ways.
        bridge: what begins the decoder: "dense" (a tanh layer on the encoder's last states),
            "pass" (those states; one-way encoders only) or "zero".
        attention: "bahdanau", "luong" or None.
        embedding_width: width of the embeddings; default: `units`.
        share_embeddings: one matrix for source and target.
        tie_output: the output layer is the target embedding (of width `units`) transposed.
        dropout: on the inputs of every cell and on the output.
        source_embeddings, target_embeddings: [V, D] initial values, for instance from
            `keras_attention.training.read_embeddings`.

    Raises ValueError for combinations that cannot be.

    >>> model = RNNSeq2Seq(vocab_size=20, units=8, layers=2)
    >>> source = tf.constant([[5, 6, 2], [7, 2, 0]])
    >>> model((source, tf.constant([[1, 6], [1, 7]]))).shape
    TensorShape([2, 2, 20])
    >>> model.generate(source, beam_width=3, max_length=4).scores.shape
    TensorShape([2, 3])
    """

    pad_id, start_id, end_id = 0, 1, 2

    def __init__(
        self,
        vocab_size: int,
        target_vocab_size: int | None = None,
        units: int = 256,
        layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = True,
        bridge: str = "dense",
        attention: str | None = "bahdanau",
        embedding_width: int | None = None,
        share_embeddings: bool = False,
        tie_output: bool = False,
        dropout: float = 0.0,
        source_embeddings: Any = None,
        target_embeddings: Any = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._settings = dict(
            vocab_size=vocab_size,
            target_vocab_size=target_vocab_size or vocab_size,
            units=units,
            layers=layers,
            cell=cell,
            bidirectional=bidirectional,
            bridge=bridge,
            attention=attention,
            embedding_width=embedding_width or units,
            share_embeddings=share_embeddings,
            tie_output=tie_output,
            dropout=dropout,
        )
        _check(**self._settings)
        settings = self._settings
        width, target_size = settings["embedding_width"], settings["target_vocab_size"]
        policy = self.dtype_policy

        def embedding(size, name, values):
            initializer = (
                "uniform" if values is None else keras.initializers.Constant(values)
            )
            return keras.layers.Embedding(size, width, initializer, dtype=policy, name=name)

        def make_cell():
            return CELLS[cell](units, dropout=dropout, dtype=policy)

        def recurrent():
            layer = keras.layers.RNN(
                make_cell(), return_sequences=True, return_state=True, dtype=policy
            )
            return keras.layers.Bidirectional(layer, dtype=policy) if bidirectional else layer

        self.source_embedding = embedding(vocab_size, "source_embedding", source_embeddings)
        self.target_embedding = (
            self.source_embedding
            if share_embeddings
            else embedding(target_size, "target_embedding", target_embeddings)
        )
        self.encoder = [recurrent() for _ in range(layers)]
        parts = 2 if cell == "lstm" else 1
        self.bridges = [
            keras.layers.Dense(units, "tanh", dtype=policy, name=f"bridge_{i}")
            for i in range(layers * parts if bridge == "dense" else 0)
        ]
        stack = [make_cell() for _ in range(layers)]
        self.cell = stack[0] if layers == 1 else keras.layers.StackedRNNCells(stack, dtype=policy)
        if attention is not None:
            mechanism = {"bahdanau": BahdanauAttention, "luong": LuongAttention}[attention]
            self.cell = AttentionWrapper(
                self.cell,
                mechanism(units, dtype=policy),
                attention_layer=keras.layers.Dense(units, "tanh", use_bias=False, dtype=policy),
                dtype=policy,
            )
        self.dropout = keras.layers.Dropout(dropout, dtype=policy)
        self.output_layer = None if tie_output else keras.layers.Dense(
            target_size, dtype=policy, name="output_layer"
        )

    # -- the model: encode, decode, and the parts `generate` steps through

    def encode(self, source, training=None):
        """[B, S] ids -> (memory: what the decoder may look at, state: where it begins)."""
        mask = source != self.pad_id
        values, states = self.source_embedding(source), []
        for layer in self.encoder:
            values, *state = layer(values, mask=mask, training=training)
            states.append(state)
        cell_state = self._bridge(states, tf.shape(source)[0])
        if self._settings["attention"] is None:
            return None, cell_state
        memory = self.cell.prepare_memory(values, memory_mask=mask)
        state = self.cell.get_initial_state(batch_size=tf.shape(source)[0], memory=memory)
        return memory, state.clone(cell_state=cell_state)

    def _bridge(self, states, batch_size):
        """The encoder's last states, per layer -> the decoder's first, in its own containers."""
        inner = getattr(self.cell, "cell", self.cell)
        begin = inner.get_initial_state(batch_size=batch_size)
        if self._settings["bridge"] == "zero":
            return begin
        if self._settings["bidirectional"]:  # [forward h, (c), backward h, (c)] -> [h, (c)]
            half = len(states[0]) // 2
            states = [
                [tf.concat(pair, -1) for pair in zip(state[:half], state[half:])]
                for state in states
            ]
        flat = [part for state in states for part in state]
        if self.bridges:
            flat = [bridge(part) for bridge, part in zip(self.bridges, flat)]
        return tf.nest.pack_sequence_as(begin, flat)

    def decode(self, target_in, memory, state, training=None):
        """Teacher forcing: [B, T] ids, what `encode` gave -> logits [B, T, V]."""
        decoder = BasicDecoder(self.cell, TrainingSampler(), maximum_iterations=target_in.shape[1])
        outputs, _, _ = decoder(
            self.embed(target_in), initial_state=state, memory=memory, training=training
        )
        # The output layer waits for the loop to end: one product instead of T.
        return self.project(self.dropout(outputs.rnn_output, training=training))

    def embed(self, tokens):
        """Target ids -> inputs of the cell.  [...] -> [..., D]."""
        return self.target_embedding(tokens)

    def project(self, output):
        """Outputs of the cell -> logits.  [..., D'] -> [..., V]."""
        if self.output_layer is not None:
            return self.output_layer(output)
        embeddings = tf.cast(self.target_embedding.embeddings, output.dtype)
        return tf.tensordot(output, embeddings, [[-1], [-1]])

    def call(self, inputs, training=None):
        source, target_in = inputs
        memory, state = self.encode(source, training=training)
        return self.decode(target_in, memory, state, training=training)

    def generate(self, source, **settings) -> SearchResult:
        """The best answers: see `keras_attention.seq2seq.generate`."""
        return generate(self, source, **settings)

    # -- saving

    def build(self, input_shape=None):
        """Everything is built by one small call; nothing depends on S or T."""
        if not self.built:
            self.built = True
            self((tf.fill([1, 2], self.end_id), tf.fill([1, 2], self.start_id)))

    def get_build_config(self):
        return {"vocab_size": self._settings["vocab_size"]}  # Keras skips an empty one

    def build_from_config(self, config):
        self.build()

    def get_config(self):
        return {**super().get_config(), **self._settings}


def _check(**settings) -> None:
    def refuse(expected, *names):
        received = ", ".join(f"{name}={settings[name]!r}" for name in names)
        raise ValueError(f"{expected} Received: {received}")

    if settings["cell"] not in CELLS:
        refuse(f"cell must be one of {sorted(CELLS)}.", "cell")
    if settings["attention"] not in ("bahdanau", "luong", None):
        refuse("attention must be 'bahdanau', 'luong' or None.", "attention")
    if settings["bridge"] not in ("dense", "pass", "zero"):
        refuse("bridge must be 'dense', 'pass' or 'zero'.", "bridge")
    if settings["bridge"] == "pass" and settings["bidirectional"]:
        refuse(
            "bridge='pass' needs a one-way encoder: a two-way one has twice the states. Use "
            "bridge='dense'.", "bridge", "bidirectional"
        )
    if settings["share_embeddings"] and settings["vocab_size"] != settings["target_vocab_size"]:
        refuse("share_embeddings needs one vocabulary.", "vocab_size", "target_vocab_size")
    if settings["tie_output"] and settings["embedding_width"] != settings["units"]:
        refuse("tie_output needs embeddings as wide as the output.", "embedding_width", "units")
    for name in ("vocab_size", "units", "layers"):
        if settings[name] < 1:
            refuse(f"{name} must be at least 1.", name)


def compile_for_training(model: keras.Model, optimizer: Any) -> None:
    """Cross-entropy as the mean over real tokens; `weights` in the data say which are real."""
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        ],
    )
