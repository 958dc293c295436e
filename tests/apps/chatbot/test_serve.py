"""An exported model behind the program's own server."""

import concurrent.futures
import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from apps.chatbot import settings, store
from apps.chatbot.responder import Responder
from keras_attention.export import server
from keras_attention.export.client import Client, ServerError
from tests.apps.chatbot.program import HOME, run, start

pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")
pytest.importorskip("uvicorn", reason="pip install 'keras-attention-seq2seq[serving]'")

LINES = ["Hello", "你好，你", "Good day! " * 1000, "🙂 ❤️", "How are you?", "你", "", "Hello, Hello"]
CANNOT = [b"\xff\xfe", b"", "🙂".encode() * 3]


@pytest.fixture(scope="module")
def served(trained, exported):
    """An export, and what Python answers to a line alone."""
    directory = trained("char")[0]
    export_dir = str(exported("char")[0])
    stored = settings.load(str(directory), {})
    responder = Responder(*store.load_model(str(directory), stored), stored)
    return export_dir, {line: responder.replies([line])[0] for line in LINES}


@contextlib.contextmanager
def serving(tmp_path, *arguments):
    """-> the process, its URL, and the example that it prints."""
    with start("--mode=serve", "--port=0", *arguments, cwd=tmp_path) as server:
        try:
            says = server.stdout.readline().decode().split()
            assert says, server.stderr.read().decode()
            url = says[says.index("at") + 1].split("/v1/")[0]
            yield server, url, server.stdout.readline().decode()
        finally:
            server.kill()


@pytest.mark.full
def test_an_export_is_served_until_sigterm(served, tmp_path):
    directory, expected = served
    with serving(tmp_path, f"--export_dir={directory}", "--model_name=parrot") as found:
        server, url, example = found
        assert url.startswith("http://127.0.0.1:")
        client = Client(url, "parrot")

        def ask(line):
            return line, client.predict({"text": [line]})

        with concurrent.futures.ThreadPoolExecutor(8) as clients:
            for line, answer in clients.map(ask, LINES * 5):
                assert answer["replies"] == [expected[line]]

        # What cannot be answered is flagged, and its neighbours are as they are alone.
        lines = [*LINES, *CANNOT]
        together = client.predict({"text": lines})
        assert together["replies"][: len(LINES)] == [expected[line] for line in LINES]
        for row in range(len(LINES), len(lines)):
            assert set(together["replies"][row]) == {""} and set(together["lengths"][row]) == {0}
            assert set(together["scores"][row]) == {-float("inf")}

        alone = client.predict({"text": ["Hello"]})
        longest = max(alone["lengths"][0])
        shapes = {name: np.shape(value) for name, value in alone.items()}
        assert shapes["tokens"] == (1, 2, longest) and shapes["source_tokens"] == (1, 6)
        assert shapes["alignments"] == (1, 2, longest, 6)
        _every_signature(client)
        _run_example(example)

        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0
        assert server.stderr.read() == b""


def _every_signature(client):
    _as_the_page_says(client.metadata())
    score = client.predict(
        {"source": ["Hello", "你好"], "target": ["Hi", "你好，你"]}, signature_name="score"
    )
    steps = np.array(score["token_log_probabilities"])
    np.testing.assert_allclose(steps.sum(1), score["log_probability"], 1e-4)
    found = client.predict({"ids": [[5, 6, 2], [7, 2, 0]]}, signature_name="generate")
    assert len(found["ids"]) == 2 and "replies" not in found
    search = {
        "length_penalty": 0.0,
        "coverage_penalty": 0.0,
        "temperature": 0.8,
        "top_k": 5,
        "top_p": 0.9,
        "max_length": 3,
        "seed": 7,
    }
    drawn = [
        client.predict({"text": ["Hello"], **search}, signature_name="generate_with_settings")
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1] and max(drawn[0]["lengths"][0]) <= 3
    with pytest.raises(ServerError, match="temperature above 0.*HTTP 400"):
        wrong = {"text": ["Hello"], **search, "temperature": 0}
        client.predict(wrong, signature_name="generate_with_settings")


def _as_the_page_says(signatures):
    page = (HOME / "docs/serving.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert {name for name, _, _ in rows} == {n for n in signatures if not n.startswith("__")}
    for name, takes, gives in rows:
        assert set(re.findall(r"`(\w+)`", takes)) <= signatures[name]["inputs"].keys()
        if name != "generate_with_settings":
            assert set(re.findall(r"`(\w+)`", gives)) == signatures[name]["outputs"].keys()


def _run_example(example):
    assert example.startswith("curl ")
    if shutil.which("curl"):
        said = subprocess.run(example, shell=True, capture_output=True, text=True, check=True)
        assert '"predictions"' in said.stdout and '"Hello!"' in example


@pytest.mark.full
def test_anything_that_cannot_be_served_is_reported_in_one_line(served, tmp_path):
    directory, _ = served
    ran = run("--mode=serve", f"--export_dir={tmp_path}")
    assert ran.code == 1 and ran.out == ""
    assert ran.err.startswith("serve: Expected a SavedModel") and ran.err.count("\n") == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("--mode=serve", f"--export_dir={directory}", f"--port={port}")
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert ran.err.startswith(f"serve: Cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.full
def test_a_missing_extra_is_reported_in_one_line(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    ran = run("--mode=serve", f"--export_dir={served[0]}", "--port=0")
    assert ran.code == 1 and ran.err.count("\n") == 1
    assert "pip install 'keras-attention-seq2seq[serving]'" in ran.err


@pytest.mark.parametrize("flag", ["--port=65536", "--max_batch_size=0", "--time_limit=0"])
def test_a_flag_out_of_its_range_is_refused(flag):
    ran = run("--mode=serve", flag)
    assert ran.code == 1 and flag.split("=")[0].removeprefix("--") in ran.err


def test_where_it_listens_and_what_it_is_called_are_flags(monkeypatch):
    asked = {}
    monkeypatch.setattr(server, "serve", lambda directory, **how: asked.update(how))
    assert run("--mode=serve").code == 0
    assert (asked["host"], asked["allowed_hosts"]) == ("127.0.0.1", [])
    assert run("--mode=serve", "--host=0.0.0.0", "--allowed_hosts=chat.example,b").code == 0
    assert (asked["host"], asked["allowed_hosts"]) == ("0.0.0.0", ["chat.example", "b"])


def test_an_empty_host_is_not_every_interface():
    ran = run("--mode=serve", "--host=", "--port=0")
    assert ran.code == 1 and ran.err.startswith("serve: Expected a host to listen at")
    assert ran.err.count("\n") == 1
