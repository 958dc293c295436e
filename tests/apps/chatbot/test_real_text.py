"""Text as it comes: blanks in couplets, other encodings, longer conversations than are read."""

import gzip
import json

import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import corpus, examples, infer
from apps.chatbot.responder import Responder
from apps.chatbot.sources import fit_context
from keras_attention import text
from keras_attention.data import read_pairs
from tests.apps.chatbot import untrained
from tests.apps.chatbot.program import run


@pytest.fixture(scope="module")
def couplets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("couplets")
    return untrained.saved(folder, task="couplet", beam_width=2)


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    return untrained.saved(folder, beam_width=1, context_turns=2)


SPELLINGS = [
    "春风吹绿江南岸",
    "春 风 吹 绿 江 南 岸",
    " 春风\u3000吹绿 江南岸  ",
    "春风吹绿\t江南岸",
]


@pytest.mark.full
def test_blanks_are_no_signs_of_a_couplet(couplets, tmp_path):
    directory, responder = couplets
    replies = {tuple(replies) for replies in responder.replies(SPELLINGS)}
    assert len(replies) == 1 and all(len(reply) == 7 for reply in replies.pop())
    asked = "\n".join(SPELLINGS).encode()
    answered = run("--mode=infer", f"--model_dir={directory}", stdin=asked).out.splitlines()
    assert len(set(answered)) == 1 and len(answered[0]) == 7
    long = " ".join("春" * 12)
    assert len(responder.replies([long])[0][0]) == 12  # max_length counts no blanks
    assert responder.replies(["春" * 13])[0][0] == ""
    reply, problem = infer.read(responder, {**SETTINGS, "task": "couplet"}, b" \xe3\x80\x80 ")
    assert (reply, problem) == ("", None)


SETTINGS = {
    "data": None,
    "dev_data": None,
    "task": "couplet",
    "context_turns": 0,
    "seed": 0,
    "max_length": 12,
    "n_best": None,
}


def test_couplets_with_blanks_are_learned_as_those_without(tmp_path):
    lines = ["晚风摇树树还挺\t晨露润花花更红\n", "愿景天成无墨迹\t万方乐奏有于阗\n"]
    (tmp_path / "a.tsv").write_text("".join(lines))
    (tmp_path / "b.tsv").write_text(
        "".join(" ".join(line.strip("\n")).replace(" \t ", " \t") + " \n" for line in lines)
    )
    plain, spaced = (
        corpus.load({**SETTINGS, "data": str(tmp_path / name)}) for name in ("a.tsv", "b.tsv")
    )
    assert plain.train == spaced.train and plain.record == spaced.record
    assert not any(" " in side for pair in spaced.train for side in pair)
    (tmp_path / "c.tsv").write_text("\u3000\t \n春\t \u200b\n")
    with pytest.raises(ValueError, match="at least one pair|only blanks"):
        corpus.load({**SETTINGS, "data": str(tmp_path / "c.tsv")})


def test_couplets_that_are_not_equally_long_are_counted(tmp_path):
    (tmp_path / "a.tsv").write_text("春风\t秋雨\n春 风\t秋雨来\n夏\t冬\n")
    about = corpus.load({**SETTINGS, "data": str(tmp_path / "a.tsv")}).about
    assert about[0].endswith("1 couplets with lines of different lengths")


@pytest.mark.full
def test_eval_judges_a_couplet_as_it_is_shown(couplets, tmp_path):
    (tmp_path / "a.tsv").write_text("春 风 吹 绿\t秋 雨 打 红\n江南\t塞北\n")
    ran = run("--mode=eval", f"--model_dir={couplets[0]}", f"--data={tmp_path}/a.tsv")
    report = json.loads(ran.out)
    assert report["pairs"] == 2 and report["right_length"] == 1.0
    if report["bleu"] is not None:
        assert "tok:zh" in report["bleu_signature"]
        ran = run(
            *("--mode=eval", f"--model_dir={couplets[0]}", f"--data={tmp_path}/a.tsv"),
            "--bleu_tokenize=char",
        )
        assert "tok:char" in json.loads(ran.out)["bleu_signature"]


@pytest.mark.full
def test_questions_in_any_encoding_get_the_same_answers(couplets, tmp_path):
    infers = ("--mode=infer", f"--model_dir={couplets[0]}")
    lines = "春风吹绿江南岸\r\n\r\n山水\r\n"
    expected = run(*infers, stdin=lines.replace("\r", "").encode()).out
    assert [len(line) for line in expected.splitlines()] == [7, 0, 2]
    path = tmp_path / "asked.gz"
    path.write_bytes(gzip.compress(lines.encode("utf-16")))
    assert run(*infers, f"--input={path}").out == expected
    no_mark = run(*infers, stdin="春\n".encode("utf-16-le"))
    assert no_mark.code == 1 and "expected UTF-8 text" in no_mark.err


@pytest.mark.full
def test_context_is_shortened_equally_in_training_eval_infer_and_export(chat, tmp_path):
    directory, responder = chat
    settings = {**SETTINGS, "task": "chat", "context_turns": 2}
    characters = responder.tokenizer
    turns = ["Hello", "no more", "you", "so", "well", "a", "Hello there"]
    (tmp_path / "turns.tsv").write_text("\t".join(turns) + "\n")
    pairs = read_pairs(tmp_path / "turns.tsv", 2)
    encoded = examples.encode(characters, pairs, settings)
    ids = tf.ragged.constant([source.tolist() for source in encoded.sources])
    learned = [source.decode() for source in characters.decode(ids).numpy()]
    learned = [source.replace("\ufffd", "␞") for source in learned]  # it is not in the vocabulary
    lines = ["\t".join(turns[: place + 1]) for place in range(len(turns) - 1)]
    inferred = [infer.read(responder, settings, line.encode())[0] for line in lines]
    assert learned == inferred and encoded.places == list(range(6))
    assert {source.count("␞") for source in learned} == {0, 1, 2}
    exported = responder.serving_default(tf.constant(lines))["source_tokens"].numpy()
    read = [b"".join(row).decode().removesuffix("</s>") for row in exported]
    assert [source.replace("<unk>", "␞") for source in read] == learned
    ran = run("--mode=eval", f"--model_dir={directory}", f"--data={tmp_path}/turns.tsv")
    assert [json.loads(ran.out)[name] for name in ("pairs", "too_long")] == [6, 0]


def test_the_last_turn_is_never_shortened():
    characters = text.Characters.train(["abc␞"])
    sources = tf.constant(["aaaaaa", "a␞bbbbb", "a␞b␞c", ""])
    fitted = fit_context(characters, sources, 3, 4).numpy().tolist()
    assert fitted == [b"aaaaaa", b"bbbbb", "b␞c".encode(), b""]
    settings = {"task": "chat", "context_turns": 3, "max_length": 4}
    encoded = examples.encode(
        characters, [("a␞b␞c", "a"), ("aaaaa", "b"), ("a", "bbbbb")], settings
    )
    assert encoded.places == [0] and np.array_equal(len(encoded.sources[0]), 3)


def test_an_unknown_word_is_copied_from_the_source_as_it_is_read():
    model, words, settings = untrained.made(tokenizer="word", context_turns=1, beam_width=1)
    bias = model.output_layer.bias
    bias.assign(np.where(np.arange(words.vocab_size) == text.UNKNOWN, 1e4, bias.numpy()))
    responder = Responder(model, words, settings)
    turns = tf.constant(["Hello my dear\tWho are you", " ".join("abcdefghijk") + "\tWho are you"])
    answer = responder.serving_default(turns)
    read = [["hello", "my", "dear", "␞", "who", "are", "you", ""], ["who", "are", "you", ""]]
    for row, source in enumerate(read):
        looked = answer["alignments"][row, 0, :, : len(source) - 1].numpy().argmax(-1)
        said = [token.decode().lower() for token in answer["tokens"][row, 0].numpy()]
        assert said == [source[place] for place in looked] and said
