"""Keras' RNN cells with dropout that several threads can use at once."""

import contextlib
from collections.abc import Iterable, Iterator

import keras

from keras_attention.backend.per_thread import PerThread


class _PerThreadDropout:
    """Each thread has its own dropout rate and masks; Keras stores one of each on the cell."""

    dropout = PerThread()
    recurrent_dropout = PerThread()
    _dropout_mask = PerThread(None)
    _recurrent_dropout_mask = PerThread(None)


# The names are those of Keras, because the paths of the weights contain them.


@keras.saving.register_keras_serializable("keras_attention.dropout")
class GRUCell(_PerThreadDropout, keras.layers.GRUCell):
    """`keras.layers.GRUCell`; see `_PerThreadDropout`."""


@keras.saving.register_keras_serializable("keras_attention.dropout")
class LSTMCell(_PerThreadDropout, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell`; see `_PerThreadDropout`."""


@keras.saving.register_keras_serializable("keras_attention.dropout")
class SimpleRNNCell(_PerThreadDropout, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell`; see `_PerThreadDropout`."""


@contextlib.contextmanager
def without_dropout(cells: Iterable[_PerThreadDropout]) -> Iterator[None]:
    """Within: the cells of this file apply no dropout in this thread, and draw no masks.

    Keras' RNN draws the masks of its cell even if it does not apply them, which advances the seed:
    evaluation would change the training after it.
    """
    with contextlib.ExitStack() as stack:
        for cell in cells:
            for rate in (_PerThreadDropout.dropout, _PerThreadDropout.recurrent_dropout):
                stack.enter_context(rate.within(cell, 0.0))
        yield
