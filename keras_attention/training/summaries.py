"""Write scalars for TensorBoard without the tensorboard package.

`keras.callbacks.TensorBoard` needs the tensorboard package, which TensorFlow no longer installs.
Here only the viewer needs it, training does not.
"""

import os

import keras
import tensorflow as tf

_SCALARS = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
)


class Summaries(keras.callbacks.Callback):
    """Write the logs of `fit` at the end of each epoch, for `tensorboard --logdir DIRECTORY`.

    Training values go to `directory/train`, validation values to `directory/validation`, under the
    names that `keras.callbacks.TensorBoard` uses (`epoch_loss`, ...). A metric of several values,
    such as an F1 score for each class, is written as several curves (`epoch_f1/0`, ...).

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

    def get_state(self):
        """Nothing, for `Resume`: the files are appended to."""

    def set_state(self, state):
        """Nothing, as in `get_state`."""

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            tag = "epoch_" + name.removeprefix("val_").encode("unicode_escape").decode()
            with self._writers[part].as_default():
                for place, number in _scalars(value):
                    tf.summary.write(tag + place, number, step=epoch, metadata=_SCALARS)
        for writer in self._writers.values():
            writer.flush()


def _scalars(value):
    """The numbers of a metric, each with the suffix of its tag."""
    value = tf.cast(value, tf.float32)
    if value.shape.rank == 0:
        return [("", value)]
    flat = tf.reshape(value, [-1])
    return [(f"/{place}", flat[place]) for place in range(flat.shape[0])]
