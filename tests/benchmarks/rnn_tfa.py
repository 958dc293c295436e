"""The tasks of `rnn_train.py` and `rnn_beam.py`, written as tutorials of TFA do."""

import tensorflow as tf
import tensorflow_addons as tfa
from worker import descend, serve


class Model:
    """A two-layer LSTM encoder, and a decoder that attends and feeds its attention back."""

    def __init__(self, settings, arrays):
        units, vocabulary = settings["units"], settings["vocabulary"]
        self.source_embedding = tf.keras.layers.Embedding(vocabulary, units)
        self.target_embedding = tf.keras.layers.Embedding(vocabulary, units)
        self.encoder = [
            tf.keras.layers.LSTM(units, return_sequences=True, return_state=True) for _ in range(2)
        ]
        self.mechanism = tfa.seq2seq.BahdanauAttention(units)
        self.cell = tfa.seq2seq.AttentionWrapper(
            tf.keras.layers.StackedRNNCells([tf.keras.layers.LSTMCell(units) for _ in range(2)]),
            self.mechanism,
            attention_layer_size=units,
        )
        self.output_layer = tf.keras.layers.Dense(vocabulary)
        self.output_in_loop = settings.get("output_in_loop", False)
        self._load(arrays, units)

    def _load(self, arrays, units):
        ids, lengths = tf.zeros([1, 1], tf.int32), tf.ones([1], tf.int32)
        self.logits(ids, lengths, ids, lengths)  # makes the weights
        self.source_embedding.set_weights([arrays["source_embedding"]])
        self.target_embedding.set_weights([arrays["target_embedding"]])
        for role, layers in (("encoder", self.encoder), ("decoder", self.cell._cell.cells)):
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
        return [weight for layer in layers for weight in layer.trainable_weights]

    def logits(self, source, source_lengths, target_in, target_lengths):
        values, states = self.source_embedding(source), []
        mask = tf.sequence_mask(source_lengths, source.shape[1])
        for layer in self.encoder:
            values, *state = layer(values, mask=mask)
            states.append(state)
        self.mechanism(values, mask=mask, setup_memory=True)
        state = self.cell.get_initial_state(batch_size=source.shape[0], dtype=tf.float32)
        decoder = tfa.seq2seq.BasicDecoder(
            self.cell,
            tfa.seq2seq.TrainingSampler(),
            output_layer=self.output_layer if self.output_in_loop else None,
            maximum_iterations=target_in.shape[1],
        )
        outputs, _, _ = decoder(
            self.target_embedding(target_in),
            initial_state=state.clone(cell_state=tuple(states)),
            sequence_length=target_lengths,
        )
        if self.output_in_loop:
            return outputs.rnn_output
        return self.output_layer(outputs.rnn_output)


def train(settings, arrays):
    model = Model(settings, arrays)
    data = {name: tf.constant(arrays[name]) for name in settings["inputs"]}

    @tf.function(autograph=settings["autograph"])
    def step(source, source_lengths, target_in, target_out, target_lengths):
        with tf.GradientTape() as tape:
            logits = model.logits(source, source_lengths, target_in, target_lengths)
            weights = tf.sequence_mask(target_lengths, target_out.shape[1], tf.float32)
            loss = tfa.seq2seq.sequence_loss(logits, target_out, weights)
        descend(model.variables, tape.gradient(loss, model.variables))
        return loss

    return lambda: step(**data)


def beam(settings, arrays):
    model = Model(settings, arrays)
    data = {name: tf.constant(arrays[name]) for name in settings["inputs"]}
    width = settings["beam_width"]
    decoder = tfa.seq2seq.BeamSearchDecoder(
        model.cell,
        width,
        output_layer=model.output_layer,
        maximum_iterations=settings["steps"],
    )

    @tf.function(autograph=settings["autograph"])
    def search(encoded, source_lengths, state):
        batch = encoded.shape[0]
        memory, lengths, h, c = tfa.seq2seq.tile_batch(
            (encoded, source_lengths, state[0], state[1]), width
        )
        model.mechanism([memory, lengths], setup_memory=True)
        begin = model.cell.get_initial_state(batch_size=batch * width, dtype=tf.float32)
        found, last, _ = decoder(
            model.target_embedding.embeddings,
            start_tokens=tf.ones([batch], tf.int32),
            end_token=settings["end_id"],
            initial_state=begin.clone(cell_state=([h, c], [h, c])),
        )
        return tf.transpose(found.predicted_ids, [0, 2, 1]), last.log_probs

    return lambda: search(**data)


if __name__ == "__main__":
    serve({"train": train, "beam": beam})
