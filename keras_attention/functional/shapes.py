"""Lengths of axes: a number where one is known, a scalar tensor where only the graph knows it."""

import tensorflow as tf


def sizes(x: tf.Tensor) -> list:
    """The length of every axis, an int where it is known when the graph is made.

    >>> sizes(tf.zeros([2, 3]))
    [2, 3]
    """
    dynamic = tf.unstack(tf.shape(x), x.shape.rank)
    return [known if known is not None else d for known, d in zip(x.shape, dynamic)]


def pair(value) -> tuple:
    """One number for both axes of an image, or one for each: (rows, columns).

    >>> pair(7), pair((1, 2))
    ((7, 7), (1, 2))
    """
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)
