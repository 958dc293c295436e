import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attention.text import UNKNOWN, Words


def back(tokenizer, text):
    return tokenizer.decode(tokenizer.encode([text])).numpy()[0].decode()


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("The  DOG ,\n", "the dog,"),
        ("\ufeffthe\x00dog", "the dog"),
        ("今天 天气\u3000很好。", "今天天气很好。"),
        ("the 你好 dog", "the 你好 dog"),
        ("GRÜSSE grüße ΣΑΣ", "grüsse grüße σας"),
        ("The DON'T (X)", "the don't (x)"),
    ],
)
def test_what_is_folded(text, folded):
    assert back(Words.train([text, folded]), text) == folded


def test_folded_cruel_text_comes_back(words, cruel):
    once = [back(words, text) for text in cruel]
    assert [back(words, text) for text in once] == once
    assert not any("<unk>" in text for text in once)


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_any_corpus_makes_a_vocabulary_that_knows_it(text):
    tokenizer = Words.train([text, "x"])
    assert UNKNOWN not in tokenizer.encode([text]).flat_values.numpy()


def test_ids_are_those_of_the_surface_words_in_order(words, cruel):
    ids, surface = words.encode(cruel), Words.split(cruel)
    assert ids.row_lengths().numpy().tolist() == surface.row_lengths().numpy().tolist()


def test_an_unknown_word_is_shown_as_such():
    words = Words.train(["the dog"])
    assert words.encode(["the cat"]).to_list() == [[5, UNKNOWN]]
    assert back(words, "the cat") == "the <unk>"
    assert back(words, "the <unk>") == "the <unk> <unk> <unk>"


def test_an_unknown_name_is_copied_in_its_own_case():
    words = Words.train(["my name is", "hello ."])
    source = ["My name is Zoë"]
    tokens = words.tokens([[*words.encode(["hello Bob ."])[0].numpy(), 2, 0]])
    weights = tf.one_hot([[0, 3, 4, 4, 4]], 5)  # the fifth slot is the end token's
    copied = Words.replace_unknown(tokens, Words.split(source), weights)
    assert Words.join(copied).numpy()[0].decode() == "hello Zoë."


def test_the_commonest_words_come_first_and_equals_by_code_point():
    words = Words.train(["b a", "b", "我 c"], vocab_size=7)
    assert words.tokens([4, 5, 6]).numpy().tolist() == [b"b", b"a", b"c"]
    assert Words.train(["b a b"], min_count=2).vocab_size == 5


def test_only_words_joined_without_spaces_promise_a_length():
    words = Words.train(["dog 我 ， . … 葛󠄀 (", "カ"])
    shown = [token.decode() for token in words.tokens(tf.range(words.vocab_size)).numpy()]
    promised = {token: n for token, n in zip(shown, words.token_lengths, strict=True) if n >= 0}
    assert promised == {"我": 1, "，": 1, "…": 1, "カ": 1, "葛󠄀": 2}


def test_a_corpus_without_words_is_refused():
    with pytest.raises(ValueError, match="No token"):
        Words.train(["  \n", ""])


@pytest.mark.parametrize(
    "content",
    [b"", b"a", b"a\na\n", b"a\n\nb\n", b"two words\n", b"Upper\n", b"<unk>\n", b"a\r\n", b"\xff\n",
     b"a\tb\n", b"word.\n"],
)  # fmt: skip
def test_a_file_of_words_no_text_holds_is_refused(tmp_path, content):
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"words\.txt"):
        Words(str(file))
