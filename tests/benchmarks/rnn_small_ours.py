"""The tasks of `rnn_small.py`: a layer with its gradients, without embedding and output layer."""

import keras
import tensorflow as tf
from worker import serve

from keras_attention.seq2seq import (
    RNN,
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    TrainingSampler,
)

CELLS = {"LSTM": keras.layers.LSTMCell, "GRU": keras.layers.GRUCell}


def encoder(settings, arrays):
    """A recurrent layer over [B, T, H] with the mask of the lengths."""
    keras.utils.set_random_seed(0)
    cell = CELLS[settings["cell"]](settings["units"])
    layer = RNN(cell, return_sequences=True, fused=settings["fused"])
    layer.build(arrays["inputs"].shape)
    mask = tf.sequence_mask(arrays["lengths"], arrays["inputs"].shape[1])
    return gradients(lambda x: layer(x, mask=mask), layer, settings, arrays)


def decoder(settings, arrays):
    """A cell with Bahdanau's attention over [B, T, H] and input feeding, by teacher forcing."""
    keras.utils.set_random_seed(0)
    units = settings["units"]
    cell = AttentionWrapper(
        CELLS[settings["cell"]](units), BahdanauAttention(units), attention_layer_size=units
    )
    layer = BasicDecoder(cell, TrainingSampler(), fused=settings["fused"])
    lengths = tf.constant(arrays["lengths"])

    def call(x):
        memory = cell.prepare_memory(x, lengths)
        state = cell.get_initial_state(batch_size=x.shape[0], memory=memory)
        return layer(x, initial_state=state, memory=memory)[0].rnn_output

    call(tf.constant(arrays["inputs"]))  # makes the weights
    return gradients(call, layer, settings, arrays)


def gradients(call, layer, settings, arrays):
    """A step: a loss and all gradients."""
    variables = [weight.value for weight in layer.trainable_variables]

    @tf.function(jit_compile=settings["jit"])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(tf.square(call(x)))
        found = tape.gradient(loss, [x, *variables])
        return loss + 0.0 * tf.add_n([tf.reduce_sum(gradient) for gradient in found])

    x = tf.constant(arrays["inputs"])
    return lambda: step(x)


if __name__ == "__main__":
    serve({"encoder": encoder, "decoder": decoder})
