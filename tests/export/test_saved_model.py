import gc
import os

import numpy as np
import pytest
import tensorflow as tf

from keras_attention import export
from tests.sampled import full


class Shout(tf.Module):
    """Text -> itself with a mark, and its length."""

    def __init__(self, mark):
        super().__init__()
        self.mark = tf.Variable(mark)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text):
        length = tf.strings.length(text, "UTF8_CHAR")
        return {"shouted": text + self.mark, "length": tf.cast(length, tf.float32)}


def save(directory, mark="!"):
    shout = Shout(mark)
    export.save(str(directory), shout, {"serving_default": shout.__call__})
    return shout


def shouted(directory):
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    return serve(text=tf.constant(["好"]))["shouted"].numpy()[0].decode()


def test_a_saved_model_takes_its_name_when_it_is_whole(tmp_path):
    save(tmp_path / "new/folder/served")
    assert shouted(tmp_path / "new/folder/served") == "好!"
    assert os.listdir(tmp_path / "new/folder") == ["served"]
    others_may_read = os.stat(tmp_path / "new/folder/served").st_mode & 0o055
    assert others_may_read == 0o055


def test_an_empty_directory_and_an_earlier_saved_model_are_replaced(tmp_path):
    (tmp_path / "served").mkdir()
    save(tmp_path / "served", "!")
    save(tmp_path / "served", "?")
    assert shouted(tmp_path / "served") == "好?"
    assert os.listdir(tmp_path) == ["served"]


def test_a_link_to_an_earlier_saved_model_stays_a_link(tmp_path):
    save(tmp_path / "versions/1", "!")
    (tmp_path / "latest").symlink_to(tmp_path / "versions/1")
    save(tmp_path / "latest", "?")
    assert (tmp_path / "latest").is_symlink() and shouted(tmp_path / "versions/1") == "好?"


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "model.keras"])
def test_a_directory_that_holds_something_else_is_refused(name, tmp_path):
    save(tmp_path / "served")
    (tmp_path / "served" / name).write_text("kept")
    with pytest.raises(ValueError, match=f"would be lost: {name}"):
        save(tmp_path / "served")
    assert (tmp_path / "served" / name).read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["assets/logo.svg", "variables/data.csv", "assets.extra/notes", "saved_model.pb"]
)
def test_what_only_has_the_names_of_a_saved_model_is_refused(name, tmp_path):
    (tmp_path / "site" / name).parent.mkdir(parents=True)
    (tmp_path / "site" / name).write_text("mine")
    with pytest.raises(ValueError, match="site"):
        save(tmp_path / "site")
    assert (tmp_path / "site" / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["assets/logo.svg", "variables/data.csv", "assets.extra/a/b"])
def test_other_files_in_the_folders_of_a_saved_model_are_kept(name, tmp_path):
    save(tmp_path / "served")
    (tmp_path / "served" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "served" / name).write_text("mine")
    with pytest.raises(ValueError, match=f"would be lost: {name}"):
        save(tmp_path / "served")
    assert (tmp_path / "served" / name).read_text() == "mine"


@pytest.mark.parametrize("times", [1, 2])
def test_where_a_new_one_cannot_take_its_name_the_old_one_is_kept(times, tmp_path, monkeypatch):
    """Also where it cannot even get its name back."""
    save(tmp_path / "served", "!")
    rename, fails = os.rename, [OSError(28, "No space left on device")] * times

    def full(old, new):
        if os.path.basename(new) == "served" and fails:
            raise fails.pop()
        rename(old, new)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "served", "?")
    (left,) = os.listdir(tmp_path)
    assert shouted(tmp_path / left) == "好!"
    assert (left == "served") == (times == 1)


@pytest.mark.parametrize("directory", ["gs://bucket/served", ""])
def test_anything_but_a_folder_of_this_machine_is_refused(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Expected a local directory.*Received: '"):
        save(directory)
    assert os.listdir(tmp_path) == []


@pytest.mark.full
def test_variables_that_nobody_holds_are_saved(tmp_path):
    """The signatures say what they use."""
    mark = tf.Variable("!")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def shout(text):
        return {"shouted": text + mark}

    export.save(str(tmp_path / "served"), tf.Module(), {"serving_default": shout})
    assert shouted(tmp_path / "served") == "好!"
    export.check_in_clean_process(
        str(tmp_path / "served"), ["a"], {"shouted": np.array([b"a!"], object)}
    )


def test_a_table_that_nobody_holds_is_refused_in_words(tmp_path):
    words = tf.lookup.KeyValueTensorInitializer(["a"], ["b"])
    table = tf.lookup.StaticHashTable(words, "?")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def look_up(text):
        return {"found": table.lookup(text)}

    with pytest.raises(ValueError, match="Expected tables.*attributes of the saved module"):
        export.save(str(tmp_path / "served"), tf.Module(), {"serving_default": look_up})
    module = tf.Module()
    module.table = table
    export.save(str(tmp_path / "served"), module, {"serving_default": look_up})


def test_a_file_is_refused(tmp_path):
    (tmp_path / "served").write_text("kept")
    with pytest.raises(ValueError, match="a file"):
        save(tmp_path / "served")
    assert (tmp_path / "served").read_text() == "kept"


def test_a_save_that_fails_leaves_what_was_there(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def nested(text):
        return {"in": {"another": text}}

    save(tmp_path / "served", "!")
    with pytest.raises(ValueError):
        export.save(str(tmp_path / "served"), Shout("?"), {"serving_default": nested})
    assert shouted(tmp_path / "served") == "好!"
    assert os.listdir(tmp_path) == ["served"]


@pytest.mark.full
def test_the_check_passes_what_answers_the_same_and_names_what_does_not(tmp_path):
    shout = save(tmp_path)
    lines = ["a", "", "🙂好", "nul\0\0"]
    expected = {name: value.numpy() for name, value in shout(tf.constant(lines)).items()}
    expected["length"] += np.float32(1e-6)
    export.check_in_clean_process(str(tmp_path), lines, expected)
    shout.mark.assign("?")
    save(tmp_path, "?")
    with pytest.raises(RuntimeError, match="other shouted.*Expected.*Received"):
        export.check_in_clean_process(str(tmp_path), lines, expected)


@pytest.mark.full
@pytest.mark.parametrize(
    "lines", [["a\0", "\0\0"], *full([b"\xff"], np.array([], object), ["", "a"])]
)
def test_the_check_raises_no_false_alarm(lines, tmp_path):
    shout = save(tmp_path)
    answers = shout(tf.constant(lines, tf.string))
    expected = {name: value.numpy() for name, value in answers.items()}
    export.check_in_clean_process(str(tmp_path), tf.constant(lines, tf.string), expected)


@pytest.mark.full
def test_nuls_at_the_end_count(tmp_path):
    shout = save(tmp_path, "\0")
    expected = {"shouted": shout(tf.constant(["a"]))["shouted"].numpy()}
    export.check_in_clean_process(str(tmp_path), ["a"], expected)
    with pytest.raises(RuntimeError, match="other shouted"):
        export.check_in_clean_process(str(tmp_path), ["a"], {"shouted": np.array([b"a"], object)})


@pytest.mark.full
def test_inputs_can_be_numbers(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def double(ids):
        return {"doubled": 2 * ids}

    export.save(str(tmp_path / "served"), tf.Module(), {"serving_default": double})
    export.check_in_clean_process(
        str(tmp_path / "served"), np.array([[3, 4]], np.int32), {"doubled": np.array([[6, 8]])}
    )


@pytest.mark.full
def test_what_does_not_run_elsewhere_is_reported_in_one_line(tmp_path):
    with pytest.raises(RuntimeError, match="does not run in a clean process: .+") as refused:
        export.check_in_clean_process(str(tmp_path), ["a"], {}, libraries=["no_such_library"])
    assert "\n" not in str(refused.value)


def test_what_fails_its_check_replaces_nothing(tmp_path):
    directory = tmp_path / "served"
    save(directory)
    before = (directory / "saved_model.pb").read_bytes()

    def refuse(folder):
        assert os.path.exists(os.path.join(folder, "saved_model.pb"))
        raise RuntimeError("another answer")

    shout = Shout("?")
    with pytest.raises(RuntimeError, match="another answer"):
        export.save(str(directory), shout, {"serving_default": shout.__call__}, refuse)
    assert (directory / "saved_model.pb").read_bytes() == before
    assert os.listdir(tmp_path) == ["served"]


def test_an_export_that_is_loaded_again_and_again_is_freed(tmp_path):
    """Its gradients, which nobody takes, would be kept by TensorFlow, and the graph with them."""

    class Clipped(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
        def __call__(self, x):
            return {"y": tf.custom_gradient(lambda x: (x + 1, lambda d: d))(x)}

    clipped = Clipped()
    export.save(str(tmp_path / "served"), clipped, {"serving_default": clipped.__call__})

    def graphs():
        tf.saved_model.load(str(tmp_path / "served"))
        gc.collect()
        return sum(isinstance(found, tf.Graph) for found in gc.get_objects())

    assert graphs() == graphs()
