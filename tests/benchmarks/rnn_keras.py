"""The training step of `rnn_train.py` as a user of Keras 3 writes it: an RNN over an own cell.

KERAS_BACKEND is `tensorflow` or `torch`.
"""

import keras
from keras import layers, ops
from worker import descend, serve


class AttentionCell(layers.Layer):
    """Two LSTM cells that attend to the encoded source (Bahdanau) and feed the result back."""

    def __init__(self, units):
        super().__init__()
        self.cells = [layers.LSTMCell(units) for _ in range(2)]
        self.query_layer = layers.Dense(units, use_bias=False)
        self.memory_layer = layers.Dense(units, use_bias=False)
        self.join = layers.Dense(units, use_bias=False)
        self.v = self.add_weight(shape=(units,), name="v")
        self.units = self.output_size = units
        self.state_size = [units] * 5  # the attention, and h and c of both cells

    def build(self, input_shape):
        units = self.units
        self.cells[0].build((None, 2 * units))
        self.cells[1].build((None, units))
        self.query_layer.build((None, units))
        self.memory_layer.build((None, None, units))
        self.join.build((None, 2 * units))

    def remember(self, encoded, mask):
        """Set what the next sequences attend to: [B, S, D], [B, S]."""
        self.encoded, self.keys = encoded, self.memory_layer(encoded)
        self.hidden = ops.where(mask, 0.0, -1e9)

    def call(self, inputs, states, training=False):
        attention, *states = states
        x, first = self.cells[0](ops.concatenate([inputs, attention], -1), states[:2])
        x, second = self.cells[1](x, states[2:])
        query = ops.expand_dims(self.query_layer(x), 1)
        scores = ops.sum(ops.tanh(query + self.keys) * self.v, -1) + self.hidden
        weights = ops.expand_dims(ops.softmax(scores), 1)
        context = ops.squeeze(ops.matmul(weights, self.encoded), 1)
        attention = self.join(ops.concatenate([x, context], -1))
        return attention, [attention, *first, *second]


class Model:
    """A two-layer LSTM encoder, and a decoder that attends and feeds its attention back."""

    def __init__(self, settings, arrays):
        units, vocabulary = settings["units"], settings["vocabulary"]
        self.source_embedding = layers.Embedding(vocabulary, units)
        self.target_embedding = layers.Embedding(vocabulary, units)
        self.encoder = [
            layers.LSTM(units, return_sequences=True, return_state=True) for _ in range(2)
        ]
        self.cell = AttentionCell(units)
        self.decoder = layers.RNN(self.cell, return_sequences=True)
        self.output_layer = layers.Dense(vocabulary)
        self._load(arrays, units)

    def _load(self, arrays, units):
        for layer in (self.source_embedding, self.target_embedding):
            layer.build((None, None))
        for layer in (*self.encoder, self.decoder, self.output_layer):
            layer.build((None, None, units))
        self.source_embedding.set_weights([arrays["source_embedding"]])
        self.target_embedding.set_weights([arrays["target_embedding"]])
        for role, cells in (("encoder", self.encoder), ("decoder", self.cell.cells)):
            for i, cell in enumerate(cells):
                parts = ("kernel", "recurrent", "bias")
                cell.set_weights([arrays[f"{role}_{i}_{part}"] for part in parts])
        self.cell.query_layer.set_weights([arrays["query"]])
        self.cell.memory_layer.set_weights([arrays["memory"]])
        self.cell.v.assign(arrays["v"])
        self.cell.join.set_weights([arrays["attention"]])
        self.output_layer.set_weights([arrays["output_kernel"], arrays["output_bias"]])

    @property
    def variables(self):
        parts = [self.source_embedding, self.target_embedding, *self.encoder]
        parts += [self.decoder, self.output_layer]
        return [weight.value for layer in parts for weight in layer.trainable_weights]

    def loss(self, source, source_lengths, target_in, target_out, target_lengths):
        mask = ops.arange(source.shape[1]) < ops.expand_dims(source_lengths, 1)
        values, states = self.source_embedding(source), []
        for layer in self.encoder:
            values, *state = layer(values, mask=mask)
            states += state
        self.cell.remember(values, mask)
        begin = [ops.zeros_like(states[0]), *states]
        outputs = self.decoder(self.target_embedding(target_in), initial_state=begin)
        logits = self.output_layer(outputs)  # once, after the loop
        losses = ops.sparse_categorical_crossentropy(target_out, logits, from_logits=True)
        weights = ops.arange(target_out.shape[1]) < ops.expand_dims(target_lengths, 1)
        weights = ops.cast(weights, "float32")
        return ops.sum(losses * weights) / ops.sum(weights)


def train(settings, arrays):
    model = Model(settings, arrays)
    data = {name: ops.convert_to_tensor(arrays[name]) for name in settings["inputs"]}
    make = {"tensorflow": _on_tensorflow, "torch": _on_torch}[keras.backend.backend()]
    return make(model, data, settings["jit"])


def _on_tensorflow(model, data, jit):
    import tensorflow as tf

    @tf.function(jit_compile=jit)
    def step(**data):
        with tf.GradientTape() as tape:
            loss = model.loss(**data)
        descend(model.variables, tape.gradient(loss, model.variables))
        return loss

    return lambda: step(**data)


def _on_torch(model, data, jit):
    import torch

    optimizer = torch.optim.SGD(model.variables, 0.1)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(**data)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


if __name__ == "__main__":
    serve({"train": train})
