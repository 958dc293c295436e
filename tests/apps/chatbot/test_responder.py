"""From strings to replies: whatever the lines, the tokenizer, and however little was learned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import store
from apps.chatbot.responder import Responder
from apps.chatbot.settings import ADDED
from apps.chatbot.sources import read_lines
from tests.apps.chatbot.program import shipped
from tests.sampled import full

SETTINGS = {
    **ADDED,
    "vocab_size": 700,
    "units": 8,
    "layers": 1,
    "dropout": 0.0,
    "learning_rate": 1e-3,
    "max_gradient_norm": 5.0,
    "beam_width": 3,
    "length_penalty": 0.6,
    "max_length": 12,
}
COUPLETS = [
    *("春", "，", "春风，吹绿。", "門新迎歲早", "一二三四五六七八九十百千"),
    *("🙂春🙂风", "❤️春", "春 风  ", " 春", "Spring 春", "春\u3000风", "é春", "\t春"),
]
QUESTIONS = ["Hello", "", "🙂", "你好，你好", "hello hello", " ", "x" * 500]


@pytest.fixture(params=["char", *full("word", "sentencepiece")])
def tokenizer(request):
    return request.param


def responder(task, tokenizer, attention):
    """A model that has learned nothing: it says anything that the search lets it say."""
    if tokenizer == "sentencepiece":
        pytest.importorskip("sentencepiece")
    settings = {**SETTINGS, "task": task, "tokenizer": tokenizer, "attention": attention}
    files = {"chat": ["chat_en.tsv", "chat_zh.tsv"], "couplet": ["couplets.tsv"]}[task]
    pairs = [line.split("\t") for name in files for line in shipped(name, 40)]
    spelled = store.make_tokenizer(settings, pairs)
    model = store.make_model(settings, spelled.vocab_size)
    for variable in model.trainable_variables:  # far from uniform, so that beams differ
        variable.assign(keras.random.normal(variable.shape, seed=1))
    return Responder(model, spelled, settings)


@pytest.fixture
def couplets(tokenizer):
    return responder("couplet", tokenizer, {"word": "luong"}.get(tokenizer, "none"))


def test_a_couplets_second_line_is_as_long_as_the_first(couplets):
    for line, replies in zip(COUPLETS, couplets.replies(COUPLETS), strict=True):
        assert len(replies[0]) == len("".join(line.split())), (line, replies)


def test_an_answer_depends_on_its_own_line_only(tokenizer):
    chat = responder("chat", tokenizer, "bahdanau")
    together = chat.serving_default(tf.constant(QUESTIONS))
    for row, question in enumerate(QUESTIONS):
        alone = chat.serving_default(tf.constant([question]))
        assert (alone["replies"][0] == together["replies"][row]).numpy().all()
        np.testing.assert_allclose(alone["scores"][0], together["scores"][row], 1e-5, 1e-5)
    nobody = chat.serving_default(tf.constant([], tf.string))
    assert nobody["replies"].shape == (0, 3)


def test_alignments_are_weights_over_the_tokens_of_the_source():
    chat = responder("chat", "char", "luong")
    answer = chat.serving_default(tf.constant(["Hello", "Hi"]))
    assert answer["source_tokens"][1].numpy().tolist()[:3] == [b"H", b"i", b"</s>"]
    sums = tf.reduce_sum(answer["alignments"], -1)  # [B, K, T]
    real = tf.sequence_mask(answer["lengths"], tf.shape(sums)[2])
    tf.debugging.assert_near(sums, tf.cast(real, tf.float32), 1e-5, 1e-5)
    assert float(tf.reduce_max(answer["alignments"][1, :, :, 3:])) == 0.0


def test_a_line_of_unknown_tokens_alone_is_not_readable():
    settings = {"task": "chat", "context_turns": 0, "max_length": 9}
    tokenizer = responder("chat", "char", "none").tokenizer
    found = read_lines(tf.constant(["Hello☃", "☃☃"]), tokenizer, settings)
    assert found.answered.numpy().tolist() == [True, False]
    assert found.lengths.numpy().tolist() == [6, 2]
