"""`--mode=infer`: reply to lines of a file, or chat in a terminal."""

import collections
import concurrent.futures
import contextlib
import math
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from apps.chatbot import settings as stored
from apps.chatbot import sources, store
from apps.chatbot.answer_file import AnswerFile, AnswerStream
from apps.chatbot.batching import batches, windows
from apps.chatbot.progress import LineProgress
from apps.chatbot.responder import Responder
from keras_attention.data import Limits, decode_line, open_lines, read_lines

RESET = "/reset"
BATCH_TOKENS = 16_384
AT_ONCE = 2  # batches: the steps that one core takes alone run beside those of another batch

Answer = tuple[str | None, str | None]  # the reply, None if there is none; a message, or None


def run(
    directory: str,
    explicit_flags: dict,
    input_path: str | None,
    output_path: str | None,
    limits: Limits | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> bool:
    """Answer lines from a file or standard input; True if every line was answered.

    A line that cannot be answered (not UTF-8, without a known token, or too long for a couplet)
    gets an empty line, and a message with the reason on standard error.

    Lines of a regular file are answered in batches of similar length, see `batching`, and written
    in their order; a file of answers appears when it is complete, see `AnswerFile`. Other lines are
    answered one by one, as they come.

    Raises ValueError and OSError as `AnswerFile`, and for an input that cannot be read.
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
    name = input_path or "the input"
    with contextlib.ExitStack() as files:
        source = files.enter_context(open_lines(input_path)) if input_path else sys.stdin.buffer
        share = _share_read(source)
        if share and output_path and _is_replaceable(output_path):
            model_id = store.fingerprint(directory, tokenizer)
            target = AnswerFile(output_path, name, model_id, _of_answers(settings), _seed(settings))
            files.enter_context(target)
        else:
            to = files.enter_context(open(output_path, "wb")) if output_path else sys.stdout.buffer
            target = AnswerStream(to, _seed(settings))
        shown = share is not None and (output_path is not None or not sys.stdout.isatty())
        progress = LineProgress(share, target.lines, shown)
        lines = read_lines(source, limits, name)
        answer_lines(responder, settings, lines, target, progress, batch_tokens if share else None)
    return not target.unanswered


def answer_lines(
    responder: Responder,
    settings: dict,
    lines: Iterable[bytes],
    target: AnswerStream | AnswerFile,
    progress: LineProgress,
    batch_tokens: int | None = None,
) -> None:
    """Write the answer to each line, in batches of so many tokens; None: each as it comes.

    Messages about lines go to standard error.
    """
    lines = target.skip_answered(lines)
    if target.lines:
        progress.note(f"Resuming after {target.lines:,} lines.")
    asked = windows(lines, most=1) if batch_tokens is None else windows(lines)
    ahead = 0 if batch_tokens is None else 1
    decoding = _Decoding(responder, settings, target.seed, batch_tokens or 1, progress)
    try:
        for window, answers in decoding.answered(asked, target.lines, ahead):
            for number, (_, problem) in enumerate(answers, target.lines + 1):
                if problem:
                    progress.note(f"line {number}: {problem}")
            replies = [(reply or "").encode() for reply, _ in answers]
            target.write(window, replies, sum(reply is None for reply, _ in answers))
    finally:
        progress.end()
    target.finish()


class _Decoding:
    """Answers windows of lines, in batches, some of which are decoded at once."""

    def __init__(self, responder, settings, seed, batch_tokens, progress):
        self._responder, self._settings, self._seed = responder, settings, seed
        self._batch_tokens, self._progress = batch_tokens, progress
        responder.trace()

    def answered(
        self, asked: Iterable[list[bytes]], first: int, ahead: int
    ) -> Iterator[tuple[list[bytes], list[Answer]]]:
        """Each window with its answers, in their order.

        `first`: lines before the first window; `ahead`: windows that are read and begun before the
        answers to one are returned, so that no core waits for its last batch.
        """
        pool, begun = concurrent.futures.ThreadPoolExecutor(AT_ONCE), collections.deque()
        problems: list[ValueError] = []
        try:
            for window in _until_problem(asked, problems):
                self._progress.read(len(window))
                begun.append((window, *self._begin(pool, window, first)))
                first += len(window)
                if len(begun) > ahead:
                    yield self._ended(*begun.popleft())
            while begun:
                yield self._ended(*begun.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
        for problem in problems:
            raise problem

    def _begin(self, pool, window, first):
        """-> what was read of each line, and (indices, future) of each batch."""
        found = read_all(self._responder, self._settings, window)
        asked = [index for index, (source, _) in enumerate(found) if source]
        texts = [found[index][0] for index in asked]
        limit, width = self._settings["max_length"], self._settings["beam_width"]
        tokens = self._responder.tokenizer.encode(tf.constant(texts, tf.string)).row_lengths()
        lengths = np.minimum(tokens.numpy(), limit)
        begun = []
        for batch in batches(lengths, self._batch_tokens, width, limit, AT_ONCE):
            rows = [asked[place] for place in batch]
            seeds = [(self._seed, (first + row) % 2**31) for row in rows]
            sources = [texts[place] for place in batch]
            begun.append((rows, pool.submit(self._responder.best, sources, seeds)))
        return found, begun

    def _ended(self, window, found, begun):
        answers = list(found)
        for rows, future in begun:
            for row, replies in zip(rows, future.result(), strict=True):
                answers[row] = best(replies, self._settings), found[row][1]
            self._progress.done(len(rows))
        self._progress.done(len(window) - sum(len(rows) for rows, _ in begun))
        return window, answers


def _until_problem(asked, problems) -> Iterator[list[bytes]]:
    """Windows up to a line that cannot be read; its error is added to `problems`."""
    try:
        yield from asked
    except ValueError as error:
        problems.append(error)


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


def read(responder: Responder, settings: dict, line: bytes, before: Sequence[str] = ()) -> Answer:
    """-> the text for the model, "" for a blank line, None if invalid; and a message, or None.

    `before`: earlier turns of the conversation; with --context_turns a line has its own, too, in
    columns. The last ones of all are read, as many as fit.
    """
    try:
        text = decode_line(line)
    except ValueError as error:
        return None, _invalid(error)
    asked = "\t".join([*before, text]) if settings["context_turns"] else text
    return _read_texts(responder, settings, [asked])[0]


def read_all(responder: Responder, settings: dict, lines: Sequence[bytes]) -> list[Answer]:
    """The results of `read` for many lines, at once."""
    found: list[Any] = []
    for line in lines:
        try:
            found.append(decode_line(line))
        except ValueError as error:
            found.append((None, _invalid(error)))
    texts = [item for item in found if isinstance(item, str)]
    prepared = iter(_read_texts(responder, settings, texts))
    return [next(prepared) if isinstance(item, str) else item for item in found]


def _invalid(error) -> str:
    return f"expected UTF-8 text. Received: {error}. No reply."


def _read_texts(responder, settings, texts) -> list[Answer]:
    if not texts:
        return []
    found = sources.read_lines(tf.constant(texts), responder.tokenizer, settings)
    limit, columns = settings["max_length"], zip(*(part.numpy() for part in found), strict=True)
    return [_judged(limit, *column) for column in columns]


def _judged(limit, text, source, readable, fits, tokens) -> Answer:
    text = text.decode()
    if not text.strip():
        return "", None
    if not readable:
        return None, "no token of it is known to the model. No reply."
    if not fits:
        return None, (
            f"a first line may have {limit} characters, for its match must be as long. Received: "
            f"{len(text)}. No reply."
        )
    if tokens > limit:
        return text, f"only the first {limit} of its {tokens} tokens are read."
    return source.decode(), None


def _of_answers(settings: dict) -> dict:
    """The settings that answers depend on."""
    names = ("task", "context_turns", "max_length", "dtype_policy", *stored.SEARCH)
    return {name: settings[name] for name in names}


def _seed(settings: dict) -> int:
    """The seed of the draws: of --sample_seed, else a new one."""
    seed = settings["sample_seed"]
    return int.from_bytes(os.urandom(4)) >> 1 if seed is None else seed


def _share_read(source) -> Callable[[], float] | None:
    """How much of a regular file has been read, 0 to 1; None for another input."""
    file = getattr(source, "fileobj", source)  # of a GzipFile
    try:
        about = os.fstat(file.fileno())
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(about.st_mode):
        return None
    return lambda: min(1.0, file.tell() / about.st_size) if about.st_size else 1.0


def _is_replaceable(path: str) -> bool:
    return os.path.isfile(path) or not os.path.lexists(path)


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
