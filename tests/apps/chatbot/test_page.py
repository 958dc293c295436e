"""The page in a real browser: its content, its messages and its requests."""

import contextlib
import functools
import json
import re
import shutil
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request

import pytest
import tensorflow as tf

from apps.chatbot import page
from apps.chatbot.talk import Talk
from keras_attention.export.server import Versions
from tests.apps.chatbot.program import run, start
from tests.export.server.serving import served

MISSING = "the page needs gradio: pip install 'keras-attention-seq2seq[demo]'"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
WRONG = [
    ("temperature", "0", "Expected temperature above 0. Received: 0"),
    ("top_k", "2.5", "Expected 'top_k' as int32. Received: 2.5"),
    ("top_p", "", "Expected a number as top_p. Received: nothing."),
]
PATIENCE = 120_000  # milliseconds, on a busy machine

connected: list[str] = []  # by this process, to other machines


def _watch(event, arguments):
    address = arguments[1] if event == "socket.connect" else arguments[:1]
    if event in ("socket.connect", "socket.getaddrinfo") and isinstance(address, tuple):
        if address[0] not in (*LOOPBACK, b"localhost", None, "0.0.0.0"):
            connected.append(f"{event} {address}")


@pytest.fixture(scope="module", autouse=True)
def gradio():
    sys.addaudithook(_watch)
    socket.getaddrinfo("192.0.2.1", 9, flags=socket.AI_NUMERICHOST)  # asks nobody, and is noticed
    assert connected
    connected.clear()
    return pytest.importorskip("gradio", reason=MISSING)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a browser: apt-get install chromium")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@contextlib.contextmanager
def opened(browser, directory, talk):
    """-> the page, which asks nobody but its own server, and makes no mistake."""
    add = functools.partial(page.add, talk=talk)
    patient = {"time_limit": PATIENCE / 1000}  # the first answer of an export takes long
    with served(directory, "chatbot", add, **patient) as url, browser.new_context() as context:
        asked, mistakes = [], []
        context.on("request", lambda request: asked.append(request.url))
        context.on("weberror", lambda error: mistakes.append(str(error.error)))
        shown = context.new_page()
        shown.set_default_timeout(PATIENCE)
        shown.goto(url)
        yield shown
        assert len(asked) > 10 and not mistakes
        assert [one for one in asked if not one.startswith((f"{url}/", "data:", "blob:"))] == []
        assert connected == []


@pytest.fixture(scope="module")
def open_chat(browser, untrained_chat):
    directory, responder = untrained_chat
    with opened(browser, directory, Talk(False, 0, responder.settings)) as shown:
        yield shown


@pytest.fixture
def talking(open_chat, untrained_chat):
    """The page of a chat, begun anew with its first settings, and Playwright's `expect`."""
    from playwright.sync_api import expect

    for name, value in untrained_chat[1].settings._asdict().items():
        open_chat.get_by_label(name).fill(str(value))
    open_chat.get_by_label("You say").fill("")
    open_chat.get_by_role("button", name="New conversation").click()
    for left in (".chat p", "#look td", ".replies label", ".problem p"):
        expect(open_chat.locator(left)).to_have_count(0)
    return open_chat, expect


def say(shown, text, label="You say"):
    shown.get_by_label(label).fill(text)
    shown.get_by_label(label).press("Enter")


def best(responder, line):
    """-> its n best replies, and them with their scores as the page shows them."""
    answer = responder.serving_default(tf.constant([line]))
    replies = [reply.decode() for reply in answer["replies"][0].numpy()]
    scores = answer["scores"][0].numpy()
    return replies, [f"{reply}  ({score:.3f})" for reply, score in zip(replies, scores)]


@pytest.mark.full
def test_a_line_in_english_and_one_in_chinese_get_their_n_best(talking, untrained_chat):
    shown, expect = talking
    said = []
    for line in ("Hello", "你好，你"):
        say(shown, line)
        replies, labels = best(untrained_chat[1], line)
        said += [line, replies[0]]
        expect(shown.locator(".chat p")).to_have_text(said, use_inner_text=True)
        expect(shown.locator(".replies label")).to_have_text(labels)
        expect(shown.get_by_role("radio").first).to_be_checked()
        expect(shown.locator("#look tr").first.locator("th")).to_have_text(["", *line, "</s>"])
        expect(shown.get_by_label("You say")).to_have_value("")


@pytest.mark.full
def test_the_second_reply_takes_its_place_and_shows_its_own_heat_map(talking, untrained_chat):
    shown, expect = talking
    say(shown, "Hello")
    expect(shown.locator("#look td").first).to_be_visible()
    first = shown.locator("#look").inner_html()
    shown.get_by_role("radio").nth(1).check()
    reply = best(untrained_chat[1], "Hello")[0][1]
    expect(shown.locator(".chat p").last).to_have_text(reply)
    rows = shown.locator("#look tr th:first-child").all_inner_texts()
    tokens = "".join(rows[1:]).removesuffix("</s>")
    assert tokens.replace("␣", " ") == reply and shown.locator("#look").inner_html() != first


def test_a_setting_changes_the_answer(talking):
    shown, expect = talking
    shown.get_by_label("max_length").fill("2")
    say(shown, "Hello")
    expect(shown.locator("#look td").first).to_be_visible()
    assert shown.locator("#look tr").count() <= 3
    assert all(len(reply) <= 2 for reply in shown.locator(".chat .reply").all_inner_texts())


def test_what_is_wrong_is_reported_and_what_was_typed_stays(talking):
    shown, expect = talking
    line, said = shown.get_by_label("You say"), shown.locator(".problem p")
    for setting, value, words in WRONG:
        usual = shown.get_by_label(setting).input_value()
        shown.get_by_label(setting).fill(value)
        say(shown, "Hello")
        expect(said).to_contain_text(words)
        expect(line).to_have_value("Hello")
        shown.get_by_label(setting).fill(usual)
    say(shown, "🙂")
    expect(said).to_contain_text("no token of it is known to the model")
    expect(line).to_have_value("🙂")
    expect(shown.locator(".chat p")).to_have_count(0)
    say(shown, "Hello")
    expect(shown.locator(".chat p")).to_have_count(2)
    expect(said).to_have_count(0)


def test_html_that_is_typed_is_text_and_fetches_nothing(talking):
    shown, expect = talking
    line = "<img src='http://example.invalid/x.png'> {{1}} ${2} **a** $b$"
    say(shown, line)
    expect(shown.locator(".chat .line")).to_have_text(line)
    shown.get_by_label("temperature").fill("0")
    say(shown, line)
    expect(shown.locator(".problem p")).to_be_visible()


WITHIN = """() => ['.chat .line', '#look .map'].map(part => {
    const {scrollWidth, clientWidth} = document.querySelector(part);
    const {left, right} = document.querySelector(part).getBoundingClientRect();
    return [left >= 0 && right <= innerWidth, scrollWidth <= clientWidth];
})"""


def test_what_is_long_stays_in_its_place(talking):
    """A word is broken, and a heat map is scrolled, where they have no room."""
    shown, expect = talking
    usual = shown.viewport_size
    shown.set_viewport_size({"width": 400, "height": 900})
    say(shown, "Hello" * 60)
    expect(shown.locator("#look td").first).to_be_visible()
    assert shown.evaluate(WITHIN) == [[True, True], [True, False]]
    shown.set_viewport_size(usual)


def test_a_talk_is_begun_again(talking):
    shown, expect = talking
    for _ in range(2):
        say(shown, "Hello")
        expect(shown.locator(".chat p")).to_have_count(2)
        shown.get_by_role("button", name="New conversation").click()
        expect(shown.locator(".chat p")).to_have_count(0)


@pytest.mark.full
def test_a_reply_is_shown_as_it_is_made_and_what_is_typed_meanwhile_stays(browser, untrained_chat):
    directory, responder = untrained_chat
    goes_on, heard = threading.Event(), []

    def draft(turns):
        heard.append(list(turns))
        yield "Half a "
        assert goes_on.wait(PATIENCE / 1000)
        yield "draft"

    from playwright.sync_api import expect

    talk = Talk(False, 2, responder.settings, draft)
    with opened(browser, directory, talk) as shown:
        say(shown, "Hello")
        expect(shown.locator(".chat p")).to_have_text(["Hello", "Half a "])
        say(shown, "And then")  # too early: it is not asked
        goes_on.set()
        replies = best(responder, "Hello")[0]
        expect(shown.locator(".chat p")).to_have_text(["Hello", replies[0]])
        expect(shown.locator("#look td").first).to_be_visible()
        expect(shown.get_by_label("You say")).to_have_value("And then")

        shown.get_by_role("radio").nth(1).check()
        expect(shown.locator(".chat p")).to_have_text(["Hello", replies[1]])
        shown.get_by_label("You say").press("Enter")
        expect(shown.locator(".chat p")).to_have_count(4)
        expect(shown.get_by_label("You say")).to_have_value("")
        shown.get_by_label("temperature").fill("0.9")  # of other settings there is no draft
        say(shown, "Well")
        expect(shown.locator(".chat p")).to_have_count(6)
    assert heard == [["Hello"], ["Hello", replies[1], "And then"]]


@pytest.mark.full
def test_a_couplet_is_matched_and_its_line_stays(browser, untrained_couplets):
    from playwright.sync_api import expect

    directory, responder = untrained_couplets
    with opened(browser, directory, Talk(True, 0, responder.settings)) as shown:
        for line in ("春风", "明月松间照"):
            say(shown, line, "First line")
            expect(shown.locator(".couplets p")).to_have_text([line, best(responder, line)[0][0]])
            expect(shown.get_by_label("First line")).to_have_value(line)
        expect(shown.locator("#look")).to_contain_text("no attention")
        say(shown, "春" * 13, "First line")
        expect(shown.locator(".problem p")).to_contain_text("more characters")


# -- without a browser


def test_the_api_continues_beside_the_page(untrained_chat):
    directory, responder = untrained_chat
    add = functools.partial(page.add, talk=Talk(False, 0, responder.settings))
    with served(directory, "chatbot", add) as url:
        status = json.loads(_get(f"{url}/v1/models/chatbot"))
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        with pytest.raises(urllib.error.HTTPError, match="400") as error:
            _get(f"{url}/v1/nothing")
        told = json.loads(error.value.read())
        assert told == {"error": "Malformed request: GET /v1/nothing"}
        for description in ("openapi.json", "docs", "redoc"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                _get(f"{url}/{description}")
        html = _get(f"{url}/")
        assert "gradio_config" in html
        assert re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']*""", html) == []
        config = json.loads(_get(f"{url}/config"))
        # A connection that stays open would hold the server's end up.
        assert not config["connect_heartbeat"] and not config["analytics_enabled"]
    assert connected == []


def test_an_export_with_less_room_begins_with_less(untrained_chat):
    directory, responder = untrained_chat
    talk = Talk(False, 0, responder.settings._replace(max_length=99))
    shown = page.blocks(Versions(directory), talk, None).get_config_file()["components"]
    numbers = {
        component["props"]["label"]: component["props"]["value"]
        for component in shown
        if component["type"] == "number"
    }
    assert numbers == responder.settings._asdict()
    assert [component["type"] for component in shown].count("radio") == 1


def _get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE / 1000) as response:
        return response.read().decode()


@pytest.mark.full
def test_the_program_shows_the_page_until_sigterm(untrained_chat, tmp_path):
    directory, _ = untrained_chat
    with start(
        "--mode=serve", "--page", "--port=0", f"--export_dir={directory}", cwd=tmp_path
    ) as server:
        try:
            lines = [server.stdout.readline().decode() for _ in range(3)]
            assert lines[2].startswith("Chat page: http://127.0.0.1:"), lines
            assert "gradio_config" in _get(lines[2].split()[-1])
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE / 1000) == 0
            assert server.stderr.read() == b""
            assert list(tmp_path.iterdir()) == []  # and it leaves nothing behind
        finally:
            server.kill()


def test_a_page_without_its_extra_is_reported_in_one_line(untrained_chat, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    ran = run("--mode=serve", "--page", "--port=0", f"--export_dir={untrained_chat[0]}")
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert "pip install 'keras-attention-seq2seq[demo]'" in ran.err


def test_a_missing_directory_is_reported_in_one_line(untrained_chat, tmp_path):
    ran = run(
        "--mode=serve",
        "--page",
        f"--export_dir={untrained_chat[0]}",
        f"--model_dir={tmp_path}/none",
    )
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert ran.err.startswith("serve: There is no model at")
