"""Layers under `keras.RematScope`, which recomputes activations to save memory."""

import tensorflow as tf


class Rematerialized:
    """Before `keras.layers.Layer`: a layer that accepts tensors by name, or None as an argument.

    `tf.recompute_grad`, which the scope uses, gives no gradient to tensors passed by name, and
    fails for None. Here it gets a function from all float tensors of a call to all tensors of the
    result.
    """

    def rematerialized_call(self, layer_call, *args, **kwargs):
        """`layer_call`, which stores inputs instead of activations if the scope asks for it."""

        def call(*args, **kwargs):
            leaves = tf.nest.flatten((args, kwargs))
            tensors = [leaf for leaf in leaves if _is_float(leaf)]
            outputs = None

            def of_tensors(*tensors):
                nonlocal outputs
                rest = iter(tensors)
                filled = [next(rest) if _is_float(leaf) else leaf for leaf in leaves]
                positional, named = tf.nest.pack_sequence_as((args, kwargs), filled)
                outputs = layer_call(*positional, **named)
                return [leaf for leaf in tf.nest.flatten(outputs) if tf.is_tensor(leaf)]

            remat = super(Rematerialized, self).rematerialized_call(of_tensors, *args, **kwargs)
            rest = iter(remat(*tensors))
            filled = [next(rest) if tf.is_tensor(x) else x for x in tf.nest.flatten(outputs)]
            return tf.nest.pack_sequence_as(outputs, filled)

        return call


class KeepsActivations:
    """Before `keras.layers.Layer`: a layer whose call uses tensors that are not its arguments.

    A function of the caller may capture them, or a memory may be bound to the layer; if recomputed,
    they would have no gradient. The layers inside of it are rematerialized themselves.
    """

    def rematerialized_call(self, layer_call, *args, **kwargs):
        """`layer_call`, unchanged."""
        return layer_call


def _is_float(leaf):
    return tf.is_tensor(leaf) and leaf.dtype.is_floating
