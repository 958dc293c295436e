"""The tasks of `rnn_train.py` and `rnn_beam.py`, written as a user of keras_attention would."""

import keras
import tensorflow as tf
from worker import descend, serve

from keras_attention import functional, seq2seq
from keras_attention.backend.keras import in_xla
from keras_attention.seq2seq import (
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    BeamSearchDecoder,
    TrainingSampler,
    sequence_loss,
    tile_batch,
)


class Model:
    """A two-layer LSTM encoder, and a decoder that attends and feeds its attention back."""

    def __init__(self, settings, arrays):
        units, vocabulary = settings["units"], settings["vocabulary"]
        how = {"dtype": {"bfloat16": "mixed_bfloat16"}.get(settings["dtype"], settings["dtype"])}
        self.source_embedding = keras.layers.Embedding(vocabulary, units, **how)
        self.target_embedding = keras.layers.Embedding(vocabulary, units, **how)
        self.fused = {"fused": settings["fused"]} if "fused" in settings else {}
        self.encoder = [self._encoder_layer(units, how) for _ in range(2)]
        self.mechanism = BahdanauAttention(units, **how)
        cells = [keras.layers.LSTMCell(units, **how) for _ in range(2)]
        self.cell = AttentionWrapper(
            keras.layers.StackedRNNCells(cells, **how),
            self.mechanism,
            attention_layer_size=units,
            **how,
        )
        self.output_layer = keras.layers.Dense(vocabulary, **how)
        self._load(arrays, units)

    def _encoder_layer(self, units, how):
        how = {"return_sequences": True, "return_state": True, **how}
        if not self.fused:  # a search needs no encoder, and runs on trees without this layer, too
            return keras.layers.LSTM(units, **how)
        return seq2seq.RNN(keras.layers.LSTMCell(units, dtype=how["dtype"]), **how, **self.fused)

    def _load(self, arrays, units):
        ids, lengths = tf.zeros([1, 1], tf.int32), tf.ones([1], tf.int32)
        self.output_layer(self.hidden(ids, lengths, ids, lengths))  # makes the weights
        self.source_embedding.set_weights([arrays["source_embedding"]])
        self.target_embedding.set_weights([arrays["target_embedding"]])
        for role, layers in (("encoder", self.encoder), ("decoder", self.cell.cell.cells)):
            for i, layer in enumerate(layers):
                parts = ("kernel", "recurrent", "bias")
                layer.set_weights([arrays[f"{role}_{i}_{part}"] for part in parts])
        self.mechanism.query_layer.set_weights([arrays["query"]])
        self.mechanism.memory_layer.set_weights([arrays["memory"]])
        self.mechanism.attention_v.assign(arrays["v"])
        self.cell._attention_layers[0].set_weights([arrays["attention"]])
        self.output_layer.set_weights([arrays["output_kernel"], arrays["output_bias"]])

    @property
    def variables(self):
        layers = [self.source_embedding, self.target_embedding, *self.encoder]
        layers += [self.cell, self.output_layer]
        return [weight.value for layer in layers for weight in layer.trainable_weights]

    def hidden(self, source, source_lengths, target_in, target_lengths):
        values, states = self.source_embedding(source), []
        mask = tf.sequence_mask(source_lengths, source.shape[1])
        for layer in self.encoder:
            values, *state = layer(values, mask=mask, training=True)
            states.append(state)
        memory = self.cell.prepare_memory(values, source_lengths)
        state = self.cell.get_initial_state(batch_size=tf.shape(source)[0], memory=memory)
        steps = target_in.shape[1]
        decoder = BasicDecoder(
            self.cell,
            TrainingSampler(),
            impute_finished=bool(self.fused) and not in_xla(),  # no work on padding
            maximum_iterations=steps,
            **self.fused,
        )
        outputs, _, _ = decoder(
            self.target_embedding(target_in),
            initial_state=state.clone(cell_state=states),
            memory=memory,
            sequence_length=target_lengths,
        )
        return outputs.rnn_output

    def loss(self, hidden, targets, weights):
        """With the logits of all tokens."""
        return sequence_loss(self.output_layer(hidden), targets, weights)

    def linear_loss(self, hidden, targets, weights):
        """With the logits of a chunk of tokens at a time."""
        kernel, bias = (
            tf.cast(weight, hidden.dtype)
            for weight in (self.output_layer.kernel, self.output_layer.bias)
        )
        result = functional.linear_cross_entropy(hidden, kernel, targets, bias, weights)
        return result.total / tf.reduce_sum(weights)


def train(settings, arrays):
    model = Model(settings, arrays)
    data = {name: tf.constant(arrays[name]) for name in settings["inputs"]}

    @tf.function(jit_compile=settings["jit"])
    def step(source, source_lengths, target_in, target_out, target_lengths):
        with tf.GradientTape() as tape:
            hidden = model.hidden(source, source_lengths, target_in, target_lengths)
            weights = tf.sequence_mask(target_lengths, target_out.shape[1], tf.float32)
            loss_of = model.linear_loss if settings["linear"] else model.loss
            loss = loss_of(hidden, target_out, weights)
        descend(model.variables, tape.gradient(loss, model.variables))
        return loss

    return lambda: step(**data)


def beam(settings, arrays):
    model = Model(settings, arrays)
    data = {name: tf.constant(arrays[name]) for name in settings["inputs"]}
    width = settings["beam_width"]
    decoder = BeamSearchDecoder(
        model.cell,
        width,
        output_layer=model.output_layer,
        maximum_iterations=settings["steps"],
    )

    @tf.function(jit_compile=settings["jit"])
    def search(encoded, source_lengths, state):
        batch = encoded.shape[0]
        memory = model.cell.prepare_memory(encoded, source_lengths)
        begin = model.cell.get_initial_state(batch_size=batch, memory=memory)
        h, c = tf.unstack(state)
        begin = tile_batch(begin.clone(cell_state=[[h, c], [h, c]]), width)
        found, last, _ = decoder(
            model.target_embedding.embeddings.value,
            start_tokens=tf.ones([batch], tf.int32),
            end_token=settings["end_id"],
            initial_state=begin,
            memory=memory,
        )
        return tf.transpose(found.predicted_ids, [0, 2, 1]), last.log_probs

    return lambda: search(**data)


if __name__ == "__main__":
    serve({"train": train, "beam": beam})
