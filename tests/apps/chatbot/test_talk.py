"""The settings of the page, from its model directory or from the flags."""

import pytest

from apps.chatbot import settings as stored
from apps.chatbot.talk import talk_of
from keras_attention.export import Settings
from tests.apps.chatbot import untrained


def test_without_a_directory_the_flags_are_used():
    of_flags = {**untrained.made()[2], "task": "couplet", "top_k": 3, "max_length": 7}
    talk = talk_of(None, of_flags, {})
    assert talk.couplet and talk.context_turns == 0 and talk.draft is None
    assert talk.settings == Settings(length_penalty=0.6, top_k=3, max_length=8)


def test_the_directory_sets_the_model_and_the_command_line_the_search(tmp_path):
    directory, _ = untrained.saved(tmp_path, task="couplet", beam_width=1)
    talk = talk_of(directory, {}, {"length_penalty": 0.1})
    assert talk.couplet and talk.draft is None
    assert talk.settings == Settings(length_penalty=0.1, max_length=13)
    with pytest.raises(ValueError, match="--task=chat .stored: couplet."):
        talk_of(directory, {}, {"task": "chat"})


@pytest.mark.full
def test_a_chat_is_drafted_token_by_token_as_greedily_as_can_be(tmp_path):
    directory, responder = untrained.saved(
        tmp_path, beam_width=1, length_penalty=0.0, context_turns=1
    )
    settings = stored.load(directory, {})
    stored.save(directory, {**settings, "beam_width": 3, "n_best": 2})
    talk = talk_of(directory, {}, {})
    assert talk.context_turns == 1
    counts = []
    for turns in (["Hello"], ["no more", "你", "你好，你"]):
        pieces = list(talk.draft(turns))
        counts.append(len(pieces))
        assert ["".join(pieces)] == responder.replies(["\t".join(turns)])[0]
    assert max(counts) > 1
    assert list(talk.draft([" "])) == list(talk.draft(["🙂"])) == []


def test_draws_and_couplets_are_not_drafted(tmp_path):
    for settings in ({"sampling": "sample"}, {"task": "couplet"}):
        directory, _ = untrained.saved(tmp_path, **settings)
        assert talk_of(directory, {}, {}).draft is None


def test_a_search_that_the_export_settled_is_refused(tmp_path):
    of_flags = untrained.made()[2]
    for directory in (None, untrained.saved(tmp_path)[0]):
        said = {"beam_width": 9, "sampling": "sample", "length_penalty": 0.1}
        with pytest.raises(ValueError, match="--beam_width=9, --sampling=sample. Leave it out"):
            talk_of(directory, of_flags, said)
