import io
import os
import sys
import warnings

import pytest
import tensorflow as tf

from keras_attention.text import UNKNOWN, Subwords

sentencepiece = pytest.importorskip("sentencepiece")
pytest.importorskip("tensorflow_text")

CHINESE = ["".join(map(chr, range(0x4E00, 0x4E00 + 300)))] * 2


def back(tokenizer, texts):
    return [text.decode() for text in tokenizer.decode(tokenizer.encode(texts)).numpy()]


def test_every_cruel_text_comes_back(subwords, cruel):
    assert back(subwords, cruel) == cruel


def test_no_text_is_unknown(subwords, cruel):
    assert UNKNOWN not in subwords.encode(cruel).flat_values.numpy()


def test_the_two_that_do_not_come_back(subwords):
    assert back(subwords, ["a▁b"]) == ["a b"]
    assert back(subwords, [b"a\xff\xe4\xbd"]) == ["a\ufffd\ufffd\ufffd"]


def test_spaces_come_back_from_a_model_that_never_saw_one():
    assert back(Subwords.train(["你好"]), [" a  b "]) == [" a  b "]


def test_rare_spaces_come_back_although_coverage_leaves_them_to_bytes():
    subwords = Subwords.train(["abcdefgh" * 99 + " "], character_coverage=0.98)
    assert back(subwords, [" a  b "]) == [" a  b "]


def test_unknown_and_broken_bytes_are_the_replacement_character(subwords):
    assert subwords.decode([[UNKNOWN]]).numpy()[0].decode() == "\ufffd"
    first_of_three = subwords.encode(["\ue000"])[0, :1]
    assert subwords.decode([first_of_three]).numpy()[0].decode() == "\ufffd"


def test_tokens_show_spaces_and_bytes(subwords):
    shown = [token.decode() for token in subwords.tokens(subwords.encode([" \ue000"]))[0].numpy()]
    assert shown == ["▁", "<0xEE>", "<0x80>", "<0x80>"]


def test_bytes_promise_no_length(subwords):
    lengths = subwords.token_lengths
    assert (lengths[: 4 + 256] == -1).all()
    assert (lengths[4 + 256 :] > 0).all()


def test_the_same_lines_make_the_same_model():
    lines = ["the cat sat on the mat", "你好，世界"] * 5
    assert Subwords.train(lines, 300)._content == Subwords.train(iter(lines), 300)._content


def test_a_vocabulary_too_small_for_its_characters_is_raised_with_a_warning():
    with pytest.warns(UserWarning, match="raised from 300 to 561"):
        subwords = Subwords.train(CHINESE, vocab_size=300)
    assert 560 <= subwords.vocab_size <= 561
    assert back(subwords, CHINESE) == CHINESE


def test_a_vocabulary_just_large_enough_is_not_raised():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Subwords.train(CHINESE, vocab_size=561).vocab_size <= 561


@pytest.mark.parametrize("coverage", [0.98, 0.985, 0.99, 0.995, 0.999])
def test_less_coverage_needs_less_vocabulary(coverage):
    with pytest.warns(UserWarning, match="raised") as raised:
        subwords = Subwords.train(CHINESE, vocab_size=1, character_coverage=coverage)
    assert len(raised) == 1
    assert subwords.vocab_size <= 4 + 256 + 300 * coverage + 2
    assert back(subwords, CHINESE) == CHINESE


@pytest.mark.parametrize("line", ["a\x00b", "a\tb", "x ▅ y", "x▁y", "a\nb\r\nc\u2028d", "\ud800 a"])
def test_no_character_of_the_corpus_stops_the_training(line):
    subwords = Subwords.train([line])
    text = line.replace("▁", " ").replace("\ud800", "\ufffd")
    assert back(subwords, [text]) == [text]


def test_a_very_long_line_is_learned_from():
    assert Subwords.train(["b", "a" * 10_000 + "龘"]).encode(["龘"]).row_lengths().numpy() == [1]


@pytest.mark.parametrize("lines", [[], [""], ["  ", "\n"], ["▁\t"]])
def test_a_corpus_without_text_is_refused(lines):
    with pytest.raises(ValueError, match="no text"):
        Subwords.train(lines)


@pytest.mark.parametrize("coverage", [0.9, 1.1, float("nan")])
def test_a_coverage_out_of_range_is_refused(coverage):
    with pytest.raises(ValueError, match="character_coverage"):
        Subwords.train(["a"], character_coverage=coverage)


def foreign_model(**settings):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat"] * 3), model_writer=model, vocab_size=50,
        hard_vocab_limit=False, minloglevel=2, **settings,
    )  # fmt: skip
    return model.getvalue()


def test_a_foreign_model_is_refused_for_what_it_does(tmp_path):
    file = tmp_path / "foreign.model"
    file.write_bytes(foreign_model())
    with pytest.raises(ValueError, match="as ids 0, 1, 2, 3"):
        Subwords(str(file))
    file.write_bytes(foreign_model(pad_id=0, bos_id=1, eos_id=2, unk_id=3))
    with pytest.raises(ValueError, match="preserve spaces"):
        Subwords(str(file))


@pytest.mark.parametrize("content", [b"", b"garbage" * 9])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    file = tmp_path / "broken.model"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.model"):
        Subwords(str(file))


def test_what_to_install_is_reported(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match="pip install sentencepiece"):
        Subwords.train(["a"])
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(ImportError, match="pip install tensorflow-text"):
        Subwords(str(tmp_path / "any.model"))


def test_a_new_random_seed_does_not_lose_the_model(subwords):
    encode = tf.function(lambda text: subwords.encode(text).to_tensor())
    before = encode(tf.constant(["a day"])).numpy().tolist()
    tf.random.set_seed(1)
    assert encode(tf.constant(["a day"])).numpy().tolist() == before
    assert subwords.decode(before).numpy().tolist() == [b"a day"]


def test_only_the_note_on_normalisation_is_kept_off_standard_error(capfd):
    from keras_attention.text import subwords

    Subwords.train(["a note that nobody has loaded before"] * 9)
    assert "normalizer" not in capfd.readouterr().err
    with subwords._without_notice():
        os.write(2, b"precompiled_charsmap is empty\nsomething else\n")
    assert capfd.readouterr().err == "something else\n"
