"""Data above a size are prepared: the same examples as from lists, read from files."""

import json
import os
import random
import shutil
import time
import tracemalloc

import numpy as np
import pytest

from apps.chatbot import corpus, examples, prepared, progress, settings
from keras_attention.data import Limits, PreparedCorpus
from tests.apps.chatbot.program import run, shipped, start
from tests.apps.chatbot.test_bad_input import assert_refused
from tests.apps.chatbot.test_resume import assert_same, await_line, state
from tests.data.test_batch import listed
from tests.disk import full_disk

TINY = (
    *("--units=8", "--attention=none", "--batch_size=8", "--beam_width=1"),
    *("--max_length=12", "--dropout=0.2", "--prepare_above=0"),
)
LINES = [f"say {word}\t{word}!\n" for word in "a b c d e f g h i j k l m n o p q r s t".split()]
USUAL = {row.name: row.default for row in settings.TABLE if row.stored}
TALK = [f"{a}\t{b}\t{a}{b} {b}\n" for a in "abcdefgh" for b in ("no", "yes, " * 4, "so so")]


def both(folder, lines, dev=None, **changes):
    """The examples from lists and from files."""
    folder.mkdir()
    (folder / "data.tsv").write_text("".join(lines), "utf-8")
    wanted = {**USUAL, "data": str(folder / "data.tsv"), "max_length": 12, "batch_size": 8}
    wanted |= changes
    if dev:
        (folder / "dev.tsv").write_text("".join(dev), "utf-8")
        wanted["dev_data"] = str(folder / "dev.tsv")
    return [
        examples.examples_of(str(folder), wanted, None, large, resumes=False)
        for large in (False, True)
    ]


def rows(dataset):
    found = []
    for (source, target_in), target_out, weights in listed(dataset):
        for row in zip(source, target_in, target_out, weights):
            length = int(row[-1].sum())
            ids = row[0].tolist()
            found.append((ids[: ids.index(2)], *(part[:length].tolist() for part in row[1:])))
    return found


KINDS = {
    "chat": (shipped("chat_en.tsv", 60), {"max_length": 40}),
    "turns": (TALK, {"context_turns": 2}),
    "couplet": (shipped("couplets.tsv", 80), {"task": "couplet", "max_length": 7}),
    "dev_data": (LINES, {"dev": TALK[:9]}),
    "words": (LINES, {"tokenizer": "word", "seed": 5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_are_those_of_lists(kind, tmp_path, capsys):
    lines, changes = KINDS[kind]
    lines = [line.rstrip("\n") + "\n" for line in lines]
    small, large = both(tmp_path / "run", lines, **changes)
    told = capsys.readouterr().out.splitlines()
    assert told[: len(told) // 2] == told[len(told) // 2 :] and told
    assert large.tokenizer.fingerprint == small.tokenizer.fingerprint
    for name in ("record", "count", "too_long", "held_out", "longest", "per_epoch"):
        assert getattr(large, name) == getattr(small, name), name
    assert small.count > 8 and small.held_out
    assert list(map(tuple, large.shown)) == small.shown[: len(large.shown)] and large.shown
    np.testing.assert_array_equal(large.target_counts, small.target_counts)
    assert sorted(rows(large.epoch(1, 0))) == sorted(rows(small.epoch(1, 0)))
    assert rows(large.dev_set) == rows(small.dev_set)
    assert rows(large.epoch(2, 2)) == rows(large.epoch(2, 0).skip(2)) != []


def test_other_shares_are_too_long_for_couplets_of_words(tmp_path):
    lines = [f"{'天' * (i % 9 + 1)}\t{'地' * (i % 9 + 1)}\n" for i in range(40)]
    small, large = both(tmp_path / "run", lines, task="couplet", max_length=5)
    assert large.count == small.count and large.too_long == small.too_long > 0


def test_the_sample_is_spread_over_the_corpus_and_the_same_each_time():
    pairs = [(f"{i:06}", "x") for i in range(5000)]
    samples = [prepared.Sample(7000), prepared.Sample(7000)]
    samples[0].add(pairs)
    for begin in range(0, 5000, 77):
        samples[1].add(pairs[begin : begin + 77])
    assert samples[0].pairs == samples[1].pairs == sorted(samples[0].pairs)
    numbers = np.array([int(source) for source, _ in samples[0].pairs])
    assert 500 <= len(numbers) <= 1000 and np.diff(numbers).max() < 30
    assert 0.4 < np.mean(numbers % 2) < 0.6
    whole = prepared.Sample(7 * 5000)
    whole.add(pairs)
    assert whole.pairs == pairs


def test_the_vocabulary_of_a_large_corpus_is_that_of_a_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepared, "SAMPLE_BYTES", 60)
    small, large = both(tmp_path / "run", LINES)
    assert "  (vocabulary from a sample of " in capsys.readouterr().out
    assert 4 < large.tokenizer.vocab_size < small.tokenizer.vocab_size
    assert (large.count, large.held_out) == (small.count, small.held_out)


@pytest.mark.full
def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "SAMPLE_BYTES", 50_000)
    most = []
    for count in (500, 8000, 32_000):  # the first one is not measured
        folder = tmp_path / str(count)
        folder.mkdir()
        with open(folder / "pairs.tsv", "w") as file:
            file.writelines(f"{i} {'x' * 40}\t{'y' * 40} {i}\n" for i in range(count))
        tracemalloc.start()
        wanted = {**USUAL, "data": str(folder / "pairs.tsv")}
        examples.examples_of(str(folder), wanted, None, True, resumes=False)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[2] < 1.25 * most[1], most


def test_what_is_large_is_decided_by_the_files(tmp_path):
    (tmp_path / "a").write_text("a\tb\n"), (tmp_path / "b").write_text("c\td\n")
    one = {"data": str(tmp_path / "a"), "dev_data": None}
    two = {**one, "dev_data": str(tmp_path / "b")}
    assert [prepared.is_large(one, above) for above in (0, 3, 4)] == [True, True, False]
    assert prepared.is_large(two, 7) and not prepared.is_large(two, 8)
    assert not prepared.is_large({"data": None, "dev_data": None}, 0)
    assert not prepared.is_large({**one, "data": str(tmp_path / "none")}, 0)


# -- what is prepared already


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder with pairs.tsv that was prepared, with what a model directory says of it."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "pairs.tsv").write_text("".join(LINES))
    found = read(folder, resumes=False)
    found.tokenizer.save(folder)
    corpus.save_record(folder, found.record)
    return folder


@pytest.fixture
def folder(once, tmp_path):
    return shutil.copytree(once, tmp_path / "copy")


def read(folder, data="pairs.tsv", resumes=True):
    wanted = {**USUAL, "data": str(folder / data), "max_length": 12, "batch_size": 8}
    return examples.examples_of(str(folder), wanted, None, True, resumes)


def contents(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_data_are_prepared_once(folder, monkeypatch):
    before = contents(folder)
    monkeypatch.setattr(corpus, "Texts", None)
    monkeypatch.setattr(prepared, "prepare", None)
    monkeypatch.setattr(prepared.store, "make_tokenizer", None)
    assert read(folder).count == read(folder, resumes=False).count == 19
    assert contents(folder) == before


def test_what_a_killed_run_left_is_made_again_as_it_was(folder):
    before = contents(folder)
    os.remove(folder / "prepared/about.json")
    (folder / "prepared/train/ids.bin").write_bytes(b"half")
    (folder / "prepared/dev.preparing").mkdir()
    read(folder)
    assert contents(folder) == before
    shutil.rmtree(folder / "prepared")
    read(folder)
    assert contents(folder) == before


def test_the_same_pairs_in_another_form_are_not_prepared_again(folder, monkeypatch, capsys):
    (folder / "moved.tsv").write_bytes("".join(LINES).encode("utf-16"))
    monkeypatch.setattr(prepared, "prepare", None)
    for _ in range(2):
        read(folder, "moved.tsv")
        assert capsys.readouterr().out.startswith(f"{folder}/moved.tsv: 20 pairs from 20 lines")
        monkeypatch.setattr(prepared, "Texts", None)  # the second time it is known


def test_other_pairs_are_refused_and_cost_nothing(folder):
    (folder / "other.tsv").write_text("".join(LINES[::-1]))
    before = contents(folder)
    with pytest.raises(ValueError, match="20 pairs of .* Restore .* new training"):
        read(folder, "other.tsv")
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["train/ids.bin", "dev/offsets.bin", "about.json"])
def test_damaged_files_are_refused_by_name(folder, name):
    path = folder / "prepared" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}.* remove {folder}/prepared"):
        read(folder)


def test_a_corpus_of_another_tokenizer_or_of_other_pairs_is_refused(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/pairs.tsv").write_text("".join(line.upper() for line in LINES))
    read(tmp_path / "other", resumes=False)
    mine, theirs = folder / "prepared", tmp_path / "other/prepared"
    shutil.rmtree(mine / "train")
    shutil.copytree(theirs / "train", mine / "train")
    with pytest.raises(ValueError, match="train/manifest.json is damaged, or of another corpus"):
        read(folder)
    about = json.loads((mine / "about.json").read_text())
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    others = json.loads((mine / "about.json").read_text())
    others |= {"record": about["record"], "key": about["key"]}
    (mine / "about.json").write_text(json.dumps(others))
    with pytest.raises(ValueError, match="must have been prepared with this tokenizer.* remove"):
        read(folder)


# -- the program


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with pairs.tsv and a model that learned from it for two steps, prepared."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "pairs.tsv").write_text("".join(LINES))
    data = f"--data={folder}/pairs.tsv"
    return folder, run("--mode=train", data, f"--model_dir={folder}/model", "--steps=2", *TINY)


@pytest.mark.full
def test_the_program_trains_from_prepared_files(begun):
    folder, ran = begun
    assert ran.code == 0 and ran.err == "", ran.err
    assert ran.out.startswith(f"{folder}/pairs.tsv: 20 pairs from 20 lines (tab-separated)\n")
    assert "19 training pairs (0 too long), 1 held out" in ran.out and "\n    -> " in ran.out
    assert len(PreparedCorpus(folder / "model/prepared/train")) == 19
    assert json.loads((folder / "model/data.json").read_text())["prepared"] is True


@pytest.mark.full  # two more trainings
def test_a_run_in_two_parts_is_one(begun, tmp_path, monkeypatch):
    folder = begun[0]
    data, flags = f"--data={folder}/pairs.tsv", TINY[:-1]  # the directory knows that it is prepared
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "Texts", None)  # the text is not read again
        command = ("--mode=train", data, f"--model_dir={folder}/model", "--steps=5", *flags)
        ran = run(*command)
    assert ran.code == 0 and "Resuming after 2 steps" in ran.out, ran.err
    whole = run("--mode=train", data, f"--model_dir={tmp_path}/one", "--steps=5", *TINY)
    assert whole.code == 0, whole.err
    found, expected = state(folder / "model"), state(tmp_path / "one")
    for parts in (found, expected):
        del parts["progress/.ATTRIBUTES/VARIABLE_VALUE"]  # when the model was kept may differ
    assert_same(found, expected)
    ran = run("--mode=eval", f"--model_dir={folder}/model")
    assert ran.code == 0 and ran.err == "", ran.err
    assert json.loads(ran.out)["pairs"] == 1


@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "holds none"),
        (b"caf\xe9\tth\xe9\n", "line 1: expected UTF-8"),
        (b"good\tday\nhello\n", "line 2"),
        (b"hello\thi\n", "one distinct source"),
        (b"a%s\tb\n%s\tc\n" % (b"x" * 99, b"y" * 99), "Raise max_length"),
    ],
)
def test_data_that_cannot_be_prepared_leave_nothing(content, word, tmp_path):
    (tmp_path / "data.tsv").write_bytes(content)
    ran = run("--mode=train", f"--data={tmp_path}/data.tsv", f"--model_dir={tmp_path}/m", *TINY)
    assert_refused(ran, word)
    assert os.listdir(tmp_path) == ["data.tsv"]


def test_limits_and_a_full_disk_are_one_message(tmp_path):
    (tmp_path / "data.tsv").write_text("".join(f"{i}\t{i}\n" for i in range(3000)))
    command = ("--mode=train", f"--data={tmp_path}/data.tsv", f"--model_dir={tmp_path}/m", *TINY)
    for limit in ("max_line_bytes=3", "max_data_bytes=50", "max_data_lines=5"):
        assert_refused(run(*command, f"--{limit}"), limit, "raise")
    with full_disk(20_000):
        assert_refused(run(*command), "m/prepared/train could not be written", "Free some space")
    assert os.listdir(tmp_path) == ["data.tsv"]


def test_data_that_change_while_they_are_read_are_refused(tmp_path, monkeypatch):
    for changed in ("data", "dev_data"):
        for name in ("data", "dev_data"):
            (tmp_path / name).write_text("".join(LINES))
        wanted = {**USUAL, **{name: str(tmp_path / name) for name in ("data", "dev_data")}}
        looked = prepared.look(str(tmp_path), wanted, Limits())
        tokenizer = prepared.tokenizer_of(str(tmp_path), looked, wanted)
        (tmp_path / changed).write_text("".join(LINES).replace("say a", "say A"))
        with pytest.raises(ValueError, match=f"{tmp_path}/{changed} was changed while"):
            prepared.encode(str(tmp_path), tokenizer, looked, wanted)
        assert sorted(os.listdir(tmp_path)) == ["data", "dev_data"]


def test_the_held_out_pairs_are_read_as_a_stream(tmp_path):
    (tmp_path / "data.tsv").write_text("".join(LINES))
    (tmp_path / "dev.tsv").write_text("".join(TALK))
    wanted = {**USUAL, "data": str(tmp_path / "data.tsv")}
    for changes in ({}, {"seed": 3}, {"dev_data": str(tmp_path / "dev.tsv")}):
        whole = corpus.load({**wanted, **changes})
        part = corpus.held_out({**wanted, **changes})
        assert (part.test, part.record) == (whole.test, whole.record) and part.test
        assert part.train == []


def test_a_bar_is_told_from_time_to_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "TELL_EVERY", 0.0)
    monkeypatch.setattr(corpus, "CHUNK", 5)
    both(tmp_path / "run", LINES)
    out = capsys.readouterr().out
    assert "  reading: 10 pairs, " in out
    assert "  preparing [==========>         ] 50 %, 10 of 20 pairs, " in out
    assert "\r" not in out


@pytest.mark.full  # processes of their own
def test_several_processes_write_the_same_files(tmp_path, monkeypatch):
    random.seed(3)
    lines = [f"{random.random()}\t{random.random()}\n" for _ in range(9000)]
    contents = []
    for workers in (1, 2):
        monkeypatch.setattr(prepared, "PER_WORKER", 10**6 if workers == 1 else 100)
        monkeypatch.setattr(prepared, "WORKERS", 2)
        both(tmp_path / str(workers), lines, max_length=30)
        made = tmp_path / str(workers) / "prepared"
        contents.append({f.name: f.read_bytes() for f in (made / "train").iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.slow
def test_ten_kills_while_the_program_prepares_lose_and_leave_nothing(tmp_path):
    """At random moments, with two processes that encode, which end with the killed one."""
    draw = random.Random(0)
    with open(tmp_path / "data.tsv", "w") as file:
        for i in range(90_000):
            text = f"{i} " + "".join(draw.choices("abcdefghij ", k=180))
            file.write(f"{text}\t{text[::-1]}\n")
    (tmp_path / "dev.tsv").write_text("".join(LINES))
    assert os.path.getsize(tmp_path / "data.tsv") > 2 * prepared.PER_WORKER
    command = (
        *("--mode=train", f"--data={tmp_path}/data.tsv", f"--dev_data={tmp_path}/dev.tsv"),
        *("--units=8", "--attention=none", "--max_length=200", "--steps=1", "--beam_width=1"),
        "--prepare_above=0",
    )

    def begin(name):
        process = start(
            *command, f"--model_dir={tmp_path}/{name}", cwd=tmp_path, start_new_session=True
        )
        await_line(process, f"{tmp_path}/data.tsv: 90,000 pairs")
        return process, time.monotonic()

    def end(process):
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0 and err == b"", err.decode()
        return out.decode()

    process, began = begin("whole")
    while b"training pairs" not in process.stdout.readline():
        pass
    taken = time.monotonic() - began
    end(process)
    for _ in range(10):
        process, _ = begin("killed")
        time.sleep(draw.uniform(0, 0.9 * taken))
        assert not (tmp_path / "killed/config.json").exists()
        process.kill()
        process.communicate(timeout=60)
        with pytest.raises(ProcessLookupError):
            for _ in range(200):  # the processes that encode have seen it within 20 s
                os.killpg(process.pid, 0)
                time.sleep(0.1)
    end(begin("killed")[0])
    whole, killed = contents(tmp_path / "whole/prepared"), contents(tmp_path / "killed/prepared")
    assert list(whole.values()) == list(killed.values()) and len(whole) == 11
    assert_same(state(tmp_path / "killed"), state(tmp_path / "whole"))
