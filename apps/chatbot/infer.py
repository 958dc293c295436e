"""`--mode=infer`: a reply to every line; in a terminal, a chat."""

import contextlib
import os
import sys

from apps.chatbot import settings as stored
from apps.chatbot import store
from apps.chatbot.responder import Responder


def run(directory: str, said: dict, input_path: str | None, output_path: str | None) -> bool:
    """Answer lines from a file or standard input; True if every line got its answer.

    A line that cannot be answered (not UTF-8, nothing in it known to the model, a couplet's line
    too long to be matched) gets an empty line, and a message on standard error says why.
    """
    if input_path and output_path and _same_file(input_path, output_path):
        raise ValueError(f"--output={output_path} is the file of --input, and would overwrite it.")
    settings = stored.load(directory, said)
    model, tokenizer = store.load_model(directory, settings)
    responder = Responder(model, tokenizer, settings)
    if input_path is None and output_path is None and sys.stdin.isatty():
        _chat(responder, settings)
        return True
    with contextlib.ExitStack() as files:
        source = files.enter_context(open(input_path, "rb")) if input_path else sys.stdin.buffer
        target = files.enter_context(open(output_path, "wb")) if output_path else sys.stdout.buffer
        whole = True
        for number, line in enumerate(source, 1):
            reply, problem = answer(responder, settings, line.rstrip(b"\r\n"))
            if problem:
                print(f"line {number}: {problem}", file=sys.stderr, flush=True)
                whole &= reply is not None
            target.write((reply or "").encode() + b"\n")
            target.flush()
    return whole


def answer(responder: Responder, settings: dict, line: bytes) -> tuple[str | None, str | None]:
    """-> the reply, or None where there can be none; and what there is to say about it."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, f"expected UTF-8 text. Received: {error}. No reply."
    if not text.strip():
        return "", None
    limit = settings["max_length"]
    known, tokens = responder.count(text)
    if not known:
        return None, "nothing in it is known to the model. No reply."
    if settings["task"] == "couplet" and len(text) > limit:
        return None, (
            f"a first line may have {limit} characters, for its match must be as long. Received: "
            f"{len(text)}. No reply."
        )
    problem = None
    if tokens > limit:
        problem = f"only the first {limit} of its {tokens} tokens are read."
    # A model of bytes may say a line break; here it would be taken for the end of the reply.
    return responder.replies([text])[0][0].replace("\n", " "), problem


def _same_file(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def _chat(responder: Responder, settings: dict) -> None:
    sys.stdin.reconfigure(errors="surrogateescape")  # `answer` says what is wrong with such bytes
    print("Say something; an empty line is ignored, Ctrl-D ends.", flush=True)
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line.strip():
            reply, problem = answer(responder, settings, line.encode("utf-8", "surrogateescape"))
            if problem:
                print(f"({problem})", file=sys.stderr, flush=True)
            if reply is not None:
                print(reply, flush=True)
