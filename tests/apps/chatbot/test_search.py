"""The flags of a search: their effect, and which contradict each other."""

import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import search, store
from apps.chatbot.responder import Responder
from apps.chatbot.settings import ADDED
from tests.apps.chatbot.program import run
from tests.sampled import full

TEXTS = [("good day to you", "a good day to all"), ("hello there", "hello my friend")]
SETTINGS = {
    **ADDED,
    "task": "chat",
    "tokenizer": "word",
    "vocab_size": 50,
    "attention": "bahdanau",
    "units": 8,
    "layers": 1,
    "ff_units": 16,
    "dropout": 0.0,
    "learning_rate": 1e-3,
    "max_gradient_norm": 5.0,
    "beam_width": 4,
    "length_penalty": 0.6,
    "max_length": 6,
}
QUESTION = "good day Zoë"


def responder(**changes):
    """A model that has learned nothing, and says anything that it may."""
    settings = {**SETTINGS, **changes}
    tokenizer = store.make_tokenizer(settings, TEXTS)
    model = store.make_model(settings, tokenizer.vocab_size)
    random = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign(random.normal(size=weight.shape))
    return Responder(model, tokenizer, settings)


def said(**changes):
    return responder(**changes).replies([QUESTION])[0]


@pytest.mark.parametrize("model", ["rnn", *full("transformer")])
def test_every_answer_obeys_the_processors(model):
    replies = said(
        model=model,
        must_contain=["my friend"],
        banned_words=["hello", "day"],
        min_length=4,
        no_repeat_ngram=2,
        repetition_penalty=1.3,
        temperature=0.8,
        coverage_penalty=0.1,
        n_best=3,
    )
    assert len(replies) == 3
    for reply in replies:
        words = reply.split()
        assert "my friend" in reply and not {"hello", "day"} & set(words)
        assert len(words) >= 4, reply


@pytest.mark.parametrize("sampling", ["sample", *full("stochastic")])
@pytest.mark.full
def test_draws_are_those_of_their_seed(sampling):
    settings = dict(temperature=2.0, top_k=5, top_p=0.9, min_p=0.01, typical_p=0.95)
    seeded = responder(sampling=sampling, sample_seed=1, beam_width=2, **settings)
    first = seeded.replies([QUESTION])
    assert seeded.replies([QUESTION]) == first


def test_draws_without_a_seed_are_new_ones():
    drawn = responder(sampling="sample", temperature=5.0, beam_width=1)
    assert len({drawn.replies([QUESTION])[0][0] for _ in range(8)}) > 1


@pytest.mark.full
def test_diverse_groups_begin_differently():
    tokens = responder(
        sampling="diverse", diversity_groups=4, diversity_strength=1e3
    ).serving_default(tf.constant([QUESTION]))["tokens"]
    assert len(set(tokens[0, :, 0].numpy())) == 4


@pytest.mark.parametrize(
    ("model", "how"),
    [*full(("rnn", {"beam_width": 1})), ("transformer", {"sampling": "sample", "sample_seed": 2})],
)
@pytest.mark.full
def test_a_streamed_reply_is_the_reply(model, how):
    pieces = list(responder(model=model, min_length=3, **how).stream(QUESTION))
    alone = responder(model=model, min_length=3, **{**how, "beam_width": 1})
    assert "".join(pieces) == alone.replies([QUESTION])[0][0]
    assert len(pieces) > 2 and all(pieces)  # word by word


def test_a_search_of_several_answers_does_not_stream():
    assert not responder().streams and not responder(sampling="sample", n_best=2).streams
    with pytest.raises(ValueError, match="can be streamed. Received"):
        list(responder().stream(QUESTION))


@pytest.mark.parametrize("model", [*full("rnn"), "transformer"])
@pytest.mark.full
def test_an_unknown_word_is_the_word_that_is_attended_to(model):
    """Where UNKNOWN is all that may be said, the reply is words of the source."""
    words = [word for pair in TEXTS for line in pair for word in line.split()]
    answering = responder(model=model, banned_words=words, min_length=3)
    question = "Anna met Zoë hello"  # all but the last, which is banned, are unknown
    answer = answering.serving_default(tf.constant([question]))
    tokens, looked = answer["tokens"][0, 0].numpy(), answer["alignments"][0, 0].numpy()
    copied = [question.split()[i] for i in looked[:3, :3].argmax(1)]
    assert [token.decode() for token in tokens[:3]] == copied


@pytest.mark.full
def test_a_banned_word_is_not_copied_from_the_line_either():
    words = [word for pair in TEXTS for line in pair for word in line.split()]
    assert set(said(banned_words=words, min_length=3)[0].split()) == {"Zoë"}


CONTRADICTIONS = {
    "length": ({"min_length": 7}, ["--min_length=7", "--max_length=6"]),
    "n_best": ({"n_best": 5}, ["--n_best=5", "--beam_width=4"]),
    "groups": (
        {"sampling": "diverse", "diversity_groups": 3},
        ["--diversity_groups=3", "--beam_width=4"],
    ),
    "unknown": ({"must_contain": ["☃"]}, ["--must_contain=☃", "of the vocabulary"]),
    "too long": ({"must_contain": ["hello " * 7]}, ["--must_contain=hello", "--max_length=6"]),
    "together": (
        {"must_contain": ["good day to you", "a good", "hello my friend"]},
        ["--must_contain=good day to you,a good", "max_length"],
    ),
    "couplet": ({"min_length": 2, "task": "couplet"}, ["--min_length=2", "--task=couplet"]),
    "top_p": ({"top_p": 0.0}, ["top_p", "0 < p"]),
    "attention": (
        {"coverage_penalty": 0.2, "attention": "none"},
        ["--coverage_penalty=0.2", "--attention=none"],
    ),
}


@pytest.mark.parametrize("which", CONTRADICTIONS)
def test_contradictions_are_refused_and_named(which):
    changes, words = CONTRADICTIONS[which]
    tokenizer = store.make_tokenizer(SETTINGS, TEXTS)
    with pytest.raises(ValueError) as refused:
        search.plan({**SETTINGS, **changes}, tokenizer)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("mode", ["infer", "eval", "export"])
def test_the_program_refuses_contradictions_before_it_searches(mode, trained, tmp_path):
    flags = ["--must_contain=hello", "--banned_words=x,ell", f"--export_dir={tmp_path}/e"]
    ran = run(f"--mode={mode}", f"--model_dir={trained('char')[0]}", *flags, stdin=b"Hello\n")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1), ran.err
    assert "--must_contain=hello" in ran.err and "--banned_words=ell" in ran.err


def test_a_banned_word_outside_of_the_vocabulary_changes_nothing():
    tokenizer = store.make_tokenizer(SETTINGS, TEXTS)
    _, processor = search.plan({**SETTINGS, "banned_words": ["day", "Zoë"]}, tokenizer).processors
    assert processor.name == "--banned_words=day,Zoë"
    assert processor.banned == {(int(tokenizer.encode(["day"])[0, 0]),)}
