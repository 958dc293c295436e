"""CPU seconds of the README's chat training by this tree beside an earlier one, and its quality.

    git worktree add --detach /tmp/before COMMIT
    python tests/benchmarks/chat_training.py --before /tmp/before [--rounds 3] [--quick]

Every training is the program itself, `python -m apps.chatbot --mode=train`, from the source of
either tree in turn, in a process of its own with all cores, followed by its `--mode=eval` on the
held-out pairs. CPU seconds are of the whole process of training: imports, reading, tracing, epochs,
the dev set. Each round has its own seed, the same for both trees. The figures come last.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from alternate import Figure, print_figures, processor

NOW = pathlib.Path(__file__).resolve().parents[2]
QUALITY = ["exact_match", "perplexity", "token_accuracy"]
SLACK = 0.02  # of exact match, which one pair of the held-out ones may change


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path, required=True, help="a checked out tree")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one epoch, so no quality")
    parser.add_argument("settings", nargs="*", help="after --: further flags of both trainings")
    options = parser.parse_args()
    settings = [*options.settings, *(["--epochs=1"] if options.quick else [])]
    trees = {"before": options.before.resolve(), "now": NOW}
    print(f"python -m apps.chatbot --mode=train {' '.join(settings)}\n{processor()}\n", flush=True)
    runs = {name: [] for name in trees}
    for seed in range(options.rounds):
        for name, tree in trees.items():
            runs[name].append(train(tree, [f"--seed={seed}", *settings]))
            print(f"seed {seed}, {name:8}{told(runs[name][-1])}", flush=True)
    pairs = list(zip(runs["before"], runs["now"]))
    less = statistics.median(b["CPU s"] / n["CPU s"] for b, n in pairs)
    figures = [Figure("CPU s, before / now", less, ">=", 1.5)]
    if not options.quick:
        exact = statistics.median(n["exact_match"] - b["exact_match"] for b, n in pairs)
        figures.append(Figure("exact match, now - before", exact, ">=", -SLACK))
    print_figures(figures)


def train(tree, settings) -> dict:
    """Train and evaluate in a new directory: CPU and wall seconds, and the quality."""
    with tempfile.TemporaryDirectory() as model:
        begin, cpu = time.perf_counter(), children()
        program(tree, "train", model, settings)
        cost = {"CPU s": children() - cpu, "wall s": time.perf_counter() - begin}
        report = json.loads(program(tree, "eval", model, []).splitlines()[-1])
    return {**cost, **{name: report[name] for name in QUALITY if name in report}}


def program(tree, mode, model, settings) -> str:
    """What the program prints."""
    command = [sys.executable, "-m", "apps.chatbot", f"--mode={mode}", f"--model_dir={model}"]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [*command, *settings],
        cwd=tree,
        capture_output=True,
        text=True,
        env={**os.environ, **quiet},
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def children() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(run) -> str:
    """
    >>> told({"CPU s": 3.0})
    '    CPU s 3.000'
    """
    return "".join(f"    {name} {value:.3f}" for name, value in run.items())


if __name__ == "__main__":
    main()
