"""Saved directories: whole or refused."""

import json
import os

import pytest

from keras_attention.text import Characters, Words, load, vocabulary


@pytest.fixture
def saved(tmp_path):
    Characters.train(["hello\n"]).save(str(tmp_path))
    return tmp_path


def test_what_is_saved_is_loaded(tokenizer, cruel, tmp_path):
    directory = str(tmp_path / "new" / "folder")
    tokenizer.save(directory)
    loaded = load(directory)
    assert type(loaded) is type(tokenizer)
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.token_lengths.tolist() == tokenizer.token_lengths.tolist()
    ids = tokenizer.encode(cruel)
    assert loaded.encode(cruel).to_list() == ids.to_list()
    assert loaded.decode(ids).numpy().tolist() == tokenizer.decode(ids).numpy().tolist()


def test_only_the_two_files_are_left(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([tokenizer.FILE, "tokenizer.json"])


def test_a_loaded_tokenizer_can_be_saved_over_itself(saved):
    before = (saved / "characters.txt").read_bytes()
    load(str(saved)).save(str(saved))
    assert (saved / "characters.txt").read_bytes() == before
    assert load(str(saved)).vocab_size == 8 + 1


def test_one_kind_is_saved_over_another(saved):
    Words.train(["hello"]).save(str(saved))
    assert isinstance(load(str(saved)), Words)


def test_a_failed_save_leaves_the_old_one(saved, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vocabulary.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        Characters.__mro__[1].save(load(str(saved)), str(saved))
    assert sorted(os.listdir(saved)) == ["characters.txt", "tokenizer.json"]
    load(str(saved))


@pytest.mark.parametrize("file", ["tokenizer.json", "characters.txt"])
def test_a_missing_file_is_named(saved, file):
    os.remove(saved / file)
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        load(str(saved))


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "content",
    [b"", b'{"version": 1', b"\xff", b"[]", b"{}", b"null", b"1", b"[" * 100_000],
    ids=range(8),
)
def test_half_a_json_is_refused(saved, content):
    (saved / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match="half-written"):
        load(str(saved))


@pytest.mark.parametrize("change", [lambda text: text[:-3], lambda text: text + b"65\n"])
def test_a_vocabulary_cut_or_edited_is_refused(saved, change):
    file = saved / "characters.txt"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match="half-written, edited"):
        load(str(saved))


def test_the_files_of_two_saves_are_not_mixed(saved, tmp_path):
    about = (saved / "tokenizer.json").read_bytes()
    Characters.train(["other"]).save(str(saved))
    (saved / "tokenizer.json").write_bytes(about)
    with pytest.raises(ValueError, match="another save"):
        load(str(saved))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("version", 2, "version 1"), ("kind", "syllable", "syllable"), ("kind", [], "kind")],
)
def test_what_this_release_cannot_read_is_refused(saved, field, value, message):
    file = saved / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=message):
        load(str(saved))
