"""How long and how many connections may be open."""

import asyncio
import contextlib
import errno
import http.client
import json
import logging
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export.server import Servable, Signature, Versions
from keras_attention.export.server.connections import Seldom, report_in_one_line
from keras_attention.export.server.process import listen
from tests.export.server.serving import ask, served

pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")
pytest.importorskip("uvicorn", reason="pip install 'keras-attention-seq2seq[serving]'")

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def predict(number):
    """A whole request."""
    body = json.dumps({"instances": [number]}).encode()
    head = "POST /v1/models/parrot:predict HTTP/1.1\r\nHost: localhost\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """A model that says as many letters as it is told."""
    folder = tmp_path_factory.mktemp("echo")
    (folder / "saved_model.pb").touch()
    given, said = {"n": tf.TensorSpec([None], tf.int32)}, {"said": tf.TensorSpec([None], tf.string)}

    def letters(n):
        return {"said": np.array([b"x" * count for count in n.numpy()], object)}

    say = Signature("say", given, said, letters)
    return Versions(str(folder), lambda *_: Servable(1, {"serving_default": say}, {}, None))


@contextlib.contextmanager
def connected(url, said=b""):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(said)
        yield client


def rest(client):
    """What it says until its end."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            said += piece
    return said


def test_a_head_that_does_not_end_is_answered_and_silence_is_closed(echo):
    with served(echo, head_limit=0.3) as url:
        with connected(url, HEAD) as half, connected(url) as silent:
            said = rest(half)
            assert said.startswith(b"HTTP/1.1 408 ") and b"within 0.3 seconds" in said
            assert rest(silent) == b""
        with connected(url) as slow:  # a byte now and then gains no time
            began = time.monotonic()
            with contextlib.suppress(OSError):
                for place in range(len(HEAD)):
                    slow.sendall(HEAD[place : place + 1])
                    time.sleep(0.05)
            assert b" 408 " in rest(slow) or time.monotonic() - began < 1.9
        with connected(url, HEAD + b"\r\n") as again:
            assert b" 200 " in again.recv(1000)
            again.sendall(HEAD)  # of a second request
            assert b" 408 " in rest(again)


def test_a_head_of_any_size_is_not_read_whatever_parsers_are_installed(echo, monkeypatch):
    class Other(asyncio.Protocol):
        def __init__(self, *_, **__):
            pytest.fail("The head would be read by a parser without a limit.")

    monkeypatch.setattr("uvicorn.protocols.http.auto.AutoHTTPProtocol", Other)
    with served(echo) as url, connected(url) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(HEAD + b"X: " + b"x" * (1 << 20))
        with contextlib.suppress(ConnectionError):
            assert b" 400 " in rest(client)
        assert ask(url, "/healthz")[0] == 200


def test_a_request_may_take_longer_than_its_head(echo):
    with served(echo, head_limit=0.3, time_limit=60) as url:
        with connected(url, predict(1)[:-5]) as slow:
            time.sleep(0.8)
            slow.sendall(predict(1)[-5:])
            assert b" 200 " in slow.recv(1000)


def test_the_longest_silent_connection_makes_room_for_a_new_one(echo):
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(served(echo, max_connections=5))
        waiting = [stack.enter_context(connected(url, HEAD)) for _ in range(12)]
        for _ in range(3):
            assert ask(url, "/healthz") == (200, {"status": "alive"})
        waiting[0].settimeout(60)
        assert rest(waiting[0]) == b""  # closed
        waiting[-1].sendall(b"\r\n")  # the youngest are still heard
        assert b" 200 " in waiting[-1].recv(1000)


def test_a_new_connection_is_reported_when_all_others_are_being_answered(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    go, spec = threading.Event(), {"n": tf.TensorSpec([None], tf.int32)}

    def wait(n):
        assert go.wait(60)
        return {"n": n}

    slow = Signature("wait", spec, spec, wait)
    versions = Versions(str(tmp_path), lambda *_: Servable(1, {"serving_default": slow}, {}, None))
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(served(versions, max_connections=2))
        busy = [stack.enter_context(connected(url, predict(1))) for _ in range(2)]
        try:
            time.sleep(0.5)
            with connected(url) as refused:
                said = rest(refused)
            assert said.startswith(b"HTTP/1.1 503 ") and b"All connections are busy" in said
        finally:
            go.set()
        assert all(b" 200 " in client.recv(1000) for client in busy)


def test_who_reads_nothing_of_a_reply_is_cut_off(echo):
    with served(echo, time_limit=0.5) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(predict(50_000_000))
            time.sleep(3)
            client.settimeout(60)
            assert len(rest(client)) < 50_000_000
        assert ask(url, "/healthz")[0] == 200


def test_a_head_answers_without_a_body(echo):
    with served(echo) as url:
        for path, code in (("/healthz", 200), ("/readyz", 200), ("/v1/models/parrot", 200)):
            host = url.removeprefix("http://")
            with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as client:
                client.request("HEAD", path)
                response = client.getresponse()
                assert (response.status, response.read()) == (code, b"")


def test_descriptors_that_have_run_out_are_reported_in_one_line(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        report_in_one_line(loop)
        for _ in range(100):
            error = OSError(errno.EMFILE, "Too many open files")
            loop.call_exception_handler({"message": "accept", "exception": error})
        loop.call_exception_handler({"message": "another mistake"})

    asyncio.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "another mistake" in told[1]
    assert told[0].startswith("No connection can be accepted: Too many open files.")


def test_repeated_messages_are_logged_once_in_a_while(caplog):
    logger = logging.getLogger("tests.seldom")
    with Seldom(pause=0.2).on("tests.seldom"):
        for _ in range(50):
            logger.warning("Invalid HTTP request received.")
        logger.warning("Another")
        time.sleep(0.3)
        logger.warning("Invalid HTTP request received.")
    told = [record.getMessage() for record in caplog.records]
    assert told[:2] == ["Invalid HTTP request received.", "Another"] and len(told) == 3
    assert told[2] == "Invalid HTTP request received. (49 more since it was last logged)"


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_not_every_interface(host):
    with pytest.raises(ValueError, match="Expected a host to listen at"):
        listen(host, 0)
