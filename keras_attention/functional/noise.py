"""Random numbers as a pure function of seed and step, equal in eager mode, graphs and XLA."""

import tensorflow as tf


def uniform(seed: tf.Tensor, step: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Numbers in (0, 1), independent for every seed and step.  int32 [2], int32 -> float32 [...].

    With a seed for each row, [B, 2], the numbers of a row [B, ...] do not depend on the other rows:
    they are those that its seed alone gives for a shape [1, ...].

    A hash of the index in the tensor: two rounds of a 32-bit mixer with full avalanche. It uses
    only core operations, so that searches that sample can be exported: LiteRT without Flex and
    OpenVINO have no `StatelessRandomUniformV2`, the operation of `tf.random.stateless_uniform`.

    >>> first, again = (uniform(tf.constant([3, 0]), 7, [2, 2]) for _ in range(2))
    >>> bool(tf.reduce_all(first == again)), bool(tf.reduce_all((0 < first) & (first < 1)))
    (True, True)
    """
    seed = tf.bitcast(tf.cast(seed, tf.int32), tf.uint32)
    step = tf.bitcast(tf.cast(step, tf.int32), tf.uint32)
    xor = tf.bitwise.bitwise_xor
    odd = tf.constant(0x9E3779B9, tf.uint32)
    key = _mixed(xor(_mixed(xor(_mixed(seed[..., 0] + odd), seed[..., 1])), step))[..., None]
    of_one_seed = shape[1:] if seed.shape.rank == 2 else shape
    places = tf.cast(tf.range(tf.reduce_prod(of_one_seed)), tf.uint32)
    bits = _mixed(xor(_mixed(places + key), _mixed(key + odd)))
    return tf.reshape(_open_unit(bits), shape)


def gumbel(seed: tf.Tensor, step: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Standard Gumbel noise: the argmax of `logits + gumbel` is a sample of their softmax.

    int32 [2] or [B, 2], int32 -> float32 [...]. (Maddison et al., 2014.)

    >>> gumbel(tf.constant([3, 0]), 0, [2, 5]).shape
    TensorShape([2, 5])
    """
    return -tf.math.log(-tf.math.log(uniform(seed, step, shape)))


def _open_unit(bits):
    """The 23 highest bits n of a uint32 as (n + 1/2) / 2^23, which is in (0, 1).

    With the half these are the 24 bits of a float32. With one more bit the largest n would be
    rounded to 1, where Gumbel noise is infinite.
    """
    n = tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32))
    return (tf.cast(n, tf.float32) + 0.5) * 2.0**-23


def _mixed(x):
    """A permutation of the 32-bit numbers in which every bit depends on every bit."""

    def folded(x, shift):
        return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(shift, tf.uint32)))

    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = folded(x, shift) * tf.constant(factor, tf.uint32)
    return folded(x, 16)
