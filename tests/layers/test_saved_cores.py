"""Layers of all cores that release 0.1.0 saved load, and give what they gave."""

import keras
import numpy as np
import pytest

from keras_attention.layers import MultiHeadAttention, RelativeAttention, cores
from tests.layers.saved_0_1_0.make import FOLDER, MODELS, checkpoint_of, inputs_of


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(FOLDER / "expected.npz"))


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_gives_the_output_that_it_gave(name, arrays):
    model = keras.saving.load_model(FOLDER / f"{name}.keras")
    output = model(inputs_of(name, arrays))
    np.testing.assert_allclose(output, arrays[f"output of {name}"], atol=1e-5)


def test_a_checkpoint_is_restored_with_the_tables_of_relative_positions(arrays):
    layer = RelativeAttention(2, 2)
    layer.build((None, None, 4))
    status = checkpoint_of(layer).read(str(FOLDER / "relative_checkpoint"))
    status.assert_existing_objects_matched()
    np.testing.assert_allclose(layer(arrays["x"]), arrays["output of the checkpoint"], atol=1e-5)


@pytest.mark.parametrize("core", [cores.Banded(2), cores.Relative(2, share_heads=False)], ids=str)
def test_a_layer_is_saved_with_its_core(core, tmp_path, arrays):
    x = keras.Input((None, 4))
    model = keras.Model(x, MultiHeadAttention(2, core=core)(x))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.layers[1].core == core
    np.testing.assert_array_equal(copy(arrays["x"]), model(arrays["x"]))
