import os

import numpy as np
import pytest
import tensorflow as tf

from keras_attention import export


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
    with pytest.raises(ValueError, match=f"holds {name}, which would be lost"):
        save(tmp_path / "served")
    assert (tmp_path / "served" / name).read_text() == "kept"


def test_a_file_is_refused(tmp_path):
    (tmp_path / "served").write_text("kept")
    with pytest.raises(ValueError, match="a file"):
        save(tmp_path / "served")
    assert (tmp_path / "served").read_text() == "kept"


def test_a_save_that_fails_leaves_what_was_there(tmp_path):
    save(tmp_path / "served", "!")
    with pytest.raises(ValueError):
        export.save(str(tmp_path / "served"), Shout("?"), {"serving_default": lambda x: x})
    assert shouted(tmp_path / "served") == "好!"
    assert os.listdir(tmp_path) == ["served"]


def test_the_check_passes_what_answers_the_same_and_names_what_does_not(tmp_path):
    shout = save(tmp_path)
    lines = ["a", "", "🙂好"]
    expected = {name: value.numpy() for name, value in shout(tf.constant(lines)).items()}
    expected["length"] += np.float32(1e-6)
    export.check_in_clean_process(str(tmp_path), lines, expected)
    shout.mark.assign("?")
    save(tmp_path, "?")
    with pytest.raises(RuntimeError, match="other shouted.*Expected.*Received"):
        export.check_in_clean_process(str(tmp_path), lines, expected)


def test_what_does_not_run_elsewhere_is_said_in_one_line(tmp_path):
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
