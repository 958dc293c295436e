"""Keras' RNN cells with dropout for several threads and several replicas."""

import contextlib
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf

from keras_attention.backend.per_thread import PerThread
from keras_attention.functional.dropout import dropout, first_row


class _PerThreadDropout:
    """Each thread has its own dropout rate and masks; Keras stores one of each on the cell.

    The masks are drawn once for all steps, those of an example by its place in the global batch, as
    in `keras_attention.layers.Dropout`.
    """

    dropout = PerThread()
    recurrent_dropout = PerThread()
    _dropout_mask = PerThread(None)
    _recurrent_dropout_mask = PerThread(None)

    def get_dropout_mask(self, step_input):
        """The mask of the inputs [B, D] in this sequence; None without dropout."""
        if self._dropout_mask is None and self.dropout > 0:
            self._dropout_mask = self._masks(step_input, self.dropout)
        return self._dropout_mask

    def get_recurrent_dropout_mask(self, step_input):
        """The mask of the state [B, U] in this sequence; None without dropout."""
        if self._recurrent_dropout_mask is None and self.recurrent_dropout > 0:
            self._recurrent_dropout_mask = self._masks(step_input, self.recurrent_dropout)
        return self._recurrent_dropout_mask

    def _masks(self, step_input, rate):
        """One mask, or one for each gate where Keras' cell asks for that."""
        first = first_row(tf.shape(step_input)[0])
        ones = tf.ones_like(step_input)
        count = getattr(self, "dropout_mask_count", None)
        masks = [dropout(ones, rate, self.seed_generator.next(), first) for _ in range(count or 1)]
        return masks if count else masks[0]


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
