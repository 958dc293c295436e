"""Scalars for TensorBoard, written without TensorBoard.

`keras.callbacks.TensorBoard` needs the tensorboard package, which TensorFlow no longer brings.
Only who looks at the curves needs it; who trains does not.
"""

import os

import keras
import tensorflow as tf

_SCALARS = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
)


class Summaries(keras.callbacks.Callback):
    """Write what `fit` logs at the end of each epoch: look with `tensorboard --logdir DIRECTORY`.

    Training values go to `directory/train`, validation values to `directory/validation`, under the
    names that `keras.callbacks.TensorBoard` gives them (`epoch_loss`, ...).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     summaries = Summaries(directory)
    ...     summaries.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    ...     sorted(os.listdir(directory))
    ['train', 'validation']
    """

    def __init__(self, directory: str):
        super().__init__()
        self._writers = {
            part: tf.summary.create_file_writer(os.path.join(directory, part))
            for part in ("train", "validation")
        }

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            with self._writers[part].as_default():
                value = tf.cast(value, tf.float32)
                tag = "epoch_" + name.removeprefix("val_")
                tf.summary.write(tag, value, step=epoch, metadata=_SCALARS)
        for writer in self._writers.values():
            writer.flush()
