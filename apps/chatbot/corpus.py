"""The text pairs for training, validation and test."""

import hashlib
import importlib.resources
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from apps.chatbot import dialogues, files
from apps.chatbot.sources import without_blanks
from keras_attention.data import (
    Limits,
    PairFile,
    PairStream,
    SourceSplit,
    file_names,
    read_pair_file,
    split_by_source,
)

Pair = tuple[str, str]

DATA = "data.json"
VERSION = 1
SAMPLES = 3
HELD_OUT = 0.05  # share of the sources, without --dev_data
CHUNK = 4096  # pairs that are handled together


class Corpus(NamedTuple):
    """The pairs of a run, and facts about their files.

    Attributes:
        train: for training.
        dev: for early stopping.
        test: for evaluation, in neither of the others.
        families: of each test pair, if they are generated.
        about: lines that describe the files.
        record: the identity of the data, for `check_unchanged`.
    """

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    families: list[str] | None
    about: list[str]
    record: dict[str, Any]


def load(settings: dict, limits: Limits | None = None) -> Corpus:
    """The pairs of `--data` and `--dev_data`, or those shipped with the program.

    Raises ValueError for files that cannot be read, or too few pairs to hold any out.
    """
    if settings["data"]:
        return _of_files(settings, limits)
    if settings["dev_data"]:
        raise ValueError("--dev_data needs --data. Received: --dev_data only.")
    return _shipped_chat() if settings["task"] == "chat" else _shipped_couplets()


def held_out(settings: dict, limits: Limits | None = None) -> Corpus:
    """As `load`, without the training pairs, which need not fit into memory, and their facts."""
    path, dev_path = settings["data"], settings["dev_data"]
    if not path:
        return load(settings, limits)
    texts, seen = Texts(path, settings, limits), Survey()
    split = SourceSplit(HELD_OUT, settings["seed"])
    for chunk in texts:
        seen.add(chunk)
        for source, _ in chunk:
            split.add(source)
    if dev_path:
        dev = read(dev_path, settings, limits).pairs
        return Corpus([], dev, dev, None, [], record_of(seen, survey(dev)))
    if not split.holds_out_any:
        raise ValueError(one_source(path))
    dev = [pair for chunk in texts for pair in chunk if split.holds_out(pair[0])]
    return Corpus([], dev, dev, None, [], record_of(seen))


def read(path: str, settings: dict, limits: Limits | None = None) -> PairFile:
    """The pairs of a file, prepared for the task of `settings`.

    Raises ValueError as `read_pairs` does, and if all couplets are blank.
    """
    found = read_pair_file(path, settings["context_turns"], limits)
    if settings["task"] != "couplet":
        return found
    pairs = list(itertools.chain.from_iterable(_couplets([found.pairs], path)))
    return found._replace(pairs=pairs)


class Texts:
    """The pairs of `read` for a file of any size: an iteration reads it anew, in lists of pairs."""

    def __init__(self, path: str, settings: dict, limits: Limits | None = None):
        self._path, self._task = path, settings["task"]
        self._stream = PairStream(path, settings["context_turns"], limits)

    def __iter__(self) -> Iterator[list[Pair]]:
        chunks = chunked(self._stream)
        if self._task != "couplet":
            yield from chunks
            return
        count = 0
        for chunk in _couplets(chunks, self._path):
            count += len(chunk)
            yield chunk
        self._stream.count = count

    def summary(self) -> str:
        """Of what was read and skipped, after an iteration."""
        return self._stream.summary()


def chunked(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """The pairs in lists of `CHUNK`."""
    iterator = iter(pairs)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk


def _couplets(chunks, path):
    """Each chunk without the blanks between characters, and without pairs of blanks."""
    some = False
    for chunk in chunks:
        sides = (without_blanks(tf.constant(side)).numpy() for side in zip(*chunk))
        couplets = [(first.decode(), second.decode()) for first, second in zip(*sides)]
        couplets = [couplet for couplet in couplets if all(couplet)]
        some = some or bool(couplets)
        yield couplets
    if not some:
        raise ValueError(f"Expected couplets. Received: {path} holds only blanks.")


class Survey:
    """What is found out about pairs in one reading of them.

    Attributes:
        count: of the pairs.
    """

    def __init__(self) -> None:
        self.count = self._bytes = self._uneven = 0
        self._hash, self._first = hashlib.sha256(), []

    def add(self, pairs: list[Pair]) -> None:
        """Take notice of the next pairs."""
        lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
        content = lines.encode("utf-8", "surrogatepass")
        self._hash.update(content)
        self._bytes += len(content)
        self.count += len(pairs)
        self._uneven += sum(len(source) != len(target) for source, target in pairs)
        self._first += pairs[: SAMPLES - len(self._first)]

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of the pairs, which compressing or converting a file does not change."""
        return {"pairs": self.count, "bytes": self._bytes, "sha256": self._hash.hexdigest()}

    def describe(self, summary: str, couplets: bool = False) -> list[str]:
        """A summary of a file, and its first pairs, as lines."""
        uneven = (
            f"; {self._uneven:,} couplets with lines of different lengths"
            if couplets and self._uneven
            else ""
        )
        shown = ["  {!r} -> {!r}".format(*map(_short, pair)) for pair in self._first]
        return [summary + uneven, *shown]


def survey(pairs: list[Pair]) -> Survey:
    """The `Survey` of a list."""
    found = Survey()
    for chunk in chunked(pairs):
        found.add(chunk)
    return found


def check_there(settings: dict, remedy: str) -> None:
    """Check that the data files of a stored model still exist.

    Raises ValueError with `remedy`, in which `{name}` is the flag's name.
    """
    for name in ("data", "dev_data"):
        path = settings[name]
        if path and not all(map(os.path.exists, file_names(path))):
            raise ValueError(
                f"The data of this model, --{name}={path}, does not exist any more. "
                + remedy.format(name=name)
            )


def check_unchanged(directory: str, record: dict[str, Any], settings: dict) -> None:
    """Check that a run continues with the same data, even if the files were moved.

    Raises ValueError that names the change and the remedy. A directory of an earlier version, which
    has no record, is not checked.
    """
    if not has_record(directory):
        return
    stored = files.read_json(os.path.join(directory, DATA), VERSION)
    for name in ("data", "dev_data"):
        before, now = stored.get(name), record[name]
        if before != now:
            raise ValueError(
                f"--{name} must be the data of the training in {directory!r}: expected "
                f"{_identity(before)}. Received: {_identity(now)}"
                + (f", from {settings[name]}" if settings[name] else "")
                + ". A run can only continue with the same pairs. Restore the file (if it was "
                f"moved, pass --{name}=NEW_PATH), or start a new training in another --model_dir."
            )


def has_record(directory: str) -> bool:
    """Whether a model directory has the identity of its data; earlier versions have not."""
    return os.path.exists(os.path.join(directory, DATA))


def is_prepared(directory: str) -> bool:
    """Whether a stored training reads prepared files: another order of the pairs than of lists."""
    path = os.path.join(directory, DATA)
    return has_record(directory) and files.read_json(path, VERSION).get("prepared") is True


def save_record(directory: str, record: dict[str, Any]) -> None:
    """Write the identity of the data into a model directory, and whether they are prepared."""
    files.write_json(os.path.join(directory, DATA), {"version": VERSION, **record})


def _of_files(settings: dict, limits) -> Corpus:
    path, dev_path, couplets = (
        settings["data"],
        settings["dev_data"],
        settings["task"] == "couplet",
    )
    found = read(path, settings, limits)
    seen = survey(found.pairs)
    about = {"data": seen.describe(found.summary(), couplets)}
    if dev_path:
        held_out = read(dev_path, settings, limits)
        dev_seen = survey(held_out.pairs)
        about["dev_data"] = dev_seen.describe(held_out.summary(), couplets)
        record = record_of(seen, dev_seen)
        return Corpus(
            found.pairs, held_out.pairs, held_out.pairs, None, titled(about, settings), record
        )
    train, dev = split_by_source(found.pairs, HELD_OUT, settings["seed"])
    if not dev:
        raise ValueError(one_source(path))
    return Corpus(train, dev, dev, None, titled(about, settings), record_of(seen))


def titled(about: dict[str, list[str]], settings: dict) -> list[str]:
    """The lines of `Survey.describe` of each file, with its name."""
    return [
        line
        for name, (summary, *shown) in about.items()
        for line in (f"{settings[name]}: {summary}", *shown)
    ]


def one_source(path: str) -> str:
    """The error for data of which nothing can be held out."""
    return (
        f"{path} has one distinct source: no pair can be held out. Pass --dev_data, or more pairs."
    )


def _shipped_chat() -> Corpus:
    """Hand-written small talk, and generated dialogues; the latter are held out."""
    train, held_out = dialogues.generate()
    talk = _shipped("chat_en.tsv") + _shipped("chat_zh.tsv")
    dev, test = held_out[0::2], held_out[1::2]
    pairs = [(d.question, d.answer) for d in train] + 4 * talk  # few and all different: repeat them
    dev_pairs = [(d.question, d.answer) for d in dev]
    return Corpus(
        train=pairs,
        dev=dev_pairs,
        test=[(d.question, d.answer) for d in test],
        families=[d.family for d in test],
        about=[],
        record=record_of(survey(pairs), survey(dev_pairs)),
    )


def _shipped_couplets() -> Corpus:
    pairs = _shipped("couplets.tsv")
    train, dev = split_by_source(pairs, HELD_OUT)
    return Corpus(train, dev, dev, None, [], record_of(survey(pairs)))


def _shipped(name: str) -> list[Pair]:
    with importlib.resources.as_file(
        importlib.resources.files("apps.chatbot") / "data" / name
    ) as path:
        return read_pair_file(path).pairs


def record_of(data: Survey, dev_data: Survey | None = None) -> dict[str, Any]:
    """The identity of the data of a training."""
    return {"data": data.identity, "dev_data": dev_data and dev_data.identity}


def _identity(facts: dict[str, Any] | None) -> str:
    if not facts:
        return "none"
    if not isinstance(facts, dict) or not {"pairs", "bytes", "sha256"} <= facts.keys():
        return f"others ({facts!r:.80})"
    return "{pairs} pairs of {bytes} bytes, sha256 {digest}...".format(
        **facts, digest=str(facts["sha256"])[:12]
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
