"""What fit logs is what TensorBoard shows."""

import numpy as np
import tensorflow as tf

from keras_attention.training import Summaries


def test_a_metric_of_several_values_is_a_curve_each_and_names_are_plain(tmp_path):
    Summaries(str(tmp_path)).on_epoch_end(3, {"f1": np.array([0.5, 0.25]), "a\x1b[2J": 1.0})
    found = {}
    for path in (tmp_path / "train").iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found == {("epoch_f1/0", 3): 0.5, ("epoch_f1/1", 3): 0.25, (r"epoch_a\x1b[2J", 3): 1.0}
