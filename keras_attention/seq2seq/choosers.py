"""The strategies of `keras_attention.decoding`, under their first name."""

from keras_attention.decoding.strategies import *  # noqa: F403
from keras_attention.decoding.strategies import __all__  # noqa: F401
