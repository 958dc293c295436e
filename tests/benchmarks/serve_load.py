"""Many clients at once: is every reply the line's own, and how long does it take?

    python tests/benchmarks/serve_load.py [--export_dir=EXPORT] [--clients=32] [--seconds=60]

Serves an export of the chatbot (without --export_dir: of a model that is trained for some steps
first) on loopback, with batching and without. Every client asks lines in an order of its own, one
after the other, and compares each reply with the one that the line got alone. The figures come
last; the exit code is 1 if there was an error, or a lost or a crossed reply.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from keras_attention.export.client import Client

MODES = {"batches of up to 32": 32, "each alone": 1}
TIE = 1e-5  # hypotheses whose scores differ by less may change places in another batch


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--export_dir", help="default: of a model that is trained now")
    options.add_argument("--clients", type=int, default=32)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--lines", type=int, default=200, help="different ones")
    options.add_argument("--steps", type=int, default=300, help="of the training")
    options = options.parse_args()
    data = (ROOT / "apps/chatbot/data/chat_en.tsv").read_text("utf-8").splitlines()
    lines = list(dict.fromkeys(line.split("\t")[0] for line in data))[: options.lines]
    with tempfile.TemporaryDirectory() as folder:
        directory = options.export_dir or export(folder, f"{folder}/model", options.steps)
        with serving(directory, MODES["each alone"]) as client:
            alone = {line: client.predict({"text": [line]}) for line in lines}
        results = {}
        for name, size in MODES.items():
            with serving(directory, size) as client:
                results[name] = load(client, alone, options.clients, options.seconds)
    print(f"{options.clients} clients for {options.seconds:g} s, {len(lines)} different lines")
    for name, (count, latencies, seconds) in results.items():
        p50, p99 = np.percentile(latencies, [50, 99]) * 1000
        print(
            f"{name}: {count['right']} replies, {count['error']} errors, {count['lost']} lost, "
            f"{count['crossed']} crossed; p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
            f"{count['right'] / seconds:.1f} replies/s"
        )
    wrong = [count[kind] for count, *_ in results.values() for kind in ("error", "lost", "crossed")]
    sys.exit(1 if any(wrong) else 0)


def program(*arguments, **kwargs):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "apps.chatbot", *arguments]
    return subprocess.Popen(command, env=environment, text=True, **kwargs)


def export(folder, model_dir, steps, *how):
    """Train a model, unless it is there, and export it -> the directory of the export."""
    model, made = f"--model_dir={model_dir}", f"{folder}/export"
    commands = [("--mode=export", model, f"--export_dir={made}")]
    if not (pathlib.Path(model_dir) / "config.json").exists():
        commands.insert(0, ("--mode=train", model, f"--steps={steps}", *how))
    for command in commands:
        if program(*command, stdout=sys.stderr).wait():
            sys.exit(f"{command[0]} failed")
    return made


@contextlib.contextmanager
def serving(directory, max_batch_size):
    """-> a client of a server that is stopped, and must end well, afterwards."""
    arguments = ("--mode=serve", f"--export_dir={directory}", "--port=0")
    server = program(*arguments, f"--max_batch_size={max_batch_size}", stdout=subprocess.PIPE)
    try:
        says = server.stdout.readline().split()
        yield Client(says[says.index("at") + 1].split("/v1/")[0], "chatbot", timeout=120)
        server.send_signal(signal.SIGTERM)
        if server.wait(120):
            sys.exit(f"the server ended with {server.returncode}")
    finally:
        server.kill()
        server.wait()


def load(client, alone, clients, seconds):
    """-> how many replies of each kind, seconds each took, and seconds in all."""
    begun = time.monotonic()

    def ask(seed):
        draw, count, latencies = random.Random(seed), collections.Counter(), []
        while time.monotonic() < begun + seconds:
            line = draw.choice(list(alone))
            asked = time.monotonic()
            try:
                answer = client.predict({"text": [line]})
            except Exception as error:
                count["lost" if isinstance(error, OSError) else "error"] += 1
                print(f"{line!r}: {error!r}", file=sys.stderr)
                continue
            latencies.append(time.monotonic() - asked)
            count["right" if is_same(answer, alone[line]) else "crossed"] += 1
        return count, latencies

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(ask, range(clients)))
    seconds = time.monotonic() - begun
    total = sum((count for count, _ in results), collections.Counter())
    return total, np.concatenate([latencies for _, latencies in results]), seconds


def is_same(answer, alone):
    """The same replies, scores, tokens and source; hypotheses that tie in any order."""
    (replies,), (expected,) = answer["replies"], alone["replies"]
    (scores,), (wanted) = np.array(answer["scores"]), np.array(alone["scores"])[0]
    if answer["source_tokens"] != alone["source_tokens"] or not np.allclose(
        scores, wanted, atol=TIE
    ):
        return False
    if answer["replies"] == alone["replies"]:
        return answer["tokens"] == alone["tokens"] and answer["lengths"] == alone["lengths"]
    ties = np.flatnonzero(np.diff(wanted) > -TIE)
    return sorted(replies) == sorted(expected) and len(ties) > 0


if __name__ == "__main__":
    main()
