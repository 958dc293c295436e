"""Keras layers that own weights, one family a file."""

from keras_attention.layers.bridge import Bridge

__all__ = ["Bridge"]
