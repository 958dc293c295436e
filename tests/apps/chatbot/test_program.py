"""Train, evaluate, answer: the program on small data."""

import json
import re
import zipfile

import pytest

from tests.apps.chatbot.program import SMALL, run


def test_training_prints_loss_and_perplexity_and_ends_with_sample_replies(trained, kind):
    _, ran = trained(kind)
    epochs = re.findall(
        r"epoch (\d), step (\d+) of at most (\d+): loss [\d.]+, perplexity [\d.]+; "
        r"dev loss [\d.]+, perplexity [\d.]+",
        ran.out,
    )
    assert [epoch for epoch, _, _ in epochs] == ["1", "2"]
    assert epochs[-1][1] == epochs[-1][2]
    assert re.search(r"\n  .+\n    -> ", ran.out.split("epoch 2,")[1])
    assert ran.err == ""


def test_the_model_directory_holds_all_that_is_needed_and_nothing_unfinished(trained, kind):
    directory, _ = trained(kind)
    names = {path.name for path in directory.iterdir()}
    assert {"config.json", "tokenizer.json", "model.keras", "checkpoints", "logs"} < names
    assert not [path for path in directory.rglob("*") if "unfinished" in path.name]
    assert list((directory / "logs/train").iterdir()) and list(
        (directory / "logs/validation").iterdir()
    )


def test_eval_prints_one_json_object_and_needs_no_flag_repeated(trained, kind):
    pytest.importorskip("sacrebleu")
    ran = run("--mode=eval", f"--model_dir={trained(kind)[0]}")
    assert ran.code == 0 and ran.err == ""
    report = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert report["perplexity"] == pytest.approx(2.718281828 ** report["loss"], rel=1e-4)
    shares = ["token_accuracy", "exact_match", "distinct_1", "distinct_2"]
    assert all(0 <= report[name] <= 1 for name in shares)
    assert all(0 <= report[name] <= 100 for name in ("bleu", "chrf"))
    assert report.get("right_length") == (1.0 if kind == "word" else None)


@pytest.mark.full
def test_eval_judges_other_pairs_when_they_are_named(trained, tmp_path):
    directory, _ = trained("char")
    (tmp_path / "other.tsv").write_text("Hello\tHi\nGood day\tGood day\nHow?\t\n")
    ran = run("--mode=eval", f"--model_dir={directory}", f"--data={tmp_path}/other.tsv")
    assert json.loads(ran.out)["pairs"] == 2
    assert "1 skipped: no target (first: line 3)" in ran.err


def test_infer_answers_line_for_line(trained, kind):
    lines = {"char": "Hello\nGood", "word": "春\n山水", "sentencepiece": "Hello\n🙂"}[kind]
    ran = run("--mode=infer", f"--model_dir={trained(kind)[0]}", stdin=lines.encode())
    assert ran.code == 0 and ran.err == ""
    assert ran.out.endswith("\n") and ran.out.count("\n") == 2


@pytest.mark.full
def test_answers_go_from_file_to_file(trained, tmp_path):
    directory, _ = trained("char")
    (tmp_path / "asked").write_bytes(b"Hello\r\n\r\nGood day")
    ran = run(
        "--mode=infer",
        f"--model_dir={directory}",
        f"--input={tmp_path}/asked",
        f"--output={tmp_path}/answered",
    )
    answers = (tmp_path / "answered").read_text("utf-8").split("\n")
    assert (ran.code, ran.out) == (0, "")
    assert answers[1] == "" and len(answers) == 4 and answers[3] == ""
    asked = run("--mode=infer", f"--model_dir={directory}", stdin=b"Hello\nGood day\n")
    assert asked.out.split("\n") == [answers[0], answers[2], ""]


def test_the_search_may_be_set_again_at_every_use(trained):
    directory, _ = trained("char")
    ran = run(
        "--mode=infer",
        f"--model_dir={directory}",
        "--beam_width=1",
        "--length_penalty=0",
        stdin=b"Hello\n",
    )
    assert ran.code == 0 and ran.out.count("\n") == 1


@pytest.mark.full
def test_the_shipped_dialogues_are_learned_from_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run("--mode=train", "--steps=1", "--units=8", "--attention=none", "--beam_width=1")
    assert ran.code == 0 and ran.err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.full), "mixed_float16"]
)
@pytest.mark.full
def test_half_precision_trains_and_answers(policy, pairs, tmp_path):
    ran = run(
        "--mode=train",
        f"--data={pairs['chat']}",
        f"--model_dir={tmp_path}",
        f"--dtype_policy={policy}",
        *SMALL,
    )
    assert ran.code == 0 and ran.err == ""
    losses = [float(loss) for loss in re.findall(r" loss ([\d.]+), perplexity", ran.out)]
    assert losses[2] < losses[0]
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert policy.encode() in archive.read("config.json")
    answered = run("--mode=infer", f"--model_dir={tmp_path}", stdin=b"Hello\n")
    assert answered.code == 0 and answered.out.count("\n") == 1


@pytest.mark.full
def test_training_stops_early_and_the_best_epoch_is_the_one_used(pairs, tmp_path):
    ran = run(
        "--mode=train",
        f"--data={pairs['chat']}",
        f"--model_dir={tmp_path}",
        *SMALL,
        "--epochs=30",
        "--learning_rate=0.3",
        "--patience=2",
        "--attention=none",
    )
    assert ran.code == 0
    losses = [float(loss) for loss in re.findall(r"dev loss ([\d.]+)", ran.out)]
    assert "Stopped early" in ran.out
    assert len(losses) < 30 and losses.index(min(losses)) == len(losses) - 3
    report = json.loads(run("--mode=eval", f"--model_dir={tmp_path}").out)
    assert report["loss"] == pytest.approx(min(losses), abs=1e-3)
