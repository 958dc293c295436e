"""The logits processors of `keras_attention.decoding`, under their first name."""

from keras_attention.decoding.processors import *  # noqa: F403
from keras_attention.decoding.processors import __all__  # noqa: F401
