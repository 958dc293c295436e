"""The requests that the routes of the page accept and reject, without a browser."""

import functools
import http.client
import json

import numpy as np
import pytest
import tensorflow as tf

from apps.chatbot import page
from apps.chatbot.page_parts import choices, conversation, problem
from apps.chatbot.talk import Talk
from keras_attention.export import Settings
from keras_attention.export.server import Servable, Signature, Versions
from tests.export.server.serving import ask, served

pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")
JOIN = "/gradio_api/queue/join"
LINE, PICK, ANEW = 0, 2, 3  # the events
USUAL = list(Settings())
BEST = {
    "source": ["a"],
    "replies": [{"reply": "yes", "score": -1.0, "tokens": ["yes"], "looked": [[1.0]]}],
}


def _yes(text, **_):
    return {
        "replies": np.array([[b"yes"]], object),
        "scores": np.array([[-1.0]], "float32"),
        "lengths": np.array([[1]], "int32"),
        "tokens": np.array([[[b"yes"]]], object),
        "source_tokens": np.array([[b"a"]], object),
        "alignments": np.ones([1, 1, 1, 1], "float32"),
    }


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A page whose model says yes."""
    pytest.importorskip("gradio", reason="pip install 'keras-attention-seq2seq[demo]'")
    folder = tmp_path_factory.mktemp("yes")
    (folder / "saved_model.pb").touch()
    whole = ("top_k", "max_length", "seed")
    inputs = {
        name: tf.TensorSpec([], "int32" if name in whole else "float32")
        for name in Settings._fields
    }
    inputs["text"] = tf.TensorSpec([None], tf.string)
    outputs = {name: tf.TensorSpec([None] * array.ndim) for name, array in _yes(None).items()}
    signature = Signature("generate_with_settings", inputs, outputs, _yes)
    servable = Servable(1, {"generate_with_settings": signature}, {}, None)
    versions = Versions(str(folder), lambda *_: servable)
    add = functools.partial(page.add, talk=Talk(False, 0, Settings()))
    with served(versions, "chatbot", add, max_body=10_000) as address:
        yield address


def got(url, path, method="GET", body=None):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def called(url, event, *data, session="s"):
    """What the page would be told in the end."""
    asked = {"fn_index": event, "data": list(data), "session_hash": session}
    code, told = ask(url, JOIN, asked, **{"Content-Type": "application/json"})
    assert code == 200, told
    code, stream = got(url, f"/gradio_api/queue/data?session_hash={session}")
    messages = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    return [one for one in messages if one["msg"] == "process_completed"][-1]


def test_a_line_is_answered_and_a_reply_chosen(url):
    told = called(url, LINE, "Hello", [], *USUAL)
    assert told["success"]
    assert called(url, PICK, 0, BEST, ["Hello", "no"])["output"]["data"][1] == ["Hello", "yes"]
    assert called(url, ANEW)["success"]


def test_the_page_has_a_title_and_a_hint(url):
    config = json.loads(got(url, "/config")[1])
    shown = config["components"]
    assert config["title"] == "Chat"
    values = [component["props"].get("value") for component in shown]
    (hint,) = [value for value in values if isinstance(value, str) and "<h1>Chat</h1>" in value]
    assert "press Enter" in hint
    assert "Type a line and press Enter" in [one["props"].get("placeholder") for one in shown]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/upload?upload_id=1"),
        ("POST", "/upload"),
        ("POST", "/gradio_api/run/reply"),
        ("POST", "/gradio_api/api/reply"),
        ("POST", "/gradio_api/call/reply"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/login"),
        ("PUT", "/"),
        ("OPTIONS", "/"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "/gradio_api/heartbeat/s"),
        ("GET", "/monitoring"),
        ("GET", JOIN),
    ],
)
def test_what_a_page_does_not_need_is_not_there(method, path, url):
    code, told = got(url, path, method, b"{}" if method == "POST" else None)
    assert (code, json.loads(told)) == (404, {"error": "Not Found"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 5000,
        b"\xff",
        b"{}",
        {"fn_index": 99, "data": [], "session_hash": "s"},
        {"fn_index": "0", "data": [], "session_hash": "s"},
        {"fn_index": True, "data": [], "session_hash": "s"},
        {"fn_index": ANEW, "data": None, "session_hash": "s"},
        {"fn_index": ANEW, "data": []},
        {"fn_index": LINE, "data": ["Hello"], "session_hash": "s"},
        {"fn_index": PICK, "data": [0, BEST, [], 1], "session_hash": "s"},
    ],
)
def test_a_call_that_no_page_makes_is_refused(body, url, capfd):
    code, told = ask(url, JOIN, body)
    assert code == 400 and told["error"].startswith("Expected ")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (LINE, [5, [], *USUAL]),
        (LINE, ["Hello", {}, *USUAL]),
        (LINE, ["Hello", [1], *USUAL]),
        (PICK, [7, BEST, ["Hello", "no"]]),
        (PICK, [-1, BEST, ["Hello", "no"]]),
        (PICK, ["0", BEST, ["Hello", "no"]]),
        (PICK, [0, None, ["Hello", "no"]]),
        (PICK, [0, {"replies": [1]}, ["Hello", "no"]]),
        (PICK, [0, BEST, "Hello"]),
    ],
)
def test_a_call_with_other_values_leaves_no_traceback(event, data, url, capfd):
    assert not called(url, event, *data)["success"]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("value", [None, "x", [], True, {}])
def test_a_setting_that_is_no_number_is_reported(value, url, capfd):
    told = called(url, LINE, "Hello", [], value, *USUAL[1:])
    assert told["success"] and "Expected" in json.dumps(told["output"])
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_session_that_does_not_exist_leaves_no_traceback(url, capfd):
    code, told = got(url, "/gradio_api/queue/data?session_hash=none")
    assert code == 200 and "unexpected_error" in told
    assert got(url, "/gradio_api/queue/data")[0] == 422
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_body_is_within_the_limits_of_the_api(url):
    asked = {"fn_index": LINE, "data": ["x" * 20_000, [], *USUAL], "session_hash": "s"}
    code, told = ask(url, JOIN, asked)
    assert code == 413 and "at most 10000 bytes" in told["error"]
    assert got(url, "/gradio_api/upload", "POST", b"x" * 20_000)[0] == 413


def test_half_of_a_character_breaks_no_page(url, capfd):
    asked = {"fn_index": LINE, "data": ["\ud83d", [], *USUAL], "session_hash": "half"}
    assert ask(url, JOIN, asked, **{"Content-Type": "application/json"})[0] in (200, 422)
    assert "Traceback" not in "".join(capfd.readouterr())
    for html in (
        conversation(["a\ud83d", "\ude00b"]),
        problem(ValueError("\udfff")),
        choices({"replies": [{"reply": "\ud800", "score": 0.0}]})[0][0],
    ):
        assert "\ufffd" in html and html.encode()
