"""The normalization of all residual connections."""

import keras
import tensorflow as tf

from keras_attention.functional.norms import layer_norm


class LayerNormalization(keras.layers.LayerNormalization):
    """That of Keras over the last axis, with the gradient of `functional.norms.layer_norm`."""

    def call(self, inputs):
        x = tf.cast(inputs, self.compute_dtype)
        return layer_norm(x, self.gamma.value, self.beta.value, self.epsilon)
