import functools

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attention.text import END, UNKNOWN, Characters


@functools.cache
def ab():
    return Characters.train(["ab"])


def back(tokenizer, lines):
    return [text.decode() for text in tokenizer.decode(tokenizer.encode(lines)).numpy()]


def test_every_cruel_text_comes_back(characters, cruel):
    assert back(characters, cruel) == cruel


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1))
def test_any_text_comes_back_if_its_characters_are_known(text):
    assert back(Characters.train([text]), [text]) == [text]


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_unknown_characters_are_replaced_one_by_one(text):
    assert back(ab(), [text]) == ["".join(c if c in "ab" else "\ufffd" for c in text)]


def test_one_id_per_code_point(characters):
    assert characters.encode(["👩‍💻é"]).row_lengths().numpy().tolist() == [4]
    assert (characters.token_lengths[UNKNOWN + 1 :] == 1).all()


def test_invalid_utf8_becomes_the_replacement_character(characters):
    decoded = characters.decode(characters.encode([b"a\xff\xe4\xbd", b"\xed\xa0\x80"])).numpy()
    assert decoded[0].decode() == "a\ufffd\ufffd"
    assert set(decoded[1].decode()) == {"\ufffd"}


def test_unknown_among_known_decodes_to_the_replacement_character():
    assert ab().encode(["a?b"]).to_list() == [[4, UNKNOWN, 5]]
    assert ab().decode([[4, UNKNOWN, 5, END]]).numpy()[0].decode() == "a\ufffdb"


def test_the_commonest_characters_come_first_and_equals_by_code_point():
    shown = Characters.train(["ccc", "b𠀀\uffffa"]).tokens(tf.range(4, 9)).numpy()
    assert [token.decode() for token in shown] == ["c", "a", "b", "\uffff", "𠀀"]


def test_rare_characters_can_be_left_out():
    assert Characters.train(["aab"], min_count=2).vocab_size == 5
    assert Characters.train(["aabbc"], vocab_size=6).encode(["abc"]).to_list() == [[4, 5, UNKNOWN]]


def test_a_lone_surrogate_in_the_corpus_is_the_replacement_character():
    assert Characters.train(["\ud800"]).tokens([4]).numpy()[0].decode() == "\ufffd"


def test_lines_may_be_a_generator():
    assert Characters.train(line for line in ["a", "b"]).vocab_size == 6


@pytest.mark.parametrize("lines", ["one string", b"bytes", [b"bytes"], [None]])
def test_anything_but_lines_is_refused(lines):
    with pytest.raises(TypeError, match="str"):
        Characters.train(lines)


@pytest.mark.parametrize(
    ("lines", "settings"),
    [([], {}), ([""], {}), (["ab"], {"min_count": 2}), (["a"], {"vocab_size": 4})],
)
def test_a_vocabulary_without_tokens_is_refused(lines, settings):
    with pytest.raises(ValueError, match="Received"):
        Characters.train(lines, **settings)


@pytest.mark.parametrize(
    "content",
    [b"", b"a\n", b"97", b"97\n97\n", b"97\n\n98\n", b"97 98\n", b"97\r\n", b"1114112\n", b"-1\n",
     b"55296\n", b"1_0\n", b"\xff\n"],
)  # fmt: skip
def test_a_file_of_anything_but_code_points_is_refused(tmp_path, content):
    file = tmp_path / "characters.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"characters\.txt"):
        Characters(str(file))
