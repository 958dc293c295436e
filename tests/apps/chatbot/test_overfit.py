import json

import pytest

from tests.apps.chatbot.program import run, shipped


@pytest.mark.slow
def test_two_hundred_shipped_pairs_are_learned_by_heart(tmp_path):
    """To at least 0.99 of the tokens; 1,500 steps are allowed, about 270 are needed."""
    data = tmp_path / "pairs.tsv"
    data.write_text("\n".join(shipped("chat_en.tsv", 100) + shipped("chat_zh.tsv", 100)), "utf-8")
    ran = run(
        "--mode=train",
        f"--data={data}",
        f"--dev_data={data}",
        f"--model_dir={tmp_path}/model",
        "--steps=400",
        "--batch_size=25",
        "--learning_rate=5e-3",
        "--dropout=0",
        "--patience=0",
    )
    assert ran.code == 0, ran.err
    report = json.loads(run("--mode=eval", f"--model_dir={tmp_path}/model").out)
    assert report["pairs"] == 200
    assert report["token_accuracy"] >= 0.99
    assert report["exact_match"] >= 0.9
