import itertools
import json
import os
import pathlib
import pickle
import shutil
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import PreparedCorpus, batches, prepare, prepared
from keras_attention.text import Characters, Words
from tests.data.test_batch import assert_same, listed
from tests.disk import full_disk, small_disk

RANDOM = np.random.default_rng(0)
PAIRS = [
    tuple(RANDOM.integers(3, 70_000, RANDOM.integers(0, 30)).astype(np.int32) for _ in range(2))
    for _ in range(613)
]
TEXTS = [(f"abc {i}" * (i % 7), f"cab {i}" * (i % 5)) for i in range(9000)]
FILES = ["ids.bin", "offsets.bin", "by_length.bin", "manifest.json"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare(iter(PAIRS), tmp_path_factory.mktemp("parent") / "corpus")


@pytest.fixture
def copy(corpus, tmp_path):
    """A directory of the corpus that a test may damage."""
    return pathlib.Path(shutil.copytree(corpus.directory, tmp_path / "copy"))


def test_every_pair_is_found_by_its_index(corpus):
    assert len(corpus) == len(PAIRS)
    for found, pair in zip(corpus, PAIRS, strict=True):
        assert_same(found, pair)
        assert found[0].dtype == np.int32
    assert_same(corpus[-1], PAIRS[-1])
    expected = [[len(source), len(target)] for source, target in PAIRS]
    assert corpus.lengths(range(len(PAIRS))).tolist() == expected
    with pytest.raises(IndexError):
        corpus[len(PAIRS)]


def test_without_pread_the_same_is_read(corpus, monkeypatch):
    assert prepared._pread is os.pread
    expected = listed(corpus.batches(16, seed=2, count=3))
    monkeypatch.setattr(prepared, "_pread", prepared._seek_and_read)
    assert_same(listed(corpus.batches(16, seed=2, count=3)), expected)


def test_the_manifest_and_the_counts_are_those_of_the_targets(corpus, monkeypatch):
    monkeypatch.setattr(prepared, "CHUNK", 100)
    targets = [[*target, 2] for _, target in PAIRS]
    expected = np.bincount(np.concatenate(targets).astype(int), minlength=70_000)
    np.testing.assert_array_equal(corpus.target_counts(70_000), expected)
    lengths = np.array([[len(source), len(target)] for source, target in PAIRS])
    assert corpus.manifest["longest"] == lengths.max(0).tolist()
    assert corpus.manifest["tokens"] == lengths.sum(0).tolist()


def test_without_a_seed_the_batches_are_those_of_lists(corpus):
    for arguments in ({}, {"multiple": 8}, {"widths": (16, 40)}):
        expected = batches(*zip(*PAIRS), 16, **arguments)
        assert_same(listed(corpus.batches(16, **arguments)), listed(expected))


def test_an_epoch_has_every_pair_once_in_its_order(corpus):
    order = corpus.order(batch_tokens=300, seed=5)
    dataset = corpus.batches(batch_tokens=300, seed=5, place=order.per_epoch)
    assert dataset.cardinality() == order.per_epoch
    found = []
    for number, ((source, target_in), target_out, weights) in enumerate(listed(dataset)):
        for row, index in enumerate(order.batch(order.per_epoch + number)):
            ids, target = PAIRS[index]
            assert source[row, : len(ids) + 1].tolist() == [*ids, 2]
            assert target_in[row, : len(target) + 1].tolist() == [1, *target]
            assert target_out[row, : len(target) + 1].tolist() == [*target, 2]
            assert weights[row].sum() == len(target) + 1
            found.append(index)
        assert max(source.size, target_out.size) <= 300
    assert sorted(found) == list(range(len(PAIRS)))


def test_a_training_resumes_at_its_place(corpus):
    per_epoch = corpus.order(16, seed=1).per_epoch
    whole = listed(corpus.batches(16, seed=1, count=2 * per_epoch))
    for place in (1, per_epoch - 1, per_epoch, per_epoch + 7):
        rest = listed(corpus.batches(16, seed=1, place=place, count=2 * per_epoch - place))
        assert_same(rest, whole[place:])
    assert_same(listed(corpus.batches(16, seed=1, place=7)), whole[7:per_epoch])


@pytest.mark.parametrize("size", [{"batch_size": 12}, {"batch_tokens": 300}])
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_the_shares_of_the_workers_are_the_global_batch(corpus, size, workers):
    whole = listed(corpus.batches(**size, seed=1))
    shares = [
        listed(corpus.batches(**size, seed=1, worker=worker, workers=workers))
        for worker in range(workers)
    ]
    for expected, *parts in zip(whole, *shares, strict=True):
        parts = [tf.nest.flatten(part) for part in parts]
        assert len({len(part[0]) for part in parts}) == 1
        for field, part in zip(tf.nest.flatten(expected), zip(*parts), strict=True):
            joined = np.concatenate(part)
            np.testing.assert_array_equal(joined[: len(field)], field)
        assert not joined[len(field) :].any()  # the weights of rows that fill the last share


def test_a_global_batch_that_the_workers_do_not_divide_is_refused(corpus):
    with pytest.raises(ValueError, match="batch_size=16, workers=3"):
        corpus.batches(16, workers=3)
    with pytest.raises(ValueError, match="worker=2, workers=2"):
        corpus.batches(16, worker=2, workers=2)
    for arguments in ({"place": -1}, {"count": -1}, {"end": 0}, {"widths": [9]}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            corpus.batches(16, **arguments)


def test_fit_takes_the_batches(corpus):
    source, target = keras.Input([None], dtype="int32"), keras.Input([None], dtype="int32")
    embed = keras.layers.Embedding(70_000, 1)
    mean = keras.ops.mean(embed(source), axis=1, keepdims=True)
    model = keras.Model([source, target], keras.ops.tile(mean + embed(target), [1, 1, 2]))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=0))
    small = corpus.batches(16, seed=0, count=4).map(lambda x, y, w: (x, y % 2, w))
    assert np.isfinite(
        model.fit(small, epochs=2, steps_per_epoch=2, verbose=0).history["loss"]
    ).all()


def test_a_corpus_is_pickled_by_its_directory(corpus):
    assert_same(pickle.loads(pickle.dumps(corpus))[3], PAIRS[3])


# -- preparing


@pytest.mark.full
def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path):
    characters = Characters.train(itertools.chain(*TEXTS))
    told = []
    one = prepare(iter(TEXTS), tmp_path / "one", characters, max_length=40, progress=told.append)
    prepare(iter(TEXTS), tmp_path / "two", characters, max_length=40, workers=2)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert told == [4096, 8192, 9000]
    kept = [pair for pair in TEXTS if max(map(len, pair)) <= 40]
    assert len(one) == len(kept) < len(TEXTS) and one._ids.dtype == np.uint16
    for index in (0, 77, len(kept) - 1):
        decoded = characters.decode(tf.ragged.constant([ids.tolist() for ids in one[index]]))
        assert [text.decode() for text in decoded.numpy()] == list(kept[index])
    skipped = one.manifest["skipped"]
    assert sum(reason["count"] for reason in skipped.values()) == len(TEXTS) - len(kept)
    first = skipped["source longer than max_length"]["first"]
    assert len(TEXTS[first][0]) > 40 >= max(len(source) for source, _ in TEXTS[:first])
    assert one.manifest["read"] == len(TEXTS)


def test_another_tokenizer_is_refused(tmp_path):
    words, others = Words.train(["a b c"]), Words.train(["a b d"])
    prepare([("a b", "c")], tmp_path / "corpus", (words, others))
    assert len(PreparedCorpus(tmp_path / "corpus", (words, others))) == 1
    assert words.fingerprint != others.fingerprint == Words.train(["a b d"]).fingerprint
    for wrong in (words, (others, words)):
        with pytest.raises(ValueError, match="prepared with this tokenizer"):
            PreparedCorpus(tmp_path / "corpus", wrong)
    with pytest.raises(ValueError, match="tokenizer must be"):
        PreparedCorpus(tmp_path / "corpus", "words")


def test_empty_rows_alone_are_a_corpus(tmp_path):
    corpus = prepare([([], []), ([], [])], tmp_path / "corpus")
    (((source, target_in), _, weights),) = listed(corpus.batches(2))
    assert source.tolist() == [[2], [2]] and target_in.tolist() == [[1], [1]] and weights.all()


@pytest.mark.parametrize(
    "pairs, arguments, message",
    [
        ([], {}, "No pair is left"),
        ([([1, 2, 3], [4])], {"max_length": 2}, "No pair is left"),
        ([([1], [4]), ([1], [0])], {}, r"0 at 0 in targets\[1\]"),
        ([([1], [4]), ([1.5], [3])], {}, r"sources\[1\]"),
        ([([1], [4]), [3]], {}, r"pairs\[1\]"),
        ([([1], [4]), "ab"], {}, r"pairs\[1\]"),
        ([("a", "b")], {}, r"sources\[0\]"),
        ([([1], [2])], {"workers": 0}, "workers"),
        ([([1], [2])], {"max_length": 0}, "max_length"),
    ],
)
def test_what_cannot_be_prepared_is_refused_and_leaves_nothing(tmp_path, pairs, arguments, message):
    with pytest.raises(ValueError, match=message):
        prepare(pairs, tmp_path / "corpus", **arguments)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("at", [0, 1000, 5000, 30_000])
def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path, at):
    """At the first byte, in each of the files, and while the order is sorted."""
    pairs = [([5] * 3, [6] * 3)] * 3000
    with full_disk(at), pytest.raises(OSError, match="Nothing is left of it. Free some space"):
        prepare(pairs, tmp_path / "corpus")
    assert not os.listdir(tmp_path)
    assert len(prepare(pairs, tmp_path / "corpus")) == 3000


def test_a_small_disk_is_full_at_any_of_the_files(tmp_path):
    """Ids of 72 kB, offsets of 48 kB, and 12 kB of the order by length, in pages of 4 kB."""
    pairs, message = [([5] * 3, [6] * 3)] * 3000, "Nothing is left of it. Free some space"
    for kilobytes in (60, 100, 130):
        with small_disk(tmp_path / str(kilobytes), kilobytes << 10) as disk:
            with pytest.raises(OSError, match=message):
                prepare(pairs, disk / "corpus")
            assert not os.listdir(disk)
    with small_disk(tmp_path / "larger", 160 << 10) as disk:
        assert len(prepare(pairs, disk / "corpus")) == 3000


def test_what_is_no_text_is_refused(tmp_path):
    words = Words.train(["a b"])
    with pytest.raises(ValueError, match=r"Received: 3 in pairs\[1\]"):
        prepare([("a", "b"), (3, "b")], tmp_path / "corpus", words)
    with pytest.raises(ValueError, match="pad must be 0"):
        prepare([("a", "b")], tmp_path / "corpus", words, pad=7)
    assert not os.listdir(tmp_path)


def test_a_directory_that_is_there_is_not_overwritten(corpus):
    with pytest.raises(ValueError, match="must not exist yet"):
        prepare(PAIRS, corpus.directory)
    assert len(PreparedCorpus(corpus.directory)) == len(PAIRS)


def test_two_runs_do_not_prepare_one_corpus(tmp_path):
    def pairs():
        yield [5], [6]
        with pytest.raises(ValueError, match="Another process is preparing"):
            prepare(PAIRS, tmp_path / "corpus")

    assert len(prepare(pairs(), tmp_path / "corpus")) == 1


def test_a_killed_run_leaves_nothing_that_is_believed(tmp_path):
    """Killed with -9 in the middle; then the same call does it all."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:

        def pairs():
            for i in range(20_000):
                if i == 15_000:
                    os.write(writer, b"here")
                    time.sleep(60)
                yield [i + 1], [i + 1] * (i % 9)

        try:
            prepare(pairs(), tmp_path / "corpus")
        finally:
            os._exit(0)
    assert os.read(reader, 4) == b"here"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "corpus.preparing").exists() and not (tmp_path / "corpus").exists()
    with pytest.raises(ValueError, match="must be a prepared corpus"):
        PreparedCorpus(tmp_path / "corpus")
    with pytest.raises(ValueError, match="must be a prepared corpus"):
        PreparedCorpus(tmp_path / "corpus.preparing")
    corpus = prepare((([i + 1], [i + 1] * (i % 9)) for i in range(20_000)), tmp_path / "corpus")
    assert len(corpus) == 20_000 and not (tmp_path / "corpus.preparing").exists()
    PreparedCorpus(tmp_path / "corpus")


# -- damaged files


def test_a_file_that_is_cut_while_it_is_read_is_named(copy):
    corpus = PreparedCorpus(copy)
    os.truncate(copy / "ids.bin", 100)
    with pytest.raises(ValueError, match="ids.bin was truncated while it was read"):
        corpus[-1]


@pytest.mark.parametrize("name", FILES[:3])
@pytest.mark.parametrize("verify", [True, False])
def test_a_truncated_file_is_refused_by_name(copy, name, verify):
    os.truncate(copy / name, (copy / name).stat().st_size - 1)
    with pytest.raises(ValueError, match=f"{name} must have .* bytes"):
        PreparedCorpus(copy, verify=verify)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_or_a_missing_file_is_refused_by_name(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        PreparedCorpus(copy)
    os.remove(copy / name)
    with pytest.raises(ValueError, match=name):
        PreparedCorpus(copy)


def test_the_file_of_another_corpus_is_refused(copy, tmp_path):
    pairs = [(source, target[::-1]) for source, target in PAIRS]
    prepare(pairs, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "ids.bin", copy)
    with pytest.raises(ValueError, match="ids.bin is corrupt, or the file of another corpus"):
        PreparedCorpus(copy)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "format other"),
        ({"count": 5}, "damaged"),
    ],
)
def test_a_manifest_of_another_format_or_changed_is_refused(copy, change, message):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(ValueError, match=f"manifest.json.*{message}"):
        PreparedCorpus(copy)


@pytest.mark.parametrize("content", ["", "[]", "3", "\0", "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        PreparedCorpus(copy)


# -- kills


@pytest.mark.slow
def test_ten_kills_at_random_moments_lose_and_leave_nothing(tmp_path):
    """After each the same call gives the same bytes; what was left is no corpus, or all of it."""
    random = np.random.default_rng(7)

    def pairs():
        return (([i % 999 + 1] * (i % 23), [i % 777 + 1] * (i % 19)) for i in range(60_000))

    began = time.monotonic()
    prepare(pairs(), tmp_path / "whole")
    taken = time.monotonic() - began
    expected = [(tmp_path / "whole" / name).read_bytes() for name in FILES]
    in_the_middle = 0
    for number in range(10):
        directory = tmp_path / str(number)
        child = os.fork()
        if not child:
            try:
                prepare(pairs(), directory)
            finally:
                os._exit(0)
        time.sleep(random.uniform(0, taken))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if directory.exists():
            PreparedCorpus(directory)
            shutil.rmtree(directory)
        else:
            in_the_middle += 1
        prepare(pairs(), directory)
        assert [(directory / name).read_bytes() for name in FILES] == expected
        assert not (tmp_path / f"{number}.preparing").exists()
    assert in_the_middle >= 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": "4"}, "batch_size must be a whole number of at least 1. Received: '4'"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"batch_tokens": "8"}, "batch_tokens must be a whole number"),
        ({"seed": 1.5}, "seed.* must be a whole number of at least 0. Received: 1.5"),
        ({"place": 1.5}, "place must be a whole number"),
        ({"count": -1}, "count must be a whole number of at least 0. Received: -1"),
        ({"workers": "2"}, "workers must be a whole number"),
        ({"worker": 0.5, "workers": 2}, "worker must be a whole number"),
        ({"multiple": 1.5}, "multiple must be a whole number"),
    ],
)
def test_batches_of_what_is_no_number_are_refused(corpus, arguments, message):
    size = {} if "batch_tokens" in arguments else {"batch_size": 4}
    with pytest.raises(ValueError, match=message):
        corpus.batches(**{**size, **arguments})


def test_what_a_corpus_does_not_have_is_refused(corpus, tmp_path):
    for indices in ([613], [-1], [1.5], 3, None):
        with pytest.raises(ValueError, match="indices must be"):
            corpus.lengths(indices)
    with pytest.raises(ValueError, match="vocab_size must be above all ids .* Received: 9"):
        corpus.target_counts(9)
    with pytest.raises(ValueError, match="end must be whole numbers from 0 to 8. Received: 20"):
        corpus.target_counts(9, end=20)
    for path in (None, 3):
        with pytest.raises(ValueError, match="directory must be a path"):
            PreparedCorpus(path)
        with pytest.raises(ValueError, match="directory must be a path"):
            prepare(PAIRS, path)
    with pytest.raises(ValueError, match="pairs must be .* Received: 3"):
        prepare(3, tmp_path / "a")
    with pytest.raises(ValueError, match="progress must be a function"):
        prepare(PAIRS, tmp_path / "a", progress=3)
