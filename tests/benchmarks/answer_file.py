"""Lines per second of answering a file: the chatbot's infer beside CTranslate2, same weights.

    python tests/benchmarks/answer_file.py --torch-python ENV/bin/python [--lines N]

The interpreter has ctranslate2 (`pip install ctranslate2 numpy`). 6 + 6 layers of width 512, beam
search of width 5, the best answer of each line, from a file into a file; characters are tokens.
Lines have about 14 tokens, 3 to --steps. Random weights have no natural ends, so the end token
cannot win: every answer has --steps tokens, and nobody gains by dropping lines that are done, as
CTranslate2 does. Both sides sort the lines and have the same number of threads; CTranslate2 decodes
--inter batches at once, with the threads divided among them, in several sizes of its batches, and
the best of these counts. Rounds alternate; medians.
"""

import argparse
import itertools
import statistics
import sys

import numpy as np
import transformer_case as case
from alternate import Worker

WIDTH = 5


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--torch-python", required=True, help="has ctranslate2")
    options.add_argument("--vocabulary", type=int, default=8000)
    options.add_argument("--lines", type=int, default=200)
    options.add_argument("--steps", type=int, default=32, help="tokens of an answer, at most")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--batch-tokens", type=int, nargs="+", default=[16_384], help="of ours")
    options.add_argument("--peer-tokens", type=int, nargs="+", default=[512, 2048])
    options.add_argument(
        "--inter", type=int, nargs="+", default=[1, 2], help="batches at once, of CTranslate2"
    )
    options.add_argument("--types", nargs="+", default=["float32"], help="of CTranslate2")
    options = options.parse_args()
    random = np.random.default_rng(0)
    arrays = case.make_weights(options.vocabulary, random)
    arrays["lines"] = lines(options, random)
    settings = {**case.SIZES, "beam_width": WIDTH, "steps": options.steps, "dtype": "float32"}

    ours = Worker(sys.executable, "answer_file_ours.py", options.threads)
    peer = Worker(options.torch_python, "transformer_ctranslate2.py", options.threads)

    sides = {}
    for tokens in options.batch_tokens:
        sides[f"keras_attention, {tokens} tokens"] = ours, "answer", {"batch_tokens": tokens}
    for kind, inter, tokens in itertools.product(options.types, options.inter, options.peer_tokens):
        intra = options.threads // inter
        extra = {"inter_threads": inter, "intra_threads": intra, "max_batch_size": tokens}
        name = f"CTranslate2, {kind}, {inter} x {intra}, {tokens} tokens"
        sides[name] = peer, "translate", {"compute_type": kind, **extra}
    answers = {
        name: worker.build(name, task, {**settings, **extra}, arrays)["outcome"][0]
        for name, (worker, task, extra) in sides.items()
    }
    times = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, (worker, _, _) in sides.items():
            times[name].append(worker.ask(do="run", name=name, steps=1))
            print(f"{name}: {times[name][-1]}", file=sys.stderr, flush=True)
    table(arrays["lines"], answers, times, options)
    for worker in (ours, peer):
        worker.close()


def lines(options, random):
    """Lines whose lengths are spread like those of sentences; none is cut off."""
    letters = np.array(list(case.letters(options.vocabulary)))
    lengths = random.lognormal(np.log(14), 0.5, options.lines)
    lengths = np.clip(lengths, 3, options.steps).astype(int)
    return np.array(["".join(random.choice(letters, length)) for length in lengths])


def table(asked, answers, times, options):
    """Lines per second of each side, and last ours against the best of each kind of the peer."""
    first = next(iter(answers))
    spread = [
        "/".join(f"{n:.0f}" for n in np.percentile([*map(len, texts)], [0, 25, 50, 75, 100]))
        for texts in (asked, answers[first])
    ]
    print(
        f"\n{len(asked)} lines, V={options.vocabulary}, K={WIDTH}, {options.threads} threads; "
        f"tokens of sources {spread[0]}, of answers {spread[1]} (quartiles)\n\n"
        f"{'':44}{'same':>8}{'wall, s':>9}{'CPU, s':>9}{'lines/s':>9}{'per CPU s':>11}"
    )
    medians = {}
    for name in answers:
        wall, cpu = (
            statistics.median(each[kind] for each in times[name]) for kind in ("wall", "cpu")
        )
        same = np.mean([a == b for a, b in zip(answers[name], answers[first], strict=True)])
        medians[name] = wall
        print(
            f"{name:44}{same:8.1%}{wall:9.1f}{cpu:9.1f}{len(asked) / wall:9.2f}"
            f"{len(asked) / cpu:11.2f}"
        )
    ours = min((name for name in medians if name.startswith("keras")), key=medians.get)
    for kind in options.types:
        peers = [name for name in medians if name.startswith(f"CTranslate2, {kind}")]
        best = min(peers, key=medians.get)
        for clock in ("wall", "cpu"):
            pairs = zip(times[ours], times[best], strict=True)
            ratio = statistics.median(theirs[clock] / mine[clock] for mine, theirs in pairs)
            unit = {"wall": "lines/s", "cpu": "lines per CPU s"}[clock]
            print(f"\n{unit}: {ratio:.2f} times those of {best}", end="")
    print()


if __name__ == "__main__":
    main()
