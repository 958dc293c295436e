"""Checks of every route: hosts, origins, sizes, times."""

import asyncio
import json

import pytest

from keras_attention.export.server import Limits, hosts_of
from keras_attention.export.server.guard import Guard

pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")


@pytest.mark.parametrize(
    ("address", "others", "yes", "no"),
    [
        (
            "127.0.0.1",
            [],
            ["localhost", "127.0.0.1", "127.0.0.2", "::1"],
            ["", "evil.example", "192.0.2.1", "0.0.0.0", "localhost.evil.example", "127.0.0.1.nip"],
        ),
        ("::1", ["Model.Example:80"], ["::1", "model.example"], ["example"]),
        ("0.0.0.0", ["a"], ["a", "192.0.2.1", "2001:db8::1", "localhost"], ["evil.example", ""]),
        ("127.0.0.1", ["*"], ["evil.example", ""], []),
    ],
)
def test_which_hosts_are_this_servers(address, others, yes, no):
    is_host = hosts_of(address, others)
    assert [name for name in [*yes, *no] if is_host(name)] == yes


async def _whole(scope, receive, send):
    """Tells the body, and what comes after it."""
    first = await receive()
    content = {"body": first["body"].decode(), "more": first["more_body"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def asked(path="/page", headers=(), pieces=(b"",), is_host=None, **limits):
    """-> status code, JSON of a guarded application."""
    pieces, sent = list(pieces), []

    async def receive():
        if not pieces:
            await asyncio.sleep(60)
        piece = pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in dict(headers).items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    scope |= {"query_string": b"", "server": ("127.0.0.1", 1), "scheme": "http"}
    guard = Guard(_whole, Limits(**limits), is_host)
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 60))
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),  # of HTTP/1.0
        ({"host": "localhost:8501"}, 200),
        ({"host": "LOCALHOST."}, 200),
        ({"host": "[::1]:8501", "origin": "http://127.0.0.1:8501"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:8501"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost", "origin": "https://evil.example"}, 403),
        ({"host": "localhost", "origin": "https://localhost.evil.example"}, 403),
        ({"host": "localhost", "origin": "https://localhost@evil.example"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
        ({"host": "localhost", "origin": "http://[::"}, 403),
    ],
)
def test_a_page_of_another_name_reads_nothing(headers, code):
    found, told = asked(headers=headers, is_host=hosts_of("127.0.0.1"))
    assert found == code and ("--allowed_hosts" in told.get("error", "")) == (code == 403)
    assert asked(headers=headers)[0] == 200  # where nobody checks


def test_a_body_of_any_route_is_within_the_limits():
    sized = {"content-length": "6"}
    assert asked(headers=sized, pieces=[b"abc", b"def"], max_body=6) == (
        200,
        {"body": "abcdef", "more": False},
    )
    for headers in (sized, {"transfer-encoding": "chunked"}):
        code, told = asked(headers=headers, pieces=[b"abc", b"defg"], max_body=6)
        assert code == 413 and "at most 6 bytes" in told["error"]
        code, told = asked(headers=headers, pieces=[b"abc", b""][:1] * 2 + [b""], max_body=6)
        assert code == 200
    code, told = asked(headers={**sized, "content-encoding": "gzip"}, pieces=[b"abcdef"])
    assert code == 400 and "gzip" in told["error"]


def test_a_body_of_any_route_is_within_the_time():
    async def slow(scope, receive, send):
        raise AssertionError("asked without its body")

    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    headers = [(b"content-length", b"5")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
    asyncio.run(Guard(slow, Limits(time_limit=0.05))(scope, receive, send))
    assert sent[0]["status"] == 504 and b"within 0.05 seconds" in sent[1]["body"]


def test_who_leaves_while_sending_reaches_no_route():
    code, _ = asked(headers={"content-length": "9"}, pieces=[b"abc", None])
    assert code == 499
