"""Addressing of the Neural Turing Machine (Graves et al., 2014): where H heads read and write.

B batch, H heads, S memory slots, D width of a slot. Weights are float32 or wider.
"""

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.scores import cosine
from keras_attention.functional.shapes import check_shapes

_UNSEEN = 1e-12  # replaces a weight of 0, so that its logarithm is finite


def content_weights(key: tf.Tensor, memory: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """softmax over S of strength * cos(key, slot) (eq. 5, 6).  [B, H, D], [B, S, D], [B, H, 1].

    -> [B, H, S].

    >>> memory = tf.constant([[[1.0, 0.0], [0.0, 2.0]]])
    >>> weights = content_weights(tf.constant([[[0.0, 5.0]]]), memory, tf.constant([[[100.0]]]))
    >>> weights.numpy().tolist()
    [[[0.0, 1.0]]]
    """
    similarity = cosine(key, memory)
    return softmax(tf.cast(strength, similarity.dtype) * similarity)


def interpolate(content: tf.Tensor, previous: tf.Tensor, gate: tf.Tensor) -> tf.Tensor:
    """gate * content + (1 - gate) * previous (eq. 7).  [B, H, S], [B, H, S], [B, H, 1].

    >>> interpolate(tf.constant([1.0, 0.0]), tf.constant([0.0, 1.0]), 0.25).numpy().tolist()
    [0.25, 0.75]
    """
    content = widen(content)
    previous, gate = tf.cast(previous, content.dtype), tf.cast(gate, content.dtype)
    return gate * content + (1 - gate) * previous


def rotate(weights: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Circular convolution (eq. 8): slot i gets sum_j weights(i - j) shift(j).

    [B, H, S], [B, H, 2 R + 1] over the offsets -R .. R -> [B, H, S]. Offset +1 moves to the next
    higher slot, and from the last slot to the first. Raises ValueError for an even number of
    offsets.

    >>> rotate(tf.constant([0.0, 0.0, 1.0]), tf.constant([0.0, 0.0, 1.0])).numpy().tolist()
    [1.0, 0.0, 0.0]
    """
    weights = widen(weights)
    shift = tf.cast(shift, weights.dtype)
    if shift.shape[-1] is None or shift.shape[-1] % 2 == 0:
        raise ValueError(
            "shift must be [B, H, 2 R + 1], one share for each offset from -R to R. Received: "
            f"shift of shape {shift.shape}"
        )
    reach = shift.shape[-1] // 2
    offsets = range(-reach, reach + 1)
    # tf.vectorized_map and jacobians rotate the wrong axis of tf.roll(axis=-1).
    axis = weights.shape.rank - 1
    turned = tf.stack([tf.roll(weights, offset, axis=axis) for offset in offsets], -1)
    return tf.reduce_sum(turned * tf.expand_dims(shift, -2), -1)


def sharpen(weights: tf.Tensor, sharpness: tf.Tensor) -> tf.Tensor:
    """weights^sharpness / sum of weights^sharpness (eq. 9), also where a weight is 0.  [B, H, S].

    >>> sharpen(tf.constant([0.75, 0.25]), tf.constant([2.0])).numpy().round(6).tolist()
    [0.8999999761581421, 0.10000000149011612]
    """
    logs = tf.math.log(widen(weights) + _UNSEEN)
    return softmax(tf.cast(sharpness, logs.dtype) * logs)


def address(
    content: tf.Tensor, previous: tf.Tensor, gate: tf.Tensor, shift: tf.Tensor, sharpness: tf.Tensor
) -> tf.Tensor:
    """The weights from content and previous weights: eq. 7, 8, 9 in turn.

    content, previous [B, H, S], gate [B, H, 1], shift [B, H, 2 R + 1], sharpness [B, H, 1]
    -> [B, H, S], rows that sum to 1.

    >>> here, one_on = tf.constant([[[0.0, 1.0, 0.0]]]), tf.constant([[[0.0, 0.0, 1.0]]])
    >>> gone_on = address(here, here, tf.zeros([1, 1, 1]), one_on, tf.ones([1, 1, 1]))
    >>> gone_on.numpy().round(6).tolist()
    [[[0.0, 0.0, 1.0]]]
    """
    return sharpen(rotate(interpolate(content, previous, gate), shift), sharpness)


def read_memory(weights: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
    """The weighted sum of slots of each head (eq. 2).  [B, H, S], [B, S, D] -> [B, H, D].

    >>> read_memory(tf.constant([[[0.5, 0.5]]]), tf.constant([[[1.0], [3.0]]])).numpy().tolist()
    [[[2.0]]]
    """
    return tf.matmul(tf.cast(weights, memory.dtype), memory)


def write_memory(
    memory: tf.Tensor, weights: tf.Tensor, erase: tf.Tensor, add: tf.Tensor
) -> tf.Tensor:
    """Every head erases, then every head adds (eq. 3, 4).

    memory [B, S, D], weights [B, H, S], erase in [0, 1] and add [B, H, D] -> [B, S, D].

    >>> memory, first = tf.constant([[[1.0], [3.0]]]), tf.constant([[[1.0, 0.0]]])
    >>> all_of_it, new = tf.constant([[[1.0]]]), tf.constant([[[7.0]]])
    >>> write_memory(memory, first, erase=all_of_it, add=new).numpy().tolist()
    [[[7.0], [3.0]]]
    """
    places, numbers = "B H S", "B H D"
    check_shapes(
        memory=("B S D", memory),
        weights=(places, weights),
        erase=(numbers, erase),
        add=(numbers, add),
    )
    weights, erase, add = (tf.cast(x, memory.dtype) for x in (weights, erase, add))
    kept = 1 - tf.expand_dims(weights, -1) * tf.expand_dims(erase, 2)  # [B, H, S, D]
    return memory * _product_over_heads(kept) + tf.matmul(weights, add, transpose_a=True)


def _product_over_heads(kept):
    """A chain of products: the gradient of reduce_prod is slow, and not supported by all of XLA."""
    product, *others = tf.unstack(kept, axis=1)
    for other in others:
        product *= other
    return product
