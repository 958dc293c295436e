"""The content of a model directory is checked before it is loaded: sizes, types, numbers."""

import io
import json
import os
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from apps.chatbot import settings as stored
from apps.chatbot import store
from tests.apps.chatbot import untrained
from tests.apps.chatbot.program import run
from tests.apps.chatbot.test_bad_input import assert_refused


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    untrained.saved(folder, attention="none", beam_width=1)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def load(folder):
    return store.load_model(str(folder), stored.load(str(folder), {}))


def change(folder, name, content) -> None:
    """Replace a member of the model's archive, compressed."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, value in {**contents, name: content}.items():
            archive.writestr(member, value)


def weights(folder) -> bytes:
    with zipfile.ZipFile(folder / "model.keras") as archive:
        return archive.read("model.weights.h5")


def test_weights_come_back_as_they_were_saved(folder):
    model, _ = load(folder)
    expected, _, _ = untrained.made(attention="none", beam_width=1)
    for found, right in zip(model.variables, expected.variables, strict=True):
        if "seed" not in found.path:
            assert np.array_equal(found.numpy(), right.numpy()), found.path


def test_an_archive_that_inflates_is_not_unpacked(folder):
    change(folder, "extra", bytes(20_000_000))
    assert (folder / "model.keras").stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="model.keras is damaged.*unpacks to 20,"):
        load(folder)


def test_weights_that_inflate_are_not_read(folder):
    content = io.BytesIO(weights(folder))
    with h5py.File(content, "a") as file:
        file.create_dataset("large", shape=(500, 1000, 1000), dtype="f8", compression="gzip")
    change(folder, "model.weights.h5", content.getvalue())
    with pytest.raises(ValueError, match="weights unpack to 4,0"):
        load(folder)
    path = folder / "step.weights.h5"
    path.write_bytes(content.getvalue())
    model = untrained.made(attention="none", beam_width=1)[0]
    with pytest.raises(ValueError, match="weights unpack to 4,0"):
        store.check_weights(str(path), model)


def test_weights_in_another_file_are_not_read(folder, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(80))
    content = io.BytesIO(weights(folder))
    with h5py.File(content, "a") as file:
        where = [(str(tmp_path / "secret"), 0, 80)]
        file.create_dataset("else", shape=(10,), dtype="f8", external=where)
    change(folder, "model.weights.h5", content.getvalue())
    with pytest.raises(ValueError, match="lies in another file"):
        load(folder)


@pytest.mark.parametrize("changes", [{"units": 900_000}, {"vocab_size": 10**9}, {"layers": "2"}])
def test_an_archive_of_another_model_is_not_made(folder, changes):
    with zipfile.ZipFile(folder / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    config["config"].update(changes)
    change(folder, "config.json", json.dumps(config))
    with pytest.raises(
        ValueError, match=f"does not match the settings and tokenizer.*{next(iter(changes))}="
    ):
        load(folder)


def test_a_tokenizer_of_another_kind_is_named(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "tokenizer": "word"}))
    with pytest.raises(ValueError, match="of the kind 'word'.*Received: Characters"):
        load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_whose_weights_are_no_numbers_answers_nothing(folder, value):
    model, _ = load(folder)
    kernel = model.output_layer.kernel
    kernel.assign(np.where(np.arange(kernel.shape[1]) == 5, value, kernel.numpy()))
    store.save_model(str(folder), model)
    for mode in ("infer", "eval", "export"):
        ran = run(f"--mode={mode}", f"--model_dir={folder}", stdin=b"Hello\n")
        assert_refused(ran, "model.keras", "not finite")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "characters.txt", "model.keras", "data.json"]
)
def test_a_pipe_in_the_place_of_a_file_is_refused(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    for mode in ("infer", "train"):
        ran = run(f"--mode={mode}", f"--model_dir={folder}", stdin=b"Hello\n")
        assert_refused(ran, name, "regular file")


def test_values_that_no_flag_takes_are_refused_in_every_mode(folder):
    whole = json.loads((folder / "config.json").read_text())
    for changes in ({"max_length": 10**9}, {"beam_width": "4"}, {"context_turns": -1}):
        (folder / "config.json").write_text(json.dumps({**whole, **changes}))
        for mode in ("train", "eval", "infer", "export"):
            ran = run(f"--mode={mode}", f"--model_dir={folder}")
            assert_refused(ran, "config.json", f"{next(iter(changes))} must be")
