import os
import shutil
import weakref

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export import Request, write_warm_up
from keras_attention.export.server import NotServed, Servable, Versions, load
from tests.export.server import serving


class Model:
    """Something to be freed."""


@pytest.fixture
def folder(tmp_path):
    """A folder of versions whose "SavedModels" say no more than that they are some."""

    def add(version, text="fine"):
        directory = tmp_path / "models" / str(version)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "saved_model.pb").write_text(text)

    add.directory = str(tmp_path / "models")
    return add


def read(directory, version):
    with open(os.path.join(directory, "saved_model.pb")) as file:
        if file.read() != "fine":
            raise OSError("half of it is missing\nand more")
    return Servable(version, {}, {}, Model())


def test_a_saved_model_is_served_as_version_one(parrot):
    versions = Versions(parrot)
    assert versions.get().version == versions.get(1).version == 1
    assert versions.status() == {1: None}
    versions.refresh()
    assert versions.get().version == 1


def test_the_highest_number_is_served(folder):
    for version in (2, 10, 9):
        folder(version)
    os.makedirs(os.path.join(folder.directory, "11"))  # holds nothing yet
    folder("12-new"), folder("notes")
    versions = Versions(folder.directory, read)
    assert versions.get().version == versions.get(10).version == 10
    with pytest.raises(NotServed, match="Version 9 is not loaded. Version 10 is"):
        versions.get(9)


def test_a_new_version_takes_over_and_the_old_one_ends_with_its_last_request(folder):
    folder(1)
    versions = Versions(folder.directory, read)
    in_flight = versions.get()
    freed = weakref.ref(in_flight.owner)
    folder(2)
    versions.refresh()
    assert versions.get().version == 2 and in_flight.version == 1
    assert freed() is not None
    del in_flight
    assert freed() is None


def test_the_one_before_comes_back_when_the_highest_is_removed(folder):
    folder(1), folder(2)
    versions = Versions(folder.directory, read)
    shutil.rmtree(os.path.join(folder.directory, "2"))
    versions.refresh()
    assert versions.get().version == 1
    shutil.rmtree(folder.directory)
    versions.refresh()
    assert versions.get().version == 1  # what is loaded is served


def test_a_version_that_cannot_be_loaded_leaves_the_served_one_and_is_tried_again(folder):
    folder(1)
    tried = []

    def count(directory, version):
        tried.append(version)
        return read(directory, version)

    versions = Versions(folder.directory, count)
    folder(2, "half")
    for _ in range(3):
        versions.refresh()
    assert versions.get().version == 1 and tried == [1, 2]
    assert versions.status() == {2: "half of it is missing", 1: None}
    folder(2, "fine")
    versions.refresh()
    assert versions.get().version == 2 and versions.status() == {2: None}


def test_the_highest_that_can_be_loaded_is_taken(folder):
    folder(1)
    versions = Versions(folder.directory, read)
    folder(2), folder(3, "half")
    versions.refresh()
    assert versions.get().version == 2 and set(versions.status()) == {2, 3}


@pytest.mark.parametrize("make", [lambda path: None, os.makedirs, lambda path: open(path, "w")])
def test_what_holds_no_saved_model_is_refused(make, tmp_path):
    path = str(tmp_path / "nothing")
    made = make(path)
    if made:
        made.close()
    with pytest.raises(ValueError, match="Expected a SavedModel, or a folder.*Received: .*nothing"):
        Versions(path)


def test_versions_of_a_real_model(tmp_path):
    for version, mark in ((1, "!"), (2, "?")):
        serving.save(tmp_path / str(version), mark)
    say = Versions(str(tmp_path)).get().signatures["serving_default"]
    assert say({"text": np.array([b"a"], object)})["replies"][0, 0] == b"a?"
    assert load(str(tmp_path / "1"), 1).version == 1


def test_a_version_answers_its_warm_up_requests_before_it_is_served(parrot, tmp_path):
    pytest.importorskip(
        "tensorflow_serving", reason="pip install 'keras-attention-seq2seq[serving]'"
    )
    for version in (1, 2):
        shutil.copytree(parrot, tmp_path / str(version))
    text = np.array([b"a"], object)
    write_warm_up(str(tmp_path / "1"), [Request("serving_default", {"text": text})])
    refused = Request("repeat", {"text": text, "times": np.array(-1, np.int32)})
    write_warm_up(str(tmp_path / "2"), [refused])
    with pytest.raises(ValueError, match="request 1 of .*The model rejects .*times 0 or more"):
        Versions(str(tmp_path))
    assert Versions(str(tmp_path / "1")).get().version == 1


def test_a_warm_up_request_of_another_model_is_refused_in_words(parrot, tmp_path):
    pytest.importorskip(
        "tensorflow_serving", reason="pip install 'keras-attention-seq2seq[serving]'"
    )
    text = Request("serving_default", {"text": np.array([b"a"], object)})
    model = shutil.copytree(parrot, tmp_path / "model")
    write_warm_up(str(model), [text, Request("keep", {"blob": np.array([b"a"], object)})])

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="line")])
        def __call__(self, line):
            return {"line": line}

    for name, says in {
        "serving_default": r"request 1 of .*Expected the inputs \['line'\].*Received: \['text'\]",
        "keep": r"request 1 of .*Expected one of the signatures \['keep'\]",
    }.items():
        other, directory = Other(), str(tmp_path / name)
        tf.saved_model.save(other, directory, {name: other.__call__})
        shutil.copytree(model / "assets.extra", os.path.join(directory, "assets.extra"))
        with pytest.raises(ValueError, match=says):
            Versions(directory)


def test_signatures_that_share_no_batch_are_reported_when_they_are_loaded(parrot, caplog):
    caplog.set_level("INFO")
    Versions(parrot)
    told = [record.getMessage() for record in caplog.records if "are not batched" in record.msg]
    assert any("'repeat' are not batched: 'times' has no free batch axis" in one for one in told)
    assert not any("serving_default" in one for one in told)
