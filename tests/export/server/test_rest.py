import concurrent.futures
import contextlib
import gzip
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from keras_attention.export.client import Client, ServerError
from keras_attention.export.server import Servable, Signature, Versions
from tests.export.server import serving
from tests.export.server.serving import ask

pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")
pytest.importorskip("uvicorn", reason="pip install 'keras-attention-seq2seq[serving]'")

MODEL = "/v1/models/parrot"
PREDICT = MODEL + ":predict"


NEGATIVE = {"text": ["a"], "times": -1}


def test_status_is_tf_servings(url):
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": "1", "state": "AVAILABLE", "status": status}
    for path in (MODEL, MODEL + "/versions/1"):
        assert ask(url, path) == (200, {"model_version_status": [version]})


def test_metadata_gives_the_signatures(url):
    code, metadata = ask(url, MODEL + "/metadata")
    assert code == 200
    assert metadata["model_spec"] == {"name": "parrot", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["text"]["dtype"] == "DT_STRING"
    assert ask(url, MODEL + "/versions/1/metadata") == (200, metadata)


def test_rows_and_columns_get_the_same_answers(url):
    texts = ["hello", "好", "🙂", ""]
    code, rows = ask(url, PREDICT, {"instances": texts})
    assert code == 200
    code, columns = ask(url, PREDICT, {"inputs": {"text": texts}})
    assert code == 200
    outputs = columns["outputs"]
    assert [reply for reply, _ in outputs["replies"]] == ["hello!", "好!", "🙂!", "!"]
    names = list(outputs)
    assert rows["predictions"] == [dict(zip(names, row)) for row in zip(*outputs.values())]
    versioned = ask(url, MODEL + "/versions/1:predict", {"instances": texts})
    assert versioned == (200, rows)


def test_bytes_that_are_no_utf8_go_both_ways_in_base64(url):
    assert ask(url, PREDICT, {"signature_name": "keep", "inputs": [{"b64": "/wD+"}]}) == (
        200,
        {"outputs": [{"b64": "/wD+"}]},
    )
    code, reply = ask(url, PREDICT, {"instances": ["good", {"b64": "/w=="}]})
    assert code == 200
    assert [row["replies"][0] for row in reply["predictions"]] == ["good!", "\ufffd!"]


def test_infinities_and_nan_are_written_by_name(url):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    body = '{"signature_name": "inverse", "inputs": [0, -1, Infinity]}'
    with contextlib.closing(connection):
        connection.request("POST", PREDICT, body)
        text = connection.getresponse().read().decode()
    assert "Infinity" in text and "NaN" in text
    assert json.loads(text)["outputs"]["inverse"] == [float("inf"), -1, 0]


@pytest.mark.parametrize(
    ("path", "body", "code", "says"),
    [
        (PREDICT, b"{", 400, "Expected JSON"),
        (PREDICT, b"", 400, "Expected JSON"),
        (PREDICT, {"instances": [1]}, 400, "'text' as string"),
        (PREDICT, {"instances": [["a"]]}, 400, "'text' of shape"),
        (PREDICT, {"inputs": {}}, 400, "inputs ['text']. Received: []"),
        (PREDICT, {"signature_name": "other", "inputs": ["a"]}, 400, "one of the signatures"),
        (PREDICT, {"signature_name": 7, "inputs": ["a"]}, 400, "one of the signatures"),
        (PREDICT, {"signature_name": "repeat", "inputs": NEGATIVE}, 400, "The model rejects"),
        ("/v1/models/cat:predict", {"inputs": ["a"]}, 404, "not found for request: Latest(cat)"),
        ("/v1/models/cat", None, 404, "Servable not found for request: Latest(cat). Expected"),
        ("/v1/models/cat/metadata", None, 404, "model 'parrot'. Received: 'cat'"),
        ("/v1/models/cat/versions/1", None, 404, "request: Specific(cat, 1)"),
        (MODEL + "/versions/2:predict", {"inputs": ["a"]}, 404, "request: Specific(parrot, 2)"),
        (MODEL + "/versions/2", None, 404, "Version 2 is not loaded. Version 1 is"),
        (MODEL + "/versions/2/metadata", None, 404, "Version 2"),
        ("/", None, 404, "Not Found"),
        ("/docs", None, 404, "Not Found"),
    ],
)
def test_an_error_is_json_with_its_status_code(path, body, code, says, url):
    found, reply = ask(url, path, body)
    assert (found, list(reply)) == (code, ["error"]) and says in reply["error"]
    assert ask(url, PREDICT, {"instances": ["still here"]})[0] == 200


MALFORMED = [
    ("GET", "/v1/models"),
    ("GET", PREDICT),
    ("GET", MODEL + "/"),
    ("GET", MODEL + "/metadata/"),
    ("GET", MODEL + "/versions/two"),
    ("GET", MODEL + "/versions/-1"),
    ("GET", MODEL + "/labels/stable"),
    ("POST", MODEL),
    ("POST", PREDICT + "/"),
    ("POST", MODEL + "/predict"),
    ("POST", MODEL + ":classify"),
    ("PUT", PREDICT),
    ("DELETE", MODEL),
    ("OPTIONS", PREDICT),
    ("BREW", "/v1/coffee"),
]


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a page"])
def test_anything_but_a_request_of_the_api_is_malformed(beside, parrot):
    """In TF Serving's words, whatever else is served at `/`."""
    starlette = pytest.importorskip("starlette.responses")

    def add(app, versions):
        app.mount("/", starlette.PlainTextResponse("a page"))

    with serving.served(parrot, add=add if beside else None) as url:
        for method, path in MALFORMED:
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
            with contextlib.closing(connection):
                connection.request(method, path, b"{}")
                response = connection.getresponse()
                reply = json.loads(response.read())
            expected = {"error": f"Malformed request: {method} {path}"}
            assert (response.status, reply) == (400, expected)
        assert ask(url, PREDICT, {"inputs": ["a"]})[0] == 200


def test_health(url):
    assert ask(url, "/healthz") == (200, {"status": "alive"})
    assert ask(url, "/readyz") == (200, {"status": "ready"})


def chunked(url, path, chunks):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", path, iter(chunks), encode_chunked=True)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_body_that_is_too_large_is_refused(parrot):
    body = json.dumps({"signature_name": "keep", "inputs": ["x" * 5000]}).encode()
    with serving.served(parrot, max_body=len(body)) as url:
        assert ask(url, PREDICT, body)[0] == 200
        assert chunked(url, PREDICT, [body[:99], body[99:]])[0] == 200
        for code, reply in (
            ask(url, PREDICT, body + b" "),
            ask(url, PREDICT, body * 2000),  # more than any buffer between the two holds
            chunked(url, PREDICT, [body, b" "]),
        ):
            assert code == 413 and f"at most {len(body)} bytes" in reply["error"]
        assert ask(url, PREDICT, body)[0] == 200


def test_the_client_hears_that_its_body_is_too_large(parrot):
    """Which it is still sending when the server knows; more than any buffer between them holds."""
    with serving.served(parrot, max_body=1 << 20) as url:
        for size in (2 << 20, 15 << 20):
            with pytest.raises(ServerError, match="at most 1048576 bytes.*HTTP 413"):
                Client(url, "parrot").predict(["x" * size])


def zipped(url, body):
    return ask(url, PREDICT, body, **{"Content-Encoding": "gzip"})


def test_a_body_may_come_in_gzip(parrot):
    body = json.dumps({"inputs": ["a" * 1000]}).encode()
    with serving.served(parrot, max_body=len(body)) as url:
        assert zipped(url, gzip.compress(body)) == ask(url, PREDICT, body)
        code, reply = zipped(url, gzip.compress(body + b" " * 10_000_000)[: len(body)])
        assert code == 413 and "inflated" in reply["error"]
        for wrong in (b"junk", gzip.compress(body)[:-9]):
            code, reply = zipped(url, wrong)
            assert code == 400 and "Expected a body in gzip" in reply["error"]


def test_more_rows_than_a_request_may_have_are_refused(parrot):
    with serving.served(parrot, max_rows=5, max_batch_size=2) as url:
        code, reply = ask(url, PREDICT, {"instances": list("abcde")})
        assert code == 200
        assert [row["replies"][1] for row in reply["predictions"]] == list("abcde")
        for name, key in {"serving_default": "text", "repeat": "text", "keep": "blob"}.items():
            inputs = {key: list("abcdef"), **({"times": 1} if name == "repeat" else {})}
            code, reply = ask(url, PREDICT, {"signature_name": name, "inputs": inputs})
            assert code == 400 and "at most 5 rows in a request. Received: 6" in reply["error"]


def _address(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def hang_up(url, body):
    """Send a request, to leave before its answer."""
    client = socket.create_connection(_address(url))
    content = json.dumps(body).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(content)}\r\n\r\n"
    client.sendall(head.encode() + content)
    return client


def blocking(parrot, started, go):
    """A model that answers when it is let go, and what it was asked."""
    asked, text = [], {"text": tf.TensorSpec([None], tf.string)}

    def wait(text):
        asked.append(text.numpy().tolist())
        started.set()
        assert go.wait(120)
        return {"text": text}

    servable = Servable(1, {"serving_default": Signature("wait", text, text, wait)}, {}, None)
    return Versions(parrot, lambda directory, version: servable), asked


def test_a_client_that_hangs_up_frees_its_place(parrot):
    """What still waits is not run, and the neighbours are answered."""
    started, go = threading.Event(), threading.Event()
    versions, asked = blocking(parrot, started, go)
    limits = {"max_pending": max(2, os.cpu_count() or 1) + 1, "max_batch_size": 1}
    with serving.served(versions, **limits) as url, concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            clients = []
            for i in range(limits["max_pending"]):
                clients.append(hang_up(url, {"instances": [str(i)]}))
                _until(lambda: len(asked) == min(len(clients), limits["max_pending"] - 1))
            _until(lambda: ask(url, "/readyz")[0] == 503)
            code, reply = ask(url, PREDICT, {"instances": ["a"]})
            assert code == 503 and "wait already" in reply["error"]
            for client in clients:
                client.close()
            _until(lambda: ask(url, "/readyz")[0] == 200)
            good = pool.submit(ask, url, PREDICT, {"instances": ["good"]})
        finally:
            go.set()
        assert good.result() == (200, {"predictions": ["good"]})
    ran = sorted(line for (line,) in asked)
    assert ran == [*(str(i).encode() for i in range(limits["max_pending"] - 1)), b"good"]


def test_a_server_whose_threads_are_stuck_is_not_ready(parrot):
    started, go = threading.Event(), threading.Event()
    versions, asked = blocking(parrot, started, go)
    threads = max(2, os.cpu_count() or 1)
    limits = {"time_limit": 0.5, "max_batch_size": 1}
    with serving.served(versions, **limits) as url, concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            asking = [pool.submit(ask, url, PREDICT, {"instances": ["a"]}) for _ in range(threads)]
            assert [one.result()[0] for one in asking] == [504] * threads
            _until(lambda: ask(url, "/readyz") == (503, {"status": "stuck"}))
            code, reply = ask(url, PREDICT, {"instances": ["a"]})
            assert code == 503 and "beyond the time limit" in reply["error"]
            assert ask(url, "/healthz")[0] == 200
        finally:
            go.set()
        _until(lambda: ask(url, "/readyz")[0] == 200)
        assert ask(url, PREDICT, {"instances": ["b"]}) == (200, {"predictions": ["b"]})
    assert len(asked) == threads + 1


def test_a_model_that_takes_too_long_is_stopped(parrot, tmp_path):
    waits = {"signature_name": "wait", "inputs": {"file": [str(tmp_path / "never")]}}
    threads = max(2, os.cpu_count() or 1)
    with (
        serving.served(parrot, time_limit=0.5) as url,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        asking = [pool.submit(ask, url, PREDICT, waits) for _ in range(threads)]
        assert [one.result()[0] for one in asking] == [504] * threads
        _until(lambda: ask(url, "/readyz")[0] == 200)
        _until(lambda: ask(url, PREDICT, {"instances": ["a"]})[0] == 200)


def test_what_takes_too_long_is_given_up(parrot):
    started, go = threading.Event(), threading.Event()
    versions, _ = blocking(parrot, started, go)
    with serving.served(versions, time_limit=0.5) as url:
        try:
            code, reply = ask(url, PREDICT, {"instances": ["a"]})
        finally:
            go.set()
        assert code == 504 and "within 0.5 seconds" in reply["error"]
        # Half a body takes too long as well.
        with socket.create_connection(_address(url), timeout=60) as client:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n{{"
            client.sendall(head.encode())
            assert b" 504 " in client.recv(1000).splitlines()[0]


def _until(holds):
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_half_a_request_and_no_request_at_all_disturb_nobody(url):
    with (
        socket.create_connection(_address(url)) as silent,
        socket.create_connection(_address(url)) as half,
        socket.create_connection(_address(url)) as garbage,
    ):
        half.sendall(
            f"POST {PREDICT} HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{{".encode()
        )
        garbage.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert ask(url, PREDICT, {"instances": ["a"]})[0] == 200
        assert silent.fileno() > 0


def test_replies_are_never_crossed_among_many_clients(url):
    def one(i):
        text = f"client {i} " * (1 + i % 7)
        return text, Client(url, "parrot").predict({"text": [text]})

    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        for text, reply in clients.map(one, range(160)):
            assert reply["replies"] == [[text + "!", text]]
            assert len(reply["source_tokens"][0]) == len(text) + 1
            assert len(reply["tokens"][0][0]) == len(text) + 1


def test_a_new_version_is_served_without_dropping_a_request(tmp_path):
    serving.save(tmp_path / "models/1", "!")
    with (
        serving.served(tmp_path / "models", poll=0.05) as url,
        concurrent.futures.ThreadPoolExecutor(4) as clients,
    ):
        seen, stop = [], False

        def go_on():
            while not stop:
                seen.append(ask(url, PREDICT, {"instances": ["a"]})[1]["predictions"][0]["replies"])

        running = [clients.submit(go_on) for _ in range(3)]
        try:
            serving.save(tmp_path / "2", "?")
            shutil.move(tmp_path / "2", tmp_path / "models/2")
            _until(lambda: ask(url, MODEL + "/versions/2")[0] == 200)
            _until(lambda: seen[-1] == ["a?", "a"])
        finally:
            stop = True
            for future in running:
                future.result()
        assert {reply for reply, _ in seen} == {"a!", "a?"}
        assert ask(url, MODEL + "/versions/1:predict", {"instances": ["a"]})[0] == 404


def test_a_version_that_cannot_be_loaded_is_reported_and_harms_nobody(parrot, tmp_path):
    shutil.copytree(parrot, tmp_path / "1")
    with serving.served(tmp_path, poll=0.05) as url:
        (tmp_path / "2").mkdir()
        (tmp_path / "2/saved_model.pb").write_bytes(b"half")
        _until(lambda: ask(url, MODEL + "/versions/2")[0] == 200)
        states = {one["version"]: one for one in ask(url, MODEL)[1]["model_version_status"]}
        assert states["1"]["state"] == "AVAILABLE" and states["2"]["state"] == "END"
        assert states["2"]["status"]["error_message"]
        assert ask(url, PREDICT, {"instances": ["a"]})[0] == 200


def test_the_client_gives_the_servers_errors(url):
    with pytest.raises(ServerError, match="'text' as string.*HTTP 400") as refused:
        Client(url, "parrot").predict([1])
    assert refused.value.status == 400
    with pytest.raises(OSError):
        Client("http://127.0.0.1:9", "parrot").predict(["a"])
    with pytest.raises(TypeError, match="Expected lists, str, bytes"):
        Client(url, "parrot").predict([object()])


@pytest.mark.full
def test_importing_the_package_loads_no_web_framework():
    code = (
        "import sys, keras_attention, keras_attention.export.server, keras_attention.export.client;"
        "print([m for m in ('fastapi', 'uvicorn', 'starlette') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_missing_extra_is_named(parrot, monkeypatch):
    from keras_attention.export.server import serve

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-attention-seq2seq\[serving\]'"):
        serve(parrot)


def test_the_client_asks_model_servers_alone():
    for url in ("file:///etc", "127.0.0.1:8501", ""):
        with pytest.raises(ValueError, match="Expected a url of http"):
            Client(url)


def test_the_client_names_a_server_that_does_not_reply_json(parrot):
    def add(app, versions):
        async def page(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>"})

        app.mount("/other", page)

    with serving.served(parrot, "a b/c", add=add) as url:
        with pytest.raises(ConnectionError, match="Expected JSON of a model server at"):
            Client(url + "/other", "a").status()
        with pytest.raises(ServerError, match="HTTP 400"):  # a name that no path can hold
            Client(url, "a b/c").status()
