"""Data that do not fit into memory: encoded once into files, from which a training reads."""

import os
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

from apps.chatbot import corpus, files, store
from apps.chatbot.corpus import Pair, Survey, Texts
from apps.chatbot.progress import Progress, bar
from apps.chatbot.sources import SourceTokenizer
from keras_attention import text
from keras_attention.data import Limits, PreparedCorpus, SourceSplit, file_names, prepare
from keras_attention.data.prepared import MANIFEST, file_sha256

FOLDER = "prepared"
ABOUT = "about.json"
VERSION = 1
SAMPLE_BYTES = 16_000_000  # of text, from which the vocabulary is learned
WORKERS = 8  # processes that encode, at most
PER_WORKER = 16_000_000  # bytes of the files; a process takes some seconds to start
SHOWN = 4  # pairs whose replies are shown at the end

# What the files depend on, beside the data.
SETTINGS = ("task", "context_turns", "max_length", "seed", "tokenizer", "vocab_size")


class Looked(NamedTuple):
    """What was found out about the data, before they are encoded.

    Attributes:
        facts: lines that describe each file.
        about: the same with their names.
        record: the identity of the data, for `corpus.check_unchanged`.
        sample: pairs for the vocabulary; none if the data are prepared.
        split: of the pairs, if there is no `--dev_data`.
        stored: what the folder of the prepared files says, if they are there.
        key: what they were made of.
    """

    facts: dict[str, list[str]]
    about: list[str]
    record: dict[str, Any]
    sample: list[Pair]
    split: SourceSplit | None
    stored: dict[str, Any] | None
    key: dict[str, Any]


class Prepared(NamedTuple):
    """The prepared files.

    Attributes:
        train, dev: the ids of the pairs.
        totals: how many pairs there are of each, those included that are too long.
        shown: some held-out pairs.
    """

    train: PreparedCorpus
    dev: PreparedCorpus
    totals: tuple[int, int]
    shown: list[Pair]


def is_large(settings: dict, above: int) -> bool:
    """Whether the files of the data have more bytes than `above`; a pipe has none."""
    names = _names(settings)
    return bool(names) and all(map(os.path.isfile, names)) and _size(names) > above


def look(directory: str, settings: dict, limits: Limits | None = None) -> Looked:
    """Read the data once, unless they are prepared.

    Raises ValueError for files that cannot be read, or too few pairs to hold any out.
    """
    key = {
        "files": [[os.path.getsize(name), file_sha256(name)] for name in _names(settings)],
        "settings": {name: settings[name] for name in SETTINGS},
    }
    stored = _stored(directory)
    if stored and stored["key"] == key:
        facts = stored["facts"]
        about = corpus.titled(facts, settings)
        return Looked(facts, about, stored["record"], [], None, stored, key)
    path, dev_path, couplets = (
        settings["data"],
        settings["dev_data"],
        settings["task"] == "couplet",
    )
    seen, sample = Survey(), Sample(SAMPLE_BYTES)
    split = None if dev_path else SourceSplit(corpus.HELD_OUT, settings["seed"])
    texts = Texts(path, settings, limits)
    for chunk in _told("reading", texts):
        seen.add(chunk)
        sample.add(chunk)
        if split is not None:
            for source, _ in chunk:
                split.add(source)
    facts = {"data": seen.describe(texts.summary(), couplets)}
    if len(sample.pairs) < seen.count:
        facts["data"].append(f"  (vocabulary from a sample of {len(sample.pairs):,} pairs)")
    dev_seen = None
    if dev_path:
        texts, dev_seen = Texts(dev_path, settings, limits), Survey()
        for chunk in _told("reading", texts):
            dev_seen.add(chunk)
        facts["dev_data"] = dev_seen.describe(texts.summary(), couplets)
    elif not split or not split.holds_out_any:
        raise ValueError(corpus.one_source(path))
    record = corpus.record_of(seen, dev_seen)
    pairs = [pair for pair in sample.pairs if not (split and split.holds_out(pair[0]))]
    same = stored and (stored["record"], stored["key"]["settings"]) == (record, key["settings"])
    about = corpus.titled(facts, settings)
    return Looked(facts, about, record, pairs, split, stored if same else None, key)


def tokenizer_of(directory: str, looked: Looked, settings: dict) -> text.Tokenizer:
    """The tokenizer that the data were prepared with, or a new one."""
    if looked.stored:
        return text.load(os.path.join(directory, FOLDER))
    return store.make_tokenizer(settings, looked.sample)


def encode(
    directory: str,
    tokenizer: text.Tokenizer,
    looked: Looked,
    settings: dict,
    limits: Limits | None = None,
) -> Prepared:
    """Encode the data into files below `directory`, unless they are there; open these.

    `about.json` is written last, so that what a killed run leaves is made again.

    Raises ValueError if the files are damaged or foreign, or the data changed since they were read.
    """
    folder = os.path.join(directory, FOLDER)
    sources = SourceTokenizer(tokenizer, settings["context_turns"], settings["max_length"])
    tokenizers = sources, tokenizer
    stored = looked.stored
    if stored is None:
        _remove(folder)
        try:
            stored = _write(folder, tokenizers, looked, settings, limits)
            tokenizer.save(folder)
            files.write_json(os.path.join(folder, ABOUT), {"version": VERSION, **stored})
        except BaseException:
            _remove(folder)
            raise
    elif stored["key"] != looked.key:  # the same pairs in another form
        stored = {**stored, "key": looked.key}
        files.write_json(os.path.join(folder, ABOUT), {"version": VERSION, **stored})
    try:
        for name, expected in stored["manifests"].items():
            path = os.path.join(folder, name, MANIFEST)
            if os.path.exists(path) and file_sha256(path) != expected:
                raise ValueError(f"{path} is damaged, or of another corpus.")
        train, dev = (PreparedCorpus(os.path.join(folder, n), tokenizers) for n in ("train", "dev"))
    except ValueError as error:
        raise ValueError(
            f"{error} To prepare it again from --data, remove {folder} and run the same command."
        ) from error
    totals = stored["totals"]
    shown = [(source, target) for source, target in stored["shown"]]
    return Prepared(train, dev, (totals["train"], totals["dev"]), shown)


class Sample:
    """Pairs from all parts of a corpus, the same each time; all pairs if they are few.

    Of more than `most` bytes every second one goes, again and again; the ones that stay are those
    whose number times the golden ratio has a small fraction (a Weyl sequence), because every second
    line of a file may be in another language.

    >>> sample = Sample(most=40)
    >>> sample.add([(str(i), "x") for i in range(100)])
    >>> [source for source, _ in sample.pairs]
    ['0', '5', '13', '18', '26', '34', '39', '47', '60', '68', '73', '81', '89', '94']
    """

    def __init__(self, most: int):
        self._most, self._bytes, self._below, self._count = most, 0, 1 << 64, 0
        self._kept: list[tuple[int, Pair]] = []

    @property
    def pairs(self) -> list[Pair]:
        """In their order in the corpus."""
        return [pair for _, pair in self._kept]

    def add(self, pairs: list[Pair]) -> None:
        """Take notice of the next pairs."""
        for number, pair in enumerate(pairs, self._count):
            place = number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
            if place < self._below:
                self._kept.append((place, pair))
                self._bytes += _bytes(pair)
        self._count += len(pairs)
        while self._bytes > self._most and len(self._kept) > 1:
            self._below >>= 1
            self._kept = [kept for kept in self._kept if kept[0] < self._below]
            self._bytes = sum(_bytes(pair) for _, pair in self._kept)


def _bytes(pair):
    return sum(len(side.encode("utf-8", "surrogatepass")) for side in pair)


def _names(settings) -> list[str]:
    paths = [settings[name] for name in ("data", "dev_data") if settings[name]]
    return [name for path in paths for name in file_names(path)] if settings["data"] else []


def _size(names):
    return sum(map(os.path.getsize, names))


def _stored(directory) -> dict[str, Any] | None:
    path = os.path.join(directory, FOLDER, ABOUT)
    if not os.path.exists(path):
        return None
    try:
        found = files.read_json(path, VERSION)
        needed = {"key": dict, "facts": dict, "record": dict, "totals": dict, "shown": list}
        for name, kind in {**needed, "manifests": dict}.items():
            if not isinstance(found.get(name), kind):
                raise ValueError(f"{path} is damaged: {name} is missing.")
    except ValueError as error:
        raise ValueError(
            f"{error} To prepare the data again, remove {os.path.dirname(path)} and run the same "
            "command."
        ) from error
    return found


def _remove(folder):
    """Remove what this program writes into the folder, whole or in part."""
    for name in ("train", "dev"):
        for path in (os.path.join(folder, name), os.path.join(folder, name + ".preparing")):
            shutil.rmtree(path, ignore_errors=True)
    if os.path.isdir(folder):
        for entry in os.scandir(folder):
            if entry.is_file() and not entry.is_symlink():
                os.remove(entry.path)
        if not os.listdir(folder):
            os.rmdir(folder)


def _write(folder, tokenizers, looked, settings, limits) -> dict[str, Any]:
    """Prepare the two corpora; what about.json says of them."""
    os.makedirs(folder, exist_ok=True)
    path, dev_path, split = settings["data"], settings["dev_data"], looked.split
    record, most = looked.record, settings["max_length"]
    total, bytes_of_data = record["data"]["pairs"], _size(file_names(path))
    totals = {"train": 0, "dev": 0}

    def of_train() -> Iterator[Pair]:
        for chunk in _read_again(path, settings, limits, record["data"]):
            kept = [pair for pair in chunk if not (split and split.holds_out(pair[0]))]
            totals["train"] += len(kept)
            yield from _short_enough(kept, settings)

    workers = _workers(bytes_of_data)
    prepare(of_train(), f"{folder}/train", tokenizers, max_length=most, workers=workers)
    totals["dev"] = record["dev_data"]["pairs"] if dev_path else total - totals["train"]
    shown, every = [], max(1, totals["dev"] // SHOWN)

    def of_dev() -> Iterator[Pair]:
        count, expected = 0, record["dev_data" if dev_path else "data"]
        for chunk in _read_again(dev_path or path, settings, limits, expected):
            kept = [pair for pair in chunk if not split or split.holds_out(pair[0])]
            shown.extend(kept[place] for place in range(-count % every, len(kept), every))
            count += len(kept)
            yield from _short_enough(kept, settings)

    workers = _workers(
        _size(file_names(dev_path)) if dev_path else int(corpus.HELD_OUT * bytes_of_data)
    )
    prepare(of_dev(), f"{folder}/dev", tokenizers, max_length=most, workers=workers)
    return {
        "key": looked.key,
        "facts": looked.facts,
        "record": looked.record,
        "totals": totals,
        "shown": shown[:SHOWN],
        "manifests": {
            name: file_sha256(os.path.join(folder, name, MANIFEST)) for name in ("train", "dev")
        },
    }


def _workers(size):
    """How many processes encode files of so many bytes."""
    return max(1, min(WORKERS, os.cpu_count() or 1, size // PER_WORKER))


def _read_again(path, settings, limits, identity) -> Iterator[list[Pair]]:
    """The pairs of a file, with a bar; raises ValueError if they are not those of `identity`."""
    seen = Survey()
    for chunk in _told("preparing", Texts(path, settings, limits), identity["pairs"]):
        seen.add(chunk)
        yield chunk
    if seen.identity != identity:
        raise ValueError(f"{path} was changed while it was read. Run the same command again.")


def _short_enough(pairs, settings) -> list[Pair]:
    """Of couplets, those whose first line has no more characters than infer answers."""
    if settings["task"] != "couplet":
        return pairs
    return [pair for pair in pairs if len(pair[0]) <= settings["max_length"]]


def _told(task: str, chunks, total: int | None = None) -> Iterator[list[Pair]]:
    """The chunks, with a bar of how many of all pairs they are."""
    progress, done = Progress(), 0
    try:
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            progress.tell(lambda done=done: bar(task, done, total, progress.seconds))
    finally:
        progress.end()
