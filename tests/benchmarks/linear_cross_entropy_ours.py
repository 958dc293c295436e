"""The loss of `linear_cross_entropy.py` in TensorFlow: in chunks, and in two ways by all logits."""

import resource

import tensorflow as tf
from worker import serve

from keras_attention.functional import linear_cross_entropy
from keras_attention.functional.likelihood import cross_entropy


def chunks(hidden, matrix, bias, labels, weights):
    """The sum of the losses, and how many tokens are correct."""
    found = linear_cross_entropy(hidden, matrix, labels, bias, weights)
    return found.total, tf.math.count_nonzero(found.correct)


def own(hidden, matrix, bias, labels, weights):
    """The same from all logits."""
    logits = tf.nn.bias_add(tf.matmul(hidden, matrix), bias)
    correct = (tf.argmax(logits, -1, tf.int32) == labels) & (weights != 0)
    losses = cross_entropy(labels, logits, counted=weights != 0)
    return tf.reduce_sum(weights * losses), tf.math.count_nonzero(correct)


def tensorflow(hidden, matrix, bias, labels, weights):
    """The same as TensorFlow's tutorials do."""
    logits = tf.nn.bias_add(tf.matmul(hidden, matrix), bias)
    correct = (tf.argmax(logits, -1, tf.int32) == labels) & (weights != 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_sum(weights * losses), tf.math.count_nonzero(correct)


def task(loss):
    """A step that keeps its gradients, as a task of `worker`."""

    def make(settings, arrays):
        tokens, width, size = (settings[name] for name in ("tokens", "width", "vocabulary"))
        shapes = [tokens, width], [width, size], [size]
        random = (tf.random.stateless_normal(shape, (0, i)) for i, shape in enumerate(shapes))
        inputs = [tf.Variable(x / width**0.5) for x in random]
        labels = tf.cast(tf.range(tokens) * 7919 % size, tf.int32)
        weights = tf.cast(tf.range(tokens) < int(tokens * settings.get("real", 1)), tf.float32)
        gradients = [tf.Variable(tf.zeros_like(x)) for x in inputs]

        @tf.function(jit_compile=settings["jit"], autograph=False)
        def step():
            with tf.GradientTape() as tape:
                total, correct = loss(*inputs, labels, weights)
                mean = total / tf.reduce_sum(weights)
            for kept, gradient in zip(gradients, tape.gradient(mean, inputs)):
                kept.assign(gradient)
            return mean, tf.cast(correct, tf.float32)

        if not settings.get("memory"):
            return lambda: step()[0]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def risen():
            step()
            return tf.constant((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)

        return risen

    return make


if __name__ == "__main__":
    serve({"chunks": task(chunks), "own": task(own), "tensorflow": task(tensorflow)})
