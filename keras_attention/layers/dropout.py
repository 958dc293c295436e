"""Dropout whose masks belong to the examples, not to the replica that computes them."""

import keras
import tensorflow as tf

from keras_attention.functional.dropout import dropout, first_row


@keras.saving.register_keras_serializable("keras_attention")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that draws the mask of each example by its place in the global batch.

        y = x * keep / (1 - rate),   keep ~ Bernoulli(1 - rate) from (seed, step, example)

    (Srivastava et al., 2014.) Under `tf.distribute`, the replicas of a `keras.layers.Dropout` all
    draw the mask of the first share, so that N replicas train differently from one. Here replica r
    with B rows draws what one replica would draw for rows rB to (r+1)B: a training has the same
    masks with any number of replicas whose global batch is the same, cut as
    `training.distribute.split` cuts it. The random numbers are Philox's (Salmon et al., 2011),
    whose counter begins at the first row, so nothing is drawn in vain.

    x [B, ...] -> [B, ...]. The arguments are those of `keras.layers.Dropout`; the first axis is
    that of the examples. With a `functional.Packing`, x [M, D] has the real tokens of the examples,
    and each gets the mask that it has in [B, T, D].

    >>> layer = Dropout(0.5, seed=1)
    >>> y = layer(tf.ones([2, 4]), training=True).numpy()
    >>> sorted({float(value) for value in y.ravel()})
    [0.0, 2.0]
    """

    def call(self, inputs, training=False, packing=None):
        if not training or not self.rate > 0:
            return inputs
        seed = self.seed_generator.next()
        rows = first_row(tf.shape(inputs if packing is None else packing.mask)[0])
        return dropout(inputs, self.rate, seed, rows, self.noise_shape, packing)
