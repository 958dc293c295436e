"""A tokenizer is a value: its vocabulary, whatever becomes of the file it came from."""

import copy
import multiprocessing
import os
import pickle
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.text import Characters, Subwords, Words, load
from tests.text.test_export import Echo

KINDS = {
    "characters": lambda text: Characters.train([text]),
    "words": lambda text: Words.train([text]),
}
each = pytest.mark.parametrize("train", KINDS.values(), ids=KINDS)


def round_trip(tokenizer, text):
    return tokenizer.decode(tokenizer.encode([text])).numpy()[0].decode()


@each
def test_another_vocabulary_in_the_same_directory_is_another_tokenizer(
    train, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    train("a b").save("vocabulary")
    first = load("vocabulary")
    train("x y z").save("vocabulary")
    second = load("vocabulary")
    assert (round_trip(first, "b a"), round_trip(second, "z y")) == ("b a", "z y")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train("m n").save("vocabulary")
    assert round_trip(load("vocabulary"), "n m") == "n m"
    assert round_trip(first, "b a") == "b a"


@each
@pytest.mark.parametrize("fate", ["changed", "deleted"])
def test_an_export_holds_the_vocabulary_in_memory_if_its_file_changed(train, fate, tmp_path):
    train("a b").save(tmp_path / "vocabulary")
    tokenizer = load(tmp_path / "vocabulary")
    if fate == "changed":
        train("b a x").save(tmp_path / "vocabulary")
    else:
        shutil.rmtree(tmp_path / "vocabulary")
    tf.saved_model.save(Echo(tokenizer), tmp_path / "export")
    exported = tf.saved_model.load(tmp_path / "export")(tf.constant(["a b"]))
    assert exported["text"].numpy().tolist() == [b"a b"]
    assert str(tmp_path).encode() not in (tmp_path / "export" / "saved_model.pb").read_bytes()


def test_equal_vocabularies_give_equal_names_of_tables():
    first, second, other = (Characters.train([text]) for text in ("ab", "ab", "ac"))
    names = [str(tokenizer._id_of.resource_handle) for tokenizer in (first, second, other)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_outlives_the_original(duplicate, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "vocabulary")
    original = load(tmp_path / "vocabulary")
    other = duplicate(original)
    expected = round_trip(original, "the dog")
    del original
    shutil.rmtree(tmp_path / "vocabulary")
    assert type(other) is type(tokenizer) and round_trip(other, "the dog") == expected
    other.save(tmp_path / "again")
    assert round_trip(load(tmp_path / "again"), "the dog") == expected


def test_the_end_of_a_forked_process_takes_nothing_away():
    tokenizer = Characters.train(["ab"])
    child = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    child.start()
    child.join()
    assert round_trip(copy.deepcopy(tokenizer), "ba") == "ba"


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int64", "uint64"])
def test_ids_of_every_integer_type_are_ids(dtype):
    tokenizer = Characters.train(["".join(map(chr, range(200, 500)))])  # V = 304
    ids = np.array([[4, 5, 100]], dtype)
    assert tokenizer.decode(ids).numpy()[0].decode() == "".join(map(chr, (200, 201, 296)))
    assert tokenizer.tokens(ids).numpy()[0, 2].decode() == chr(296)


def test_lone_surrogates_are_the_same_in_training_and_use():
    tokenizer = Characters.train(["a\ud800"])
    assert (
        tokenizer.encode(["\ud800a"]).to_list()
        == [[5, 4]]
        == tokenizer.encode(["\ufffda"]).to_list()
    )
    assert tokenizer.encode(np.array(["a", "\udc00"], object)).to_list() == [[4], [5]]
    assert tokenizer.encode([]).to_list() == []


def test_values_other_than_text_and_ids_are_refused():
    tokenizer = Characters.train(["ab"])
    for text in ([["a"], ["a", "b"]], [1, 2], None, tf.constant([4, 5])):
        with pytest.raises(ValueError, match="text must be strings"):
            tokenizer.encode(text)
    with pytest.raises(ValueError, match="Received: one number, 5"):
        tokenizer.decode(5)
    with pytest.raises(ValueError, match="rows of equal length"):
        tokenizer.decode([[4, 5], [4]])
    with pytest.raises(ValueError, match="Received: strings"):
        tokenizer.decode([["a"]])


def test_subwords_train_on_surrogates_that_they_encode(subwords):
    assert isinstance(subwords, Subwords)
    assert round_trip(subwords, "a\ud800") == "a\ufffd"
