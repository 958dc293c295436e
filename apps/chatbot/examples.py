"""The examples of a training: ids of text pairs, from lists or from prepared files."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from apps.chatbot import corpus, prepared, search, store
from apps.chatbot.sources import SourceTokenizer
from keras_attention import text
from keras_attention.data import Limits, batches


class Examples(NamedTuple):
    """The ids of a training.

    Attributes:
        tokenizer: that encoded them.
        record: the identity of the data.
        count: training pairs.
        too_long: how many more there were.
        held_out: pairs of the dev set.
        longest: tokens of a target, at most.
        target_counts: [V], how often each token occurs in the targets.
        epoch: (epoch, skip) -> its batches, without the first `skip`.
        per_epoch: batches in an epoch.
        dev_set: batches of the dev set.
        shown: some pairs of the dev set, whose replies are shown.
    """

    tokenizer: text.Tokenizer
    record: dict[str, Any]
    count: int
    too_long: int
    held_out: int
    longest: int
    target_counts: np.ndarray
    epoch: Callable[[int, int], tf.data.Dataset]
    per_epoch: int
    dev_set: tf.data.Dataset
    shown: list


def examples_of(
    directory: str, settings: dict, limits: Limits | None, large: bool, resumes: bool
) -> Examples:
    """Read and encode the data of a training, and print what was read.

    Args:
        directory: of the model.
        settings: of the training.
        limits: of the data.
        large: read from prepared files, instead of into memory.
        resumes: whether the directory has a tokenizer and the identity of the data.

    Raises ValueError for data that cannot be read, are other ones than before, or are too long.
    """
    pairs: Any = (
        prepared.look(directory, settings, limits) if large else corpus.load(settings, limits)
    )
    for line in pairs.about:
        print(line, flush=True)
    if resumes:
        corpus.check_unchanged(directory, pairs.record, settings)
        tokenizer = text.load(directory)
    elif large:
        tokenizer = prepared.tokenizer_of(directory, pairs, settings)
    else:
        tokenizer = store.make_tokenizer(settings, pairs.train)
    search.plan(settings, tokenizer)  # raise for invalid search settings before the training
    if not large:
        return _of_lists(pairs, tokenizer, settings)
    store.check_memory(settings, tokenizer.vocab_size)  # before the data are encoded
    found = prepared.encode(directory, tokenizer, pairs, settings, limits)
    return _of_files(found, pairs.record, tokenizer, settings)


def _of_lists(pairs: corpus.Corpus, tokenizer, settings) -> Examples:
    """The examples of pairs in memory."""
    train = encode(tokenizer, pairs.train, settings)
    dev = encode(tokenizer, pairs.dev, settings)
    if not train.sources or not dev.sources:
        raise ValueError(
            f"No pair is at most --max_length={settings['max_length']} tokens long on both sides "
            f"(training: {len(train.sources)} of {len(pairs.train)}, dev: {len(dev.sources)} of "
            f"{len(pairs.dev)}). Raise --max_length."
        )
    batch_size = settings["batch_size"]
    spoken = np.concatenate([np.append(target, text.END) for target in train.targets])
    return Examples(
        tokenizer=tokenizer,
        record=pairs.record,
        count=len(train.sources),
        too_long=len(pairs.train) - len(train.sources),
        held_out=len(dev.sources),
        longest=max(map(len, train.targets)),
        target_counts=np.bincount(spoken, minlength=tokenizer.vocab_size),
        epoch=lambda epoch, skip: batches(
            *train[:2], batch_size, seed=settings["seed"], epoch=epoch, skip=skip
        ),
        per_epoch=math.ceil(len(train.sources) / batch_size),
        dev_set=batches(*dev[:2], batch_size).cache(),
        shown=pairs.dev[:: max(1, len(pairs.dev) // 4)][:4],
    )


def _of_files(found: prepared.Prepared, record, tokenizer, settings) -> Examples:
    """The examples of prepared files."""
    batch_size, seed = settings["batch_size"], settings["seed"]
    per_epoch = found.train.order(batch_size, seed=seed).per_epoch

    def epoch_from(epoch, skip):
        place, rest = epoch * per_epoch + skip, per_epoch - skip
        return found.train.batches(batch_size, seed=seed, place=place, count=rest)

    return Examples(
        tokenizer=tokenizer,
        record=record,
        count=len(found.train),
        too_long=found.totals[0] - len(found.train),
        held_out=len(found.dev),
        longest=found.train.manifest["longest"][1],
        target_counts=found.train.target_counts(tokenizer.vocab_size, text.END),
        epoch=epoch_from,
        per_epoch=per_epoch,
        dev_set=found.dev.batches(batch_size),
        shown=found.shown,
    )


class Encoded(NamedTuple):
    """Ids of the sources and of the targets, and the indices of their pairs."""

    sources: list[np.ndarray]
    targets: list[np.ndarray]
    places: list[int]


def encode(tokenizer: text.Tokenizer, pairs: list, settings: dict) -> Encoded:
    """Text pairs -> ids, each source with as much context as fits; too long ones are left out.

    Too long are targets, and last turns of sources, of more than `max_length` tokens, because infer
    would cut such a line. For couplets the limit is in characters, as in infer.
    """
    limit = settings["max_length"]
    sources, targets = (tf.constant(side, tf.string) for side in zip(*pairs))
    of_sources = SourceTokenizer(tokenizer, settings["context_turns"], limit)
    sides = [
        [np.asarray(ids, np.int32) for ids in one.encode(side).to_list()]
        for one, side in ((of_sources, sources), (tokenizer, targets))
    ]
    lengths = np.max([list(map(len, side)) for side in sides], 0)
    if settings["task"] == "couplet":
        lengths = np.maximum(lengths, [len(first) for first, _ in pairs])
    places = np.flatnonzero(lengths <= limit).tolist()
    sources, targets = ([side[place] for place in places] for side in sides)
    return Encoded(sources, targets, places)
