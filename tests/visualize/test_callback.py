"""Maps in TensorBoard's files, and the diagonal of a model that learned to copy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.training import token_objective
from keras_attention.visualize import Alignment, AttentionMaps, heat_map
from models import RNNSeq2Seq

pytest.importorskip("matplotlib", reason="pictures need the extra [visualize]")


def _images(directory):
    """{(name, epoch): picture [Y, X, C]} from the event files in a directory."""
    found = {}
    for path in sorted(map(str, directory.glob("events.*"))):
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "images"
                width, height, png = tf.make_ndarray(value.tensor)
                picture = tf.io.decode_png(png).numpy()
                assert picture.shape[:2] == (int(height), int(width))
                found[value.tag, event.step] = picture
    return found


def test_maps_are_written_at_every_nth_epoch_and_can_be_read_back(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(3, name="look")])
    model.compile("sgd", "mse")

    def look(model):
        kernel = model.get_layer("look").kernel
        return {
            "one": Alignment(kernel, "abc", "de"),
            "heads": tf.stack([kernel.value, -kernel.value]),
        }

    maps = AttentionMaps(str(tmp_path), look, every=2)
    model.fit(np.ones((4, 2)), np.ones((4, 3)), epochs=4, verbose=0, callbacks=[maps])
    found = _images(tmp_path / "train")
    assert sorted(found) == [("heads", 1), ("heads", 3), ("one", 1), ("one", 3)]
    assert (found["one", 1].shape != found["heads", 1].shape) and found["one", 1].std() > 10


def test_the_picture_in_the_file_is_that_of_the_map(tmp_path):
    weights = np.random.dirichlet(np.ones(3), 2)
    maps = AttentionMaps(str(tmp_path), lambda model: {"map": Alignment(weights, "abc", "de")})
    maps.on_epoch_end(7)
    heat_map(weights, "abc", "de").savefig(tmp_path / "map.png")
    expected = tf.io.decode_png((tmp_path / "map.png").read_bytes())
    np.testing.assert_array_equal(_images(tmp_path / "train")["map", 7], expected)


def test_epochs_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="every=0"):
        AttentionMaps(str(tmp_path), lambda model: {}, every=0)


@pytest.mark.full
def test_a_model_that_learned_to_copy_shows_the_diagonal(tmp_path):
    sources = [np.random.randint(4, 12, 5) for _ in range(3200)]
    model = RNNSeq2Seq(12, units=32, attention="luong", bridge="zero")
    model.compile(keras.optimizers.Adam(1e-2), **token_objective())
    source = np.array([[5, 9, 4, 11, 7, 2]])  # 2 ends it

    def look(model):
        found = model.generate(source, max_length=6, return_alignments=True)
        return {"copy": Alignment(found.alignments[0, 0], source[0], found.ids[0, 0].numpy())}

    maps = AttentionMaps(str(tmp_path), look)
    model.fit(batches(sources, sources, 32, seed=0), shuffle=False, verbose=0, callbacks=[maps])
    axes = heat_map(*look(model)["copy"]).axes[0]
    shown = axes.images[0].get_array().data
    assert [label.get_text() for label in axes.get_yticklabels()] == "5 9 4 11 7 2".split()
    shown = shown[:5]  # to end, it need not look anywhere
    assert shown.argmax(1).tolist() == [0, 1, 2, 3, 4] and shown.diagonal().min() > 0.6
    assert ("copy", 0) in _images(tmp_path / "train")
