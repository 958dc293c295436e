import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attention.text import join, replace_unknown, split


def words(text):
    return [word.decode() for word in split([text])[0].numpy()]


def joined(*tokens):
    return join([tokens]).numpy()[0].decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n\x00\x85\u2028\u3000\u200b", []),
        ("a\x00b", ["a", "b"]),
        ("  Two\t WORDS \n", ["Two", "WORDS"]),
        ("Don't! rock’n’roll's", ["Don't", "!", "rock’n’roll's"]),
        ("e-mail - dogs' 'x'", ["e-mail", "-", "dogs", "'", "'", "x", "'"]),
        ("3.14, 1,000.5; 12:30.", ["3.14", ",", "1,000.5", ";", "12:30", "."]),
        ("Wait... what?!", ["Wait", ".", ".", ".", "what", "?", "!"]),
        ("我爱NLP，你呢？", ["我", "爱", "NLP", "，", "你", "呢", "？"]),
        ("2024年", ["2024", "年"]),
        ("𠀀𪚥葛󠄀", ["𠀀", "𪚥", "葛󠄀"]),
        ("カード", ["カ", "ー", "ド"]),
        ("한국어 좋아", ["한국어", "좋아"]),
        ("שָׁלוֹם می‌خواهم हिन्दी", ["שָׁלוֹם", "می‌خواهم", "हिन्दी"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("hi👩🏽‍💻🇩🇪🇨🇳!❤️", ["hi", "👩🏽‍💻", "🇩🇪", "🇨🇳", "!", "❤️"]),
        ("<unk></s>", ["<", "unk", ">", "<", "/", "s", ">"]),
    ],
)
def test_a_text_is_split_into(text, expected):
    assert words(text) == expected


def test_invalid_utf8_is_split_as_the_replacement_character():
    assert words(b"a\xffb") == ["a", "\ufffd", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "Well, it's 3.5 (or 4)!",
        "say “hi” and [go]; now…",
        'a "quoted thing", and "another".',
        "¿Qué? ¡No!",
        "你好，世界！“今天”……很好——对吗？（对）《书》",
        "我 love 你",
        "他说 NLP，好。",
        "👩🏽‍💻 ❤️",
    ],
)
def test_well_set_text_is_split_and_joined_back(text):
    assert join(split([text])).numpy()[0].decode() == text


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("aZé1 .,'\"-(“”…我龘，。カー한👩‍\u0301"), max_size=12))
def test_splitting_again_what_is_a_word_changes_nothing(text):
    for word in words(text):
        assert words(word) == [word]


def test_padding_start_and_all_behind_the_end_vanish():
    assert joined("", "<s>", "a", "", "b", "</s>", "c") == "a b"
    assert joined("", "") == ""


def test_join_takes_any_rank():
    tokens = tf.constant([[["a", "."], ["", ""]], [["我", "们"], ["b", "c"]]])
    assert join(tokens).numpy().tolist() == [[b"a.", b""], ["我们".encode(), b"b c"]]
    ragged = tf.ragged.constant([["a", "."], [], ["b"]])
    assert join(ragged).numpy().tolist() == [b"a.", b"", b"b"]
    assert join(tf.constant(["a", "b"])).numpy() == b"a b"


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0), (2, 0, 3)])
def test_no_tokens_are_no_text(shape):
    text = join(tf.fill(shape, "a"))
    assert text.shape == shape[:-1]
    assert set(text.numpy().reshape(-1)) <= {b""}


def test_unknown_words_are_copied_from_where_attention_looked():
    tokens = tf.constant([["<unk>", "is", "<unk>", ""]])
    weights = [[[0.1, 0.9], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]]
    copied = replace_unknown(tokens, [["Bonn", "Zoë"]], weights).numpy()[0]
    assert [word.decode() for word in copied] == ["Zoë", "is", "Bonn", ""]


def test_every_hypothesis_copies_by_its_own_attention():
    tokens = tf.constant([[["<unk>"], ["<unk>"]], [["<unk>"], ["x"]]])  # [2, 2, 1]
    weights = [[[[0.9, 0.1]], [[0.1, 0.9]]], [[[0.2, 0.8]], [[0.2, 0.8]]]]
    copied = replace_unknown(tokens, [["a", "b"], ["c", "d"]], weights).numpy().tolist()
    assert copied == [[[b"a"], [b"b"]], [[b"d"], [b"x"]]]


def test_padding_and_end_of_the_source_are_never_copied():
    weights = [[[0.1, 0.7, 0.2]]]
    assert replace_unknown([["<unk>"]], [["a", "</s>", ""]], weights).numpy() == [[b"a"]]
    assert replace_unknown([["<unk>"]], tf.ragged.constant([["a"]]), weights).numpy() == [[b"a"]]


def test_without_a_source_word_unknown_stays():
    assert replace_unknown([["<unk>"]], [["", "</s>"]], [[[0.5, 0.5]]]).numpy() == [[b"<unk>"]]
    no_slots = replace_unknown([["<unk>"]], tf.zeros([1, 0], tf.string), tf.zeros([1, 1, 0]))
    assert no_slots.numpy() == [[b"<unk>"]]


def test_more_source_words_than_weights_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="S' <= S"):
        replace_unknown([["<unk>"]], [["a", "b"]], [[[1.0]]])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_a_weight_of_zero_still_beats_padding(dtype):
    weights = tf.zeros([1, 1, 2], dtype)
    assert replace_unknown([["<unk>"]], [["", "b"]], weights).numpy() == [[b"b"]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_nothing_is_copied_into_no_tokens(shape):
    weights = tf.zeros([*shape, 5])
    assert replace_unknown(tf.fill(shape, "a"), tf.fill([shape[0], 5], "b"), weights).shape == shape


def test_words_are_copied_in_a_graph_of_unknown_shapes():
    @tf.function(
        input_signature=[
            tf.TensorSpec(None, tf.string),
            tf.TensorSpec([None, None], tf.string),
            tf.TensorSpec(None, tf.float32),
        ]
    )
    def copy(tokens, source, alignments):
        return join(replace_unknown(tokens, source, alignments))

    weights = tf.one_hot([[1, 0]], 2)
    source, tokens = tf.constant([["a", "B"]]), tf.constant([["<unk>", "."]])
    assert copy(tokens, source, weights).numpy() == [b"B."]
    assert copy(tokens[None], source, weights[None]).numpy() == [[b"B."]]
