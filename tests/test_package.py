"""The door of the package."""

import copy
import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_attention
import models
from keras_attention.layers._late import LateClass

LATE = """
import sys
import keras_attention
before = [name for name in keras_attention.__all__ if f"keras_attention.{name}" not in sys.modules]
found = [getattr(keras_attention, name).__name__ for name in keras_attention.__all__]
print(before, found == [f"keras_attention.{name}" for name in keras_attention.__all__])
"""


def test_all_packages_exist_and_rare_ones_are_imported_at_first_use():
    told = subprocess.run([sys.executable, "-c", LATE], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "['contrib', 'export', 'migrate', 'visualize'] True"
    assert set(keras_attention.__all__) <= set(dir(keras_attention))


def test_missing_parts_are_named():
    with pytest.raises(AttributeError, match="keras_attention.*'nothing'"):
        _ = keras_attention.nothing


# -- saved files

LOAD = """
import sys
import keras, {package}
early = sorted(name for name in sys.modules if name.startswith("models."))
loaded = {{}}
for path in sys.argv[1:]:
    try:
        loaded[path] = keras.models.load_model(path)(keras.ops.ones([1, 3], "int32")).numpy()
    except ValueError as error:
        print(error)
import numpy as np
np.savez(sys.argv[1] + ".npz", **{{str(place): x for place, x in enumerate(loaded.values())}})
print("early:", early)
"""


def load_elsewhere(package, *paths):
    """What the models in these files say to ones, and what is printed, in a new process."""
    command = [sys.executable, "-c", LOAD.format(package=package), *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    with np.load(f"{paths[0]}.npz") as found:
        return [found[name] for name in sorted(found)], done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(paths, what the models there say to ones): a model of ours, and layers of ours in one."""
    tagger = models.TransformerTagger(9, labels=3, layers=1, width=4, heads=2, ff_width=8)
    ids = keras.Input([None], dtype="int32")
    steps = keras.layers.Embedding(9, 4)(ids)
    pooled = keras.Model(ids, keras_attention.layers.AttentionPooling(3)(steps))
    folder = tmp_path_factory.mktemp("saved")
    paths, said = [folder / "tagger.keras", folder / "pooled.keras"], []
    for model, path in zip((tagger, pooled), paths):
        said.append(np.asarray(model(np.ones([1, 3], "int32"))))
        model.save(path)
    return paths, said


def test_import_models_is_all_that_loading_needs_and_it_imports_no_model(saved):
    paths, said = saved
    found, printed = load_elsewhere("models", *paths)
    for x, expected in zip(found, said, strict=True):
        np.testing.assert_array_equal(x, expected)
    assert "early: []" in printed


@pytest.mark.full
def test_without_import_models_the_error_reports_it(saved):
    paths, said = saved
    found, printed = load_elsewhere("keras_attention", *paths)
    np.testing.assert_array_equal(found, said[1:])
    assert "TransformerTagger" in printed and "`import models`" in printed


def test_classes_that_are_not_imported_may_be_copied_and_attended_to():
    for find in (lambda: models.Transformer, lambda: pytest.fail("Nobody needs the class.")):
        late = copy.deepcopy(LateClass(find))
        assert not hasattr(late, "__wrapped__") and not inspect.isclass(late)
    assert copy.copy(LateClass(lambda: int)).from_bytes(b"\1", "big") == 1


def test_the_models_that_the_package_names_are_those_there_are():
    assert sorted(keras_attention._MODELS) == sorted(models.__all__)
    for name in models.__all__:
        registered = keras.saving.get_registered_object(f"keras_attention>{name}")
        assert registered.from_config.__self__ is getattr(models, name)
