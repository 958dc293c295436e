"""`--mode=infer`: reply to lines of a file, or chat in a terminal."""

import contextlib
import math
import os
import sys
from collections.abc import Sequence

import tensorflow as tf

from apps.chatbot import settings as stored
from apps.chatbot import sources, store
from apps.chatbot.responder import Responder
from keras_attention.data import Limits, decode_line, open_lines, read_lines

RESET = "/reset"


def run(
    directory: str,
    explicit_flags: dict,
    input_path: str | None,
    output_path: str | None,
    limits: Limits | None = None,
) -> bool:
    """Answer lines from a file or standard input; True if every line was answered.

    A line that cannot be answered (not UTF-8, without a known token, or too long for a couplet)
    gets an empty line, and a message with the reason on standard error.
    """
    if input_path and output_path and _same_file(input_path, output_path):
        raise ValueError(f"--output={output_path} is the file of --input, and would overwrite it.")
    settings = stored.load(directory, explicit_flags)
    model, tokenizer = store.load_model(directory, settings)
    responder = Responder(model, tokenizer, settings)
    if input_path is None and output_path is None and sys.stdin.isatty():
        _chat(responder, settings)
        return True
    limits = (limits or Limits())._replace(max_data_bytes=math.inf, max_data_lines=math.inf)
    with contextlib.ExitStack() as files:
        source = files.enter_context(open_lines(input_path)) if input_path else sys.stdin.buffer
        target = files.enter_context(open(output_path, "wb")) if output_path else sys.stdout.buffer
        whole = True
        lines = read_lines(source, limits, input_path or "the input")
        for number, line in enumerate(lines, 1):
            reply, problem = answer(responder, settings, line)
            if problem:
                print(f"line {number}: {problem}", file=sys.stderr, flush=True)
                whole &= reply is not None
            target.write((reply or "").encode() + b"\n")
            target.flush()
    return whole


def answer(responder: Responder, settings: dict, line: bytes) -> tuple[str | None, str | None]:
    """-> the reply, or None if there is none; and a message, or None."""
    source, problem = read(responder, settings, line)
    if not source:
        return source, problem
    return best(responder.replies([source])[0], settings), problem


def best(replies: list[str], settings: dict) -> str:
    """The reply; those of --n_best, if it is given, separated by tabs."""
    if settings["n_best"] is None:
        return shown(replies[0])
    return "\t".join(" ".join(reply.splitlines()).replace("\t", " ") for reply in replies)


def shown(reply: str) -> str:
    """A reply on one line.

    A model of bytes may generate a line break, which would look like the end of the reply.
    """
    return reply.replace("\n", " ")


def read(
    responder: Responder, settings: dict, line: bytes, before: Sequence[str] = ()
) -> tuple[str | None, str | None]:
    """-> the text for the model, "" for a blank line, None if invalid; and a message, or None.

    `before`: earlier turns of the conversation; with --context_turns a line has its own, too, in
    columns. The last ones of all are read, as many as fit.
    """
    try:
        text = decode_line(line)
    except ValueError as error:
        return None, f"expected UTF-8 text. Received: {error}. No reply."
    limit = settings["max_length"]
    asked = "\t".join([*before, text]) if settings["context_turns"] else text
    found = sources.read_lines(tf.constant([asked]), responder.tokenizer, settings)
    text, source = (strings[0].numpy().decode() for strings in found[:2])
    if not text.strip():
        return "", None
    if not found.readable[0]:
        return None, "no token of it is known to the model. No reply."
    if not found.fit[0]:
        return None, (
            f"a first line may have {limit} characters, for its match must be as long. Received: "
            f"{len(text)}. No reply."
        )
    tokens = found.lengths.numpy()[0]
    if tokens > limit:
        return text, f"only the first {limit} of its {tokens} tokens are read."
    return source, None


def _same_file(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def _chat(responder: Responder, settings: dict) -> None:
    sys.stdin.reconfigure(errors="surrogateescape")  # `read` reports such bytes
    remembers, turns = settings["context_turns"] > 0, []
    forget = f" {RESET} clears the conversation," * remembers
    print(f"Type a line; an empty line is ignored,{forget} Ctrl-D ends.", flush=True)
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if remembers and line.strip() == RESET:
            turns.clear()
            continue
        asked = line.encode("utf-8", "surrogateescape")
        source, problem = read(responder, settings, asked, turns)
        if problem:
            print(f"({problem})", file=sys.stderr, flush=True)
        if source:
            reply = _told(responder, settings, source)
            turns += [line, reply.split("\t")[0]]
            del turns[: -settings["context_turns"] or None]


def _told(responder: Responder, settings: dict, source: str) -> str:
    """Show the reply, token by token if possible, and return it."""
    if not responder.streams:
        reply = best(responder.replies([source])[0], settings)
        print(reply, flush=True)
        return reply
    reply = ""
    for piece in responder.stream(source):
        piece = piece.replace("\n", " ")
        print(piece, end="", flush=True)
        reply += piece
    print(flush=True)
    return reply
