"""Answers to a file of lines: in order, in batches, continued after a kill, never of two models."""

import functools
import gzip
import io
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import time

import pytest

from apps.chatbot import answer_file, batching, files, infer, progress, responder
from apps.chatbot.answer_file import AnswerFile
from keras_attention import text
from tests.apps.chatbot import untrained
from tests.apps.chatbot.program import run, shipped, start
from tests.apps.chatbot.test_bad_input import assert_refused, full_disk
from tests.sampled import full

QUESTIONS = [line.split("\t")[0] for line in shipped("chat_en.tsv", 30)]
ODD = ["", "☃☃", "  ", "Hello " * 40, "你好，你"]
SETTINGS = {"beam_width": 4, "banned_words": ["a"], "length_penalty": 0.6}


DRAWN = ("--sampling=sample", "--sample_seed=3", "--n_best=2", "--batch_tokens=500")


@pytest.fixture(autouse=True, scope="module")
def one_model_for_the_file():
    """Runs with the same model and settings share its graph."""
    made, responder = {}, infer.Responder

    def cached(model, tokenizer, settings):
        key = (model.count_params(), json.dumps(settings))
        return made.setdefault(key, made.get(key) or responder(model, tokenizer, settings))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infer, "Responder", cached)
        yield


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return untrained.saved(tmp_path_factory.mktemp("chat"))[0]


@pytest.fixture
def asked(tmp_path):
    """A file of lines, some of which have no answer."""
    path = tmp_path / "asked"
    lines = [line.encode() for line in QUESTIONS + ODD + QUESTIONS[:9]]
    path.write_bytes(b"\n".join([*lines[:20], b"\xff\xfe", *lines[20:]]))
    return path


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of 16 lines, so that a file of few lines has several."""
    whole = functools.partial(batching.windows, most=16)
    monkeypatch.setattr(infer, "windows", lambda lines, **most: whole(lines, **most))


def command(chat, asked, *flags):
    return ("--mode=infer", f"--model_dir={chat}", f"--input={asked}", *flags)


@pytest.mark.parametrize("sampling", ["sample", *full("off", "stochastic", "diverse")])
def test_answers_in_batches_are_those_of_one_line_at_a_time(
    chat, asked, small_windows, sampling, tmp_path
):
    flags = (*DRAWN, f"--sampling={sampling}", "--diversity_groups=3")
    alone = run("--mode=infer", f"--model_dir={chat}", *flags, stdin=asked.read_bytes())
    ran = run(*command(chat, asked, *flags, f"--output={tmp_path}/out"))
    assert (tmp_path / "out").read_text("utf-8") == alone.out
    assert (ran.code, ran.out, ran.err) == (1, "", alone.err)
    assert "line 21: expected UTF-8" in ran.err and "line 33: no token" in ran.err
    assert len(set(alone.out.split("\n"))) > 20
    assert sorted(os.listdir(tmp_path)) == ["asked", "out"]
    packed = tmp_path / "asked.gz"
    packed.write_bytes(gzip.compress(asked.read_bytes()))
    assert run(*command(chat, packed, *flags)).out == alone.out


def test_the_draws_of_equal_lines_differ(chat, tmp_path):
    (tmp_path / "asked").write_text("Hello\n" * 8)
    flags = (*DRAWN, "--diversity_groups=3")
    drawn = [run(*command(chat, tmp_path / "asked", *flags)).out for _ in range(2)]
    assert drawn[0] == drawn[1] and len(set(drawn[0].splitlines())) > 4


def test_a_run_that_is_stopped_anywhere_goes_on_to_the_same_file(
    chat, asked, small_windows, tmp_path, monkeypatch
):
    left, decode = [math.inf], responder.Responder.best

    def best(responder, *given):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return decode(responder, *given)

    monkeypatch.setattr(responder.Responder, "best", best)
    whole, out = tmp_path / "whole", tmp_path / "out"
    flags = (*DRAWN, "--diversity_groups=3")
    assert run(*command(chat, asked, *flags, f"--output={whole}")).code == 1
    out.write_text("an earlier file")
    for left[0] in (0, 5):
        ran = run(*command(chat, asked, *flags, f"--output={out}"))
        assert ran.code == 130 and out.read_text() == "an earlier file"
    left[0] = math.inf
    ran = run(*command(chat, asked, *flags, f"--output={out}", "--batch_tokens=800"))
    assert ran.code == 1 and "Resuming after 16 lines" in ran.err
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["asked", "out", "whole"]


@pytest.mark.full
def test_an_unfinished_file_of_another_model_or_other_settings_is_refused(chat, asked, tmp_path):
    unfinished(tmp_path / "out", chat, asked)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    go_on = command(chat, asked, f"--output={tmp_path}/out")
    assert_refused(run(*go_on, "--beam_width=2"), "--beam_width=3 (now 2)", "remove", "out.part")
    model = shutil.copytree(chat, tmp_path / "model")
    untrained.saved(model, units=4)
    assert_refused(run(*command(model, asked, f"--output={tmp_path}/out")), "of another model")
    shutil.rmtree(model)
    asked.write_bytes(b"another line\n" + asked.read_bytes())
    assert_refused(run(*go_on), "another input", str(asked))
    asked.write_bytes(before[asked])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run(*go_on).err.startswith("Resuming after 2 lines.\n")


def unfinished(path, chat, asked):
    """As a run leaves it that is killed after two lines."""
    settings = infer.stored.load(chat, {})
    model, tokenizer = infer.store.load_model(chat, settings)
    about = infer.store.fingerprint(chat, tokenizer), infer._of_answers(settings)
    with AnswerFile(str(path), "asked", *about, seed=0) as file:
        file.write(asked.read_bytes().split(b"\n")[:2], [b"one", b"two"], 0)


def test_a_full_disk_loses_nothing(chat, asked, small_windows, tmp_path):
    out = tmp_path / "out"
    answer = command(chat, asked, f"--output={out}")
    whole = run("--mode=infer", f"--model_dir={chat}", stdin=asked.read_bytes()).out
    with full_disk(0):
        assert_refused(run(*answer), "Could not save", "Free some space")
    with full_disk(len(whole.encode()) - 5):  # more than a journal
        ran = run(*answer)
        assert ran.code == 1 and "The answers to the first 32 lines are safe" in ran.err
    ran = run(*answer)
    assert "Resuming after 32 lines" in ran.err and out.read_text("utf-8") == whole


def test_the_lines_before_one_that_cannot_be_read_are_answered(
    chat, asked, small_windows, tmp_path
):
    lines = QUESTIONS[:21] + ["x" * 5_000] + QUESTIONS[21:]
    asked.write_text("\n".join(lines), "utf-8")
    out, limit = tmp_path / "out", ("--max_line_bytes=4999", *DRAWN, "--diversity_groups=3")
    answer = command(chat, asked, f"--output={out}")
    ran = run(*answer, *limit)
    assert ran.code == 1 and "line 22: more bytes than max_line_bytes=4,999" in ran.err
    assert run(*command(chat, asked), *limit).out.count("\n") == 21
    ran = run(*answer, *limit[1:])
    assert "Resuming after 21 lines" in ran.err
    assert out.read_text("utf-8").count("\n") == len(lines)


# -- the journal alone

LINES = [b"line %d" % i for i in range(7)]
ANSWERS = [b"answer %d" % i for i in range(7)]


class Killed(BaseException):
    pass


def write_all(path, lines=LINES, at=None, monkeypatch=None):
    """Answer windows of two lines; the process is killed at the `at`-th change of the disk."""
    count = 0

    def dying(function, half=None):
        def call(*given):
            nonlocal count
            count += 1
            if at is not None and count > at:
                if count == at + 1 and half:
                    half(*given)
                raise Killed  # nothing is changed any more
            return function(*given)

        return call

    with monkeypatch.context() as patch:
        write = os.write
        half = lambda handle, content: write(handle, content[: len(content) // 2])  # noqa: E731
        patch.setattr(answer_file.os, "write", dying(write, half))
        for name in ("open", "replace", "remove", "truncate"):
            patch.setattr(answer_file.os, name, dying(getattr(os, name)))
        with AnswerFile(str(path), "the input", "model", SETTINGS, 5) as file:
            todo = list(file.skip_answered(iter(lines)))
            assert todo == lines[len(lines) - len(todo) :]
            for window in batching.windows(todo, most=2):
                file.write(window, ANSWERS[file.lines :][: len(window)], 1)
            file.finish()
    return file, count


def test_a_kill_at_any_moment_neither_repeats_nor_loses_a_line(tmp_path, monkeypatch):
    whole, steps = write_all(tmp_path / "whole", monkeypatch=monkeypatch)
    expected = b"".join(answer + b"\n" for answer in ANSWERS)
    assert (tmp_path / "whole").read_bytes() == expected and whole.unanswered == 4
    assert steps > 20
    for at in range(steps):
        path = tmp_path / f"killed {at}"
        with pytest.raises(Killed):
            write_all(path, at=at, monkeypatch=monkeypatch)
        file, _ = write_all(path, monkeypatch=monkeypatch)
        assert path.read_bytes() == expected, at
        assert (file.lines, file.unanswered, file.seed) == (7, 4, 5)
        assert not [name for name in os.listdir(tmp_path) if "part" in name]


def test_a_finished_file_is_written_again(tmp_path, monkeypatch):
    for lines in (LINES, LINES[:3]):
        write_all(tmp_path / "out", lines, monkeypatch=monkeypatch)
        assert (tmp_path / "out").read_bytes().count(b"\n") == len(lines)
    write_all(tmp_path / "none", [], monkeypatch=monkeypatch)
    assert (tmp_path / "none").read_bytes() == b""


def test_a_link_keeps_naming_its_file(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_all(tmp_path / "link", monkeypatch=monkeypatch)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes()


def begun(path) -> str:
    with AnswerFile(str(path), "the input", "model", SETTINGS, 5) as file:
        file.write(LINES[:2], ANSWERS[:2], 0)
    return str(path)


SPOILED = {
    "no part": (lambda path: os.remove(path + ".part"), "out.part is missing"),
    "a short part": (lambda path: os.truncate(path + ".part", 3), "out.part is damaged"),
    "no journal": (lambda path: os.remove(path + ".part.json"), "out.part is in the way"),
    "half a journal": (lambda path: os.truncate(path + ".part.json", 30), "cannot be read"),
    "another version": (lambda path: changed(path, version=2), "of version 2"),
    "no number": (lambda path: changed(path, lines="2"), "damaged (lines)"),
    "a negative number": (lambda path: changed(path, bytes=-1), "negative"),
    "fewer lines": (lambda path: changed(path, lines=1), "another input"),
}


def changed(path, **values):
    with open(path + ".part.json") as file:
        content = json.load(file)
    files.write_json(path + ".part.json", {**content, **values})


@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_unfinished_file_is_named_and_kept(fault, tmp_path, monkeypatch):
    spoil, words = SPOILED[fault]
    path = begun(tmp_path / "out")
    spoil(path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=re.escape(words)):
        write_all(path, monkeypatch=monkeypatch)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_processes_do_not_write_one_file(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    with AnswerFile(str(tmp_path / "out"), "the input", "model", SETTINGS, 5):
        with pytest.raises(ValueError, match="being written by another process"):
            write_all(tmp_path / "out", monkeypatch=monkeypatch)
    with pytest.raises(ValueError, match="directory that exists. Received: .*nowhere"):
        begun(tmp_path / "nowhere/out")


# -- batches and progress


class Echo:
    """Replies with the line; asks nothing of TensorFlow but to split characters."""

    def __init__(self):
        self.tokenizer = text.Characters.train(["abc"])

    def trace(self):
        pass

    def best(self, lines, seeds):
        return [[line] for line in lines]


def test_lines_are_read_a_few_windows_ahead_of_their_answers(tmp_path, small_windows):
    """So memory does not grow with the file."""
    read, ahead = 0, []

    def lines():
        nonlocal read
        for _ in range(200):
            read += 1
            yield b"abc"

    class Counted(AnswerFile):
        def write(self, lines, answers, unanswered):
            ahead.append(read - self.lines)
            super().write(lines, answers, unanswered)

    settings = dict(task="chat", context_turns=0, max_length=5, beam_width=1, n_best=None)
    with Counted(str(tmp_path / "out"), "", "", {}, 0) as file:
        infer.answer_lines(Echo(), settings, lines(), file, progress.LineProgress(), 10_000)
    assert (tmp_path / "out").read_text() == "abc\n" * 200
    assert len(ahead) == 13 and max(ahead) <= 32


def test_batches_hold_every_line_once_within_their_tokens():
    lengths = [random.Random(i).randrange(1, 60) for i in range(300)]
    found = batching.batches(lengths, 2_000, beam_width=4, max_length=20)
    assert sorted(index for batch in found for index in batch) == list(range(300))
    sizes = [len(batch) * 4 * (max(lengths[i] for i in batch) + 20) for batch in found]
    assert all(size <= 2_000 for size in sizes) and sum(sizes) > 0.85 * len(found) * 2_000
    assert [len(batch) for batch in batching.batches([5] * 9, 1, 4, 20)] == [1] * 9
    for count, least, rows in (
        (999, 1, batching.MAX_ROWS),
        (96, 4, 24),
        (20, 4, batching.MIN_ROWS),
    ):
        assert max(map(len, batching.batches([5] * count, 10**9, 1, 1, least))) == rows


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_progress_is_one_line_of_a_terminal_and_rare_lines_of_a_log(stream, monkeypatch):
    now, err = [0.0], stream()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = progress.LineProgress(lambda: 0.25, done=100)
    shown.read(100)
    for _ in range(50):
        now[0] += 2.0
        shown.done(1)
    shown.note("line 7: no reply")
    shown.end()
    assert "line 7: no reply\n" in err.getvalue()
    if stream is Terminal:
        assert err.getvalue().count("\n") == 1 and err.getvalue().count("\r") == 52
        assert "\r  answering [===>" in err.getvalue()
        assert "] 19 %, 150 of 800 lines, 0.5 lines/s, 21:40 left\033[K" in err.getvalue()
        assert "\033[Kline 7" in err.getvalue()
    else:
        *reports, message = err.getvalue().splitlines()
        assert len(reports) == 3 and "] 14 %, 115 of 800 lines" in reports[0]


# -- kills


@pytest.mark.parametrize(
    "kills", [pytest.param(1, marks=pytest.mark.full), pytest.param(10, marks=pytest.mark.slow)]
)
def test_killed_runs_end_in_the_file_of_an_uninterrupted_one(chat, kills, tmp_path):
    """In processes of their own, at random moments: most after a window, some at the start."""
    random_, count = random.Random(kills), batching.WINDOW_LINES * (kills + 2)
    lines = [random_.choice(QUESTIONS)[: random_.randrange(1, 40)] for _ in range(count)]
    (tmp_path / "asked").write_text("\n".join(lines), "utf-8")
    answer = (*command(chat, tmp_path / "asked"), "--sampling=sample", "--sample_seed=1")
    assert run(*answer, f"--output={tmp_path}/whole").code == 0
    resumed = set()
    for kill in range(kills):
        before = journal(tmp_path)
        with open(tmp_path / "err", "wb") as err:  # a pipe that nobody reads would stop it
            process = start(*answer, f"--output={tmp_path}/out", cwd=tmp_path, stderr=err)
        while kill % 4 != 3 and journal(tmp_path)["lines"] == before["lines"]:
            assert process.poll() is None, (tmp_path / "err").read_text()
            time.sleep(0.01)
        time.sleep(random_.uniform(0.0, 2.0))
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        resumed.update(re.findall(r"Resuming after (\S+) lines", (tmp_path / "err").read_text()))
    ran = run(*answer, f"--output={tmp_path}/out")
    assert ran.code == 0 and "Resuming after" in ran.err
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "out").read_bytes().count(b"\n") == count
    assert len(resumed) >= kills // 2
    assert not [name for name in os.listdir(tmp_path) if "part" in name]


def journal(folder) -> dict:
    path = folder / "out.part.json"
    return json.loads(path.read_text()) if path.exists() else {"lines": 0}
