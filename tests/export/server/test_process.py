"""A server as a process: its output, and how it ends."""

import concurrent.futures
import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest

from keras_attention.export.server import serve
from keras_attention.export.server.process import listen
from tests.export.server.serving import ask

pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")
pytest.importorskip("uvicorn", reason="pip install 'keras-attention-seq2seq[serving]'")

PREDICT = "/v1/models/model:predict"
SERVE = """
import sys
from keras_attention.export.server import serve
from keras_attention.export.server.rest import Limits
limits = Limits(time_limit=float(sys.argv[2]))
serve(sys.argv[1], port=0, limits=limits, announce=lambda url: print(url, flush=True))
"""


@contextlib.contextmanager
def process(directory, time_limit=30, descriptors=None):
    """-> the process of a server, and its URL."""

    def prepare():
        # A shell without job control leaves SIGINT ignored in its background; we are not one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with subprocess.Popen(
        [sys.executable, "-c", SERVE, directory, str(time_limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        preexec_fn=prepare,
    ) as server:
        try:
            url = server.stdout.readline().strip()
            assert url, server.stderr.read()
            yield server, url
        finally:
            server.kill()


@pytest.mark.full
def test_sigterm_under_load_drops_nobody_and_exits_with_zero(parrot, tmp_path):
    file = tmp_path / "go"
    waits = {"signature_name": "wait", "inputs": {"file": [str(file)]}}
    with (
        process(parrot) as (server, url),
        concurrent.futures.ThreadPoolExecutor(16) as clients,
    ):
        answered, broken = [], []

        def go_on():
            """Ask until the server is gone; what it took, it must answer whole."""
            while True:
                try:
                    answered.append(ask(url, PREDICT, {"instances": ["a"]})[0])
                except http.client.IncompleteRead as error:
                    broken.append(error)
                except (OSError, http.client.HTTPException):
                    return

        try:
            in_flight = clients.submit(ask, url, PREDICT, waits)
            others = [clients.submit(go_on) for _ in range(4)]
            while len(answered) < 20:  # asked later, so that what waits has been read
                assert server.poll() is None
                time.sleep(0.01)
            server.terminate()
            concurrent.futures.wait(others)  # new ones are refused
            assert server.poll() is None and not in_flight.done()
        finally:
            file.touch()
        code, reply = in_flight.result()
        assert code == 200 and reply["outputs"]["file"] == [str(file)]
        assert server.wait(120) == 0
        assert set(answered) == {200} and not broken
        assert "Traceback" not in server.stderr.read()


@pytest.mark.full
def test_sigterm_waits_no_longer_than_a_request_may_take(parrot, tmp_path):
    """Though the model runs on: nobody waits for it any more."""
    waits = {"signature_name": "wait", "inputs": {"file": [str(tmp_path / "never")]}}
    with (
        process(parrot, time_limit=2) as (server, url),
        concurrent.futures.ThreadPoolExecutor(1) as clients,
    ):
        assert ask(url, PREDICT, {"instances": ["a"]})[0] == 200
        in_flight = clients.submit(ask, url, PREDICT, waits)
        time.sleep(0.5)
        began = time.monotonic()
        server.terminate()
        assert server.wait(120) == 0
        assert time.monotonic() - began < 10  # a second more than the limit, and a slow machine
        assert in_flight.result()[0] == 504


@pytest.mark.full
def test_more_connections_than_descriptors_leave_it_answering(parrot):
    with process(parrot, descriptors=256) as (server, url), contextlib.ExitStack() as stack:
        address = "127.0.0.1", int(url.rpartition(":")[2])
        for _ in range(600):
            client = stack.enter_context(socket.create_connection(address, timeout=60))
            client.sendall(b"GET /healthz HTTP/1.1\r\nX-Never-")
        for _ in range(5):
            assert ask(url, "/healthz")[0] == 200
            assert ask(url, PREDICT, {"instances": ["a"]})[0] == 200
        code, told = ask(url, "/v1/models/model", Host="evil.example")
        assert code == 403 and "'evil.example'" in told["error"]
        server.terminate()
        assert server.wait(120) == 0
        # One line a minute, not one for each of the 600; TensorFlow writes lines of its own.
        assert server.stderr.read().count("No connection can be accepted") < 10


@pytest.mark.full
def test_ctrl_c_ends_it_too(parrot):
    with process(parrot) as (server, url):
        assert ask(url, PREDICT, {"instances": ["a"]})[0] == 200
        server.send_signal(signal.SIGINT)
        server.wait(120)
        with pytest.raises(OSError):
            ask(url, "/healthz")


def test_a_port_in_use_is_named(parrot):
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"Cannot listen on 127.0.0.1:{port}: Address already"):
            serve(parrot, port=port)


def test_an_address_of_another_machine_is_named(parrot):
    with pytest.raises(OSError, match="Cannot listen on .*: "):
        serve(parrot, host="192.0.2.1", port=0)
    with pytest.raises(OSError, match="Cannot listen on nowhere.invalid"):
        serve(parrot, host="nowhere.invalid", port=0)


def test_a_directory_without_a_model_is_refused_and_the_port_is_free_again(tmp_path):
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match="Expected a SavedModel"):
        serve(str(tmp_path), port=port)
    with listen("127.0.0.1", port):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_ipv6_is_listened_on():
    try:
        with listen("::1", 0) as bound:
            assert bound.family == socket.AF_INET6
    except OSError as error:
        pytest.skip(f"needs an IPv6 loopback: {error}")
