"""Perplexity on real text, with attention, without, and of a unigram model.

    python tests/benchmarks/real_text.py --corpus=cornell --data=DIRECTORY
    python tests/benchmarks/real_text.py --corpus=couplet --data=DIRECTORY

DIRECTORY holds `cornell_movie_30k/{train,dev}.tsv.gz`, or `couplet/*.tsv.gz`. Every run is the
chatbot program itself, so a run that was stopped is resumed. The figures come last.
"""

import argparse
import collections
import gzip
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTINGS = {
    "cornell": "--tokenizer=word --vocab_size=4000 --units=128 --epochs=3 --max_length=25 "
    "--learning_rate=0.002 --dropout=0.2",
    "couplet": "--task=couplet --units=192 --epochs=1 --max_length=32 --batch_size=256 "
    "--learning_rate=0.003 --dropout=0.1",
}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--corpus", choices=list(SETTINGS), required=True)
    options.add_argument("--data", type=pathlib.Path, required=True)
    options.add_argument("--work", type=pathlib.Path, default=None, help="kept between runs")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--attention", nargs="+", default=["bahdanau", "none"])
    options = options.parse_args()
    work = options.work or pathlib.Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    if options.corpus == "cornell":
        folder = options.data / "cornell_movie_30k"
        train, dev = folder / "train.tsv.gz", folder / "dev.tsv.gz"
    else:
        train, dev = couplets(options.data / "couplet", work)
    results = collections.defaultdict(list)
    for seed in options.seeds:
        for attention in options.attention:
            model = work / f"{options.corpus}-{attention}-{seed}"
            settings = [
                *SETTINGS[options.corpus].split(),
                f"--attention={attention}",
                f"--seed={seed}",
            ]
            program("train", model, f"--data={train}", f"--dev_data={dev}", *settings)
            report = json.loads(program("eval", model).splitlines()[-1])
            results[attention].append(report)
            print(attention, seed, json.dumps(report), flush=True)
    baseline = unigram(model, train, dev)
    print(f"unigram perplexity {baseline:.2f}")
    for attention, reports in results.items():
        values = [report["perplexity"] for report in reports]
        mean = sum(values) / len(values)
        print(
            f"{attention} perplexity {mean:.2f} (mean of {len(values)}: "
            f"{', '.join(f'{value:.2f}' for value in values)}), {1 - mean / baseline:.1%} below"
        )


def program(mode, model, *arguments):
    command = [sys.executable, "-m", "apps.chatbot", f"--mode={mode}", f"--model_dir={model}"]
    process = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    sys.stderr.write(
        "".join(f"{line}\n" for line in process.stdout.splitlines() if "epoch" in line)
    )
    return process.stdout


def couplets(folder, work):
    """All couplets, split by first line: a first line has its answers on one side only."""
    sys.path.insert(0, str(ROOT))
    from keras_attention.data import split_by_source

    pairs = []
    for name in ("collected", "regulated_verse_tang", "regulated_verse_song"):
        with gzip.open(folder / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
            pairs += [tuple(line.rstrip("\n").split("\t")[:2]) for line in file]
    pairs = list(dict.fromkeys(pairs))
    train, dev = split_by_source(pairs, 0.004)
    for name, part in (("train", train), ("dev", dev)):
        text = "".join(f"{first}\t{second}\n" for first, second in part)
        (work / f"{name}.tsv").write_text(text, encoding="utf-8")
    print(f"{len(train)} couplets to learn from, {len(dev)} held out")
    return work / "train.tsv", work / "dev.tsv"


def unigram(model, train, dev):
    """exp of the mean -log p of the dev tokens under the training tokens' counts plus one."""
    sys.path.insert(0, str(ROOT))
    from apps.chatbot.train import encode
    from keras_attention import text
    from keras_attention.data import read_pairs

    tokenizer = text.load(str(model))
    limit = json.loads((model / "config.json").read_text())["max_length"]
    counts, asked = (
        collections.Counter(
            int(token)
            for target in encode(tokenizer, read_pairs(path), limit)[1]
            for token in [*target, text.END]
        )
        for path in (train, dev)
    )
    total = sum(counts.values()) + tokenizer.vocab_size - 2  # padding and start are never asked
    nats = -sum(times * math.log((counts[token] + 1) / total) for token, times in asked.items())
    return math.exp(nats / sum(asked.values()))


if __name__ == "__main__":
    main()
