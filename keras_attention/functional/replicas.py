"""Means over all replicas of a `tf.distribute` strategy."""

import tensorflow as tf


def mean_over_replicas(total: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """sum of the totals / sum of the counts, divided by the number of replicas; 0 / 0 is 0.

    total, count: of one shape, the sums of this replica. Gradients (and the values, in Keras' logs)
    are summed over the replicas, so the result is the mean over all of them, even if they have
    different counts. The value is the same on each; the gradient is that of its own total.

    >>> float(mean_over_replicas(tf.constant(6.0), tf.constant(4.0)))
    1.5
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    context = tf.distribute.get_replica_context()
    if replicas == 1 or context is None:
        return tf.math.divide_no_nan(total, count) / replicas
    both = tf.stop_gradient(tf.stack([total, count]))
    every_total, every_count = tf.unstack(context.all_reduce("SUM", both))
    share = tf.math.divide_no_nan(total, every_count)
    mean = tf.math.divide_no_nan(every_total, every_count)
    return share + tf.stop_gradient(mean / replicas - share)
