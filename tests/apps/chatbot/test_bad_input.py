"""Invalid use ends with one line of error and a non-zero exit code, and loses no data."""

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import keras
import pytest

from tests.apps.chatbot.program import SMALL, Ran, run
from tests.disk import full_disk


def assert_refused(ran: Ran, *words: str):
    assert ran.code == 1
    assert ran.err.count("\n") == 1 and "Traceback" not in ran.err, ran.err
    for word in words:
        assert word in ran.err, ran.err


def files(folder: Path) -> dict:
    """Every file below a folder, and what it holds."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- data

DATA = {
    "empty": (b"", "holds none"),
    "blank": (b"\n \n", "holds none"),
    "binary": (bytes(range(256)) * 9, "expected UTF-8 text"),
    "latin": ("caf\xe9\tth\xe9\n".encode("latin-1"), "line 1"),
    "one_column": (b"good\tday\nhello\n", "line 2"),
    "one_pair": (b"hello\thi\n", "one distinct source"),
    "too_long": (b"a%s\tb\nb\tc\n" % (b"x" * 99), "--max_length"),
    "torn.gz": (b"\x1f\x8b\x08\x00\x00", "Is it complete"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_is_no_text_pairs(name, tmp_path):
    content, word = DATA[name]
    (tmp_path / name).write_bytes(content)
    ran = run("--mode=train", f"--data={tmp_path / name}", f"--model_dir={tmp_path}/m", *SMALL)
    assert_refused(ran, word)
    assert not (tmp_path / "m/config.json").exists()


def test_data_that_is_missing(tmp_path):
    for data in ("nowhere.tsv", "nowhere.en,nowhere.de", str(tmp_path)):
        ran = run("--mode=train", f"--data={data}", f"--model_dir={tmp_path}/m")
        assert_refused(ran, data.split(",")[0])
    assert not (tmp_path / "m").exists()


def test_held_out_data_without_data(tmp_path, pairs):
    ran = run("--mode=train", f"--dev_data={pairs['chat']}", f"--model_dir={tmp_path}/m")
    assert_refused(ran, "--dev_data needs --data")


def test_words_that_cannot_meet_every_length(tmp_path, pairs):
    (tmp_path / "english.tsv").write_text("good day\tgood night\nbad day\tbad night\n")
    ran = run(
        "--mode=train",
        "--task=couplet",
        "--tokenizer=word",
        f"--data={tmp_path}/english.tsv",
        f"--model_dir={tmp_path}/m",
    )
    assert_refused(ran, "--tokenizer=char")
    assert not (tmp_path / "m").exists()


def test_an_extra_that_is_not_installed(tmp_path, pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    ran = run(
        "--mode=train",
        "--tokenizer=sentencepiece",
        f"--data={pairs['chat']}",
        f"--model_dir={tmp_path}/m",
    )
    assert_refused(ran, "[subword]", "pip install sentencepiece")


# -- flags


@pytest.mark.parametrize(
    "flag",
    ["--beam_width=0", "--units=x", "--mode=fly", "--tokenizer=bytes", "--dropout=1", "--uints=9"],
)
def test_values_that_a_flag_cannot_have(flag):
    ran = run("--mode=infer", flag)
    assert ran.code == 1 and flag.split("=")[0].strip("-") in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("stray", [["--alsologtostderr", "False"], ["train"], ["--", "--units=9"]])
def test_stray_arguments(stray, tmp_path):
    assert_refused(run("--mode=train", f"--model_dir={tmp_path}", *stray), stray[-1])
    assert not list(tmp_path.iterdir())


# -- what is asked


@pytest.mark.full
def test_lines_that_can_have_no_reply(trained):
    directory, _ = trained("char")
    lines = ["Hello", "☃☃☃", "", "a" * 10_000, "Hello"]
    asked = "\n".join(lines).encode() + b"\n\xff\xfe\n"
    ran = run("--mode=infer", f"--model_dir={directory}", stdin=asked)
    replies = ran.out.split("\n")
    assert ran.code == 1 and len(replies) == 7
    assert [bool(reply) for reply in replies] == [True, False, False, True, True, False, False]
    assert replies[0] == replies[4]
    said = ran.err.splitlines()
    assert len(said) == 3
    assert "line 2: no token of it is known" in said[0]
    assert "line 4: only the first 30 of its 10000 tokens are read" in said[1]
    assert "line 6: expected UTF-8 text" in said[2]


@pytest.mark.full
def test_a_first_line_too_long_to_be_matched(trained):
    directory, _ = trained("word")
    ran = run("--mode=infer", f"--model_dir={directory}", stdin=("春" * 31 + "\n").encode())
    assert_refused(ran, "may have 30 characters", "Received: 31")
    assert ran.out == "\n"


@pytest.mark.full
def test_files_of_questions_that_are_not_there_or_would_be_overwritten(trained, tmp_path):
    directory, _ = trained("char")
    asked = tmp_path / "asked"
    infer = ("--mode=infer", f"--model_dir={directory}")
    assert_refused(run(*infer, f"--input={asked}", f"--output={tmp_path}/answered"), str(asked))
    assert not list(tmp_path.iterdir())
    asked.write_text("Hello\n")
    assert_refused(run(*infer, f"--input={asked}", f"--output={asked}"), "would overwrite")
    assert asked.read_text() == "Hello\n"


# -- model directories


@pytest.mark.parametrize("mode", ["eval", "infer", "export"])
def test_a_directory_without_a_model(mode, tmp_path):
    for directory in (tmp_path / "missing", tmp_path):
        ran = run(f"--mode={mode}", f"--model_dir={directory}", f"--export_dir={tmp_path}/e")
        assert_refused(ran, "--mode=train", str(directory))
    assert not list(tmp_path.iterdir())


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILED = {
    "half a model": (lambda folder: truncate(folder / "model.keras"), "model.keras"),
    "no model": (lambda folder: (folder / "model.keras").unlink(), "no epoch was finished"),
    "half the settings": (lambda folder: truncate(folder / "config.json"), "config.json"),
    "no settings": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "half a vocabulary": (lambda folder: truncate(folder / "characters.txt"), "characters.txt"),
    "no vocabulary": (lambda folder: (folder / "characters.txt").unlink(), "characters.txt"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    "no archive": (lambda folder: (folder / "model.keras").write_text("model"), "model.keras"),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_a_half_written_model_directory(fault, model_dir):
    spoil, word = SPOILED[fault]
    spoil(model_dir)
    before = files(model_dir)
    assert_refused(run("--mode=infer", f"--model_dir={model_dir}", stdin=b"Hello\n"), word)
    assert files(model_dir) == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_model_directory_of_another_version(name, model_dir):
    content = json.loads((model_dir / name).read_text())
    (model_dir / name).write_text(json.dumps({**content, "version": 99}))
    for mode in ("infer", "train"):
        assert_refused(run(f"--mode={mode}", f"--model_dir={model_dir}"), name, "version", "99")


def test_a_model_and_a_tokenizer_that_do_not_belong_together(model_dir, tmp_path):
    stranger = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    stranger.save(model_dir / "model.keras")
    ran = run("--mode=infer", f"--model_dir={model_dir}", stdin=b"Hello\n")
    assert_refused(ran, "model.keras", "Sequential")


@pytest.mark.full
def test_a_byte_changed_anywhere_in_a_model_is_noticed_or_harmless(model_dir, trained):
    """In the archive's own tables; the content of each file has a checksum."""
    path = model_dir / "model.keras"
    whole = path.read_bytes()
    for place in [*range(0, 60, 7), *range(len(whole) - 200, len(whole), 23)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        ran = run("--mode=infer", f"--model_dir={model_dir}")
        if ran.code:
            assert_refused(ran, "model.keras")


def test_a_directory_that_cannot_be_written(tmp_path, pairs):
    (tmp_path / "file").write_text("kept")
    for directory in (tmp_path / "file", tmp_path / "file/model", Path("/proc/model")):
        ran = run("--mode=train", f"--data={pairs['chat']}", f"--model_dir={directory}", *SMALL)
        assert_refused(ran, str(directory))
    assert (tmp_path / "file").read_text() == "kept"


# -- files that would run code


def test_code_in_a_model_is_never_executed(model_dir, tmp_path):
    marker = str(tmp_path / "ran")
    trap = keras.Sequential(
        [keras.Input((1,)), keras.layers.Lambda(lambda x: open(marker, "w") and x)]
    )
    trap.save(model_dir / "model.keras")
    os.remove(marker)
    ran = run("--mode=infer", f"--model_dir={model_dir}", stdin=b"Hello\n")
    assert_refused(ran, "model.keras", "Lambda")
    assert not os.path.exists(marker)


def test_a_module_named_in_a_model_is_never_imported(model_dir, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = {"module": "trap", "class_name": "Trap", "config": {}, "registered_name": None}
    with zipfile.ZipFile(model_dir / "model.keras") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(model_dir / "model.keras", "w") as archive:
        for name, content in {**contents, "config.json": json.dumps(config)}.items():
            archive.writestr(name, content)
    assert_refused(run("--mode=infer", f"--model_dir={model_dir}"), "model.keras")
    assert not (tmp_path / "ran").exists()


# -- a full disk


@pytest.mark.full
def test_training_on_a_full_disk_leaves_what_was_there(model_dir, how):
    goes_on = ("--mode=train", f"--model_dir={model_dir}", *how["char"], "--epochs=3")
    before = files(model_dir)
    with full_disk(300):
        assert_refused(run(*goes_on), "Could not save", "config.json", "Free some space")
    assert files(model_dir) == before
    with full_disk(4_000):
        assert_refused(run(*goes_on), "Could not save", "model.keras", "Free some space")
    kept = files(model_dir)
    for path in before.keys() - {model_dir / "config.json"}:  # which holds --epochs=3 by now
        assert kept.get(path) == before[path], path
    assert not [path for path in kept if "unfinished" in str(path) or path.suffix == ".new"]
    ran = run(*goes_on)
    assert ran.code == 0 and "Resuming after 10 steps" in ran.out


def test_exporting_on_a_full_disk_leaves_the_export_that_was_there(model_dir, tmp_path):
    directory = tmp_path / "served"
    directory.mkdir()
    (directory / "saved_model.pb").write_text("an earlier export")
    with full_disk(20_000):
        ran = run("--mode=export", f"--model_dir={model_dir}", f"--export_dir={directory}")
    assert_refused(ran, str(directory))
    assert os.listdir(directory) == ["saved_model.pb"]
    assert sorted(os.listdir(tmp_path)) == ["model", "served"]


@pytest.mark.full
def test_an_export_never_replaces_anything_but_an_export(model_dir, tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes").write_text("kept")
    for name in ("file", "folder", "model"):
        ran = run("--mode=export", f"--model_dir={model_dir}", f"--export_dir={tmp_path / name}")
        assert_refused(ran, str(tmp_path / name))
    assert (tmp_path / "file").read_text() == (tmp_path / "folder/notes").read_text() == "kept"
    shutil.rmtree(model_dir)
