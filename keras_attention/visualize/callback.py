"""Attention maps in TensorBoard while a model trains."""

import os
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_attention.visualize.fonts import import_matplotlib
from keras_attention.visualize.maps import head_maps, heat_map

# The metadata of TensorBoard's own image writer, so that the tensorboard package is not needed.
_IMAGES = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images"),
    data_class="DATA_CLASS_BLOB_SEQUENCE",
)


class Alignment(NamedTuple):
    """Attention weights to draw, and the tokens of their axes."""

    weights: Any  # [T, S], or [H, T, S] for a map of each head
    source: Any = None  # S tokens
    target: Any = None  # T tokens


class AttentionMaps(keras.callbacks.Callback):
    """Draw attention weights for TensorBoard at the end of every n-th epoch.

    Run `tensorboard --logdir DIRECTORY`, and see Images.

    Args:
        directory: the pictures are written to `directory/train`, like those of
            `training.Summaries`.
        look: `look(model)` -> for each name an `Alignment`, or its weights alone: [T, S], or
            [H, T, S] for a map of each head.
        every: n, in epochs; the first picture is that of the n-th.

    Raises ImportError if matplotlib is not installed, ValueError for n below 1.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     maps = AttentionMaps(directory, lambda model: {"dot": Alignment([[0.9, 0.1]], "ab")})
    ...     maps.on_epoch_end(0)
    ...     os.listdir(directory)
    ['train']
    """

    def __init__(self, directory: str, look: Callable[[Any], Mapping[str, Any]], every: int = 1):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1. Received: every={every}")
        import_matplotlib()
        self._look, self._every = look, every
        self._writer = tf.summary.create_file_writer(os.path.join(directory, "train"))

    def on_epoch_end(self, epoch, logs=None):
        """Epochs count from 0."""
        if (epoch + 1) % self._every:
            return
        with self._writer.as_default():
            for name, alignment in self._look(self.model).items():
                png = _png(alignment)
                tf.summary.write(name, [*_size(png), png], step=epoch, metadata=_IMAGES)
        self._writer.flush()


def _png(alignment):
    if not isinstance(alignment, Alignment):
        alignment = Alignment(alignment)
    draw = head_maps if np.ndim(alignment.weights) == 3 else heat_map
    file = BytesIO()
    draw(*alignment).savefig(file, format="png")
    return file.getvalue()


def _size(png):
    """Width and height from the header of a PNG."""
    return [str(int.from_bytes(png[i : i + 4], "big")).encode() for i in (16, 20)]
